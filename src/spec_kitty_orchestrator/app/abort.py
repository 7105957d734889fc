"""Ends a run for good: its process, its agents, and if that is wanted our records and worktrees of it.

What is not committed is never deleted unsaved; branches and everything of the host's stay as they are.
"""

import os
import platform
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from spec_kitty_orchestrator.app.repository import LOGS
from spec_kitty_orchestrator.app.runs import (
    KnownRun,
    claimed_work,
    describe,
    known_runs,
    spelled,
    strays,
)
from spec_kitty_orchestrator.errors import UsageError, WorkspaceError
from spec_kitty_orchestrator.machine.git import GitWorkspaces
from spec_kitty_orchestrator.machine.journal import JsonlJournal, SystemClock
from spec_kitty_orchestrator.machine.lock import MissionLock, Owner
from spec_kitty_orchestrator.machine.logs import path_part
from spec_kitty_orchestrator.machine.process import Child, is_running, wait
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.machine.scrub import scrub_unreported
from spec_kitty_orchestrator.machine.secret_names import secret_values
from spec_kitty_orchestrator.machine.strays import Stray, stop_strays
from spec_kitty_orchestrator.ports import RunAborted

FIRST_WAIT_S = 15.0
"""For the run's own stop after SIGTERM: its agents' grace is 8 s. One that drains needs a second signal."""

SECOND_WAIT_S = 30.0
"""After the second SIGTERM: the agents' kill and sweep, and a call of the host's that is under way."""

KILL_WAIT_S = 5.0
"""After SIGKILL; what the run had recorded is on disk, and its agents are stopped by us."""

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
    agents: tuple[Stray, ...]

    @property
    def anything(self) -> bool:
        """Whether there was anything to end."""
        return self.owner is not None or bool(self.agents)


async def choose_to_abort(root: Path, mission: str | None, *, cleanup: bool) -> KnownRun | None:
    """Choose the run to end: the one that was named, the one at work, or the only unfinished one.

    Args:
        root: the primary checkout.
        mission: its slug, if it was named.
        cleanup: whether a run that ended counts too, since its records can be removed.

    Returns:
        None if there is nothing to abort.

    Raises:
        UsageError: the mission was not run here, or one of several must be named.
    """
    runs = await known_runs(root)
    if mission is not None:
        slug = spelled(root, mission)
        return next(one for one in runs if one.mission == slug)
    at_work = [one for one in runs if one.owner is not None or strays(root, one.mission)]
    unfinished = [one for one in runs if one.unfinished and not one.aborted]
    for found in (at_work, unfinished, runs if cleanup else []):
        if len(found) > 1:
            listed = "\n".join(f"  {one.mission}  {describe(one)}" for one in found)
            raise UsageError(f"choose the run to abort with --mission:\n{listed}")
        if found:
            return found[0]
    return None


async def stop_run(root: Path, run: KnownRun) -> Stopped:
    """Stop the process of a run, then whatever is left of its agents; every wait is bounded.

    Raises:
        WorkspaceError: it runs on another machine, or something of it is still there at the end.
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
        agents = await stop_strays(logs)
        left = await anyio.to_thread.run_sync(strays, root, run.mission)
        if left:
            pids = ", ".join(str(one.child.pid) for one in left)
            raise WorkspaceError(f"these processes of {run.mission} could not be ended: {pids}")
        # Nobody will read the reports of what was cut off here, and so nobody else takes their secrets out.
        redactor = await anyio.to_thread.run_sync(lambda: Redactor(secret_values(os.environ)))
        try:
            await anyio.to_thread.run_sync(scrub_unreported, logs, redactor)
        except OSError as error:
            raise WorkspaceError(
                f"the agents are stopped, but secrets may be left in {logs}: {error}"
            ) from error
    return Stopped(owner, killed, tuple(agents))


async def _stop_owner(run: KnownRun, owner: Owner) -> bool:
    """End the process that holds the lock; tell whether it had to be killed."""
    process = Child(owner.pid, owner.create_time)
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
            # It has still to print its summary; a program that imports us may go on with other things.
            with anyio.move_on_after(EXIT_WAIT_S):
                await wait(process)
            return number == signal.SIGKILL
    raise WorkspaceError(f"process {owner.pid} does not end, not even when killed; it hangs in the system")


def _holds(run: KnownRun, owner: Owner) -> bool:
    now = MissionLock(run.directory, run.mission).holder()
    return now is not None and (now.pid, now.create_time) == (owner.pid, owner.create_time)


async def record_abort(root: Path, run: KnownRun, stopped: Stopped, *, save: bool = True) -> tuple[str, ...]:
    """Write into the journal that the run was ended for good.

    Args:
        root: the primary checkout.
        run: it must have been stopped.
        stopped: what was ended.
        save: keep a copy of what is uncommitted in the worktrees of the run.

    Returns:
        The refs of the copies.

    Raises:
        RunActive: somebody started it again meanwhile.
        JournalError: the journal cannot be read or written.
        WorkspaceError: uncommitted work could not be saved; nothing was changed.
    """
    with MissionLock(run.directory, run.mission):
        journal = JsonlJournal(run.directory)
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
