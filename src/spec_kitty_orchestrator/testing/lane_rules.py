"""The real host's state machine as it was observed: which edges exist, and what each of them demands."""

from collections.abc import Mapping
from dataclasses import dataclass

from spec_kitty_orchestrator.core.model import APPROVED, CHANGES_REQUESTED, Lane, PolicyMetadata
from spec_kitty_orchestrator.ports import ReviewResult

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
    force: bool = False
    review: ReviewResult | None = None
    evidence: Mapping[str, object] | None = None
    review_ref: str = ""
    subtasks_open: bool = False


@dataclass(frozen=True)
class Transition:
    """One transition that the fake recorded, as the real host's event log would."""

    wp: str
    from_lane: Lane
    to_lane: Lane
    actor: str
    note: str = ""
    force: bool = False
    review: ReviewResult | None = None
    evidence: Mapping[str, object] | None = None
    review_ref: str = ""
    policy: PolicyMetadata | None = None


def objection(lane: Lane, asked: Asked) -> str:
    """Return the host's words against a transition from `lane`, "" if it has none."""
    if asked.force:
        has_reason = asked.actor.strip() and asked.note.strip()
        return "" if has_reason else "Force transitions require actor and reason"
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
    if asked.to is Lane.APPROVED and not _approves(asked.evidence):
        return _NO_EVIDENCE
    return ""


def _leaving_in_review(asked: Asked) -> str:
    review = asked.review
    if review is None:
        return "Transition from in_review requires review_result (structured review outcome)"
    if asked.to in (Lane.APPROVED, Lane.DONE):
        approves = review.verdict == APPROVED if asked.evidence is None else _approves(asked.evidence)
        if not approves:
            return _NO_EVIDENCE
    if asked.review_ref and asked.review_ref != review.reference:
        return "review_ref must match review_result.reference"
    if asked.evidence is not None and _review_part(asked.evidence) != (
        review.reviewer,
        review.verdict,
        review.reference,
    ):
        return "Review evidence must match review_result"
    return ""


def _leaving_approved(asked: Asked) -> str:
    if asked.to is Lane.DONE and not _approves(asked.evidence):
        return _NO_EVIDENCE
    if asked.to in (Lane.IN_PROGRESS, Lane.PLANNED) and not asked.review_ref.strip():
        return "Transition requires review_ref (review feedback reference)"
    return ""


def _review_part(evidence: Mapping[str, object]) -> tuple[object, object, object]:
    review = evidence.get("review")
    part = review if isinstance(review, Mapping) else {}
    return part.get("reviewer"), part.get("verdict"), part.get("reference")


def _approves(evidence: Mapping[str, object] | None) -> bool:
    reviewer, verdict, reference = _review_part(evidence or {})
    return bool(reviewer) and bool(reference) and verdict == APPROVED
