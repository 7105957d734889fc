"""Which work packages run next: a pure function of what is known.

Work packages that were begun come first, then the longest remaining chain, then the id; one work package
per workspace at a time, never more than the limit, and no more attempts of an agent than it may run at once.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from spec_kitty_orchestrator.core.board import Board
from spec_kitty_orchestrator.core.commands import Claim, ClaimReview, OpenAttempt, RunAgent
from spec_kitty_orchestrator.core.lifecycle import resume
from spec_kitty_orchestrator.core.model import Lane, Policy, Role, WorkPackage, Workspace
from spec_kitty_orchestrator.core.plans import Finished, Idle, Stalled, Start

__all__ = [
    "Finished",
    "Idle",
    "Snapshot",
    "Stalled",
    "Start",
    "chains",
    "critical_path",
    "next_agent",
    "plan",
    "waves",
]


@dataclass(frozen=True)
class Snapshot:
    """What is known when the scheduler is asked.

    Attributes:
        wps: every work package of the mission, with the lane last seen.
        workspaces: those resolved so far; a work package without one cannot start yet.
        active: ids that hold a slot.
        resting: ids that wait, each with the time at which it may go on.
        now: on the clock of `resting`.
        chains: see `chains`.
        agents: see `next_agent`; only those that `per_agent` limits matter.
        per_agent: how many attempts of an agent may run at once; an agent that is missing has no limit.
        queue: ids that wait for an agent, who came first first.
    """

    wps: Mapping[str, WorkPackage]
    workspaces: Mapping[str, Workspace]
    active: AbstractSet[str]
    resting: Mapping[str, float]
    now: float
    chains: Mapping[str, int] = field(default_factory=dict)
    agents: Mapping[str, str] = field(default_factory=dict)
    per_agent: Mapping[str, int] = field(default_factory=dict)
    queue: Sequence[str] = ()


def plan(snapshot: Snapshot, limit: int) -> Start | Idle | Finished | Stalled:
    """Decide what the free slots are given to.

    A `Board` that is kept up to date gives the same answers without looking at every work package again.
    """
    board = Board(snapshot.chains, snapshot.per_agent)
    board.workspaces.update(snapshot.workspaces)
    board.resting.update(snapshot.resting)
    for one in snapshot.queue:
        board.seats.enqueue(one, snapshot.agents[one])
    for wp in snapshot.wps.values():
        board.put(wp, snapshot.agents.get(wp.id, ""))
    for one in snapshot.active:
        board.begin(one)
    return board.plan(limit, snapshot.now)


def next_agent(wp: WorkPackage, policy: Policy) -> str:
    """Return the agent whose attempt a work package runs or needs next; "" if it is far from one."""
    match resume(wp, policy):
        case RunAgent(attempt=attempt):
            return attempt.agent
        case OpenAttempt(agent=agent):
            return agent
        case Claim() if wp.lane not in (Lane.FOR_REVIEW, Lane.IN_REVIEW):
            return wp.agent(Role.IMPLEMENT, policy)
        case Claim() | ClaimReview():
            return wp.agent(Role.REVIEW, policy)
        case _:
            return ""


def chains(dependencies: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """Return for each id the number of work packages on the longest chain that starts with it.

    Members of a dependency cycle count as if the edge that closes it did not exist.
    """
    dependents = _dependents(dependencies)
    length: dict[str, int] = {}
    for wave in reversed(waves(dependencies)):
        for one in wave:
            length[one] = 1 + max((length.get(other, 0) for other in dependents[one]), default=0)
    return {one: length.get(one, 1) for one in dependencies}


def waves(dependencies: Mapping[str, tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Return the ids in waves: each needs only ids of earlier waves. Members of cycles are left out."""
    order = {one: place for place, one in enumerate(dependencies)}
    dependents = _dependents(dependencies)
    missing = {one: sum(other in order for other in needed) for one, needed in dependencies.items()}
    found: list[tuple[str, ...]] = []
    wave = [one for one, count in missing.items() if not count]
    while wave:
        found.append(tuple(wave))
        freed = []
        for one in wave:
            for other in dependents[one]:
                missing[other] -= 1
                if not missing[other]:
                    freed.append(other)
        wave = sorted(freed, key=order.__getitem__)
    return tuple(found)


def _dependents(dependencies: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    dependents: dict[str, list[str]] = {one: [] for one in dependencies}
    for one, needed in dependencies.items():
        for other in needed:
            if other in dependents:
                dependents[other].append(one)
    return dependents


def critical_path(dependencies: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return a longest chain of ids, first to last; the smallest id where several are as long."""
    length = chains(dependencies)
    path: list[str] = []
    candidates = [one for wave in waves(dependencies)[:1] for one in wave]
    while candidates:
        best = min(candidates, key=lambda one: (-length[one], one))
        path.append(best)
        candidates = [
            one for one, needed in dependencies.items() if best in needed and length[one] == length[best] - 1
        ]
    return tuple(path)
