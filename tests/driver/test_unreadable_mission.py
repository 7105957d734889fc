"""An answer that lacks work packages which the run knows is no answer: another branch may be checked out."""

from collections.abc import Callable, Mapping, Sequence

import anyio
import pytest
from tests.driver.builders import Stage, scripted
from tests.driver.troubles import SwitchedHost, at, attempts, beside, exit_code, merged, story_of

from spec_kitty_orchestrator.core.model import Lane
from spec_kitty_orchestrator.core.run_events import RunEnded
from spec_kitty_orchestrator.testing.scripted_agents import Play

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]
MISSION: Mapping[str, Sequence[str]] = {"WP01": (), "WP02": ("WP01",), "WP03": ()}
ALL = tuple(MISSION)
VANISHED = {
    "all": ALL,
    "all but one": ("WP02", "WP03"),
    "one that waits": ("WP02",),
    "one that is at work": ("WP01",),
    "one that is done": ("WP00",),
}


def a_mission(stage: Make, dependencies: Mapping[str, Sequence[str]] = MISSION) -> tuple[Stage, SwitchedHost]:
    host = SwitchedHost(dependencies)
    return stage(dependencies, lambda r: Play(seconds=100), host=host), host


def assert_nothing_was_paid_twice(mission: Stage) -> None:
    assert sorted(attempts(mission)) == sorted(["ada", "rob"] * len(mission.host.lanes))


@pytest.mark.parametrize("vanished", VANISHED)
async def test_a_run_whose_work_packages_vanish_ends_in_an_error_and_goes_on_when_they_are_back(
    stage: Make, vanished: str
) -> None:
    mission, host = a_mission(stage, {"WP00": (), **MISSION} if vanished == "one that is done" else MISSION)
    if vanished == "one that is done":
        host.lanes["WP00"] = Lane.DONE
    code = await beside(exit_code(mission.run()), at(50, lambda: host.switch(*VANISHED[vanished])))
    assert code not in (0, 1)
    ends = [one.exit_code for one in mission.journal.lines if isinstance(one, RunEnded)]
    assert 0 not in ends
    host.switch()
    assert (await mission.run()).exit_code == 0
    assert set(host.lanes.values()) == {Lane.DONE}
    assert len(attempts(mission)) == 2 * len(MISSION)


@pytest.mark.parametrize("moment", [0.7, 1.2, 1.7, 50.2, 99.7, 100.7, 150.2, 199.7, 201.7, 350.2, 399.7])
@pytest.mark.parametrize("vanished", ["all", "one that waits", "one that is at work"])
async def test_a_branch_that_is_switched_for_some_seconds_changes_nothing(
    stage: Make, vanished: str, moment: float
) -> None:
    host = SwitchedHost(MISSION, latency_s=0.5)
    mission = stage(MISSION, lambda r: Play(seconds=100), host=host)
    code = await beside(
        exit_code(mission.run(poll_interval_s=10.0)),
        at(moment, lambda: host.switch(*VANISHED[vanished])),
        at(moment + 20, host.switch),
    )
    assert (code, set(host.lanes.values())) == (0, {Lane.DONE})
    assert_nothing_was_paid_twice(mission)


@pytest.mark.parametrize("vanished", ["all", "all but one", "one that is at work"])
async def test_a_resumed_run_does_not_end_well_on_a_branch_without_its_work_packages(
    stage: Make, vanished: str
) -> None:
    mission, host = a_mission(stage)
    with anyio.move_on_after(50):
        await mission.orchestrator().run()
    host.switch(*VANISHED[vanished])
    assert await exit_code(mission.run()) not in (0, 1)
    host.switch()
    assert (await mission.run()).exit_code == 0
    assert_nothing_was_paid_twice(mission)


async def test_a_resumed_run_of_finished_work_does_not_forget_it_on_another_branch(stage: Make) -> None:
    mission, host = a_mission(stage)
    assert (await mission.run()).exit_code == 0
    host.switch(*ALL)
    assert await exit_code(mission.run()) not in (0, 1)


async def test_a_mission_without_any_work_package_is_never_all_done(stage: Make) -> None:
    mission, host = a_mission(stage)
    host.switch(*ALL)
    assert await exit_code(mission.run()) != 0
    host.switch()
    assert (await mission.run()).exit_code == 0


async def test_the_error_says_what_is_missing_and_that_another_branch_may_be_checked_out(stage: Make) -> None:
    mission, host = a_mission(stage)
    _, told = await beside(story_of(mission.run()), at(50, lambda: host.switch(*ALL)))
    assert "WP01" in told
    assert "branch" in told
    assert "elsewhere" in told


async def test_agents_at_work_are_not_stopped_for_a_branch_that_a_poll_finds(stage: Make) -> None:
    host = SwitchedHost({**MISSION, "WP04": ()})
    mission = stage(
        {**MISSION, "WP04": ()}, scripted(WP03_implement=Play(seconds=200), WP01_implement=Play()), host=host
    )
    host.lanes["WP01"] = Lane.BLOCKED
    code = await beside(
        exit_code(mission.run(poll_interval_s=5.0)),
        at(20, lambda: host.switch("WP01", "WP02", "WP03", "WP04")),
        at(150, host.switch),
    )
    assert code == 1
    assert mission.agents.graces == []
    assert host.lanes["WP03"] is Lane.DONE


@pytest.mark.parametrize("vanished", ["all", "all but one", "one that waits"])
async def test_nothing_is_merged_that_does_not_show_every_work_package_of_the_run(
    stage: Make, vanished: str
) -> None:
    mission, host = a_mission(stage)
    result = await mission.run()
    assert result.exit_code == 0
    host.switch(*VANISHED[vanished])
    assert not await merged(mission, result)
    host.switch()
    assert await merged(mission, result)


async def test_a_mission_without_any_work_package_is_not_merged(stage: Make) -> None:
    mission, host = a_mission(stage)
    result = await mission.run()
    host.dependencies, host.lanes = {}, {}
    assert not await merged(mission, result)
