"""The one table: what was measured, what is wanted of it, and whether that was reached."""

from collections.abc import Sequence
from dataclasses import dataclass


class BenchmarkFailed(Exception):
    """A part could not be measured; the message says why. A bound that is missed is no failure."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What is wanted of a figure: at least or at most `value`, in `unit`."""

    value: float
    unit: str
    at_least: bool = False

    @property
    def words(self) -> str:
        """The bound as the table shows it."""
        return f"{'>=' if self.at_least else '<='} {self.value:g} {self.unit}"

    def reached_by(self, figure: float) -> bool:
        """Tell whether the figure is on the right side."""
        return figure >= self.value if self.at_least else figure <= self.value


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; all of it comes from one run.

    Attributes:
        what: is measured.
        measured: the raw figures that `figure` is made of, in words.
        figure: the ratio or count that counts; None on a line that only informs.
        bound: what is wanted of the figure; None on a line that only informs.
    """

    what: str
    measured: str
    figure: float | None = None
    bound: Bound | None = None

    @property
    def cells(self) -> tuple[str, str, str, str, str]:
        """The line as the table shows it."""
        if self.figure is None or self.bound is None:
            return self.what, self.measured, "", "", ""
        verdict = "reached" if self.bound.reached_by(self.figure) else "NOT REACHED"
        figure = f"{self.figure:.2f}".removesuffix(".00")
        return self.what, self.measured, f"{figure} {self.bound.unit}", self.bound.words, verdict


def times(value: float) -> Bound:
    """Want at least so many times less than what it is compared with."""
    return Bound(value, "x", at_least=True)


def ratio_row(what: str, theirs: float, ours: float, names: tuple[str, str], wanted: float) -> Row:
    """Compare two costs in seconds: `wanted` is how many times less `ours` shall be than `theirs`."""
    measured = f"{names[0]} {theirs:.3f} s, {names[1]} {ours:.3f} s"
    # A cost below the resolution of the clocks counts as one tick of them.
    return Row(what, measured, theirs / max(ours, 0.001), times(wanted))


def layout(rows: Sequence[Row]) -> str:
    """Lay the rows out in columns under a heading."""
    cells = [("what", "measured", "figure", "wanted", ""), *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )
