"""A commit that the machine cannot make keeps the finished attempt; the start after the mend commits it."""

from collections.abc import Callable

import pytest
from tests.driver.builders import Stage, scripted
from tests.driver.troubles import attempts, replayed

from spec_kitty_orchestrator.core.events import AgentExited
from spec_kitty_orchestrator.core.model import Lane, Role, Usage
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play, verdict

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]
WORDS = {
    "no terminal for gpg": "error: gpg failed to sign the data: Inappropriate ioctl for device",
    "a stale lock": "fatal: Unable to create '/m/.git/worktrees/a/index.lock': File exists.",
    "a full disk": "fatal: unable to write new index file: No space left on device",
    "no rights": "error: insufficient permission for adding an object to repository database",
}


def cannot_commit(mission: Stage, words: str) -> None:
    """Let every commit fail until `mission.workspaces.errors` is cleared."""
    mission.workspaces.errors = [WorkspaceError(words)] * 100


@pytest.mark.parametrize("why", WORDS)
async def test_the_next_start_commits_the_same_attempt(stage: Make, why: str) -> None:
    mission = stage({"WP01": ()})
    cannot_commit(mission, WORDS[why])
    first = await mission.run()
    assert first.exit_code == 1
    assert WORDS[why] in first.reasons["WP01"]
    mission.workspaces.errors.clear()
    assert (await mission.run()).exit_code == 0
    assert attempts(mission) == ["ada", "rob"]


@pytest.mark.parametrize("why", WORDS)
async def test_the_work_stays_where_it_is_and_the_lane_too(stage: Make, why: str) -> None:
    mission = stage({"WP01": ()})
    cannot_commit(mission, WORDS[why])
    await mission.run()
    tree = mission.workspaces.tree(await mission.host.where("WP01"))
    assert tree.dirty == {"WP01-1"}
    assert mission.host.lanes["WP01"] is Lane.IN_PROGRESS
    mission.workspaces.errors.clear()
    await mission.run()
    assert [one.head for one in mission.agents.requests if one.role is Role.REVIEW] == [tree.commits[-1]]


async def test_a_start_before_the_mend_pays_for_nothing_and_says_the_same(stage: Make) -> None:
    mission = stage({"WP01": ()})
    cannot_commit(mission, WORDS["no terminal for gpg"])
    for _ in range(3):
        result = await mission.run()
        assert (result.exit_code, attempts(mission)) == (1, ["ada"])
        assert "gpg" in result.reasons["WP01"]
    mission.workspaces.errors.clear()
    assert (await mission.run()).exit_code == 0
    assert attempts(mission) == ["ada", "rob"]


async def test_others_go_on_but_nobody_else_is_let_into_its_worktree(stage: Make) -> None:
    mission = stage(
        {"WP01": (), "WP02": (), "WP03": ()}, lane_ids={"WP01": "lane-1", "WP02": "lane-1", "WP03": "lane-3"}
    )
    mission.workspaces.errors = [WorkspaceError(WORDS["a stale lock"])]
    mission.agents.script = scripted(WP03_implement=Play(seconds=50))
    result = await mission.run()
    assert result.exit_code == 1
    assert mission.host.lanes["WP03"] is Lane.DONE
    assert attempts(mission, "WP02") == []
    assert mission.workspaces.tree(await mission.host.where("WP01")).dirty == {"WP01-1"}
    assert (await mission.run()).exit_code == 0
    assert attempts(mission, "WP01") == ["ada", "rob"]


async def test_rework_that_cannot_be_committed_is_not_paid_for_again_either(stage: Make) -> None:
    def review(request: AttemptRequest) -> Play:
        if request.number == 2:
            cannot_commit(mission, WORDS["a stale lock"])
            return Play(text=verdict(request, "changes_requested", "mend it"))
        return Play()

    mission: Stage = stage({"WP01": ()}, scripted(review=review))
    assert (await mission.run()).exit_code == 1
    mission.workspaces.errors.clear()
    assert (await mission.run()).exit_code == 0
    assert attempts(mission) == ["ada", "rob", "ada", "rob"]


async def test_what_the_finished_attempt_cost_and_reported_is_kept(stage: Make) -> None:
    mission = stage({"WP01": ()}, scripted(implement=Play(usage=Usage(1, 1, 5.0))))
    cannot_commit(mission, WORDS["a full disk"])
    await mission.run()
    mission.workspaces.errors.clear()
    result = await mission.run()
    assert result.work_packages[0].usage.cost_usd == 5.0
    ends = [one for _, one in mission.watcher.events if isinstance(one, AgentExited)]
    assert len(ends) == 2
    assert replayed(mission) == {"WP01": (result.work_packages[0].lane, result.work_packages[0].result)}
