"""The agents of a cluster: attempts are opened and recorded here, and run on the machines of workers.

An attempt gets a slot, then a machine, for ever: `placed.json` is on our disk before that machine is told to
begin. From then on only that machine is asked, whatever the scheduler does with the task that holds the slot.
"""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.agents.declared import Declared
from spec_kitty_orchestrator.cluster.attempt_folder import SETUP_LOG, task_of
from spec_kitty_orchestrator.cluster.fetching import fetch, send
from spec_kitty_orchestrator.cluster.leftovers import forget_there, keep_clearing, machine_of
from spec_kitty_orchestrator.cluster.machine_gate import failure_of, setup_of
from spec_kitty_orchestrator.cluster.placement import PLACED, WANTED
from spec_kitty_orchestrator.cluster.records import (
    Confinement,
    Placed,
    Wanted,
    WorkOrder,
    read,
    spelled,
    write,
)
from spec_kitty_orchestrator.cluster.rounds import LostMachine, Rounds, beside
from spec_kitty_orchestrator.cluster.shipping import Shipping
from spec_kitty_orchestrator.cluster.transport import Transport
from spec_kitty_orchestrator.core.bounds import within_bounds
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Outcome
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.log import get_logger
from spec_kitty_orchestrator.machine import attempt_files, logs
from spec_kitty_orchestrator.machine.commit_rules import CommitRules
from spec_kitty_orchestrator.machine.environment import named
from spec_kitty_orchestrator.machine.files import read_whole
from spec_kitty_orchestrator.machine.runner import LocalAgents
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.quantities import spelled as spelled_time

__all__ = ["ClusterAgents"]

WAIT_TOLD_S = 3.0
"""A slot that is free is had sooner; who waits for longer is told why."""
DROP_LIMIT_S = 10.0
STOP_LIMIT_S = 15.0
"""Beyond the grace of the agents: for a machine that has to answer that they are gone."""

_SENT = "sent.bundle"


class ClusterAgents(LocalAgents):
    """The `AgentRunner` of a cluster; attempts of earlier starts without one are this machine's.

    `serving` must be entered before attempts run. `transport` leads to the cluster for a mission, `rules` say
    what is not sent there, `clone` is where machines may get the repository from ("" for from us alone), a
    machine that is silent for `lost_after_s` is lost. `setup` is what checkouts there need, with variables
    that `passed` names. What else there is is as for `LocalAgents`.
    """

    def __init__(
        self,
        *arguments: Any,
        transport: Callable[[str], AbstractAsyncContextManager[Transport]],
        clone: str = "",
        lost_after_s: float = 120.0,
        rules: CommitRules | None = None,
        setup: Sequence[Gate] = (),
        passed: Sequence[str] = (),
        **named: Any,
    ) -> None:
        super().__init__(*arguments, **named)
        self._open_transport = transport
        self._clone = clone
        self._lost_after_s = lost_after_s
        self._rules = rules
        self._setup = setup
        self._passed = passed
        self._missions: dict[str, Shipping] = {}
        self._stops: dict[str, anyio.Event] = {}
        self._graces: dict[str, float] = {}
        self._waited_s: dict[str, float] = {}
        self._transport: Transport | None = None
        self._rounds: Rounds | None = None

    @asynccontextmanager
    async def serving(self, mission: str) -> AsyncIterator[None]:
        """Be connected with the cluster while the context lasts."""
        async with self._open_transport(mission) as transport:
            self._transport = transport
            self._rounds = Rounds(transport, self._version, lost_after_s=self._lost_after_s, say=self._say)
            await self._rounds.once()
            async with beside(self._rounds.keep_asking), beside(self._clear, mission):
                yield

    async def _clear(self, mission: str) -> None:
        home = logs.mission_logs(self._root, mission)
        await keep_clearing(home, self.rounds, self._of(mission), self._say)

    @property
    def rounds(self) -> Rounds:
        """What is known of the cluster."""
        assert self._rounds is not None, "serving() is not entered"
        return self._rounds

    @property
    def transport(self) -> Transport:
        """The way to the cluster."""
        assert self._transport is not None, "serving() is not entered"
        return self._transport

    @property
    def first(self) -> str:
        """One of the agents of the run."""
        return next(iter(self._agents))

    async def open(self, request: AttemptRequest) -> Attempt:
        """Write what the attempt is into a directory of its own; it goes on with a session where that is.

        Raises:
            WorkspaceError: the disk refuses.
            PreflightError: the agent is not configured.
        """
        machine = ""
        if request.session:
            home = logs.mission_logs(self._root, request.mission) / logs.path_part(request.wp_id)
            machine = await to_thread.run_sync(machine_of, home, request)
            if not self.rounds.takes(machine):
                if machine:
                    state = "takes no attempts" if machine in self.rounds.machines else "is away"
                    why = f"{machine}, which has the earlier, {state}"
                    self._say(f"{request.wp_id}: begins a new session: {why}")
                request, machine = replace(request, session=""), ""
        attempt = await super().open(request)
        wanted = Wanted(
            replace(request, prompt="", session=attempt.session), machine if attempt.session else ""
        )
        try:
            await to_thread.run_sync(write, Path(attempt.directory) / WANTED, wanted)
        except OSError as error:
            raise WorkspaceError(f"cannot prepare an attempt of {request.wp_id}: {error}") from error
        return attempt

    async def run(self, attempt: Attempt) -> AgentReport:
        """Place the attempt, or find it where it was placed, or take what it left; wait for its end.

        Cancelling leaves it running: the next call finds it again.

        Raises:
            WorkspaceError: the worktree is missing, or the disk refuses.
            PreflightError: the attempt's agent is not configured any more.
        """
        directory = Path(attempt.directory)
        wanted = await to_thread.run_sync(read, Wanted, directory / WANTED)
        placed = await to_thread.run_sync(read, Placed, directory / PLACED)
        if wanted is None or (placed is None and await to_thread.run_sync(logs.was_started, directory)):
            return await super().run(attempt)
        self.agent(attempt.agent)
        async with self._turns.setdefault(attempt.directory, anyio.Lock()):
            saved = await to_thread.run_sync(attempt_files.read_result, directory, attempt.id)
            if saved is None:
                report = await self._whole(attempt, wanted, placed)
            else:
                await attempt_files.scrub(attempt, self._redactor)
                report = saved
            # The gates that follow one need its workspace.
            if wanted.gate is None:
                await self.drop(attempt)
            return report

    async def _whole(self, attempt: Attempt, wanted: Wanted, placed: Placed | None) -> AgentReport:
        stop = self._stops.setdefault(attempt.id, anyio.Event())
        if self._is_stopped(attempt):
            stop.set()
        follow = partial(self.rounds.following, attempt.id, attempt.agent, Path(attempt.directory))
        machine, known = (placed.machine, "") if placed else ("", "absent")
        begun = anyio.current_time()
        try:
            with follow(machine, wanted.machine):
                try:
                    while placed is None:
                        machine = await self._slot(attempt, stop)
                        self._waited_s[attempt.id] = anyio.current_time() - begun
                        if not machine:
                            await self.rounds.let_go(attempt.id)
                            return self._canceled(attempt)
                        try:
                            placed = await self._place(attempt, wanted, machine)
                        except LostMachine:
                            if wanted.request.session:
                                raise
                            self.rounds.refuse(attempt.id)
                    self.rounds.settle(attempt.id, placed.machine, known)
                    return await self._finish(attempt, wanted, placed, stop)
                except LostMachine:
                    return await self._lost(attempt, machine, placed)
                except (OSError, WorkspaceError) as error:
                    await self.rounds.let_go(attempt.id)
                    if isinstance(error, WorkspaceError):
                        raise
                    raise WorkspaceError(str(error)) from error
        finally:
            del self._stops[attempt.id]

    def _canceled(self, attempt: Attempt) -> AgentReport:
        return AgentReport(Outcome.CANCELED, detail=f"{self._who_stopped(attempt)} before it began")

    async def _slot(self, attempt: Attempt, stop: anyio.Event) -> str:
        """Wait for a slot; return its machine, "" if the attempt was stopped meanwhile."""
        async with beside(self._say_why, attempt), anyio.create_task_group() as tasks:
            tasks.start_soon(_cancel_when, stop, tasks.cancel_scope)
            machine = await self.rounds.slot(attempt.id)
            tasks.cancel_scope.cancel()
        return "" if stop.is_set() else machine

    async def _say_why(self, attempt: Attempt) -> None:
        await anyio.sleep(WAIT_TOLD_S)
        wp = Path(attempt.directory).parent.name
        self._say(f"{wp}: waits for a worker with a free slot for {attempt.agent}")

    async def _place(self, attempt: Attempt, wanted: Wanted, machine: str) -> Placed:
        """Write down that the attempt is on this machine, with what is sent there. Raises `LostMachine`."""
        directory, workspace = Path(attempt.directory), wanted.request.workspace.path
        shipping = self._of(wanted.request.mission)
        shipment = await shipping.snapshot(Path(workspace))
        for withheld in shipment.withheld:
            self._say(f"{wanted.request.wp_id}: is not sent to {machine}: {withheld}")
        told = await self.rounds.ask(machine, "have", project=shipment.project, clone=self._clone)
        await shipping.bundle(attempt.id, shipment, told["commits"], directory / _SENT)
        placed = Placed(attempt.id, machine, wanted.request.mission, workspace, shipment)
        # An attempt that may have begun never begins anywhere else, also not on this machine.
        await to_thread.run_sync(partial((directory / "stdout.log").touch, mode=0o600))
        await to_thread.run_sync(write, directory / PLACED, placed)
        return placed

    async def _finish(
        self, attempt: Attempt, wanted: Wanted, placed: Placed, stop: anyio.Event
    ) -> AgentReport:
        try:
            async with beside(self._stop_there, attempt, placed, stop):
                return await self._end(attempt, wanted, placed)
        except anyio.get_cancelled_exc_class():
            if stop.is_set():
                wp, machine = wanted.request.wp_id, placed.machine
                self._say(f"{wp}: was not stopped in time, and may go on at {machine} until the next start")
            raise

    async def _lost(self, attempt: Attempt, machine: str, placed: Placed | None) -> AgentReport:
        so = "its session is only there"
        if placed is not None:
            # Before its result is: a machine forgets what has one and was not lost.
            lost, so = replace(placed, lost=True), "what it did there is not here"
            await to_thread.run_sync(write, Path(attempt.directory) / PLACED, lost)
        detail = f"{machine} has not answered for {spelled_time(self._lost_after_s)}: {so}"
        report = AgentReport(Outcome.LOST, detail=detail, machine=machine)
        await attempt_files.save(attempt, report)
        return report

    async def _stop_there(self, attempt: Attempt, placed: Placed, stop: anyio.Event) -> None:
        await stop.wait()
        try:
            await self._stop_at(attempt, placed.machine)
        except (LostMachine, WorkspaceError) as error:
            self._say(f"{Path(attempt.directory).parent.name}: it cannot be stopped: {error}")

    async def _stop_at(self, attempt: Attempt, machine: str) -> None:
        graces = (self._stop_grace_s, self._graces.get(attempt.id))
        grace_s = min((one for one in graces if one is not None), default=0.0)
        told = await self.rounds.ask(machine, "stop", attempts=[attempt.id], grace_s=grace_s)
        self.rounds.saw(attempt.id, told["states"][attempt.id])
        self.rounds.hurry()

    async def _end(self, attempt: Attempt, wanted: Wanted, placed: Placed) -> AgentReport:
        (Path(attempt.directory) / SETUP_LOG).unlink(missing_ok=True)
        sent, refused = Path(attempt.directory) / _SENT, ""
        while (state := await self.rounds.end(attempt.id)) == "absent":
            # It has not begun there, and can begin nowhere else.
            if refused or self._is_stopped(attempt):
                await self._stop_at(attempt, placed.machine)
                continue
            order = await to_thread.run_sync(self._order, attempt, wanted, placed)
            try:
                await send(attempt.id, placed.machine, sent, self.rounds)
                told = await self.rounds.ask(placed.machine, "begin", order=spelled(order))
            except WorkspaceError as error:
                refused = str(error)
                continue
            if "failed" in told:
                sent.unlink(missing_ok=True)
                raise await self._not_set_up(attempt, wanted, failure_of(told, placed, attempt))
            self.rounds.saw(attempt.id, told["state"])
        sent.unlink(missing_ok=True)
        if state == "ended":
            return await self._fetch(attempt, wanted, placed)
        if self._is_stopped(attempt):
            report = self._canceled(attempt)
        else:
            gone = refused or f"{placed.machine} ends, or was told to forget it, before it began"
            outcome = Outcome.CRASHED if refused else Outcome.LOST
            report = AgentReport(outcome, detail=gone, machine=placed.machine)
        await attempt_files.save(attempt, report)
        return report

    async def _not_set_up(self, attempt: Attempt, wanted: Wanted, text: str) -> WorkspaceError:
        await attempt_files.scrub(attempt, self._redactor)
        if wanted.gate is None:
            # The next start makes another one of it, while a gate is asked for again.
            await self.drop(attempt)
        return WorkspaceError(self._redactor.text(text))

    def _order(self, attempt: Attempt, wanted: Wanted, placed: Placed) -> WorkOrder:
        confinement = Confinement(self._sandbox.rules, self._sandbox.states) if self._sandbox else None
        setup = setup_of(self._setup, named(os.environ, self._passed))
        if wanted.gate is not None:
            order = WorkOrder(wanted.request, placed.shipment, confinement=confinement, setup=setup)
            return replace(order, gate=wanted.gate, env=named(os.environ, wanted.gate.passed))
        agent, settings = self.agent(attempt.agent)
        prompt = read_whole(Path(attempt.directory) / "prompt.md").decode("utf-8", "replace")
        scenario = settings.scenario.read_text(encoding="utf-8") if settings.scenario else ""
        return WorkOrder(
            replace(wanted.request, prompt=prompt),
            placed.shipment,
            replace(settings, scenario=None),
            agent.declaration if isinstance(agent, Declared) else None,
            scenario,
            self._timeouts,
            self._stall_timeout_s,
            confinement,
            named(os.environ, settings.pass_env),
            task=task_of(wanted.request, prompt),
            setup=setup,
        )

    async def _fetch(self, attempt: Attempt, wanted: Wanted, placed: Placed) -> AgentReport:
        """Take over what an attempt that has ended left on its machine, and make its report ours."""
        shipping = self._of(placed.mission) if wanted.gate is None else None
        fetched = await fetch(attempt, placed, self.rounds, shipping, self._say)
        waited_s = self._waited_s.pop(attempt.id, 0.0)
        report = replace(self._own(attempt, fetched), machine=placed.machine, waited_s=waited_s)
        await attempt_files.save(attempt, report)
        await attempt_files.scrub(attempt, self._redactor)
        get_logger().info("attempt ended", attempt=attempt.id, machine=placed.machine, outcome=report.outcome)
        return report

    def _own(self, attempt: Attempt, report: AgentReport) -> AgentReport:
        """Return a machine's report without what we know to be secret, and with words that count here."""
        redactor = self._redactor.sparing(attempt.id, attempt.head)
        if report.outcome is Outcome.CANCELED and not self._is_stopped(attempt):
            report = replace(report, outcome=Outcome.LOST, detail="its worker was stopped")
        text, detail = redactor.text(report.text), redactor.text(report.detail)
        return within_bounds(replace(report, text=text, detail=detail))

    async def drop(self, attempt: Attempt) -> None:
        """Let the machine forget an attempt whose result is here, and give its slot back."""
        directory = Path(attempt.directory)
        with anyio.move_on_after(DROP_LIMIT_S), suppress(LostMachine, WorkspaceError, OSError):
            await self.transport.release(attempt.id)
            placed = await to_thread.run_sync(read, Placed, directory / PLACED)
            if placed is not None and not (placed.done or placed.lost):
                await forget_there(directory, placed, self.rounds, self._of(placed.mission))

    def _of(self, mission: str) -> Shipping:
        if mission not in self._missions:
            self._missions[mission] = Shipping(self._root, mission, self._rules)
        return self._missions[mission]

    def _is_stopped(self, attempt: Attempt) -> bool:
        return self._stop_grace_s is not None or attempt.id in self._unwanted

    async def stop(self, attempt: Attempt, grace_s: float) -> None:
        """Stop one attempt and return when it is gone; one that is still to be run is not begun."""
        self._graces[attempt.id] = min(grace_s, self._graces.get(attempt.id, grace_s))
        await super().stop(attempt, grace_s)
        if event := self._stops.get(attempt.id):
            event.set()
            await self._gone([attempt.directory], grace_s)

    async def stop_all(self, grace_s: float) -> None:
        """Stop every attempt, here and there, and return when all are gone; none begins any more."""
        await super().stop_all(grace_s)
        for event in self._stops.values():
            event.set()
        await self._gone(list(self._turns), grace_s)

    async def _gone(self, directories: list[str], grace_s: float) -> None:
        with anyio.move_on_after(grace_s + STOP_LIMIT_S):
            for directory in directories:
                async with self._turns.setdefault(directory, anyio.Lock()):
                    pass


async def _cancel_when(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
