"""Operator commands for one work package between two runs: retry it, or leave it out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from anyio import to_thread

from spec_kitty_orchestrator.app.build import build_agents, connect, hook_rules, journal
from spec_kitty_orchestrator.app.mission import locked_mission
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.runs import last_start, orphans, pids
from spec_kitty_orchestrator.config import nearest
from spec_kitty_orchestrator.core.commands import Command, Finish
from spec_kitty_orchestrator.core.events import Event, Retried, Skipped
from spec_kitty_orchestrator.core.lifecycle import step
from spec_kitty_orchestrator.core.model import Lane, Phase, Role
from spec_kitty_orchestrator.core.run import fold
from spec_kitty_orchestrator.core.run_events import Entry
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.driver.mission import Mission
from spec_kitty_orchestrator.driver.perform import Performer
from spec_kitty_orchestrator.errors import RunActive, UsageError
from spec_kitty_orchestrator.machine.journal import JsonlJournal, SystemClock
from spec_kitty_orchestrator.machine.logs import path_part
from spec_kitty_orchestrator.machine.workspaces import GitWorkspaces


@dataclass
class _Operation:
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

    async def move(self, to: Lane, note: str) -> None:
        """Ask the host for one transition."""
        world, wp = self.world, self.wp
        policy = world.agents.policy(world.policy.impl_agents[0], Role.IMPLEMENT)
        await world.host.transition(world.slug, wp.id, to, world.actor, policy=policy, note=note)

    async def next_command(self) -> str:
        """Say which command continues the mission."""
        started, _ = last_start(await self.journal.read())
        command = "resume" if started else "orchestrate"
        return f"To go on: spec-kitty-orchestrator {command} --mission {self.world.slug}"


@asynccontextmanager
async def _locked(project: Project, mission: str, wp_id: str) -> AsyncIterator[_Operation]:
    """Hold the lock of the mission, of which no run is active, and look at the work package.

    Raises:
        UsageError: there is no such work package, or nothing is left to do for it.
        RunActive: an agent of it still works.
    """
    host = await connect(project)
    async with locked_mission(project, host, mission) as state:
        if wp_id not in state.lanes:
            raise UsageError(f"{state.slug} has no work package {wp_id}{nearest(wp_id, state.lanes)}")
        lane = state.lanes[wp_id]
        if lane.complete or lane is Lane.CANCELED:
            raise UsageError(f"{wp_id} is {lane} on the host: there is nothing left to decide about it")
        alive = await to_thread.run_sync(orphans, project.root, state.slug)
        if own := [one for one in alive if one.directory.parent.name == path_part(wp_id)]:
            raise RunActive(
                f"an agent of {wp_id} still works (processes {pids(own)}): `resume --mission {state.slug}` "
                f"goes on with it, `abort --mission {state.slug}` stops it"
            )
        lines = journal(project, state.slug)
        wp = fold(await lines.read(), project.policy).wps.get(wp_id) or WorkPackage(wp_id)
        workspaces = GitWorkspaces(
            project.root, state.slug, project.commit_rules, hooks=hook_rules(project, state.slug)
        )
        lanes = Mission(host, state.slug, workspaces.primary_branch)
        await lanes.begin(state, ())
        world = Performer(
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
        yield _Operation(world, lines, replace(wp, lane=lane, dependencies=state.dependencies[wp_id]))


async def _nothing(_wp_id: str, _event: Event) -> None:
    """Take no notice: what a person does is one event."""


async def retry_work_package(project: Project, mission: str, wp_id: str, note: str) -> list[str]:
    """Put a parked or blocked work package back to work, with fresh bounds; the implementer gets the note.

    Repeating it after an error is harmless. Returns lines for people. Raises `UsageError` if it is neither.
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
        return [told, await operation.next_command()]


async def skip_work_package(project: Project, mission: str, wp_id: str, note: str) -> list[str]:
    """Park a work package so that the rest can go on; later starts leave it alone until it is retried.

    Returns lines for people.
    """
    async with _locked(project, mission, wp_id) as operation:
        command = await operation.record(Skipped(operation.wp.lane, note))
        while not isinstance(command, Finish):
            command = await operation.record(await operation.world.perform(operation.wp, command))
        wp = operation.wp
        told = [f"{wp_id} is left out: {wp.lane} on the host; {wp.note}"]
        told += [f"uncommitted work: {wp.rescued}"] if wp.rescued else []
        return [*told, await operation.next_command()]
