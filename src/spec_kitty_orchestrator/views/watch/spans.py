"""Lines of styled text, plain data: they are cut and wrapped by the cells that a terminal needs for them.

No text in them is ever read as markup. Colours have at least 4.5 times the contrast of the ground, and
nothing is told by a colour alone.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from rich.cells import cell_len, set_cell_size

from spec_kitty_orchestrator.core.report import SpanKind
from spec_kitty_orchestrator.core.situation import Status

__all__ = [
    "CHOSEN",
    "COLOURS",
    "EDGE",
    "GROUND",
    "OF_KIND",
    "OF_STATUS",
    "PANEL",
    "Line",
    "Span",
    "clipped",
    "cut",
    "joined",
    "labelled",
    "padded",
    "text_of",
    "width",
    "wrapped",
]

Span = tuple[str, str]
"""A text and the names of its style: a colour of `COLOURS`, `b` for bold."""

Line = tuple[Span, ...]
"""One row of a terminal."""

COLOURS = {
    "text": "#e6eaf0",
    "muted": "#9aa5b1",
    "faint": "#7d8894",
    "implement": "#5b9dff",
    "review": "#bb8cff",
    "gate": "#37bfcb",
    "done": "#4cc76e",
    "needs": "#ff8078",
    "held": "#e5b549",
    "edge": "#3a4450",
}
GROUND, PANEL, CHOSEN, EDGE = "#0e1217", "#161b22", "#22344f", COLOURS["edge"]

OF_STATUS = {
    Status.NEEDS_YOU: "needs",
    Status.CUT_OFF: "needs",
    Status.RUNNING: "implement",
    Status.WAITING: "muted",
    Status.HELD_UP: "held",
    Status.LEFT_OUT: "muted",
    Status.DONE: "done",
}

OF_KIND = {
    SpanKind.IMPLEMENT: "implement",
    SpanKind.REWORK: "implement",
    SpanKind.REVIEW: "review",
    SpanKind.GATE: "gate",
    SpanKind.SETUP: "gate",
    SpanKind.HOST: "faint",
    SpanKind.WAIT: "muted",
}


def width(line: Line) -> int:
    """Return how many cells a line takes."""
    return sum(cell_len(text) for text, _ in line)


def text_of(line: Line) -> str:
    """Return a line without its styles."""
    return "".join(text for text, _ in line)


def cut(text: str, cells: int) -> str:
    """Shorten a text that is too long for so many cells, with a mark of what was left out."""
    if cell_len(text) <= cells:
        return text
    return set_cell_size(text, cells - 1).rstrip() + "…" if cells > 0 else ""


def padded(text: str, cells: int) -> str:
    """Make a text exactly so many cells wide."""
    return set_cell_size(cut(text, cells), max(cells, 0))


def clipped(line: Iterable[Span], cells: int) -> Line:
    """Shorten a line that is too long, with a mark of what was left out."""
    kept: list[Span] = []
    left = cells
    for text, style in line:
        kept.append((cut(text, left), style))
        left -= cell_len(text)
        if left < 0:
            break
    return tuple(kept)


def joined(parts: Sequence[Span], cells: int, gap: str = "  ") -> Line:
    """Put parts beside each other, as many of the first ones as fit."""
    line: list[Span] = []
    for part in parts:
        more = [(gap, "muted"), part] if line else [part]
        if width((*line, *more)) > cells:
            return tuple(line) or clipped([part], cells)
        line += more
    return tuple(line)


@lru_cache(maxsize=20_000)
def wrapped(text: str, cells: int) -> tuple[str, ...]:
    """Break a text into rows of at most so many cells, between words where that is possible."""
    rows, row, used = [], "", 0
    for word in text.split(" "):
        size = cell_len(word)
        if row and used + 1 + size <= cells:
            row, used = f"{row} {word}", used + 1 + size
            continue
        if row:
            rows.append(row)
        while size > cells:
            head = set_cell_size(word, cells).rstrip(" ") or word[:1]
            rows.append(head)
            word = word[len(head) :]
            size = cell_len(word)
        row, used = word, size
    return (*rows, row) if row or not rows else tuple(rows)


def labelled(label: Span, text: str, style: str, cells: int, indent: int = 7) -> list[Line]:
    """Wrap a text behind a label, with its other rows below its first one."""
    rows = wrapped(text, max(cells - indent, 8))
    first = ((padded(label[0], indent), label[1]), (rows[0], style))
    return [first, *(((" " * indent, style), (row, style)) for row in rows[1:])]
