"""An agent that is an async function of the program that drives the run, called on its event loop.

Nothing confines it, and nobody but itself can end it: it is asked to, by cancellation.
"""

import copy
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Literal

from spec_kitty_orchestrator.agents.fit import report_misfits
from spec_kitty_orchestrator.agents.spec import (
    BOTH_ROLES,
    AgentCommand,
    AgentSettings,
    Assignment,
    Login,
    Permissions,
    ShellInReview,
)
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Outcome, Role, Usage
from spec_kitty_orchestrator.core.plain_text import plain
from spec_kitty_orchestrator.core.records import dataclass, field
from spec_kitty_orchestrator.core.verdict import Finding
from spec_kitty_orchestrator.errors import UsageError

__all__ = ["Done", "Function", "FunctionAgent", "Review", "address", "report_of"]


@dataclass(frozen=True)
class Done:
    """What a function that implements can return: its work is in the workspace.

    Attributes:
        summary: one or two sentences on what was done.
        subtasks_done: ids of the subtasks that are really finished, such as `T001`.
        no_change_reason: why nothing in the workspace had to change, "" if something did: an attempt that
            changes nothing and does not say why is not believed.
        usage: the tokens and dollars that it took.
    """

    summary: str = ""
    subtasks_done: Sequence[str] = ()
    no_change_reason: str = ""
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Review:
    """What a function that reviews can return: a verdict on the very commit that it was given.

    Attributes:
        verdict: with `changes_requested`, `summary` or `findings` say what has to change.
        summary: one or two sentences.
        findings: what has to change, and where.
        usage: the tokens and dollars that it took.
    """

    verdict: Literal["approved", "changes_requested"]
    summary: str = ""
    findings: Sequence[Finding] = ()
    usage: Usage = field(default_factory=Usage)


Function = Callable[[str, Path, Role], Awaitable[str | Done | Review | AgentReport]]
"""Takes the prompt, the worktree (absolute) and the role; an exception is a failed attempt.

A text is what a model says last: it must end with the JSON object that the prompt asks for. `Done` and
`Review` say the same without one, and an `AgentReport` says all, for example that a quota is used up.
"""


class FunctionAgent:
    """An agent that is an async function, beside CLIs: `agents={"mine": FunctionAgent(function)}`.

    Its attempts have folders, records, limits of time and retries like all others, and what it returns is
    redacted and kept. It runs on the event loop (of asyncio) that drives the run, so it must not block: what
    does belongs in `asyncio.to_thread`. At a limit of time or a stop it is cancelled, and has to end then;
    one that does not holds its work package, and the end of a run by some seconds. One that a crash or the
    end of the program cut off is `lost`, and another attempt follows.

    Nothing confines it: it has the rights of the program. Only the program itself can go on with such a run,
    or a start that names other agents.

    Args:
        function: what is called, see `Function`.
        family: the vendor of its model, by which reviews are independent or not; "" for the agent's name.
        roles: what it can be used for.
        timeout_s: the longest attempt, in seconds; None for the run's own limit of the role.
        shell_in_review: "always" if a reviewer looks at the changes by itself, with `git diff`; else its
            prompt holds them.
        reports_cost: whether what it returns says what it cost.

    Raises:
        UsageError: it is not callable, or can be used for nothing.
    """

    executable: str = "function"
    environment: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    install: str = ""
    login: Login = Login()
    traces: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    resumes: bool = False
    caps_cost: bool = False

    def __init__(
        self,
        function: Function,
        *,
        family: str = "",
        roles: Role | Iterable[Role] = BOTH_ROLES,
        timeout_s: float | None = None,
        shell_in_review: ShellInReview = "never",
        reports_cost: bool = False,
    ) -> None:
        self.function: Function = function
        self.name: str = ""
        self.family: str = family
        try:
            self.roles: frozenset[Role] = frozenset(map(Role, (roles,) if isinstance(roles, str) else roles))
        except ValueError as error:
            raise UsageError(f"FunctionAgent: {error}") from error
        self.timeout_s: float | None = timeout_s
        self.shell_in_review: ShellInReview = shell_in_review
        self.reports_cost: bool = reports_cost
        wrong = "" if callable(function) else f"{function!r} cannot be called"
        wrong = wrong or ("" if self.roles else "it needs a role")
        if timeout_s is not None and not timeout_s > 0:
            wrong = wrong or f"timeout_s must be more than 0, not {timeout_s!r}"
        if wrong:
            raise UsageError(f"FunctionAgent: {wrong}")

    def named(self, name: str) -> "FunctionAgent":
        """Return the same agent under the name by which a run knows it."""
        one = copy.copy(self)
        one.name, one.family = name, self.family or name
        return one

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:  # noqa: ARG002 - none is run
        """Name the function, for the records: no process is started."""
        return AgentCommand((address(self.function),), function=True)

    def permissions(self, role: Role) -> Permissions:  # noqa: ARG002 - it is confined in neither
        """Tell what it may do: whatever the program may."""
        return Permissions("function", "none", "full")

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:  # noqa: ARG002
        """Make nothing of an output: `report_of` reads what the function returned."""
        return AgentReport(Outcome.CRASHED, detail="a function has no output")


def address(thing: object) -> str:
    """Name a function or an object by its module and its name there, such as `bots:write`."""
    while isinstance(thing, partial):
        thing = thing.func
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    module = named.__module__
    if module == "__main__":
        # A person who finds it in a journal should know which program that was.
        module = Path(getattr(sys.modules[module], "__file__", None) or module).name
    return f"{module}:{named.__qualname__}"


def report_of(answer: object, attempt: Attempt) -> AgentReport:
    """Read what the function returned for this attempt; what cannot be read is no result.

    A verdict is bound to the attempt and the commit that the function was given. Raises whatever the answer's
    own parts do, if they are not what they should be.
    """
    match answer:
        case str() if answer.strip():
            report = AgentReport(Outcome.OK, plain(answer))
        case str():
            report = AgentReport(Outcome.FAILED, detail="it returned an empty text")
        case AgentReport(outcome=Outcome.CANCELED | Outcome.LOST):
            said = f"it returned a report of {answer.outcome}, which only the run can tell"
            report = AgentReport(Outcome.CRASHED, detail=said)
        case AgentReport():
            report = answer
        case Done() if attempt.role is Role.IMPLEMENT:
            told: dict[str, object] = {"subtasks_done": answer.subtasks_done, "summary": answer.summary}
            told["no_change_reason"] = answer.no_change_reason
            report = AgentReport(Outcome.OK, _object(attempt, told), usage=answer.usage)
        case Review() if attempt.role is Role.REVIEW:
            told = {"head": attempt.head, "verdict": answer.verdict, "summary": answer.summary}
            told["findings"] = [asdict(one) for one in answer.findings]
            report = AgentReport(Outcome.OK, _object(attempt, told), usage=answer.usage)
        case _:
            wanted = "Done" if attempt.role is Role.IMPLEMENT else "Review"
            said = (
                f"it returned {type(answer).__name__}: to {attempt.role}, a function returns {wanted}, a text"
            )
            report = AgentReport(Outcome.INVALID_REQUEST, detail=f"{said} or an AgentReport")
    wrong = report_misfits(report)
    return AgentReport(Outcome.CRASHED, detail="; ".join(wrong)) if wrong else report


def _object(attempt: Attempt, told: Mapping[str, object]) -> str:
    """Write the object that the prompt asks a model for."""
    return json.dumps({"attempt": attempt.id, **told})
