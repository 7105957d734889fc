"""One mission of the repository: read from the host, and locked before it is changed."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.app.build import VERSION, Say, build_host, journal
from spec_kitty_orchestrator.app.checks import Finding, Level, error, errors, line, stop_at
from spec_kitty_orchestrator.app.checks.agents import check_sandboxes, preflight
from spec_kitty_orchestrator.app.checks.clone import check_clone
from spec_kitty_orchestrator.app.checks.git import check_git
from spec_kitty_orchestrator.app.checks.host import check_project, fix_of_host
from spec_kitty_orchestrator.app.checks.lanes import check_lanes
from spec_kitty_orchestrator.app.checks.machine import check_commands
from spec_kitty_orchestrator.app.checks.mission import check_start
from spec_kitty_orchestrator.app.checks.task_files import told_by_the_host, unreadable_file
from spec_kitty_orchestrator.app.cluster import check_cluster, check_executor, check_left
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.repository import (
    MISSIONS,
    checkouts,
    current_branch,
    finalize_command,
    held_elsewhere,
    listed,
    mission_files,
    missions,
    on_branch,
    switch_command,
    task_files,
)
from spec_kitty_orchestrator.app.runs import (
    archive_journal,
    describe_end,
    known_run,
    left_alone,
    refuse_handed_over,
    spent_before,
)
from spec_kitty_orchestrator.cluster.agents import ClusterAgents
from spec_kitty_orchestrator.config import nearest
from spec_kitty_orchestrator.core.describe import command_line, describe
from spec_kitty_orchestrator.core.model import MissionState, Usage
from spec_kitty_orchestrator.core.run_events import Entry
from spec_kitty_orchestrator.errors import HostCrash, HostError, HostRefusal, OrchestratorError, UsageError
from spec_kitty_orchestrator.host.client import HostClient
from spec_kitty_orchestrator.machine.journal import SystemClock
from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.machine.runner import LocalAgents

__all__ = ["OpenMission", "find_mission", "locked_mission", "open_mission", "read_and_check", "read_mission"]

SANDBOXES_LIMIT_S = 5.0
"""A start waits no longer for agents' own sandboxes; one takes half a second, and a host call as long."""


@asynccontextmanager
async def locked_mission(
    project: Project,
    host: HostClient,
    mission: str,
    read: Callable[[], Awaitable[MissionState]] | None = None,
) -> AsyncIterator[tuple[MissionState, MissionLock]]:
    """Read a mission, then hold its lock and yield both; no run has changed its state since it was read.

    The lock is taken this late so that a start that is refused leaves nothing behind. If a run was at work
    meanwhile, the host is asked again. Raises `RunActive` if one is now, and what `read` raises.
    """
    before = None
    if MissionLock(project.directory(mission), mission).holder() is None:
        before = _records(project.directory(mission))
    state = await (read() if read else read_mission(project, host, mission))
    lock = MissionLock(project.directory(state.slug), state.slug)
    async with lock:
        if before != _records(lock.directory):
            state = await read_mission(project, host, state.slug)
        yield state, lock


def _records(directory: Path) -> tuple[object, ...]:
    """Return what differs after a run was at work: whoever changes lanes writes to the journal first."""
    try:
        found = (directory / "journal.jsonl").stat()
    except OSError:
        return (directory,)
    return directory, found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class OpenMission:
    """A mission that was checked and locked for a start."""

    host: HostClient
    state: MissionState
    lock: MissionLock


@asynccontextmanager
async def open_mission(
    project: Project, mission: str, agents: LocalAgents, say: Say, note_call: Say, *, fresh: bool
) -> AsyncIterator[OpenMission]:
    """Check what a run needs, then lock the mission and yield it.

    `say` gets lines for people, `note_call` the name of each host call; a `fresh` start archives the journal
    of an earlier run.

    Raises:
        OrchestratorError: everything that prevents the run, as one error.
    """
    found = [*await check_commands(project), *check_executor(project), *preflight(project, agents)]
    problems = errors(found)
    try:
        host = build_host(project, say, note_call)
    except OrchestratorError as failure:
        stop_at([*problems, failure])
        raise
    async with host:
        say(f"asking spec-kitty for the mission {mission}")
        _say_warnings(found, say)

        async def checked() -> MissionState:
            read, more = await read_and_check(project, host, mission, agents, SANDBOXES_LIMIT_S)
            _say_warnings(more, say)
            stop_at([*problems, *errors(more), *([read] if isinstance(read, OrchestratorError) else [])])
            assert isinstance(read, MissionState)
            return read

        async with AsyncExitStack() as stack:
            state, lock = await stack.enter_async_context(locked_mission(project, host, mission, checked))
            stop_at(errors(await to_thread.run_sync(check_left, project, state.slug)))
            # Only now: workers of this machine belong to whoever holds the lock.
            await stack.enter_async_context(agents.serving(state.slug))
            if isinstance(agents, ClusterAgents):
                offered = await check_cluster(project, agents.transport, VERSION)
                _say_warnings(offered, say)
                stop_at(errors(offered))
            for text in await _about_earlier_runs(project, state.slug, mission, fresh=fresh):
                say(f"{state.slug}: {text}")
            for one in await check_lanes(project, state):
                say(f"warning: {one.text}; a run takes it up after: {one.fix}")
            yield OpenMission(host, state, lock)


def _say_warnings(found: Sequence[Finding], say: Say) -> None:
    for one in found:
        if one.level is Level.WARNING:
            say(f"warning: {one.text}")


async def read_and_check(
    project: Project, host: HostClient, mission: str, agents: LocalAgents, sandboxes_limit_s: float
) -> tuple[MissionState | OrchestratorError, list[Finding]]:
    """Read a mission, and check what every start needs of the host, of git, of the mission and of agents.

    All of it is asked at once, since a host call takes seconds.

    Returns:
        The mission, or why it cannot be run; and what was found besides.
    """
    answers: dict[str, object] = {}

    async def ask(what: str, question: Callable[[], Awaitable[object]]) -> None:
        try:
            answers[what] = await question()
        except OrchestratorError as failure:
            answers[what] = failure

    questions: dict[str, Callable[[], Awaitable[object]]] = {
        "contract": host.check_contract,
        "project": partial(check_project, project, host),
        "mission": partial(read_mission, project, host, mission),
    }
    found: list[Finding] = []
    async with anyio.create_task_group() as tasks:
        for what, question in questions.items():
            tasks.start_soon(ask, what, question)
        found += await check_git(project.root)
        if not project.settings.run.elsewhere:
            found += await check_sandboxes(agents, project.agents, sandboxes_limit_s)
    # What a host says of a mission adds nothing if it cannot be used.
    for what in questions:
        if isinstance(failure := answers[what], HostError):
            fix = fix_of_host(project, failure)
            return errors([error("host", str(failure), fix, kind=HostError)])[0], found
        if isinstance(failure, OrchestratorError):
            return failure, found
    state = answers["mission"]
    assert isinstance(state, MissionState)
    for one in await check_start(project.root, state):
        wrong = one.level is Level.ERROR
        found += await told_by_the_host(project.root, state.slug, host, [one]) if wrong else [one]
    return state, found


async def _about_earlier_runs(project: Project, mission: str, named: str, *, fresh: bool) -> list[str]:
    """Archive the journal of an earlier run for a fresh start; return what people are told of earlier runs.

    A new journal begins with what the runs have used whose journals were put aside.
    """
    root, told = project.root, list[str]()
    if fresh:
        archived = archive_journal(root, mission)
        kept = f"; the earlier journal is kept as {archived.relative_to(root)}" if archived else ""
        holding = f"; {one}" if (one := left_alone(root, mission)) else ""
        told.append(f"a fresh start{kept}{holding}")
    lines = journal(project, mission)
    earlier = await known_run(root, mission)
    refuse_handed_over(earlier)
    # A crash may have left a journal in which nothing is told yet.
    if earlier.started is not None or earlier.damage is not None:
        if earlier.aborted and named not in (mission, mission.rpartition("-")[2]):
            # The host takes a part of a slug for it.
            raise UsageError(f"the run of {mission} was aborted: name it in full to go on with it")
        return [f"continues the run that {describe_end(earlier)}"] if earlier.unfinished else []
    before, silent = await spent_before(root, mission)
    told += [
        f"what its runs in {one.relative_to(root)} cost cannot be read, and does not count" for one in silent
    ]
    if before.usage != Usage():
        await lines.append(Entry(SystemClock().now(), "", before))
        told.append(f"{describe(before)}; this counts towards the budget")
    return told


async def read_mission(project: Project, host: HostClient, mission: str) -> MissionState:
    """Read the mission from the host, with titles and subtasks from its files: there is something to run.

    Raises `HostError`, and what `find_mission` finds instead as an error.
    """
    found = await find_mission(project, host, mission)
    if isinstance(found, Finding):
        raise errors([found])[0]
    tasks = await to_thread.run_sync(task_files, project.root, found.slug)
    tasks = {wp: one for wp, one in tasks.items() if wp in found.lanes}
    return replace(
        found,
        titles={wp: one.title for wp, one in tasks.items() if one.title},
        subtasks={wp: one.subtasks for wp, one in tasks.items() if one.subtasks},
    )


async def find_mission(project: Project, host: HostClient, mission: str) -> MissionState | Finding:
    """Read the mission from the host, or say why there is nothing to run. Raises `HostError`."""
    try:
        state = await host.mission_state(mission)
    except HostCrash as crash:
        found = await to_thread.run_sync(unreadable_file, project.root, mission, crash.exception)
        if found is None:
            raise
        return found
    except HostRefusal as refusal:
        if refusal.code == "MISSION_NOT_FOUND":
            return _no_mission(project.root, mission)
        if refusal.code == "TASKS_NOT_FINALIZED":
            slug = str(refusal.data.get("mission_slug") or mission)
            # It also says so of a mission whose lanes are on a branch that is not here.
            lacking = await to_thread.run_sync(partial(check_clone, project.root, slug, read=False))
            found = lacking[0] if lacking else error("mission.tasks", refusal.message, finalize_command(slug))
            return (await told_by_the_host(project.root, slug, host, [found]))[0]
        raise
    if state.lanes:
        return state
    found = _no_work_packages(project.root, state.slug)
    return (await told_by_the_host(project.root, state.slug, host, [found]))[0]


def _no_mission(root: Path, mission: str) -> Finding:
    known = missions(root)
    # Its lanes have its files too.
    found = [
        (path, branch)
        for path, branch in checkouts(root).items()
        if branch and mission_files(path, mission).target_branch == branch
    ]
    if mission not in known and found:
        place, branch = found[0]
        text = f" in {root}, where the host works; it is on {branch}, which the worktree {place} has"
        fix = switch_command(root, branch)
    elif len(same := [one for one in known if mission in (one.rpartition("-")[0], one[: len("001")])]) > 1:
        text = f" alone: {len(same)} are called so, {listed(same, mission)}"
        fix = command_line("doctor", "--mission", same[0])
    elif known:
        text = f"{nearest(mission, known) or ';'} missions here: {listed(known, mission)}"
        (close,) = get_close_matches(mission, known, n=1, cutoff=0) or known[:1]
        fix = command_line("doctor", "--mission", close)
    else:
        text = f": {root} has no missions in {MISSIONS}/ on {on_branch(root)}"
        fix = line("git", "-C", root, "branch", "--all")
    return error("mission.exists", f"there is no mission {mission!r}{text}", fix, kind=UsageError)


def _no_work_packages(root: Path, slug: str) -> Finding:
    files = mission_files(root, slug)
    home = files.home
    unseen = f"the host sees no work packages of {slug}"
    if home and current_branch(root) != home:
        fix = switch_command(root, home)
        lives = f"{home}{held_elsewhere(root, home)}"
        text = f"{unseen}: {root} is on {on_branch(root)}, but the mission lives on {lives}; run: {fix}"
        return error("mission.branch", text, fix)
    if files.work_packages:
        fix = finalize_command(slug)
        text = f"{unseen}, although there are {files.work_packages} files in tasks/; run: {fix}"
        return error("mission.tasks", text, fix)
    text = (
        f"{slug} has no work packages on {on_branch(root)}: switch to the branch where it was planned, "
        "or plan it first (tasks.md and tasks/WP*.md)"
    )
    return error("mission.tasks", text, line("git", "-C", root, "branch", "--all"))
