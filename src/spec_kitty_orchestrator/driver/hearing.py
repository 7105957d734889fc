"""Hears what comes from outside while a run goes on: signals to its process, and orders of people."""

from collections.abc import Awaitable, Callable, Mapping

import anyio

from spec_kitty_orchestrator.core.orders import Changed, Given, Meant, Refused, Set, meaning
from spec_kitty_orchestrator.core.run_events import AnyEvent, Signaled
from spec_kitty_orchestrator.core.run_state import RunState
from spec_kitty_orchestrator.errors import ConfigError
from spec_kitty_orchestrator.ports.orders import Orders

__all__ = ["Decide", "Hearing"]

Decide = Callable[[RunState], Meant | Refused]


class Hearing:
    """Lets signals and orders happen, in the order in which they come.

    Args:
        orders: where those of people come from, None if nobody can give any.
        happened: lets an event of the run happen.
        settle: asks what is to happen in the present state, and lets that happen before anything else.
        settings: returns those in force, as the journal has them.
    """

    def __init__(
        self,
        orders: Orders | None,
        happened: Callable[[str, AnyEvent], Awaitable[object]],
        settle: Callable[[Decide], Awaitable[Meant | Refused]],
        settings: Callable[[], Mapping[str, object]],
    ) -> None:
        self._orders, self._happened, self._settle, self._settings = orders, happened, settle, settings
        self._signals: list[Signaled] = []
        self._came = anyio.Event()

    def signal(self, number: int, *, drain: bool = False) -> None:
        """Take a signal; it happens as soon as somebody hears it."""
        self._signals.append(Signaled(number, drain=drain))
        self._came.set()

    async def take_signals(self) -> None:
        """Let the signals happen that came so far."""
        while self._signals:
            await self._happened("", self._signals.pop(0))

    async def hear_signals(self) -> None:
        """Let signals happen, whatever the run waits for; goes on until it is canceled."""
        while True:
            self._came = anyio.Event()
            await self.take_signals()
            await self._came.wait()

    async def hear_orders(self) -> None:
        """Carry out orders, one after the other; goes on until it is canceled, unless there can be none."""
        while self._orders is not None:
            given = await self._orders.next()
            told = await self._carried_out(self._orders, given)
            await self._orders.answer(given.id, told.answer, refused=isinstance(told, Refused))

    async def _carried_out(self, orders: Orders, given: Given) -> Meant | Refused:
        changed: Changed | None = None
        if isinstance(given.order, Set):
            try:
                changed = await orders.changed(self._settings(), given.order.changes)
            except ConfigError as error:
                return Refused(str(error))
        return await self._settle(lambda state: meaning(state, given, changed))
