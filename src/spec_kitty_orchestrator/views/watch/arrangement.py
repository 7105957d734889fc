"""What of `watch` a terminal of some size has room for."""

from dataclasses import dataclass
from enum import StrEnum

from spec_kitty_orchestrator.views.watch.spans import COLOURS, EDGE, GROUND, PANEL

__all__ = ["STYLE", "Arrangement", "Mode", "arranged"]

LIST_ONLY_ROWS = 16
"""Below, there is nothing but the list."""
WIDE_CELLS = 100
"""From here on the log is beside the list."""
NEWS_ROWS = 28
"""From here on what is new has a place of its own."""
BAR_ROWS = 30


class Mode(StrEnum):
    """What the screen shows."""

    LIST = "list"
    FULL = "full"
    TIMELINE = "timeline"
    GRAPH = "graph"
    HELP = "help"


@dataclass(frozen=True)
class Arrangement:
    """Rows and cells of each part; 0 for one that is not there. Edges take one more.

    Attributes:
        beside: whether the details are beside the list, not below it.
        listed: most rows of the list.
        head: rows above the details.
    """

    header: int
    beside: bool
    list_cells: int
    listed: int
    detail_cells: int
    details: int
    head: int
    news: int


def arranged(cells: int, rows: int, mode: Mode) -> Arrangement:
    """Divide a screen."""
    header = 2 if rows >= BAR_ROWS else 1
    body = max(rows - header - 1, 1)
    if mode is not Mode.LIST:
        head = 3 if mode is Mode.FULL else 0
        return Arrangement(header, False, 0, 0, cells, max(body - head, 1), head, 0)
    if rows < LIST_ONLY_ROWS:
        return Arrangement(header, False, cells, body, 0, 0, 0, 0)
    if cells < WIDE_CELLS:
        listed = max(body * 11 // 20, 5)
        return Arrangement(header, False, cells, listed, cells, body - listed - 2, 1, 0)
    news = max(3, min((rows - 15) // 4, 10)) if rows >= NEWS_ROWS else 0
    body -= news + 1 if news else 0
    list_cells = max(46, min(cells * 12 // 25, 72))
    return Arrangement(header, True, list_cells, body, cells - list_cells - 1, body - 3, 3, news)


STYLE = f"""
Screen {{ background: {GROUND}; color: {COLOURS["text"]}; overflow: hidden; }}
#keys {{ height: 1; dock: bottom; }}
#filter {{
    display: none; height: 1; dock: bottom; border: none; padding: 0 1;
    background: {PANEL}; color: {COLOURS["text"]};
}}
#order {{ display: none; height: 1; dock: bottom; background: {PANEL}; }}
#note {{
    display: none; width: 1fr; height: 1; border: none; padding: 0;
    background: {PANEL}; color: {COLOURS["text"]};
}}
#body {{ height: 1fr; layout: vertical; }}
#body.beside {{ layout: horizontal; }}
#details {{ width: 1fr; height: 1fr; border-top: solid {EDGE}; }}
#body.beside #details {{ border-top: none; border-left: solid {EDGE}; }}
#body.alone #details {{ border: none; }}
#pane {{ height: 1fr; }}
"""
