"""Removes what a run left on this machine: its records, and the worktrees that hold nothing of their own."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import psutil

from spec_kitty_orchestrator.app.runs import KnownRun
from spec_kitty_orchestrator.core.model import Policy, Result, WorkPackage
from spec_kitty_orchestrator.driver.recover import fold
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.git import GitWorkspaces
from spec_kitty_orchestrator.machine.journal import JsonlJournal
from spec_kitty_orchestrator.machine.lock import MissionLock


@dataclass(frozen=True)
class Cleared:
    """One worktree of the run: removed, or kept for a reason; `saved` is a ref."""

    path: str
    work_packages: tuple[str, ...]
    kept: str
    saved: str


async def clean_up(root: Path, run: KnownRun, *, force: bool) -> list[Cleared]:
    """Remove the run's worktrees as far as nothing is lost with them, then our records of the run.

    Args:
        root: the primary checkout.
        run: it must have been stopped.
        force: save what is uncommitted under a ref, then remove those worktrees too.

    Raises:
        RunActive: somebody started it again meanwhile.
        JournalError: the journal is damaged, so that it is unknown which worktrees are the run's.
        WorkspaceError: the records cannot be removed.
    """
    with MissionLock(run.directory, run.mission):
        lines = await JsonlJournal(run.directory).read()
        wps = fold(lines, run.started.policy if run.started else Policy((), ()))
        git = GitWorkspaces(root, run.mission)
        places: dict[str, list[WorkPackage]] = {}
        for wp in wps.values():
            # Only a claim of ours makes a worktree the run's.
            if wp.workspace is not None and wp.base and await anyio.Path(wp.workspace.path).exists():
                places.setdefault(wp.workspace.path, []).append(wp)
        cleared = [await _clear(git, path, inside, wps, force=force) for path, inside in places.items()]
        try:
            await anyio.to_thread.run_sync(_remove_records, run.directory)
        except OSError as error:
            raise WorkspaceError(f"{run.directory} cannot be removed: {error.strerror or error}") from error
    _remove_lock(run.directory)
    return cleared


async def _clear(
    git: GitWorkspaces, path: str, inside: list[WorkPackage], wps: dict[str, WorkPackage], *, force: bool
) -> Cleared:
    last, names = inside[-1], tuple(wp.id for wp in inside)
    assert last.workspace is not None
    others = [
        wp.id
        for wp in wps.values()
        if wp.result is Result.FOREIGN and wp.workspace is not None and wp.workspace.path == path
    ]
    if others:
        return Cleared(path, names, f"another actor holds {', '.join(others)} in it", "")
    users = await anyio.to_thread.run_sync(_users, Path(path))
    if users:
        return Cleared(path, names, f"processes work in it: {', '.join(map(str, users))}", "")
    try:
        found = await git.remove(last.id, last.workspace, f"aborted-{len(last.attempts)}" if force else "")
    except WorkspaceError as error:
        return Cleared(path, names, str(error), "")
    return Cleared(path, names, found.kept, found.saved)


def _users(path: Path) -> list[int]:
    """Find processes whose current directory is in the folder: a person's shell or editor, for example."""
    found = []
    for process in psutil.process_iter(["pid", "cwd"]):
        cwd = process.info["cwd"]
        if cwd and process.pid != os.getpid() and Path(cwd).is_relative_to(path):
            found.append(process.pid)
    return found


def _remove_records(directory: Path) -> None:
    for entry in directory.iterdir():
        if entry.name == "lock":
            continue  # held until everything else is gone
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _remove_lock(directory: Path) -> None:
    (directory / "lock").unlink(missing_ok=True)
    try:
        directory.rmdir()
    except OSError:
        return  # a run that began meanwhile uses it
