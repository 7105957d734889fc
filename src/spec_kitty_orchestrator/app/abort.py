"""Ends a run for good: its process, its agents, and on request our records and worktrees of it.

Uncommitted work is never deleted without a copy; branches and the host's files stay as they are.
"""

import os
import platform
import shutil
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import psutil
from anyio import to_thread

from spec_kitty_orchestrator.app.cluster import stop_left
from spec_kitty_orchestrator.app.operator import project_of_run
from spec_kitty_orchestrator.app.runs import (
    KnownRun,
    claims,
    describe_run,
    known_runs,
    left_alone,
    named_run,
    only,
    orphans,
    pids,
    put_aside,
    spent_before,
)
from spec_kitty_orchestrator.app.trust import own_records
from spec_kitty_orchestrator.core.describe import command_line
from spec_kitty_orchestrator.core.model import Rescue, Result, Usage, total
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import RunAborted
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine import process
from spec_kitty_orchestrator.machine.journal import JsonlJournal, SystemClock
from spec_kitty_orchestrator.machine.lock import MissionLock, Owner
from spec_kitty_orchestrator.machine.logs import mission_logs
from spec_kitty_orchestrator.machine.orphans import elsewhere, stop_orphans
from spec_kitty_orchestrator.machine.process import is_running, wait
from spec_kitty_orchestrator.machine.redaction import ours
from spec_kitty_orchestrator.machine.scrub import scrub_unreported
from spec_kitty_orchestrator.machine.workspaces import GitWorkspaces
from spec_kitty_orchestrator.machine.worktree import Removal

__all__ = ["abort"]

STEPS = ((signal.SIGTERM, 15.0), (signal.SIGTERM, 30.0), (signal.SIGKILL, 5.0))
"""What a run's process gets, each with the seconds for which we then wait.

Its agents' grace is 8 s, a run that drains needs a second signal, and a host call may be in progress.
"""

EXIT_WAIT_S = 5.0
"""From the release of the lock to the end of the process."""

POLL_S = 0.1


async def abort(
    root: Path, mission: str | None, *, cleanup: bool, force: bool, say: Callable[[str], None]
) -> None:
    """Stop a run and its agents, and record that it is over: the named, the active or the only unfinished.

    With `cleanup`, remove its worktrees that hold nothing unsaved, and our records of it; with `force`, save
    uncommitted work under a ref, and remove those worktrees too. `say` gets lines for people.

    Raises:
        UsageError: the mission was not run here, or one of several must be named.
        PreflightError: records of it came with the clone and nobody trusts them.
        OrchestratorError: it did not succeed; what was stopped stays so, and unsaved work where it is.
    """
    # They say which folders are removed.
    (await to_thread.run_sync(own_records, root)).demand()
    run = await _chosen(root, mission, ended_too=cleanup)
    if run is None:
        say("nothing to abort: no run is active or unfinished here")
        return
    if run.owner is not None:
        say(f"{run.mission}: stopping process {run.owner.pid}; its agents get some seconds to save")
    stopped = await _stop(root, run)
    for line in stopped:
        say(f"{run.mission}: {line}")
    if not stopped and not (run.unfinished and not run.aborted) and not cleanup:
        say(f"nothing to abort: {run.mission} {describe_run(run)}")
        return
    if run.damage is not None:
        raise run.damage
    # With force, work is saved when its worktree is removed.
    copies = await _record(root, run, stopped, save=not force)
    for ref in copies.refs:
        say(f"a copy of uncommitted work is saved: {ref}")
    for path in copies.lacking:
        say(f"no copy was made of {path}, which git cannot hold")
    say(f"{run.mission}: aborted; no process of it is left here")
    if not cleanup:
        again = command_line("resume", "--mission", run.mission)
        say(f"Its worktrees, branches and lanes are as they were. To go on after all: {again}")
        return
    for line in await _clean_up(root, run, force=force):
        say(line)
    if copies:
        say("What a kept worktree holds is saved above. Before another run of this mission, commit it there,")
        say(
            "or remove the worktree with `git worktree remove --force PATH`: that loses only what git ignores"
        )
        say("and what no copy was made of.")
    what = str(run.directory)
    if await to_thread.run_sync(run.directory.exists):
        what = f"all of {run.directory} but journals, which tell what the runs cost"
    say(f"removed: {what}; branches, logs and the host's lanes are as they were")


async def _chosen(root: Path, mission: str | None, *, ended_too: bool) -> KnownRun | None:
    if mission is not None:
        return await named_run(root, mission)
    runs = await known_runs(root)
    at_work = [one for one in runs if one.owner is not None or orphans(root, one.mission)]
    unfinished = [one for one in runs if one.unfinished and not one.aborted]
    return only(at_work or unfinished or (runs if ended_too else []), "choose the run to abort")


async def _stop(root: Path, run: KnownRun) -> list[str]:
    """Stop the process of a run, then whatever remains of its agents; return what was ended."""
    told = []
    if run.owner is not None:
        owner = f"process {run.owner.pid}"
        if run.owner.host != platform.node():
            place = run.owner.host
            raise WorkspaceError(f"{run.mission} is run by {owner} on {place}; abort it on that machine")
        killed = await _stop_owner(run, run.owner)
        told.append(f"{owner} {'had to be killed' if killed else 'stopped its agents and ended'}")
    with MissionLock(run.directory, run.mission):
        logs = mission_logs(root, run.mission)
        if places := await to_thread.run_sync(elsewhere, logs):
            raise WorkspaceError(process.out_of_reach(f"an agent of {run.mission}", places[0]))
        if agents := await stop_orphans(logs):
            told.append(f"agents that no run watched were stopped: processes {pids(agents)}")
        if left := await to_thread.run_sync(orphans, root, run.mission):
            raise WorkspaceError(f"these processes of {run.mission} could not be ended: {pids(left)}")
        opened = partial(project_of_run, root, os.environ, run.mission)
        told += await stop_left(root, run.mission, opened)
        if holding := await to_thread.run_sync(left_alone, root, run.mission):
            told.append(holding)
        try:
            # No run will read the reports of these attempts, so nobody else removes the secrets in them.
            await to_thread.run_sync(lambda: scrub_unreported(logs, ours()))
        except OSError as error:
            raise WorkspaceError(
                f"the agents are stopped, but secrets may be left in {logs}: {error}"
            ) from error
    return told


async def _stop_owner(run: KnownRun, owner: Owner) -> bool:
    """End the process that holds the lock; return whether it had to be killed."""
    lock = MissionLock(run.directory, run.mission)
    if not is_running(owner.process):
        # It ended just now, or it is in another container, where no signal of ours reaches.
        with anyio.move_on_after(EXIT_WAIT_S):
            while (now := lock.holder()) and now.process == owner.process:  # noqa: ASYNC110 - of another process
                await anyio.sleep(POLL_S)
            return False
        raise WorkspaceError(
            f"{run.mission} is run by process {owner.pid}, which is not seen from here, as if in another "
            "container: abort it there"
        )
    for number, limit_s in STEPS:
        if is_running(owner.process):
            with suppress(ProcessLookupError):
                os.kill(owner.pid, number)
        with anyio.move_on_after(limit_s):
            while (now := lock.holder()) and now.process == owner.process:  # noqa: ASYNC110 - of another process
                await anyio.sleep(POLL_S)
            # It still prints its summary; a program that imports us may continue with other things.
            with anyio.move_on_after(EXIT_WAIT_S):
                await wait(owner.process)
            return number == signal.SIGKILL
    raise WorkspaceError(f"process {owner.pid} does not end, not even when killed; it hangs in the system")


async def _record(root: Path, run: KnownRun, stopped: Sequence[str], *, save: bool) -> Rescue:
    """Record the end in the journal; with `save`, copy uncommitted work before, and say what became of it."""
    with MissionLock(run.directory, run.mission):
        journal = JsonlJournal(run.directory, root)
        kept = Rescue()
        if save:
            _, claimed = claims(await journal.read())
            for *_, wp in claimed.values():
                assert wp.workspace is not None
                git = GitWorkspaces(root, run.mission)
                kept += await git.keep(wp.id, wp.workspace, f"aborted-{len(wp.attempts)}")
        await journal.append(
            RunAborted(SystemClock().now(), "; ".join(stopped) or "nothing was running", kept.refs)
        )
    return kept


async def _clean_up(root: Path, run: KnownRun, *, force: bool) -> list[str]:
    """Remove the run's worktrees, where nothing speaks against it, and its records; return what was done."""
    told = []
    with MissionLock(run.directory, run.mission) as lock:
        state, claimed = claims(await JsonlJournal(run.directory, root).read())
        git = GitWorkspaces(root, run.mission)
        for path, wps in claimed.items():
            if await anyio.Path(path).exists():
                found, names = await _clear(git, state, path, wps[-1], force), ", ".join(wp.id for wp in wps)
                told += [f"saved: {ref} ({names})" for ref in found.saved.refs]
                told += [f"moved aside: {place} ({names})" for place in found.saved.aside]
                told.append(
                    f"kept: {path} ({names}): {found.kept}" if found.kept else f"removed: {path} ({names})"
                )
        before, _ = await spent_before(root, run.mission)
        # What was spent is not forgotten with the rest.
        keep = total((before.usage, state.spent)) != Usage()
        try:
            await to_thread.run_sync(_remove_records, lock, keep)
        except OSError as error:
            raise WorkspaceError(f"{run.directory} cannot be removed: {error.strerror or error}") from error
    return told


async def _clear(git: GitWorkspaces, state: RunState, path: str, last: WorkPackage, force: bool) -> Removal:
    assert last.workspace is not None
    foreign = [wp for wp in state.wps.values() if wp.result is Result.FOREIGN]
    if others := ", ".join(wp.id for wp in foreign if wp.workspace and wp.workspace.path == path):
        return Removal(f"another actor holds {others} in it")
    if users := await to_thread.run_sync(_users, Path(path)):
        return Removal(f"processes work in it: {', '.join(map(str, users))}")
    try:
        return await git.remove(last.id, last.workspace, f"aborted-{len(last.attempts)}" if force else "")
    except WorkspaceError as error:
        return Removal(str(error))


def _users(path: Path) -> list[int]:
    """Find processes whose current directory is in the folder, such as a shell or an editor."""
    here = psutil.process_iter(["pid", "cwd"])
    found = [one.pid for one in here if one.info["cwd"] and Path(one.info["cwd"]).is_relative_to(path)]
    return [one for one in found if one != os.getpid()]


def _remove_records(lock: MissionLock, keep_journals: bool) -> None:
    if keep_journals:
        put_aside(lock.directory / "journal.jsonl")
    for entry in lock.directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif keep_journals and (entry.name == ".gitignore" or entry.match("journal-*.jsonl")):
            continue
        elif entry.name != "lock":
            entry.unlink()
    lock.remove()
    with suppress(OSError):  # a new run may use it, and journals are kept
        lock.directory.rmdir()
