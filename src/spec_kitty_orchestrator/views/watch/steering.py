"""The orders that `watch` gives: which key means what of the chosen one, and what is asked before."""

from dataclasses import dataclass
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.widgets import Input

from spec_kitty_orchestrator.core.orders import Continue, Drain, Order, Pause, Retry, Skip, Stop, Tell
from spec_kitty_orchestrator.core.pauses import of_run
from spec_kitty_orchestrator.core.report import Report
from spec_kitty_orchestrator.views.watch.source import Source

KEYS = ("p", "P", "s", "r", "x", "D")
"""Pause and go on: this one, all; stop, retry, skip; drain."""

TELL = "m"
"""Asks for a text first."""


@dataclass(frozen=True)
class Asked:
    """An order to be given at once, or once a person has said yes to the `question`."""

    order: Order
    question: str = ""


def asked(key: str, report: Report, wp: str) -> Asked:
    """Return what a key orders for the chosen work package."""
    pauses = report.state.pauses
    match key:
        case "p":
            return Asked(Continue("", wp) if any(one.wp == wp for one in pauses) else Pause("", wp))
        case "P":
            return Asked(Continue() if of_run(pauses) is not None else Pause())
        case "s":
            return Asked(Stop(wp), f"stop the attempt of {wp}, and keep its work?")
        case "r":
            return Asked(Retry(wp))
        case "x":
            return Asked(Skip(wp), f"stop {wp} and leave it out?")
        case _:
            return Asked(Drain(), "end the run once its attempts have ended?")


def note_field() -> Input:
    """Make the field in which a person writes what a work package is told."""
    return Input(id="note", compact=True)


class SteeredApp(App[None]):
    """An app with keys that give orders to the run that it shows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"order('{key}')") for key in KEYS),
        Binding(TELL, "tell"),
        Binding("y", "confirm"),
    ]

    _source: Source
    _chosen = ""
    _asked: Order | None = None
    _says = ""
    _spoken_to = ""

    def look(self) -> None:
        """Show what is new."""
        raise NotImplementedError

    def _draw(self, *, pane: bool = True) -> None:
        raise NotImplementedError

    def ask_no_more(self) -> None:
        """Forget what was asked, and what a run said."""
        self._asked, self._says = None, ""
        self.query_one("#note", Input).display = False

    def action_order(self, key: str) -> None:
        """Give an order, or ask before one that ends what is at work."""
        if not self._chosen:
            return
        found = asked(key, self._source.report, self._chosen)
        self._asked, self._says = found.order, f"{found.question}  y yes  Esc no"
        if not found.question:
            self.action_confirm()
        self._draw(pane=False)

    def action_confirm(self) -> None:
        """Give the order that was asked for."""
        if self._asked is not None:
            self._give(self._asked)
            self._draw(pane=False)

    def action_tell(self) -> None:
        """Ask what the chosen work package is to be told."""
        if self._chosen:
            field = self.query_one("#note", Input)
            self._spoken_to = self._chosen
            field.value, field.placeholder = "", f"tell {self._chosen}"
            field.display = True
            field.focus()

    def tell(self, field: Input) -> None:
        """Tell the text of the field, if that is the one for it and holds any."""
        if field.id == "note" and field.value.strip():
            self._give(Tell(self._spoken_to, field.value.strip()))

    def _give(self, order: Order) -> None:
        self._asked, self._says = None, f"{order.kind} …"
        self.run_worker(self._given(order), group="orders")

    async def _given(self, order: Order) -> None:
        self._says = await self._source.give(order)
        self.look()
        self._draw()
