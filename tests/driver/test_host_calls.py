"""What a run asks of the host: few calls, and each change exactly once whatever becomes of the answers."""

from collections.abc import Callable

import pytest
from tests.driver.builders import DIAMOND, Stage, scripted

from spec_kitty_orchestrator.core.model import Lane, Outcome
from spec_kitty_orchestrator.driver.mission import PATIENCE_S
from spec_kitty_orchestrator.errors import HostCrash, HostNoReply, HostRefusal, HostTimeout
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play, report, verdict

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]

CHAIN = {"WP01": (), "WP02": ("WP01",)}


async def test_a_clean_work_package_takes_five_calls_and_a_mission_two_reads(stage: Make) -> None:
    mission = stage(latency_s=1.0)
    assert (await mission.run()).exit_code == 0
    assert mission.calls() == {
        "mission-state": 2,
        "resolve-workspace": len(DIAMOND),
        "start-implementation": len(DIAMOND),
        "start-review": len(DIAMOND),
        "transition": 2 * len(DIAMOND),
    }


async def test_a_state_that_the_caller_has_just_read_spares_a_read(stage: Make) -> None:
    mission = stage()
    state = await mission.host.mission_state("demo")
    with_state = mission.orchestrator()
    assert (await with_state.run(state)).exit_code == 0
    assert mission.calls()["mission-state"] == 2


async def test_refusals_at_one_time_share_their_reads(stage: Make) -> None:
    names = [f"WP{number:02d}" for number in range(1, 9)]
    mission = stage(dict.fromkeys(names, ()), max_concurrent=8, latency_s=1.0)
    for _ in names:
        mission.host.fail_next(
            "start-implementation", HostRefusal("start-implementation", "LANE_ALLOCATION_FAILED", "locked")
        )
    assert (await mission.run()).exit_code == 0
    assert mission.calls()["mission-state"] <= 2 + 2


def reworked(request: AttemptRequest) -> Play:
    if request.wp_id == "WP01" and request.role == "review" and request.number == 2:
        return Play(text=verdict(request, "changes_requested", "once more"))
    if request.role == "implement":
        return Play(text=report(request, subtasks_done=["T001"] if request.wp_id == "WP01" else []))
    return Play()


MUTATIONS = {"start-implementation": 2, "start-review": 3, "transition": 7, "mark-status": 1}
"""The calls of `reworked` on the chain that change something, by name, with their number."""


@pytest.mark.parametrize("after_effect", [False, True], ids=["lost before", "lost after"])
@pytest.mark.parametrize("error", [HostCrash, HostTimeout])
@pytest.mark.parametrize(
    ("call", "number"), [(call, number) for call, most in MUTATIONS.items() for number in range(most)]
)
async def test_a_lost_reply_neither_doubles_nor_loses_a_transition(
    stage: Make, call: str, number: int, error: type[HostNoReply], after_effect: bool
) -> None:
    clean = stage(CHAIN, reworked, subtasks={"WP01": ("T001",)})
    assert (await clean.run()).exit_code == 0
    mission = stage(CHAIN, reworked, subtasks={"WP01": ("T001",)})
    seen = 0
    original = mission.host._call

    async def fails_once(name, effect):  # type: ignore[no-untyped-def]
        nonlocal seen
        if name == call:
            seen += 1
            if seen == number + 1:
                mission.host.fail_next(name, error(name, "no answer"), after_effect=after_effect)
        return await original(name, effect)

    mission.host._call = fails_once  # type: ignore[method-assign]
    result = await mission.run()
    assert seen > number
    assert (result.exit_code, dict(result.reasons)) == (0, {})
    for wp in CHAIN:
        assert mission.lanes_of(wp) == clean.lanes_of(wp)
    assert [one.number for one in mission.agents.requests] == [one.number for one in clean.agents.requests]
    assert mission.host.ticked == {"T001"}


async def test_a_claim_whose_reply_was_lost_counts_only_its_own_commits(stage: Make) -> None:
    shared = {"WP01": "lane-a", "WP02": "lane-a"}
    mission = stage(CHAIN, lane_ids=shared)

    def at_the_second(request: AttemptRequest) -> Play:
        fault = HostTimeout("start-implementation", "120 s")
        return Play(then=lambda: mission.host.fail_next("start-implementation", fault, after_effect=True))

    mission.agents.script = scripted(WP01_review=at_the_second)
    result = await mission.run()
    assert result.exit_code == 0
    first, second = result.work_packages
    assert second.work.base == first.work.head


async def test_a_broken_host_ends_the_run_and_stops_the_agents(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ()}, scripted(WP02_implement=Play(seconds=10_000)))
    mission.host.fail_next("start-implementation", HostTimeout("start-implementation", "120 s"))
    for _ in range(1 + len(PATIENCE_S)):
        mission.host.fail_next("mission-state", HostCrash("mission-state", "Traceback"))
    state = await mission_state(mission)
    with pytest.raises(HostCrash):
        await mission.orchestrator().run(state)
    assert mission.agents.running == []
    assert (await mission.run()).exit_code == 0


async def test_a_host_that_stumbles_over_a_read_costs_no_agent_run(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ()}, scripted(WP02_implement=Play(seconds=10_000)))
    mission.host.fail_next("start-implementation", HostTimeout("start-implementation", "120 s"))
    for _ in PATIENCE_S:
        mission.host.fail_next("mission-state", HostCrash("mission-state", "Traceback"))
    result = await mission.orchestrator().run(await mission_state(mission))
    assert result.exit_code == 0
    assert len(mission.agents.requests) == 4


async def mission_state(mission: Stage):  # type: ignore[no-untyped-def]
    return mission.host._state("demo")


@pytest.mark.parametrize("call", ["transition", "start-review", "start-implementation"])
async def test_a_host_that_never_answers_a_call_parks_the_work_package(stage: Make, call: str) -> None:
    mission = stage({"WP01": ()})
    for _ in range(60):
        mission.host.fail_next(call, HostTimeout(call, "120 s"))
    result = await mission.run()
    assert result.exit_code == 1
    assert "120 s" in result.reasons["WP01"]
    assert len(mission.host.calls) < 30


async def test_a_person_who_blocks_a_work_package_at_work_is_heard_at_the_next_call(stage: Make) -> None:
    def blocks() -> None:
        mission.host.lanes["WP01"] = Lane.BLOCKED

    mission: Stage = stage({"WP01": ()}, scripted(implement=Play(outcome=Outcome.OK, then=blocks)))
    result = await mission.run()
    assert (result.exit_code, mission.host.lanes["WP01"]) == (1, Lane.BLOCKED)
    assert mission.calls()["start-review"] == 0
