"""Kilo Code: `kilocode run`, a fork of opencode with the same events.

A run that was cut short by a refused permission ends in an error that is one plain string.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from spec_kitty_orchestrator.agents import opencode_call, opencode_events
from spec_kitty_orchestrator.agents.spec import (
    BOTH_ROLES,
    AgentCommand,
    AgentSettings,
    Assignment,
    Login,
    Permissions,
    ShellInReview,
)
from spec_kitty_orchestrator.agents.steps import Told
from spec_kitty_orchestrator.core.model import AgentReport, Role

__all__ = ["KiloCode"]

_REVIEW_RULES = {
    **opencode_call.REVIEW_RULES,
    # Other ways to a shell: a process that is left running, an agent of its own, commands in a skill's text.
    "background_process": "deny",
    "task": "deny",
    "skill": "deny",
}
_DEFAULTS = {
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
    environment: tuple[str, ...] = ("KILO_*", *opencode_call.PROVIDERS)
    roles = BOTH_ROLES
    versions: tuple[str, ...] = ("7.7.7",)
    install = "npm install -g @kilocode/cli"
    login: Login = Login(
        variables=("KILO_API_KEY", "KILO_AUTH_CONTENT", "KILO_CONFIG", "KILO_CONFIG_CONTENT"),
        files=("$XDG_DATA_HOME/kilo/auth.json", "~/.local/share/kilo/auth.json"),
        how="run `kilocode auth login`, or name a provider and its key in ~/.config/kilo/kilo.json",
    )
    shell_in_review: ShellInReview = "never"
    traces: tuple[str, ...] = (".kilo", ".kilocode")
    state: tuple[str, ...] = (
        "./.kilo/plans/",
        "~/.local/share/kilo/",
        "$XDG_DATA_HOME/kilo/",
        "~/.local/state/kilo/",
        "$XDG_STATE_HOME/kilo/",
        "~/.config/kilo/",
        "$XDG_CONFIG_HOME/kilo/",
        "!~/.config/kilo/kilo.json",
        "!~/.config/kilo/kilo.jsonc",
        "!~/.config/kilo/config.json",
        "!~/.config/kilo/AGENTS.md",
        "!~/.config/kilo/plugin/",
        "!~/.config/kilo/plugins/",
        "!~/.config/kilo/command/",
        "!~/.config/kilo/agent/",
        "!$XDG_CONFIG_HOME/kilo/kilo.json",
        "!$XDG_CONFIG_HOME/kilo/kilo.jsonc",
        "!$XDG_CONFIG_HOME/kilo/config.json",
        "!$XDG_CONFIG_HOME/kilo/AGENTS.md",
        "!$XDG_CONFIG_HOME/kilo/plugin/",
        "!$XDG_CONFIG_HOME/kilo/plugins/",
        "!$XDG_CONFIG_HOME/kilo/command/",
        "!$XDG_CONFIG_HOME/kilo/agent/",
        "~/.local/state/kilo-sandbox-policy/",
        "$XDG_STATE_HOME/kilo-sandbox-policy/",
    )
    resumes = True
    reports_cost = True
    caps_cost = False
    models_command: tuple[str, ...] = ("models",)

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        """Build the argv and, in the environment, what it may do."""
        review = task.role is Role.REVIEW
        rules = _REVIEW_RULES if review else opencode_call.IMPLEMENT_RULES
        mode = "plan" if review else "code"
        built = opencode_call.call(self.executable, mode, "KILO", rules, task, settings)
        return replace(built, default_env={**built.default_env, **_DEFAULTS})

    def permissions(self, role: Role) -> Permissions:
        """Tell what argv and environment of a role allow its tools; commands are not confined."""
        return opencode_call.allowed(role)

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        """Read the outcome from the last step and from `error` events after it."""
        return opencode_events.read(stdout, stderr_tail, exit_code, _USAGE in stderr_tail)

    def steps(self, line: str) -> Iterator[Told]:
        """Tell of one line of its output."""
        return opencode_events.steps(line)
