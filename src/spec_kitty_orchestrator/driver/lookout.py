"""Looks out for changes by others: the mission is read again, slowly, while only others can free work.

That is while something of ours is at work and a slot is free, and a work package waits for one that this run
does not work on. At all other times nobody polls: whatever matters comes from our own calls.
"""

import anyio

from spec_kitty_orchestrator.driver.mission import MissionView
from spec_kitty_orchestrator.driver.progress import Progress
from spec_kitty_orchestrator.errors import HostError
from spec_kitty_orchestrator.ports import Observer


class Lookout:
    """Reads the mission again every `interval_s` seconds while that can be of use."""

    def __init__(self, view: MissionView, progress: Progress, observer: Observer, interval_s: float) -> None:
        self._view, self._progress, self._observer = view, progress, observer
        self._interval_s = interval_s

    async def keep_looking(self) -> None:
        """Look out until the run closes."""
        progress, due = self._progress, None
        while not progress.closing:
            if not self._of_use():
                due = None
                await progress.to_lookout.wait()
                continue
            due = due or anyio.current_time() + self._interval_s
            with anyio.move_on_after(due - anyio.current_time()):
                await progress.to_lookout.wait()
                continue
            due = None
            await self.look()

    def _of_use(self) -> bool:
        board = self._progress.board
        return bool(board.active) and board.waits_for_others(self._progress.limit)

    async def look(self) -> None:
        """Read the mission again and take over what others did; a host that cannot answer is only told."""
        try:
            await self._view.refresh()
        except HostError as error:
            # Whoever needs the host meets this too; a look is no reason to stop agents that are paid for.
            self._observer.said(f"the mission could not be read again: {error}")
            return
        self._progress.adopt()
