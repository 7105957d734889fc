"""The mission is read again only while somebody else may free work that a free slot could take."""

from collections.abc import Callable

import anyio
import pytest
from tests.driver.builders import Stage, scripted

from spec_kitty_orchestrator.core.model import Lane, Role
from spec_kitty_orchestrator.errors import HostCrash
from spec_kitty_orchestrator.testing.scripted_agents import Play

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]

BESIDE = {"WP01": (), "WP02": ("WP01",), "WP03": ()}


async def reads_of(mission: Stage, moment: float = 1000.0, **changes: object) -> int:
    with anyio.move_on_after(moment):
        await mission.orchestrator(**changes).run()
    return mission.calls()["mission-state"]


@pytest.mark.parametrize("interval_s", [30.0, 100.0])
async def test_what_a_person_unblocks_starts_within_an_interval(stage: Make, interval_s: float) -> None:
    mission = stage(BESIDE, scripted(WP03_implement=Play(seconds=1000)))
    mission.host.lanes["WP01"] = Lane.BLOCKED
    began = anyio.current_time()
    started: list[float] = []

    async def person() -> None:
        await anyio.sleep(205)
        mission.host.lanes["WP01"] = Lane.DONE

    def implement(_: object) -> Play:
        started.append(anyio.current_time() - began)
        return Play()

    mission.agents.script = scripted(WP03_implement=Play(seconds=1000), WP02_implement=implement)
    async with anyio.create_task_group() as tg:
        tg.start_soon(person)
        assert (await mission.run(poll_interval_s=interval_s)).exit_code == 0
    assert 205 < started[0] <= 205 + interval_s + 1


async def test_it_reads_once_an_interval(stage: Make) -> None:
    mission = stage(BESIDE, lambda r: Play(seconds=10_000), latency_s=1.0)
    mission.host.lanes["WP01"] = Lane.CANCELED
    assert await reads_of(mission, 1000.0, poll_interval_s=100.0) == 1 + 9


@pytest.mark.parametrize("lane", [Lane.BLOCKED, Lane.CANCELED, Lane.IN_REVIEW])
async def test_it_never_reads_while_all_slots_work(stage: Make, lane: Lane) -> None:
    mission = stage(BESIDE, lambda r: Play(seconds=10_000), max_concurrent=1)
    mission.host.lanes["WP01"] = lane
    assert await reads_of(mission) == 1


async def test_it_never_reads_while_nobody_else_could_free_work(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",), "WP03": ()}, lambda r: Play(seconds=10_000))
    assert await reads_of(mission) == 1
    stopped = stage({"WP01": (), "WP03": ()}, lambda r: Play(seconds=10_000))
    stopped.host.lanes["WP01"] = Lane.CANCELED
    assert await reads_of(stopped) == 1


async def test_a_worktree_that_another_actor_holds_is_waited_for(stage: Make) -> None:
    mission = stage(
        {"WP01": (), "WP02": (), "WP03": ()},
        scripted(WP03_implement=Play(seconds=1000)),
        lane_ids={"WP01": "lane-a", "WP02": "lane-a"},
    )
    policy = mission.agents.policy("x", Role.IMPLEMENT)
    await mission.host.start_implementation("demo", "WP01", "somebody", policy)

    async def somebody() -> None:
        await anyio.sleep(100)
        mission.host.lanes["WP01"] = Lane.DONE

    async with anyio.create_task_group() as tg:
        tg.start_soon(somebody)
        assert (await mission.run()).exit_code == 0
    assert set(mission.host.lanes.values()) == {Lane.DONE}


async def test_a_look_that_fails_stops_nobody(stage: Make) -> None:
    mission = stage(BESIDE, lambda r: Play(seconds=2000))
    mission.host.lanes["WP01"] = Lane.CANCELED
    state = mission.host._state("demo")
    for _ in range(10):
        mission.host.fail_next("mission-state", HostCrash("mission-state", "Traceback"))
    with anyio.fail_after(100_000):
        result = await mission.orchestrator().run(state)
    assert mission.host.lanes["WP03"] is Lane.DONE
    assert result.exit_code == 1
    assert any("could not be read again" in one for one in mission.watcher.messages)


async def test_who_was_claimed_ahead_is_not_taken_for_somebody_elses(stage: Make) -> None:
    mission = stage(
        {"WP01": (), "WP02": (), "WP03": (), "WP04": ("WP03",)},
        scripted(WP01_implement=Play(seconds=100), WP02_implement=Play(seconds=100)),
        max_concurrent=1,
    )
    mission.host.lanes["WP03"] = Lane.BLOCKED
    result = await mission.run(poll_interval_s=5.0)
    assert result.exit_code == 1
    assert mission.host.lanes["WP02"] is Lane.DONE
