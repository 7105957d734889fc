"""What a run came to, how it closes, and which error it is reported with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from spec_kitty_orchestrator.core.commands import Claim, ClaimReview, Command, OpenAttempt, RunGates
from spec_kitty_orchestrator.core.events import AttemptOpened, Event
from spec_kitty_orchestrator.core.model import MissionState, Result, WorkPackage
from spec_kitty_orchestrator.errors import OrchestratorError


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        exit_code: see the table of exit codes in the documentation.
        work_packages: in the mission's order, each in its last state.
        reasons: for each work package that is not approved or done, why.
        state: the host's lanes at the end; after an interruption, the last ones that we know.
        interrupted: the signal that ended the run, None if it ended by itself.
    """

    exit_code: int
    work_packages: tuple[WorkPackage, ...]
    reasons: Mapping[str, str]
    state: MissionState
    interrupted: int | None = None


def conclude(
    state: MissionState, wps: Sequence[WorkPackage], stalled: Mapping[str, str], interrupted: int | None
) -> RunResult:
    """Say what a run came to.

    Args:
        state: the host's answer read last.
        wps: every work package, in the mission's order, with the lane last seen or acknowledged.
        stalled: the scheduler's reasons, if it could start nothing more.
        interrupted: the signal that ended the run, if one did.
    """
    reasons = {one.id: stalled.get(one.id) or _why_open(one) for one in wps if not _well(one)}
    known = replace(state, lanes={one.id: one.lane for one in wps})
    code = _exit_code(wps) if interrupted is None else 128 + interrupted
    return RunResult(code, tuple(wps), reasons, known, interrupted)


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
