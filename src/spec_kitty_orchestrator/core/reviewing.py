"""The edges of a work package under review: only a usable verdict for the commit under review leaves here."""

from dataclasses import replace

from spec_kitty_orchestrator.core.attempts import after_failure, close, is_fallback, skip_fallback
from spec_kitty_orchestrator.core.commands import Record, Wait
from spec_kitty_orchestrator.core.events import AgentExited, Event, Recorded, ReviewClaimed
from spec_kitty_orchestrator.core.model import Attempt, Lane, Outcome, Phase, Role, gates_told
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.refusals import answer
from spec_kitty_orchestrator.core.transitions import (
    MOST_MOVES,
    Next,
    conclude,
    cycles,
    enough_reviewers,
    gated,
    park,
    same_findings,
)
from spec_kitty_orchestrator.core.verdict import Ruling, feedback_text
from spec_kitty_orchestrator.core.work_package import (
    WorkPackage,
    approvals,
    ask_all,
    bounded,
    next_agent,
    order,
    pass_over,
    reviewed,
    unvoted,
    worked,
)


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
    if len(approvals(wp, policy)) < policy.review_quorum:
        # The policy has become stricter since.
        return gated(reviewed(wp, verdict=None), Phase.REVIEWING, policy)
    return gated(wp, Phase.RECORDING, policy)


def review_ended(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Take the verdict of a finished review; it waits where the host refused to be told of the review."""
    assert isinstance(event, AgentExited)
    refused = event.refused
    if refused is None or refused.lane is Lane.IN_REVIEW:
        return _judged(replace(reviewed(wp, claimed=True), lane=Lane.IN_REVIEW), event, policy)
    following = _judged(replace(wp, lane=refused.lane), event, policy)
    wp = following[0] if isinstance(following, tuple) else following
    if wp.phase is Phase.PARKING:
        return wp
    answered = answer(replace(wp, phase=Phase.CLAIMING_REVIEW), refused, policy)
    rests = [one[1] for one in (following, answered) if isinstance(one, tuple) and isinstance(one[1], Wait)]
    if len(rests) < 2 or not isinstance(answered, tuple):
        return (answered, rests[0]) if rests and isinstance(answered, WorkPackage) else answered
    return answered[0], max(rests, key=lambda one: one.seconds or 0.0)


def _judged(wp: WorkPackage, event: AgentExited, policy: Policy) -> Next:
    wp, attempt = close(wp, event)
    if event.report.outcome is Outcome.CANCELED:
        return after_failure(wp, event, policy)
    if event.tampered:
        void = after_failure(wp, event, policy) if event.report.outcome is Outcome.RATE_LIMITED else None
        return void or _useless(wp, attempt, "the review is void: " + ", ".join(event.tampered[:5]), policy)
    if event.report.outcome is not Outcome.OK:
        return after_failure(wp, event, policy)
    verdict = event.verdict
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
    following = enough_reviewers(wp, policy)
    return ready_to_record(following, policy) if following.phase is Phase.RECORDING else following


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
        note = "\n\n".join(
            filter(None, (f"{verdict.reviewer} approved {verdict.head}", gates_told(wp.work.gates)))
        )
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
    rescued = (*wp.rescued, event.rescued) if event.rescued else wp.rescued
    return conclude(replace(bounded(wp, tries=0), lane=event.lane, rescued=rescued), policy)
