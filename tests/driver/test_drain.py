"""A drained run starts nothing more, lets its agents end and keeps what they did."""

from collections.abc import Callable
from signal import SIGINT, SIGTERM

import anyio
import pytest
from tests.driver.builders import Stage

from spec_kitty_orchestrator.core.model import Lane, Role
from spec_kitty_orchestrator.driver.engine import Orchestrator
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.testing.scripted_agents import Play

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]


async def closed(engine: Orchestrator, *calls: tuple[float, Callable[[int], None], int]) -> RunResult:
    """Run, and call these after so many seconds each."""
    results: list[RunResult] = []

    async def run() -> None:
        results.append(await engine.run())

    with anyio.fail_after(10_000):
        async with anyio.create_task_group() as tg:
            tg.start_soon(run)
            for after_s, call, signum in calls:
                await anyio.sleep(after_s)
                call(signum)
    return results[0]


async def test_draining_lets_the_implementer_end_submits_its_work_and_starts_no_review(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",)}, lambda r: Play(seconds=100))
    engine = mission.orchestrator()
    result = await closed(engine, (10, engine.drain, SIGTERM))
    assert (result.exit_code, result.interrupted) == (143, SIGTERM)
    assert mission.agents.graces == []
    assert [one.role for one in mission.agents.requests] == [Role.IMPLEMENT]
    assert mission.host.lanes["WP01"] is Lane.FOR_REVIEW
    assert (await mission.run()).exit_code == 0
    assert [one.role for one in mission.agents.requests if one.wp_id == "WP01"] == [
        Role.IMPLEMENT,
        Role.REVIEW,
    ]


async def test_draining_records_the_verdict_of_a_running_review_and_starts_no_dependent(stage: Make) -> None:
    script = lambda r: Play(seconds=100 if r.role is Role.REVIEW else 1)  # noqa: E731
    mission = stage({"WP01": (), "WP02": ("WP01",)}, script)
    engine = mission.orchestrator()
    result = await closed(engine, (50, engine.drain, SIGINT))
    assert result.exit_code == 130
    assert mission.host.lanes == {"WP01": Lane.DONE, "WP02": Lane.PLANNED}


async def test_a_signal_after_the_first_stops_what_is_drained(stage: Make) -> None:
    mission = stage({"WP01": ()}, lambda r: Play(seconds=5000))
    engine = mission.orchestrator()
    began = anyio.current_time()
    result = await closed(engine, (10, engine.drain, SIGTERM), (10, engine.interrupt, SIGTERM))
    assert result.exit_code == 143
    assert len(mission.agents.graces) == 1
    assert anyio.current_time() - began < 100
