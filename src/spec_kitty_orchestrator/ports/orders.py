"""Orders of people to a run that is active, as the driver needs them."""

from collections.abc import Mapping
from typing import Protocol

from spec_kitty_orchestrator.core.orders import Changed, Given

__all__ = ["Orders"]


class Orders(Protocol):
    """Where orders come from, each once: one that nobody has answered comes again at the next start."""

    async def next(self) -> Given:
        """Wait for the next order."""
        ...

    async def answer(self, order_id: str, text: str, *, refused: bool = False) -> None:
        """Tell who gave an order what became of it."""
        ...

    async def changed(self, settings: Mapping[str, object], changes: Mapping[str, str]) -> Changed:
        """Return what becomes of the recorded settings with changes. Raises `ConfigError`."""
        ...
