"""A run as plain lines, for logs and pipes: one per event, and a heartbeat each minute."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import anyio
from rich.console import Console

from spec_kitty_orchestrator.core.describe import Level, clean, count, counted, describe, duration, level_of
from spec_kitty_orchestrator.core.forecast import Forecast
from spec_kitty_orchestrator.core.model import MissionState, Phase
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import Entry, Line
from spec_kitty_orchestrator.core.work_package import WorkPackage

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
        self._at_work: dict[str, tuple[str, datetime]] = {}
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
        """Print which agents run, and for how long, and how much of the run is left."""
        now = self._now()
        running = [
            f"{wp} {what} for {duration((now - since).total_seconds())}"
            for wp, (what, since) in sorted(self._at_work.items())
        ]
        told = "in work: " + ", ".join(running) if running else "nothing is in work"
        if self._expected is not None:
            found, since = self._expected
            told = "; ".join(filter(None, (told, found.left((now - since).total_seconds()))))
        self._print("run", told)

    def _remember(self, wp: WorkPackage) -> None:
        if wp.phase in (Phase.WAITING, Phase.FINISHED):
            self._at_work.pop(wp.id, None)
            return
        attempt = wp.open_attempt
        what = wp.turn.waits or (f"{wp.phase} by {attempt.agent}" if attempt else str(wp.phase))
        if self._at_work.get(wp.id, ("",))[0] != what:
            self._at_work[wp.id] = (what, self._now())

    def _print(self, who: str, line: str, style: str | None = None) -> None:
        stamp = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        # The run continues without a reader.
        with suppress(OSError):
            # `out` neither wraps lines nor interprets markup, and flushes each one.
            self._console.out(f"{stamp} {who:<5} {clean(line)}", style=style, highlight=False)
