"""Making a worktree where the host leaves that to us; removing one whose whole content is on its branch."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.core.model import Rescue, Workspace
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.committer import identity
from spec_kitty_orchestrator.machine.git import LONG_TIMEOUT_S, Git
from spec_kitty_orchestrator.machine.repository import Repository, Worktree

__all__ = ["Removal", "create", "mark", "merge", "recreate", "remove", "why_kept"]


async def mark(git: Git) -> str:
    """Name a worktree so that another one, made at the same place, has another name; "" for the primary."""
    if git.git_dir is None or git.common is None:
        return ""
    try:
        # Git writes it when it makes or moves the worktree.
        made = await anyio.Path(git.git_dir / "gitdir").stat()
    except OSError:
        return ""
    return f"{git.git_dir.name}:{made.st_ino}:{made.st_mtime_ns}"


async def recreate(repository: Repository, workspace: Workspace, branch: str) -> None:
    """Check out the host's branch again where its worktree is gone.

    Raises:
        WorkspaceError: the branch is gone too, or git refuses.
    """
    primary = repository.primary
    await _forget(primary, Path(workspace.path))
    if not await primary.sha(f"refs/heads/{branch}"):
        raise WorkspaceError(
            f"the worktree {workspace.path} and its branch {branch} are both missing; restore the branch "
            "(`git reflog`, a backup, a remote), or move the work package back to planned"
        )
    guarded = await repository.guarded(Path(workspace.path))
    await guarded.run("worktree", "add", "--", workspace.path, branch, timeout_s=LONG_TIMEOUT_S)


async def _forget(primary: Git, path: Path) -> None:
    """Let git forget the worktree of a folder that is gone, and no other one."""
    # `worktree prune` would forget every worktree whose `.git` file an agent has removed.
    if not await anyio.Path(path).exists():
        await primary.ask("worktree", "remove", "--force", "--", str(path))


async def create(
    repository: Repository, workspace: Workspace, branch: str, dependencies: Sequence[str]
) -> None:
    """Make worktree and branch of a mission without lanes, with the work of its dependencies merged in.

    The branch comes last: where it exists, everything before it was done.

    Args:
        repository: the HEAD of its primary checkout is the start.
        workspace: where the worktree belongs.
        branch: to be made, or checked out if it exists.
        dependencies: branches; those that do not exist are passed over.

    Raises:
        WorkspaceError: a dependency conflicts, or git refuses.
    """
    primary, path = repository.primary, Path(workspace.path)
    await _ignore_worktrees(repository, path)
    there = await repository.peek(path) is not None
    known = bool(await primary.sha(f"refs/heads/{branch}"))
    if there and known:
        return
    if not there:
        await _forget(primary, path)
        target = (workspace.path, branch) if known else ("--detach", workspace.path, await primary.head())
        await (await repository.guarded(path)).run("worktree", "add", *target, timeout_s=LONG_TIMEOUT_S)
    made = await repository.worktree(path)
    if made is None:
        raise WorkspaceError(f"git made no worktree in {path}; see `git worktree list`")
    for dependency in dependencies:
        await merge(made, dependency, await made.git.sha(f"refs/heads/{dependency}"))
    if not known:
        await made.git.run("switch", "--quiet", "--create", branch)


async def merge(made: Worktree, name: str, tip: str) -> None:
    """Merge a commit, which people know by `name`, into what is checked out; nothing if there is none.

    Raises:
        WorkspaceError: it conflicts, or git refuses.
    """
    git = made.git
    if not tip or await git.contains(tip, "HEAD"):
        return
    command = (
        *identity(made.configured),
        "merge",
        "--ff",
        "--quiet",
        "--no-edit",
        "-m",
        f"Merge {name}",
        tip,
    )
    reply = await git.ask(*command, timeout_s=LONG_TIMEOUT_S)
    if reply.rc == 0:
        return
    await git.ask("merge", "--abort")
    again = shlex.join(("git", "-C", str(git.path), "merge", name))
    raise WorkspaceError(
        f"{name} cannot be merged into {git.path}: {reply.complaint}\n"
        f"a person must merge it: `{again}`, resolve, commit, and start again"
    )


async def _ignore_worktrees(repository: Repository, path: Path) -> None:
    """Keep a worktree inside the primary checkout from showing there as untracked."""
    primary = repository.primary
    if not path.is_relative_to(primary.path) or path == primary.path:
        return
    folder = f"{path.relative_to(primary.path).parts[0]}/"
    if (await primary.ask("check-ignore", "--quiet", "--", folder)).rc == 0:
        return
    await to_thread.run_sync(_add_line, repository.common / "info" / "exclude", f"/{folder}")


def _add_line(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_bytes() if path.exists() else b""
    with path.open("ab") as file:
        file.write((b"\n" if before and not before.endswith(b"\n") else b"") + line.encode() + b"\n")


@dataclass(frozen=True)
class Removal:
    """What became of a worktree: `kept` says why it is still there, `saved` is what became of its work."""

    kept: str = ""
    saved: Rescue = field(default_factory=Rescue)


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
    reply = await primary.ask("worktree", "remove", "--", str(path), timeout_s=LONG_TIMEOUT_S)
    return "" if reply.rc == 0 else f"git says: {reply.complaint}"
