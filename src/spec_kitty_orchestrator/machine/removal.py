"""Removing worktrees, but only those whose whole content is on their branch."""

from dataclasses import dataclass
from pathlib import Path

from spec_kitty_orchestrator.machine.git_command import HOOK_TIMEOUT_S, Git


@dataclass(frozen=True)
class Removal:
    """What became of a worktree: `kept` says why it is still there, `saved` is the ref of what was saved."""

    kept: str = ""
    saved: str = ""


async def why_kept(git: Git, branch: str) -> str:
    """Say what would be lost with a worktree, "" if nothing that git does not ignore.

    Raises:
        WorkspaceError: git is broken.
    """
    changes = await git.changes()
    if changes:
        return f"{len(changes)} uncommitted changes, for example {changes[0].path}"
    operation = await git.operation()
    if operation:
        return f"a {operation} is under way"
    if not await git.contains(await git.head(), f"refs/heads/{branch}"):
        return f"its commits are not on {branch}"
    return ""


async def remove(primary: Git, path: Path) -> str:
    """Let git remove a worktree, which it refuses if anything is in the way; say why, "" if it is gone."""
    # Never by force: git looks again for what came meanwhile.
    reply = await primary.ask("worktree", "remove", "--", str(path), timeout_s=HOOK_TIMEOUT_S)
    return "" if reply.code == 0 else f"git says: {reply.complaint}"
