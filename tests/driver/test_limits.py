"""Limits per agent and of the machine: what has no room waits, says so, and goes on when there is room."""

from collections.abc import Callable, Mapping
from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest
from tests.driver.builders import Stage, closed, longer, scripted

from spec_kitty_orchestrator.core.events import AgentExited, AttemptOpened, Deferred
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Lane, Outcome, Role
from spec_kitty_orchestrator.core.run_events import Entry, ResourcesShort, RunStarted
from spec_kitty_orchestrator.core.scheduler import SHORTAGE_PATIENCE_S
from spec_kitty_orchestrator.driver.engine import RESOURCES_POLL_S
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]

FOUR = {f"WP{number:02d}": () for number in range(1, 5)}


def most_at_once(mission: Stage) -> Mapping[str, int]:
    """Return for each agent the largest number of its attempts between opening and end, by the journal."""
    running: dict[str, str] = {}
    most: dict[str, int] = {}
    for line in mission.journal.lines:
        match line:
            case Entry(event=AttemptOpened(attempt=one)):
                running[one.id] = one.agent
            case Entry(event=AgentExited(attempt_id=gone)):
                running.pop(gone, None)
        for agent in set(running.values()):
            most[agent] = max(most.get(agent, 0), list(running.values()).count(agent))
    return most


def waits(mission: Stage) -> list[tuple[str, str]]:
    return [
        (one.wp_id, one.event.reason)
        for one in mission.journal.lines
        if isinstance(one, Entry) and isinstance(one.event, Deferred)
    ]


async def test_an_agent_runs_no_more_often_at_once_than_it_may(stage: Make) -> None:
    mission = stage(FOUR, lambda r: Play(seconds=10))
    assert (await mission.run(max_per_agent={"rob": 1, "ada": 2})).exit_code == 0
    assert most_at_once(mission) == {"ada": 2, "rob": 1}


async def test_both_roles_of_an_agent_count_together(stage: Make) -> None:
    mission = stage(FOUR, lambda r: Play(seconds=10), policy=longer(review_agents=("ada",)))
    assert (await mission.run(max_per_agent={"ada": 2})).exit_code == 0
    assert most_at_once(mission) == {"ada": 2}


async def test_who_waits_for_an_agent_says_so_and_is_served_in_turn(stage: Make) -> None:
    mission = stage(
        FOUR,
        # Who has the smallest id comes to the reviewer last.
        lambda r: Play(seconds=50 - 10 * int(r.wp_id[-1]) if r.role is Role.IMPLEMENT else 100),
    )
    assert (await mission.run(max_per_agent={"rob": 1})).exit_code == 0
    waiting = [wp for wp, reason in waits(mission) if reason == "waits for rob: at most 1 at once"]
    assert len(waiting) == 3
    reviewed = [one.wp_id for one in mission.agents.requests if one.role is Role.REVIEW]
    assert reviewed[1:] == waiting == ["WP03", "WP02", "WP01"]


async def test_its_slot_is_used_meanwhile(stage: Make) -> None:
    mission = stage(FOUR, lambda r: Play(seconds=10 if r.role is Role.IMPLEMENT else 1000), max_concurrent=2)
    with anyio.move_on_after(500):
        await mission.run(max_per_agent={"rob": 1})
    implemented = {one.wp_id for one in mission.agents.requests if one.role is Role.IMPLEMENT}
    assert implemented == set(FOUR)


async def test_no_slot_is_given_to_new_work_whose_agent_has_no_room(stage: Make) -> None:
    mission = stage(FOUR, lambda r: Play(seconds=10_000))
    with anyio.move_on_after(500):
        await mission.run(max_per_agent={"ada": 1})
    assert list(mission.host.lanes.values()).count(Lane.IN_PROGRESS) == 1


async def test_a_prompt_is_written_when_its_agent_has_room(stage: Make) -> None:
    times: dict[str, float] = {}
    mission = stage(FOUR, lambda r: Play(seconds=100))
    original = mission.agents.open

    async def opened(request: AttemptRequest):  # type: ignore[no-untyped-def]
        if request.role is Role.REVIEW:
            times[request.wp_id] = anyio.current_time()
        return await original(request)

    mission.agents.open = opened  # type: ignore[method-assign]
    assert (await mission.run(max_per_agent={"rob": 1})).exit_code == 0
    found = sorted(times.values())
    assert all(later - earlier >= 100 for earlier, later in pairwise(found))


async def test_an_agent_that_rests_leaves_its_room_to_others(stage: Make) -> None:
    def implement(request: AttemptRequest) -> Play:
        return Play(outcome=Outcome.OVERLOADED) if request.number == 1 else Play()

    mission = stage({"WP01": (), "WP02": ()}, scripted(WP01_implement=implement, implement=Play(seconds=50)))
    began = anyio.current_time()
    assert (await mission.run(max_per_agent={"ada": 1})).exit_code == 0
    assert anyio.current_time() - began < 58
    assert most_at_once(mission) == {"ada": 1, "rob": 1}


@pytest.mark.parametrize("drains", [False, True])
async def test_a_wait_for_an_agent_ends_with_the_run_and_is_left_to_the_next(
    stage: Make, drains: bool
) -> None:
    mission = stage({"WP01": (), "WP02": ()}, lambda r: Play(seconds=10 if r.role is Role.IMPLEMENT else 300))
    engine = mission.orchestrator(max_per_agent={"rob": 1})
    began = anyio.current_time()
    result = await closed(engine, 50, (engine.drain if drains else engine.interrupt))
    assert result.exit_code == 130
    assert anyio.current_time() - began == pytest.approx(310 if drains else 50)
    assert (await mission.run(max_per_agent={"rob": 1})).exit_code == 0
    assert len(mission.prompts_of("WP02", Role.IMPLEMENT)) == 1


async def test_attempts_that_still_run_count_and_never_wait(stage: Make) -> None:
    mission = stage(FOUR, lambda r: Play(seconds=100), max_concurrent=4)
    with anyio.move_on_after(10):
        await mission.orchestrator().run()
    assert len(mission.agents.running) == 4
    result = await mission.run(max_per_agent={"ada": 1})
    assert result.exit_code == 0
    assert set(mission.agents.runs.values()) == {1}
    assert len(mission.agents.requests) == 8


async def test_the_limits_and_the_settings_are_kept_in_the_journal(stage: Make) -> None:
    mission = stage()
    await mission.run(max_per_agent={"ada": 2}, settings={"max_cost": None})
    first = mission.journal.lines[0]
    assert isinstance(first, RunStarted)
    assert first.policy.max_per_agent == {"ada": 2}


class Scarce:
    """Implements `Headroom`: short of memory between two moments after its first question."""

    def __init__(self, begins_s: float, ends_s: float) -> None:
        self.begins_s, self.ends_s = begins_s, ends_s
        self.asked: list[float] = []

    async def shortage(self) -> str:
        await anyio.lowlevel.checkpoint()
        self.asked.append(anyio.current_time())
        passed = anyio.current_time() - self.asked[0]
        return "only 1 GB is free" if self.begins_s <= passed < self.ends_s else ""


async def test_nothing_new_starts_during_a_shortage_and_it_is_told_once(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",), "WP03": ("WP01",)}, lambda r: Play(seconds=10))
    scarce = Scarce(5, 100)
    began = anyio.current_time()
    assert (await mission.run(headroom=scarce)).exit_code == 0
    assert anyio.current_time() - began == pytest.approx(100 + 20, abs=RESOURCES_POLL_S)
    told = [one.reason for _, one in mission.watcher.events if isinstance(one, ResourcesShort)]
    assert told == ["only 1 GB is free", ""]
    assert len(scarce.asked) == pytest.approx(2 + 80 / RESOURCES_POLL_S, abs=2)


async def test_who_holds_a_slot_goes_on_during_a_shortage(stage: Make) -> None:
    mission = stage({"WP01": ()}, lambda r: Play(seconds=10))
    began = anyio.current_time()
    assert (await mission.run(headroom=Scarce(5, 10_000))).exit_code == 0
    assert anyio.current_time() - began == pytest.approx(20)


async def test_agents_that_still_run_are_watched_again_at_once_during_a_shortage(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": (), "WP03": ("WP01",)}, lambda r: Play(seconds=100))
    with anyio.move_on_after(10):
        await mission.orchestrator().run()
    assert len(mission.agents.running) == 2
    began = anyio.current_time()
    first: list[float] = []
    original = mission.agents.run

    async def watched(attempt: Attempt) -> AgentReport:
        first.append(anyio.current_time() - began)
        return await original(attempt)

    mission.agents.run = watched  # type: ignore[method-assign]
    result = await mission.run(headroom=Scarce(0, 1e9))
    assert first[:2] == pytest.approx([0, 0], abs=1)
    # They end, are recorded and reviewed; then the run waits for room, and says what is short.
    assert [wp for wp, lane in mission.host.lanes.items() if lane is Lane.DONE] == ["WP01", "WP02"]
    assert {one.wp_id for one in mission.agents.requests} == {"WP01", "WP02"}
    assert result.exit_code == 6
    assert result.reasons == {"WP03": "only 1 GB is free"}
    assert anyio.current_time() - began == pytest.approx(190 + SHORTAGE_PATIENCE_S, abs=RESOURCES_POLL_S)


async def test_nobody_is_asked_while_nothing_could_start(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",)}, lambda r: Play(seconds=1000))
    scarce = Scarce(10_000, 10_000)
    assert (await mission.run(headroom=scarce)).exit_code == 0
    assert len(scarce.asked) == 2


async def test_a_shortage_that_does_not_end_stalls_the_run(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",)})
    began = anyio.current_time()
    result = await mission.run(headroom=Scarce(0, 1e9))
    assert result.exit_code == 6
    assert anyio.current_time() - began == pytest.approx(SHORTAGE_PATIENCE_S, abs=RESOURCES_POLL_S)
    assert result.reasons == {"WP01": "only 1 GB is free", "WP02": "waits for WP01"}
    assert mission.host.events == []


async def test_a_shortage_is_waited_for_as_long_as_something_is_at_work(stage: Make) -> None:
    mission = stage(
        {"WP01": (), "WP02": (), "WP03": ("WP01",)},
        scripted(WP01_implement=Play(seconds=10), WP02_implement=Play(seconds=5 * SHORTAGE_PATIENCE_S)),
    )
    assert (await mission.run(headroom=Scarce(5, 4 * SHORTAGE_PATIENCE_S))).exit_code == 0


async def test_an_interrupt_ends_the_wait_for_room(stage: Make) -> None:
    mission = stage()
    engine = mission.orchestrator(headroom=Scarce(0, 1e9))
    began = anyio.current_time()
    result = await closed(engine, 7, engine.interrupt)
    assert result.exit_code == 130
    assert anyio.current_time() - began == pytest.approx(7)


async def test_nobody_is_claimed_ahead_during_a_shortage(stage: Make) -> None:
    mission = stage(
        {"WP01": (), "WP02": (), "WP03": ()},
        scripted(WP01_implement=Play(seconds=50), implement=Play(seconds=1000)),
        max_concurrent=2,
    )
    scarce = Scarce(20, 1e9)
    with anyio.move_on_after(500):
        await mission.run(headroom=scarce)
    # It was claimed ahead before the shortage, and its agent does not start in it.
    assert mission.host.lanes["WP03"] is Lane.IN_PROGRESS
    assert {one.wp_id for one in mission.agents.requests} == {"WP01", "WP02"}
