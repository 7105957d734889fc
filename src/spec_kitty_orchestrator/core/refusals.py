"""The answer to each refusal of the host: decided by the lane read after it, then by the error code.

Finding a work package already where we wanted it is success; finding it elsewhere means taking it up
there. A lost reply is settled by the lane too, so no transition is lost or doubled.
"""

from dataclasses import replace

from spec_kitty_orchestrator.core.commands import Finish, Wait
from spec_kitty_orchestrator.core.events import NO_REPLY, HostRefused
from spec_kitty_orchestrator.core.model import (
    Feedback,
    FeedbackSource,
    Lane,
    Phase,
    Policy,
    Result,
    Ruling,
    WorkPackage,
)
from spec_kitty_orchestrator.core.moves import MOST_MOVES, Next, conclude, enter, finish, park, rework

MOST_TRIES = 5
"""Repeats of one host call before a work package is parked: racing allocations pass within one or two."""

FIRST_WAIT_S = 2.0
"""Before the first repeat; doubles."""

PERMANENT = ("uncommitted changes", "cannot auto-merge", "merge conflict")
"""Words of a LANE_ALLOCATION_FAILED that only a person can mend."""


def answer(wp: WorkPackage, event: HostRefused, policy: Policy) -> Next:
    """Decide what follows a refusal; `wp.lane` is the lane read after it."""
    match wp.phase:
        case Phase.CLAIMING:
            return _claim(wp, event)
        case Phase.SUBMITTING:
            return _submit(wp, event, policy)
        case Phase.CLAIMING_REVIEW:
            return _claim_review(wp, event)
        case Phase.RECORDING:
            return _record(wp, event, policy)
        case Phase.PARKING:
            return finish(wp, Result.PARKED, f"{wp.note}; the host was not told: {event.message}")
        case _:
            return park(wp, f"the host refused {event.call}: {event.message}", blocks=False)


def _again(wp: WorkPackage, event: HostRefused, *, blocks: bool = False) -> Next:
    if wp.tries >= MOST_TRIES:
        return park(
            wp, f"{event.call} failed {wp.tries + 1} times: {event.code}: {event.message}", blocks=blocks
        )
    reason = f"{event.call}: {event.message}"
    return replace(wp, tries=wp.tries + 1), Wait(FIRST_WAIT_S * 2.0**wp.tries, reason)


def _elsewhere(wp: WorkPackage, event: HostRefused) -> WorkPackage:
    """Take the work package up where somebody else put it; bounded, as somebody may go on moving it."""
    if wp.lane.complete and wp.attempts:
        reason = f"somebody else moved it to {wp.lane} while we worked on it; no review of ours approved it"
        return finish(wp, Result.UNREVIEWED, reason)
    entered = enter(replace(wp, moved=wp.moved + 1, tries=0, to_tick=()))
    if entered.phase is Phase.FINISHED or entered.moved <= MOST_MOVES:
        return entered
    return park(wp, f"it is moved by others while we work on it: {event.message}", blocks=False)


def _claim(wp: WorkPackage, event: HostRefused) -> Next:
    if event.code != NO_REPLY and wp.lane is not Lane.PLANNED:
        wp = replace(wp, ours=False)
    if wp.lane not in (Lane.PLANNED, Lane.CLAIMED, Lane.IN_PROGRESS):
        return _elsewhere(wp, event)
    match event.code:
        case "WP_ALREADY_CLAIMED":
            return finish(wp, Result.FOREIGN, f"claimed by {event.claimed_by or 'another actor'}")
        case "DEPENDENCIES_NOT_SATISFIED":
            if wp.tries >= MOST_TRIES:
                return park(wp, event.message, blocks=False)
            waiting = replace(wp, phase=Phase.WAITING, tries=wp.tries + 1, note=event.message)
            return waiting, Finish(Result.REQUEUED, event.message)
        case "LANE_ALLOCATION_FAILED" if any(word in event.message for word in PERMANENT):
            return park(wp, event.message, blocks=False)
        case "LANE_ALLOCATION_FAILED" | "TRANSITION_REJECTED":
            return _again(wp, event)
        case code if code == NO_REPLY:
            return _again(wp, event)
        case _:
            return park(wp, f"the host refused the claim: {event.code}: {event.message}", blocks=False)


def _submit(wp: WorkPackage, event: HostRefused, policy: Policy) -> Next:
    if wp.lane in (Lane.FOR_REVIEW, Lane.IN_REVIEW):
        return replace(wp, phase=Phase.CLAIMING_REVIEW, feedback=(), to_tick=(), tries=0)
    if wp.lane is not Lane.IN_PROGRESS:
        return _elsewhere(wp, event)
    if event.code == NO_REPLY:
        return _again(wp, event, blocks=True)
    named = wp.report.subtasks_done
    if (
        named
        and policy.tick_subtasks
        and not wp.ticked
        and not wp.to_tick
        and "subtask" in event.message.lower()
    ):
        return replace(wp, to_tick=named)
    text = f"The host refused to take the work for review: {event.message}"
    return rework(wp, Feedback(FeedbackSource.HOST, text), policy)


def _claim_review(wp: WorkPackage, event: HostRefused) -> Next:
    if wp.lane in (Lane.FOR_REVIEW, Lane.IN_REVIEW):
        return _again(wp, event)
    return _elsewhere(replace(wp, verdict=None, votes=()), event)


def _record(wp: WorkPackage, event: HostRefused, policy: Policy) -> Next:
    verdict = wp.verdict
    assert verdict is not None
    if wp.lane is Lane.IN_REVIEW:
        return _again(wp, event)
    if verdict.ruling is Ruling.APPROVED:
        recorded = wp.lane.complete
    else:
        recorded = wp.lane in (Lane.IN_PROGRESS, Lane.PLANNED, Lane.BLOCKED)
    return conclude(wp, policy) if recorded else _elsewhere(replace(wp, verdict=None, votes=()), event)
