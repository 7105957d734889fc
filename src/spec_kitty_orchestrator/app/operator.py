"""Operator commands for one work package between two runs: retry it, or leave it out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from anyio import to_thread

from spec_kitty_orchestrator.app.build import build_agents, connect, journal
from spec_kitty_orchestrator.app.mission import locked_mission
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.runs import known_run, orphans, pids
from spec_kitty_orchestrator.config import nearest
from spec_kitty_orchestrator.core.commands import Command, Finish
from spec_kitty_orchestrator.core.events import Event, Retried, Skipped
from spec_kitty_orchestrator.core.lifecycle import step
from spec_kitty_orchestrator.core.model import Lane, MissionState, Phase, Role
from spec_kitty_orchestrator.core.run import fold
from spec_kitty_orchestrator.core.run_events import Entry
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.driver.mission import Mission
from spec_kitty_orchestrator.driver.perform import Performer
from spec_kitty_orchestrator.errors import RunActive, UsageError
from spec_kitty_orchestrator.machine.journal import JsonlJournal, SystemClock
from spec_kitty_orchestrator.machine.logs import path_part
from spec_kitty_orchestrator.machine.workspaces import GitWorkspaces
from spec_kitty_orchestrator.ports import Host


@dataclass
class _Operation:
    """A command on one work package, under the lock of its mission."""

    project: Project
    host: Host
    state: MissionState
    journal: JsonlJournal
    performer: Performer
    wp: WorkPackage

    async def record(self, event: Event) -> Command:
        """Journal an event and return the next command."""
        following, command = step(self.wp, event, self.project.policy)
        await self.journal.append(Entry(SystemClock().now(), self.wp.id, event))
        self.wp = following
        return command

    async def move(self, to: Lane, note: str) -> None:
        """Ask the host for one transition."""
        run = self.project.settings.run
        policy = self.performer.agents.policy(run.impl_agents[0], Role.IMPLEMENT)
        await self.host.transition(self.state.slug, self.wp.id, to, run.actor, policy=policy, note=note)


@asynccontextmanager
async def _locked(project: Project, mission: str, wp_id: str) -> AsyncIterator[_Operation]:
    host = await connect(project)
    async with locked_mission(project, host, mission) as state:
        if wp_id not in state.lanes:
            raise UsageError(f"{state.slug} has no work package {wp_id}{nearest(wp_id, state.lanes)}")
        lane = state.lanes[wp_id]
        if lane.complete or lane is Lane.CANCELED:
            raise UsageError(f"{wp_id} is {lane} on the host: there is nothing left to decide about it")
        await _check_unattended(project, state.slug, wp_id)
        lines = journal(project, state.slug)
        wp = fold(await lines.read(), project.policy).wps.get(wp_id) or WorkPackage(wp_id)
        wp = replace(wp, lane=lane, dependencies=state.dependencies[wp_id])
        workspaces = GitWorkspaces(project.root, state.slug, project.traces)
        lanes = Mission(host, state.slug, workspaces.primary_branch)
        await lanes.begin(state, ())
        performer = Performer(
            slug=state.slug,
            actor=project.settings.run.actor,
            policy=project.policy,
            host=host,
            agents=build_agents(project),
            workspaces=workspaces,
            mission=lanes,
            tell=_nothing,
            prompts=project.prompts,
            tick_command="",
            new_id=lambda: "",
        )
        yield _Operation(project, host, state, lines, performer, wp)


async def _nothing(_wp_id: str, _event: Event) -> None:
    """Take no notice: what a person does is one event."""


async def _check_unattended(project: Project, mission: str, wp_id: str) -> None:
    alive = await to_thread.run_sync(orphans, project.root, mission)
    if own := [one for one in alive if one.directory.parent.name == path_part(wp_id)]:
        raise RunActive(
            f"an agent of {wp_id} still works (processes {pids(own)}): "
            f"`resume --mission {mission}` goes on with it, `abort --mission {mission}` stops it"
        )


async def _way_on(operation: _Operation) -> str:
    run = await known_run(operation.project.root, operation.state.slug)
    command = "resume" if run.started else "orchestrate"
    return f"To go on: spec-kitty-orchestrator {command} --mission {run.mission}"


async def retry_work_package(project: Project, mission: str, wp_id: str, note: str) -> list[str]:
    """Put a parked or blocked work package back to work, with fresh bounds; the implementer gets the note.

    Returns:
        Lines for people.

    Raises:
        UsageError: there is no such work package, or it is not parked or blocked.
        RunActive: a run of the mission is active, or an agent of the work package still works.
        HostError: the host cannot be used, or refused the transition; repeating the command is harmless.
        JournalError: the journal cannot be read or written.
    """
    async with _locked(project, mission, wp_id) as operation:
        wp, lane = operation.wp, operation.wp.lane
        if lane is not Lane.BLOCKED and wp.phase not in (Phase.FINISHED, Phase.PARKING):
            raise UsageError(
                f"{wp_id} is neither parked nor blocked ({lane}, {wp.phase}): a run goes on with it anyway"
            )
        await operation.record(Retried(note))
        if lane is Lane.BLOCKED:
            # What nobody began here has no worktree, and its dependencies are to be checked.
            for lane in (Lane.IN_PROGRESS,) if wp.work.base else (Lane.IN_PROGRESS, Lane.PLANNED):
                await operation.move(lane, note or "put back to work by a person")
        told = f"{wp_id} is back to work: {lane} on the host, with fresh limits of attempts and rejections"
        return [told, await _way_on(operation)]


async def skip_work_package(project: Project, mission: str, wp_id: str, note: str) -> list[str]:
    """Park a work package so that the rest can go on; later starts leave it alone until it is retried.

    Returns:
        Lines for people.

    Raises:
        UsageError: there is no such work package, or nothing is left to do for it.
        RunActive: a run of the mission is active, or an agent of the work package still works.
        HostError: the host cannot be used.
        JournalError: the journal cannot be read or written.
    """
    async with _locked(project, mission, wp_id) as operation:
        command = await operation.record(Skipped(operation.wp.lane, note))
        while not isinstance(command, Finish):
            command = await operation.record(await operation.performer.perform(operation.wp, command))
        wp = operation.wp
        told = [f"{wp_id} is left out: {wp.lane} on the host; {wp.note}"]
        told += [f"saved work: {ref}" for ref in wp.rescued[-1:]]
        return [*told, await _way_on(operation)]
