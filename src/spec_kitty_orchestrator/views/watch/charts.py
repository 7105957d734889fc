"""The timeline and the dependencies of a mission, drawn with characters, and the help of `watch`."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.cells import cell_len

from spec_kitty_orchestrator.core.describe import clean, duration
from spec_kitty_orchestrator.core.graph import waves
from spec_kitty_orchestrator.core.model import WaitsFor
from spec_kitty_orchestrator.core.report import AGENTS_TIME, Report, Span, SpanKind, WpReport
from spec_kitty_orchestrator.views.watch import spans
from spec_kitty_orchestrator.views.watch.spans import Line, padded

__all__ = ["graph", "keys_help", "timeline"]

_MARKS = {
    SpanKind.IMPLEMENT: "█",
    SpanKind.REWORK: "▚",
    SpanKind.REVIEW: "▒",
    SpanKind.GATE: "■",
    SpanKind.SETUP: "■",
    SpanKind.HOST: "╌",
}
_LEGEND: Line = (
    (" █ implement ▚ rework", "implement"),
    (" ▒ review", "review"),
    (" ■ gates", "gate"),
    (" ╌ host, git", "faint"),
    (" · after a WP", "muted"),
    (" - slot, quota or other", "held"),
    (" ↩ rejected ✕ failed", "needs"),
)
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_TICK_CELLS = 14


class _Axis:
    """Maps times to cells: time between two starts of the run is left out."""

    def __init__(self, report: Report, now: datetime, cells: int) -> None:
        ends = [one.ended_at or one.last_at or one.at for one in report.starts]
        if report.active and ends:
            ends[-1] = now
        self._runs = [(one.at, max(end, one.at)) for one, end in zip(report.starts, ends, strict=True)]
        self.seconds = max(sum((end - begin).total_seconds() for begin, end in self._runs), 1.0)
        self._cells = cells

    def cell(self, at: datetime) -> int:
        passed = 0.0
        for begin, end in self._runs:
            if at <= begin:
                break
            passed += (min(at, end) - begin).total_seconds()
        return self.cell_of(passed)

    def cell_of(self, seconds: float) -> int:
        return min(int(self._cells * seconds / self.seconds), self._cells - 1)


def timeline(report: Report, now: datetime, cells: int) -> list[Line]:
    """Draw what each work package's time went to, in the order in which they began."""
    ids = max((len(one.id) for one in report.wps), default=4)
    title = min(max((cell_len(clean(one.title)) for one in report.wps), default=0), (cells - ids) // 5)
    room = max(cells - ids - title - 16, 10)
    axis = _Axis(report, now, room)
    lines: list[Line] = [((" " * (ids + title + 6) + _ticks(axis, room), "muted"),)]
    for wp in sorted(report.wps, key=lambda one: (_began(one) or now, one.id)):
        quiet = "text" if wp.id in report.chain else "muted"
        lines.append(
            (
                (f" {wp.situation.status.glyph} ", f"{spans.OF_STATUS[wp.situation.status]} b"),
                (f"{wp.id:<{ids}} {'◆' if wp.id in report.chain else ' '} ", "text b"),
                (padded(clean(wp.title), title) + " ", quiet),
                *_bar(wp, axis, now, room),
                (f"{duration(wp.worked_s) if wp.worked_s else '':>8}", "muted"),
            )
        )
    chain = f" ◆ longest chain: {' '.join(report.chain)}" if report.chain else ""
    return [
        *lines,
        (),
        spans.clipped(_LEGEND, cells),
        *([((spans.cut(chain, cells), "text"),)] if chain else ()),
    ]


def _began(wp: WpReport) -> datetime | None:
    return next((one.began_at for one in wp.spans if one.kind is not SpanKind.WAIT), None)


def _ticks(axis: _Axis, room: int) -> str:
    step = next((one for one in _STEPS_S if room * one / axis.seconds >= _TICK_CELLS), _STEPS_S[-1])
    row = ""
    for number in range(int(axis.seconds // step) + 1):
        place, label = axis.cell_of(number * step), duration(number * step) if number else "0"
        if place >= len(row) and place + len(label) <= room:
            row = row.ljust(place) + label + " "
    return row


def _bar(wp: WpReport, axis: _Axis, now: datetime, room: int) -> list[spans.Span]:
    drawn = [(" ", "muted")] * room
    # Where several share a cell, an agent's work is seen, and a bad end rather than what follows.
    for span in sorted(wp.spans, key=_weight):
        begin, end = axis.cell(span.began_at), axis.cell(span.ended_at or now)
        mark = _mark(span)
        for cell in range(begin, max(end, begin + 1)):
            drawn[cell] = mark
    for span in wp.spans:
        if span.bad:
            cell = max(axis.cell(span.ended_at or now) - 1, axis.cell(span.began_at))
            drawn[cell] = ("↩" if span.bad == "rejected" else "✕", "needs b")
    merged: list[spans.Span] = []
    for text, style in drawn:
        if merged and merged[-1][1] == style:
            merged[-1] = (merged[-1][0] + text, style)
        else:
            merged.append((text, style))
    return merged


def _weight(span: Span) -> int:
    return (
        3
        if span.kind in AGENTS_TIME
        else 0
        if span.kind is SpanKind.WAIT
        else 1 + (span.kind is SpanKind.GATE)
    )


def _mark(span: Span) -> spans.Span:
    if span.kind is SpanKind.WAIT:
        return ("·", "faint") if span.waits_for is WaitsFor.DEPENDENCY else ("-", "held")
    return _MARKS[span.kind], spans.OF_KIND[span.kind]


def graph(report: Report, cells: int) -> list[Line]:
    """Draw the dependencies: each work package in the wave in which it can begin first."""
    needs = {one.id: one.situation.wp.dependencies for one in sorted(report.wps, key=lambda one: one.id)}
    known = {one.id: one for one in report.wps}
    found = waves(needs)
    lines: list[Line] = []
    for number, wave in enumerate(found, start=1):
        after = "at once" if number == 1 else f"after wave {number - 1}"
        lines += [((f" {number} ", "text b"), (after, "muted")), *_wave(wave, known, needs, cells)]
    if circular := [one for one in needs if not any(one in wave for wave in found)]:
        lines += [((" these wait for each other", "needs b"),), *_wave(circular, known, needs, cells)]
    return lines


def _wave(
    wave: Sequence[str], known: Mapping[str, WpReport], needs: Mapping[str, tuple[str, ...]], cells: int
) -> list[Line]:
    ids = max(map(len, needs))
    title = min(max(cell_len(clean(known[one].title)) for one in wave), max(cells * 2 // 5, 12))
    lines = []
    for one in wave:
        situation = known[one].situation
        before = f"← {', '.join(needs[one])}" if needs[one] else ""
        then = [other for other, needed in needs.items() if one in needed]
        line = (
            (f"   {situation.status.glyph} ", f"{spans.OF_STATUS[situation.status]} b"),
            (f"{one:<{ids}} ", "text b"),
            (padded(clean(known[one].title), title) + "  ", "text" if one in known else "muted"),
            (f"{before}  ", "muted"),
            (f"→ {', '.join(then)}" if then else "", "implement"),
        )
        lines.append(spans.clipped(line, cells))
    return lines


_KEYS = (
    ("↑ ↓ j k  PgUp PgDn  Home End", "pick a work package; in a full view, scroll"),
    ("Space b  mouse wheel", "scroll the log"),
    ("Enter  Esc", "the chosen one on the whole screen, and back"),
    ("l e v d", "its log in words, events, verdicts, changes"),
    ("t g", "timeline and dependencies of the mission"),
    ("/ z", "only what matches (Esc: all); what is done"),
    ("f", "follow the most important one again"),
    ("q", "leave; the run goes on"),
)
_ORDERS = (
    ("P D", "pause the run, let it go on; drain it: it ends"),
    ("S H C", "stop the chosen one, or only pause it; let it go on"),
    ("T N", "tell it something; N stops it for that"),
    ("R X", "retry it, with a note; skip it"),
)
_STATUSS = (
    ("! needs you", "blocked or parked: a person must act", "needs"),
    ("■ cut off", "was at work when its run stopped", "needs"),
    ("▶ running", "an agent, a gate or the host works on it", "implement"),
    ("· waiting", "for others, for a slot, a quota, the machine", "muted"),
    ("‖ held up", "waits for one that needs you", "held"),
    ("– left out", "skipped or canceled", "muted"),  # noqa: RUF001 - as in the list
    ("✓ done", "reviewed, not merged", "done"),
)


def keys_help(cells: int) -> list[Line]:
    """Explain the keys, and the states of work packages."""
    lines: list[Line] = []
    for known in (_KEYS, _ORDERS):
        lines += [((f" {keys:<30}", "text b"), (what, "muted")) for keys, what in known]
        lines.append(())
    lines += [((f" {word:<14}", f"{style} b"), (what, "muted")) for word, what, style in _STATUSS]
    lines.append(((" Capital letters order, S N X D ask first. All clocks are in UTC.", "muted"),))
    return [spans.clipped(line, cells) for line in lines]
