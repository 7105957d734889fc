"""Holds new work back while the machine is short of something, and says so once."""

import anyio

from spec_kitty_orchestrator.ports import Headroom, Observer

HEADROOM_POLL_S = 5.0
"""Between two questions during a shortage."""

HEADROOM_PATIENCE_S = 600.0
"""How long a shortage is waited for when nothing of ours is at work that could end it."""


class Room:
    """Whether the machine has room for more work; None as `headroom` always has.

    Attributes:
        shortage: what is short at present, "" if nothing is.
    """

    def __init__(self, headroom: Headroom | None, observer: Observer) -> None:
        self._headroom, self._observer = headroom, observer
        self.shortage = ""
        self._asked_at = 0.0
        self._alone_since: float | None = None

    async def is_short(self, *, at_work: bool) -> bool:
        """Ask, if the last answer is old enough; `at_work` tells whether anything of ours runs."""
        if self._headroom is None:
            return False
        if not self.shortage or anyio.current_time() >= self._asked_at + HEADROOM_POLL_S:
            before, self.shortage = self.shortage, await self._headroom.shortage()
            self._asked_at = anyio.current_time()
            if self.shortage and not before:
                self._observer.said(f"nothing new is started: {self.shortage}")
            if before and not self.shortage:
                self._observer.said("there is room again: work goes on")
        if at_work or not self.shortage:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = anyio.current_time()
        return bool(self.shortage)

    @property
    def is_given_up(self) -> bool:
        """Whether the shortage lasted too long while nothing was at work."""
        since = self._alone_since
        return since is not None and anyio.current_time() >= since + HEADROOM_PATIENCE_S
