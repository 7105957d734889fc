"""Ends what is at work when a run is to stop: agents and gates by a grace and a kill, all else by a bound."""

import math
from collections.abc import Awaitable, Callable

import anyio

from spec_kitty_orchestrator.core.commands import Command, PrepareWorkspace, RunAgent, RunGates
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.ports import AgentRunner
from spec_kitty_orchestrator.ports.gates import Gates

__all__ = ["HURRIED_GRACE_S", "STOP_GRACE_S", "Shutdown"]

STOP_GRACE_S = 8.0
"""Between the first signal to an agent and the kill: the slowest CLI cleans up in about two seconds."""

HURRIED_GRACE_S = 1.0
"""The same after a second signal to us: somebody is waiting."""

LAST_WORDS_S = 45.0
"""How long a run that stops waits beyond the grace, for sweeps and for the host's answer to one call."""

HURRIED_LAST_WORDS_S = 8.0
"""The same after a second signal."""


class Shutdown:
    """Stops agents and gates as often as there is a new reason to."""

    def __init__(
        self, agents: AgentRunner, gates: Gates | None, setup: Gates | None, said: Callable[[str], None]
    ) -> None:
        self._agents, self._gates, self._setup, self._said = agents, gates, setup, said
        self._halts: list[tuple[str, Command]] = []
        self._signals = 0
        self._stops, self._grace_s = False, STOP_GRACE_S
        self._asked = anyio.Event()
        self._scope: anyio.CancelScope | None = None
        self._due = math.inf

    def follow(self, state: RunState) -> None:
        """Take notice of a state of the run."""
        signals = len(state.signals)
        if not state.stopping or (self._stops and signals == self._signals):
            return
        self._stops, self._signals = True, signals
        hurried = signals >= 2 + state.draining
        self._grace_s = HURRIED_GRACE_S if hurried else STOP_GRACE_S
        due = anyio.current_time() + self._grace_s + (HURRIED_LAST_WORDS_S if hurried else LAST_WORDS_S)
        self._due = min(self._due, due)
        if self._scope is not None:
            self._scope.deadline = self._due
        self._asked.set()

    def halt(self, wp_id: str, command: Command) -> None:
        """Stop what performs a command of one work package, as a person wants; repeating it is harmless."""
        self._halts.append((wp_id, command))
        self._asked.set()

    def bound(self) -> anyio.CancelScope:
        """Return the scope of what ends with the run, whoever is still at work then."""
        self._scope = anyio.CancelScope(deadline=self._due)
        return self._scope

    async def stop_when_told(self) -> None:
        """Stop the agents and gates whenever there is a reason to; goes on until it is canceled."""
        async with anyio.create_task_group() as tasks:
            while True:
                await self._asked.wait()
                self._asked = anyio.Event()
                while self._halts:
                    tasks.start_soon(self._stop, self._halt, *self._halts.pop(0))
                for one in (self._agents, self._gates, self._setup):
                    if one is not None and self._stops:
                        tasks.start_soon(self._stop, one.stop_all, self._grace_s)

    async def _halt(self, wp_id: str, command: Command) -> None:
        match command:
            case RunAgent(attempt=attempt):
                await self._agents.stop(attempt, STOP_GRACE_S)
            case RunGates(turn=turn) if self._gates is not None:
                await self._gates.stop(wp_id, turn, STOP_GRACE_S)
            case PrepareWorkspace(turn=turn) if self._setup is not None:
                await self._setup.stop(wp_id, turn, STOP_GRACE_S)

    async def _stop(self, stop: Callable[..., Awaitable[None]], *args: object) -> None:
        try:
            await stop(*args)
        except Exception as error:  # noqa: BLE001 - the run ends all the same; who is still at work is told
            self._said(f"not everything could be stopped: {error}")
