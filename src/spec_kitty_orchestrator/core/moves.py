"""The moves that several edges share: taking up a work package, sending it back, parking, finishing."""

from dataclasses import replace

from spec_kitty_orchestrator.core.commands import Finish, Wait
from spec_kitty_orchestrator.core.model import (
    Feedback,
    FeedbackSource,
    Lane,
    Outcome,
    Phase,
    Policy,
    Result,
    Role,
    Ruling,
    WorkPackage,
)
from spec_kitty_orchestrator.core.retry import UNCHARGED
from spec_kitty_orchestrator.core.stuck import same_findings
from spec_kitty_orchestrator.core.verdict import feedback_text

Next = WorkPackage | tuple[WorkPackage, Wait | Finish]
"""What an edge makes of a work package; a command comes with it where the state alone does not tell."""

MOST_MOVES = 5
"""Moves of a lane or branch by others that one start follows: each may cost another agent run."""

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
            "where approved work would be lost; do it by hand in the primary checkout"
        )
        return finish(wp, Result.PARKED, reason)
    match wp.lane:
        case Lane.PLANNED | Lane.CLAIMED | Lane.IN_PROGRESS:
            return replace(wp, phase=Phase.CLAIMING)
        case Lane.FOR_REVIEW:
            return replace(wp, phase=Phase.CLAIMING_REVIEW)
        case Lane.IN_REVIEW:
            if not wp.base:
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
    return replace(wp, phase=Phase.PARKING, note=reason, blocks=blocks, outcomes=(*wp.outcomes, *lost))


def charged(wp: WorkPackage) -> int:
    """Count the implement attempts that say something about the work."""
    ended = list(zip(wp.attempts, wp.outcomes, strict=False))[wp.counted_from :]
    return sum(one.role is Role.IMPLEMENT and outcome not in UNCHARGED for one, outcome in ended)


def rework(wp: WorkPackage, feedback: Feedback | None, policy: Policy) -> WorkPackage:
    """Send a work package to its implementer again, or park it when the attempts are used up."""
    if feedback is not None:
        wp = replace(wp, feedback=(*wp.feedback, feedback))
    return implement(wp, feedback.text if feedback is not None else wp.note, policy)


def implement(wp: WorkPackage, why: str, policy: Policy) -> WorkPackage:
    """Open another implement attempt, or park the work package when they are used up; `why` is for people."""
    if charged(wp) >= policy.max_attempts:
        last = why.strip().partition("\n")[0]
        return park(wp, f"not finished in {policy.max_attempts} attempts: {last}", blocks=True)
    if policy.review_quorum > 1:
        # Several must approve, so none of them is passed over for what went wrong with another commit.
        wp = replace(wp, review_agent=0)
    wp = replace(wp, phase=Phase.IMPLEMENTING, to_tick=(), ticked=False, tries=0, unusable=0)
    return replace(wp, verdict=None, votes=())


def cycles(wp: WorkPackage) -> int:
    """Count the rejections that `max_review_cycles` bounds."""
    return len(wp.rejected) - wp.rejected_from


def conclude(wp: WorkPackage, policy: Policy) -> WorkPackage:
    """Act on a verdict that the host has recorded; `wp.lane` is where that put the work package."""
    verdict = wp.verdict
    assert verdict is not None
    if verdict.ruling is Ruling.APPROVED:
        return finish(wp, Result(wp.lane.value), f"{verdict.reviewer} approved {verdict.head}")
    repeated = same_findings(wp, verdict, policy)
    wp = replace(wp, rejected=(*wp.rejected, verdict), verdict=None, rejected_tree=wp.tree)
    if repeated:
        return park(wp, repeated, blocks=True)
    if wp.lane is Lane.BLOCKED or cycles(wp) >= policy.max_review_cycles:
        # A reviewer that moves lanes itself may have put it elsewhere: then the host is told now.
        return park(wp, f"rejected {cycles(wp)} times, last by {verdict.reviewer}", blocks=True)
    wp = rework(wp, Feedback(FeedbackSource.REVIEW, feedback_text(verdict)), policy)
    if wp.lane is Lane.PLANNED and wp.phase is Phase.IMPLEMENTING:
        return replace(wp, phase=Phase.CLAIMING)
    return wp


def reopen(wp: WorkPackage) -> WorkPackage:
    """Make a work package that left an earlier start wait for its turn again, with fresh bounds."""
    return replace(
        wp,
        phase=Phase.WAITING,
        result=None,
        note="",
        skipped=False,
        counted_from=len(wp.attempts),
        rejected_from=len(wp.rejected),
        moved=0,
        unusable=0,
        tries=0,
        impl_agent=0,
        review_agent=0,
        stand_in=-1,
        stand_in_after=0,
        # A recorded verdict is used up: if a person undoes it, only another review can approve again.
        verdict=wp.verdict if wp.result is Result.PARKED else None,
        votes=wp.votes if wp.result is Result.PARKED else (),
    )
