"""The transitions that several edges share: take up, send back to the implementer, park, finish, reopen."""

from dataclasses import replace

from spec_kitty_orchestrator.core.commands import Resolve, Wait
from spec_kitty_orchestrator.core.model import Lane, Outcome, Phase, Result, Role
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.retry import UNCHARGED
from spec_kitty_orchestrator.core.verdict import Feedback
from spec_kitty_orchestrator.core.work_package import Bounds, WorkPackage, ask_all, bounded, unvoted, worked

Next = WorkPackage | tuple[WorkPackage, Wait | Resolve]
"""What an edge makes of a work package; a command comes with it where the state alone does not tell."""

MOST_MOVES = 5
"""Moves of a lane or branch by others that one start follows: each may cost another agent run."""

UNTOLD = "; the host was not told: "
"""Between why a work package is parked and why the host could not be told."""

NOT_OURS = "somebody else moved it to {} while we worked on it; no review of ours approved it"
"""Why a work package in a complete lane is not taken for reviewed."""

SETTLED = (Lane.APPROVED, Lane.DONE, Lane.BLOCKED, Lane.CANCELED)
"""Lanes in which a work package needs nothing of us."""

PLANNING_LANE = "lane-planning"
"""The `lane_id` that the host gives to planning-artifact work packages."""


def enter(wp: WorkPackage) -> WorkPackage:
    """Take up a work package where its lane says that it stands."""
    planning = wp.workspace is not None and wp.workspace.lane_id == PLANNING_LANE
    if planning and wp.lane not in SETTLED:
        reason = (
            "a planning artifact: the host gives it a worktree on another branch than the mission's target, "
            "where approved work would be lost; do its work yourself in the primary checkout"
        )
        return finish(wp, Result.PARKED, reason)
    match wp.lane:
        case Lane.PLANNED | Lane.CLAIMED | Lane.IN_PROGRESS:
            return replace(wp, phase=Phase.CLAIMING)
        case Lane.FOR_REVIEW:
            return replace(wp, phase=Phase.CLAIMING_REVIEW)
        case Lane.IN_REVIEW:
            if not wp.work.base:
                reason = "in review by somebody else; we never take a review over that we did not start"
                return finish(wp, Result.FOREIGN, reason)
            return replace(wp, phase=Phase.CLAIMING_REVIEW)
        case Lane.APPROVED | Lane.DONE:
            return finish(wp, Result(wp.lane.value), f"{wp.lane} without a review by this run")
        case Lane.BLOCKED:
            return finish(wp, Result.BLOCKED, wp.note or "blocked on the host")
        case Lane.CANCELED:
            return finish(wp, Result.CANCELED, "canceled on the host")


def finish(wp: WorkPackage, result: Result, note: str) -> WorkPackage:
    """Let a work package leave the run."""
    return replace(wp, phase=Phase.FINISHED, result=result, note=note)


def park(wp: WorkPackage, reason: str, *, blocks: bool) -> WorkPackage:
    """Leave a work package to a person; `blocks` tells the host too, which a review must not.

    An attempt that is still open is given up: nobody would wait for its end.
    """
    lost = (Outcome.LOST,) if wp.open_attempt is not None else ()
    return replace(
        bounded(wp, tries=0), phase=Phase.PARKING, note=reason, blocks=blocks, outcomes=(*wp.outcomes, *lost)
    )


def charged(wp: WorkPackage) -> int:
    """Count the implement attempts that say something about the work."""
    return sum(one.role is Role.IMPLEMENT and outcome not in UNCHARGED for one, outcome in wp.ended_attempts)


def rework(wp: WorkPackage, feedback: Feedback | None, policy: Policy) -> WorkPackage:
    """Send a work package to its implementer again, or park it when the attempts are used up."""
    if feedback is not None:
        wp = worked(wp, feedback=(*wp.work.feedback, feedback))
    return implement(wp, feedback.text if feedback is not None else wp.note, policy)


def implement(wp: WorkPackage, why: str, policy: Policy) -> WorkPackage:
    """Open another implement attempt, or park the work package when they are used up; `why` is for people."""
    if charged(wp) >= policy.max_attempts:
        last = why.strip().partition("\n")[0]
        return park(wp, f"not finished in {policy.max_attempts} attempts: {last}", blocks=True)
    if policy.review_quorum > 1:
        # Several must approve, so none of them is passed over for what went wrong with another commit.
        wp = ask_all(wp, Role.REVIEW)
    wp = worked(wp, to_tick=(), ticked=False, pending=None)
    return replace(unvoted(bounded(wp, tries=0, unusable=0)), phase=Phase.IMPLEMENTING)


def reopen(wp: WorkPackage) -> WorkPackage:
    """Make a work package that left an earlier start wait for its turn again, with fresh bounds."""
    # A recorded verdict is used up: if a person undoes it, only another review can approve again.
    wp = wp if wp.result is Result.PARKED else unvoted(wp)
    bounds = Bounds(attempts_from=len(wp.attempts), rejected_from=len(wp.review.rejected))
    wp = replace(wp, result=None, skipped=False, bounds=bounds)
    if wp.untold:
        return replace(wp, phase=Phase.PARKING, untold=False, note=wp.note.partition(UNTOLD)[0])
    # Finished work goes on where it waits: nobody pays for it again.
    return replace(wp, phase=wp.work.pending or Phase.WAITING, note="")
