"""What a run came to, how it closes, and which error it is reported with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from spec_kitty_orchestrator.core.commands import Claim, ClaimReview, Command, OpenAttempt, RunGates
from spec_kitty_orchestrator.core.events import AttemptOpened, Event
from spec_kitty_orchestrator.core.model import MissionState, Phase, Result, WorkPackage
from spec_kitty_orchestrator.errors import OrchestratorError

EXIT_BUDGET = 7
"""What the run may spend is spent."""

EXIT_QUOTA = 75
"""The run waits for quotas longer than it may, or is to end at the first one that is used up."""


@dataclass(frozen=True)
class Ending:
    """What ended a run before nothing was left to do, other than a signal."""

    exit_code: int
    reason: str


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        exit_code: see the table of exit codes in the documentation.
        work_packages: in the mission's order, each in its last state.
        reasons: for each work package that is not approved or done, why.
        state: the host's lanes at the end; after an interruption, the last ones that we know.
        interrupted: the signal that ended the run, None if it ended by itself.
        ended: what ended it before nothing was left to do, "" if nothing did: a quota or a budget.
        resting: agents whose quota is used up, and until when.
    """

    exit_code: int
    work_packages: tuple[WorkPackage, ...]
    reasons: Mapping[str, str]
    state: MissionState
    interrupted: int | None = None
    ended: str = ""
    resting: Mapping[str, datetime] = field(default_factory=dict)


def conclude(
    state: MissionState,
    wps: Sequence[WorkPackage],
    held: Mapping[str, str],
    interrupted: int | None,
    ending: Ending | None = None,
) -> RunResult:
    """Say what a run came to.

    Args:
        state: the host's answer read last.
        wps: every work package, in the mission's order, with the lane last seen or acknowledged.
        held: why those that are left did not go on, if the run ended by itself.
        interrupted: the signal that ended the run, if one did.
        ending: what else ended it, if anything did.
    """
    reasons = {one.id: held.get(one.id) or _why_open(one) for one in wps if not _well(one)}
    known = replace(state, lanes={one.id: one.lane for one in wps})
    code = _exit_code(wps) if interrupted is None else 128 + interrupted
    if interrupted is not None or all(one.phase is Phase.FINISHED for one in wps):
        ending = None
    if ending is not None:
        code = ending.exit_code
    return RunResult(code, tuple(wps), reasons, known, interrupted, ending.reason if ending else "")


def _well(wp: WorkPackage) -> bool:
    return wp.lane.complete and wp.result is not Result.UNREVIEWED


def _why_open(wp: WorkPackage) -> str:
    if wp.result in (Result.DONE, Result.APPROVED):
        return f"somebody else moved it to {wp.lane} after it was {wp.result}"
    return wp.note or f"left in {wp.lane}"


def _exit_code(wps: Sequence[WorkPackage]) -> int:
    if all(_well(one) for one in wps):
        return 0
    ended = (Result.PARKED, Result.BLOCKED, Result.CANCELED, Result.UNREVIEWED)
    return 1 if any(one.result in ended for one in wps) else 6


def begins_something(event: Event, command: Command) -> bool:
    """Tell whether a run that only waits for its agents must leave this command to the next start."""
    begun = Claim | ClaimReview | OpenAttempt | RunGates
    return isinstance(event, AttemptOpened) or isinstance(command, begun)


def first_error(group: ExceptionGroup[Exception]) -> Exception:
    """Choose the exception to report: one of ours if there is one, as it says what to do."""
    chosen: Exception = group.subgroup(OrchestratorError) or group
    while isinstance(chosen, ExceptionGroup):
        chosen = chosen.exceptions[0]
    return chosen
