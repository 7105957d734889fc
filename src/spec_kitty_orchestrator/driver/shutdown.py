"""Ends what is at work when a run is to stop: agents and gates by a grace and a kill, all else by a bound."""

import math
from collections.abc import Callable, Sequence

import anyio

from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.ports import AgentRunner, Gates

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

    def __init__(self, at_work: Sequence[AgentRunner | Gates], said: Callable[[str], None]) -> None:
        self._at_work, self._said = at_work, said
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
                for one in self._at_work:
                    tasks.start_soon(self._stop, one, self._grace_s)

    async def _stop(self, one: AgentRunner | Gates, grace_s: float) -> None:
        try:
            await one.stop_all(grace_s)
        except Exception as error:  # noqa: BLE001 - the run ends all the same; who is still at work is told
            self._said(f"not everything could be stopped: {error}")
