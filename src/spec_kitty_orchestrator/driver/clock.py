"""The time of a run: that of day, for records and rests, on the event loop's clock, which nobody can set."""

from datetime import datetime, timedelta

import anyio

from spec_kitty_orchestrator.ports import WallClock

__all__ = ["RunClock"]

CLOCK_JUMP_S = 30.0
"""From when on a difference between the machine's clock and ours is a jump, and no drift."""


MARGIN_S = 0.001
"""Beyond a wait, so that it is over when it ends: clocks are rounded."""


class RunClock:
    """The time of day of one run: it goes on with the event loop's clock, and never back.

    A jump of the machine's clock, because it was set or the machine slept, is taken over as one step.
    """

    def __init__(self, clock: WallClock) -> None:
        self._clock = clock
        self._began: tuple[datetime, float] | None = None

    def now(self) -> datetime:
        """Return the time in UTC."""
        if self._began is None:
            self._began = self._clock.now(), anyio.current_time()
        return self._began[0] + timedelta(seconds=anyio.current_time() - self._began[1])

    def seconds_until(self, moment: datetime) -> float:
        """Return how long to wait for a moment that is then over, in seconds; negative if it is."""
        return (moment - self.now()).total_seconds() + MARGIN_S

    def jump_s(self) -> float:
        """Follow a jump of the machine's clock; return how far it was, 0 for none."""
        ahead = self._clock.now() - self.now()
        if ahead.total_seconds() < CLOCK_JUMP_S or self._began is None:
            return 0.0
        self._began = self._began[0] + ahead, self._began[1]
        return ahead.total_seconds()
