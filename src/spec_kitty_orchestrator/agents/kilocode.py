"""Kilo Code: `kilocode run`, a fork of opencode with the same events.

A run that was cut short by a refused permission ends in an error that is one plain string.
"""

import json
from collections.abc import Iterable

from spec_kitty_orchestrator.agents import opencode_events
from spec_kitty_orchestrator.agents.spec import (
    BOTH_ROLES,
    AgentCommand,
    AgentSettings,
    Assignment,
    Login,
    Permissions,
)
from spec_kitty_orchestrator.core.model import AgentReport, Role

_IMPLEMENT_RULES = {"external_directory": "deny"}
_REVIEW_RULES = {
    "edit": "deny",
    "bash": "deny",
    # Other ways to a shell: a process that is left running, an agent of its own, commands in a skill's text.
    "background_process": "deny",
    "task": "deny",
    "skill": "deny",
    "external_directory": "deny",
    "webfetch": "deny",
    "websearch": "deny",
}
"""No shell for a reviewer: a rule that allows `git log*` allows `git log > file` anywhere on the disk too."""

_REVIEW_ENV = {"KILO_DISABLE_PROJECT_CONFIG": "1"}
"""Plugins and agents below the worktree's `.kilo/` are the implementer's, and would run unasked."""

_DEFAULTS = {
    # Its log tells what its events leave out.
    "KILO_PRINT_LOGS": "1",
    "KILO_LOG_LEVEL": "ERROR",
    # Tries of a failing request, which it makes in silence: three take some 20 seconds.
    "KILO_SESSION_RETRY_LIMIT": "3",
    # Where its analytics cannot be reached, the traces of that hide the last words of its log.
    "KILO_TELEMETRY_LEVEL": "off",
}

_USAGE = "kilo run [message..]"
"""How it answers wrong arguments, on stderr, below a banner."""


class KiloCode:
    """The Kilo Code CLI, with Kilo's own models or whatever provider the user configured for it."""

    name = "kilocode"
    family = "kilocode"
    executable = "kilocode"
    environment: tuple[str, ...] = (
        "KILO_*",
        # Whichever provider it is configured for, it finds that one's key in the environment.
        *("ANTHROPIC_*", "OPENAI_*", "AZURE_*", "AWS_*", "GOOGLE_*", "VERTEX_*", "GEMINI_*", "GROQ_*"),
        *("MISTRAL_*", "DEEPSEEK_*", "XAI_*", "OPENROUTER_*", "TOGETHER_*", "FIREWORKS_*", "CEREBRAS_*"),
        *("MOONSHOT_*", "ZHIPU_*", "ZAI_*", "HF_TOKEN", "GITHUB_TOKEN", "CLOUDFLARE_*", "OLLAMA_*"),
    )
    roles = BOTH_ROLES
    versions: tuple[str, ...] = ("7.7.7",)
    install = "npm install -g @kilocode/cli"
    login = Login(
        variables=("KILO_API_KEY", "KILO_AUTH_CONTENT", "KILO_CONFIG", "KILO_CONFIG_CONTENT"),
        files=("$XDG_DATA_HOME/kilo/auth.json", "~/.local/share/kilo/auth.json"),
        how="run `kilocode auth login`, or name a provider and its key in ~/.config/kilo/kilo.json",
    )
    shell_in_review = False
    traces: tuple[str, ...] = (".kilo", ".kilocode")
    resumes = True
    reports_cost = True
    caps_cost = False
    models_command: tuple[str, ...] = ("models",)

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        """Build the argv; the environment says what it may do, and outranks the user's own rules.

        The CLI works in the directory that `PWD` names and not in the one it was started in, so a `PWD`
        left over from our own shell would make it edit the wrong tree.
        """
        review = task.role is Role.REVIEW
        model = ("--model", settings.model) if settings.model else ()
        resumed = ("--session", task.session) if task.session else ()
        rules = _REVIEW_RULES if review else _IMPLEMENT_RULES
        return AgentCommand(
            argv=(
                settings.executable or self.executable,
                "run",
                "--auto",
                "--agent",
                "plan" if review else "code",
                "--format",
                "json",
                *resumed,
                *model,
                *settings.extra_args,
            ),
            default_env=_DEFAULTS,
            env={
                **(_REVIEW_ENV if review else {}),
                "KILO_PERMISSION": json.dumps(rules),
                "PWD": str(task.workspace),
            },
        )

    def permissions(self, role: Role) -> Permissions:
        """Tell what argv and environment of a role allow its tools; commands are not confined."""
        if role is Role.REVIEW:
            return Permissions("auto", "read_only_tools", "none")
        return Permissions("auto", "none", "full")

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        """Read the outcome from the last step and from `error` events after it."""
        return opencode_events.read(stdout, stderr_tail, exit_code, _USAGE in stderr_tail)
