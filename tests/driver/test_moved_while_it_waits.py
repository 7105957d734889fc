"""No agent is paid for a work package that is known to have been moved while it waited."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from tests.driver.builders import Stage, longer
from tests.driver.troubles import at, attempts, beside

from spec_kitty_orchestrator.core.model import Lane, Outcome, Role
from spec_kitty_orchestrator.errors import HostRefusal
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]
OTHERS = Play(seconds=400)
LIMITED = Play(outcome=Outcome.RATE_LIMITED, retry_after_s=200.0)
OVERLOADED = Play(outcome=Outcome.OVERLOADED)
SLOW = longer(retry_base_s=100.0)


WAITS = {
    "a back-off of its implementer": (Role.IMPLEMENT, OVERLOADED),
    "a back-off of its reviewer": (Role.REVIEW, OVERLOADED),
    "the quota of its implementer": (Role.IMPLEMENT, LIMITED),
    "the quota of its reviewer": (Role.REVIEW, LIMITED),
}


def a_mission(stage: Make, waits_for: str) -> Stage:
    """WP02 works for long; WP04 waits for WP03, which somebody else reviews: so the mission is polled."""

    role, play = WAITS[waits_for]

    def script(request: AttemptRequest) -> Play:
        if request.wp_id == "WP01" and request.role is role:
            return play if request.number == (1 if role is Role.IMPLEMENT else 2) else OTHERS
        return OTHERS if request.wp_id == "WP02" else Play()

    mission = stage({"WP01": (), "WP02": (), "WP03": (), "WP04": ("WP03",)}, script, policy=SLOW)
    mission.host.lanes["WP03"] = Lane.IN_REVIEW
    return mission


@pytest.mark.parametrize("lane", [Lane.CANCELED, Lane.BLOCKED, Lane.APPROVED, Lane.DONE])
@pytest.mark.parametrize("waits_for", WAITS)
async def test_what_was_settled_meanwhile_gets_no_agent(stage: Make, waits_for: str, lane: Lane) -> None:
    mission = a_mission(stage, waits_for)
    before: list[int] = []

    def person() -> None:
        before.append(len(attempts(mission, "WP01")))
        mission.host.lanes["WP01"] = lane

    result = await beside(
        mission.run(poll_interval_s=5.0),
        at(20, person),
        at(300, lambda: mission.host.lanes.update(WP03=Lane.DONE)),
    )
    assert len(attempts(mission, "WP01")) == before[0]
    assert mission.host.lanes["WP01"] is lane
    assert result.state.lanes["WP01"] is lane


@pytest.mark.parametrize("lane", [Lane.PLANNED, Lane.FOR_REVIEW])
async def test_what_was_moved_to_another_stage_is_taken_up_there(stage: Make, lane: Lane) -> None:
    mission = a_mission(stage, "a back-off of its implementer")
    result = await beside(
        mission.run(poll_interval_s=5.0),
        at(20, lambda: mission.host.lanes.update(WP01=lane)),
        at(300, lambda: mission.host.lanes.update(WP03=Lane.DONE)),
    )
    assert result.exit_code == 0
    roles = [one.role for one in mission.agents.requests if one.wp_id == "WP01"]
    # Nothing was committed, so that there is nothing to review yet.
    assert roles == [Role.IMPLEMENT, Role.IMPLEMENT, Role.REVIEW]


@pytest.mark.parametrize("lane", [Lane.CANCELED, Lane.BLOCKED, Lane.DONE])
async def test_who_waits_for_an_agent_that_is_at_its_limit_is_looked_at_again(
    stage: Make, lane: Lane
) -> None:
    def script(request: AttemptRequest) -> Play:
        if request.wp_id == "WP02":
            return Play(seconds=10 if request.role is Role.IMPLEMENT else 400)
        return Play(seconds=20) if request.wp_id == "WP01" else Play()

    mission = stage({"WP01": (), "WP02": (), "WP03": (), "WP04": ("WP03",)}, script)
    mission.host.lanes["WP03"] = Lane.IN_REVIEW
    await beside(
        mission.run(poll_interval_s=5.0, max_per_agent={"rob": 1}),
        at(50, lambda: mission.host.lanes.update(WP01=lane)),
        at(300, lambda: mission.host.lanes.update(WP03=Lane.DONE)),
    )
    assert attempts(mission, "WP01") == ["ada"]


@pytest.mark.parametrize("lane", [Lane.CANCELED, Lane.BLOCKED, Lane.DONE])
async def test_who_waits_to_repeat_a_claim_is_looked_at_again(stage: Make, lane: Lane) -> None:
    mission = stage({"WP01": (), "WP02": ()}, lambda r: OTHERS if r.wp_id == "WP02" else Play())
    original = mission.host.start_implementation
    moved_at = anyio.current_time() + 20

    async def start_implementation(name: str, wp: str, *args: Any) -> object:
        if wp == "WP01" and anyio.current_time() < moved_at:
            raise HostRefusal("start-implementation", "LANE_ALLOCATION_FAILED", "a branch is being made")
        return await original(name, wp, *args)

    mission.host.start_implementation = start_implementation  # type: ignore[method-assign, assignment]
    await beside(mission.run(), at(20, lambda: mission.host.lanes.update(WP01=lane)))
    assert attempts(mission, "WP01") == []
    assert mission.host.lanes["WP01"] is lane


async def test_what_another_refusal_brought_to_light_counts_too(stage: Make) -> None:
    """Nothing is polled: WP02's own refusal makes the engine read that WP01 was canceled."""

    def script(request: AttemptRequest) -> Play:
        if request.role is Role.IMPLEMENT and request.wp_id == "WP01":
            return OVERLOADED if request.number == 1 else OTHERS
        return Play(seconds=30)

    mission = stage({"WP01": (), "WP02": ()}, script, policy=SLOW)
    mission.host.has_commit = lambda wp: wp != "WP02" or len(attempts(mission, "WP02")) > 1
    await beside(mission.run(), at(5, lambda: mission.host.lanes.update(WP01=Lane.CANCELED)))
    assert attempts(mission, "WP01") == ["ada"]
    assert mission.host.lanes == {"WP01": Lane.CANCELED, "WP02": Lane.DONE}
