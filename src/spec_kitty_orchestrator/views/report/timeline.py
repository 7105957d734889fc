"""Where the spans of a report lie on one axis of time, in percent of the time in which a run went on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from spec_kitty_orchestrator.core.describe import clean, duration
from spec_kitty_orchestrator.core.model import WaitsFor
from spec_kitty_orchestrator.core.report import Report, Span, SpanKind, WpReport
from spec_kitty_orchestrator.views.report.texts import Texts

__all__ = ["FEW", "Axis", "Bar", "Slots", "rests", "rows", "slots"]

_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_MOST_TICKS = 9
_SHORTEST = 1.5
"""Of 1000: what is shorter is no more than a needle."""
FEW = 40
"""Up to so many work packages everything is shown in full."""

CLASSES = {
    SpanKind.IMPLEMENT: "i",
    SpanKind.REWORK: "k",
    SpanKind.REVIEW: "r",
    SpanKind.GATE: "g",
    SpanKind.SETUP: "g",
}
WAITS = {WaitsFor.DEPENDENCY: "wd", WaitsFor.SLOT: "ws", WaitsFor.QUOTA: "wq"}


class Axis:
    """Places moments; the time between two starts is cut out."""

    def __init__(self, report: Report) -> None:
        """Take the starts of a report."""
        self._pieces: list[tuple[datetime, datetime, float]] = []
        passed = 0.0
        for number, one in enumerate(report.starts, start=1):
            last = number == len(report.starts)
            end = report.now if last and report.active else one.ended_at or one.last_at or one.at
            end = max(end, one.at)
            self._pieces.append((one.at, end, passed))
            passed += (end - one.at).total_seconds()
        self.seconds: float = passed or 1.0

    def place(self, at: datetime) -> float:
        """Return where a moment is, from 0 to 100."""
        found = 0.0
        for begin, end, before in self._pieces:
            if at < begin:
                break
            found = before + (min(at, end) - begin).total_seconds()
        return round(min(100.0, found / self.seconds * 100), 2)

    @property
    def cuts(self) -> list[tuple[float, str]]:
        """Where time was cut out, and how much."""
        pairs = zip(self._pieces, self._pieces[1:], strict=False)
        return [(self.place(after[0]), duration((after[0] - one[1]).total_seconds())) for one, after in pairs]

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Round times since the first start."""
        step = next((one for one in _STEPS_S if self.seconds / one <= _MOST_TICKS), _STEPS_S[-1])
        step *= max(1, int(self.seconds / step / _MOST_TICKS))
        times = range(0, int(self.seconds) + 1, step)
        return [(round(one / self.seconds * 100, 2), _tick(one)) for one in times]


def _tick(seconds: int) -> str:
    return duration(seconds).replace(" 00s", "").replace(" 00m", "")


@dataclass(frozen=True)
class Bar:
    """A span as it is drawn: `x` and `width` in percent; `mark` tells a bad end, "" of none."""

    kind: str
    x: float
    width: float
    told: str
    mark: str = ""
    label: str = ""

    @property
    def end(self) -> float:
        """Where it ends."""
        return round(self.x + self.width, 2)


@dataclass(frozen=True)
class Row:
    """The time of one work package as it is drawn; `host` is a path of its steps, in tenths of a percent."""

    wp: WpReport
    bars: tuple[Bar, ...]
    waits: tuple[Bar, ...]
    host: str
    told: str


def rows(report: Report, axis: Axis, texts: Texts) -> list[Row]:
    """Return the rows, whoever began first first."""
    many = len(report.wps) > FEW
    ordered = sorted(report.wps, key=lambda one: (_begun(one, report), one.id))
    return [_row(one, report, axis, texts, many=many) for one in ordered]


def _begun(wp: WpReport, report: Report) -> datetime:
    worked = (one.began_at for one in wp.spans if one.kind not in (SpanKind.WAIT, SpanKind.HOST))
    return next(worked, report.now)


def _row(wp: WpReport, report: Report, axis: Axis, texts: Texts, *, many: bool) -> Row:
    bars: list[Bar] = []
    waits: list[Bar] = []
    host: list[tuple[int, int]] = []
    for span in wp.spans:
        x, end = axis.place(span.began_at), axis.place(span.ended_at or report.now)
        if span.kind is SpanKind.HOST:
            host.append((round(x * 10), round(max(end, x + 0.1) * 10)))
        elif span.kind is SpanKind.WAIT:
            if end - x >= (0.4 if many else 0.1):
                kind = WAITS.get(span.waits_for or WaitsFor.RUN, "wo")
                told = "" if many else f"{texts.line(span.what, 160)}, {duration(span.seconds(report.now))}"
                waits.append(Bar(kind, x, round(end - x, 2), told))
        else:
            bars.append(_bar(span, x, max(0.15, end - x), report, texts, many=many))
    kinds = [one.kind for one in wp.spans]
    told = ", ".join(f"{kinds.count(kind)} {kind}" for kind in CLASSES if kind in kinds)
    return Row(wp, tuple(bars), tuple(waits), _path(host), told or "not begun")


def _path(pieces: Sequence[tuple[int, int]]) -> str:
    """Draw pieces of a line; those that touch are one."""
    path, last = "", -1
    for begin, end in pieces:
        if begin > last or not path:
            path += f"M{begin} 1H{end}"
        elif end > last:
            path = f"{path[: path.rindex('H')]}H{end}"
        last = max(last, end)
    return path


def _bar(span: Span, x: float, width: float, report: Report, texts: Texts, *, many: bool) -> Bar:
    took = duration(span.seconds(report.now))
    who = texts.line(span.what, 60)
    number = f"{span.attempt} " if span.attempt else ""
    bad = f", {span.bad.replace('_', ' ')}" if span.bad else ""
    told = f"{number}{who} {took}{bad}" if many else f"{span.kind} {number}by {who}, {took}{bad}"
    if not many and not span.attempt:
        told = f"{span.kind} {who}, {took}{bad}"
    mark = {"": "", "rejected": "↩"}.get(span.bad, "✕")
    fits = not many and bool(span.attempt) and width > 0.9 * len(who) + 1
    return Bar(CLASSES[span.kind], x, round(width, 2), told, mark, who if fits else "")


@dataclass(frozen=True)
class Slots:
    """How many slots were taken: a line through a box of 1000 times 40, how many at most, and on average."""

    path: str
    most: int
    average: float


def slots(report: Report, axis: Axis) -> Slots:
    """Draw how many slots were taken."""
    most = max((taken for _, taken in report.slots), default=0)
    points = [(axis.place(at) * 10, taken) for at, taken in report.slots]
    path, area = "M0 40", 0.0
    for (x, taken), (following, _) in pairwise([*points, (1000.0, 0)]):
        area += taken * (following - x)
        if following - x >= _SHORTEST:
            path += f"L{x:.0f} {40 - 38 * taken / (most or 1):.0f}H{following:.0f}"
    return Slots(f"{path}V40Z", most, area / 1000)


def rests(report: Report, axis: Axis, texts: Texts) -> dict[str, list[Bar]]:
    """Return when each agent rested, and why."""
    found: dict[str, list[Bar]] = {}
    for one in report.rests:
        x, end = axis.place(one.began_at), axis.place(one.ended_at)
        told = f"{texts.line(one.reason, 160)}, {duration((one.ended_at - one.began_at).total_seconds())}"
        found.setdefault(clean(one.agent), []).append(Bar("wq", x, round(max(0.3, end - x), 2), told))
    return found
