"""Which checkout is taken, where a repository has several or none of its own."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest
from tests.machine.conftest import git

from spec_kitty_orchestrator.app.repository import (
    current_branch,
    find_repo_root,
    held_elsewhere,
    switch_command,
)

FEATURE = "feature/demo"


def plan(checkout: Path) -> None:
    """Put a project with a mission on the branch that is checked out."""
    (checkout / ".kittify").mkdir()
    (checkout / ".kittify" / "config.yaml").touch()
    folder = checkout / "kitty-specs" / "demo"
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"target_branch": FEATURE}))
    git(checkout, "add", "-A", "-f")
    git(checkout, "-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "-m", "plan")


@pytest.fixture
def primary(tmp_path: Path) -> Path:
    """A project on main, whose mission is on a branch that a linked worktree has."""
    root = tmp_path / "primary"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    git(root, "-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "--allow-empty", "-m", "first")
    return root


def test_the_worktree_of_a_bare_repository_is_the_project(primary: Path, tmp_path: Path) -> None:
    git(primary, "switch", "-q", "-c", FEATURE)
    plan(primary)
    git(tmp_path, "clone", "-q", "--bare", str(primary), "bare.git")
    git(tmp_path / "bare.git", "worktree", "add", "-q", str(tmp_path / "wt"), FEATURE)

    assert find_repo_root(tmp_path / "wt" / "kitty-specs") == tmp_path / "wt"


def test_from_a_linked_worktree_the_primary_checkout_is_taken_as_by_the_host(
    primary: Path, tmp_path: Path
) -> None:
    (primary / ".kittify").mkdir()
    git(primary, "worktree", "add", "-q", "-b", FEATURE, str(tmp_path / "wt"))
    plan(tmp_path / "wt")

    assert find_repo_root(tmp_path / "wt") == primary


def test_a_linked_worktree_is_taken_where_it_alone_holds_a_project(primary: Path, tmp_path: Path) -> None:
    git(primary, "worktree", "add", "-q", "-b", FEATURE, str(tmp_path / "wt"))
    plan(tmp_path / "wt")

    assert find_repo_root(tmp_path / "wt") == tmp_path / "wt"


def test_the_advised_switch_works_although_a_worktree_has_the_branch(primary: Path, tmp_path: Path) -> None:
    git(primary, "worktree", "add", "-q", "-b", FEATURE, str(tmp_path / "with a space"))

    assert f"the worktree {tmp_path / 'with a space'} has" in held_elsewhere(primary, FEATURE)
    for command in switch_command(primary, FEATURE).split(" && "):
        subprocess.run(shlex.split(command), check=True, capture_output=True)

    assert current_branch(primary) == FEATURE
