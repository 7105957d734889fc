"""Orders by keys: the line that asks for what an order says, or whether it is meant, and shows its answer.

Capital letters order, small ones only look. What stops work is asked for again, and the key that answers
never does anything else.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.events import Key, Resize
from textual.widgets import Input

from spec_kitty_orchestrator.core import orders
from spec_kitty_orchestrator.core.describe import LONGEST_REASON, clean
from spec_kitty_orchestrator.core.pauses import of_run
from spec_kitty_orchestrator.core.report import Report, WpReport
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.errors import OrchestratorError
from spec_kitty_orchestrator.views.watch.line_view import LineView
from spec_kitty_orchestrator.views.watch.source import Source
from spec_kitty_orchestrator.views.watch.spans import PANEL, wrapped

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["ANSWER_S", "OF_RUN", "OF_WORK_PACKAGE", "OrderLine", "hints"]

OF_RUN = "PD"
OF_WORK_PACKAGE = "HCSTNRX"
ANSWER_S = 8.0
"""How long an answer is shown."""
MOST_ROWS = 3
"""Of an answer that is longer than a row."""


@dataclass(frozen=True)
class Draft:
    """An order that is not given yet.

    Attributes:
        title: names it.
        made: the order, with a text that was asked for.
        label: asks for that text; "" if there is none.
        needed: whether there is no order without a text.
        sure: asks whether it is meant; "" for what stops nothing.
    """

    title: str
    made: Callable[[str], orders.Order]
    label: str = ""
    needed: bool = False
    sure: str = ""


def drafted(key: str, report: Report, wp: str) -> Draft:
    """Return what a key orders of the run, or of the chosen work package."""
    match key:
        case "P" if of_run(report.state.pauses) is not None:
            return Draft("continue the run", lambda _: orders.Continue())
        case "P":
            return Draft("pause the run", lambda _: orders.Pause())
        case "D":
            sure = "drain: begin nothing more, and end the run?"
            return Draft("drain the run", lambda _: orders.Drain(), sure=sure)
        case "H":
            return Draft(f"pause {wp}", lambda _: orders.Pause(wp=wp))
        case "C":
            return Draft(f"continue {wp}", lambda _: orders.Continue(wp=wp))
        case "S":
            return Draft(f"stop {wp}", lambda _: orders.Stop(wp), sure=f"stop {wp}?")
        case "X":
            return Draft(f"skip {wp}", lambda _: orders.Skip(wp), sure=f"skip {wp}?")
        case "R":
            return Draft(f"retry {wp}", lambda note: orders.Retry(wp, note), f"retry {wp}, note:")
        case "T":
            return Draft(f"tell {wp}", lambda text: orders.Tell(wp, text), f"tell {wp}:", needed=True)
    now = f"tell {wp} now"
    sure = f"stop {wp}, to tell it that at once?"
    return Draft(now, lambda text: orders.Tell(wp, text, now=True), f"{now}:", needed=True, sure=sure)


def hints(report: Report, wp: WpReport | None) -> Iterator[str]:
    """Yield the keys of the orders that suit the run and a work package, each with a word."""
    if of_run(report.state.pauses) is not None:
        yield "P end pause"
    elif report.active:
        yield "P pause"
    if wp is None:
        return
    if any(one.wp == wp.id for one in report.state.pauses):
        yield "C continue"
    elif wp.situation.status is Status.NEEDS_YOU and wp.situation.wp.taken is None:
        yield "R retry"
        yield "X skip"
    elif wp.situation.status is Status.RUNNING:
        yield "S stop"
        yield "T tell"


class OrderLine(Horizontal):
    """The line at the bottom that an order is given with; hidden while there is nothing to say."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "drop")]
    can_focus: bool = False

    def __init__(self, source: Source, answered: Callable[[], None]) -> None:
        super().__init__(id="order")
        self._source, self._answered = source, answered
        self._draft: Draft | None = None
        self._text = ""
        self._given = ""
        self._leaves = False
        self._said = ("", "")
        self._said_at: datetime | None = None

    def compose(self) -> ComposeResult:
        """Make its parts."""
        yield LineView("said", PANEL)
        yield Input(id="note", compact=True, max_length=orders.LONGEST_NOTE)

    def on_mount(self) -> None:
        """Ask for nothing yet."""
        self._note.cursor_blink = False

    def on_resize(self, _: Resize) -> None:
        """Break what it says anew."""
        self._show()

    @property
    def _note(self) -> Input:
        return self.query_one("#note", Input)

    @property
    def asks(self) -> bool:
        """Whether keys are its answer."""
        return self._draft is not None

    def begin(self, key: str, wp: str) -> None:
        """Ask for what belongs to the order of a key, or give it."""
        if self._given:
            self.say(f"not given: the answer to `{self._given}` is awaited", "needs")
            return
        if not wp and key in OF_WORK_PACKAGE:
            self.say("choose a work package in the list for that", "needs")
            return
        self._draft, self._text = drafted(key, self._source.report, wp), ""
        if self._draft.label:
            self._ask(self._draft.label, text=True)
        else:
            self._make_sure(self._draft)

    def _ask(self, question: str, *, text: bool) -> None:
        note = self._note
        note.value, note.display, self.can_focus = "", text, not text
        self.say(question, "held b")
        self._said_at = None
        # At once: the next key may be here already.
        self.screen.set_focus(note if text else self, scroll_visible=False)

    def _make_sure(self, draft: Draft) -> None:
        if draft.sure:
            self._ask(f"{draft.sure} y/n", text=False)
        else:
            self._give(draft)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Keep what is typed from others."""
        event.stop()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the text."""
        event.stop()
        self._text, draft = event.value.strip(), self._draft
        if draft is None:
            return
        if draft.needed and not self._text:
            self.action_drop()
            return
        self._note.display = False
        self._make_sure(draft)

    def on_key(self, event: Key) -> None:
        """Take the answer to whether an order is meant: any key but `y` is a no."""
        if self._draft is None or self._note.display:
            return
        event.stop()
        event.prevent_default()
        if event.key in ("y", "Y"):
            self._give(self._draft)
        else:
            self.action_drop()

    def on_descendant_blur(self) -> None:
        """Ask no longer once something else has the keys."""
        if self._draft is not None and self._note.display:
            self.action_drop()

    def action_drop(self) -> None:
        """Give no order."""
        draft = self._end()
        if draft is not None:
            self.say(f"not given: {draft.title}", "muted")

    def _end(self) -> Draft | None:
        draft, self._draft = self._draft, None
        self._note.display = self.can_focus = False
        self.screen.set_focus(None)
        return draft

    def _give(self, draft: Draft) -> None:
        """Give the order beside the keys."""
        self._end()
        self._given, self._leaves = draft.title, False
        self.say(f"{draft.title} …", "held")
        self._said_at = None
        self.run_worker(self._answer(draft.made(self._text)), group="order")

    async def _answer(self, order: orders.Order) -> None:
        try:
            text, style = await self._source.give(order), "done"
        except (OrchestratorError, OSError) as error:
            text, style = f"{self._given}: {error}", "needs"
        self._given = ""
        self.say(text, style)
        self._answered()

    def say(self, text: str, style: str) -> None:
        """Show a text for some seconds."""
        self._said, self._said_at = (clean(text, LONGEST_REASON), style), self._source.now()
        self._show()

    def _show(self) -> None:
        text, style = self._said
        cells = self.app.size.width
        self.display = bool(text)
        asks = self._note.display
        rows = (text,) if asks else wrapped(text, max(cells - 4, 8))
        if len(rows) > MOST_ROWS:
            rows = (*rows[: MOST_ROWS - 1], f"{rows[MOST_ROWS - 1]} …")
        self.query_one("#said", LineView).styles.width = (
            min(cell_len(text) + 2, cells // 2) if asks else cells
        )
        self.styles.height = len(rows)
        self.query_one("#said", LineView).show([((f" {row}", style),) for row in rows])

    def fade(self) -> None:
        """Take away what was shown long enough."""
        shown_at = self._said_at
        if shown_at is not None and not 0 <= (self._source.now() - shown_at).total_seconds() < ANSWER_S:
            self._said, self._said_at = ("", ""), None
            self._show()

    def keeps(self) -> bool:
        """Tell whether `watch` is to stay for an answer: the second time it need not."""
        stays = bool(self._given) and not self._leaves
        if stays:
            self._leaves = True
            self.say(f"the answer to `{self._given}` is awaited; q again leaves", "held b")
        return stays
