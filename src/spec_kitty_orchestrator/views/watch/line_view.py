"""The one widget of `watch`: it draws the lines that are seen, and of those only the ones that changed.

It scrolls by itself: what a terminal toolkit does for that divides and draws the whole screen anew.
"""

import os
from collections.abc import Sequence
from functools import lru_cache

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from spec_kitty_orchestrator.views.watch.spans import CHOSEN, COLOURS, EDGE, GROUND, Line

__all__ = ["WHEEL_ROWS", "LineView"]

WHEEL_ROWS = 3
MOST_DRAWN = 2000
"""Rows of a view that are kept as they were drawn."""


@lru_cache(maxsize=256)
def _style(name: str, ground: str) -> Style:
    words = name.split()
    chosen = ground == CHOSEN or "chosen" in words
    if "NO_COLOR" in os.environ:
        return Style(bold="b" in words, reverse=chosen or name == "mark")
    if name == "mark":
        return Style(bgcolor=EDGE)
    colour = next((COLOURS[word] for word in words if word in COLOURS), COLOURS["text"])
    return Style(color=colour, bgcolor=CHOSEN if chosen else ground, bold="b" in words)


class LineView(Widget, can_focus=False):
    """Shows lines of any number, from `top` on; the last column has a mark of where that is."""

    def __init__(self, name: str, ground: str = GROUND) -> None:
        super().__init__(id=name)
        self.lines: Sequence[Line] = ()
        self.chosen: frozenset[int] = frozenset()
        self.top: int = 0
        self._ground = ground
        self._see: tuple[int, int] | None = None
        self._end = False
        # The toolkit asks for all that is seen whenever two parts of the screen changed.
        self._drawn: dict[int, tuple[object, Line, Strip]] = {}

    def show(
        self,
        lines: Sequence[Line],
        chosen: frozenset[int] = frozenset(),
        see: tuple[int, int] | None = None,
        *,
        end: bool = False,
    ) -> None:
        """Show these lines from now on, some of them as the chosen ones.

        It stays where it is, unless the rows that `see` names or the end must be seen.
        """
        before, was, seen = self.lines, self.chosen, self._mark()
        self.lines, self.chosen, self._see, self._end = lines, chosen, see, end
        old, self.top = self.top, self._placed()
        if old != self.top or seen != self._mark():
            self.refresh()
            return
        for row in range(self.top, self.top + self.size.height):
            now, then = lines[row : row + 1], before[row : row + 1]
            if now != then or (row in chosen) != (row in was):
                self.refresh(Region(0, row - self.top, self.size.width, 1))

    @property
    def last_top(self) -> int:
        """Where it begins when the last line is seen."""
        return max(len(self.lines) - self.size.height, 0)

    def scroll_rows(self, top: int) -> None:
        """Show the lines from there on."""
        self._see, self._end = None, False
        if (within := self._within(top)) != self.top:
            self.top = within
            self.refresh()

    def on_resize(self) -> None:
        """Show the same part in another height."""
        self.top = self._placed()

    def _placed(self) -> int:
        if self._end:
            return self.last_top
        if self._see is None:
            return self._within(self.top)
        first, last = self._see
        return self._within(min(first, max(self.top, last - max(self.size.height, 1) + 1)))

    def _within(self, top: int) -> int:
        return min(max(top, 0), self.last_top)

    def _mark(self) -> range:
        """Return the rows in which the mark stands."""
        height, count = self.size.height, len(self.lines)
        if count <= height:
            return range(0)
        begin = self.top * height // count
        return range(begin, max(begin + height * height // count, begin + 1))

    def render_lines(self, crop: Region) -> list[Strip]:
        """Draw the rows of a part of it. Without an edge, the toolkit has nothing to add."""
        mark, cells = self._mark(), self.size.width
        strips = [self._strip(y, cells, y in mark) for y in range(crop.y, crop.bottom)]
        if crop.x == 0 and crop.right >= cells:
            return strips
        return [strip.crop(crop.x, crop.right) for strip in strips]

    def _strip(self, y: int, cells: int, marked: bool) -> Strip:
        row = y + self.top
        line = self.lines[row] if row < len(self.lines) else ()
        ground = CHOSEN if row in self.chosen else self._ground
        looks = (cells, ground, marked)
        known = self._drawn.get(row)
        if known is not None and known[0] == looks and known[1] == line:
            return known[2]
        if len(self._drawn) > MOST_DRAWN:
            self._drawn.clear()
        strip = _drawn(line, *looks)
        self._drawn[row] = (looks, line, strip)
        return strip


def _drawn(line: Line, cells: int, ground: str, marked: bool) -> Strip:
    blank = _style("text", ground)
    strip = Strip([Segment(text, _style(style, ground)) for text, style in line])
    if not marked:
        return strip.adjust_cell_length(cells, blank)
    return Strip([*strip.adjust_cell_length(cells - 1, blank), Segment(" ", _style("mark", ground))], cells)
