"""A crash at every boundary: the next start reaches the same end, and nothing runs or moves twice."""

from collections.abc import Callable, Mapping

import anyio
import anyio.lowlevel
import pytest
from tests.driver.builders import Power, Stage

from spec_kitty_orchestrator.core.model import Lane, Role
from spec_kitty_orchestrator.errors import JournalError
from spec_kitty_orchestrator.ports import AttemptRequest, OneLine
from spec_kitty_orchestrator.testing.scripted_agents import Play, report, verdict

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]

MISSION: Mapping[str, tuple[str, ...]] = {"WP01": (), "WP02": ("WP01",), "WP03": ("WP01",)}
LANE_IDS = {"WP02": "lane-b", "WP03": "lane-b"}
SUBTASKS = {"WP01": ("T001",)}


def cycle(request: AttemptRequest) -> Play:
    if (request.wp_id, request.role, request.number) == ("WP01", Role.REVIEW, 2):
        return Play(seconds=7, text=verdict(request, "changes_requested", "once more"))
    if request.role is Role.IMPLEMENT:
        return Play(
            seconds=11, text=report(request, subtasks_done=["T001"] if request.wp_id == "WP01" else [])
        )
    return Play(seconds=7)


def a_mission(stage: Make) -> Stage:
    return stage(MISSION, cycle, lane_ids=LANE_IDS, subtasks=SUBTASKS, latency_s=1.0)


def assert_same_end(mission: Stage, clean: Stage) -> None:
    assert mission.host.lanes == clean.host.lanes
    for wp in MISSION:
        assert mission.lanes_of(wp) == clean.lanes_of(wp)
    assert mission.host.ticked == clean.host.ticked
    done = [one for one in mission.agents.requests if one.id in mission.agents.runs]
    assert len(done) == len(clean.agents.requests)


async def test_a_crash_before_any_line_of_the_journal_changes_nothing_in_the_end(stage: Make) -> None:
    clean = a_mission(stage)
    assert (await clean.run()).exit_code == 0
    total = clean.journal.appended
    assert total > 30
    for k in range(1, total + 1):
        mission = a_mission(stage)
        engine = mission.orchestrator()
        mission.journal.dies_at = k
        # A power failure stops no agent: they are detached, and the next start finds them.
        mission.agents.stop_all = nothing  # type: ignore[method-assign]
        with anyio.fail_after(10_000), pytest.raises(Power):
            await engine.run()
        mission.journal.dies_at = None
        result = await mission.run()
        assert (k, result.exit_code, dict(result.reasons)) == (k, 0, {})
        assert_same_end(mission, clean)


async def nothing(grace_s: float) -> None:
    await anyio.lowlevel.checkpoint()


async def test_a_run_that_is_cut_off_at_any_moment_changes_nothing_in_the_end(stage: Make) -> None:
    clean = a_mission(stage)
    began = anyio.current_time()
    assert (await clean.run()).exit_code == 0
    total = anyio.current_time() - began
    moment = 0.25
    while moment < total:
        mission = a_mission(stage)
        with anyio.move_on_after(moment):
            await mission.orchestrator().run()
        result = await mission.run()
        assert (moment, result.exit_code, dict(result.reasons)) == (moment, 0, {})
        assert_same_end(mission, clean)
        moment += 1.3


async def test_a_run_that_is_cut_off_again_and_again_gets_there(stage: Make) -> None:
    clean = a_mission(stage)
    await clean.run()
    mission = a_mission(stage)
    for _ in range(200):
        result = None
        with anyio.move_on_after(4.3):
            result = await mission.orchestrator().run()
        if result is not None:
            break
    assert result is not None
    assert result.exit_code == 0
    assert_same_end(mission, clean)


async def test_agents_go_on_while_the_orchestrator_is_gone(stage: Make) -> None:
    mission = stage({"WP01": ()}, lambda r: Play(seconds=100))
    with anyio.move_on_after(10):
        await mission.orchestrator().run()
    assert mission.agents.graces == []
    await anyio.sleep(500)
    began = anyio.current_time()
    assert (await mission.run()).exit_code == 0
    assert anyio.current_time() - began == pytest.approx(100)


async def test_a_journal_that_cannot_be_written_ends_the_run_and_stops_the_agents(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ()}, lambda r: Play(seconds=100 if r.wp_id == "WP01" else 10))
    original = mission.journal.append

    async def is_full(line: OneLine) -> OneLine:
        if getattr(getattr(line, "event", None), "kind", "") == "agent_exited":
            raise JournalError("no space left on the device")
        return await original(line)

    mission.journal.append = is_full  # type: ignore[method-assign]
    with anyio.fail_after(1000), pytest.raises(JournalError, match="no space left"):
        await mission.orchestrator().run()
    assert mission.agents.running == []
    assert len(mission.agents.graces) == 1
    mission.journal.append = original  # type: ignore[method-assign]
    assert (await mission.run()).exit_code == 0


async def test_what_was_parked_gets_a_new_chance_at_the_next_start(stage: Make) -> None:
    bad = [True]
    mission = stage(
        {"WP01": ()}, lambda r: Play(text="no verdict") if r.role is Role.REVIEW and bad else Play()
    )
    assert (await mission.run()).exit_code == 1
    bad.clear()
    assert (await mission.run()).exit_code == 0
    assert [one.role for one in mission.agents.requests].count(Role.IMPLEMENT) == 1


async def test_what_a_person_unblocked_is_taken_up_at_the_next_start(stage: Make) -> None:
    mission = stage(
        {"WP01": ()},
        lambda r: (
            Play(text=verdict(r, "changes_requested", "wrong"))
            if r.role is Role.REVIEW and r.number <= 6
            else Play()
        ),
    )
    assert (await mission.run()).exit_code == 1
    assert mission.host.lanes["WP01"] is Lane.BLOCKED
    assert (await mission.run()).exit_code == 1
    mission.host.lanes["WP01"] = Lane.IN_PROGRESS
    assert (await mission.run()).exit_code == 0


async def test_a_start_after_the_end_does_nothing(stage: Make) -> None:
    mission = stage()
    await mission.run()
    calls = len(mission.host.calls)
    assert (await mission.run()).exit_code == 0
    assert mission.host.calls[calls:] == ["mission-state"]
