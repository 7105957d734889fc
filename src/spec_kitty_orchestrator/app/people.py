"""What a person does to a work package, in a run or without one: take it over, hand it back, approve it."""

from collections.abc import Callable
from pathlib import Path

from spec_kitty_orchestrator.app.operator import Decisions, Operation, operations
from spec_kitty_orchestrator.app.orders import give, refuse_agents
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.runs import claims, last_start
from spec_kitty_orchestrator.config import nearest
from spec_kitty_orchestrator.core.commands import (
    Command,
    Commit,
    PrepareWorkspace,
    Resolve,
    RunGates,
    Submit,
    TickSubtasks,
    Wait,
)
from spec_kitty_orchestrator.core.describe import short
from spec_kitty_orchestrator.core.model import Phase
from spec_kitty_orchestrator.core.operator_events import ApprovedByPerson, HandedBack, TakenOver
from spec_kitty_orchestrator.core.orders import Approve, HandBack, TakeOver
from spec_kitty_orchestrator.core.people import (
    why_not_approved,
    why_not_handed_back,
    why_not_taken,
    why_other_commit,
)
from spec_kitty_orchestrator.core.plain_text import plain
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.errors import UsageError, WorkspaceError
from spec_kitty_orchestrator.machine.journal import JsonlJournal
from spec_kitty_orchestrator.machine.logs import JOURNALS
from spec_kitty_orchestrator.machine.workspaces import GitWorkspaces
from spec_kitty_orchestrator.ports import Workspaces

__all__ = ["approve", "approve_in_run", "hand_back", "hand_back_in_run", "take_over", "take_over_in_run"]

LONGEST_NAME = 80

Say = Callable[[str], None]


def checked_name(by: str) -> str:
    """Return the name of a person. Raises `UsageError` if it is none, or if it is an agent that asks."""
    refuse_agents()
    if not by.strip() or len(by) > LONGEST_NAME or plain(by) != by or not by.isprintable():
        raise UsageError(f"--as takes the name of a person, in one line of at most {LONGEST_NAME} characters")
    return by.strip()


async def take_over(project: Project, mission: str, wp_id: str, by: str, say: Say) -> None:
    """Give a work package to a person; an agent that still works on it is stopped, and its work is kept.

    Raises `UsageError` if that may not be.
    """
    by = checked_name(by)
    async with operations(project, mission) as decisions:
        wp = decisions.known.wps.get(wp_id)
        if wp is not None and (why := why_not_taken(wp, (), by)):
            raise UsageError(why)
        operation = await _located(decisions, wp_id, stop=True)
        if why := why_not_taken(operation.wp, decisions.unmet(operation.wp), by):
            raise UsageError(why)
        await operation.settle()
        command = await operation.record(TakenOver(by))
        await _told_or_not(operation, await operation.go_on(command, ()), say)
        if operation.wp.taken is None or operation.wp.phase is not Phase.FINISHED:
            say(f"{wp_id} could not be taken over: {operation.wp.note}")
            return
        say(f"{wp_id} is yours, {by}: {operation.wp.lane} on the host; no run touches it until it is back")


async def take_over_in_run(root: Path, mission: str, wp_id: str, by: str, say: Say) -> bool:
    """Do the same in the run that is active; False if none is. Raises `UsageError` if that may not be."""
    return await give(root, mission, TakeOver(wp_id, checked_name(by)), say)


async def hand_back(project: Project, mission: str, wp_id: str, by: str, note: str, say: Say) -> None:
    """Commit what a person left in a worktree, and put the work package back into the run.

    Raises `UsageError` if that may not be.
    """
    by = checked_name(by)
    async with operations(project, mission) as decisions:
        operation = await decisions.of(wp_id)
        if why := why_not_handed_back(operation.wp, by):
            raise UsageError(why)
        event = HandedBack(by, note, tuple(decisions.subtasks.get(wp_id, ())))
        command = await operation.record(event)
        stops = (RunGates, PrepareWorkspace, Submit, TickSubtasks)
        command = await operation.go_on(command, stops)
        await _told_or_not(operation, command, say)
        wp = operation.wp
        if isinstance(command, stops):
            gates = isinstance(command, RunGates | PrepareWorkspace)
            follow = "its gates and its review follow" if gates else "its review follows"
            say(f"{wp_id} is back, at {short(wp.work.head)}: {follow} at the next start")
        else:
            say(f"{wp_id}: {wp.note}")
        for left in (*wp.work.left_out, *wp.work.notes):
            say(f"  not committed: {left}")
        say(await operation.next_command())


async def hand_back_in_run(root: Path, mission: str, wp_id: str, by: str, note: str, say: Say) -> bool:
    """Do the same in the run that is active; False if none is. Raises `UsageError` if that may not be."""
    started, _ = last_start(await JsonlJournal(root / JOURNALS / mission, root).read())
    subtasks = started.mission.subtasks.get(wp_id, ()) if started is not None else ()
    return await give(root, mission, HandBack(wp_id, checked_name(by), note, tuple(subtasks)), say)


async def approve(
    project: Project, mission: str, wp_id: str, by: str, note: str, head: str, say: Say
) -> None:
    """Record a person's review of the commit that a work package's worktree holds, and tell the host of it.

    Args:
        project: of the user.
        mission: its slug.
        wp_id: the work package.
        by: who reviewed it.
        note: what they say of it.
        head: the commit that they looked at, "" for the one that is there.
        say: gets lines for people.

    Raises:
        UsageError: it may not be approved, or is not at that commit.
    """
    by = checked_name(by)
    async with operations(project, mission) as decisions:
        operation = await _located(decisions, wp_id)
        wp, world = operation.wp, decisions.world
        if why := why_not_approved(wp, world.policy, by):
            raise UsageError(why)
        base, found = await _commit(world.workspaces, wp, head, say)
        command = await operation.record(ApprovedByPerson(by, found, note, base))
        command = await operation.go_on(command, (RunGates, PrepareWorkspace, Commit))
        await _told_or_not(operation, command, say)
        wp = operation.wp
        if wp.lane.complete:
            say(f"{wp_id} is {wp.lane} on the host: {by} approved {short(found)}")
        elif isinstance(command, RunGates | PrepareWorkspace):
            say(f"{by} approved {short(found)}; the next start runs its gates, and then tells the host")
        else:
            say(f"{wp_id} is {wp.lane} on the host: {wp.note}")
        say(await operation.next_command())


async def approve_in_run(
    project: Project, mission: str, wp_id: str, by: str, note: str, head: str, say: Say
) -> bool:
    """Do the same in the run that is active; False if none is. Raises `UsageError` if that may not be."""
    by = checked_name(by)
    state, _ = claims(await JsonlJournal(project.directory(mission), project.root).read())
    wp = state.wps.get(wp_id)
    if wp is None:
        raise UsageError(f"{mission} has no work package {wp_id}{nearest(wp_id, state.wps)}")
    if why := why_not_approved(wp, state.policy, by):
        raise UsageError(why)
    base, found = await _commit(GitWorkspaces(project.root, mission, project.commit_rules), wp, head, say)
    return await give(project.root, mission, Approve(wp_id, by, found, note, base), say)


async def _commit(workspaces: Workspaces, wp: WorkPackage, asked: str, say: Say) -> tuple[str, str]:
    """Return where the work begins that a person approves, and its commit, which is told.

    Raises:
        UsageError: it is not the commit that was made, gated or asked for.
    """
    if wp.workspace is None:
        raise UsageError(f"it is not known where {wp.id} is worked on")
    try:
        state = await workspaces.state(wp.workspace)
        uncommitted = await workspaces.uncommitted(wp.workspace)
        base = wp.work.base or await workspaces.fork_point(wp.workspace)
    except WorkspaceError as error:
        raise UsageError(f"the commit of {wp.id} cannot be read: {error}") from error
    if why := why_other_commit(wp, state.head, asked, tuple(uncommitted)):
        raise UsageError(why)
    say(f"{wp.id} is at {state.head}: `git diff {short(base)}..{short(state.head)}` is what you approve")
    return base, state.head


async def _located(decisions: Decisions, wp_id: str, *, stop: bool = False) -> Operation:
    """Look at a work package, whose workspace the host is asked for where it is not known."""
    operation = await decisions.of(wp_id, stop=stop)
    if operation.wp.workspace is None:
        await operation.record(await operation.world.perform(operation.wp, Resolve()))
    if operation.wp.workspace is None:
        raise UsageError(f"the host does not say where {wp_id} is worked on: {operation.wp.note}")
    return operation


async def _told_or_not(operation: Operation, command: Command, say: Say) -> None:
    """Say that the host could not be told; the next start tells it."""
    if isinstance(command, Wait):
        say(f"the host was not told yet ({command.reason}); {await operation.next_command()}")
