"""Ends a run for good: its process, its agents, and on request our records and worktrees of it.

Uncommitted work is never deleted without a copy; branches and the host's files stay as they are.
"""

import os
import platform
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import psutil

from spec_kitty_orchestrator.app.repository import LOGS
from spec_kitty_orchestrator.app.runs import (
    KnownRun,
    claimed_work,
    describe_run,
    known_runs,
    orphans,
    spelled,
)
from spec_kitty_orchestrator.core.model import Result
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.driver.recover import fold
from spec_kitty_orchestrator.errors import UsageError, WorkspaceError
from spec_kitty_orchestrator.machine.journal import JsonlJournal, SystemClock
from spec_kitty_orchestrator.machine.lock import MissionLock, Owner
from spec_kitty_orchestrator.machine.logs import path_part
from spec_kitty_orchestrator.machine.orphans import Orphan, stop_orphans
from spec_kitty_orchestrator.machine.process import is_running, wait
from spec_kitty_orchestrator.machine.redaction import Redactor, secret_values
from spec_kitty_orchestrator.machine.scrub import scrub_unreported
from spec_kitty_orchestrator.machine.workspaces import GitWorkspaces
from spec_kitty_orchestrator.ports import RunAborted

FIRST_WAIT_S = 15.0
"""For the run's own stop after SIGTERM: its agents' grace is 8 s. One that drains needs a second signal."""

SECOND_WAIT_S = 30.0
"""After the second SIGTERM: the agents are killed and swept, and a host call may be in progress."""

KILL_WAIT_S = 5.0
"""After SIGKILL; the run's records are on disk, and we stop its agents."""

EXIT_WAIT_S = 5.0
"""From the release of the lock to the end of the process."""

POLL_S = 0.1


@dataclass(frozen=True)
class Stopped:
    """What an abort ended.

    Attributes:
        owner: the run's process, None if none was alive.
        killed: whether it had to be killed.
        agents: processes of its attempts that outlived it or had no run any more.
    """

    owner: Owner | None
    killed: bool
    agents: tuple[Orphan, ...]

    @property
    def anything(self) -> bool:
        """Whether there was anything to end."""
        return self.owner is not None or bool(self.agents)


async def find_run_to_abort(root: Path, mission: str | None, *, cleanup: bool) -> KnownRun | None:
    """Find the run to end: the one that was named, the active one, or the only unfinished one.

    Args:
        root: the primary checkout.
        mission: its slug, None if none was given.
        cleanup: whether a run that has ended counts too, because its records can be removed.

    Returns:
        None if there is nothing to abort.

    Raises:
        UsageError: the mission was not run here, or one of several must be named.
    """
    runs = await known_runs(root)
    if mission is not None:
        slug = spelled(root, mission)
        return next(one for one in runs if one.mission == slug)
    at_work = [one for one in runs if one.owner is not None or orphans(root, one.mission)]
    unfinished = [one for one in runs if one.unfinished and not one.aborted]
    for found in (at_work, unfinished, runs if cleanup else []):
        if len(found) > 1:
            listed = "\n".join(f"  {one.mission}  {describe_run(one)}" for one in found)
            raise UsageError(f"choose the run to abort with --mission:\n{listed}")
        if found:
            return found[0]
    return None


async def stop_run(root: Path, run: KnownRun) -> Stopped:
    """Stop the process of a run, then whatever remains of its agents; every wait is bounded.

    Raises:
        WorkspaceError: it runs on another machine, or one of its processes does not end.
    """
    owner, killed = run.owner, False
    if owner is not None:
        if owner.host != platform.node():
            raise WorkspaceError(
                f"{run.mission} is run by process {owner.pid} on {owner.host}; abort it on that machine"
            )
        killed = await _stop_owner(run, owner)
    with MissionLock(run.directory, run.mission):
        logs = root / LOGS / path_part(run.mission)
        agents = await stop_orphans(logs)
        left = await anyio.to_thread.run_sync(orphans, root, run.mission)
        if left:
            pids = ", ".join(str(one.child.pid) for one in left)
            raise WorkspaceError(f"these processes of {run.mission} could not be ended: {pids}")
        # No run will read the reports of these attempts, so nobody else removes the secrets in them.
        redactor = await anyio.to_thread.run_sync(lambda: Redactor(secret_values(os.environ)))
        try:
            await anyio.to_thread.run_sync(scrub_unreported, logs, redactor)
        except OSError as error:
            raise WorkspaceError(
                f"the agents are stopped, but secrets may be left in {logs}: {error}"
            ) from error
    return Stopped(owner, killed, tuple(agents))


async def _stop_owner(run: KnownRun, owner: Owner) -> bool:
    """End the process that holds the lock; return whether it had to be killed."""
    process = owner.process
    steps = (
        (signal.SIGTERM, FIRST_WAIT_S),
        (signal.SIGTERM, SECOND_WAIT_S),
        (signal.SIGKILL, KILL_WAIT_S),
    )
    for number, limit_s in steps:
        if is_running(process):
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)
        with anyio.move_on_after(limit_s):
            while _holds(run, owner):  # noqa: ASYNC110 - another process releases it
                await anyio.sleep(POLL_S)
            # It still prints its summary; a program that imports us may continue with other things.
            with anyio.move_on_after(EXIT_WAIT_S):
                await wait(process)
            return number == signal.SIGKILL
    raise WorkspaceError(f"process {owner.pid} does not end, not even when killed; it hangs in the system")


def _holds(run: KnownRun, owner: Owner) -> bool:
    now = MissionLock(run.directory, run.mission).holder()
    return now is not None and now.process == owner.process


async def record_abort(root: Path, run: KnownRun, stopped: Stopped, *, save: bool = True) -> tuple[str, ...]:
    """Record in the journal that the run was aborted.

    Args:
        root: the primary checkout.
        run: it must have been stopped.
        stopped: what was ended.
        save: keep a copy of uncommitted work in the worktrees of the run.

    Returns:
        The refs of the copies.

    Raises:
        RunActive: it was started again meanwhile.
        JournalError: the journal cannot be read or written.
        WorkspaceError: uncommitted work could not be saved; nothing was changed.
    """
    with MissionLock(run.directory, run.mission):
        journal = JsonlJournal(run.directory, root)
        git = GitWorkspaces(root, run.mission)
        saved = []
        for wp in claimed_work(await journal.read()) if save else ():
            assert wp.workspace is not None
            saved.append(await git.keep(wp.id, wp.workspace, f"aborted-{len(wp.attempts)}"))
        refs = tuple(ref for ref in saved if ref)
        await journal.append(RunAborted(SystemClock().now(), _summary(stopped), refs))
    return refs


def _summary(stopped: Stopped) -> str:
    parts = (
        *((f"process {stopped.owner.pid} was stopped",) if stopped.owner else ()),
        *((f"{len(stopped.agents)} processes of agents were stopped",) if stopped.agents else ()),
    )
    return "; ".join(parts) or "nothing was running"


@dataclass(frozen=True)
class Cleared:
    """One worktree of the run: removed, or kept for a reason; `saved` is a ref."""

    path: str
    work_packages: tuple[str, ...]
    kept: str
    saved: str


async def clean_up(root: Path, run: KnownRun, *, force: bool) -> list[Cleared]:
    """Remove those worktrees of the run that hold nothing unsaved, then our records of the run.

    Args:
        root: the primary checkout.
        run: it must have been stopped.
        force: save uncommitted work under a ref, then remove those worktrees too.

    Raises:
        RunActive: it was started again meanwhile.
        JournalError: the journal is damaged, so the worktrees of the run are unknown.
        WorkspaceError: the records cannot be removed.
    """
    with MissionLock(run.directory, run.mission):
        lines = await JsonlJournal(run.directory, root).read()
        wps = fold(lines, run.started.policy if run.started else Policy((), ())).wps
        git = GitWorkspaces(root, run.mission)
        places: dict[str, list[WorkPackage]] = {}
        for wp in wps.values():
            # Only a claim of ours makes a worktree the run's.
            if wp.workspace is not None and wp.work.base and await anyio.Path(wp.workspace.path).exists():
                places.setdefault(wp.workspace.path, []).append(wp)
        cleared = [await _clear(git, path, inside, wps, force=force) for path, inside in places.items()]
        try:
            await anyio.to_thread.run_sync(_remove_records, run.directory)
        except OSError as error:
            raise WorkspaceError(f"{run.directory} cannot be removed: {error.strerror or error}") from error
    _remove_lock(run.directory)
    return cleared


async def _clear(
    git: GitWorkspaces, path: str, inside: list[WorkPackage], wps: Mapping[str, WorkPackage], *, force: bool
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
    """Find processes whose current directory is in the folder, such as a shell or an editor."""
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
        return  # a new run uses it
