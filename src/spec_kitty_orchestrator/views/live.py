"""The live table of a run on a terminal.

Drawing costs CPU time that agents need: events only mark the table as stale, and a timer draws it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic, thread_time

import anyio
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from spec_kitty_orchestrator.core.describe import clean, describe, duration, spent
from spec_kitty_orchestrator.core.forecast import Forecast
from spec_kitty_orchestrator.core.levels import Level, level_of
from spec_kitty_orchestrator.core.model import MissionState, total
from spec_kitty_orchestrator.core.recorder import Recorder
from spec_kitty_orchestrator.core.records import dataclass, replace
from spec_kitty_orchestrator.core.report import Report, WpReport
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import Entry, Line
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.views.screen import shortened
from spec_kitty_orchestrator.views.status import MissionStatus
from spec_kitty_orchestrator.views.status_rows import STYLES, told

__all__ = ["Cell", "LiveTable", "LiveView"]

SHORTEST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 3.0
"""How often elapsed times are updated when nothing happens: drawing takes milliseconds, over many hours."""
MOST_PART = 0.0025
"""Of a core that this may take; a large table is drawn less often."""

SHORTEST_TITLE = 12
_FIXED_COLUMNS = 14
"""Of the glyph, the id, and what lies between."""


Cell = tuple[str, str]
"""A text without line breaks, and its style."""

_GAP = "  "


@dataclass(frozen=True)
class LiveTable:
    """Rows of glyph, id, title, what is done and cost, in lines as wide as the terminal.

    It is laid out here, since a table of `rich` measures each cell anew and takes ten times as long.
    """

    title: Text
    rows: Sequence[tuple[Cell, Cell, Cell, Cell, Cell]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay it out; what is done takes the room that the others leave."""
        yield self.title
        widths = [
            max(map(cell_len, column))
            for column in zip(*([text for text, _ in row] for row in self.rows), strict=True)
        ]
        if not widths:
            return
        widths[3] = max(options.max_width - sum(widths) + widths[3] - 4 * len(_GAP), 1)
        for row in self.rows:
            for place, ((text, style), width) in enumerate(zip(row, widths, strict=True)):
                long = cell_len(text) > width
                fitted = set_cell_size(text, width - 1) + "…" if long else set_cell_size(text, width)
                if place == 4 and not long:
                    fitted = " " * (width - cell_len(text)) + text
                yield Segment(fitted, console.get_style(style) if style else None)
                yield Segment(_GAP if place < 4 else "\n")


class LiveView:
    """An observer that keeps one table of all work packages up to date, the most important first.

    Args:
        console: shows it.
        clock: counts seconds.
        now: the time of day.
    """

    def __init__(
        self,
        console: Console,
        clock: Callable[[], float] = monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._console = console
        self._clock, self._now = clock, now
        self._mission = ""
        self._titles: dict[str, str] = {}
        self._started = clock()
        self._recorder = Recorder()
        self._report: Report | None = None
        self._expected: tuple[Forecast, float] | None = None
        self._stale = anyio.Event()
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def began(self, state: MissionState) -> None:
        """Take the work packages as the run finds them."""
        self._mission, self._titles = state.slug, dict(state.titles)
        wps = {
            wp: WorkPackage(id=wp, dependencies=state.dependencies.get(wp, ()), lane=lane)
            for wp, lane in state.lanes.items()
        }
        self._recorder.state = replace(self._recorder.state, wps=wps)

    def saw(self, state: RunState, line: Line) -> None:
        """Remember what happened; the timer draws it. What concerns the whole run is a line above."""
        self._recorder.take(line, state)
        self._report = None
        self._stale.set()
        if isinstance(line, Entry) and not line.wp_id and level_of(line.event) is not Level.DETAIL:
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
                self._stale, began_s = anyio.Event(), thread_time()
                # A terminal that was paused would show every queued table, one after the other.
                if not getattr(self._console.file, "behind", False):
                    self._live.update(self.table(), refresh=True)
                pause_s = max(LONGEST_PAUSE_S, (thread_time() - began_s) / MOST_PART)
                await anyio.sleep(SHORTEST_PAUSE_S)
                with anyio.move_on_after(pause_s - SHORTEST_PAUSE_S):
                    await self._stale.wait()

    def table(self) -> LiveTable:
        """Build the table as it stands."""
        now = self._now()
        if self._report is None:
            self._report = self._recorder.report(now, active=True)
        # While nothing happens, only the clocks go on.
        found = MissionStatus(replace(self._report, now=now))
        wps = found.report.wps
        most = max(self._console.height - 4, 4)
        # The last line summarizes the rows that do not fit.
        shown = wps if len(wps) <= most else wps[: most - 1]
        does = [clean(told(found, one, costs=False)) for one in shown]
        costs = [spent(one.usage) for one in shown]
        titles = [clean(one.title or self._titles.get(one.id, "")) for one in shown]
        # A title gives way to what a work package does or waits for, but not to the whole story of a failure.
        half = self._console.width // 2
        needy = [one.situation.status is Status.NEEDS_YOU for one in shown]
        needed = [
            min(len(words), half) if tells else len(words) for words, tells in zip(does, needy, strict=True)
        ]
        taken = max(needed, default=0) + max(map(len, costs), default=0) + _FIXED_COLUMNS
        room = max(min(max(map(len, titles), default=0), self._console.width - taken), SHORTEST_TITLE)
        rows: list[tuple[Cell, Cell, Cell, Cell, Cell]] = []
        for one, title, words, cost in zip(shown, titles, does, costs, strict=True):
            status = one.situation.status
            style = STYLES[status]
            shade = style if status is Status.NEEDS_YOU else ""
            named = ((status.glyph, style), (one.id, "bold"), (shortened(title, room), ""))
            rows.append((*named, (words, shade), (cost, "")))
        if rest := wps[len(shown) :]:
            counts = Counter(one.situation.status for one in rest)
            words = ", ".join(f"{counts[one]} {one}" for one in Status if counts[one])
            rows.append((("", ""), (f"+{len(rest)}", "bold"), ("", ""), (words, ""), ("", "")))
        return LiveTable(self._title(wps), rows)

    def _title(self, wps: tuple[WpReport, ...]) -> Text:
        complete = sum(one.situation.wp.lane.complete for one in wps)
        passed = duration(self._clock() - self._started)
        left = ""
        if self._expected is not None:
            found, since = self._expected
            left = found.left(self._clock() - since)
        used = spent(total(one.usage for one in wps))
        words = f"{self._mission}: {complete} of {len(wps)} approved or done, {passed}"
        return Text(", ".join(filter(None, (words, used, left))), style="table.title")
