"""The edges of a work package under review: only a usable verdict for the commit under review leaves here."""

import re
from collections.abc import Iterable

from spec_kitty_orchestrator.core.commands import Record
from spec_kitty_orchestrator.core.events import AgentExited, Event, NothingToReview, Recorded, ReviewClaimed
from spec_kitty_orchestrator.core.model import (
    Attempt,
    Evidence,
    GateResult,
    Lane,
    Outcome,
    Phase,
    Result,
    Role,
)
from spec_kitty_orchestrator.core.policy import Gate, Policy
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.core.roles import (
    approvals,
    ask_all,
    enough,
    next_agent,
    order,
    pass_over,
    reviewers,
)
from spec_kitty_orchestrator.core.transitions import (
    MOST_MOVES,
    Next,
    after_failure,
    finish,
    is_fallback,
    park,
    rework,
    skip_fallback,
)
from spec_kitty_orchestrator.core.verdict import Feedback, FeedbackSource, Ruling, Verdict, feedback_text
from spec_kitty_orchestrator.core.work_package import WorkPackage, bounded, reviewed, unvoted, worked

__all__ = [
    "conclude",
    "cycles",
    "gated",
    "head_moved",
    "nothing_to_review",
    "ready_to_record",
    "record",
    "recorded",
    "rejected_by_us",
    "review_claimed",
    "review_ended",
    "same_content",
    "unproven",
]

LONGEST_QUOTE = 300

NOTHING_TO_REVIEW = "nothing-to-review"
"""What stands for the attempt of a reviewer in the rejection of a commit that holds nothing."""

US = "spec-kitty-orchestrator"
"""The reviewer that the host is told of where no reviewer was asked."""

NOTHING_WRITTEN = (
    "The branch holds no work of this work package: nothing differs from where its work began. Do the work "
    "and commit it; if nothing has to change, say why in `no_change_reason`."
)

_POSITION = re.compile(r"\blines?\s+\d+(\s*[-\u2013]\s*\d+)?|:\d+")
"""Where in a file something is, which changes when anything above it does."""


def review_claimed(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Begin to review the range that git holds now, unless a verdict for it waits to be recorded."""
    assert isinstance(event, ReviewClaimed)
    tree = wp.work.tree if wp.work.head == event.head else ""
    wp = worked(wp, base=event.base, head=event.head, tree=tree)
    wp = replace(bounded(reviewed(wp, claimed=True), tries=0), lane=Lane.IN_REVIEW)
    if wp.review.verdict is not None and wp.review.verdict.head == event.head:
        return ready_to_record(wp, policy)
    return gated(reviewed(wp, verdict=None), Phase.REVIEWING, policy)


def ready_to_record(wp: WorkPackage, policy: Policy) -> WorkPackage:
    """Record the verdict; an approval only where enough reviewers and every gate agree on its very commit."""
    verdict = wp.review.verdict
    if verdict is None or verdict.ruling is not Ruling.APPROVED:
        return replace(wp, phase=Phase.RECORDING)
    if not enough(wp, policy):
        # The policy has become stricter since.
        return gated(reviewed(wp, verdict=None), Phase.REVIEWING, policy)
    return gated(wp, Phase.RECORDING, policy)


def review_ended(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Take the verdict of a finished review."""
    assert isinstance(event, AgentExited)
    attempt, outcome, verdict = wp.attempts[-1], event.report.outcome, event.verdict
    if event.tampered and outcome not in (Outcome.CANCELED, Outcome.RATE_LIMITED):
        return _useless(wp, attempt, "the review is void: " + ", ".join(event.tampered[:5]), policy)
    if outcome is not Outcome.OK:
        following = after_failure(wp, event, policy)
        if isinstance(following, tuple) or following.bounds.passed_over == wp.bounds.passed_over:
            return following
        return enough_reviewers(following, policy)
    if verdict is None or (verdict.attempt_id, verdict.head) != (attempt.id, attempt.head):
        return _useless(wp, attempt, f"{attempt.agent} gave no verdict of {attempt.head}", policy)
    if verdict.ruling is Ruling.UNUSABLE:
        return _useless(wp, attempt, f"{attempt.agent}'s verdict cannot be used: {verdict.summary}", policy)
    wp = bounded(wp, tries=0)
    if verdict.ruling is Ruling.CHANGES_REQUESTED:
        return ready_to_record(reviewed(wp, verdict=verdict, votes=()), policy)
    wp = reviewed(wp, votes=(*approvals(wp, policy), verdict))
    if len(approvals(wp, policy)) < policy.review_quorum:
        # What the last reviewers failed at is not counted against the next one.
        wp = bounded(wp, unusable=0)
    # The gates are asked last: an approval is recorded only of a commit that every one of them has passed.
    wp = enough_reviewers(wp, policy)
    return ready_to_record(wp, policy) if wp.phase is Phase.RECORDING else wp


def head_moved(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Void a review whose commit is no longer what the branch holds."""
    assert isinstance(event, ReviewClaimed)
    reason = f"the branch moved from {wp.work.head} to {event.head} during the review"
    voted = bool(wp.review.votes) and policy.review_quorum > 1
    wp = worked(unvoted(wp), head=event.head, tree="")
    if voted:
        # Whoever approved the old commit must be asked about the new one.
        wp = bounded(ask_all(wp, Role.REVIEW), moved=wp.bounds.moved + 1)
        if wp.bounds.moved > MOST_MOVES:
            return park(wp, reason, blocks=False)
    reviewer = next_agent(wp, Role.REVIEW, policy)
    wp = gated(wp, Phase.REVIEWING, policy)
    return wp if wp.phase is Phase.PARKING else _unusable(wp, reviewer, reason, policy)


def nothing_to_review(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Send it back to an implementer: a reviewer could only approve what nobody wrote."""
    assert isinstance(event, NothingToReview)
    return rejected_by_us(wp, NOTHING_TO_REVIEW, US, NOTHING_WRITTEN)


def rejected_by_us(wp: WorkPackage, reference: str, who: str, why: str) -> WorkPackage:
    """Reject what is under review without a reviewer; the host is told of the review first if it was not."""
    verdict = Verdict(Ruling.CHANGES_REQUESTED, wp.work.head, reference, who, why)
    known = wp.lane is Lane.IN_REVIEW and wp.review.claimed
    wp = bounded(reviewed(wp, verdict=verdict, votes=()), tries=0)
    return replace(wp, phase=Phase.RECORDING if known else Phase.CLAIMING_REVIEW)


def _useless(wp: WorkPackage, attempt: Attempt, reason: str, policy: Policy) -> Next:
    if is_fallback(wp, attempt, policy):
        return replace(skip_fallback(wp, attempt), note=reason)
    return _unusable(wp, attempt.agent, reason, policy)


def _unusable(wp: WorkPackage, reviewer: str, reason: str, policy: Policy) -> Next:
    wp = replace(bounded(wp, unusable=wp.bounds.unusable + 1), note=reason)
    if wp.bounds.unusable < policy.max_unusable:
        return wp
    if any(one != reviewer for one in order(wp, Role.REVIEW, policy)):
        return enough_reviewers(pass_over(wp, Role.REVIEW, reviewer), policy)
    head = wp.work.head
    return park(wp, f"no usable verdict for {head}; a person must review it ({reason})", blocks=False)


def record(wp: WorkPackage, policy: Policy) -> Record:
    """Return how to tell the host the verdict: the last allowed rejection blocks."""
    verdict = wp.review.verdict
    assert verdict is not None
    if verdict.ruling is Ruling.APPROVED:
        said = verdict.summary if verdict.by_person else ""
        parts = (f"{verdict.reviewer} approved {verdict.head}", said, wp.work.gates_told)
        note = "\n\n".join(filter(None, parts))
        return Record(verdict, policy.finish_lane, note)
    used_up = cycles(wp) + 1 >= policy.max_review_cycles
    note = f"{verdict.reviewer} requests changes of {verdict.head}\n\n{feedback_text(verdict)}"
    place = next((one.directory for one in wp.attempts if one.id == verdict.attempt_id), "")
    if place:
        note += f"\n\nthe whole review: {place}/review.md"
    repeated = same_findings(wp, verdict)
    if repeated:
        note = f"parked: {repeated}\n\n{note}"
    elif used_up:
        note = f"parked after {policy.max_review_cycles} rejections\n\n{note}"
    return Record(verdict, Lane.BLOCKED if used_up or repeated else Lane.IN_PROGRESS, note)


def recorded(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Act on the verdict that the host accepted."""
    assert isinstance(event, Recorded)
    return conclude(replace(bounded(wp, tries=0), lane=event.lane), policy)


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
    if enough(wp, policy):
        wp = reviewed(wp, verdict=joined(votes))
        if wp.lane is not Lane.IN_REVIEW:
            return replace(wp, phase=Phase.CLAIMING_REVIEW)
        return gated(wp, Phase.RECORDING, policy)
    if left > 0 and have + left >= quorum:
        return wp
    if not reviewers(wp, policy):
        reason = f"no reviewer is of another family than the implementer of {wp.work.head}"
    else:
        reason = f"{have} of {quorum} reviewers approved {wp.work.head}, and {left} are left to ask"
    why = f" ({wp.note})" if wp.note else ""
    return park(wp, f"{reason}; a person must review it{why}", blocks=False)


def joined(votes: tuple[Verdict, ...]) -> Verdict:
    """Return the approval of several reviewers as one, bound to the last one's attempt; a person's alone."""
    last = next((one for one in reversed(votes) if one.by_person), votes[-1])
    if len(votes) == 1 or last.by_person:
        return last
    names = ", ".join(one.reviewer for one in votes)
    summary = "\n\n".join(f"{one.reviewer}: {one.summary}" for one in votes if one.summary)
    return Verdict(Ruling.APPROVED, last.head, last.attempt_id, names, summary)


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
    if last.attempt_id == NOTHING_TO_REVIEW and wp.work.report.no_change_reason:
        # No reviewer has seen it yet: now there is something to judge.
        return ""
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
