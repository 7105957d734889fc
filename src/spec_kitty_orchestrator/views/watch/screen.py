"""The screen of `watch`: keys, what is chosen, and when what is drawn anew.

News are looked for each second, which costs a few reads of file sizes; clocks and logs go on every third one.
"""

import asyncio
from functools import cached_property
from typing import ClassVar

from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.events import Click, MouseScrollDown, MouseScrollUp, Resize
from textual.widgets import Input

from spec_kitty_orchestrator.core.advice import next_commands
from spec_kitty_orchestrator.core.model import Usage
from spec_kitty_orchestrator.core.report import Report, WpReport
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.views.watch import details, overview, steering
from spec_kitty_orchestrator.views.watch.arrangement import STYLE, Arrangement, Mode, arranged
from spec_kitty_orchestrator.views.watch.keyboard import KeyboardDriver
from spec_kitty_orchestrator.views.watch.line_view import WHEEL_ROWS, LineView
from spec_kitty_orchestrator.views.watch.pane import Pane
from spec_kitty_orchestrator.views.watch.source import Source, StepLog
from spec_kitty_orchestrator.views.watch.spans import PANEL, Line

__all__ = ["CLOCK_LOOKS", "WatchApp"]

LOOK_S = 1.0
CLOCK_LOOKS = 4
"""Looks after which clocks, and what agents do, are drawn anew; what is new in the journal is at once."""
TIMELINE_LOOKS = 10
"""Looks after which the timeline is drawn anew, where nothing happened."""
SETTLED_S = 0.04
"""How long a work package is chosen before its log is read: a key that is held down passes over many."""


class WatchApp(App[None]):
    """An interactive view of one mission's run."""

    ENABLE_COMMAND_PALETTE: ClassVar[bool] = False
    AUTO_FOCUS: ClassVar[str | None] = None
    CSS = STYLE
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)"),
        Binding("down,j", "move(1)"),
        Binding("pageup", "page(-1)"),
        Binding("pagedown", "page(1)"),
        Binding("home", "edge(-1)"),
        Binding("end", "edge(1)"),
        Binding("space", "scroll(1)"),
        Binding("b", "scroll(-1)"),
        Binding("enter", "open"),
        Binding("escape", "leave_mode"),
        *(Binding(tab[0], f"tab('{tab}')") for tab in details.TABS),
        Binding("t", "mode('timeline')"),
        Binding("g", "mode('graph')"),
        Binding("question_mark", "mode('help')"),
        Binding("z", "done"),
        Binding("slash", "filter"),
        Binding("f", "follow"),
        *(Binding(key, f"order('{key}')") for key in steering.OF_RUN + steering.OF_WORK_PACKAGE),
        Binding("q", "quit"),
        Binding("ctrl+c", "quit", priority=True),
    ]

    def __init__(self, source: Source) -> None:
        super().__init__(driver_class=KeyboardDriver)
        self.title = f"watch {source.report.mission}"
        self._source = source
        self._mode, self._tab = Mode.LIST, details.TABS[0]
        self._chosen = ""
        self._follows = True
        self._wanted = overview.Wanted()
        self._rows: list[overview.Row] = []
        self._roster = overview.Roster()
        self._hidden_done = False
        self._pane = Pane(source)
        self._looks = self._list_rows = 0
        self._used: tuple[Report | None, Usage] = (None, Usage())

    def compose(self) -> ComposeResult:
        """Make the parts of the screen."""
        yield LineView("header", PANEL)
        with Container(id="body"):
            yield LineView("list")
            with Vertical(id="details"):
                yield LineView("head")
                yield LineView("pane")
        yield LineView("news")
        yield LineView("keys", PANEL)
        yield steering.OrderLine(self._source, self.look)
        yield Input(id="filter", placeholder="filter: id, title, state, agent", compact=True)

    def on_mount(self) -> None:
        """Show what is known, and look for news from now on."""
        self.query_one("#filter", Input).cursor_blink = False
        self._choose_first()
        self._arrange()
        self.look()
        self.set_interval(LOOK_S, self.look)

    def on_resize(self, _: Resize) -> None:
        """Divide the screen anew, once its size is known."""
        self.call_later(self._arrange)

    def look(self) -> None:
        """Show what is new; what is not seen costs nothing."""
        self._orders.fade()
        changed, tick = self._source.look(), self._looks % CLOCK_LOOKS == 0
        self._looks += 1
        if not (changed or tick):
            return
        logs = {wp.id: log for wp in self._report.wps if (log := self._open_log(wp)) is not None}
        grown = [wp for wp, log in logs.items() if log.more()]
        if changed and self._follows:
            self._choose_first()
        self._draw(pane=changed or self._chosen in grown)

    @property
    def _report(self) -> Report:
        return self._source.report

    @property
    def _wp(self) -> WpReport | None:
        return next((one for one in self._report.wps if one.id == self._chosen), None)

    @property
    def _plan(self) -> Arrangement:
        return arranged(self.size.width, self.size.height, self._mode)

    @cached_property
    def _orders(self) -> steering.OrderLine:
        return self.query_one(steering.OrderLine)

    def _open_log(self, wp: WpReport) -> StepLog | None:
        record = overview.open_attempt(wp)
        return self._source.log(record.attempt) if record is not None else None

    def _view(self, name: str) -> LineView:
        return self.query_one(f"#{name}", LineView)

    # What is drawn

    def _arrange(self) -> None:
        if not self.query("#keys"):
            return  # a first size can come before there is anything
        size = self._plan
        self.query_one("#body").set_classes(
            "beside" if size.beside else "alone" if not size.list_cells else ""
        )
        self._view("header").styles.height = size.header
        self._view("list").display = bool(size.list_cells)
        self._view("list").styles.width = size.list_cells or 1
        self.query_one("#details").display = bool(size.details)
        self._view("head").styles.height = size.head
        self._view("head").display = bool(size.head)
        self._view("news").display = bool(size.news)
        self._view("news").styles.height = size.news + 1
        self._draw()

    def _draw(self, *, pane: bool = True) -> None:
        """Draw what changed; without `pane`, what depends on the time alone."""
        size, report = self._plan, self._report
        cells = self.size.width
        if cells < 4:
            return
        self._view("header").show(self._header(cells - 1, size.header))
        if size.list_cells:
            self._draw_list(size)
        wp = self._wp
        if size.head and wp is not None:
            self._view("head").show(details.head(wp, self._tab, size.detail_cells, size.head))
        if size.details and (pane or (self._mode is Mode.TIMELINE and self._looks % TIMELINE_LOOKS == 1)):
            self._draw_pane(size, wp)
        if size.news:
            self._view("news").show([(("─" * cells, "edge"),), *overview.news(report, cells - 1, size.news)])
        hints = "|".join(steering.hints(report, wp))
        self._view("keys").show([overview.keys(self._mode, self._wanted, hints, cells)])

    def _header(self, cells: int, rows: int) -> list[Line]:
        report = self._report
        if self._used[0] is not report:
            self._used = (report, report.state.told)
        return overview.header(report, self._source.now(), self._used[1], self._source.trouble, cells, rows)

    def _draw_list(self, size: Arrangement) -> None:
        says = {
            wp.id: f"{log.steps[-1].kind} {log.steps[-1].text}"
            for wp in self._report.wps
            if (log := self._open_log(wp)) is not None and log.steps
        }
        view, cells = self._view("list"), size.list_cells - 1
        self._rows = self._roster.rows(
            self._report, self._source.now(), says, self._wanted, cells, size.listed
        )
        if not self._rows:
            text = f"nothing matches {self._wanted.text!r}" if self._wanted.text else "no work packages yet"
            self._rows = [overview.Row(((f" {text}", "muted"),))]
        chosen = [place for place, row in enumerate(self._rows) if row.wp == self._chosen and row.wp]
        rows = len(self._rows) if size.details and not size.beside else size.listed
        if (height := min(max(rows, 3), size.listed)) != self._list_rows:
            self._list_rows = view.styles.height = height
        see = None
        if chosen:
            # A heading is seen with the first one below it.
            heading = chosen[0] - 1 if chosen[0] and not self._rows[chosen[0] - 1].wp else chosen[0]
            see = (heading, chosen[-1])
        view.show([row.line for row in self._rows], frozenset(chosen), see)

    def _draw_pane(self, size: Arrangement, wp: WpReport | None) -> None:
        view = self._view("pane")
        log = self._tab == "log" and self._mode in (Mode.LIST, Mode.FULL)
        follows = (
            log and view.top >= view.last_top and wp is not None and overview.open_attempt(wp) is not None
        )
        lines = self._pane.lines(wp, self._mode, self._tab, size.detail_cells - 2)
        view.show(lines, end=follows)

    # What is chosen

    def _choose_first(self) -> None:
        shown = [one.id for one in self._report.wps if self._wanted.has(one)]
        self._choose(shown[0] if shown else self._chosen)

    def _choose(self, wp: str) -> None:
        if wp != self._chosen:
            self._chosen = wp
            self._changed_pane()
        else:
            self._load()

    def _changed_pane(self) -> None:
        self._view("pane").scroll_rows(0)
        self._load(settle=True)

    @work(group="pane", exclusive=True)
    async def _load(self, *, settle: bool = False) -> None:
        """Read what the pane needs, beside the keys."""
        if settle:
            await asyncio.sleep(SETTLED_S)
        wp = self._wp
        if wp is None:
            return
        await self._pane.load(wp, self._tab)
        self._draw()
        log = self._tab == "log" and self._mode in (Mode.LIST, Mode.FULL)
        if settle and log and wp.id not in next_commands(self._report):
            self._view("pane").scroll_rows(len(self._view("pane").lines))

    @work(group="pane", exclusive=True)
    async def _load_earlier(self) -> None:
        """Read what is before the log that is shown, and keep what is seen where it is."""
        wp, view = self._wp, self._view("pane")
        if wp is None or self._tab != "log" or self._mode not in (Mode.LIST, Mode.FULL):
            return
        await self._pane.load_earlier(wp)
        before, seen = len(view.lines), view.top
        self._draw()
        if (added := len(view.lines) - before) > 0:
            view.scroll_rows(seen + added)

    # Keys

    def action_move(self, by: int) -> None:
        """Pick another work package, or scroll by a row."""
        if self._mode is not Mode.LIST:
            self._scroll(by)
            return
        ids = list(dict.fromkeys(row.wp for row in self._rows if row.wp))
        if ids:
            self._follows = False
            place = ids.index(self._chosen) if self._chosen in ids else 0
            self._choose(ids[min(max(place + by, 0), len(ids) - 1)])
            self._draw(pane=False)

    def action_page(self, by: int) -> None:
        """Do so by a page."""
        self.action_move(by * max(self._plan.listed - 3, 1) if self._mode is Mode.LIST else by * self._page)

    def action_edge(self, by: int) -> None:
        """Go to the first or last one, or row."""
        self.action_move(by * (len(self._rows) if self._mode is Mode.LIST else 10**9))

    def action_scroll(self, by: int) -> None:
        """Scroll the details by a page."""
        self._scroll(by * self._page)

    @property
    def _page(self) -> int:
        return max(self._view("pane").size.height - 1, 1)

    def _scroll(self, by: int) -> None:
        view = self._view("pane")
        wanted = view.top + by
        view.scroll_rows(wanted)
        if by < 0 and wanted <= 1:
            self._load_earlier()

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """Scroll what is below the mouse."""
        self._wheel(event.widget, -WHEEL_ROWS)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """Scroll what is below the mouse."""
        self._wheel(event.widget, WHEEL_ROWS)

    def _wheel(self, widget: object, by: int) -> None:
        if widget is self._view("list"):
            self._view("list").scroll_rows(self._view("list").top + by)
        else:
            self._scroll(by)

    def on_click(self, event: Click) -> None:
        """Pick the work package that was clicked."""
        view = self._view("list")
        row = event.y + view.top
        if event.widget is view and row < len(self._rows) and self._rows[row].wp:
            self._follows = False
            self._choose(self._rows[row].wp)
            self._draw(pane=False)

    def action_open(self) -> None:
        """Show the chosen work package on the whole screen."""
        self._go(Mode.FULL)

    def action_leave_mode(self) -> None:
        """Go back to the list; there, clear the filter."""
        if self._mode is Mode.LIST and self._wanted.text:
            self.query_one("#filter", Input).value = ""
        self._go(Mode.LIST)

    def action_mode(self, mode: str) -> None:
        """Show something else on the whole screen, or the list again."""
        self._go(Mode.LIST if self._mode == mode else Mode(mode))

    def action_tab(self, tab: str) -> None:
        """Show the log, events, verdicts or changes; where there is no room for them, on the whole screen."""
        self._tab = tab
        if self._mode not in (Mode.LIST, Mode.FULL) or not self._plan.details:
            self._mode = Mode.FULL
        self._go(self._mode)

    def _go(self, mode: Mode) -> None:
        self._mode = mode
        self._arrange()
        self._changed_pane()

    def action_done(self) -> None:
        """Show or hide what is done."""
        seen = any(row.wp and row.wp in self._done_ids for row in self._rows)
        self._wanted = overview.Wanted(self._wanted.text, not seen)
        self._draw()

    @property
    def _done_ids(self) -> set[str]:
        return {one.id for one in self._report.of(Status.DONE)}

    def action_follow(self) -> None:
        """Choose what is most important, from now on."""
        self._follows = True
        self._choose_first()
        self._draw()

    def action_order(self, key: str) -> None:
        """Give an order; one for a work package only where that is seen."""
        seen = self._wp is not None and self._mode in (Mode.LIST, Mode.FULL)
        self._follows &= key in steering.OF_RUN
        self._orders.begin(key, self._chosen if seen else "")

    def check_action(self, action: str, _: tuple[object, ...]) -> bool:
        """Let no key do anything that came before the question of an order had the keys."""
        return action == "quit" or not any(one.asks for one in self.query(steering.OrderLine))

    async def action_quit(self) -> None:
        """Leave."""
        if not self._orders.keeps():
            self.exit()

    def action_filter(self) -> None:
        """Ask for the filter."""
        if self._mode is not Mode.LIST:
            self._go(Mode.LIST)
        field = self.query_one("#filter", Input)
        field.display = True
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what matches."""
        self._wanted = overview.Wanted(event.value, self._wanted.done)
        shown = [one.id for one in self._report.wps if self._wanted.has(one)]
        if self._chosen not in shown:
            self._choose_first()
        self._draw()

    def on_input_submitted(self, _: Input.Submitted) -> None:
        """Keep the filter."""
        self.query_one("#filter", Input).display = False
        self.set_focus(None)
