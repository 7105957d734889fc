"""The edges of a work package under review: only a usable verdict for the commit under review leaves here."""

from dataclasses import replace

from spec_kitty_orchestrator.core.attempts import after_failure, close, stood_in, without_stand_in
from spec_kitty_orchestrator.core.commands import Record
from spec_kitty_orchestrator.core.events import AgentExited, Event, Recorded, ReviewClaimed
from spec_kitty_orchestrator.core.gates import told
from spec_kitty_orchestrator.core.gating import gated
from spec_kitty_orchestrator.core.model import (
    Attempt,
    Lane,
    Outcome,
    Phase,
    Policy,
    Role,
    Ruling,
    WorkPackage,
)
from spec_kitty_orchestrator.core.moves import MOST_MOVES, Next, conclude, cycles, park
from spec_kitty_orchestrator.core.quorum import enough, joined
from spec_kitty_orchestrator.core.refusals import answer
from spec_kitty_orchestrator.core.reviewers import approvals
from spec_kitty_orchestrator.core.stuck import same_findings
from spec_kitty_orchestrator.core.verdict import feedback_text, read_verdict


def review_claimed(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Begin to review the range that git holds now, unless a verdict for it waits to be recorded."""
    assert isinstance(event, ReviewClaimed)
    tree = wp.tree if wp.head == event.head else ""
    claimed = replace(wp, lane=Lane.IN_REVIEW, base=event.base, head=event.head, tree=tree, tries=0)
    claimed = replace(claimed, review_claimed=True)
    if wp.verdict is not None and wp.verdict.head == event.head:
        return ready_to_record(claimed, policy)
    return gated(replace(claimed, verdict=None), Phase.REVIEWING, policy)


def ready_to_record(wp: WorkPackage, policy: Policy) -> WorkPackage:
    """Record the verdict; an approval only where enough reviewers and every gate agree on its very commit."""
    if wp.verdict is None or wp.verdict.ruling is not Ruling.APPROVED:
        return replace(wp, phase=Phase.RECORDING)
    if len(approvals(wp, policy)) < policy.review_quorum:
        # The policy has become stricter since.
        return gated(replace(wp, verdict=None), Phase.REVIEWING, policy)
    return gated(wp, Phase.RECORDING, policy)


def reviewed(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Read the verdict of a finished review; it waits where the host refused to be told of the review."""
    assert isinstance(event, AgentExited)
    refused = event.refused
    if refused is None or refused.lane is Lane.IN_REVIEW:
        return _judged(replace(wp, lane=Lane.IN_REVIEW, review_claimed=True), event, policy)
    following = _judged(replace(wp, lane=refused.lane), event, policy)
    wp = following[0] if isinstance(following, tuple) else following
    if wp.phase is Phase.PARKING:
        return wp
    return answer(replace(wp, phase=Phase.CLAIMING_REVIEW), refused, policy)


def _judged(wp: WorkPackage, event: AgentExited, policy: Policy) -> Next:
    wp, attempt = close(wp, event)
    if event.report.outcome is Outcome.CANCELED:
        return after_failure(wp, event, policy)
    if event.tampered:
        return _useless(wp, attempt, "the reviewer changed " + ", ".join(event.tampered[:5]), policy)
    if event.report.outcome is not Outcome.OK:
        return after_failure(wp, event, policy)
    verdict = read_verdict(
        event.report.text, attempt_id=attempt.id, head=attempt.head, reviewer=attempt.agent
    )
    if verdict.ruling is Ruling.UNUSABLE:
        return _useless(wp, attempt, f"{attempt.agent}'s verdict cannot be used: {verdict.summary}", policy)
    if verdict.ruling is Ruling.CHANGES_REQUESTED:
        return ready_to_record(replace(wp, verdict=verdict, votes=(), tries=0), policy)
    wp = replace(wp, votes=(*approvals(wp, policy), verdict), tries=0, note="")
    votes = approvals(wp, policy)
    if len(votes) < policy.review_quorum:
        return gated(replace(wp, unusable=0), Phase.REVIEWING, policy)
    return ready_to_record(replace(wp, verdict=joined(votes)), policy)


def head_moved(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Void a review whose commit is no longer what the branch holds."""
    assert isinstance(event, ReviewClaimed)
    reason = f"the branch moved from {wp.head} to {event.head} during the review"
    if wp.votes and policy.review_quorum > 1:
        # Whoever approved the old commit must be asked about the new one.
        wp = replace(wp, review_agent=0, moved=wp.moved + 1)
        if wp.moved > MOST_MOVES:
            return park(replace(wp, head=event.head, verdict=None, votes=()), reason, blocks=False)
    wp = gated(replace(wp, head=event.head, tree="", verdict=None, votes=()), Phase.REVIEWING, policy)
    return wp if wp.phase is Phase.PARKING else _unusable(wp, reason, policy)


def _useless(wp: WorkPackage, attempt: Attempt, reason: str, policy: Policy) -> Next:
    if stood_in(wp, attempt, policy):
        return replace(without_stand_in(wp, attempt, policy), note=reason)
    return _unusable(wp, reason, policy)


def _unusable(wp: WorkPackage, reason: str, policy: Policy) -> Next:
    wp = replace(wp, unusable=wp.unusable + 1, note=reason)
    if wp.unusable < policy.max_unusable:
        return wp
    position, agents = wp.order(Role.REVIEW, policy)
    if position + 1 < len(agents):
        return enough(replace(wp, review_agent=position + 1, unusable=0, stand_in_after=0), policy)
    return park(wp, f"no usable verdict for {wp.head}; a person must review it ({reason})", blocks=False)


def record(wp: WorkPackage, policy: Policy) -> Record:
    """Return how to tell the host the verdict: the last allowed rejection blocks."""
    assert wp.verdict is not None
    verdict = wp.verdict
    if verdict.ruling is Ruling.APPROVED:
        note = "\n\n".join(filter(None, (f"{verdict.reviewer} approved {verdict.head}", told(wp.gates))))
        return Record(verdict, policy.finish_lane, note)
    used_up = cycles(wp) + 1 >= policy.max_review_cycles
    note = f"{verdict.reviewer} requests changes of {verdict.head}\n\n{feedback_text(verdict)}"
    place = next((one.directory for one in wp.attempts if one.id == verdict.attempt_id), "")
    if place:
        note += f"\n\nthe whole review: {place}/review.md"
    repeated = same_findings(wp, verdict, policy)
    if repeated:
        note = f"parked: {repeated}\n\n{note}"
    elif used_up:
        note = f"parked after {policy.max_review_cycles} rejections\n\n{note}"
    return Record(verdict, Lane.BLOCKED if used_up or repeated else Lane.IN_PROGRESS, note)


def recorded(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Act on the verdict that the host accepted."""
    assert isinstance(event, Recorded)
    rescued = (*wp.rescued, event.rescued) if event.rescued else wp.rescued
    return conclude(replace(wp, lane=event.lane, rescued=rescued, tries=0), policy)
