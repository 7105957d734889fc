"""Gates in whole missions: red work goes back before a reviewer is paid, and the worktree stays clean."""

from collections.abc import Callable
from signal import SIGINT, SIGTERM

import anyio
import pytest
from tests.driver.builders import POLICY, Stage, longer, scripted

from spec_kitty_orchestrator.core.events import GateFailed, GatesPassed
from spec_kitty_orchestrator.core.model import Lane, Phase, Role
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.core.prompts import Prompts
from spec_kitty_orchestrator.core.run_events import Entry
from spec_kitty_orchestrator.testing.scripted_agents import Play, verdict
from spec_kitty_orchestrator.testing.scripted_gates import Check

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]

GATED = longer(gates=(Gate("lint", ("ruff",)), Gate("tests", ("pytest",))))
PROMPTS = Prompts("${task}${report}", "${task}${feedback}${report}", "${task}${gates}${verdict}")


def red_once(wp: str, _head: str, turn: int) -> Check:
    return Check("failed" if turn == 1 else "passed", says="E   assert 1 == 2", leaves=("build.log",))


async def test_red_gates_go_back_to_the_implementer_before_a_reviewer_is_paid(stage: Make) -> None:
    mission = stage({"WP01": ()}, policy=GATED, checks=red_once)
    result = await mission.run(prompts=PROMPTS)
    assert result.exit_code == 0
    assert [one.role for one in mission.agents.requests] == [Role.IMPLEMENT, Role.IMPLEMENT, Role.REVIEW]
    assert "E   assert 1 == 2" in mission.prompts_of("WP01", Role.IMPLEMENT)[1]
    (review,) = mission.prompts_of("WP01", Role.REVIEW)
    head = mission.agents.requests[-1].head
    assert f"- lint: passed on {head} in 1 s\n- tests: passed on {head} in 1 s" in review
    notes = [one.note for one in mission.host.events if one.to_lane in (Lane.FOR_REVIEW, Lane.DONE)]
    assert all(f"- tests: passed on {head}" in note for note in notes)
    assert len(notes) == 2


async def test_what_gates_leave_behind_is_in_no_commit_and_not_in_the_worktree(stage: Make) -> None:
    mission = stage({"WP01": ()}, policy=GATED, checks=red_once)
    await mission.run()
    (tree,) = mission.workspaces.trees.values()
    assert tree.dirty == set()
    assert len(tree.commits) == 3, "the start and one commit for each implement attempt"


async def test_a_gate_that_moves_head_is_undone_and_parks(stage: Make) -> None:
    check = Check(leaves=("formatted.py",), commits=True)
    mission = stage({"WP01": ()}, policy=GATED, checks=lambda wp, head, turn: check)
    result = await mission.run()
    assert result.exit_code == 1
    assert mission.host.lanes["WP01"] is Lane.BLOCKED
    assert "moved the branch" in result.reasons["WP01"]
    (tree,) = mission.workspaces.trees.values()
    assert len(tree.commits) == 2


async def test_a_gate_that_cannot_run_parks_its_work_package_only(stage: Make) -> None:
    mission = stage(
        {"WP01": (), "WP02": ()},
        policy=GATED,
        checks=lambda wp, head, turn: Check("broken" if wp == "WP01" else "passed", says="no such command"),
    )
    result = await mission.run()
    assert result.exit_code == 1
    assert mission.host.lanes == {"WP01": Lane.BLOCKED, "WP02": Lane.DONE}
    assert "gate lint cannot run: no such command; see /logs/WP01" in result.reasons["WP01"]
    assert [one.role for one in mission.agents.requests if one.wp_id == "WP01"] == [Role.IMPLEMENT]


async def test_gates_that_stay_red_end_in_blocked_within_the_attempts(stage: Make) -> None:
    mission = stage(
        {"WP01": ()}, policy=longer(GATED, max_attempts=3), checks=lambda wp, head, turn: Check("failed")
    )
    result = await mission.run()
    assert result.exit_code == 1
    assert mission.host.lanes["WP01"] is Lane.BLOCKED
    assert [one.role for one in mission.agents.requests] == [Role.IMPLEMENT] * 3


async def test_an_interrupt_stops_the_gates_and_the_next_start_runs_them_again(stage: Make) -> None:
    mission = stage({"WP01": ()}, policy=GATED, checks=lambda wp, head, turn: Check(seconds=600))
    engine = mission.orchestrator()
    async with anyio.create_task_group() as tasks:

        async def interrupt() -> None:
            await anyio.sleep(60)
            assert mission.gates.running == ["WP01"]
            engine.interrupt(SIGINT)

        tasks.start_soon(interrupt)
        result = await engine.run()
    assert result.exit_code == 130
    assert result.work_packages[0].phase is Phase.GATING
    assert mission.gates.running == []
    assert (await mission.run()).exit_code == 0
    assert [turn for _, _, turn in mission.gates.runs] == [1, 2]
    assert len(mission.prompts_of("WP01", Role.IMPLEMENT)) == 1


async def test_a_drain_leaves_the_gates_to_the_next_start(stage: Make) -> None:
    mission = stage({"WP01": ()}, lambda r: Play(seconds=100), policy=GATED)
    engine = mission.orchestrator()
    async with anyio.create_task_group() as tasks:

        async def drain() -> None:
            await anyio.sleep(50)
            engine.drain(SIGTERM)

        tasks.start_soon(drain)
        result = await engine.run()
    assert result.work_packages[0].phase is Phase.GATING
    assert not mission.gates.runs
    assert (await mission.run()).exit_code == 0


async def test_gates_go_on_while_the_orchestrator_is_gone_and_run_once(stage: Make) -> None:
    mission = stage({"WP01": ()}, policy=GATED, checks=lambda wp, head, turn: Check(seconds=100))
    with anyio.move_on_after(30):
        await mission.orchestrator().run()
    await anyio.sleep(500)
    assert (await mission.run()).exit_code == 0
    assert list(mission.gates.runs.values()) == [1]


async def test_adopted_work_meets_the_gates_before_a_reviewer(stage: Make) -> None:
    mission = stage({"WP01": ()}, policy=GATED, checks=red_once)
    mission.host.lanes["WP01"] = Lane.FOR_REVIEW
    mission.workspaces.commit_by_hand(await mission.host.where("WP01"))
    result = await mission.run()
    assert result.exit_code == 0
    assert [one.role for one in mission.agents.requests] == [Role.IMPLEMENT, Role.REVIEW]
    rejected = next(one.review for one in mission.host.events if one.to_lane is Lane.IN_PROGRESS)
    assert rejected is not None
    assert (rejected.reviewer, rejected.verdict) == ("gate lint", "changes_requested")


async def test_each_commit_of_a_rework_cycle_meets_the_gates(stage: Make) -> None:
    def review(request):  # type: ignore[no-untyped-def]
        return Play(text=verdict(request, "changes_requested", "mend it")) if request.number == 2 else Play()

    mission = stage({"WP01": ()}, scripted(review=review), policy=GATED)
    assert (await mission.run()).exit_code == 0
    events = [one.event for one in mission.journal.lines if isinstance(one, Entry)]
    passed = [one.results[0].head for one in events if isinstance(one, GatesPassed)]
    assert len(set(passed)) == 2
    assert not [one for one in events if isinstance(one, GateFailed)]


async def test_gates_that_a_later_start_adds_are_met_before_an_approval_is_recorded(stage: Make) -> None:
    mission = stage({"WP01": ()}, lambda r: Play(seconds=20), policy=POLICY)
    with anyio.move_on_after(30):
        await mission.orchestrator().run()
    mission.policy = GATED
    assert (await mission.run()).exit_code == 0
    assert len(mission.agents.requests) == 2
    assert list(mission.gates.runs.values()) == [1]
