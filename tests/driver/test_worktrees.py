"""Slots and worktrees: how many at once, and who waits for whom."""

from collections.abc import Callable
from itertools import pairwise

import anyio
import pytest
from tests.driver.builders import REAL_LIMIT_S, Stage, longer, scripted

from spec_kitty_orchestrator.core.model import Lane, Outcome, Role
from spec_kitty_orchestrator.errors import HostRefusal
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play, verdict

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]


def spans(mission: Stage) -> dict[str, tuple[int, int]]:
    """Return for each work package the places of its first and last transition in the host's record."""
    places: dict[str, list[int]] = {}
    for place, one in enumerate(mission.host.events):
        places.setdefault(one.wp, []).append(place)
    return {wp: (found[0], found[-1]) for wp, found in places.items()}


async def test_a_shared_worktree_is_given_on_only_when_its_work_package_is_finished(stage: Make) -> None:
    def review(request: AttemptRequest) -> Play:
        rejects = request.number == 2
        return Play(text=verdict(request, "changes_requested", "again")) if rejects else Play()

    names = ("WP01", "WP02", "WP03")
    mission = stage(
        dict.fromkeys(names, ()),
        scripted(review=review),
        lane_ids=dict.fromkeys(names, "lane-a"),
        latency_s=1.0,
    )
    assert (await mission.run()).exit_code == 0
    assert mission.agents.most_at_once == 1
    ordered = sorted(spans(mission).values())
    assert all(before[1] < after[0] for before, after in pairwise(ordered))


async def test_a_work_package_that_waits_keeps_its_worktree(stage: Make) -> None:
    def implement(request: AttemptRequest) -> Play:
        if request.number == 1:
            return Play(outcome=Outcome.RATE_LIMITED, retry_after_s=500)
        return Play()

    mission = stage(
        {"WP01": (), "WP02": ()},
        scripted(WP01_implement=implement),
        lane_ids={"WP01": "lane-a", "WP02": "lane-a"},
    )
    assert (await mission.run()).exit_code == 0
    assert spans(mission)["WP01"][1] < spans(mission)["WP02"][0]


async def test_what_a_reviewer_left_lying_does_not_stop_the_next_in_the_worktree(stage: Make) -> None:
    mission = stage(
        {"WP01": (), "WP02": ()},
        lane_ids={"WP01": "lane-a", "WP02": "lane-a"},
    )
    mission.host.is_dirty = lambda wp: (
        bool(mission.workspaces.trees["lane-a"].dirty) if ("lane-a" in mission.workspaces.trees) else False
    )
    original = mission.workspaces.commit

    async def leaves_a_file(*args: object) -> object:
        found = await original(*args)  # type: ignore[arg-type]
        mission.workspaces.trees["lane-a"].dirty.add(".env")
        return found

    mission.workspaces.commit = leaves_a_file  # type: ignore[method-assign, assignment]
    result = await mission.run()
    assert (result.exit_code, dict(result.reasons)) == (0, {})
    assert mission.workspaces.rescued == ["WP01/left-2", "WP02/left-2"]


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("anyio_backend", ["trio", "asyncio"], indirect=True)
async def test_no_more_agents_run_than_are_allowed(
    stage: Make, limit: int, anyio_backend: tuple[str, object]
) -> None:
    tempo = 1.0 if anyio_backend[0] == "trio" else 0.005
    names = [f"WP{number:02d}" for number in range(1, 7)]
    mission = stage(
        dict.fromkeys(names, ()),
        lambda r: Play(seconds=tempo),
        max_concurrent=limit,
        limit_s=REAL_LIMIT_S,
    )
    began = anyio.current_time()
    assert (await mission.run()).exit_code == 0
    assert mission.agents.most_at_once <= limit
    if tempo == 1.0:
        assert mission.agents.most_at_once == limit
        assert anyio.current_time() - began == pytest.approx(6 / limit * 2)


async def test_the_longest_chain_goes_first(stage: Make) -> None:
    mission = stage(
        {"WP01": (), "WP02": (), "WP03": ("WP02",), "WP04": ("WP03",)},
        max_concurrent=1,
    )
    await mission.run()
    assert mission.agents.requests[0].wp_id == "WP02"


async def test_a_resting_work_package_lends_its_slot_and_goes_on_before_new_work(stage: Make) -> None:
    def implement(request: AttemptRequest) -> Play:
        if request.number == 1:
            return Play(outcome=Outcome.OVERLOADED)
        return Play()

    mission = stage(
        {"WP01": (), "WP02": (), "WP03": (), "WP04": ()},
        scripted(WP01_implement=implement, implement=Play(seconds=10), review=Play(seconds=5)),
        max_concurrent=1,
    )
    assert (await mission.run()).exit_code == 0
    order = [(one.wp_id, one.number) for one in mission.agents.requests if one.role is Role.IMPLEMENT]
    assert order == [("WP01", 1), ("WP02", 1), ("WP01", 2), ("WP03", 1), ("WP04", 1)]


async def test_when_everybody_rests_nothing_happens_until_the_first_may_go_on(stage: Make) -> None:
    def implement(request: AttemptRequest) -> Play:
        if request.number == 1:
            return Play(outcome=Outcome.RATE_LIMITED, retry_after_s=1000 if request.wp_id == "WP01" else 2000)
        return Play()

    mission = stage({"WP01": (), "WP02": ()}, scripted(implement=implement), max_concurrent=1)
    began = anyio.current_time()
    assert (await mission.run()).exit_code == 0
    assert anyio.current_time() - began == pytest.approx(1 + 1000 + 2 + 1 + 2000 + 2, abs=1)
    # The first and the last, and one after each rest: people may have moved something.
    assert mission.calls()["mission-state"] == 4


async def test_a_foreign_claim_stalls_the_run_with_its_reasons(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",)})
    await mission.host.start_implementation(
        "demo", "WP01", "somebody", mission.agents.policy("x", Role.IMPLEMENT)
    )
    result = await mission.run()
    assert result.exit_code == 6
    assert result.reasons == {"WP01": "claimed by somebody", "WP02": "waits for WP01 (in_progress)"}
    assert mission.agents.requests == []


async def test_work_beside_a_foreign_claim_goes_on(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ()})
    await mission.host.start_implementation(
        "demo", "WP01", "somebody", mission.agents.policy("x", Role.IMPLEMENT)
    )
    result = await mission.run()
    assert (result.exit_code, mission.host.lanes["WP02"]) == (6, Lane.DONE)


@pytest.mark.parametrize("held", [Lane.CLAIMED, Lane.IN_PROGRESS, Lane.IN_REVIEW])
async def test_nobody_is_put_into_a_worktree_that_another_actor_holds(stage: Make, held: Lane) -> None:
    mission = stage({"WP01": (), "WP02": ()}, lane_ids={"WP01": "lane-a", "WP02": "lane-a"}, latency_s=1.0)
    policy = mission.agents.policy("x", Role.IMPLEMENT)
    await mission.host.start_implementation("demo", "WP01", "somebody", policy)
    mission.host.lanes["WP01"] = held
    result = await mission.run()
    assert result.exit_code == 6
    assert mission.agents.requests == []
    assert mission.host.lanes == {"WP01": held, "WP02": Lane.PLANNED}
    assert result.reasons["WP02"] == "its workspace is held by WP01"


async def test_a_parked_work_package_tells_its_dependents_why_they_wait(stage: Make) -> None:
    mission = stage(
        {"WP01": (), "WP02": ("WP01",), "WP03": ("WP02",)},
        scripted(WP01_implement=Play(outcome=Outcome.INVALID_REQUEST)),
    )
    result = await mission.run()
    assert result.exit_code == 1
    assert "ada ended invalid_request" in result.reasons["WP01"]
    assert result.reasons["WP02"] == "waits for WP01 (blocked)"
    assert result.reasons["WP03"] == "waits for WP02"


async def test_dependencies_on_each_other_stall_at_once(stage: Make) -> None:
    mission = stage({"WP01": ("WP02",), "WP02": ("WP01",), "WP03": ("WP09",)})
    result = await mission.run()
    assert result.exit_code == 6
    assert result.reasons == {
        "WP01": "waits for WP02",
        "WP02": "waits for WP01",
        "WP03": "waits for WP09 (not in the mission)",
    }


async def test_a_dependency_that_the_host_sees_differently_is_waited_for(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",)})
    words = "dependencies_not_satisfied: WP02 depends on WP01"
    for _ in range(2):
        mission.host.fail_next(
            "start-implementation", HostRefusal("start-implementation", "DEPENDENCIES_NOT_SATISFIED", words)
        )
    result = await mission.run()
    assert result.exit_code == 0


async def test_a_host_that_never_sees_the_dependencies_as_met_parks_the_work_package(stage: Make) -> None:
    mission = stage({"WP01": ()})
    for _ in range(30):
        mission.host.fail_next(
            "start-implementation", HostRefusal("start-implementation", "DEPENDENCIES_NOT_SATISFIED", "no")
        )
    result = await mission.run()
    assert (result.exit_code, dict(result.reasons)) == (1, {"WP01": "no"})


async def test_racing_allocations_are_tried_again(stage: Make) -> None:
    mission = stage({"WP01": ()}, policy=longer())
    mission.host.fail_next(
        "start-implementation", HostRefusal("start-implementation", "LANE_ALLOCATION_FAILED", "index.lock")
    )
    assert (await mission.run()).exit_code == 0


async def test_what_a_failed_attempt_left_is_saved_before_the_next_one_begins(stage: Make) -> None:
    def implement(request: AttemptRequest) -> Play:
        return Play(outcome=Outcome.CRASHED, edits=("half.py",)) if request.number == 1 else Play()

    mission = stage({"WP01": ()}, scripted(implement=implement))
    result = await mission.run()
    assert result.exit_code == 0
    assert result.work_packages[0].rescued.refs == ("refs/fake/WP01/before-2",)
