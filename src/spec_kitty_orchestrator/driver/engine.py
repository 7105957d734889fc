"""Runs a mission: one coroutine per work package, and one loop that asks the scheduler who goes on.

Whatever happens goes through the ledger: decided, journaled, told. Nothing else changes the state of a run.
"""

import math
from collections.abc import Awaitable, Callable
from contextlib import nullcontext

import anyio
import anyio.lowlevel

from spec_kitty_orchestrator import ports
from spec_kitty_orchestrator.core import conflicts, events, run_events, scheduler
from spec_kitty_orchestrator.core.commands import Command, Finish, Wait
from spec_kitty_orchestrator.core.lifecycle import pending
from spec_kitty_orchestrator.core.model import MissionState
from spec_kitty_orchestrator.core.orders import Meant, Refused
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.work_package import Grant
from spec_kitty_orchestrator.driver.conflicts import ConflictWatch
from spec_kitty_orchestrator.driver.hearing import Decide, Hearing
from spec_kitty_orchestrator.driver.parts import Parts
from spec_kitty_orchestrator.driver.result import RunResult, first_error
from spec_kitty_orchestrator.driver.shutdown import Shutdown
from spec_kitty_orchestrator.errors import HostError
from spec_kitty_orchestrator.ports.orders import Orders

__all__ = ["Orchestrator"]

# Between two looks at the mission while only others can free work, at a shortage, and at the clock.
POLL_INTERVAL_S = 30.0
RESOURCES_POLL_S = 5.0
LONGEST_WAIT_S = 60.0


class Orchestrator:
    """Drives one mission once. All parts come from outside, so tests and other programs bring their own.

    Args:
        parts: what every driver needs; their lock is held while `run` goes on.
        poll_interval_s: seconds between two looks at the mission while only others can free work.
        headroom: asked before new work starts; None if the machine always has room.
        orders: those of people; None if nobody can give any.
        order: who goes first among those that can go on, see `Order`; None for the default order.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        poll_interval_s: float = POLL_INTERVAL_S,
        headroom: ports.Headroom | None = None,
        orders: Orders | None = None,
        order: scheduler.Order | None = None,
    ) -> None:
        self._parts, self._ledger, self._clock = parts, parts.ledger, parts.clock
        self._headroom, self._poll_interval_s, self._order = headroom, poll_interval_s, order
        self._slots = anyio.CapacityLimiter(self._state.policy.max_concurrent)
        self._shutdown = Shutdown(parts.agents, parts.gates, parts.setup, parts.observer.said)
        self._hearing = Hearing(orders, self._ledger.happened, self._settle, lambda: parts.settings)
        self._conflicts = ConflictWatch(parts.workspaces, lambda: self._state, self._ledger.happened)
        self._changed = anyio.Event()
        self._failures: list[Exception] = []
        self._poll_due_s, self._polling = math.inf, False
        self._ledger.follow = self._follow

    @property
    def _state(self) -> RunState:
        return self._ledger.state

    def drain(self, signum: int) -> None:
        """Start nothing more, let running attempts end, save their work and return from `run`."""
        self._hearing.signal(signum, drain=True)

    def interrupt(self, signum: int) -> None:
        """Start nothing more, stop the agents and return from `run`; a second call hurries the stop."""
        self._hearing.signal(signum)

    async def run(self, state: MissionState | None = None) -> RunResult:
        """Drive the mission until nothing is left to do.

        Args:
            state: what the caller has just read of the mission, which spares a read of the host.

        Raises:
            RunActive: another run of the mission is active.
            OrchestratorError: the host, the journal, the machine or `order` is broken; the agents are stopped
                then, and a later start goes on from the journal.
        """
        async with self._parts.started(state, own_order=self._order is not None):
            return await self._drive_all()

    async def _drive_all(self) -> RunResult:
        await self._guarded("", self._hearing.take_signals)
        async with anyio.create_task_group() as self._tasks:
            for wp_id in self._state.wps:
                self._employ(wp_id)
            self._tasks.start_soon(self._guarded, "", self._hearing.hear_signals)
            self._tasks.start_soon(self._guarded, "", self._hearing.hear_orders)
            self._tasks.start_soon(self._guarded, "", self._conflicts.look)
            self._tasks.start_soon(self._shutdown.stop_when_told)
            end: scheduler.Finished | scheduler.Stalled = scheduler.Finished()
            with self._shutdown.bound():
                end = await self._schedule()
            self._tasks.cancel_scope.cancel()
        if self._failures:
            raise self._failures[0]
        return await self._parts.conclude(end.reasons)

    def _employ(self, wp_id: str) -> None:
        self._tasks.start_soon(self._guarded, wp_id, self._drive, wp_id)

    async def _drive(self, wp_id: str) -> None:
        """Take one work package through the run: in each turn it goes on until it waits or has left."""
        while True:
            grant, command = await self._turn(wp_id)
            async with self._slots if grant is Grant.SLOT else nullcontext():
                while not isinstance(command, Wait | Finish):
                    began = anyio.current_time()
                    event = await self._parts.performer.perform(self._state.wps[wp_id], command)
                    await self._parts.see_lanes()
                    took_s = anyio.current_time() - began
                    if isinstance(event, events.AgentExited):
                        took_s = max(0.0, took_s - event.report.waited_s)
                    command = await self._ledger.happened(wp_id, event, took_s)

    async def _turn(self, wp_id: str) -> tuple[Grant, Command]:
        """Wait until the scheduler lets a work package go on; return how, and with what."""
        while (grant := self._state.wps[wp_id].turn.grant) is None:
            await self._changed.wait()
        return grant, pending(self._state.wps[wp_id], self._state.policy)

    async def _schedule(self) -> scheduler.Finished | scheduler.Stalled:
        """Ask the scheduler whenever something changed who goes on; return its answer that ends the run."""
        while True:
            changed = self._changed
            try:
                match await self._decide():
                    case scheduler.Idle() as idle:
                        await self._wait(changed, idle)
                    case scheduler.Finished() | scheduler.Stalled() as end:
                        await self._look_again()
                        if self._failures or not changed.is_set():
                            return end
            except Exception as error:  # noqa: BLE001 - `run` raises it, once nobody is at work
                await self._fail("", error)
                while self._state.at_work:
                    await self._changed.wait()
                return scheduler.Finished()

    async def _decide(self) -> scheduler.Decision | None:
        """Make a plan and begin to carry it out; None if something happened meanwhile, which counts."""
        before = self._state
        decision = scheduler.plan(before, self._clock.now(), self._order)
        if isinstance(decision, scheduler.Start) and decision.is_new(before) and await self._is_short():
            return decision
        async with self._ledger.alone:
            if self._state is not before:
                return None
            match decision:
                case scheduler.Start(wp_id=wp_id):
                    await self._ledger.apply(wp_id, decision.event(self._state.wps[wp_id]))
                case run_events.Ending():
                    await self._ledger.apply("", decision)
                case scheduler.Idle() if not self._failures:
                    await self._tell_waits(decision)
        return decision

    async def _tell_waits(self, idle: scheduler.Idle) -> None:
        """Journal why work packages wait, where that has changed."""
        for warning in idle.warnings:
            await self._ledger.apply("", warning)
        told = {one.id: idle.reasons.get(one.id, "") for one in self._state.left}
        news = {one: why for one, why in told.items() if self._state.wps[one].turn.waits != why}
        if news or idle.quotas is not (self._state.waits_for_quotas_since is not None):
            waits_for = {one: idle.waits_for[one] for one in news if news[one]}
            await self._ledger.apply("", run_events.Waiting(news, idle.quotas, waits_for))

    async def _settle(self, decide: Decide) -> Meant | Refused:
        """Let happen what an order means in the state of this moment."""
        async with self._ledger.alone:
            decided = decide(self._state)
            if isinstance(decided, Meant) and decided.event is not None:
                await self._ledger.apply(decided.wp_id, decided.event)
        return decided

    def _follow(self, before: RunState, wp_id: str, event: run_events.AnyEvent) -> None:
        """Let a change of the state have its effects."""
        state, wp = self._state, self._state.wps.get(wp_id)
        if conflicts.moved(before, state, wp_id):
            self._tasks.start_soon(self._guarded, "", self._conflicts.look, wp_id)
        if state.signals or state.ending or state.failure:
            self._shutdown.follow(state)
        if isinstance(event, run_events.SettingsChanged):
            self._parts.settings, self._slots.total_tokens = event.settings, event.policy.max_concurrent
        if wp is not None and wp.halted:
            self._shutdown.halt(wp_id, pending(wp, state.policy))
        if wp_id and wp_id not in before.wps:
            self._employ(wp_id)
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def _wait(self, changed: anyio.Event, idle: scheduler.Idle) -> None:
        """Wait for a change, or for what is due: to go on, to look at the machine, or at the mission."""
        until, now_s = idle.until, anyio.current_time()
        polls = idle.others and not self._polling
        self._poll_due_s = min(self._poll_due_s, now_s + self._poll_interval_s) if polls else math.inf
        waits_s = [self._poll_due_s - now_s]
        if until is not None:
            waits_s.append(min(self._clock.seconds_until(until), LONGEST_WAIT_S))
        if self._state.short_of:
            waits_s.append(RESOURCES_POLL_S)
        with anyio.move_on_after(max(min(waits_s), 0.0)) as waited:
            await changed.wait()
        jumped_s = self._clock.jump_s()
        if jumped_s:
            await self._ledger.happened("", run_events.ClockJumped(jumped_s))
        if not waited.cancelled_caught:
            return
        if self._poll_due_s <= anyio.current_time():
            self._polling = True
            self._tasks.start_soon(self._guarded, "", self._poll)
        if self._state.short_of:
            await self._is_short()
        idle_since, now = self._state.idle_since, self._clock.now()
        idle_s = (now - idle_since).total_seconds() if idle_since is not None else 0.0
        if until is not None and until <= now and idle_s >= self._poll_interval_s:
            # Nobody looked for long what others did meanwhile.
            await self._look()

    async def _is_short(self) -> bool:
        """Ask what the machine is short of, and tell it where that has changed."""
        shortage = await self._headroom.shortage() if self._headroom is not None else ""
        if bool(shortage) != bool(self._state.short_of):
            await self._ledger.happened("", run_events.ResourcesShort(shortage))
        return bool(shortage)

    async def _poll(self) -> None:
        """Look once, beside whatever is at work; the next look is counted from the end of this one."""
        try:
            await self._look()
        finally:
            self._polling = False
            self._wake()

    async def _look(self) -> None:
        """Read the mission again and take over what others did; a host that cannot answer is only told."""
        try:
            await self._parts.look()
        except HostError as error:
            # Whoever needs the host meets this too; a look is no reason to stop agents that are paid for.
            self._parts.observer.said(f"the mission could not be read again: {error}")

    async def _look_again(self) -> None:
        """Read the mission before the run ends on what was only acknowledged."""
        if self._state.closing:
            return
        if self._parts.lanes.stale:
            await self._parts.look()
        else:
            await self._parts.see_lanes()

    async def _guarded(self, wp_id: str, work: Callable[..., Awaitable[object]], *args: object) -> None:
        """Let a failure end the run in order: nothing starts any more, agents are stopped, `run` raises."""
        try:
            await work(*args)
        except Exception as error:  # noqa: BLE001 - `run` raises it
            await self._fail(wp_id, error)

    async def _fail(self, wp_id: str, error: Exception) -> None:
        """Note what broke; the journal may be what is broken, so the state is changed in any case."""
        error = first_error(error)
        self._failures.append(error)
        # An agent can do without the host; whoever needs it next meets the same.
        failed = run_events.Failed(str(error), stop=not isinstance(error, HostError))
        noted: list[tuple[str, run_events.AnyEvent]] = [("", failed)]
        if wp_id:
            noted.insert(0, (wp_id, events.Deferred(f"the run ends: {error}")))
        for one, event in noted:
            await self._ledger.insist(one, event)
