"""One start of a mission: its parts, whom it tells, and what is asked for once it has ended."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.app.build import build_parts, build_workspaces, journal
from spec_kitty_orchestrator.app.mission import OpenMission
from spec_kitty_orchestrator.app.notifications import BELL, Notifier, Ring, places
from spec_kitty_orchestrator.app.observers import Observers
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.record import commit_record
from spec_kitty_orchestrator.app.repository import mission_files
from spec_kitty_orchestrator.core.notices import noticed
from spec_kitty_orchestrator.core.run_events import Finalized as Journaled
from spec_kitty_orchestrator.core.run_events import Notified
from spec_kitty_orchestrator.core.samples import Samples
from spec_kitty_orchestrator.driver.approval import landed, unapproved
from spec_kitty_orchestrator.driver.finalize import Finalized, finalize
from spec_kitty_orchestrator.driver.parts import Parts
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.workspaces import GitWorkspaces
from spec_kitty_orchestrator.ports import AgentRunner, Observer

__all__ = ["AtTheEnd", "Start", "apart", "open_start"]


Value = TypeVar("Value")


@dataclass(frozen=True)
class AtTheEnd:
    """What became of a mission once its run had ended.

    Attributes:
        finalized: what was asked for, and what came of it.
        wrong: what on the branches of a complete mission nobody approved, in lines.
        merged: whether nothing of the mission is left to be merged.
    """

    finalized: Finalized
    wrong: Sequence[str]
    merged: bool


@dataclass(frozen=True)
class Start:
    """A mission that was checked and locked, with the parts that drive it."""

    project: Project
    mission: OpenMission
    workspaces: GitWorkspaces
    parts: Parts
    notifier: Notifier

    async def finalize(
        self, result: RunResult, say: Callable[[str], None], *, merge: bool, accept: bool
    ) -> AtTheEnd:
        """Merge and accept the mission as asked, once it has ended; `say` gets lines for people.

        Raises `HostError`.
        """
        host, workspaces, wps = self.mission.host, self.workspaces, result.work_packages
        files = mission_files(self.project.root, result.state.slug)
        finalized = await finalize(
            host,
            workspaces,
            result,
            self.project.settings.run.actor,
            files.unsaved,
            partial(commit_record, files, workspaces),
            say,
            merge=merge,
            accept=accept,
            coordinated=files.coordinated,
            target=f"refs/heads/{files.target_branch}" if files.target_branch else "HEAD",
            coordination=files.coordination,
        )
        wrong: Sequence[str] = ()
        merged = finalized.merged
        if merged:
            await self._clear(result)
        elif all(one.lane.complete for one in wps):
            wrong = await unapproved(host, workspaces, result.state.slug, wps)
            merged = await landed(workspaces, wps)
        if finalized.merged or finalized.accepted:
            event = Journaled(merged=finalized.merged, accepted=finalized.accepted)
            await self.parts.ledger.happened("", event)
        self.notifier.finalized(finalized.lines, finalized.again)
        return AtTheEnd(finalized, wrong, merged)

    async def _clear(self, result: RunResult) -> None:
        """Remove the worktree of planning artifacts, as the host does with those of its lanes."""
        for wp in result.work_packages:
            if wp.workspace is not None and wp.workspace.planning and wp.workspace.target:
                with suppress(WorkspaceError):
                    await self.workspaces.remove(wp.id, wp.workspace)


@asynccontextmanager
async def open_start(
    project: Project,
    mission: OpenMission,
    agents: AgentRunner,
    observer: Observer,
    *,
    ring: Ring | None = None,
    samples: Callable[[], Samples] = Samples,
) -> AsyncIterator[Start]:
    """Join the parts of a start; people and observers of other distributions are told until the block ends.

    Args:
        project: the user's.
        mission: checked and locked.
        agents: runs attempts.
        observer: is told of every line.
        ring: rings the terminal, None if there is none.
        samples: returns what is known of attempts like those that run.
    """
    slug = mission.state.slug
    workspaces = build_workspaces(project, slug, observer.said)
    found = places(project, slug, os.environ, ring)
    for one in found:
        if one.problem and one.where != BELL:
            observer.said(f"warning: {one.name} is told nothing of this run: {one.problem}")
    lines = await journal(project, slug).read() if found else ()
    notifier = Notifier(observer, found, await to_thread.run_sync(noticed, lines), samples)
    observers = Observers(notifier, slug, str(project.root), project.redactor)
    try:
        parts = build_parts(
            project,
            slug,
            host=mission.host,
            agents=agents,
            workspaces=workspaces,
            observer=observers,
            lock=mission.lock,
        )

        async def keep(event: Notified) -> None:
            await parts.ledger.happened("", event)

        try:
            async with notifier.telling(keep):
                yield Start(project, mission, workspaces, parts, notifier)
        finally:
            parts.ledger.close()
    finally:
        await observers.finish()


@asynccontextmanager
async def apart(manager: AbstractAsyncContextManager[Value]) -> AsyncIterator[Value]:
    """Enter and leave it in a task of its own: no cancellation, however often it comes, cuts that off.

    `asyncio.Task.cancel` would go past a shield, and leave a thread behind that takes the lock.
    """
    ready, left = anyio.Event(), anyio.Event()
    entered: list[Value] = []
    raised: list[BaseException] = []

    async def keep() -> None:
        try:
            async with manager as value:
                entered.append(value)
                ready.set()
                await left.wait()
        except Exception as error:  # noqa: BLE001 - it is raised as it is, in no group
            raised.append(error)
        ready.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep)
        await ready.wait()
        try:
            if entered:
                yield entered[0]
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - as above
            raised.insert(0, error)
        left.set()
    if raised:
        raise raised[0]
