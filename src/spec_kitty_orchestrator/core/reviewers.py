"""Who may review a work package, in which order, and whose approvals of its commit count."""

from typing import TYPE_CHECKING

from spec_kitty_orchestrator.core.judgement import Verdict
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.words import Outcome, Phase, Role

if TYPE_CHECKING:
    from spec_kitty_orchestrator.core.model import WorkPackage


def reviewers(wp: "WorkPackage", policy: Policy) -> tuple[str, ...]:
    """Return the reviewers in the order in which they are asked: those of another family first.

    Where the policy demands independence, nobody else is among them.
    """
    independent = tuple(one for one in policy.review_agents if _independent(wp, one, policy))
    if policy.independent_review:
        return independent
    return (*independent, *(one for one in policy.review_agents if one not in independent))


def _independent(wp: "WorkPackage", agent: str, policy: Policy) -> bool:
    if not policy.families:
        return True
    ended = zip(wp.attempts, wp.outcomes, strict=False)
    authors = {
        policy.families.get(one.agent, one.agent)
        for one, outcome in ended
        if one.role is Role.IMPLEMENT and outcome is Outcome.OK
    }
    return policy.families.get(agent, agent) not in authors


def approvals(wp: "WorkPackage", policy: Policy) -> tuple[Verdict, ...]:
    """Return the approvals that count: of the present commit, by whoever may review it."""
    return tuple(
        one
        for one in wp.votes
        if one.head == wp.head and (not policy.independent_review or _independent(wp, one.reviewer, policy))
    )


def remaining(wp: "WorkPackage", policy: Policy) -> tuple[str, ...]:
    """Return the reviewers, under review without those who have approved the commit."""
    order = reviewers(wp, policy)
    if wp.phase is not Phase.REVIEWING or not wp.votes:
        return order
    voted = {one.reviewer for one in approvals(wp, policy)}
    return tuple(one for one in order if one not in voted)
