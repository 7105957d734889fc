"""opencode: `opencode run`; it is done when the last step finished with the reason `stop` and left a text.

It exits with 0 after a run that was cut short by a refused permission, so the exit code proves nothing.
"""

from collections.abc import Iterable, Iterator

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

__all__ = ["OpenCode"]

_USAGE = "opencode run [message..]"
"""How it answers wrong arguments, on stderr."""


class OpenCode:
    """The opencode CLI with whatever provider the user configured for it."""

    name = "opencode"
    family = "opencode"
    executable = "opencode"
    environment: tuple[str, ...] = ("OPENCODE_*", *opencode_call.PROVIDERS)
    roles = BOTH_ROLES
    versions: tuple[str, ...] = ("1.18.33",)
    install = "npm install -g opencode-ai"
    login: Login = Login(
        variables=("OPENCODE_CONFIG", "OPENCODE_CONFIG_CONTENT"),
        files=("$XDG_DATA_HOME/opencode/auth.json", "~/.local/share/opencode/auth.json"),
        how="run `opencode auth login`, or name a provider and its key in ~/.config/opencode/opencode.json",
    )
    shell_in_review: ShellInReview = "never"
    traces: tuple[str, ...] = (".opencode",)
    state: tuple[str, ...] = (
        "~/.local/share/opencode/",
        "$XDG_DATA_HOME/opencode/",
        "~/.local/state/opencode/",
        "$XDG_STATE_HOME/opencode/",
        "~/.config/opencode/",
        "$XDG_CONFIG_HOME/opencode/",
        "!~/.config/opencode/opencode.json",
        "!~/.config/opencode/opencode.jsonc",
        "!~/.config/opencode/config.json",
        "!~/.config/opencode/AGENTS.md",
        "!~/.config/opencode/plugin/",
        "!~/.config/opencode/plugins/",
        "!~/.config/opencode/command/",
        "!~/.config/opencode/agent/",
        "!$XDG_CONFIG_HOME/opencode/opencode.json",
        "!$XDG_CONFIG_HOME/opencode/opencode.jsonc",
        "!$XDG_CONFIG_HOME/opencode/config.json",
        "!$XDG_CONFIG_HOME/opencode/AGENTS.md",
        "!$XDG_CONFIG_HOME/opencode/plugin/",
        "!$XDG_CONFIG_HOME/opencode/plugins/",
        "!$XDG_CONFIG_HOME/opencode/command/",
        "!$XDG_CONFIG_HOME/opencode/agent/",
    )
    resumes = True
    reports_cost = True
    caps_cost = False
    models_command: tuple[str, ...] = ("models",)

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        """Build the argv and, in the environment, what it may do."""
        review = task.role is Role.REVIEW
        rules = opencode_call.REVIEW_RULES if review else opencode_call.IMPLEMENT_RULES
        mode = "plan" if review else "build"
        return opencode_call.call(self.executable, mode, "OPENCODE", rules, task, settings)

    def permissions(self, role: Role) -> Permissions:
        """Tell what argv and environment of a role allow its tools; commands are not confined."""
        return opencode_call.allowed(role)

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        """Read the outcome from the last step and from `error` events after it."""
        refused = stderr_tail.lstrip().startswith(_USAGE)
        return opencode_events.read(stdout, stderr_tail, exit_code, refused)

    def steps(self, line: str) -> Iterator[Told]:
        """Tell of one line of its output."""
        return opencode_events.steps(line)
