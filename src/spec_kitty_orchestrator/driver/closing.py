"""How a run closes before nothing is left to do: a signal, a failure, a quota or a budget ends it in order.

Nothing begins any more; agents at work end by themselves, or are stopped where that was asked for.
"""

from collections.abc import Awaitable, Callable, Sequence

import anyio

from spec_kitty_orchestrator.core.commands import Command
from spec_kitty_orchestrator.core.events import Event
from spec_kitty_orchestrator.driver.progress import Progress
from spec_kitty_orchestrator.driver.result import Ending, begins_something, first_error
from spec_kitty_orchestrator.ports import AgentRunner, Gates

STOP_GRACE_S = 8.0
"""Between the first signal to an agent and the kill: the slowest CLI cleans up in about two seconds."""

HURRIED_GRACE_S = 1.0
"""The same after a second signal to us: somebody is waiting."""


class Closing:
    """Why a run closes, and who is stopped for it.

    Attributes:
        ending: what ended the run besides a signal, None if nothing did.
        failures: what broke, oldest first; `Orchestrator.run` raises the first.
    """

    def __init__(self, progress: Progress, at_work: Sequence[AgentRunner | Gates], grace_s: float) -> None:
        self._progress, self._at_work, self._grace_s = progress, at_work, grace_s
        self.ending: Ending | None = None
        self.failures: list[Exception] = []
        self._stop = anyio.Event()
        self._signals: list[int] = []
        self._drained_by: int | None = None
        self._cut = False

    def drain(self, signum: int) -> None:
        """Start nothing more and let running attempts end."""
        self._drained_by = signum
        self._progress.close()

    def interrupt(self, signum: int) -> None:
        """Start nothing more and stop the agents; a second call hurries the stop."""
        self._signals.append(signum)
        self._halt()

    def end(self, ending: Ending, *, hard: bool = False) -> None:
        """Start nothing more for a reason of the run's own; `hard` stops the agents too."""
        self.ending = self.ending or ending
        if hard and not self._cut:
            self._cut = True
            self._halt()
        self._progress.close()

    def fail(self, error: Exception) -> None:
        """Start nothing more and stop the agents, because something broke."""
        self.failures.append(error)
        self._halt()

    @property
    def received(self) -> int | None:
        """The first signal, None if there was none."""
        return self._drained_by or next(iter(self._signals), None)

    def forbids(self, event: Event, command: Command) -> bool:
        """Tell whether the command that follows an event must be left to the next start."""
        if self._halted:
            return True
        return bool(self._drained_by or self.ending) and begins_something(event, command)

    async def guarded(self, work: Callable[..., Awaitable[None]], *args: str) -> None:
        """Let a failure end the run in order: nothing starts any more, agents are stopped, `run` raises."""
        try:
            await work(*args)
        except ExceptionGroup as group:
            self.fail(first_error(group))
        except Exception as error:  # noqa: BLE001 - `run` raises it
            self.fail(error)

    async def stop_agents_when_told(self) -> None:
        """Stop the agents, and gates, whenever there is a reason to; goes on until it is canceled."""
        async with anyio.create_task_group() as tg:
            while True:
                stop = self._stop
                if self._halted:
                    grace_s = self._grace_s if len(self._signals) < 2 else HURRIED_GRACE_S
                    for one in self._at_work:
                        tg.start_soon(one.stop_all, grace_s)
                await stop.wait()

    @property
    def _halted(self) -> bool:
        return bool(self._signals or self.failures or self._cut)

    def _halt(self) -> None:
        self._stop.set()
        self._stop = anyio.Event()
        self._progress.close()
