"""The live table of a run on a terminal.

Drawing costs CPU time that agents need: events only mark the table as stale, and a timer draws it.
"""

from collections.abc import Callable
from contextlib import suppress
from time import monotonic

import anyio
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from spec_kitty_orchestrator.core.describe import clean, describe, duration
from spec_kitty_orchestrator.core.forecast import Forecast
from spec_kitty_orchestrator.core.model import MissionState, Phase
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import Entry, Line, Waiting
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.views.table import columns, counted, row

SHORTEST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 3.0
"""How often elapsed times are updated when nothing happens: drawing takes milliseconds, over many hours."""

RESTING = (Phase.WAITING, Phase.FINISHED)


class LiveView:
    """An observer that keeps one table of all work packages up to date."""

    def __init__(self, console: Console, clock: Callable[[], float] = monotonic) -> None:
        self._console = console
        self._clock = clock
        self._mission = ""
        self._started = clock()
        self._rows: dict[str, WorkPackage] = {}
        self._since: dict[str, float] = {}
        self._expected: tuple[Forecast, float] | None = None
        self._stale = anyio.Event()
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def began(self, state: MissionState) -> None:
        """Take the work packages as the run finds them."""
        self._mission = state.slug
        self._rows = {
            wp: WorkPackage(id=wp, dependencies=state.dependencies.get(wp, ()), lane=lane)
            for wp, lane in state.lanes.items()
        }

    def saw(self, state: RunState, line: Line) -> None:
        """Remember the work packages; the timer draws them. What concerns the whole run is a line above."""
        if not isinstance(line, Entry):
            return
        wp, before = state.wps.get(line.wp_id), self._rows.get(line.wp_id)
        if wp and not (before and (before.phase, before.open_attempt) == (wp.phase, wp.open_attempt)):
            self._since[wp.id] = self._clock()
        self._rows = dict(state.wps)
        self._stale.set()
        if not line.wp_id and not isinstance(line.event, Waiting):
            self.said(describe(line.event))

    def expects(self, found: Forecast) -> None:
        """Show from now on how much of the run is left."""
        self._expected = (found, self._clock())
        self._stale.set()

    def said(self, message: str) -> None:
        """Print one line above the table."""
        with suppress(OSError):
            self._console.print(Text(clean(message)))

    async def keep_showing(self) -> None:
        """Draw the table until canceled, then remove it: the summary follows."""
        # A terminal that is gone ends the view, not the run.
        with suppress(OSError), self._live:
            while True:
                self._stale = anyio.Event()
                # A terminal that was paused would show every queued table, one after the other.
                if not getattr(self._console.file, "behind", False):
                    self._live.update(self.table(), refresh=True)
                await anyio.sleep(SHORTEST_PAUSE_S)
                with anyio.move_on_after(LONGEST_PAUSE_S - SHORTEST_PAUSE_S):
                    await self._stale.wait()

    def table(self) -> Table:
        """Build the table as it stands."""
        complete = sum(wp.lane.complete for wp in self._rows.values())
        spent = duration(self._clock() - self._started)
        left = ""
        if self._expected is not None:
            found, since = self._expected
            left = found.left(self._clock() - since)
        told = f"{self._mission}: {complete} of {len(self._rows)} approved or done, {spent}"
        title = Text(f"{told}, {left}" if left else told)
        last = {"ratio": 1, "no_wrap": True, "overflow": "ellipsis"}
        table = columns("for", last, title=title, title_justify="left", expand=True)
        rows = sorted(self._rows.values(), key=_importance)
        most = max(self._console.height - 4, 4)
        # The last line summarizes the rows that do not fit.
        shown = rows if len(rows) <= most else rows[: most - 1]
        for wp in shown:
            at_work = wp.id in self._since and wp.phase not in RESTING
            time = duration(self._clock() - self._since[wp.id]) if at_work else ""
            table.add_row(*row(wp, time, wp.turn.waits or wp.note))
        if rest := rows[len(shown) :]:
            lanes = counted(wp.lane for wp in rest)
            table.add_row(Text(f"+{len(rest)}", style="bold"), *[""] * 5, lanes)
        return table


def _importance(wp: WorkPackage) -> tuple[int, str]:
    """Order rows: agents at work, others in progress, failed ones, waiting ones, complete ones."""
    groups = (
        wp.open_attempt is not None,
        wp.phase not in RESTING,
        wp.phase is Phase.FINISHED and not wp.lane.complete,
        not wp.lane.complete,
        True,
    )
    return groups.index(True), wp.id
