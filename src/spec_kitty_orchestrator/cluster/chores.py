"""What a machine does in the background, because no attempt waits for it: one thing at a time."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.cluster.attempt_folder import remove_old
from spec_kitty_orchestrator.cluster.checkouts import UNDROPPED_S, Checkouts
from spec_kitty_orchestrator.cluster.shipment import Shipment
from spec_kitty_orchestrator.errors import OrchestratorError
from spec_kitty_orchestrator.log import get_logger

__all__ = ["Chores"]

TIDY_S = 3600.0
"""How often what is old is removed."""


class Chores:
    """The chores of a machine; what cannot be done at once is done at the next occasion."""

    def __init__(self, checkouts: Checkouts, attempts: Path) -> None:
        self._checkouts = checkouts
        self._attempts = attempts
        self._task: asyncio.Task[None] | None = None
        self._tidied_s = float("-inf")

    def prepare(self, shipment: Shipment) -> None:
        """Make a worktree for the next workspace of a project."""
        self._do(lambda: self._checkouts.prepare(shipment))

    def tidy(self, *, idle: bool) -> None:
        """Remove what is old, if no attempt runs."""
        now = anyio.current_time()
        if idle and now > self._tidied_s + TIDY_S and self._do(self._tidy):
            self._tidied_s = now

    async def _tidy(self) -> None:
        await self._checkouts.tidy()
        # A begin that was asked for so long ago comes no more, and the workspaces of these are gone.
        await to_thread.run_sync(remove_old, self._attempts, time.time() - UNDROPPED_S)

    def _do(self, chore: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        async def do() -> None:
            try:
                await chore()
            except (OrchestratorError, OSError) as error:
                get_logger().warning("put off", error=str(error))

        if self._task is not None and not self._task.done():
            return False
        self._task = asyncio.create_task(do())
        return True

    async def close(self) -> None:
        """Leave what is being done: it begins anew another time."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
