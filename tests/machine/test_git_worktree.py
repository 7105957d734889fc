import os
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from tests.machine.conftest import BRANCH, Lane, git

from spec_kitty_orchestrator.core.model import Workspace
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.git import Git
from spec_kitty_orchestrator.machine.workspaces import GitWorkspaces
from spec_kitty_orchestrator.ports import WorkspaceState

pytestmark = pytest.mark.asyncio


def legacy(lane: Lane, wp: str) -> Workspace:
    return Workspace(str(lane.root / ".worktrees" / f"m-{wp}"), "")


async def work(lane: Lane, wp: str, name: str, text: str, dependencies: tuple[str, ...] = ()) -> None:
    workspace = legacy(lane, wp)
    await lane.git.ensure(wp, workspace, dependencies)
    (Path(workspace.path) / name).write_text(text)
    base = (await lane.git.state(workspace)).head
    await lane.git.commit(wp, workspace, base, f"{wp}: work", "")


async def test_state_tells_head_branch_and_uncommitted_paths(lane: Lane) -> None:
    lane.write("a.py", "a = 2\n")
    lane.write("ünter/neu\n.txt")
    state = await lane.git.state(lane.workspace)
    assert replace(state, mark="") == WorkspaceState(lane.base, BRANCH, ("a.py", "ünter/neu\n.txt"))
    git(lane.path, "switch", "-q", "--detach")
    assert (await lane.git.state(lane.workspace)).branch == ""


async def test_an_existing_worktree_is_left_alone(lane: Lane) -> None:
    lane.write("a.py", "a = 2\n")
    await lane.git.ensure("WP01", lane.workspace, ())
    assert (await lane.git.state(lane.workspace)).dirty == ("a.py",)


async def test_a_deleted_worktree_comes_back_from_its_branch(lane: Lane) -> None:
    lane.write("a.py", "a = 2\n")
    head = (await lane.committed()).head
    for path in sorted(lane.path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    lane.path.rmdir()
    await lane.git.ensure("WP01", lane.workspace, ())
    state = await lane.git.state(lane.workspace)
    assert replace(state, mark="") == WorkspaceState(head, BRANCH, ())


async def test_a_worktree_whose_branch_is_gone_too_is_an_error(lane: Lane) -> None:
    git(lane.root, "worktree", "remove", str(lane.path))
    git(lane.root, "branch", "-D", BRANCH)
    with pytest.raises(WorkspaceError, match="both missing"):
        await lane.git.ensure("WP01", lane.workspace, ())


async def test_without_lanes_the_worktree_is_made_from_the_primary_checkout(lane: Lane) -> None:
    workspace = legacy(lane, "WP01")
    await lane.git.ensure("WP01", workspace, ())
    await lane.git.ensure("WP01", workspace, ())
    state = await lane.git.state(workspace)
    assert replace(state, mark="") == WorkspaceState(lane.base, "m-WP01", ())
    assert git(lane.root, "status", "--porcelain") == ""


async def test_without_lanes_worktrees_are_made_at_the_same_time(lane: Lane) -> None:
    ids = [f"WP{number:02}" for number in range(1, 6)]
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for wp in ids:
                tasks.start_soon(lane.git.ensure, wp, legacy(lane, wp), ())
    for wp in ids:
        assert (await lane.git.state(legacy(lane, wp))).branch == f"m-{wp}"
    exclude = (lane.root / ".git" / "info" / "exclude").read_text()
    assert exclude.count("/.worktrees/") == 1


async def test_without_lanes_the_work_of_dependencies_is_merged_in(lane: Lane) -> None:
    await work(lane, "WP01", "one.py", "1\n")
    await work(lane, "WP02", "two.py", "2\n")
    await lane.git.ensure("WP03", legacy(lane, "WP03"), ("WP01", "WP02", "WP09"))
    made = Path(legacy(lane, "WP03").path)
    assert (made / "one.py").exists()
    assert (made / "two.py").exists()


async def test_dependencies_that_conflict_need_a_person_and_then_it_goes_on(lane: Lane) -> None:
    await work(lane, "WP01", "a.py", "one\n")
    await work(lane, "WP02", "a.py", "two\n")
    workspace = legacy(lane, "WP03")
    for _ in range(2):
        with pytest.raises(WorkspaceError, match="a person must merge it") as caught:
            await lane.git.ensure("WP03", workspace, ("WP01", "WP02"))
        assert (await lane.git.state(workspace)).dirty == ()
    assert f"git -C {workspace.path} merge m-WP02" in str(caught.value)
    git(Path(workspace.path), "merge", "-q", "-X", "ours", "m-WP02")
    await lane.git.ensure("WP03", workspace, ("WP01", "WP02"))
    assert (await lane.git.state(workspace)).branch == "m-WP03"


async def test_without_lanes_an_existing_branch_is_checked_out(lane: Lane) -> None:
    await work(lane, "WP01", "one.py", "1\n")
    workspace = legacy(lane, "WP01")
    git(lane.root, "worktree", "remove", workspace.path)
    await lane.git.ensure("WP01", workspace, ())
    assert (Path(workspace.path) / "one.py").exists()


async def test_a_folder_that_is_no_worktree_is_an_error(lane: Lane, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="not a git worktree"):
        await lane.git.state(Workspace(str(tmp_path), ""))
    with pytest.raises(WorkspaceError, match="not a git worktree"):
        await lane.git.state(Workspace(str(lane.path / "kitty-specs"), ""))


async def test_the_fork_point_is_where_the_branch_left_its_base(lane: Lane) -> None:
    assert await lane.git.fork_point(lane.workspace) == lane.base
    lane.write("a.py", "a = 2\n")
    await lane.committed()
    git(lane.root, "commit", "-q", "--allow-empty", "-m", "base moves on")
    assert await lane.git.fork_point(lane.workspace) == lane.base
    assert await lane.git.fork_point(Workspace(str(lane.path), "", "x", BRANCH)) == lane.base


async def test_the_fork_point_lies_behind_the_merges_of_dependencies(lane: Lane) -> None:
    git(lane.root, "switch", "-q", "-c", "dep")
    (lane.root / "dep.py").write_text("1\n")
    git(lane.root, "add", "dep.py")
    git(lane.root, "commit", "-q", "-m", "dependency")
    git(lane.root, "switch", "-q", "main")
    git(lane.path, "merge", "-q", "--no-ff", "--no-edit", "dep")
    merged = git(lane.path, "rev-parse", "HEAD")
    assert await lane.git.fork_point(lane.workspace) == merged
    lane.write("a.py", "a = 2\n")
    await lane.committed()
    assert await lane.git.fork_point(lane.workspace) == merged


async def test_an_unknown_base_is_an_error_that_names_it(lane: Lane) -> None:
    with pytest.raises(WorkspaceError, match="no-such-ref"):
        await lane.git.fork_point(Workspace(str(lane.path), "", "x", BRANCH, "no-such-ref"))


async def test_git_that_does_not_end_is_stopped_and_leaves_no_lock(lane: Lane, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    lane.hook("pre-commit", f"cat '{fifo}'")
    hooks = ("-c", f"core.hooksPath={lane.root / '.git/hooks'}")
    with pytest.raises(WorkspaceError, match="did not end within"), anyio.fail_after(60):
        await Git(lane.path).run(*hooks, "commit", "--allow-empty", "-m", "x", timeout_s=0.3)
    lane.hook("pre-commit", "exit 0")
    lane.write("a.py", "a = 2\n")
    await lane.committed()


async def test_missing_git_is_an_error_for_people(
    lane: Lane, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WorkspaceError, match="git is not installed"):
        await GitWorkspaces(lane.root, "m").fork_point(lane.workspace)


async def test_the_branch_of_the_primary_checkout_is_told(lane: Lane) -> None:
    assert await lane.git.primary_branch() == "main"
    git(lane.root, "switch", "-q", "-c", "other")
    assert await lane.git.primary_branch() == "other"
    git(lane.root, "switch", "-q", "--detach")
    assert await lane.git.primary_branch() == ""
