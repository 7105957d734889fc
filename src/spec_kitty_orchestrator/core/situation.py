"""Where a work package stands, in seven words for people; the host's lane and our phase stay in documents.

What needs a person comes first, then what runs, then what waits: so every list of work packages is ordered.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from spec_kitty_orchestrator.core import events, operator_events
from spec_kitty_orchestrator.core.describe import short
from spec_kitty_orchestrator.core.graph import behind
from spec_kitty_orchestrator.core.lifecycle import agrees
from spec_kitty_orchestrator.core.limits import closing_reason
from spec_kitty_orchestrator.core.model import Lane, Phase, Result
from spec_kitty_orchestrator.core.pauses import of_work_package
from spec_kitty_orchestrator.core.records import dataclass
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.scheduler import Blocker, blockers, in_words, needed_first
from spec_kitty_orchestrator.core.verdict import Ruling
from spec_kitty_orchestrator.core.work_package import NOT_BEGUN, WorkPackage

__all__ = ["Situation", "Status", "situations"]


class Status(StrEnum):
    """Where a work package stands, the most important first.

    `held up` is the consequence of one that needs a person, `cut off` was at work when its run stopped, and
    `done` is reviewed, not merged.
    """

    NEEDS_YOU = "needs you"
    CUT_OFF = "cut off"
    RUNNING = "running"
    WAITING = "waiting"
    HELD_UP = "held up"
    LEFT_OUT = "left out"
    DONE = "done"

    @property
    def glyph(self) -> str:
        """One character that every terminal's font has."""
        return _GLYPHS[self]

    @property
    def rank(self) -> int:
        """Its place in lists, from 0."""
        return _RANKS[self]


_GLYPHS = dict(zip(Status, "!■▶·‖–✓", strict=True))  # noqa: RUF001 - a dash that is as wide as the others
_RANKS = {one: place for place, one in enumerate(Status)}


@dataclass(frozen=True)
class Situation:
    """Where one work package stands, and why.

    Attributes:
        why: what it waits for or what became of it, "" if its status says all.
        held_by: those that need a person first, where it is held up.
        holds_up: those that cannot begin before it is done.
    """

    wp: WorkPackage
    status: Status
    why: str = ""
    held_by: tuple[str, ...] = ()
    holds_up: tuple[str, ...] = ()


def situations(state: RunState, now: datetime, *, active: bool) -> dict[str, Situation]:
    """Return where each work package stands, the most important first.

    Args:
        state: of the run.
        now: the time; of a run that is over, its end.
        active: whether the run goes on.
    """
    own = {wp.id: _own(wp, active=active) for wp in state.wps.values()}
    waits = blockers(state, now)
    goes_on = active and not state.closing
    places = tuple(one for one, blocker in waits.items() if blocker is None) if goes_on else ()
    needs = {
        wp.id: _kept_by(state, wp, waits.get(wp.id))
        for wp in state.wps.values()
        if own[wp.id] is Status.WAITING
    }
    found = []
    for wp in state.wps.values():
        held_by = tuple(
            one for one in behind(needs, wp.id) if own.get(one) in (Status.NEEDS_YOU, Status.LEFT_OUT, None)
        )
        status = Status.HELD_UP if held_by else own[wp.id]
        holds_up = () if status is Status.DONE else _waiting_for(needs, wp.id)
        why = _why(state, wp, status)
        if status in (Status.WAITING, Status.HELD_UP) and not why:
            why = _waits(state, wp, waits.get(wp.id), places, active=active)
        found.append(Situation(wp, status, why, held_by, holds_up))
    return {one.wp.id: one for one in sorted(found, key=lambda one: _importance(one, places))}


def _own(wp: WorkPackage, *, active: bool) -> Status:
    left = wp.phase is Phase.FINISHED
    if wp.lane.complete and wp.phase in NOT_BEGUN and wp.result is not Result.UNREVIEWED:
        return Status.DONE
    if wp.lane is Lane.CANCELED or (wp.skipped and not wp.lane.complete):
        return Status.LEFT_OUT
    if wp.taken is not None:
        return Status.NEEDS_YOU
    parked = wp.result in (Result.PARKED, Result.UNREVIEWED) and not _moved_on(wp)
    if wp.phase is Phase.PARKING or (left and (parked or wp.lane is Lane.BLOCKED)):
        return Status.NEEDS_YOU
    if active:
        return Status.RUNNING if wp.at_work else Status.WAITING
    # What is only claimed was not at work.
    cut_off = wp.at_work or not wp.untried
    return Status.CUT_OFF if cut_off and wp.begun and not _decided(wp) else Status.WAITING


def _moved_on(wp: WorkPackage) -> bool:
    """Tell whether somebody moved a work package after it left the run: the next start takes it up."""
    if wp.phase is not Phase.FINISHED or wp.result in (None, Result.FOREIGN):
        return False
    if wp.result is Result.PARKED:
        left_in = next((lane for lane in map(_lane_told, reversed(wp.story)) if lane is not None), wp.lane)
        return wp.lane not in (left_in, Lane.BLOCKED)
    return not agrees(wp)


def _lane_told(one: tuple[Phase, int, events.Event]) -> Lane | None:
    """Return the lane that an event told of before its work package had left the run."""
    phase, _, event = one
    return None if phase is Phase.FINISHED else getattr(event, "lane", None)


def _decided(wp: WorkPackage) -> str:
    """Say what a person did for it to go on, "" if a start has taken it up since."""
    for _, _, event in reversed(wp.story):
        match event:
            case operator_events.Retried():
                return "put back to work by a person"
            case operator_events.HandedBack(by=by):
                return f"handed back by {by}"
            case operator_events.ApprovedByPerson(by=by, head=head):
                return f"{by} approved {short(head)}, which the host is not told yet"
            case events.Scheduled() | events.Resolving():
                return ""
    return ""


def _kept_by(state: RunState, wp: WorkPackage, blocker: Blocker | None) -> tuple[str, ...]:
    """Return what comes before a work package: what it needs, and who has its workspace to itself."""
    held_by = (blocker.held_by,) if blocker is not None and blocker.held_by else ()
    return needed_first(state, wp) or held_by


def _waiting_for(needs: Mapping[str, tuple[str, ...]], wp_id: str) -> tuple[str, ...]:
    return tuple(one for one in needs if wp_id in behind(needs, one))


def _why(state: RunState, wp: WorkPackage, status: Status) -> str:
    """Say what its own state tells; "" where that depends on others."""
    match status:
        case Status.RUNNING:
            return ""
        case Status.DONE:
            verdict = wp.review.verdict
            approved = verdict is not None and verdict.ruling is Ruling.APPROVED and not verdict.by_person
            return "" if approved else wp.note
        case Status.LEFT_OUT:
            return "canceled on the host" if wp.lane is Lane.CANCELED else wp.note
        case Status.NEEDS_YOU if wp.taken is not None:
            return wp.taken.told
        case Status.NEEDS_YOU:
            blocked = wp.lane is Lane.BLOCKED and wp.result not in (None, Result.PARKED, Result.BLOCKED)
            return f"somebody else blocked it after it was {wp.result}" if blocked else wp.note
        case Status.CUT_OFF:
            attempt = wp.open_attempt
            by = f" by {attempt.agent} (attempt {attempt.number})" if attempt is not None else ""
            if wp.at_work or (attempt is not None and not wp.turn.unspawned):
                return f"was {wp.phase}{by} when the run stopped"
            why = f": {closing_reason(state)}" if state.closing else " when the run stopped"
            return f"was to go on with {wp.phase}{by}{why}"
    if _moved_on(wp):
        left = "parked" if wp.result is Result.PARKED else wp.result
        return f"somebody else moved it to {wp.lane} after it was {left}; the next start takes it up"
    if wp.result is Result.FOREIGN:
        return wp.note
    decided = _decided(wp)
    return f"{decided}; the next start takes it up" if decided else ""


def _waits(
    state: RunState, wp: WorkPackage, blocker: Blocker | None, places: tuple[str, ...], *, active: bool
) -> str:
    """Say what a work package waits for that could go on in this run."""
    if needed := needed_first(state, wp):
        odd = [
            one
            for one in needed
            if one not in state.wps or one in wp.refused_for or state.wps[one].taken is not None
        ]
        return "after " + ", ".join(in_words(state, wp, one) if one in odd else one for one in needed)
    if blocker is not None and blocker.held_by:
        return blocker.reason
    if state.closing:
        return closing_reason(state)
    if pause := of_work_package(state.pauses, wp.id):
        return pause.reason
    if not active:
        # What others have brought further is begun; what we only claimed is not.
        begun = wp.lane is not Lane.PLANNED and not wp.begun
        return f"{wp.lane}, nothing runs" if begun else "was not begun when the run stopped"
    if blocker is not None:
        return wp.turn.waits or blocker.reason
    if wp.id not in places:
        return wp.turn.waits or wp.note
    place = places.index(wp.id)
    turn = f", {'next' if place == 0 else f'{place + 1} of {len(places)} in the queue'}"
    told = f"waits for a slot{'' if state.own_order else turn}"
    attempt = wp.open_attempt
    return f"{told}, to go on with attempt {attempt.number} by {attempt.agent}" if attempt else told


def _importance(one: Situation, places: tuple[str, ...]) -> tuple[object, ...]:
    wp = one.wp
    trouble = -len(wp.review.rejected) - sum(outcome != "ok" for outcome in wp.outcomes)
    first: tuple[object, ...] = ()
    match one.status:
        case Status.NEEDS_YOU:
            first = (-len(one.holds_up),)
        case Status.RUNNING:
            first = (wp.open_attempt is None, trouble)
        case Status.WAITING:
            queued = wp.id in places
            first = (not queued, places.index(wp.id) if queued else 0, not wp.begun)
    return one.status.rank, *first, wp.id
