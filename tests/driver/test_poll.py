"""The mission is read again only while somebody else may free work that a free slot could take."""

from collections.abc import Callable
from itertools import pairwise
from typing import NoReturn

import anyio
import pytest
from tests.driver.builders import Stage, scripted

from spec_kitty_orchestrator.core.model import Lane, MissionState, Role
from spec_kitty_orchestrator.driver.engine import POLL_INTERVAL_S
from spec_kitty_orchestrator.driver.mission import PATIENCE_S
from spec_kitty_orchestrator.errors import HostCrash
from spec_kitty_orchestrator.ports import OneLine
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


@pytest.mark.parametrize("answers", [True, False])
async def test_a_slow_host_is_asked_by_one_look_at_a_time(stage: Make, answers: bool) -> None:
    mission = stage(BESIDE, lambda r: Play(seconds=100_000))
    mission.host.lanes["WP01"] = Lane.CANCELED
    engine, state, real = mission.orchestrator(), await mission.host.mission_state("demo"), []
    asked, busy = mission.host.mission_state, 0

    async def slow(slug: str) -> MissionState:
        nonlocal busy
        busy += 1
        real.append(busy)
        await anyio.sleep(40)
        busy -= 1
        if not answers:
            raise HostCrash("mission-state", "Traceback")
        return await asked(slug)

    mission.host.mission_state = slow  # type: ignore[method-assign, assignment]
    with anyio.move_on_after(7200):
        await engine.run(state)
    assert set(real) == {1}
    assert 20 <= len(real) <= 1 + 7200 / (40 + POLL_INTERVAL_S if answers else 40)


async def test_a_host_that_is_away_holds_up_the_end_of_a_run_no_longer_than_its_patience(stage: Make) -> None:
    mission = stage(BESIDE, lambda r: Play(seconds=3600))
    mission.host.lanes["WP01"] = Lane.CANCELED
    engine, state = mission.orchestrator(), await mission.host.mission_state("demo")

    async def down(*_: object, **__: object) -> NoReturn:
        await anyio.sleep(1)
        raise HostCrash("spec-kitty", "Traceback")

    began = anyio.current_time()
    async with anyio.create_task_group() as tg:
        tg.start_soon(cut_off, mission, down)
        with pytest.raises(HostCrash):
            await engine.run(state)
    assert anyio.current_time() - began < 3600 + 4 * (sum(PATIENCE_S) + 5)


async def cut_off(mission: Stage, down: Callable[..., object]) -> None:
    await anyio.sleep(60)
    for call in ("mission_state", "transition", "start_review"):
        setattr(mission.host, call, down)


async def test_a_busy_run_puts_no_look_off(stage: Make) -> None:
    chains = {f"WP{n:02}": (f"WP{n - 4:02}",) if n > 6 else () for n in range(3, 60)}
    mission = stage(
        {"WP01": (), "WP02": ("WP01",), **chains},
        lambda r: Play(seconds=3 + len(r.wp_id + r.id) % 5 + r.number),
        max_concurrent=6,
        latency_s=0.3,
    )
    mission.host.lanes["WP01"] = Lane.BLOCKED
    engine, appended, looks = mission.orchestrator(), mission.journal.append, [anyio.current_time()]
    look = engine._look

    async def append(line: OneLine) -> OneLine:
        await anyio.sleep(0.02)
        return await appended(line)

    async def seen() -> None:
        looks.append(anyio.current_time())
        await look()

    mission.journal.append = append  # type: ignore[method-assign]
    engine._look = seen  # type: ignore[method-assign]
    await engine.run()
    assert len(looks) > 3
    assert max(later - one for one, later in pairwise(looks)) < POLL_INTERVAL_S + 5
