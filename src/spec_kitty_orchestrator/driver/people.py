"""Who claims and reviews, as the host is told: our actor, or a person with a policy that is no agent's."""

from collections.abc import Awaitable
from dataclasses import replace

from spec_kitty_orchestrator.core.commands import Record
from spec_kitty_orchestrator.core.model import Lane, PolicyMetadata
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.ports import Host, ReviewResult

__all__ = ["claim", "record", "reviewer"]


def of_person(policy: PolicyMetadata) -> PolicyMetadata:
    """Return the policy of a person, whom nothing of an agent's confines."""
    return replace(
        policy,
        agent_family="human",
        approval_mode="interactive",
        sandbox_mode="none",
        network_mode="open",
        dangerous_flags=(),
    )


def reviewer(person: str, actor: str, policy: PolicyMetadata) -> tuple[str, PolicyMetadata]:
    """Return who reviews for the host, and how: a `person`, or for "" an agent of ours."""
    return (person, of_person(policy)) if person else (actor, policy)


def claim(host: Host, mission: str, wp: WorkPackage, actor: str, policy: PolicyMetadata) -> Awaitable[object]:
    """Call the host to say that a person has it now, or that we have it again.

    Only a forced move changes who has it, and it asks for no clean worktree; before the claim there is none.
    """
    if wp.taken is not None:
        actor, policy = wp.taken.by, of_person(policy)
    planning = wp.workspace is not None and wp.workspace.planning
    if wp.lane is Lane.PLANNED and not planning:
        return host.start_implementation(mission, wp.id, actor, policy)
    return host.transition(mission, wp.id, Lane.IN_PROGRESS, actor, policy=policy, note=wp.note, force=True)


def record(
    host: Host, mission: str, wp_id: str, command: Record, actor: str, policy: PolicyMetadata
) -> Awaitable[object]:
    """Call the host to record a verdict, which is a person's or an agent's."""
    verdict = command.verdict
    review = ReviewResult(
        reviewer=verdict.reviewer,
        verdict=verdict.ruling.value,
        reference=f"{verdict.attempt_id}@{verdict.head}",
        summary=verdict.summary or verdict.ruling.value,
    )
    actor, policy = reviewer(verdict.reviewer if verdict.by_person else "", actor, policy)
    return host.transition(mission, wp_id, command.to, actor, policy=policy, note=command.note, review=review)
