"""Nobody is paid for work on top of what nobody reviewed, and a merge lands what was approved and no more."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from tests.driver.builders import Stage, scripted
from tests.driver.test_finalize import RESULT, approved_in, complete
from tests.driver.troubles import attempts

from spec_kitty_orchestrator.core.approval import Commit
from spec_kitty_orchestrator.core.model import Lane, Result
from spec_kitty_orchestrator.driver.finalize import finalize
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.fake_workspaces import FakeWorkspaces
from spec_kitty_orchestrator.testing.scripted_agents import Play

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]
ONE_AFTER_ANOTHER = {"WP01": (), "WP02": ("WP01",), "WP03": ("WP01", "WP02")}


def writes_elsewhere(mission: Stage, wp: str) -> None:
    """Commit on the branch of another work package."""
    trees = mission.workspaces.trees
    (tree,) = [tree for key, tree in trees.items() if key == mission.host.lane_ids[wp]]
    tree.commits.append("e" * 40)


async def test_a_work_package_does_not_begin_on_commits_that_came_onto_a_dependency_after_its_approval(
    stage: Make,
) -> None:
    def moves(_: AttemptRequest) -> Play:
        writes_elsewhere(mission, "WP01")
        return Play()

    mission = stage(ONE_AFTER_ANOTHER, scripted(WP02_implement=moves))
    result = await mission.run()

    wps = {one.id: one for one in result.work_packages}
    assert [one.result for one in wps.values()] == [Result.DONE, Result.DONE, Result.PARKED]
    assert "1 commit of" in wps["WP03"].note
    assert "was not reviewed" in wps["WP03"].note
    assert attempts(mission, "WP03") == []
    assert mission.host.lanes["WP03"] is Lane.PLANNED

    mission.workspaces.trees[mission.host.lane_ids["WP01"]].commits.pop()
    result = await mission.run()
    assert result.exit_code == 0
    mission.assert_sound()


async def test_work_on_a_shared_branch_that_is_yet_to_be_reviewed_keeps_nobody_from_beginning(
    stage: Make,
) -> None:
    lanes = {"WP01": "a", "WP02": "b", "WP03": "a"}
    dependencies = {"WP01": (), "WP02": ("WP01",), "WP03": ()}
    mission = stage(dependencies, scripted(implement=Play(seconds=50)), lane_ids=lanes)
    result = await mission.run()
    assert result.exit_code == 0


async def test_what_is_found_below_a_claimed_work_package_is_not_paid_for_either(stage: Make) -> None:
    class Strange(FakeWorkspaces):
        async def beyond(self, revision: str, known: Sequence[str]) -> tuple[Sequence[Commit], int]:
            return [Commit("e" * 40, "Mallory", "Add a back door")], 0

    mission = stage({"WP01": ()})
    mission.workspaces = mission.host.workspaces = mission.agents.workspaces = Strange()
    result = await mission.run()
    assert result.work_packages[0].result is Result.PARKED
    assert "Mallory: Add a back door" in result.reasons["WP01"]
    assert attempts(mission, "WP01") == []


class Landed(FakeWorkspaces):
    """Git after a merge that did something else than what was approved."""

    def __init__(self, lacks: tuple[str, ...] = (), strange: tuple[Commit, ...] = ()) -> None:
        super().__init__()
        self.lacks, self.strange = lacks, strange

    async def undelivered(self, before: str, after: str, heads: Sequence[str]) -> tuple[str, ...]:
        return self.lacks

    async def beyond(self, revision: str, known: Sequence[str]) -> tuple[Sequence[Commit], int]:
        return (self.strange, 0) if revision == "HEAD" else ((), 0)


@pytest.mark.parametrize(
    ("workspaces", "words"),
    [
        (Landed(lacks=("a.py",)), "merged, but the target branch does not hold what was approved: a.py"),
        (
            Landed(strange=(Commit("e" * 40, "Mallory", "Add a back door"),)),
            "merged, but the target branch holds 1 commit that was not reviewed:",
        ),
    ],
    ids=["less", "more"],
)
async def test_a_merge_that_landed_less_or_more_than_what_was_approved_is_told_and_not_accepted(
    workspaces: Landed, words: str
) -> None:
    host = complete()
    result = replace(RESULT, work_packages=(approved_in(workspaces),))
    ended = await finalize(host, workspaces, result, "me", merge=True, accept=True, coordinated=False)
    assert (ended.done, ended.merged, host.merged, host.accepted_by) == (False, True, True, "")
    assert ended.lines[0] == words
    assert "before the merge" in ended.lines[-1]
    assert ended.again == ""


async def test_what_landed_is_not_known_where_git_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> tuple[str, ...]:
        raise WorkspaceError("git is gone")

    host, workspaces = complete(), FakeWorkspaces()
    monkeypatch.setattr(workspaces, "undelivered", broken)
    result = replace(RESULT, work_packages=(approved_in(workspaces),))
    ended = await finalize(host, workspaces, result, "me", merge=True, accept=False, coordinated=False)
    assert not ended.done
    assert "git is gone" in ended.lines[0]


@pytest.mark.parametrize("early", [False, True])
async def test_work_begins_at_what_was_approved_and_what_was_put_there_early_is_reviewed_with_it(
    stage: Make, early: bool
) -> None:
    class Early(FakeWorkspaces):
        async def beyond(self, revision: str, known: Sequence[str]) -> tuple[Sequence[Commit], int]:
            return ([Commit("e" * 40, "Mallory", "Add a back door")] if revision == "e" * 40 else []), 0

    mission = stage({"WP01": ()})
    mission.workspaces = mission.host.workspaces = mission.agents.workspaces = Early()
    space = await mission.host.where("WP01")
    tree = mission.workspaces.tree(space)
    tree.commits += ["d" * 40, "e" * 40] if early else ["d" * 40]
    result = await mission.run()
    assert result.exit_code == 0
    assert result.work_packages[0].work.base == (tree.commits[0] if early else "d" * 40)
