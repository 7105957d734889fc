"""Which branches conflict is known before anybody merges them, and asking changes and runs nothing."""

import errno
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.machine.conftest import Lane, git

from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.workspaces import GitWorkspaces

pytestmark = pytest.mark.asyncio

ALL = (("one", "two"), ("one", "three"), ("two", "three"))


def branch(root: Path, name: str, files: Mapping[str, str]) -> None:
    """Make a branch that starts at the primary's commit and holds these files."""
    git(root, "worktree", "add", "-q", "-b", name, str(root / ".worktrees" / name))
    place = root / ".worktrees" / name
    for path, text in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text)
    git(place, "add", "-A")
    git(place, "commit", "-q", "-m", name)


def held(root: Path) -> tuple[str, list[Path]]:
    """Return all that asking could have changed."""
    objects = sorted(one for one in (root / ".git").rglob("*") if one.is_file())
    return git(root, "for-each-ref") + git(root, "status", "--porcelain"), objects


async def test_branches_that_change_the_same_lines_conflict_and_others_do_not(lane: Lane) -> None:
    branch(lane.root, "one", {"a.py": "a = 2\n", "one.py": ""})
    branch(lane.root, "two", {"a.py": "a = 3\n", "ünter\n.py": "1\n"})
    branch(lane.root, "three", {"ünter\n.py": "2\n"})
    before = held(lane.root)
    assert await lane.git.conflicts(ALL) == {
        ("one", "two"): ("a.py",),
        ("one", "three"): (),
        ("two", "three"): ("ünter\n.py",),
    }
    assert held(lane.root) == before


async def test_a_branch_that_is_gone_leaves_the_other_answers(lane: Lane) -> None:
    branch(lane.root, "one", {"a.py": "a = 2\n"})
    branch(lane.root, "two", {"a.py": "a = 3\n"})
    assert await lane.git.conflicts(ALL) == {("one", "two"): ("a.py",)}
    assert await lane.git.conflicts(()) == {}


async def test_no_program_that_the_repository_names_runs_and_what_it_merges_is_no_conflict(
    lane: Lane, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    git(lane.root, "config", "merge.own.driver", f"touch {ran}; false")
    git(lane.root, "config", "filter.own.clean", f"touch {ran}; cat")
    git(lane.root, "config", "merge.renormalize", "true")
    (lane.root / ".gitattributes").write_text("*.lock merge=own filter=own\n*.log merge=union\n")
    branch(lane.root, "one", {"x.lock": "1\n", "x.log": "1\n", "x.py": "1\n"})
    branch(lane.root, "two", {"x.lock": "2\n", "x.log": "2\n", "x.py": "2\n"})
    ran.unlink(missing_ok=True)
    assert await lane.git.conflicts([("one", "two")]) == {("one", "two"): ("x.py",)}
    assert not ran.exists()


async def test_what_the_host_keeps_itself_is_no_conflict_but_documents_may_conflict(lane: Lane) -> None:
    status, plan = "kitty-specs/demo/status.json", "kitty-specs/demo/plan.md"
    branch(lane.root, "one", {status: "1\n", ".kittify/metadata.yaml": "1\n", plan: "1\n"})
    branch(lane.root, "two", {status: "2\n", ".kittify/metadata.yaml": "2\n", plan: "2\n"})
    assert await lane.git.conflicts([("one", "two")]) == {("one", "two"): (plan,)}


async def test_branches_of_a_shallow_clone_are_merged_too(lane: Lane, tmp_path: Path) -> None:
    (lane.root / "c.py").write_text("c = 1\n")
    git(lane.root, "add", "c.py")
    git(lane.root, "commit", "-q", "-m", "second")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--depth=1", lane.root.as_uri(), str(clone))
    for key, value in (("user.name", "a"), ("user.email", "a@example.invalid")):
        git(clone, "config", key, value)
    branch(clone, "one", {"c.py": "c = 2\n"})
    branch(clone, "two", {"c.py": "c = 3\n"})
    assert await GitWorkspaces(clone, "demo").conflicts([("one", "two")]) == {("one", "two"): ("c.py",)}


async def test_a_git_that_cannot_merge_in_memory_tells_nothing(
    lane: Lane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch(lane.root, "one", {"a.py": "a = 2\n"})
    branch(lane.root, "two", {"a.py": "a = 3\n"})
    old = tmp_path / "bin" / "git"
    old.parent.mkdir()
    real = git(lane.root, "--exec-path").strip() + "/git"
    old.write_text(f'#!/bin/sh\ncase "$*" in *merge-tree*) exit 129;; esac\nexec {real} "$@"\n')
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(old.parent), prepend=":")
    assert await lane.git.conflicts([("one", "two")]) == {}


async def test_without_room_for_temporary_files_git_cannot_tell(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch(lane.root, "one", {"a.py": "a = 2\n"})
    branch(lane.root, "two", {"a.py": "a = 3\n"})

    def full() -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(WorkspaceError, match="no temporary files for git can be made: No space"):
        await lane.git.conflicts((("one", "two"),))
