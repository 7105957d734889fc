"""Orders in memory; as real ones they outlive a run that is cut off, and are answered once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count

import anyio

from spec_kitty_orchestrator.core.orders import Changed, Given, Order

__all__ = ["Answer", "MemoryOrders"]

_NUMBERS = count(1)
"""No two orders of a process have the same id, whoever keeps them."""


@dataclass(frozen=True)
class Answer:
    """What was answered to an order."""

    text: str
    refused: bool


def nothing_changes(settings: Mapping[str, object], changes: Mapping[str, str]) -> Changed:
    """Refuse to change settings."""
    raise NotImplementedError


@dataclass
class MemoryOrders:
    """Implements the port `Orders`.

    Attributes:
        change: returns what settings become; may raise `ConfigError`.
        answers: by the order's id.
    """

    change: Callable[[Mapping[str, object], Mapping[str, str]], Changed] = nothing_changes
    answers: dict[str, Answer] = field(default_factory=dict)
    _all: dict[str, Given] = field(default_factory=dict)
    _left: dict[str, Given] = field(default_factory=dict)
    _came: anyio.Event = field(default_factory=anyio.Event)
    _answered: anyio.Event = field(default_factory=anyio.Event)

    def put(self, order: Order, by: str = "kim") -> str:
        """Give an order and return its id; the run that is active, or the next one, takes it up."""
        given = Given(order, by, f"order{next(_NUMBERS):03d}")
        self._all[given.id] = given
        self.again(given.id)
        return given.id

    def again(self, order_id: str) -> None:
        """Leave an order as a run does that was cut off before it answered."""
        self._left[order_id] = self._all[order_id]
        self._came.set()

    def restart(self) -> None:
        """Leave every order that was not answered, as the next start of the command finds them."""
        self._left = {name: one for name, one in self._all.items() if name not in self.answers}
        self._came.set()

    async def give(self, order: Order, by: str = "kim") -> Answer:
        """Give an order and wait for its answer."""
        order_id = self.put(order, by)
        while order_id not in self.answers:
            self._answered = anyio.Event()
            await self._answered.wait()
        return self.answers[order_id]

    async def next(self) -> Given:
        """Wait for the next order."""
        while not self._left:
            self._came = anyio.Event()
            await self._came.wait()
        return self._left.pop(next(iter(self._left)))

    async def answer(self, order_id: str, text: str, *, refused: bool = False) -> None:
        """Keep the answer."""
        self.answers[order_id] = Answer(text, refused)
        self._answered.set()

    async def changed(self, settings: Mapping[str, object], changes: Mapping[str, str]) -> Changed:
        """Ask `change`."""
        return self.change(settings, changes)
