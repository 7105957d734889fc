"""Who may act in a role, who is next in it, and which approvals count."""

from spec_kitty_orchestrator.core.model import Phase, Role
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.verdict import Verdict
from spec_kitty_orchestrator.core.work_package import WorkPackage, bounded

__all__ = ["approvals", "ask_all", "enough", "last_agent", "next_agent", "order", "pass_over", "reviewers"]


def pass_over(wp: WorkPackage, role: Role, agent: str) -> WorkPackage:
    """Ask an agent no more in a role; the next of the order has a fresh count of unusable reviews."""
    passed = {**wp.bounds.passed_over, role: (*wp.bounds.passed_over.get(role, ()), agent)}
    return bounded(wp, passed_over=passed, unusable=0, skipped_fallbacks=())


def ask_all(wp: WorkPackage, role: Role) -> WorkPackage:
    """Let every agent of a role be asked again."""
    passed = {one: agents for one, agents in wp.bounds.passed_over.items() if one is not role}
    return bounded(wp, passed_over=passed)


def order(wp: WorkPackage, role: Role, policy: Policy) -> tuple[str, ...]:
    """Return the agents of a role that may still be asked, the next one first.

    Reviewers of another family than the implementers' come before the others; where the policy demands
    independence nobody else is among them. Who has approved the present commit is not asked again.
    """
    passed = wp.bounds.passed_over.get(role, ())
    if role is Role.IMPLEMENT:
        return tuple(one for one in policy.impl_agents if one not in passed) or policy.impl_agents
    voted = {one.reviewer for one in approvals(wp, policy)} if wp.phase is Phase.REVIEWING else set()
    return tuple(one for one in reviewers(wp, policy) if one not in passed and one not in voted)


def next_agent(wp: WorkPackage, role: Role, policy: Policy) -> str:
    """Return who is at work in a role, or makes its next attempt by the order."""
    if wp.open_attempt is not None and wp.open_attempt.role is role:
        return wp.open_attempt.agent
    agents = order(wp, role, policy)
    # Where nobody may, the host that wants to know the agent of a role is told the first of it.
    return agents[0] if agents else policy.review_agents[0]


def last_agent(wp: WorkPackage, role: Role, policy: Policy) -> str:
    """Return who made the last attempt in a role, if the policy still names it; else who makes the next."""
    named = policy.impl_agents if role is Role.IMPLEMENT else policy.review_agents
    made = (one.agent for one in reversed(wp.attempts) if one.role is role and one.agent in named)
    return next(made, "") or next_agent(wp, role, policy)


def reviewers(wp: WorkPackage, policy: Policy) -> tuple[str, ...]:
    """Return who may review, in the order in which they are asked: those of another family first."""
    independent = tuple(one for one in policy.review_agents if _independent(wp, one, policy))
    if policy.independent_review:
        return independent
    return (*independent, *(one for one in policy.review_agents if one not in independent))


def approvals(wp: WorkPackage, policy: Policy) -> tuple[Verdict, ...]:
    """Return the approvals that count: of the present commit, by whoever may review it."""
    return tuple(
        one
        for one in wp.review.votes
        if one.head == wp.work.head
        and (not policy.independent_review or _independent(wp, one.reviewer, policy))
    )


def enough(wp: WorkPackage, policy: Policy) -> bool:
    """Tell whether its present commit is approved: by as many reviewers as must agree, or by a person."""
    return bool(wp.approved_by) or len(approvals(wp, policy)) >= policy.review_quorum


def _independent(wp: WorkPackage, agent: str, policy: Policy) -> bool:
    """Tell whether an agent is of another family than whoever may have left edits, however it ended."""
    if not policy.families:
        return True
    authors = {
        policy.families.get(one.agent, one.agent)
        for one in wp.attempts
        if one.role is Role.IMPLEMENT and one.id not in wp.work.untouched
    }
    return policy.families.get(agent, agent) not in authors
