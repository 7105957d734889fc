"""The answer to each refusal of the host: decided by the lane read after it, then by the error code.

Finding a work package already where we wanted it is success; finding it elsewhere means taking it up
there. A lost reply is settled by the lane too, so no transition is lost or doubled.
"""

from spec_kitty_orchestrator.core.commands import Wait
from spec_kitty_orchestrator.core.events import CRASHED, NO_REPLY, HostRefused
from spec_kitty_orchestrator.core.model import Lane, Phase, Result
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.core.reviewing import conclude
from spec_kitty_orchestrator.core.steering import to_unblock
from spec_kitty_orchestrator.core.transitions import (
    MOST_MOVES,
    NOT_OURS,
    UNTOLD,
    Next,
    changed_nothing,
    enter,
    finish,
    park,
    rework,
)
from spec_kitty_orchestrator.core.verdict import Feedback, FeedbackSource, Ruling
from spec_kitty_orchestrator.core.work_package import WorkPackage, bounded, unvoted, worked

__all__ = ["MOST_TRIES", "answer"]

MOST_TRIES = 5
"""Repeats of one host call before a work package is parked: racing allocations pass within one or two.

What the host says in the same words twice it says for good, unless the words are of a race.
"""

RACING = (
    "/commondir",
    "already exists",
    "File exists",
    "cannot lock ref",
    "could not lock",
    ".lock",
    "LockTimeout",
    "HeadMismatch",
)
"""Words of refusals and crashes that come from another call or git at work."""

FIRST_WAIT_S = 2.0
"""Before the first repeat; doubles."""

FOREIGN_WAIT_S = 60.0
"""Before the host is asked again where a work package of another actor is worked on."""

PERMANENT = ("uncommitted changes", "cannot auto-merge", "merge conflict")
"""Words of a LANE_ALLOCATION_FAILED that only a person can mend."""

CONFLICT = "merge one of the two branches into the other, not into this one, and have it reviewed again"

MISPLACED = "{} were ticked: tasks.md may have them under another work package"
"""The host looks for a work package's subtasks there, and for what they are in its file."""

DEPENDENCIES = "DEPENDENCIES_NOT_SATISFIED"
"""The code with which the host refuses a claim until other work packages are approved."""

ABOUT_THE_WORK = "TRANSITION_REJECTED"
"""The code with which the host refuses what its implementer can mend; every other one is about the call."""

UNANSWERED = (NO_REPLY, CRASHED)
"""Codes that leave open whether the call took effect."""

UNKNOWN = "WP_NOT_FOUND"
"""The code with which the host does not know a work package: it finds no file of it."""

PASSING = (NO_REPLY, UNKNOWN, "MISSION_NOT_FOUND")
"""Codes of refusals that end by themselves: the host does not answer, or another branch is checked out."""

ASKED_AGAIN = (CRASHED, *PASSING)
"""Codes of refusals after which the same is asked again in any phase."""


def answer(wp: WorkPackage, event: HostRefused, policy: Policy) -> Next:
    """Decide what follows a refusal; `wp.lane` is the lane read after it."""
    if wp.unblocks:
        return _unblock(wp, event)
    match wp.phase:
        case Phase.WAITING:
            return _resolve(wp, event)
        case Phase.CLAIMING:
            return _claim(wp, event)
        case Phase.SUBMITTING:
            return _submit(wp, event, policy)
        case Phase.CLAIMING_REVIEW:
            return _claim_review(wp, event)
        case Phase.RECORDING:
            return _record(wp, event, policy)
        case Phase.PARKING:
            return _park(wp, event)
        case Phase.FINISHED:
            return bounded(wp, tries=wp.bounds.tries + 1), Wait(event.message, FOREIGN_WAIT_S)
        case _:
            return park(wp, f"the host refused {event.call}: {event.message}", blocks=False)


def _again(wp: WorkPackage, event: HostRefused, *, blocks: bool = False) -> Next:
    tries = wp.bounds.tries
    if _is_final(wp, event):
        reason = f"{event.call} failed {tries + 1} times: {_said(event)}"
        return park(wp, reason, blocks=blocks)
    wp = bounded(wp, tries=tries + 1, said=_said(event))
    return wp, Wait(f"{event.call}: {event.message}", FIRST_WAIT_S * 2.0**tries)


def _is_final(wp: WorkPackage, event: HostRefused) -> bool:
    """Tell whether asking once more is of no use."""
    bounds = wp.bounds
    passes = event.code in (*PASSING, DEPENDENCIES) or any(word in event.message for word in RACING)
    repeated = bounds.tries > 0 and bounds.said == _said(event)
    return bounds.tries >= MOST_TRIES or (repeated and not passes)


def _said(event: HostRefused) -> str:
    return event.message if event.code in UNANSWERED else f"{event.code}: {event.message}"


def _elsewhere(wp: WorkPackage, event: HostRefused) -> WorkPackage:
    """Take the work package up where somebody else put it; bounded, as somebody may go on moving it."""
    if wp.lane.complete and wp.attempts:
        return finish(wp, Result.UNREVIEWED, NOT_OURS.format(wp.lane))
    entered = enter(bounded(worked(wp, to_tick=()), moved=wp.bounds.moved + 1, tries=0))
    if entered.phase is Phase.FINISHED or entered.bounds.moved <= MOST_MOVES:
        return entered
    return park(wp, f"it is moved by others while we work on it: {event.message}", blocks=False)


def _resolve(wp: WorkPackage, event: HostRefused) -> Next:
    if event.code in ASKED_AGAIN:
        following = _again(wp, event)
        if isinstance(following, tuple):
            return following
        why = f"the host finds no file tasks/{wp.id}*.md: " if event.code == UNKNOWN else ""
        return finish(wp, Result.PARKED, why + following.note)
    return finish(wp, Result.PARKED, f"the host does not say where it is worked on: {event.message}")


def _unblock(wp: WorkPackage, event: HostRefused) -> Next:
    if not to_unblock(wp):
        # Somebody else has moved it meanwhile.
        return replace(bounded(wp, tries=0), unblocks=""), Wait()
    following = _again(wp, event)
    if isinstance(following, tuple):
        return following
    return finish(replace(wp, unblocks=""), Result.PARKED, f"the host leaves it blocked: {event.message}")


def _claim(wp: WorkPackage, event: HostRefused) -> Next:
    if wp.taken is not None or wp.work.by:
        # The lane is set, whatever it is: nobody else is asked.
        return _again(wp, event)
    if event.code not in UNANSWERED and wp.lane is not Lane.PLANNED:
        wp = worked(wp, ours=False)
    if wp.lane not in (Lane.PLANNED, Lane.CLAIMED, Lane.IN_PROGRESS):
        return _elsewhere(wp, event)
    match event.code:
        case "WP_ALREADY_CLAIMED":
            return finish(wp, Result.FOREIGN, f"claimed by {event.claimed_by or 'another actor'}")
        case "DEPENDENCIES_NOT_SATISFIED" if event.unmet:
            return replace(wp, phase=Phase.WAITING, refused_for=event.unmet), Wait(event.message)
        case "DEPENDENCIES_NOT_SATISFIED":
            if wp.bounds.tries >= MOST_TRIES:
                return park(wp, event.message, blocks=False)
            following = _again(wp, event)
            assert isinstance(following, tuple)
            return replace(following[0], phase=Phase.WAITING), following[1]
        case "LANE_ALLOCATION_FAILED" if any(word in event.message for word in PERMANENT):
            return park(wp, _told(event.message), blocks=False)
        case "LANE_ALLOCATION_FAILED" | "TRANSITION_REJECTED":
            return _again(wp, event)
        case code if code in ASKED_AGAIN:
            return _again(wp, event)
        case _:
            return park(wp, f"the host refused the claim: {event.code}: {event.message}", blocks=False)


def _told(message: str) -> str:
    """Say what a person must mend; of two lanes the host's advice would leave the conflict to the merge."""
    met, conflicts, _ = message.partition("the merge conflicts")
    of_lanes = conflicts and "dependency lane" in met
    return f"{met}{conflicts} with what else it needs: {CONFLICT}" if of_lanes else message


def _submit(wp: WorkPackage, event: HostRefused, policy: Policy) -> Next:
    if wp.lane in (Lane.FOR_REVIEW, Lane.IN_REVIEW):
        wp = bounded(worked(wp, feedback=(), to_tick=()), tries=0)
        return replace(wp, phase=Phase.CLAIMING_REVIEW)
    person = wp.approved_by or wp.work.by
    if wp.lane is not Lane.IN_PROGRESS and not (person and wp.lane is Lane.BLOCKED):
        return _elsewhere(wp, event)
    if event.code in ASKED_AGAIN:
        return _again(wp, event, blocks=not person)
    work = wp.work
    named = work.report.subtasks_done if policy.tick_subtasks and not work.to_tick else ()
    open_ones = named and "subtask" in event.message.lower()
    if open_ones and not work.ticked:
        return worked(wp, to_tick=named)
    if person or (event.code != ABOUT_THE_WORK and event.call != "mark-status"):
        reason = f"the host refused {event.call}: {event.code}: {event.message}"
        return park(worked(wp, pending=Phase.SUBMITTING), reason, blocks=False)
    feedback = Feedback(FeedbackSource.HOST, f"The host refused to take the work for review: {event.message}")
    ids = ", ".join(named)
    refused = (ids if open_ones else wp.work.tree or wp.work.head, event.message)
    if wp.work.refused == refused and open_ones:
        # Whatever an agent changes, it can do no more than say so.
        reason = f"the host refused {event.call}: {event.message}; {MISPLACED.format(ids)}"
        return park(worked(wp, pending=Phase.SUBMITTING), reason, blocks=False)
    if wp.work.refused == refused:
        return changed_nothing(wp, feedback, f"the host refused {event.call}: {event.message}", policy)
    return rework(worked(wp, refused=refused), feedback, policy)


def _claim_review(wp: WorkPackage, event: HostRefused) -> Next:
    if wp.lane in (Lane.FOR_REVIEW, Lane.IN_REVIEW):
        return _again(wp, event)
    return _elsewhere(unvoted(wp), event)


def _record(wp: WorkPackage, event: HostRefused, policy: Policy) -> Next:
    verdict = wp.review.verdict
    assert verdict is not None
    if wp.lane is Lane.IN_REVIEW:
        return _again(wp, event)
    if verdict.ruling is Ruling.APPROVED:
        recorded = wp.lane.complete
    else:
        recorded = wp.lane in (Lane.IN_PROGRESS, Lane.PLANNED, Lane.BLOCKED)
    return conclude(wp, policy) if recorded else _elsewhere(unvoted(wp), event)


def _park(wp: WorkPackage, event: HostRefused) -> Next:
    if wp.lane is Lane.BLOCKED or not wp.blocks:
        return finish(wp, Result.PARKED, wp.note)
    if event.code in UNANSWERED and not _is_final(wp, event):
        return _again(wp, event)
    untold = replace(wp, untold=event.code in UNANSWERED)
    return finish(untold, Result.PARKED, f"{wp.note}{UNTOLD}{event.message}")
