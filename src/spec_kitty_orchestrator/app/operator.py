"""Operator commands for work packages between two runs: retry them, or leave one out."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.app.build import build_agents, connect, hook_rules, journal
from spec_kitty_orchestrator.app.mission import locked_mission
from spec_kitty_orchestrator.app.orders import refuse_agents
from spec_kitty_orchestrator.app.project import Project, open_project
from spec_kitty_orchestrator.app.runs import (
    claims,
    find_unfinished,
    known_run,
    last_start,
    orphans,
    pids,
    refuse_handed_over,
)
from spec_kitty_orchestrator.config import nearest
from spec_kitty_orchestrator.core.advice import to_go_on
from spec_kitty_orchestrator.core.causes import by_cause, cause
from spec_kitty_orchestrator.core.commands import Command, Finish, OpenAttempt, RunAgent, Unblock, Wait
from spec_kitty_orchestrator.core.describe import command_line
from spec_kitty_orchestrator.core.events import Event, HostRefused
from spec_kitty_orchestrator.core.lifecycle import step
from spec_kitty_orchestrator.core.model import Lane, Phase
from spec_kitty_orchestrator.core.operator_events import Retried, Skipped
from spec_kitty_orchestrator.core.orders import (
    Continue,
    Given,
    Order,
    Pause,
    Refused,
    Retry,
    Skip,
    Tell,
    meaning,
)
from spec_kitty_orchestrator.core.run import RunState, fold
from spec_kitty_orchestrator.core.run_events import Entry
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.driver.mission import Mission
from spec_kitty_orchestrator.driver.perform import Performer
from spec_kitty_orchestrator.errors import HostRefusal, RunActive, UsageError
from spec_kitty_orchestrator.machine.journal import JsonlJournal, SystemClock
from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.machine.logs import JOURNALS, mission_logs, path_part
from spec_kitty_orchestrator.machine.orphans import stop_orphans
from spec_kitty_orchestrator.machine.user import this_user
from spec_kitty_orchestrator.machine.workspaces import GitWorkspaces

__all__ = [
    "Decisions",
    "Operation",
    "Selection",
    "operations",
    "project_of_run",
    "retry_work_packages",
    "selected",
    "skip_work_package",
    "without_run",
]


@dataclass
class Operation:
    """A command on one work package, under the lock of its mission."""

    world: Performer
    journal: JsonlJournal
    wp: WorkPackage

    async def record(self, event: Event) -> Command:
        """Journal an event and return the next command."""
        following, command = step(self.wp, event, self.world.policy)
        await self.journal.append(Entry(SystemClock().now(), self.wp.id, event))
        self.wp = following
        return command

    async def go_on(self, command: Command, stops: tuple[type[Command], ...]) -> Command:
        """Perform commands until one is for a run, or for whoever asked: one of these kinds."""
        while not isinstance(command, (Wait, Finish, OpenAttempt, *stops)):
            command = await self.record(await self.world.perform(self.wp, command))
        return command

    async def settle(self) -> None:
        """Record how the open attempt ended if nobody has seen it: what it said is paid for.

        One that was never started stays so.
        """
        if (attempt := self.wp.open_attempt) is not None:
            await self.world.agents.stop_all(0.0)
            await self.record(await self.world.perform(self.wp, RunAgent(attempt)))

    async def next_command(self) -> str:
        """Say which command continues the mission."""
        started, _ = last_start(await self.journal.read())
        return f"To go on: {to_go_on(self.world.slug, begun=started is not None)}"


@dataclass(frozen=True)
class _Known:
    """What is known of a mission's work packages."""

    slug: str
    lanes: Mapping[str, Lane]
    known: RunState

    def left_to_a_person(self, wp_id: str) -> bool:
        """Tell whether a work package is parked or blocked, and nobody left it out."""
        wp = self.known.wps.get(wp_id) or WorkPackage(wp_id)
        if self.lanes[wp_id] in (Lane.APPROVED, Lane.DONE, Lane.CANCELED) or wp.skipped or wp.taken:
            return False
        return self.lanes[wp_id] is Lane.BLOCKED or bool(cause(wp))

    def with_cause(self, name: str) -> tuple[str, ...]:
        """Return the work packages that a cause left to a person. Raises `UsageError` if it left none."""
        wps = [wp for one, wp in self.known.wps.items() if one in self.lanes and self.left_to_a_person(one)]
        known = by_cause(self.known.causes, wps)
        if name not in known:
            here = "; causes here: " + ", ".join(known) if known else "; none is left to a person"
            raise UsageError(f"no work package of {self.slug} waits because of {name}{here}")
        return known[name]


@dataclass(frozen=True)
class Decisions(_Known):
    """A mission of which no run is active, under its lock."""

    project: Project
    subtasks: Mapping[str, tuple[str, ...]]
    dependencies: Mapping[str, tuple[str, ...]]
    world: Performer
    journal: JsonlJournal

    async def of(self, wp_id: str, *, stop: bool = False) -> Operation:
        """Look at a work package; with `stop`, an agent that still works on it is stopped.

        Raises:
            UsageError: there is no such work package, or nothing is left to do for it.
            RunActive: an agent of it still works.
        """
        slug = self.slug
        if wp_id not in self.lanes:
            raise UsageError(f"{slug} has no work package {wp_id}{nearest(wp_id, self.lanes)}")
        lane = self.lanes[wp_id]
        if lane.complete or lane is Lane.CANCELED:
            raise UsageError(f"{wp_id} is {lane} on the host: there is nothing left to decide about it")
        if stop:
            await stop_orphans(mission_logs(self.project.root, slug), of=path_part(wp_id))
        alive = await to_thread.run_sync(orphans, self.project.root, slug)
        if own := [one for one in alive if one.directory.parent.name == path_part(wp_id)]:
            raise RunActive(
                f"an agent of {wp_id} still works (processes {pids(own)}): `resume --mission {slug}` "
                f"goes on with it, `abort --mission {slug}` stops it"
            )
        wp = self.known.wps.get(wp_id) or WorkPackage(wp_id)
        wp = replace(wp, lane=lane, dependencies=self.dependencies[wp_id])
        return Operation(self.world, self.journal, wp)

    def unmet(self, wp: WorkPackage) -> tuple[str, ...]:
        """Return what a work package depends on that is not complete, once it is to begin."""
        if wp.lane not in (Lane.PLANNED, Lane.CLAIMED):
            return ()
        lanes = ((one, self.lanes.get(one)) for one in wp.dependencies)
        return tuple(one for one, lane in lanes if lane is None or not lane.complete)


@asynccontextmanager
async def operations(project: Project, mission: str) -> AsyncIterator[Decisions]:
    """Hold the lock of the mission, of which no run is active. Raises `RunActive` if one is."""
    host = await connect(project)
    async with locked_mission(project, host, mission) as (state, _):
        lines = journal(project, state.slug)
        refuse_handed_over(await known_run(project.root, state.slug))
        known = fold(await lines.read(), project.policy)
        workspaces = GitWorkspaces(
            project.root, state.slug, project.commit_rules, hooks=hook_rules(project, state.slug)
        )
        lanes = Mission(host, state.slug, workspaces.primary_branch)
        await lanes.begin(state, ())
        world = Performer(
            slug=state.slug,
            actor=project.settings.run.actor,
            in_force=lambda: project.policy,
            host=host,
            agents=build_agents(project),
            workspaces=workspaces,
            mission=lanes,
            tell=_nothing,
            prompts=project.prompts,
            tick_command="",
            new_id=lambda: "",
        )
        yield Decisions(
            state.slug, state.lanes, known, project, state.subtasks, state.dependencies, world, lines
        )


async def _nothing(_wp_id: str, _event: Event) -> None:
    """Take no notice: what a person does is one event."""


@dataclass(frozen=True)
class Selection:
    """Which work packages a person means.

    Attributes:
        wps: by their ids.
        causes: all that wait because of these, as `c1`.
        all_blocked: all that are parked or blocked, but for those that were left out.
    """

    wps: Sequence[str] = ()
    causes: Sequence[str] = ()
    all_blocked: bool = False

    def among(self, mission: _Known) -> tuple[str, ...]:
        """Return their ids, each once. Raises `UsageError` if there are none."""
        found = [*self.wps, *(wp for name in self.causes for wp in mission.with_cause(name))]
        if self.all_blocked:
            found += [wp for wp in mission.lanes if mission.left_to_a_person(wp)]
        if not found:
            raise UsageError(f"no work package of {mission.slug} is parked or blocked")
        return tuple(dict.fromkeys(found))


async def retry_work_packages(
    project: Project, mission: str, selection: Selection, note: str, say: Callable[[str], None]
) -> None:
    """Put parked or blocked work packages back to work, with fresh bounds; implementers get the note.

    Repeating it after an error is harmless. `say` gets lines for people. Raises `UsageError`, before anything
    is changed, if one of them is neither.
    """
    async with operations(project, mission) as decisions:
        chosen = [await decisions.of(one) for one in selection.among(decisions)]
        for operation in chosen:
            wp, lane = operation.wp, operation.wp.lane
            if wp.taken is not None:
                raise UsageError(f"{wp.id} is {wp.taken.told}: `handback {wp.id}` puts it back to work")
            if lane is not Lane.BLOCKED and wp.phase not in (Phase.FINISHED, Phase.PARKING):
                where = f"neither parked nor blocked ({lane}, {wp.phase})"
                raise UsageError(f"{wp.id} is {where}: a run goes on with it anyway")
        for operation in chosen:
            lane = await _retry(operation, note)
            wp_id = operation.wp.id
            say(f"{wp_id} is back to work: {lane} on the host, with fresh limits of attempts and rejections")
        say(await chosen[0].next_command())


async def _retry(operation: Operation, note: str) -> Lane:
    command = await operation.record(Retried(note, this_user()))
    if isinstance(command, Unblock):
        event = await operation.world.perform(operation.wp, command)
        await operation.record(event)
        if isinstance(event, HostRefused):
            raise HostRefusal(event.call, event.code, event.message)
    return operation.wp.lane


async def skip_work_package(
    project: Project, mission: str, wp_id: str, note: str, say: Callable[[str], None]
) -> None:
    """Park a work package so that the rest can go on; later starts leave it alone until it is retried.

    `say` gets lines for people.
    """
    async with operations(project, mission) as decisions:
        operation = await decisions.of(wp_id)
        command = await operation.record(Skipped(operation.wp.lane, note, this_user()))
        while not isinstance(command, Finish):
            command = await operation.record(await operation.world.perform(operation.wp, command))
        wp = operation.wp
        say(f"{wp_id} is left out: {wp.lane} on the host; {wp.note}")
        if wp.rescued:
            say(f"uncommitted work: {wp.rescued}")
        say(await operation.next_command())


async def selected(root: Path, mission: str, selection: Selection) -> tuple[str, ...]:
    """Return which work packages of an active run a person means. Raises `UsageError` if there are none."""
    lines = await JsonlJournal(root / JOURNALS / mission, root).read()
    state, _ = claims(lines)
    return selection.among(_Known(mission, {one.id: one.lane for one in state.wps.values()}, state))


async def project_of_run(root: Path, environ: Mapping[str, str], mission: str | None) -> tuple[Project, str]:
    """Return the project with the settings of the run in question, and its mission.

    Raises `UsageError` if no mission is named and no run, or more than one, is unfinished.
    """
    recorded = None
    try:
        run = await find_unfinished(root, mission)
        mission, recorded = run.mission, run.started.settings if run.started else {}
    except UsageError:
        if mission is None:
            raise  # else the host may know it, although there is no run
    return open_project(root, environ, {}, recorded), mission


async def without_run(
    root: Path, environ: Mapping[str, str], mission: str | None, order: Order, say: Callable[[str], None]
) -> None:
    """Carry out an order for a mission of which no run is active; `say` gets lines for people.

    Raises `UsageError` if it is refused or needs a run, `RunActive` if a run is active.
    """
    match order:
        case Pause() | Continue() | Tell():
            await note_order(root, environ, mission, order, say)
        case Retry(wp=wp, note=note):
            project, slug = await project_of_run(root, environ, mission)
            await retry_work_packages(project, slug, Selection((wp,)), note, say)
        case Skip(wp=wp, note=note):
            project, slug = await project_of_run(root, environ, mission)
            await skip_work_package(project, slug, wp, note, say)
        case _:
            instead = {
                "stop": f"`{command_line('pause', getattr(order, 'wp', ''))}` keeps it from beginning",
                "set": f"`{command_line('resume')}` takes settings as options",
                "drain": "there is nothing to drain",
            }
            raise UsageError(f"no run is active here: {instead[order.kind]}")


async def note_order(
    root: Path, environ: Mapping[str, str], mission: str | None, order: Order, say: Callable[[str], None]
) -> None:
    """Journal an order for the next start of a mission of which no run is active; `say` is told.

    Raises `UsageError` if it is refused, `RunActive` if a run is active.
    """
    refuse_agents()
    run = await find_unfinished(root, mission)
    project = open_project(root, environ, {}, run.started.settings if run.started else {})
    lock = MissionLock(project.directory(run.mission), run.mission)
    async with lock:
        lines = journal(project, run.mission)
        state, _ = claims(await lines.read())
        decided = meaning(state, Given(order, this_user()))
        if isinstance(decided, Refused) or decided.event is None:
            raise UsageError(f"{decided.answer} (no run of {run.mission} is active)")
        await lines.append(Entry(SystemClock().now(), decided.wp_id, decided.event))
    say(f"for the next start of {run.mission}, as no run of it is active: {decided.answer}")
