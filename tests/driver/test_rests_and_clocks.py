"""A rest of a running run passes on the loop's clock, and a run that may not wait ends at once."""

from collections.abc import Callable

import anyio
import pytest
from tests.driver.builders import Stage, longer
from tests.driver.troubles import HOUR_S, SteppingClock, attempts

from spec_kitty_orchestrator.core.model import Lane, Outcome, Role
from spec_kitty_orchestrator.core.policy import Budget, OnRateLimit, Patience
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]
STOP, WAIT = Patience(OnRateLimit.STOP), Patience(OnRateLimit.WAIT)
BACK_H = [-24.0 * 365, -24.0, -1.0]
FORWARD_H = [1.0, 24.0, 24.0 * 365]


class Limited:
    """Agents whose quota is used up for so long after the first attempt; every attempt is timed."""

    def __init__(self, agent: str, told_s: float | None, lasts_s: float) -> None:
        self.agent, self.told_s, self.lasts_s = agent, told_s, lasts_s
        self.starts: list[float] = []

    def __call__(self, request: AttemptRequest) -> Play:
        if request.agent != self.agent:
            return Play()
        self.starts.append(anyio.current_time())
        limited = self.starts[-1] < self.starts[0] + self.lasts_s
        return Play(outcome=Outcome.RATE_LIMITED, retry_after_s=self.told_s) if limited else Play()


@pytest.mark.parametrize("hours", BACK_H)
@pytest.mark.parametrize("told_s", [None, 600.0, 3 * HOUR_S])
@pytest.mark.parametrize("agent", ["ada", "rob"])
async def test_a_clock_that_is_set_back_during_a_rest_neither_ends_the_run_nor_moves_the_rest(
    stage: Make, agent: str, told_s: float | None, hours: float
) -> None:
    limited = Limited(agent, told_s, lasts_s=30)
    mission = stage({"WP01": ()}, limited)
    result = await mission.run(clock=SteppingClock(hours, after_s=30))
    assert (result.exit_code, result.ended) == (0, "")
    assert limited.starts[1] - limited.starts[0] == pytest.approx(1 + (told_s or 60.0), abs=2)


@pytest.mark.parametrize("hours", FORWARD_H)
@pytest.mark.parametrize("told_s", [None, 600.0, 3 * HOUR_S])
async def test_a_clock_that_is_set_forward_during_a_rest_ends_no_run_and_lengthens_no_rest(
    stage: Make, told_s: float | None, hours: float
) -> None:
    """It may be tried earlier: while a machine sleeps, only the loop's clock stands still."""
    limited = Limited("ada", told_s, lasts_s=30)
    mission = stage({"WP01": ()}, limited)
    result = await mission.run(clock=SteppingClock(hours, after_s=30))
    assert (result.exit_code, result.ended) == (0, "")
    assert limited.starts[1] - limited.starts[0] <= 1 + (told_s or 60.0) + 2


@pytest.mark.parametrize("hours", BACK_H)
async def test_a_clock_that_is_set_back_does_not_change_for_how_long_quotas_are_waited_for(
    stage: Make, hours: float
) -> None:
    limited = Limited("ada", 2 * HOUR_S, lasts_s=1e9)
    mission = stage({"WP01": ()}, limited)
    began = anyio.current_time()
    result = await mission.run(
        clock=SteppingClock(hours, after_s=30), patience=Patience(max_wait_s=HOUR_S * 3)
    )
    assert result.exit_code == 75
    assert len(limited.starts) == 2
    assert anyio.current_time() - began == pytest.approx(2 * HOUR_S, abs=5)


@pytest.mark.parametrize("hours", [-24.0, 24.0])
async def test_a_clock_that_is_set_does_not_spend_the_time_of_the_run(stage: Make, hours: float) -> None:
    mission = stage({"WP01": ()}, lambda r: Play(seconds=100))
    budget = Budget(max_duration_s=1000.0)
    result = await mission.run(clock=SteppingClock(hours, after_s=30), budget=budget)
    assert (result.exit_code, result.ended) == (0, "")


@pytest.mark.parametrize("hours", [-24.0, 24.0])
async def test_a_clock_that_is_set_does_not_move_a_back_off(stage: Make, hours: float) -> None:
    starts: list[float] = []

    def script(request: AttemptRequest) -> Play:
        if request.role is Role.REVIEW:
            return Play()
        starts.append(anyio.current_time())
        return Play(outcome=Outcome.OVERLOADED) if len(starts) == 1 else Play()

    mission = stage({"WP01": ()}, script, policy=longer(retry_base_s=100.0))
    assert (await mission.run(clock=SteppingClock(hours, after_s=30))).exit_code == 0
    assert 80 <= starts[1] - starts[0] <= 125


async def test_a_run_that_may_not_wait_ends_at_once_when_only_new_work_is_left(stage: Make) -> None:
    limited = Limited("ada", 2 * HOUR_S, lasts_s=HOUR_S)
    mission = stage(
        {"WP01": (), "WP02": ()}, limited, max_concurrent=1, lane_ids={"WP01": "lane-1", "WP02": "lane-1"}
    )
    assert (await mission.run(patience=STOP)).exit_code == 75
    mission.host.lanes["WP01"] = Lane.BLOCKED
    began = anyio.current_time()
    result = await mission.run(patience=STOP)
    assert anyio.current_time() - began < 10
    assert result.exit_code == 75
    assert "ada" in result.ended
    assert attempts(mission) == ["ada"]


async def test_a_resumed_run_that_may_not_wait_ends_at_once_though_nothing_was_begun(stage: Make) -> None:
    limited = Limited("ada", 2 * HOUR_S, lasts_s=HOUR_S)
    mission = stage({"WP01": (), "WP02": (), "WP03": ()}, limited, max_concurrent=1)
    assert (await mission.run(patience=STOP)).exit_code == 75
    for wp, lane in mission.host.lanes.items():
        if lane is not Lane.PLANNED:
            mission.host.lanes[wp] = Lane.CANCELED
    began = anyio.current_time()
    assert (await mission.run(patience=STOP)).exit_code == 75
    assert anyio.current_time() - began < 10


async def test_a_run_that_may_not_wait_still_lets_others_work_and_then_ends(stage: Make) -> None:
    """The limit is met by WP01 while WP02 is at work; what is left then is new work alone."""

    def script(request: AttemptRequest) -> Play:
        if request.wp_id == "WP01" and request.role is Role.IMPLEMENT:
            return Play(outcome=Outcome.RATE_LIMITED, retry_after_s=2 * HOUR_S)
        return Play(seconds=50)

    mission = stage({"WP01": (), "WP02": (), "WP03": ()}, script, max_concurrent=2)
    began = anyio.current_time()
    assert (await mission.run(patience=STOP)).exit_code == 75
    assert anyio.current_time() - began < 200
    assert mission.agents.graces == []
    assert attempts(mission, "WP03") == []


async def test_new_work_that_depends_on_what_is_blocked_is_no_reason_to_wait_for_a_quota(stage: Make) -> None:
    limited = Limited("ada", 2 * HOUR_S, lasts_s=HOUR_S)
    mission = stage({"WP01": (), "WP02": ("WP01",)}, limited)
    assert (await mission.run(patience=STOP)).exit_code == 75
    mission.host.lanes["WP01"] = Lane.BLOCKED
    began = anyio.current_time()
    result = await mission.run(patience=STOP)
    assert anyio.current_time() - began < 10
    assert result.exit_code == 1
