"""While somebody works, a host that does not answer is waited for: no agent is stopped, nothing is parked."""

from collections.abc import Callable

import pytest
from tests.driver.builders import Stage, scripted
from tests.driver.troubles import at, attempts, beside, exit_code, gone, open_attempts

from spec_kitty_orchestrator.core.events import AgentExited
from spec_kitty_orchestrator.core.model import Lane, Outcome
from spec_kitty_orchestrator.errors import HostCrash, HostError, HostMissing, HostTimeout
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play, report

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]
READS = ("mission_state", "resolve_workspace", "list_ready")
CHANGES = ("start_implementation", "start_review", "transition", "tick_subtasks")
ERRORS: dict[str, HostError] = {
    "crashes": HostCrash("any", "the host printed nothing"),
    "hangs": HostTimeout("any", "120 s"),
    "is not installed": HostMissing("the host /x/spec-kitty cannot be started: No such file"),
}
MISSION = {"WP01": (), "WP02": ("WP01",), "WP03": (), "WP04": ("WP03",)}


def a_mission(stage: Make, **settings: object) -> Stage:
    """WP03 works for long; the others need the host meanwhile, and one of them reads the mission."""

    def ticks(request: AttemptRequest) -> Play:
        # The host refuses to take its work for review before that, so the mission is read again.
        return Play(seconds=20, text=report(request, subtasks_done=["T001"]))

    return stage(
        MISSION,
        scripted(WP01_implement=ticks, WP03_implement=Play(seconds=1000), implement=Play(seconds=20)),
        subtasks={"WP01": ("T001",)},
        **settings,
    )


def assert_that_nobody_was_stopped(mission: Stage) -> None:
    assert mission.agents.graces == []
    assert {one.report.outcome for _, one in exits(mission)} == {Outcome.OK}
    assert set(mission.host.lanes.values()) == {Lane.DONE}
    assert sorted(attempts(mission)) == ["ada"] * 4 + ["rob"] * 4


def exits(mission: Stage) -> list[tuple[str, AgentExited]]:
    return [(wp, one) for wp, one in mission.watcher.events if isinstance(one, AgentExited)]


@pytest.mark.parametrize("how", ERRORS)
@pytest.mark.parametrize(
    ("call", "begins_s", "about"),
    [
        ("mission_state", 15.0, ()),
        ("resolve_workspace", 0.0, ("WP02",)),
        ("resolve_workspace", 0.0, ("WP02", "WP04")),
        ("list_ready", 1.0, ()),
    ],
)
async def test_a_read_that_fails_for_half_a_minute_stops_no_agent(
    stage: Make, call: str, begins_s: float, about: tuple[str, ...], how: str
) -> None:
    mission = a_mission(stage)
    gone(mission, call, error=ERRORS[how], lasts_s=30, begins_s=begins_s, about=about)
    assert await exit_code(mission.run()) == 0
    assert_that_nobody_was_stopped(mission)


@pytest.mark.parametrize("how", ERRORS)
async def test_a_poll_that_fails_for_half_a_minute_stops_no_agent(stage: Make, how: str) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",), "WP03": ()}, lambda r: Play(seconds=100))
    mission.host.lanes["WP01"] = Lane.IN_REVIEW
    gone(mission, *READS, error=ERRORS[how], lasts_s=30, begins_s=20)
    somebody = at(80, lambda: mission.host.lanes.update(WP01=Lane.DONE))
    assert await beside(exit_code(mission.run(poll_interval_s=5.0)), somebody) == 0
    assert mission.agents.graces == []
    assert len(attempts(mission)) == 4


@pytest.mark.parametrize("how", ERRORS)
@pytest.mark.parametrize("begins_s", [0.5, 15.0, 21.5])
async def test_a_host_that_is_gone_for_half_a_minute_stops_no_agent(
    stage: Make, how: str, begins_s: float
) -> None:
    mission = a_mission(stage)
    gone(mission, *READS, *CHANGES, error=ERRORS[how], lasts_s=30, begins_s=begins_s)
    assert await exit_code(mission.run()) == 0
    assert_that_nobody_was_stopped(mission)


@pytest.mark.parametrize("how", ERRORS)
@pytest.mark.parametrize("call", CHANGES)
async def test_a_change_that_fails_for_half_a_minute_stops_no_agent(stage: Make, call: str, how: str) -> None:
    mission = a_mission(stage)
    gone(mission, call, error=ERRORS[how], lasts_s=30, begins_s=15)
    assert await exit_code(mission.run()) == 0
    assert_that_nobody_was_stopped(mission)


@pytest.mark.parametrize("how", ERRORS)
async def test_a_later_work_package_is_asked_about_again_for_as_long_as_somebody_works(
    stage: Make, how: str
) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",)}, scripted(implement=Play(seconds=1000)))
    gone(mission, "resolve_workspace", error=ERRORS[how], lasts_s=600, about=("WP02",))
    assert await exit_code(mission.run()) == 0
    assert mission.agents.graces == []


async def test_an_agent_at_work_ends_by_itself_though_the_host_never_comes_back(stage: Make) -> None:
    mission = a_mission(stage)
    gone(mission, *READS, *CHANGES, error=ERRORS["is not installed"], lasts_s=1e9, begins_s=5)
    assert await exit_code(mission.run()) == 3
    assert {one.report.outcome for _, one in exits(mission)} == {Outcome.OK}
    assert open_attempts(mission) == set()
