"""Lines of text for a terminal of any width, or for a file: without secrets, and without loading much."""

import os
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final, TextIO

from spec_kitty_orchestrator.core.describe import clean
from spec_kitty_orchestrator.core.records import dataclass
from spec_kitty_orchestrator.machine.files import discard
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.views.ci import inert, service_around

__all__ = ["Part", "Row", "Screen", "shortened", "stdout"]

NARROWEST, WIDEST, WIDTH_OF_FILES = 40, 160, 120
"""Columns; a line that is longer than the widest is hard to read."""

Part = tuple[str, str]
"""A text, and its style."""

_STYLES: Final[Mapping[str, str]] = {
    "bold": "1",
    "dim": "2",
    "red": "1;31",
    "green": "32",
    "yellow": "33",
    "cyan": "36",
}


@dataclass(frozen=True)
class Row:
    """Text behind a head; what does not fit goes on below it, or is cut off.

    Attributes:
        head: parts that stand before it in the first line.
        indent: of the lines that follow, in columns.
        cut: whether only as much is shown as fits into one line.
        copied: whether it is for the clipboard, and so never broken.
    """

    head: Sequence[Part] = ()
    text: str = ""
    style: str = ""
    indent: int = 0
    cut: bool = False
    copied: bool = False


class Screen:
    """Where rows are shown; styles only on a terminal that wants them."""

    def __init__(self, file: TextIO, redactor: Redactor, environ: Mapping[str, str]) -> None:
        self._file = file
        self._redactor = redactor
        self.is_terminal: bool = file.isatty()
        plain = environ.get("NO_COLOR") or environ.get("TERM") == "dumb"
        self._styled = self.is_terminal and not plain
        self._in_ci = service_around(environ) is not None

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines of now."""
        columns, lines = WIDTH_OF_FILES, 24
        if self.is_terminal:
            with suppress(OSError, ValueError):
                columns, lines = os.get_terminal_size(self._file.fileno())
        columns, lines = (
            int(given) if (given := os.environ.get(name, "")).isdigit() and int(given) else found
            for name, found in (("COLUMNS", columns), ("LINES", lines))
        )
        return max(NARROWEST, min(columns, WIDEST)), lines

    def show(self, rows: Iterable[Row]) -> None:
        """Write rows. A reader that is gone is no error."""
        self._write("".join(f"{line}\n" for line in self.lines(rows)))

    def redraw(self, rows: Iterable[Row]) -> None:
        """Show rows in place of what is on the terminal, as many as it has lines for."""
        lines, height = self.lines(rows), self.size[1]
        if len(lines) >= height:
            more = len(lines) - height + 2
            lines = [*lines[: height - 2], f"+{more} lines"]
        self._write("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")

    def apart(self, *, on: bool) -> None:
        """Begin or end to draw where the terminal keeps what it showed before."""
        self._write("\x1b[?1049h\x1b[?25l" if on else "\x1b[?25h\x1b[?1049l")

    def lines(self, rows: Iterable[Row]) -> list[str]:
        """Lay rows out."""
        width = self.size[0]
        return [line for row in rows for line in self._lines(row, width)]

    def _lines(self, row: Row, width: int) -> list[str]:
        head = "".join(text for text, _ in row.head)
        text = self._safe(row.text)
        room = max(width - max(len(head), row.indent), 16)
        if row.copied:
            parts = [text]
        elif row.cut:
            parts = [shortened(text, width - len(head))]
        else:
            parts = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
        safe = self._redactor.text(head) == head and clean(head) == head.strip()
        begin = "".join(self._painted(*part) for part in row.head) if safe else self._safe(head)
        first = begin + self._painted(parts[0], row.style)
        rest = [" " * row.indent + self._painted(part, row.style) for part in parts[1:]]
        return [one.rstrip() for one in (first, *rest)]

    def _safe(self, text: str) -> str:
        indent = len(text) - len(text.lstrip(" "))
        return " " * indent + clean(self._redactor.text(text), 4000)

    def _painted(self, text: str, style: str) -> str:
        if not (self._styled and style and text):
            return text
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"

    def _write(self, text: str) -> None:
        try:
            self._file.write(inert(text) if self._in_ci else text)
            self._file.flush()
        except BrokenPipeError:
            discard(self._file.fileno())


def stdout(redactor: Redactor) -> Screen:
    """Return the one that shows on standard output."""
    return Screen(sys.stdout, redactor, os.environ)


def shortened(text: str, width: int) -> str:
    """Cut a text to so many columns."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"
