"""What the active run holds back although its dependencies are complete, and why.

The run's own process knows it, and its views show it; for others it follows from the journal, the host's
lanes and the machine.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from spec_kitty_orchestrator.core.model import Lane, MissionState, Phase, Policy, Role, WorkPackage
from spec_kitty_orchestrator.core.quota import OnRateLimit, used_up
from spec_kitty_orchestrator.ports import RunStarted

_REVIEWED_NEXT = frozenset({Phase.CLAIMING_REVIEW, Phase.REVIEWING})
_IMPLEMENTED_NEXT = frozenset({Phase.WAITING, Phase.IMPLEMENTING})


def held_back(
    state: MissionState,
    known: Mapping[str, WorkPackage],
    started: RunStarted,
    shortage: str,
    resting: Mapping[str, datetime],
) -> Mapping[str, str]:
    """Say of each work package that only lacks an agent or room what it waits for.

    Args:
        state: as the host has it now.
        known: what the journal says of each work package.
        started: the start that is active, with its limits.
        shortage: what the machine is short of, "" if it has room.
        resting: agents whose quota is used up, and until when.
    """
    at_work = Counter(one.open_attempt.agent for one in known.values() if one.open_attempt is not None)
    slots = sum(_holds_a_slot(one) for one in known.values())
    reasons: dict[str, str] = {}
    for wp_id, lane in state.lanes.items():
        wp = known.get(wp_id) or WorkPackage(wp_id)
        if not _could_go_on(wp, lane, state):
            continue
        order = _order(wp, lane, started.policy)
        able = order[:1] if started.on_rate_limit != OnRateLimit.FALLBACK else order
        agent = order[0] if order else ""
        most = (started.limits_in_force or started.max_per_agent).get(agent, 0)
        if able and all(one in resting for one in able):
            first = min(able, key=resting.__getitem__)
            reasons[wp_id] = f"waits for {first}: {used_up(resting[first])}"
        elif most and at_work[agent] >= most:
            reasons[wp_id] = f"waits for {agent}: at most {most} at once"
        elif shortage and wp.phase is Phase.WAITING and slots < started.max_concurrent:
            reasons[wp_id] = f"waits for room: {shortage}"
    return reasons


def _holds_a_slot(wp: WorkPackage) -> bool:
    return wp.phase not in (Phase.WAITING, Phase.FINISHED) and not wp.rests


def _could_go_on(wp: WorkPackage, lane: Lane, state: MissionState) -> bool:
    if wp.open_attempt is not None or wp.rests or wp.phase not in _IMPLEMENTED_NEXT | _REVIEWED_NEXT:
        return False
    if lane is not Lane.PLANNED:
        return lane in (Lane.CLAIMED, Lane.IN_PROGRESS, Lane.FOR_REVIEW, Lane.IN_REVIEW)
    needed = state.dependencies.get(wp.id, ())
    return all(one in state.lanes and state.lanes[one].complete for one in needed)


def _order(wp: WorkPackage, lane: Lane, policy: Policy) -> tuple[str, ...]:
    """Return whose attempt comes next, and who may stand in; nobody where the policy has no such agent."""
    reviewed = wp.phase in _REVIEWED_NEXT or (
        wp.phase is Phase.WAITING and lane in (Lane.FOR_REVIEW, Lane.IN_REVIEW)
    )
    position, agents = wp.order(Role.REVIEW if reviewed else Role.IMPLEMENT, policy)
    return agents[position:]
