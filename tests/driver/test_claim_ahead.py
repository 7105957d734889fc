"""While agents have every slot and the host is idle, the next work package is claimed, and waits."""

from collections.abc import Callable
from signal import SIGINT

import anyio
import pytest
from tests.driver.builders import LIMIT_S, Stage, closed, scripted

from spec_kitty_orchestrator.core.events import Claimed, Deferred, Resolving, Scheduled, WorkspaceResolved
from spec_kitty_orchestrator.core.model import Lane, Phase, PolicyMetadata, Workspace
from spec_kitty_orchestrator.core.run_events import Entry
from spec_kitty_orchestrator.errors import HostRefusal
from spec_kitty_orchestrator.testing.scripted_agents import Play

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]

SLOW = {"WP01": (), "WP02": (), "WP03": ()}


async def run_until(mission: Stage, moment: float, **changes: object) -> None:
    with anyio.move_on_after(moment):
        await mission.orchestrator(**changes).run()


def kinds(mission: Stage, wp: str) -> list[type]:
    asked = (Resolving, WorkspaceResolved)
    entries = [one for one in mission.journal.lines if isinstance(one, Entry) and one.wp_id == wp]
    return [type(one.event) for one in entries if not isinstance(one.event, asked)]


async def test_the_next_one_is_claimed_while_the_agents_work_and_only_one(stage: Make) -> None:
    mission = stage(SLOW, lambda r: Play(seconds=100), max_concurrent=1, latency_s=1.0)
    await run_until(mission, 50)
    assert mission.host.lanes == {
        "WP01": Lane.IN_PROGRESS,
        "WP02": Lane.IN_PROGRESS,
        "WP03": Lane.PLANNED,
    }
    assert [one.wp_id for one in mission.agents.requests] == ["WP01"]
    assert kinds(mission, "WP02") == [Scheduled, Claimed, Deferred]


async def test_it_says_that_it_waits_for_a_slot(stage: Make) -> None:
    mission = stage(SLOW, lambda r: Play(seconds=100), max_concurrent=1)
    await run_until(mission, 50)
    assert mission.watcher.state is not None
    wp = mission.watcher.state.wps["WP02"]
    assert (wp.phase, wp.turn.waits) == (Phase.IMPLEMENTING, "waits for a slot")


async def test_its_agent_starts_without_a_call_of_the_host_when_a_slot_frees(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ()}, lambda r: Play(seconds=100), max_concurrent=1, latency_s=10.0)
    began = anyio.current_time()
    assert (await mission.run()).exit_code == 0
    # Claim, work, submit, review (told meanwhile), record; then nothing but the same without the claim.
    first = 10 + 10 + 10 + 100 + 10 + 100 + 10
    assert anyio.current_time() - began == pytest.approx(first + 100 + 10 + 100 + 10 + 10, abs=11)
    assert kinds(mission, "WP02")[:4] == [Scheduled, Claimed, Deferred, Scheduled]
    assert mission.calls()["start-implementation"] == 2


async def test_nobody_is_claimed_ahead_while_a_slot_is_free_or_somebody_waits_for_the_host(
    stage: Make,
) -> None:
    mission = stage({"WP01": (), "WP02": ()}, lambda r: Play(seconds=100), max_concurrent=2)
    assert (await mission.run()).exit_code == 0
    assert Deferred not in kinds(mission, "WP01") + kinds(mission, "WP02")
    slow_host = stage(SLOW, lambda r: Play(seconds=100), max_concurrent=2, latency_s=30.0)
    await run_until(slow_host, 85)
    assert slow_host.host.lanes["WP03"] is Lane.PLANNED


async def test_nobody_is_claimed_ahead_into_a_worktree_that_is_at_work(stage: Make) -> None:
    mission = stage(
        {"WP01": (), "WP02": ()},
        lambda r: Play(seconds=100),
        max_concurrent=1,
        lane_ids={"WP01": "lane-a", "WP02": "lane-a"},
    )
    await run_until(mission, 50)
    assert mission.host.lanes["WP02"] is Lane.PLANNED
    assert (await mission.run()).exit_code == 0


async def test_nobody_is_claimed_ahead_of_its_dependencies(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",)}, lambda r: Play(seconds=100), max_concurrent=1)
    await run_until(mission, 50)
    assert mission.host.lanes["WP02"] is Lane.PLANNED


@pytest.mark.parametrize("drains", [False, True])
async def test_an_interruption_leaves_it_claimed_and_a_later_start_goes_on(stage: Make, drains: bool) -> None:
    mission = stage(SLOW, lambda r: Play(seconds=100), max_concurrent=1, latency_s=1.0)
    engine = mission.orchestrator()
    result = await closed(engine, 50, (engine.drain if drains else engine.interrupt))
    assert result.exit_code == 130
    assert mission.host.lanes["WP02"] is Lane.IN_PROGRESS
    assert mission.host.lanes["WP03"] is Lane.PLANNED
    assert (await mission.run()).exit_code == 0
    assert mission.calls()["start-implementation"] == 3


async def test_a_drained_run_claims_nobody_ahead(stage: Make) -> None:
    mission = stage(SLOW, lambda r: Play(seconds=100), max_concurrent=1, latency_s=10.0)
    engine = mission.orchestrator()
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tg:
            tg.start_soon(engine.run)
            await anyio.sleep(15)
            engine.drain(SIGINT)
    assert mission.host.lanes["WP02"] is Lane.PLANNED


@pytest.mark.parametrize(
    "code", ["LANE_ALLOCATION_FAILED", "WP_ALREADY_CLAIMED", "DEPENDENCIES_NOT_SATISFIED"]
)
async def test_a_refused_claim_is_answered_as_ever(stage: Make, code: str) -> None:
    mission = stage({"WP01": (), "WP02": ()}, lambda r: Play(seconds=100), max_concurrent=1, latency_s=1.0)
    original = mission.host.start_implementation
    refused: list[str] = []

    async def refuses_once(mission: str, wp: str, actor: str, policy: PolicyMetadata) -> Workspace:
        if wp == "WP02" and not refused:
            refused.append(wp)
            raise HostRefusal("start-implementation", code, "not now", {"claimed_by": "eve"})
        return await original(mission, wp, actor, policy)

    mission.host.start_implementation = refuses_once  # type: ignore[method-assign]
    result = await mission.run()
    assert refused == ["WP02"]
    assert result.exit_code == (6 if code == "WP_ALREADY_CLAIMED" else 0)


async def test_what_a_person_cancels_while_it_waits_for_a_slot_is_not_worked_on(stage: Make) -> None:
    def cancels() -> None:
        mission.host.lanes["WP02"] = Lane.CANCELED
        mission.host.fail_next("transition", HostRefusal("transition", "TRANSITION_REJECTED", "no"))

    mission: Stage = stage(
        {"WP01": (), "WP02": ()},
        scripted(WP01_implement=lambda r: Play(seconds=50, then=cancels if r.number == 1 else None)),
        max_concurrent=1,
        latency_s=1.0,
    )
    result = await mission.run()
    assert result.exit_code == 1
    assert {one.wp_id for one in mission.agents.requests} == {"WP01"}
    assert mission.host.lanes == {"WP01": Lane.DONE, "WP02": Lane.CANCELED}
