"""Where a work package stands, in seven words for people; the host's lane and our phase stay in documents.

What needs a person comes first, then what runs, then what waits: so every list of work packages is ordered.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from spec_kitty_orchestrator.core.graph import behind
from spec_kitty_orchestrator.core.model import Lane, Phase, Result
from spec_kitty_orchestrator.core.records import dataclass
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.scheduler import queue, unmet
from spec_kitty_orchestrator.core.work_package import NOT_BEGUN, WorkPackage


class Standing(StrEnum):
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


_GLYPHS = dict(zip(Standing, "!■▶·‖–✓", strict=True))  # noqa: RUF001 - a dash that is as wide as the others
_RANKS = {one: place for place, one in enumerate(Standing)}


@dataclass(frozen=True)
class Stand:
    """Where one work package stands, and why.

    Attributes:
        why: what it waits for or what became of it, "" if its standing says all.
        held_by: those that need a person first, where it is held up.
        holds_up: those that cannot begin before it is done.
    """

    wp: WorkPackage
    standing: Standing
    why: str = ""
    held_by: tuple[str, ...] = ()
    holds_up: tuple[str, ...] = ()


def stands(state: RunState, now: datetime, *, active: bool) -> dict[str, Stand]:
    """Return where each work package stands, the most important first.

    Args:
        state: of the run.
        now: the time; of a run that is over, its end.
        active: whether the run goes on.
    """
    own = {wp.id: _own(wp, active=active) for wp in state.wps.values()}
    places = queue(state, now) if active else ()
    needs = {wp.id: tuple(unmet(state, wp)) for wp in state.wps.values() if own[wp.id] is Standing.WAITING}
    found = []
    for wp in state.wps.values():
        held_by = tuple(
            one
            for one in behind(needs, wp.id)
            if own.get(one) in (Standing.NEEDS_YOU, Standing.LEFT_OUT, None)
        )
        standing = Standing.HELD_UP if held_by else own[wp.id]
        holds_up = () if standing is Standing.DONE else _waiting_for(needs, wp.id)
        found.append(Stand(wp, standing, _why(wp, standing, places, needs), held_by, holds_up))
    return {one.wp.id: one for one in sorted(found, key=lambda one: _importance(one, places))}


def _own(wp: WorkPackage, *, active: bool) -> Standing:
    if wp.lane.complete and (wp.phase in NOT_BEGUN or not active):
        return Standing.DONE
    if wp.skipped or wp.lane is Lane.CANCELED:
        return Standing.LEFT_OUT
    if wp.lane is Lane.BLOCKED or wp.phase is Phase.PARKING or wp.result in (Result.PARKED, Result.BLOCKED):
        return Standing.NEEDS_YOU
    if active:
        return Standing.RUNNING if wp.at_work else Standing.WAITING
    return Standing.CUT_OFF if wp.begun else Standing.WAITING


def _waiting_for(needs: Mapping[str, tuple[str, ...]], wp_id: str) -> tuple[str, ...]:
    return tuple(one for one in needs if wp_id in behind(needs, one))


def _why(
    wp: WorkPackage, standing: Standing, places: tuple[str, ...], needs: Mapping[str, tuple[str, ...]]
) -> str:
    if standing in (Standing.WAITING, Standing.HELD_UP) and not wp.begun and needs.get(wp.id):
        return "after " + ", ".join(needs[wp.id])
    if standing is Standing.WAITING and wp.id in places:
        return f"waits for a slot, {_place(places.index(wp.id), len(places))}"
    if standing in (Standing.RUNNING, Standing.DONE):
        return ""
    return wp.note if standing in (Standing.NEEDS_YOU, Standing.LEFT_OUT) else wp.turn.waits or wp.note


def _place(index: int, length: int) -> str:
    return "next" if index == 0 else f"{index + 1} of {length} in the queue"


def _importance(one: Stand, places: tuple[str, ...]) -> tuple[object, ...]:
    wp = one.wp
    trouble = -len(wp.review.rejected) - sum(outcome != "ok" for outcome in wp.outcomes)
    first: tuple[object, ...] = ()
    match one.standing:
        case Standing.NEEDS_YOU:
            first = (-len(one.holds_up),)
        case Standing.RUNNING:
            first = (wp.open_attempt is None, trouble)
        case Standing.WAITING:
            queued = wp.id in places
            first = (not queued, places.index(wp.id) if queued else 0, not wp.begun)
    return one.standing.rank, *first, wp.id
