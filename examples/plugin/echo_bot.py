"""An agent as a plug-in: `cat` says what it is told, so it neither changes anything nor judges anything.

Put your own CLI in its place. `spec-kitty-orchestrator agents check echo-bot` tells whether it fits.
"""

from collections.abc import Iterable

from spec_kitty_orchestrator.agents.spec import (
    AgentCommand,
    AgentSettings,
    Assignment,
    Login,
    Permissions,
    ShellInReview,
)
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role

LONGEST_TEXT = 400_000


class EchoBot:
    """The program `cat`; it takes the prompt on standard input."""

    name = "echo-bot"
    family = "echo"
    executable = "cat"
    environment: tuple[str, ...] = ()
    roles = frozenset({Role.IMPLEMENT})
    versions: tuple[str, ...] = ()
    install = ""
    login = Login()
    shell_in_review: ShellInReview = "never"
    traces: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    resumes = False
    reports_cost = False
    caps_cost = False

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        """Build the argv; `cat` takes no model and knows no sessions."""
        argv = (settings.executable or self.executable, *settings.extra_args)
        return AgentCommand(argv)

    def permissions(self, role: Role) -> Permissions:
        """Tell the truth: nothing confines it, and it does nothing."""
        return Permissions("never_ask", "none", "full")

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        """Read the outcome; without a result event, the exit code and a text must do."""
        said = "\n".join(line.rstrip("\n") for line in stdout)[-LONGEST_TEXT:]
        text = said.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")
        if exit_code == 0 and text.strip():
            return AgentReport(Outcome.OK, text=text, exit_code=exit_code, by_exit_code=True)
        detail = stderr_tail[-2_000:].encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")
        outcome = Outcome.CRASHED if exit_code is None or exit_code < 0 else Outcome.FAILED
        return AgentReport(outcome, detail=detail or f"exit code {exit_code}", exit_code=exit_code)
