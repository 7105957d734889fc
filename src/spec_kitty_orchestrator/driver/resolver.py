"""Learns who shares a worktree before anything is claimed; what cannot start yet waits for a lull."""

import anyio

from spec_kitty_orchestrator.core.model import Result
from spec_kitty_orchestrator.core.moves import finish
from spec_kitty_orchestrator.driver.progress import Progress
from spec_kitty_orchestrator.errors import HostRefusal
from spec_kitty_orchestrator.ports import Host, Observer


class Resolver:
    """Asks the host where each work package is worked on."""

    def __init__(self, host: Host, mission: str, progress: Progress, observer: Observer) -> None:
        self._host, self._mission = host, mission
        self._progress, self._observer = progress, observer

    async def keep_resolving(self) -> None:
        """Learn workspaces until the run closes. Raises `HostError` when the host is broken."""
        progress = self._progress
        while not progress.closing:
            found = progress.board.to_resolve(progress.limit, at_leisure=progress.lull)
            async with anyio.create_task_group() as tg:
                for one in found:
                    tg.start_soon(self._resolve, one)
            if not found:
                await progress.to_resolver.wait()

    async def _resolve(self, wp_id: str) -> None:
        board = self._progress.board
        try:
            board.resolve(wp_id, await self._host.resolve_workspace(self._mission, wp_id))
        except HostRefusal as refusal:
            self._progress.put(finish(board.wps[wp_id], Result.PARKED, refusal.message))
            self._observer.said(f"{wp_id} is left out: {refusal.message}")
        self._progress.tell()
