"""opencode: `opencode run`; it is done when the last step finished with the reason `stop` and left a text.

It exits with 0 after a run that was cut short by a refused permission, so the exit code proves nothing.
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
    "external_directory": "deny",
    "webfetch": "deny",
    "websearch": "deny",
}
"""No shell for a reviewer: a rule that allows `git log*` allows `git log > file` anywhere on the disk too."""

_REVIEW_ENV = {"OPENCODE_DISABLE_PROJECT_CONFIG": "1"}
"""Plugins and servers of tools that the worktree names are the implementer's, and would run unasked."""

_USAGE = "opencode run [message..]"
"""How it answers wrong arguments, on stderr."""


class OpenCode:
    """The opencode CLI with whatever provider the user configured for it."""

    name = "opencode"
    family = "opencode"
    executable = "opencode"
    environment: tuple[str, ...] = (
        "OPENCODE_*",
        # Whichever provider it is configured for, it finds that one's key in the environment.
        *("ANTHROPIC_*", "OPENAI_*", "AZURE_*", "AWS_*", "GOOGLE_*", "VERTEX_*", "GEMINI_*", "GROQ_*"),
        *("MISTRAL_*", "DEEPSEEK_*", "XAI_*", "OPENROUTER_*", "TOGETHER_*", "FIREWORKS_*", "CEREBRAS_*"),
        *("MOONSHOT_*", "ZHIPU_*", "ZAI_*", "HF_TOKEN", "GITHUB_TOKEN", "CLOUDFLARE_*", "OLLAMA_*"),
    )
    roles = BOTH_ROLES
    versions: tuple[str, ...] = ("1.18.33",)
    install = "npm install -g opencode-ai"
    login = Login(
        variables=("OPENCODE_CONFIG", "OPENCODE_CONFIG_CONTENT"),
        files=("$XDG_DATA_HOME/opencode/auth.json", "~/.local/share/opencode/auth.json"),
        how="run `opencode auth login`, or name a provider and its key in ~/.config/opencode/opencode.json",
    )
    shell_in_review = False
    traces: tuple[str, ...] = (".opencode",)
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
                "plan" if review else "build",
                "--format",
                "json",
                *resumed,
                *model,
                *settings.extra_args,
            ),
            default_env={"OPENCODE_PRINT_LOGS": "1", "OPENCODE_LOG_LEVEL": "ERROR"},
            env={
                **(_REVIEW_ENV if review else {}),
                "OPENCODE_PERMISSION": json.dumps(rules),
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
        refused = stderr_tail.lstrip().startswith(_USAGE)
        return opencode_events.read(stdout, stderr_tail, exit_code, refused)
