"""The worktree's `.git` file, locks that were left there, and what belongs to the repository as a whole."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.machine.conftest import BRANCH, Lane, git

from spec_kitty_orchestrator.core.model import Evidence, Workspace
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.environment import GIT_REDIRECTS, environment, without_git
from spec_kitty_orchestrator.machine.workspaces import GitWorkspaces

pytestmark = pytest.mark.asyncio


def clones_there(lane: Lane) -> None:
    """Put a clone in the place of the worktree, whose hook and history are the agent's."""
    git(lane.root, "clone", "-q", "--bare", "--no-local", str(lane.root), str(lane.path / ".evil.git"))
    evil = lane.path / ".evil.git"
    git(evil, "config", "--unset", "core.bare")
    git(evil, "symbolic-ref", "HEAD", f"refs/heads/{BRANCH}")
    (evil / "info" / "exclude").write_text("/.evil.git\n")
    (lane.path / ".git").unlink()
    (lane.path / ".git").write_text("gitdir: .evil.git\n")


def begins_anew(lane: Lane) -> None:
    (lane.path / ".git").unlink()
    git(lane.path, "init", "-q", "-b", BRANCH)
    git(lane.path, "-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "--allow-empty", "-m", "mine")


def names_the_primary(lane: Lane) -> None:
    (lane.path / ".git").write_text(f"gitdir: {lane.root / '.git'}\n")


def links_elsewhere(lane: Lane) -> None:
    (lane.path / ".git").unlink()
    (lane.path / ".git").symlink_to(lane.root / ".git")


def breaks_it(lane: Lane) -> None:
    (lane.path / ".git").write_bytes(b"gitdir: \0\xff\n")


def removes_it(lane: Lane) -> None:
    (lane.path / ".git").unlink()


REPLACED = [clones_there, begins_anew, names_the_primary, links_elsewhere, breaks_it, removes_it]


def heard(lane: Lane) -> list[str]:
    told: list[str] = []
    lane.git = GitWorkspaces(lane.root, "m", say=told.append)
    return told


@pytest.mark.parametrize("replace_it", REPLACED, ids=lambda one: one.__name__)
async def test_work_is_committed_in_the_mission_s_repository_whatever_stands_in_place_of_its_file(
    lane: Lane, replace_it: Callable[[Lane], None]
) -> None:
    told = heard(lane)
    link = (lane.path / ".git").read_text()
    replace_it(lane)
    lane.write("a.py", "a = 2\n")

    evidence = await lane.committed()

    assert evidence.head == git(lane.root, "rev-parse", BRANCH) != lane.base
    assert git(lane.root, "show", f"{BRANCH}:a.py") == "a = 2"
    assert (lane.path / ".git").read_text() == link
    assert len(told) == 1
    assert "is made anew" in told[0] or "and made anew" in told[0]
    assert git(lane.path, "status", "--porcelain", "--untracked-files=no") == ""


async def test_a_repository_that_an_agent_made_in_its_worktree_is_kept_and_named(lane: Lane) -> None:
    told = heard(lane)
    begins_anew(lane)

    await lane.git.state(lane.workspace)

    kept = Path(told[0].partition("kept as ")[2].partition(" and made")[0])
    assert git(kept, "log", "--format=%s", BRANCH) == "mine"
    begins_anew(lane)
    await lane.git.state(lane.workspace)
    assert len({line.partition("kept as ")[2] for line in told}) == 2


@pytest.mark.parametrize("replace_it", REPLACED, ids=lambda one: one.__name__)
async def test_a_review_that_replaced_the_file_is_void(
    lane: Lane, replace_it: Callable[[Lane], None]
) -> None:
    lane.write("a.py", "a = 2\n")
    await lane.committed()
    before = await lane.git.fingerprint(lane.workspace)
    replace_it(lane)

    found = (await lane.git.restore("WP01", lane.workspace, before, "review-1")).differed

    assert any(".git" in one for one in found)
    assert git(lane.path, "rev-parse", "--show-toplevel") == str(lane.path)
    assert (await lane.git.restore("WP01", lane.workspace, before, "review-2")).differed == ()


@pytest.mark.parametrize("replace_it", REPLACED, ids=lambda one: one.__name__)
async def test_what_is_rescued_is_the_mission_s(lane: Lane, replace_it: Callable[[Lane], None]) -> None:
    replace_it(lane)
    lane.write("a.py", "a = 2\n")

    ref = await lane.git.rescue("WP01", lane.workspace, "1")

    assert git(lane.root, "show", f"{ref.refs[0]}:a.py") == "a = 2"
    assert git(lane.root, "rev-parse", BRANCH) == lane.base


async def test_making_one_worktree_does_not_forget_another_whose_file_is_gone(lane: Lane) -> None:
    removes_it(lane)
    await lane.git.ensure("WP02", Workspace(str(lane.root / ".worktrees" / "m-WP02"), ""), ())

    assert (await lane.git.state(lane.workspace)).head == lane.base


@pytest.mark.parametrize("name", ["index.lock", "HEAD.lock"])
async def test_a_lock_whose_git_is_gone_is_removed_and_told(lane: Lane, name: str) -> None:
    told = heard(lane)
    lock = lane.root / ".git" / "worktrees" / "lane" / name
    lock.touch()
    lane.write("a.py", "a = 2\n")

    await lane.committed()

    assert not lock.exists()
    assert told == [f"{lane.path}: removed {lock}, which a git that is gone left"]


@contextmanager
def working_git(path: Path) -> Iterator[None]:
    """Let a git of somebody's wait for input in a folder."""
    command, pipe = ["git", "cat-file", "--batch-check"], subprocess.PIPE
    with subprocess.Popen(command, cwd=path, stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"HEAD\n")
        process.stdin.flush()
        process.stdout.readline()
        yield
        process.stdin.close()


async def test_a_lock_of_a_git_that_works_there_is_left_and_the_error_says_what_to_do(lane: Lane) -> None:
    lock = lane.root / ".git" / "worktrees" / "lane" / "index.lock"
    lane.write("a.py", "a = 2\n")
    with working_git(lane.path):
        lock.touch()
        with pytest.raises(WorkspaceError, match=r"index\.lock': File exists.*remove the lock file"):
            await lane.commit()
    await lane.committed()


async def test_git_s_own_list_of_what_belongs_to_a_repository_reaches_no_child(lane: Lane) -> None:
    names = git(lane.root, "rev-parse", "--local-env-vars").split()
    assert set(names) <= GIT_REDIRECTS
    outer = dict.fromkeys([*names, "GIT_CONFIG_KEY_0", "GIT_CONFIG_VALUE_0"], "x")
    assert without_git({**outer, "KEPT": "1"}) == {"KEPT": "1"}


@pytest.mark.parametrize("name", sorted(GIT_REDIRECTS))
async def test_a_variable_of_an_outer_git_reaches_no_agent(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "/elsewhere")

    assert environment({}, "marker", passed=["GIT_*"]).get(name) in (None, "1")


async def test_a_project_in_a_worktree_of_a_bare_repository_is_worked_on(lane: Lane, tmp_path: Path) -> None:
    bare, root = tmp_path / "bare.git", tmp_path / "project"
    git(tmp_path, "clone", "-q", "--bare", str(lane.root), str(bare))
    git(bare, "worktree", "add", "-q", "-b", "feature", str(root))
    workspaces = GitWorkspaces(root, "m")
    workspace = Workspace(str(root / ".worktrees" / "m-WP01"), "")

    await workspaces.ensure("WP01", workspace, ())
    state = await workspaces.state(workspace)
    (root / ".worktrees" / "m-WP01" / "a.py").write_text("a = 2\n")
    made = await workspaces.commit("WP01", workspace, state.head, "WP01: work", "")

    assert isinstance(made, Evidence)
    assert git(bare, "show", "m-WP01:a.py") == "a = 2"
    assert git(root, "status", "--porcelain") == ""
