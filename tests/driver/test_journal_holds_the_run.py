"""Whatever changes a work package is an event, journaled and told; the state of a run is their fold."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from tests.driver.builders import Stage, closed, longer, scripted
from tests.driver.troubles import HOUR_S, at, beside, refused, replayed, seen, told

from spec_kitty_orchestrator.core.model import Lane, Outcome, Usage
from spec_kitty_orchestrator.core.policy import Budget
from spec_kitty_orchestrator.core.run_events import RunStarted
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play, verdict

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]


def assert_recorded(mission: Stage, result: RunResult, *changed: str) -> None:
    """Check that journal, observer and result tell the same, and something of these work packages."""
    assert replayed(mission) == seen(result.work_packages)
    assert mission.watcher.events == told(mission)
    starts = [one for one in mission.journal.lines if isinstance(one, RunStarted)]
    found = {wp for one in starts for wp, lane in one.mission.lanes.items() if lane is not Lane.PLANNED}
    assert found | {wp for wp, _ in told(mission)} >= set(changed)


async def test_a_work_package_whose_workspace_cannot_be_resolved_is_recorded(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": (), "WP03": ("WP02",)})
    words = "lanes.json has no lane for WP02"
    refused(mission, "resolve_workspace", "WORKSPACE_ERROR", words, about=("WP02",))
    result = await mission.run()
    assert result.exit_code == 1
    assert "lanes.json has no lane" in result.reasons["WP02"]
    assert_recorded(mission, result, "WP02")


@pytest.mark.parametrize("lane", [Lane.DONE, Lane.APPROVED, Lane.CANCELED, Lane.BLOCKED, Lane.PLANNED])
async def test_what_a_poll_finds_of_others_is_recorded(stage: Make, lane: Lane) -> None:
    mission = stage({"WP01": (), "WP02": (), "WP03": ("WP02",)}, scripted(WP01_implement=Play(seconds=1000)))
    mission.host.lanes["WP02"] = Lane.IN_REVIEW
    result = await beside(
        mission.run(poll_interval_s=10.0), at(100, lambda: mission.host.lanes.update(WP02=lane))
    )
    assert result.state.lanes["WP02"] is (Lane.DONE if lane is Lane.PLANNED else lane)
    assert_recorded(mission, result, "WP02")


async def test_each_move_by_others_is_recorded_when_it_is_seen(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": (), "WP03": ("WP02",)}, scripted(WP01_implement=Play(seconds=1000)))
    mission.host.lanes["WP02"] = Lane.IN_REVIEW
    counts: list[int] = []

    def count() -> None:
        counts.append(len([wp for wp, _ in told(mission) if wp == "WP02"]))

    def move(lane: Lane) -> Callable[[], None]:
        return lambda: mission.host.lanes.update(WP02=lane)

    await beside(
        mission.run(poll_interval_s=10.0),
        at(99, count),
        at(100, move(Lane.BLOCKED)),
        at(150, count),
        at(151, move(Lane.IN_REVIEW)),
        at(200, count),
        at(201, move(Lane.DONE)),
        at(250, count),
    )
    assert counts == sorted(set(counts)), "each of the three moves added something"


@pytest.mark.parametrize("lane", [Lane.DONE, Lane.CANCELED, Lane.BLOCKED])
async def test_what_a_refusal_of_another_brings_to_light_is_recorded(stage: Make, lane: Lane) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",), "WP03": ("WP02",)}, scripted(implement=Play(seconds=10)))
    mission.host.has_commit = lambda wp: (wp, len(mission.agents.requests)) != ("WP01", 1)
    result = await beside(mission.run(), at(5, lambda: mission.host.lanes.update(WP02=lane)))
    assert result.state.lanes["WP02"] is lane
    assert_recorded(mission, result, "WP02")


async def test_what_a_start_finds_of_others_is_recorded(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": (), "WP03": (), "WP04": ("WP03",)})
    mission.host.lanes |= {"WP01": Lane.DONE, "WP02": Lane.CANCELED, "WP03": Lane.IN_REVIEW}
    assert_recorded(mission, await mission.run(), "WP01", "WP02", "WP03")


async def test_what_others_undo_between_two_starts_is_recorded(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",)})
    assert (await mission.run()).exit_code == 0
    mission.host.lanes["WP01"] = Lane.CANCELED
    result = await mission.run()
    assert result.state.lanes["WP01"] is Lane.CANCELED
    assert_recorded(mission, result)


async def test_a_work_package_that_appears_during_the_run_is_recorded(stage: Make) -> None:
    def adds() -> None:
        mission.host.dependencies["WP02"] = ()
        mission.host.subtasks["WP02"] = ()
        mission.host.lane_ids["WP02"] = "lane-2"
        mission.host.lanes["WP02"] = Lane.CANCELED

    mission: Stage = stage({"WP01": ()}, scripted(WP01_implement=Play(then=adds)))
    mission.host.has_commit = lambda _: len(mission.agents.requests) > 1
    assert_recorded(mission, await mission.run(), "WP02")


def limited(request: AttemptRequest) -> Play:
    return (
        Play(outcome=Outcome.RATE_LIMITED, retry_after_s=10 * HOUR_S) if request.wp_id == "WP01" else Play()
    )


LIMITS: dict[str, tuple[Callable[[AttemptRequest], Play], dict[str, Any], dict[str, Any]]] = {
    "a quota": (limited, {}, {}),
    "a fallback agent": (limited, {"impl_agents": ("ada", "eve"), "review_agents": ("rob", "ron")}, {}),
    "a budget of the run": (
        scripted(implement=Play(usage=Usage(1, 1, 5.0))),
        {},
        {"budget": Budget(max_cost_usd=4.0)},
    ),
    "a budget of a work package": (
        scripted(implement=Play(usage=Usage(1, 1, 5.0))),
        {},
        {"budget": Budget(max_cost_per_wp_usd=4.0)},
    ),
    "an agent at its limit": (scripted(review=Play(seconds=50)), {}, {"max_per_agent": {"rob": 1}}),
    "a back-off": (
        scripted(implement=lambda r: Play(outcome=Outcome.OVERLOADED) if r.number == 1 else Play()),
        {},
        {},
    ),
}


@pytest.mark.parametrize("limit", LIMITS)
async def test_what_limits_change_is_recorded(stage: Make, limit: str) -> None:
    script, changes, settings = LIMITS[limit]
    mission = stage({"WP01": (), "WP02": (), "WP03": ("WP01",)}, script, policy=longer(**changes))
    assert_recorded(mission, await mission.run(**settings))


@pytest.mark.parametrize("moment", [0.5, 1.5, 5, 15, 25, 35])
@pytest.mark.parametrize("drains", [False, True])
async def test_a_run_that_a_signal_ended_is_recorded_as_it_ended(
    stage: Make, drains: bool, moment: float
) -> None:
    mission = stage(script=lambda r: Play(seconds=10), latency_s=0.5)
    engine = mission.orchestrator(max_per_agent={"ada": 1})
    result = await closed(engine, moment, engine.drain if drains else engine.interrupt)
    recorded = replayed(mission)
    assert {wp: state for wp, state in seen(result.work_packages).items() if wp in recorded} == recorded
    assert mission.watcher.events == told(mission)


async def test_refusals_parking_and_rework_are_recorded(stage: Make) -> None:
    def review(request: AttemptRequest) -> Play:
        rejects = request.wp_id == "WP01" and request.number == 2
        return Play(text=verdict(request, "changes_requested", "mend")) if rejects else Play()

    mission = stage({"WP01": (), "WP02": (), "WP03": ("WP02",)}, scripted(review=review))
    words = "cannot auto-merge dependency lane"
    refused(mission, "start_implementation", "LANE_ALLOCATION_FAILED", words, about=("WP02",))
    assert_recorded(mission, await mission.run(), "WP01", "WP02")


async def test_a_run_that_was_cut_off_at_any_moment_is_recorded_when_it_ends(stage: Make) -> None:
    moment = 0.25
    while moment < 12:
        mission = stage({"WP01": (), "WP02": ("WP01",)}, lambda r: Play(seconds=2), latency_s=0.5)
        with anyio.move_on_after(moment):
            await mission.orchestrator().run()
        result = await mission.run()
        assert (moment, replayed(mission)) == (moment, seen(result.work_packages))
        moment += 0.5
