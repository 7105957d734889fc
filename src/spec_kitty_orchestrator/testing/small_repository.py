"""A repository that nobody needs, with worktrees as a run has them."""

import os
from pathlib import Path

import anyio

from spec_kitty_orchestrator.machine.git import Git

__all__ = ["GIT_LIMIT_S", "QUIET", "add_worktree", "make_repository"]

GIT_LIMIT_S = 60.0
"""For one call of git, in a repository of two files."""

QUIET = ("-c", "commit.gpgsign=false", "-c", f"core.hooksPath={os.devnull}")
"""Neither a key to sign with nor a hook of the user's belongs there."""


async def make_repository(root: Path) -> None:
    """Make a repository with one commit on `main` in a new folder. Raises `WorkspaceError`."""
    git = Git(root)
    await anyio.Path(root).mkdir(parents=True, exist_ok=True)
    await git.run("init", "-q", "-b", "main", timeout_s=GIT_LIMIT_S)
    await git.run("config", "user.name", "trial", timeout_s=GIT_LIMIT_S)
    await git.run("config", "user.email", "trial@localhost", timeout_s=GIT_LIMIT_S)
    await anyio.Path(root, "README.md").write_text("# A trial\n")
    await git.run("add", "README.md", timeout_s=GIT_LIMIT_S)
    await git.run(*QUIET, "commit", "-q", "-m", "begin", timeout_s=GIT_LIMIT_S)


async def add_worktree(root: Path, path: Path, branch: str) -> None:
    """Add a worktree on a new branch. Raises `WorkspaceError`."""
    await Git(root).run(*QUIET, "worktree", "add", "-q", "-b", branch, str(path), timeout_s=GIT_LIMIT_S)
