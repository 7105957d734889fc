"""What a run came to, how it closes, and which error it is reported with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from spec_kitty_orchestrator.core.causes import by_cause
from spec_kitty_orchestrator.core.limits import resting
from spec_kitty_orchestrator.core.model import MissionState, Phase, Result, Usage
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import ConflictForecast
from spec_kitty_orchestrator.core.suspension import Suspension
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.errors import OrchestratorError

__all__ = ["RunResult", "conclude", "first_error"]


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    The total of tokens and US dollars is `RunState.spent`.

    Attributes:
        exit_code: see the table of exit codes in the documentation.
        work_packages: in the mission's order, each in its last state; `usage` is what all its attempts used,
            and `used` what each of them did.
        reasons: for each work package that is not approved or done, why.
        state: the host's lanes at the end; after an interruption, the last ones that we know.
        interrupted: the first signal that came, None if none did.
        ended: what ended it before nothing was left to do, "" if nothing did: a quota or a budget.
        resting: agents that rest, and why.
        causes: for each cause that left work packages to a person, `c1` and so on, their ids.
        spent_before: what earlier runs used whose journals were put aside.
        conflicts: of branches, as far as they are known.
    """

    exit_code: int
    work_packages: tuple[WorkPackage, ...]
    reasons: Mapping[str, str]
    state: MissionState
    interrupted: int | None = None
    ended: str = ""
    resting: Mapping[str, Suspension] = field(default_factory=dict)
    causes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spent_before: Usage = field(default_factory=Usage)
    conflicts: Sequence[ConflictForecast] = ()


def conclude(state: RunState, mission: MissionState, waits: Mapping[str, str], now: datetime) -> RunResult:
    """Say what a run came to.

    Args:
        state: the run's last.
        mission: the host's answer read last.
        waits: why those that are left did not go on, as the scheduler says.
        now: when it ended.
    """
    wps = tuple(state.wps[one] for one in mission.lanes if one in state.wps)
    reasons = {one.id: _why(one, waits) for one in wps if not _well(one)}
    lanes = replace(mission, lanes={one.id: one.lane for one in wps})
    signal = next(iter(state.signals), None)
    known = RunResult(
        _exit_code(wps),
        wps,
        reasons,
        lanes,
        resting=resting(state, now),
        causes=by_cause(state.causes, wps),
        spent_before=state.spent_before,
        conflicts=state.conflicts,
    )
    if all(one.phase is Phase.FINISHED for one in wps):
        return replace(known, interrupted=signal)
    if signal is not None:
        return replace(known, exit_code=128 + signal, interrupted=signal)
    if state.ending is not None:
        return replace(known, exit_code=state.ending.exit_code, ended=state.ending.reason)
    return known


def _why(wp: WorkPackage, waits: Mapping[str, str]) -> str:
    if wp.at_work:
        return f"was {wp.phase} when the run ended; what the host made of that is not known"
    return waits.get(wp.id) or _why_open(wp)


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


def first_error(error: Exception) -> Exception:
    """Choose the exception to report: one of ours if there is one, as it says what to do."""
    while isinstance(error, ExceptionGroup):
        error = (error.subgroup(OrchestratorError) or error).exceptions[0]
    return error
