"""Runs a mission: one coroutine per work package that holds a slot, and one place that gives out slots.

Nothing polls: whatever changes wakes the scheduler. Signals arrive as a call of `interrupt`.
"""

import secrets
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

from spec_kitty_orchestrator.core.commands import Finish, Wait
from spec_kitty_orchestrator.core.events import Event, Scheduled, TimerFired
from spec_kitty_orchestrator.core.lifecycle import step
from spec_kitty_orchestrator.core.model import MissionState, Phase, Policy, Result, WorkPackage, Workspace
from spec_kitty_orchestrator.core.moves import finish
from spec_kitty_orchestrator.core.prompts import Prompts
from spec_kitty_orchestrator.core.scheduler import (
    Finished,
    Idle,
    Snapshot,
    Stalled,
    Start,
    chains,
    held_by_others,
    plan,
)
from spec_kitty_orchestrator.driver.mission import MissionView
from spec_kitty_orchestrator.driver.recover import fold_in_steps, seen, start
from spec_kitty_orchestrator.driver.result import RunResult, begins_something, conclude, first_error
from spec_kitty_orchestrator.driver.work_package import Performer
from spec_kitty_orchestrator.errors import HostRefusal
from spec_kitty_orchestrator.ports import (
    AgentRunner,
    Entry,
    Host,
    Journal,
    Observer,
    RunEnded,
    RunStarted,
    WallClock,
    Workspaces,
)

__all__ = ["HURRIED_GRACE_S", "STOP_GRACE_S", "Orchestrator", "RunResult", "new_attempt_id"]

STOP_GRACE_S = 8.0
"""Between the first signal to an agent and the kill: the slowest CLI cleans up in about two seconds."""

HURRIED_GRACE_S = 1.0
"""The same after a second signal to us: somebody is waiting."""


def new_attempt_id() -> str:
    """Return an id that an implementer cannot guess, so that its text can hold no verdict for a review."""
    return secrets.token_hex(8)


class Orchestrator:
    """Drives one mission once. All parts come from outside, so tests and other programs bring their own."""

    def __init__(
        self,
        mission: str,
        actor: str,
        policy: Policy,
        *,
        host: Host,
        agents: AgentRunner,
        workspaces: Workspaces,
        journal: Journal,
        clock: WallClock,
        observer: Observer,
        prompts: Prompts,
        max_concurrent: int,
        version: str,
        tick_command: str = "",
        timeouts_s: tuple[float, float] = (0.0, 0.0),
        stop_grace_s: float = STOP_GRACE_S,
        new_id: Callable[[], str] = new_attempt_id,
    ) -> None:
        self._mission, self._actor, self._policy = mission, actor, policy
        self._host, self._agents, self._journal = host, agents, journal
        self._clock, self._observer = clock, observer
        self._limit, self._timeouts_s = max_concurrent, timeouts_s
        self._version, self._grace_s = version, stop_grace_s
        self._view = MissionView(host, mission)
        self._performer = Performer(
            mission, actor, policy, host, agents, workspaces, self._view, prompts, tick_command, new_id
        )
        self._wps: dict[str, WorkPackage] = {}
        self._workspaces: dict[str, Workspace] = {}
        self._chains: dict[str, int] = {}
        self._active: set[str] = set()
        self._resting: dict[str, float] = {}
        self._changed = anyio.Event()
        self._stop = anyio.Event()
        self._signals: list[int] = []
        self._drained_by: int | None = None
        self._failures: list[Exception] = []

    def drain(self, signum: int) -> None:
        """Start nothing more, let running attempts end, save their work and return from `run`."""
        self._drained_by = signum
        self._wake()

    def interrupt(self, signum: int) -> None:
        """Start nothing more, stop the agents and return from `run`; a second call hurries the stop."""
        self._signals.append(signum)
        self._halt()

    async def run(self, state: MissionState | None = None) -> RunResult:
        """Drive the mission until nothing is left to do.

        Args:
            state: what the caller has just read of the mission, which spares a read of the host.

        Raises:
            OrchestratorError: the host, the journal or the machine is broken; the agents are stopped then,
                and a later start goes on from the journal.
        """
        lines = await self._journal.read()
        await self._view.begin(state)
        folded = await fold_in_steps(lines, self._policy)
        self._wps = start(self._view.state(), folded, self._policy)
        self._workspaces = {one.id: one.workspace for one in self._wps.values() if one.workspace is not None}
        settings = (self._actor, self._policy, self._version, self._limit, *self._timeouts_s)
        await self._journal.append(RunStarted(self._clock.now(), self._mission, *settings))
        self._chains = chains(self._view.dependencies)
        end: Finished | Stalled | None = None
        async with anyio.create_task_group() as tg:
            tg.start_soon(self._stop_agents_when_told)
            tg.start_soon(self._guarded, self._resolve_workspaces)
            try:
                end = await self._schedule(tg)
            except Exception as error:  # noqa: BLE001 - raised below, once the agents are stopped
                self._fail(error)
                while self._active:
                    await self._changed.wait()
            tg.cancel_scope.cancel()
        if self._failures:
            raise self._failures[0]
        result = self._result(end)
        summary = f"{sum(one.lane.complete for one in result.work_packages)} of {len(self._wps)} complete"
        await self._journal.append(RunEnded(self._clock.now(), result.exit_code, summary))
        return result

    async def _schedule(self, tg: TaskGroup) -> Finished | Stalled | None:
        while True:
            changed = self._changed
            if self._halted or self._drained_by:
                if not self._active:
                    return None
                await changed.wait()
                continue
            snapshot = Snapshot(
                self._wps, self._workspaces, self._active, self._resting, anyio.current_time(), self._chains
            )
            match plan(snapshot, self._limit):
                case Start(ids=ids):
                    for one in ids:
                        self._active.add(one)
                        tg.start_soon(self._guarded, self._drive, one)
                case Idle(until=until):
                    with anyio.move_on_after(None if until is None else until - anyio.current_time()):
                        await changed.wait()
                case end:
                    if self._view.stale:
                        await self._view.refresh()
                    if not self._adopt():
                        return end

    async def _drive(self, wp_id: str) -> None:
        event: Event = Scheduled(self._wps[wp_id].lane, self._workspaces[wp_id])
        if self._resting.pop(wp_id, None) is not None:
            event = TimerFired()
        try:
            while True:
                wp, command = step(self._wps[wp_id], event, self._policy)
                await self._journal.append(Entry(self._clock.now(), wp_id, event))
                self._wps[wp_id] = wp
                self._observer.saw(wp, event)
                self._wake()
                if isinstance(command, Wait):
                    self._resting[wp_id] = anyio.current_time() + command.seconds
                    return
                if isinstance(command, Finish):
                    if command.result is Result.REQUEUED:
                        await self._reconcile()
                    return
                if self._halted or (self._drained_by and begins_something(event, command)):
                    return
                event = await self._performer.perform(wp, command)
        finally:
            self._active.discard(wp_id)
            self._wake()

    async def _reconcile(self) -> None:
        await self._view.refresh()
        self._adopt()

    def _adopt(self) -> bool:
        """Take over the lanes last read, and tell whether any differs; whoever is at work settles its own."""
        before = dict(self._wps)
        for wp_id, lane in self._view.lanes.items():
            wp = self._wps.get(wp_id) or WorkPackage(wp_id, self._view.dependencies[wp_id])
            self._wps[wp_id] = wp if wp_id in self._active else seen(wp, lane)
        self._wake()
        return self._wps != before

    async def _resolve_workspaces(self) -> None:
        """Learn who shares a worktree before anything is claimed; what cannot start yet waits for a lull."""
        while not (self._halted or self._drained_by):
            changed = self._changed
            missing = [one for one in self._wps.values() if self._unresolved(one)]
            missing.sort(key=lambda one: (-self._chains.get(one.id, 1), one.id))
            ready = [one for one in missing if self._ready(one)]
            if ready:
                async with anyio.create_task_group() as tg:
                    for one in ready[: self._limit]:
                        tg.start_soon(self._resolve, one.id)
            elif missing and self._lull():
                await self._resolve(missing[0].id)
            else:
                await changed.wait()

    def _unresolved(self, wp: WorkPackage) -> bool:
        """Whether its worktree is to be found out: to work in it, or to keep out of it."""
        return wp.id not in self._workspaces and (wp.phase is not Phase.FINISHED or held_by_others(wp))

    def _ready(self, wp: WorkPackage) -> bool:
        return all(one in self._wps and self._wps[one].lane.complete for one in wp.dependencies)

    def _lull(self) -> bool:
        """Whether no work package waits for the host: its calls compete for the same cores."""
        return all(self._wps[one].open_attempt is not None for one in self._active)

    async def _resolve(self, wp_id: str) -> None:
        try:
            self._workspaces[wp_id] = await self._host.resolve_workspace(self._mission, wp_id)
        except HostRefusal as refusal:
            self._wps[wp_id] = finish(self._wps[wp_id], Result.PARKED, refusal.message)
            self._observer.said(f"{wp_id} is left out: {refusal.message}")
        self._wake()

    async def _guarded(self, work: Callable[..., Awaitable[None]], *args: str) -> None:
        """Let a failure end the run in order: nothing starts any more, agents are stopped, `run` raises."""
        try:
            await work(*args)
        except ExceptionGroup as group:
            self._fail(first_error(group))
        except Exception as error:  # noqa: BLE001 - `run` raises it
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failures.append(error)
        self._halt()

    def _halt(self) -> None:
        self._stop.set()
        self._stop = anyio.Event()
        self._wake()

    @property
    def _halted(self) -> bool:
        return bool(self._signals or self._failures)

    async def _stop_agents_when_told(self) -> None:
        async with anyio.create_task_group() as tg:
            while True:
                stop = self._stop
                if self._halted:
                    grace_s = self._grace_s if len(self._signals) < 2 else HURRIED_GRACE_S
                    tg.start_soon(self._agents.stop_all, grace_s)
                await stop.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def _result(self, end: Finished | Stalled | None) -> RunResult:
        wps = tuple(self._wps[one] for one in self._view.lanes if one in self._wps)
        reasons = end.reasons if isinstance(end, Stalled) else {}
        received = self._drained_by or next(iter(self._signals), None)
        return conclude(self._view.state(), wps, reasons, received)
