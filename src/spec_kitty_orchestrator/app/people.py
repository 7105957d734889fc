"""What a person does to a work package while no run is active: take it over, hand it back, approve it."""

from collections.abc import Callable

from spec_kitty_orchestrator.app.operator import Decisions, Operation, operations
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.core.advice import handback
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
from spec_kitty_orchestrator.core.people import (
    why_not_approved,
    why_not_handed_back,
    why_not_taken,
    why_other_commit,
)
from spec_kitty_orchestrator.core.plain_text import plain
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.machine.process import inherited_marker

LONGEST_NAME = 80

Say = Callable[[str], None]


def checked_name(by: str) -> str:
    """Return the name of a person. Raises `UsageError` if it is none, or if it is an agent that asks."""
    if inherited_marker():
        raise UsageError("this is for people, and it was called by an agent's attempt")
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
        command = await operation.record(TakenOver(by))
        await _told_or_not(operation, await operation.go_on(command, ()), say)
        if operation.wp.taken is None or operation.wp.phase is not Phase.FINISHED:
            say(f"{wp_id} could not be taken over: {operation.wp.note}")
            return
        say(f"{wp_id} is yours, {by}: {operation.wp.lane} on the host; no run touches it until it is back")
        slug = decisions.world.slug
        workspace = operation.wp.workspace
        if workspace is not None:
            say(f"worktree: {workspace.path}" + (f" (branch {workspace.branch})" if workspace.branch else ""))
            for path in (await decisions.world.workspaces.uncommitted(workspace))[:10]:
                say(f"  not committed: {path}")
        say(f"To hand it back: {handback(wp_id, by, slug)}")


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
            gates = "its gates and " if isinstance(command, RunGates | PrepareWorkspace) else ""
            say(f"{wp_id} is back, at {short(wp.work.head)}: {gates}its review follow at the next start")
        else:
            say(f"{wp_id}: {wp.note}")
        for left in (*wp.work.left_out, *wp.work.notes):
            say(f"  not committed: {left}")
        say(await operation.next_command())


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
        assert wp.workspace is not None
        if why := why_not_approved(wp, world.policy, by):
            raise UsageError(why)
        state = await world.workspaces.state(wp.workspace)
        uncommitted = await world.workspaces.uncommitted(wp.workspace)
        if why := why_other_commit(wp, state.head, head, tuple(uncommitted)):
            raise UsageError(why)
        base = wp.work.base or await world.workspaces.fork_point(wp.workspace)
        say(f"{wp_id} is at {state.head}: `git diff {short(base)}..{short(state.head)}` is what you approve")
        command = await operation.record(ApprovedByPerson(by, state.head, note, base))
        command = await operation.go_on(command, (RunGates, PrepareWorkspace, Commit))
        await _told_or_not(operation, command, say)
        wp = operation.wp
        if wp.lane.complete:
            say(f"{wp_id} is {wp.lane} on the host: {by} approved {short(state.head)}")
        elif isinstance(command, RunGates | PrepareWorkspace):
            say(f"{by} approved {short(state.head)}; the next start runs its gates, and then tells the host")
        else:
            say(f"{wp_id} is {wp.lane} on the host: {wp.note}")
        say(await operation.next_command())


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
