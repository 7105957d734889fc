"""A run as plain lines, for logs and pipes: one per event, and a heartbeat each minute."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import anyio
from rich.console import Console

from spec_kitty_orchestrator.core.describe import clean, count, counted, describe, duration
from spec_kitty_orchestrator.core.forecast import Forecast
from spec_kitty_orchestrator.core.levels import Level, level_of
from spec_kitty_orchestrator.core.model import MissionState, Phase
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import Entry, Line
from spec_kitty_orchestrator.core.work_package import WorkPackage

__all__ = ["PlainView"]

HEARTBEAT_S = 60.0

_STYLES = {Level.NEEDS_YOU: "red", Level.DETAIL: "dim"}


class PlainView:
    """An observer that prints lines with the time in UTC and the work package.

    Args:
        console: prints.
        now: the time.
        verbose: whether steps that always happen are told, too.
    """

    def __init__(
        self,
        console: Console,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        verbose: bool = False,
    ) -> None:
        self._console = console
        self._now = now
        self._verbose = verbose
        self._begun: dict[str, tuple[bool, str, datetime]] = {}
        self._expected: tuple[Forecast, datetime] | None = None

    def began(self, state: MissionState) -> None:
        """Print the number of work packages in each lane."""
        size = count(len(state.lanes), "work package")
        self._print("run", f"{state.slug}: {size}: {counted(state.lanes.values())}")

    def saw(self, state: RunState, line: Line) -> None:
        """Print one line for the event, in red where a person must act."""
        if not isinstance(line, Entry):
            return
        wp = state.wps.get(line.wp_id)
        if wp is not None:
            self._remember(wp)
        level = level_of(line.event)
        if self._verbose or level is not Level.DETAIL:
            self._print(line.wp_id or "run", describe(line.event, wp, line.took_s), _STYLES.get(level))

    def expects(self, found: Forecast) -> None:
        """Say with each heartbeat from now on how much of the run is left."""
        self._expected = (found, self._now())

    def said(self, message: str) -> None:
        """Print one line that concerns the whole run."""
        self._print("run", clean(message))

    async def keep_showing(self) -> None:
        """Print a heartbeat each minute until canceled."""
        while True:
            await anyio.sleep(HEARTBEAT_S)
            self.beat()

    def beat(self) -> None:
        """Print who is at work, what is begun and waits, for how long, and how much of the run is left."""
        now = self._now()
        parts: dict[bool, list[str]] = {True: [], False: []}
        for wp, (at_work, what, since) in sorted(self._begun.items()):
            took = duration((now - since).total_seconds())
            parts[at_work].append(f"{wp} {what} for {took}" if at_work else f"{wp} for {took} ({what})")
        told = "in work: " + ", ".join(parts[True]) if parts[True] else "nothing is in work"
        if parts[False]:
            told = f"{told}; waiting: {', '.join(parts[False])}"
        if self._expected is not None:
            found, since = self._expected
            told = "; ".join(filter(None, (told, found.left((now - since).total_seconds()))))
        self._print("run", told)

    def _remember(self, wp: WorkPackage) -> None:
        if wp.phase in (Phase.WAITING, Phase.FINISHED):
            self._begun.pop(wp.id, None)
            return
        attempt = wp.open_attempt
        doing = f"{wp.phase} by {attempt.agent}" if attempt else str(wp.phase)
        at_work = wp.at_work or (attempt is not None and not wp.turn.waits)
        now = (at_work, doing if at_work else wp.turn.waits or "its turn comes")
        if self._begun.get(wp.id, now)[:2] != now or wp.id not in self._begun:
            self._begun[wp.id] = (*now, self._now())

    def _print(self, who: str, line: str, style: str | None = None) -> None:
        stamp = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        # The run continues without a reader.
        with suppress(OSError):
            # `out` neither wraps lines nor interprets markup, and flushes each one.
            self._console.out(f"{stamp} {who:<5} {clean(line)}", style=style, highlight=False)
