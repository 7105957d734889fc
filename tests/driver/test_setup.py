"""What a new worktree needs is run once, before anybody works there, and again only in another worktree."""

from collections.abc import Callable
from dataclasses import replace

import anyio
import pytest
from tests.driver.builders import Stage, closed, longer

from spec_kitty_orchestrator.core.events import SetUp
from spec_kitty_orchestrator.core.model import Lane, Role
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.testing.scripted_agents import Play
from spec_kitty_orchestrator.testing.scripted_gates import Check

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]

NPM = Gate("setup-1", ("/bin/sh", "-c", "npm ci"))
WORDS = "npm ERR! network"
PREPARED = longer(setup=(NPM,))


def told(mission: Stage) -> list[tuple[str, SetUp]]:
    return [(wp, event) for wp, event in mission.watcher.events if isinstance(event, SetUp)]


def kinds_of(mission: Stage) -> list[str]:
    return [str(getattr(event, "kind", "")) for wp, event in mission.watcher.events if wp == "WP01"]


async def test_it_runs_once_in_each_worktree_before_the_first_attempt(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ()}, policy=PREPARED)
    result = await mission.run()
    assert result.exit_code == 0
    assert sorted(wp for wp, _, _ in mission.setup.runs) == ["WP01", "WP02"]
    assert set(mission.setup.runs.values()) == {1}
    kinds = kinds_of(mission)
    assert kinds.index("claimed") < kinds.index("set_up") < kinds.index("attempt_opened")


async def test_work_packages_that_share_a_worktree_share_what_was_set_up(stage: Make) -> None:
    mission = stage(
        {"WP01": (), "WP02": ("WP01",)}, policy=PREPARED, lane_ids={"WP01": "lane-a", "WP02": "lane-a"}
    )
    assert (await mission.run()).exit_code == 0
    assert [wp for wp, _, _ in mission.setup.runs] == ["WP01"]
    assert [len(event.results) for _, event in told(mission)] == [1, 0]


async def test_what_it_leaves_for_git_to_see_is_put_back(stage: Make) -> None:
    mission = stage({"WP01": ()}, policy=PREPARED, setups=lambda *_: Check(leaves=("package-lock.json",)))
    assert (await mission.run()).exit_code == 0
    (tree,) = mission.workspaces.trees.values()
    assert tree.dirty == set()
    assert len(tree.commits) == 2


@pytest.mark.parametrize("check", [Check("failed", says=WORDS), Check("broken", says=WORDS)])
async def test_one_that_fails_parks_with_the_end_of_its_output_and_costs_nothing(
    stage: Make, check: Check
) -> None:
    mission = stage({"WP01": ()}, policy=PREPARED, setups=lambda *_: check)
    result = await mission.run()
    assert result.exit_code == 1
    assert mission.agents.requests == []
    reason = result.reasons["WP01"]
    assert "the setup of its worktree failed: `npm ci`" in reason
    assert WORDS in reason
    assert mission.host.lanes["WP01"] is Lane.IN_PROGRESS, "nothing is wrong with the work"

    mission.setup.script = lambda *_: Check()
    assert (await mission.run()).exit_code == 0
    assert [one.role for one in mission.agents.requests] == [Role.IMPLEMENT, Role.REVIEW]


async def test_a_later_start_does_not_run_it_again_unless_the_worktree_is_another(stage: Make) -> None:
    mission = stage({"WP01": ()}, lambda _: Play(seconds=100), policy=PREPARED)
    engine = mission.orchestrator()
    assert (await closed(engine, 50, engine.interrupt)).exit_code == 130
    engine = mission.orchestrator()
    assert (await closed(engine, 50, engine.interrupt)).exit_code == 130
    assert sum(mission.setup.runs.values()) == 1
    mission.workspaces.trees.clear()
    await mission.run()
    assert sum(mission.setup.runs.values()) == 2


async def test_an_interrupt_stops_it_and_the_next_start_runs_it_again(stage: Make) -> None:
    mission = stage({"WP01": ()}, policy=PREPARED, setups=lambda *_: Check(seconds=600))
    engine = mission.orchestrator()
    assert (await closed(engine, 50, engine.interrupt)).exit_code == 130
    assert mission.setup.running == []
    assert mission.agents.requests == []
    assert (await mission.run()).exit_code == 0
    assert sum(mission.setup.runs.values()) == 2


async def test_gates_of_adopted_work_find_the_worktree_set_up(stage: Make) -> None:
    gated = replace(PREPARED, gates=(Gate("tests", ("pytest",)),))
    mission = stage({"WP01": ()}, policy=gated)
    mission.host.lanes["WP01"] = Lane.FOR_REVIEW
    assert (await mission.run()).exit_code == 0
    kinds = kinds_of(mission)
    assert (
        kinds.index("set_up")
        < kinds.index("gate_begun", kinds.index("set_up"))
        < kinds.index("attempt_opened")
    )


async def test_gates_that_go_on_while_the_orchestrator_is_gone_are_waited_for_and_run_once(
    stage: Make,
) -> None:
    gated = replace(PREPARED, gates=(Gate("tests", ("pytest",)),))
    mission = stage({"WP01": ()}, policy=gated, checks=lambda *_: Check(seconds=100))
    with anyio.move_on_after(30):
        await mission.orchestrator().run()
    assert mission.gates.running == ["WP01"]
    assert (await mission.run()).exit_code == 0
    assert list(mission.gates.runs.values()) == [1]
    assert sum(mission.setup.runs.values()) == 1


async def test_where_it_fails_before_gates_nobody_is_paid_for_the_committed_work_again(stage: Make) -> None:
    gated = replace(PREPARED, gates=(Gate("tests", ("pytest",)),))
    mission = stage({"WP01": ()}, policy=gated, checks=lambda *_: Check(seconds=1000))
    engine = mission.orchestrator()
    assert (await closed(engine, 50, engine.interrupt)).exit_code == 130
    # Its worktree is made anew, and the network is away.
    (key, tree) = next(iter(mission.workspaces.trees.items()))
    mission.workspaces.trees[key] = replace(tree)
    mission.setup.script = lambda *_: Check("failed", says=WORDS)
    assert (await mission.run()).exit_code == 1

    mission.setup.script = lambda *_: Check()
    assert (await mission.run()).exit_code == 0
    assert [one.role for one in mission.agents.requests] == [Role.IMPLEMENT, Role.REVIEW]
