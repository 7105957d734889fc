"""The transitions that several edges share: take up, go on to gates or a review, send back, park, finish."""

import re
from collections.abc import Iterable
from dataclasses import replace

from spec_kitty_orchestrator.core.commands import Resolve, Wait
from spec_kitty_orchestrator.core.model import Evidence, GateResult, Lane, Outcome, Phase, Result, Role
from spec_kitty_orchestrator.core.policy import Gate, Policy
from spec_kitty_orchestrator.core.retry import UNCHARGED
from spec_kitty_orchestrator.core.verdict import Feedback, FeedbackSource, Ruling, Verdict, feedback_text
from spec_kitty_orchestrator.core.work_package import (
    Bounds,
    WorkPackage,
    approvals,
    ask_all,
    bounded,
    order,
    reviewed,
    reviewers,
    unvoted,
    worked,
)

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

LONGEST_QUOTE = 300

_POSITION = re.compile(r"\blines?\s+\d+(\s*[-\u2013]\s*\d+)?|:\d+")
"""Where in a file something is, which changes when anything above it does."""

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


def unproven(gates: Iterable[Gate], results: Iterable[GateResult], head: str) -> tuple[str, ...]:
    """Name the gates that have not passed on this very commit as they are now."""
    green = {(one.name, one.command) for one in results if one.ok and one.head == head}
    return tuple(one.name for one in gates if (one.name, one.command) not in green)


def gated(wp: WorkPackage, phase: Phase, policy: Policy) -> WorkPackage:
    """Go on to `phase`, unless the gates have yet to pass on the commit that it is about."""
    if unproven(policy.gates, wp.work.gates, wp.work.head):
        return replace(wp, phase=Phase.GATING)
    wp = replace(wp, phase=phase)
    return enough_reviewers(wp, policy) if phase is Phase.REVIEWING else wp


def enough_reviewers(wp: WorkPackage, policy: Policy) -> WorkPackage:
    """Record the approval if enough reviewers gave theirs; else go on to review if enough are left."""
    votes, left = approvals(wp, policy), len(order(wp, Role.REVIEW, policy))
    have, quorum = len(votes), policy.review_quorum
    if have >= quorum:
        phase = Phase.RECORDING if wp.lane is Lane.IN_REVIEW else Phase.CLAIMING_REVIEW
        return replace(reviewed(wp, verdict=joined(votes)), phase=phase)
    if left > 0 and have + left >= quorum:
        return wp
    if not reviewers(wp, policy):
        reason = f"no reviewer is of another family than the implementer of {wp.work.head}"
    else:
        reason = f"{have} of {quorum} reviewers approved {wp.work.head}, and {left} are left to ask"
    why = f" ({wp.note})" if wp.note else ""
    return park(wp, f"{reason}; a person must review it{why}", blocks=False)


def joined(votes: tuple[Verdict, ...]) -> Verdict:
    """Return the approval of several reviewers as one, bound to the last one's attempt."""
    last = votes[-1]
    if len(votes) == 1:
        return last
    names = ", ".join(one.reviewer for one in votes)
    summary = "\n\n".join(f"{one.reviewer}: {one.summary}" for one in votes if one.summary)
    return Verdict(Ruling.APPROVED, last.head, last.attempt_id, names, summary)


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


def cycles(wp: WorkPackage) -> int:
    """Count the rejections that `max_review_cycles` bounds."""
    return len(wp.review.rejected) - wp.bounds.rejected_from


def conclude(wp: WorkPackage, policy: Policy) -> WorkPackage:
    """Act on a verdict that the host has recorded; `wp.lane` is where that put the work package."""
    verdict = wp.review.verdict
    assert verdict is not None
    if verdict.ruling is Ruling.APPROVED:
        return finish(wp, Result(wp.lane.value), f"{verdict.reviewer} approved {verdict.head}")
    repeated = same_findings(wp, verdict)
    rejected = (*wp.review.rejected, verdict)
    wp = reviewed(wp, rejected=rejected, verdict=None, rejected_tree=wp.work.tree)
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
    # A recorded verdict is used up: if a person undoes it, only another review can approve again.
    wp = wp if wp.result is Result.PARKED else unvoted(wp)
    bounds = Bounds(attempts_from=len(wp.attempts), rejected_from=len(wp.review.rejected))
    wp = replace(wp, result=None, skipped=False, bounds=bounds)
    if wp.untold:
        return replace(wp, phase=Phase.PARKING, untold=False, note=wp.note.partition(UNTOLD)[0])
    # Finished work goes on where it waits: nobody pays for it again.
    return replace(wp, phase=wp.work.pending or Phase.WAITING, note="")


def same_findings(wp: WorkPackage, verdict: Verdict) -> str:
    """Say that the last review of this start asked for just the same, "" if it did not.

    Reviews without findings are never the same: a summary often says no more than "changes are needed".
    """
    rejected = wp.review.rejected[wp.bounds.rejected_from :]
    if not rejected or not verdict.findings or _asked(rejected[-1]) != _asked(verdict):
        return ""
    last = rejected[-1]
    return (
        f"two reviews in a row ask for the same: {last.reviewer} of {last.head} and {verdict.reviewer} of "
        f"{verdict.head}: {_quote(verdict)}"
    )


def same_content(wp: WorkPackage, found: Evidence) -> str:
    """Say that the commit holds just what the last review of this start rejected, "" if it does not."""
    rejected = wp.review.rejected[wp.bounds.rejected_from :]
    if not rejected or not found.tree or found.tree != wp.review.rejected_tree:
        return ""
    last = rejected[-1]
    reason = wp.work.report.no_change_reason or wp.work.report.summary or "nothing"
    return (
        f"the same content twice in a row: {found.head} holds what {last.reviewer} rejected in {last.head}; "
        f"the reviewer asks: {_quote(last)}; the implementer says: {_line(reason)}"
    )


def _asked(verdict: Verdict) -> frozenset[tuple[str, str, str]]:
    """Reduce what is asked for to what stays the same when lines move and words are set otherwise."""
    return frozenset((one.severity.lower(), one.file, _words(one.message)) for one in verdict.findings)


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", _POSITION.sub(" ", text.lower())))


def _quote(verdict: Verdict) -> str:
    return _line(feedback_text(verdict))


def _line(text: str) -> str:
    return " ".join(text.split())[:LONGEST_QUOTE]
