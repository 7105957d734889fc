"""Looks beside the run which branches conflict: after each new commit, at the pairs that it may concern."""

from collections.abc import Awaitable, Callable

import anyio

from spec_kitty_orchestrator.core import conflicts
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import ConflictForecast
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.log import get_logger
from spec_kitty_orchestrator.ports import Workspaces

__all__ = ["ConflictWatch"]


class ConflictWatch:
    """One look at a time; nobody waits for it, and a git that cannot tell is no reason to stop."""

    def __init__(
        self,
        workspaces: Workspaces,
        state: Callable[[], RunState],
        tell: Callable[[str, ConflictForecast], Awaitable[object]],
    ) -> None:
        self._workspaces, self._state, self._tell = workspaces, state, tell
        self._one_look = anyio.Lock()

    async def look(self, wp_id: str = "") -> None:
        """Tell what is new of the branch of a work package; without one, of the conflicts that are known."""
        async with self._one_look:
            pairs = conflicts.pairs(self._state(), wp_id)
            if not pairs:
                return
            try:
                found = await self._workspaces.conflicts(pairs)
            except WorkspaceError as error:
                get_logger().info("conflicts_not_known", reason=str(error))
                return
            for told in conflicts.news(self._state(), found):
                await self._tell("", told)
