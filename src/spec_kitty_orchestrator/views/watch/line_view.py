"""The one widget of `watch`: it draws the lines that are seen, and of those only the ones that changed."""

from collections.abc import Sequence
from functools import lru_cache

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from spec_kitty_orchestrator.views.watch.spans import CHOSEN, COLOURS, GROUND, Line


@lru_cache(maxsize=256)
def _style(name: str, ground: str) -> Style:
    words = name.split()
    colour = next((COLOURS[word] for word in words if word in COLOURS), COLOURS["text"])
    return Style(color=colour, bgcolor=CHOSEN if "chosen" in words else ground, bold="b" in words)


class LineView(ScrollView, can_focus=False):
    """Shows lines of any number; keys are the app's."""

    DEFAULT_CSS = f"""
    LineView {{
        background: {GROUND};
        scrollbar-size-vertical: 1;
        scrollbar-background: {GROUND};
        scrollbar-background-hover: {GROUND};
        scrollbar-color: #2a323d;
        scrollbar-color-hover: #3a4450;
        overflow-x: hidden;
    }}
    """

    def __init__(self, name: str, ground: str = GROUND) -> None:
        super().__init__(id=name)
        self.lines: Sequence[Line] = ()
        self._ground = ground
        self._chosen: frozenset[int] = frozenset()

    def show(self, lines: Sequence[Line], chosen: frozenset[int] = frozenset()) -> None:
        """Show these lines from now on, some of them as the chosen ones."""
        before, was = self.lines, self._chosen
        self.lines, self._chosen = lines, chosen
        if len(lines) != len(before):
            self.virtual_size = Size(self.size.width, len(lines))
            self.refresh()
            return
        top = round(self.scroll_y)
        for row in range(top, min(top + self.size.height, len(lines))):
            if lines[row] != before[row] or (row in chosen) != (row in was):
                self.refresh(Region(0, row - top, self.size.width, 1))

    def reveal(self, first: int, last: int) -> None:
        """Scroll as little as is needed to see these rows."""
        top, height = round(self.scroll_y), self.size.height
        if first < top:
            self.scroll_to(y=first, animate=False, force=True, immediate=True)
        elif height and last >= top + height:
            self.scroll_to(y=last - height + 1, animate=False, force=True, immediate=True)

    @property
    def at_end(self) -> bool:
        """Whether the last line is seen."""
        return self.scroll_y >= self.max_scroll_y - 1

    def render_line(self, y: int) -> Strip:
        """Draw one row that is seen."""
        row, cells = y + round(self.scroll_y), self.size.width
        ground = CHOSEN if row in self._chosen else self._ground
        blank = _style("text", ground)
        if row >= len(self.lines):
            return Strip.blank(cells, blank)
        parts = [Segment(text, _style(style, ground)) for text, style in self.lines[row]]
        return Strip(parts).adjust_cell_length(cells, blank)
