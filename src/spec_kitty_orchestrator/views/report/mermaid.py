"""Pictures of a report as Mermaid draws them within Markdown: the dependencies, and the time of each attempt.

GitHub draws no text of more than 50,000 characters and no graph of more than 500 edges, so both are bounded.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from spec_kitty_orchestrator.core.report import AGENTS_TIME, Report, Span, SpanKind, WpReport
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.views.report.graph import reduced
from spec_kitty_orchestrator.views.report.texts import Texts

__all__ = ["graph", "timeline"]

MOST_EDGES = 450
MOST_TITLES = 40
"""In a graph of more work packages, their ids alone can be read."""
FEW_ROWS = 12
"""Each of whose bars has a row and a name of its own."""
MOST_NAMED_BARS, MOST_BARS = 300, 600

_COLOURS = {
    Status.NEEDS_YOU: "fill:#c4281c,stroke:#c4281c,color:#fff",
    Status.CUT_OFF: "fill:#8a5300,stroke:#8a5300,color:#fff",
    Status.RUNNING: "fill:#0a58ca,stroke:#0a58ca,color:#fff",
    Status.WAITING: "stroke-dasharray:2 3",
    Status.HELD_UP: "stroke:#8a5300,stroke-width:2px,stroke-dasharray:4 3",
    Status.LEFT_OUT: "stroke-dasharray:2 3,opacity:0.6",
    Status.DONE: "fill:#17733b,stroke:#17733b,color:#fff",
}
_IN_A_BOX = re.compile(r"[^\w ,.…/+-]")
_NAMES = {
    SpanKind.IMPLEMENT: ("implement", ""),
    SpanKind.REWORK: ("rework", ""),
    SpanKind.REVIEW: ("review", "done"),
    SpanKind.GATE: ("gate", ""),
    SpanKind.SETUP: ("setup", ""),
}
_ZERO = datetime(2000, 1, 1)  # noqa: DTZ001 - an axis of durations has no zone


def graph(report: Report, texts: Texts) -> tuple[str, str]:
    """Draw the dependencies, coloured by state; return that, and what it leaves out in words.

    The boxes have names of our own, and hold nothing but words.
    """
    ordered = sorted(report.wps, key=lambda one: one.id)
    names = {one.id: f"w{place}" for place, one in enumerate(ordered)}
    on_chain = set(zip(report.chain, report.chain[1:], strict=False))
    lines = ["flowchart LR"]
    for one in ordered:
        inside = [f"{one.situation.status.glyph} {_boxed(texts.line(one.id, 40))}"]
        inside += [_boxed(texts.line(one.title, 28))] if one.title and len(ordered) <= MOST_TITLES else []
        lines.append(f'  {names[one.id]}["{"<br>".join(inside)}"]:::{_class(one.situation.status)}')
    needs = reduced({one.id: one.situation.wp.dependencies for one in ordered})
    edges = [(need, wp_id) for wp_id, needed in needs.items() for need in needed]
    # Those of the chain are never among what is left out.
    edges.sort(key=lambda one: one not in on_chain)
    lines += [
        f"  {names[need]} {'==>' if (need, wp_id) in on_chain else '-->'} {names[wp_id]}"
        for need, wp_id in edges[:MOST_EDGES]
    ]
    used = dict.fromkeys(one.situation.status for one in ordered)
    lines += [f"  classDef {_class(one)} {_COLOURS[one]}" for one in used]
    left = len(edges) - MOST_EDGES
    return "\n".join(lines), f"{left} of {len(edges)} dependencies are not drawn." if left > 0 else ""


def timeline(report: Report, texts: Texts) -> tuple[str, str]:
    """Draw when agents and gates were at work, without the time between two starts; return as `graph`."""
    spans = {one.id: [span for span in one.spans if _bar(span)] for one in report.wps}
    worked = [one for one in report.wps if spans[one.id]]
    named = len(worked) <= FEW_ROWS
    left = MOST_NAMED_BARS if named else MOST_BARS
    for one in worked:  # the most important first
        kept = min(len(spans[one.id]), left)
        spans[one.id] = spans[one.id][len(spans[one.id]) - kept :]
        left -= kept
    lines = [] if named else ["---", "displayMode: compact", "---"]
    axis = "%Hh%M" if report.took_s >= 3600 else "%M:%S"
    lines += ["gantt", "  dateFormat YYYY-MM-DD HH:mm:ss", f"  axisFormat {axis}"]
    since = _since(report)
    for one in sorted(worked, key=lambda one: (_began(one), one.id)):
        if spans[one.id]:
            lines.append(f"  section {_boxed(texts.line(one.id, 40))}")
            lines += _bars(spans[one.id], report.now, since, texts, named=named)
    in_all = sum(_bar(span) for one in worked for span in one.spans)
    missing = in_all - sum(map(len, spans.values()))
    told = f"{missing} of {in_all} spans of time are not drawn." if missing else ""
    return "\n".join(lines) if worked else "", told


def _bar(span: Span) -> bool:
    return span.kind in AGENTS_TIME or (span.kind is SpanKind.GATE and bool(span.bad))


def _began(wp: WpReport) -> datetime:
    return min(span.began_at for span in wp.spans)


def _bars(
    spans: Sequence[Span], now: datetime, since: Callable[[datetime], float], texts: Texts, *, named: bool
) -> Iterator[str]:
    for span in spans:
        name, tag = _NAMES[span.kind]
        begin = since(span.began_at)
        end = max(since(span.ended_at or now), begin + 1)
        tags = ", ".join(filter(None, ("crit" if span.bad else "", tag)))
        told = f"{name} {span.what} {span.bad.replace('_', ' ')}" if named else span.kind[0]
        what = _boxed(texts.line(told, 60)) or name
        yield f"  {what} :{tags}{', ' * bool(tags)}{_at(begin)}, {_at(end)}"


def _at(seconds: float) -> str:
    return f"{_ZERO + timedelta(seconds=round(seconds)):%Y-%m-%d %H:%M:%S}"


def _since(report: Report) -> Callable[[datetime], float]:
    """Return what gives the seconds in which runs went on until a moment."""
    spans = [(one.at, one.ended_at or one.last_at or one.at) for one in report.starts[:-1]]
    spans += [(one.at, report.now) for one in report.starts[-1:]]

    def seconds(moment: datetime) -> float:
        parts = ((min(moment, end) - at).total_seconds() for at, end in spans if at < moment)
        return sum(max(0.0, one) for one in parts)

    return seconds


def _boxed(text: str) -> str:
    return " ".join(_IN_A_BOX.sub(" ", text).split())


def _class(status: Status) -> str:
    return status.name.lower()
