"""The real host's state machine as it was observed: which edges exist, and what each of them demands.

What the host would let by for evidence or a reference of feedback is refused: we send none of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from spec_kitty_orchestrator.core.model import Lane, PolicyMetadata
from spec_kitty_orchestrator.core.verdict import APPROVED, CHANGES_REQUESTED
from spec_kitty_orchestrator.ports import ReviewResult

__all__ = ["EDGES", "NEED_POLICY", "Asked", "Transition", "objection", "policy_error", "usage_error"]

EDGES: Mapping[Lane, frozenset[Lane]] = {
    Lane.PLANNED: frozenset({Lane.CLAIMED, Lane.BLOCKED, Lane.CANCELED}),
    Lane.CLAIMED: frozenset({Lane.IN_PROGRESS, Lane.BLOCKED, Lane.CANCELED}),
    Lane.IN_PROGRESS: frozenset({Lane.FOR_REVIEW, Lane.PLANNED, Lane.APPROVED, Lane.BLOCKED, Lane.CANCELED}),
    Lane.FOR_REVIEW: frozenset({Lane.IN_REVIEW, Lane.BLOCKED, Lane.CANCELED}),
    Lane.IN_REVIEW: frozenset(
        {Lane.APPROVED, Lane.DONE, Lane.IN_PROGRESS, Lane.PLANNED, Lane.BLOCKED, Lane.CANCELED}
    ),
    Lane.APPROVED: frozenset({Lane.DONE, Lane.IN_PROGRESS, Lane.PLANNED, Lane.BLOCKED, Lane.CANCELED}),
    Lane.BLOCKED: frozenset({Lane.IN_PROGRESS, Lane.CANCELED}),
    Lane.DONE: frozenset(),
    Lane.CANCELED: frozenset(),
}
"""The edges that need no force."""

NEED_POLICY = frozenset({Lane.CLAIMED, Lane.IN_PROGRESS, Lane.FOR_REVIEW, Lane.IN_REVIEW, Lane.APPROVED})
"""The lanes that cannot be asked for without policy metadata."""

_FORBIDDEN_WORDS = ("token", "secret", "key", "password", "credential")
_BANNED_FLAGS = frozenset(
    {
        "--yolo",
        "--full-auto",
        "--dangerously-bypass-approvals-and-sandbox",
        "--dangerously-skip-permissions",
    }
)
_NO_EVIDENCE = "Transition to approved/done requires evidence (reviewer identity and approval reference)"


@dataclass(frozen=True)
class Asked:
    """What a transition was asked with."""

    to: Lane
    actor: str
    note: str = ""
    review: ReviewResult | None = None
    subtasks_open: bool = False
    force: bool = False


@dataclass(frozen=True)
class Transition:
    """One transition that the fake recorded, as the real host's event log would."""

    wp: str
    from_lane: Lane
    to_lane: Lane
    actor: str
    note: str = ""
    review: ReviewResult | None = None
    policy: PolicyMetadata | None = None


def objection(lane: Lane, asked: Asked) -> str:
    """Return the host's words against a transition from `lane`, "" if it has none."""
    if asked.force:
        return "" if asked.note.strip() else "Force transitions require actor and reason"
    if asked.to not in EDGES[lane]:
        return f"Illegal transition: {lane} -> {asked.to}"
    if lane is Lane.IN_PROGRESS:
        return _leaving_in_progress(asked)
    if lane is Lane.IN_REVIEW:
        return _leaving_in_review(asked)
    if lane is Lane.APPROVED:
        return _leaving_approved(asked)
    return ""


def usage_error(review: ReviewResult | None) -> str:
    """Return the host's words against a review result that it cannot parse, "" if it can."""
    if review is None:
        return ""
    if not all(value.strip() for value in (review.reviewer, review.verdict, review.reference)):
        return "--review-result-json requires non-empty reviewer, verdict, and reference strings"
    if review.verdict not in (APPROVED, CHANGES_REQUESTED):
        return "--review-result-json verdict must be 'approved' or 'changes_requested'"
    return ""


def policy_error(policy: PolicyMetadata) -> str:
    """Return why the host does not accept a policy, "" if it does."""
    values = [
        policy.orchestrator_id,
        policy.orchestrator_version,
        policy.agent_family,
        policy.approval_mode,
        policy.sandbox_mode,
        policy.network_mode,
        *policy.dangerous_flags,
    ]
    if any(word in value.lower() for value in values for word in _FORBIDDEN_WORDS):
        return "--policy holds a value that looks like a secret"
    banned = _BANNED_FLAGS.intersection(policy.dangerous_flags)
    return f"--policy holds banned flags: {', '.join(sorted(banned))}" if banned else ""


def _leaving_in_progress(asked: Asked) -> str:
    if asked.to is Lane.FOR_REVIEW and asked.subtasks_open:
        return "Transition in_progress -> for_review requires completed subtasks or force with reason"
    if asked.to is Lane.PLANNED and not asked.note.strip():
        return "Transition in_progress -> planned requires reason"
    if asked.to is Lane.APPROVED:
        return _NO_EVIDENCE
    return ""


def _leaving_in_review(asked: Asked) -> str:
    review = asked.review
    if review is None:
        return "Transition from in_review requires review_result (structured review outcome)"
    if asked.to in (Lane.APPROVED, Lane.DONE) and review.verdict != APPROVED:
        return _NO_EVIDENCE
    return ""


def _leaving_approved(asked: Asked) -> str:
    if asked.to is Lane.DONE:
        return _NO_EVIDENCE
    if asked.to in (Lane.IN_PROGRESS, Lane.PLANNED):
        return "Transition requires review_ref (review feedback reference)"
    return ""
