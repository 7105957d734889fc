"""The scripted agent: follows a TOML scenario instead of a model, to rehearse a mission at no cost."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from spec_kitty_orchestrator.agents.api_status import until_reset
from spec_kitty_orchestrator.agents.json_lines import Event, amount, count, events, message, number, text
from spec_kitty_orchestrator.agents.spec import (
    BOTH_ROLES,
    AgentCommand,
    AgentSettings,
    Assignment,
    Login,
    Permissions,
    ShellInReview,
)
from spec_kitty_orchestrator.agents.steps import Step, StepKind, Told, ended, failed_command, told_by
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Usage

__all__ = ["Scripted"]

_PROGRAM = Path(__file__).parent.parent / "testing" / "scripted_program.py"
_TOLD = frozenset(
    {
        Outcome.OK,
        Outcome.FAILED,
        Outcome.RATE_LIMITED,
        Outcome.OVERLOADED,
        Outcome.AUTH,
        Outcome.INVALID_REQUEST,
        Outcome.BUDGET,
    }
)
"""Outcomes that a program can tell of itself; the others are seen from outside."""


class Scripted:
    """A small Python program that edits, commits, sleeps, fails or reviews as its scenario says."""

    name = "scripted"
    family = "scripted"
    executable: str = sys.executable
    environment: tuple[str, ...] = ()
    roles = BOTH_ROLES
    versions: tuple[str, ...] = ()
    install = ""
    login: Login = Login()
    shell_in_review: ShellInReview = "always"
    traces: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    resumes = True
    reports_cost = True
    caps_cost = False

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        """Build the argv; a scenario is optional, and without one every work package simply succeeds."""
        scenario = ("--scenario", str(settings.scenario.absolute())) if settings.scenario else ()
        resumed = ("--session", task.session) if task.session else ()
        return AgentCommand(
            argv=(
                settings.executable or self.executable,
                "-I",
                "-S",
                str(_PROGRAM),
                "--role",
                task.role.value,
                *scenario,
                *resumed,
                *settings.extra_args,
            ),
        )

    def permissions(self, role: Role) -> Permissions:  # noqa: ARG002 - it obeys the scenario in both roles
        """Tell what the program may do: whatever the scenario says."""
        return Permissions("scripted", "none", "full")

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        """Read the outcome from the program's `result` event."""
        result: Event = {}
        session = ""
        for event in events(stdout):
            kind = text(event, "type")
            if kind == "started":
                session = text(event, "session")
            elif kind == "result":
                result = event
        outcome = _outcome(result)
        told = f"no result event; exit code {exit_code}"
        return AgentReport(
            outcome=outcome,
            text=text(result, "text"),
            detail="" if outcome is Outcome.OK else message(text(result, "detail"), stderr_tail, told),
            retry_after_s=until_reset(amount(result, "retry_after_s"))
            if outcome is Outcome.RATE_LIMITED
            else None,
            session=session or None,
            usage=Usage(
                count(result, "usage", "input_tokens"),
                count(result, "usage", "output_tokens"),
                amount(result, "usage", "cost_usd"),
            ),
            exit_code=exit_code,
        )

    def steps(self, line: str) -> Iterator[Told]:
        """Tell of one line of its output."""
        return told_by(line, _told)


def _told(event: Event) -> Iterator[Told]:
    kind = text(event, "type")
    if kind == "message":
        wrote, ran = text(event, "wrote"), text(event, "ran")
        yield Step(StepKind.EDITS, wrote) if wrote else Step(StepKind.RUNS, ran)
        if number(event, "exit_code"):
            yield failed_command(number(event, "exit_code"), text(event, "text"))
    elif kind == "result":
        used = count(event, "usage", "input_tokens") + count(event, "usage", "output_tokens")
        yield Step(StepKind.SAYS, text(event, "text"))
        yield ended(_outcome(event) is Outcome.OK, text(event, "detail"), text(event, "outcome"), tokens=used)


def _outcome(result: Event) -> Outcome:
    if not result:
        return Outcome.CRASHED
    told = text(result, "outcome")
    return Outcome(told) if told in _TOLD else Outcome.FAILED
