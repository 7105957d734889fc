"""Runs a mission: one coroutine per work package that holds a slot, and one place that gives out slots.

Whatever changes wakes who has to act on it. Signals arrive as a call of `interrupt`.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace

import anyio
from anyio.abc import TaskGroup

from spec_kitty_orchestrator.core.budget import Budget
from spec_kitty_orchestrator.core.commands import Command, Finish, Wait
from spec_kitty_orchestrator.core.events import AgentExited, Event, Queued, Scheduled, TimerFired
from spec_kitty_orchestrator.core.lifecycle import step
from spec_kitty_orchestrator.core.model import Lane, MissionState, Policy, Result, WorkPackage
from spec_kitty_orchestrator.core.plans import Finished, Idle, Stalled, Start
from spec_kitty_orchestrator.core.prompts import Prompts
from spec_kitty_orchestrator.core.quota import Patience
from spec_kitty_orchestrator.driver.admission import Admission, Held
from spec_kitty_orchestrator.driver.closing import HURRIED_GRACE_S, STOP_GRACE_S, Closing
from spec_kitty_orchestrator.driver.lookout import Lookout
from spec_kitty_orchestrator.driver.mission import MissionView
from spec_kitty_orchestrator.driver.progress import Progress
from spec_kitty_orchestrator.driver.quotas import Quotas
from spec_kitty_orchestrator.driver.recover import fold_in_steps, start_in_steps
from spec_kitty_orchestrator.driver.resolver import Resolver
from spec_kitty_orchestrator.driver.result import RunResult, conclude
from spec_kitty_orchestrator.driver.room import HEADROOM_POLL_S, Room
from spec_kitty_orchestrator.driver.spending import Spending
from spec_kitty_orchestrator.driver.work_package import Performer
from spec_kitty_orchestrator.ports import (
    AgentRunner,
    Entry,
    Gates,
    Headroom,
    Host,
    Journal,
    Observer,
    RunEnded,
    RunStarted,
    WallClock,
    Workspaces,
)

__all__ = ["HURRIED_GRACE_S", "STOP_GRACE_S", "Orchestrator", "RunResult", "new_attempt_id"]

POLL_INTERVAL_S = 30.0
"""Between two looks at the mission while only others can free work."""


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
        stop_grace_s: float = STOP_GRACE_S,
        new_id: Callable[[], str] = new_attempt_id,
        poll_interval_s: float = POLL_INTERVAL_S,
        max_per_agent: Mapping[str, int] | None = None,
        settings: Mapping[str, object] | None = None,
        headroom: Headroom | None = None,
        gates: Gates | None = None,
        patience: Patience | None = None,
        budget: Budget | None = None,
    ) -> None:
        """Take the parts.

        Args:
            mission: its slug.
            actor: the name under which the host knows us.
            policy: what decisions depend on.
            host: and the other ports, see `spec_kitty_orchestrator.ports`.
            agents: runs attempts.
            workspaces: git.
            journal: the record of the mission's runs.
            clock: for the journal.
            observer: is told of every event.
            prompts: the texts for agents.
            max_concurrent: how many work packages hold a slot at once; no more agents run.
            version: ours, for the journal.
            tick_command: how an implementer calls the host to tick subtasks.
            stop_grace_s: seconds between the first signal to an agent and the kill.
            new_id: makes attempt ids.
            poll_interval_s: seconds between two looks at the mission while only others can free work.
            max_per_agent: how many attempts of an agent run at once; one that is missing has no limit.
            settings: what the journal keeps for a start that goes on with them, in values of JSON.
            headroom: asked before work starts; None if the machine always has room.
            gates: runs what must pass before a review is paid for; None if there is nothing to run.
            patience: what to do about quotas that are used up; None for the default.
            budget: what may be spent; None for no limits.
        """
        self._mission, self._actor, self._policy = mission, actor, policy
        self._agents, self._journal = agents, journal
        self._clock, self._observer = clock, observer
        self._limit, self._version = max_concurrent, version
        self._settings = settings or {}
        self._per_agent = dict(max_per_agent or {})
        self._view = MissionView(host, mission)
        self._progress = Progress(self._view, policy, max_concurrent, self._per_agent)
        self._resolver = Resolver(host, mission, self._progress, observer)
        self._lookout = Lookout(self._view, self._progress, observer, poll_interval_s)
        self._room = Room(headroom, observer)
        self._performer = Performer(
            mission, actor, policy, host, agents, workspaces, self._view, prompts, tick_command, new_id, gates
        )
        self._patience, self._budget = patience or Patience(), budget or Budget()
        self._quotas = Quotas(policy, self._patience, clock)
        self._closing = Closing(self._progress, [one for one in (agents, gates) if one], stop_grace_s)
        self._admission = Admission(
            policy,
            self._progress,
            self._quotas,
            Spending(self._budget, self._progress, observer),
            self._closing,
            self._lookout,
            observer,
        )
        self._queued: dict[str, Lane] = {}

    def drain(self, signum: int) -> None:
        """Start nothing more, let running attempts end, save their work and return from `run`."""
        self._closing.drain(signum)

    def interrupt(self, signum: int) -> None:
        """Start nothing more, stop the agents and return from `run`; a second call hurries the stop."""
        self._closing.interrupt(signum)

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
        await self._quotas.begin(lines)
        folded = await fold_in_steps(lines, self._policy)
        await self._progress.begin(await start_in_steps(self._view.state(), folded, self._policy))
        await self._journal.append(self._start_line())
        self._admission.begin()
        end: Finished | Stalled | None = None
        async with anyio.create_task_group() as tg:
            tg.start_soon(self._closing.stop_agents_when_told)
            tg.start_soon(self._closing.guarded, self._resolver.keep_resolving)
            tg.start_soon(self._closing.guarded, self._lookout.keep_looking)
            tg.start_soon(self._admission.keep_time)
            try:
                end = await self._give_out_slots(tg)
            except Exception as error:  # noqa: BLE001 - raised below, once the agents are stopped
                self._closing.fail(error)
                while self._progress.board.active:
                    await self._progress.to_slots.wait()
            tg.cancel_scope.cancel()
        if self._closing.failures:
            raise self._closing.failures[0]
        result = self._result(end)
        complete = sum(one.lane.complete for one in result.work_packages)
        ended = f"; {result.ended}" if result.ended else ""
        summary = f"{complete} of {len(self._progress.board.wps)} complete{ended}"
        await self._journal.append(RunEnded(self._clock.now(), result.exit_code, summary))
        return result

    async def _give_out_slots(self, tg: TaskGroup) -> Finished | Stalled | None:
        progress, board = self._progress, self._progress.board
        while not progress.closing:
            self._admission.hold_new_work()
            # Of what was begun an agent may still run, and take the very room that is short.
            for one in board.go_on(self._limit, anyio.current_time()):
                self._start(tg, one)
            if board.could_start(self._limit, anyio.current_time()):
                if await self._room.is_short(at_work=bool(board.active)):
                    if self._room.is_given_up:
                        return Stalled(board.reasons(self._room.shortage))
                    with anyio.move_on_after(HEADROOM_POLL_S):
                        await progress.to_slots.wait()
                    continue
                if progress.closing:
                    break
            match board.plan(self._limit, anyio.current_time()):
                case Start(ids=ids):
                    for one in ids:
                        self._start(tg, one)
                case Idle(until=until):
                    self._claim_ahead(tg)
                    await self._admission.idle(until)
                case end:
                    if self._view.stale:
                        await self._view.refresh()
                    if not progress.adopt():
                        return end
        while board.active:
            await progress.to_slots.wait()
        return None

    def _start(self, tg: TaskGroup, wp_id: str) -> None:
        self._progress.started(wp_id)
        tg.start_soon(self._closing.guarded, self._drive, wp_id)

    def _claim_ahead(self, tg: TaskGroup) -> None:
        """Let the host prepare the next work package while agents have every slot and the host is idle."""
        if self._progress.lull and not self._room.shortage:
            wp_id = self._progress.board.claim_ahead(self._limit)
            if wp_id:
                self._start(tg, wp_id)

    async def _drive(self, wp_id: str) -> None:
        event, rests_until = self._taken_up(wp_id), None
        try:
            while True:
                wp, command = await self._happened(wp_id, event)
                if isinstance(command, Wait):
                    rests_until = anyio.current_time() + command.seconds
                    return
                if isinstance(command, Finish):
                    if command.result is Result.REQUEUED:
                        await self._view.refresh()
                        self._progress.adopt()
                    return
                if self._closing.forbids(event, command):
                    return
                answer = self._admission.ask(wp, command)
                if isinstance(answer, Held):
                    self._queued[wp_id], rests_until = wp.lane, answer.until
                    await self._happened(wp_id, Queued(answer.reason))
                    return
                event = answer or await self._performer.perform(wp, self._admission.equipped(wp, command))
        finally:
            self._admission.leave(wp_id)
            self._progress.stopped(wp_id, rests_until)

    def _taken_up(self, wp_id: str) -> Event:
        board = self._progress.board
        wp = board.wps[wp_id]
        # A read for somebody else may have told that it was moved while it waited: no agent is paid for then.
        lane = self._view.lanes.get(wp_id, wp.lane)
        rested = board.resting.pop(wp_id, None) is not None
        self._quotas.woke(wp_id)
        if self._queued.pop(wp_id) is lane if wp_id in self._queued else rested:
            return TimerFired()
        return Scheduled(lane, wp.workspace or board.workspaces[wp_id])

    async def _happened(self, wp_id: str, event: Event) -> tuple[WorkPackage, Command]:
        before = self._progress.board.wps[wp_id]
        wp, command = step(before, event, self._policy)
        at = self._clock.now()
        await self._journal.append(Entry(at, wp_id, event))
        self._progress.put(wp)
        if isinstance(event, AgentExited):
            self._admission.ended(before, wp, event, at)
        self._observer.saw(wp, event)
        return wp, command

    def _start_line(self) -> RunStarted:
        return RunStarted(
            self._clock.now(),
            self._mission,
            self._actor,
            self._policy,
            self._version,
            self._limit,
            on_rate_limit=self._patience.on_rate_limit.value,
            limits_in_force=self._per_agent,
            settings=self._settings,
        )

    def _result(self, end: Finished | Stalled | None) -> RunResult:
        known, ending = self._progress.board.wps, self._closing.ending
        wps = tuple(known[one] for one in self._view.lanes if one in known)
        held = end.reasons if isinstance(end, Stalled) else {}
        if ending is not None:
            held = self._progress.board.reasons(ending.reason)
        result = conclude(self._view.state(), wps, held, self._closing.received, ending)
        return replace(result, resting=self._quotas.resting)
