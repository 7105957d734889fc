"""A report as one page that needs nothing from elsewhere and runs nothing but its own script.

Whatever is said by others is escaped by the templates and made fit by `Texts`; the page's policy lets the
browser run the one script whose hash it names. So each of two walls would do alone.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic.fields import FieldInfo

from spec_kitty_orchestrator.core import advice, statistics
from spec_kitty_orchestrator.core.describe import count, duration, in_all
from spec_kitty_orchestrator.core.model import Usage
from spec_kitty_orchestrator.core.plain_text import plain
from spec_kitty_orchestrator.core.report import Report, SpanKind, StartRecord, WpReport
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.settings import named_fields, spelled_value
from spec_kitty_orchestrator.views.report import graph, timeline
from spec_kitty_orchestrator.views.report.details import details
from spec_kitty_orchestrator.views.report.texts import Texts
from spec_kitty_orchestrator.views.report.timeline import FEW, Bar
from spec_kitty_orchestrator.views.report.words import NOTHING, outcome, tokens

__all__ = ["page"]

_WORTH_A_ROW_S = 0.5

PARTS = (
    ("needs", "Needs you"),
    ("timeline", "Timeline"),
    ("graph", "Dependencies"),
    ("table", "Work packages"),
    ("details", "Details"),
    ("agents", "Agents"),
    ("time", "Time"),
    ("run", "Run"),
)


def page(report: Report, texts: Texts, version: str, journal: str) -> str:
    """Return the whole page.

    Args:
        report: what it tells.
        texts: makes the words of others fit to be shown.
        version: ours.
        journal: absolute path of the file that it was made from.
    """
    environment = _environment()
    environment.filters["line"] = texts.line
    environment.filters["block"] = texts.block
    environment.filters["note"] = texts.note
    style, script = _asset("style.css"), _asset("script.js")
    return environment.get_template("page.html").render(
        **_of_run(report, texts),
        **_of_wps(report, texts),
        version=version,
        journal=texts.link(journal),
        style=Markup(style),  # noqa: S704 - our own
        script=Markup(script),  # noqa: S704 - our own
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("spec_kitty_orchestrator.views.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: plain(value) if type(value) is str else value,
    )
    made.filters |= {
        "dur": lambda seconds: duration(seconds) if seconds else NOTHING,
        "tokens": tokens,
        "cost": lambda one: statistics.told_cost(one.usage, one.costs_unknown),
        "marks": _marks,
    }
    return made


@cache
def _asset(name: str) -> str:
    return (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _marks(wp: WpReport) -> str:
    rejected, failed, red = statistics.mishaps(wp)
    bad = failed + red
    return (f" ↩{rejected}" if rejected else "") + (f" ✕{bad}" if bad else "")


def _of_run(report: Report, texts: Texts) -> dict[str, Any]:
    axis = timeline.Axis(report)
    slots = timeline.slots(report, axis)
    workers = statistics.workers(report)
    spent = statistics.time_spent(report)
    each = sum(spent.values()) or 1.0
    before = report.state.spent_before
    return {
        "report": report,
        "when": _when(report),
        "took": duration(report.took_s),
        "whole": _whole(report),
        "cards": _cards(report, workers, slots),
        "parts": _parts(report),
        "needs": advice.needs(report),
        "go_on": advice.go_on(report),
        "ended": "" if report.active else advice.why_ended(report),
        "chain_told": statistics.chain_told(report),
        "chain": frozenset(report.chain),
        "axis": axis,
        "rows": timeline.rows(report, axis, texts),
        "slots": slots,
        "rests": timeline.rests(report, axis, texts),
        "workers": workers,
        "some_unknown": any(one.costs_unknown for one in workers),
        "before": f"Earlier runs, whose journals were put aside, used {in_all(before)}."
        if before != Usage()
        else "",
        "spent": [
            (name[0].upper() + name[1:], spent[kind], spent[kind] / each * 100)
            for kind, name in statistics.SHARES.items()
            if spent.get(kind, 0.0) >= _WORTH_A_ROW_S
        ],
        "steps": statistics.steps(report),
        "starts": [_start(one, report) for one in report.starts],
        "settings": _settings(report.starts[-1]) if report.starts else [],
        "gates": (*report.state.policy.setup, *report.state.policy.gates),
    }


def _parts(report: Report) -> Sequence[tuple[str, str]]:
    graphed = any(one.situation.wp.dependencies for one in report.wps)
    names = {"needs": "Needs you" if advice.needs(report) else "What is next"}
    return [(one, names.get(one, title)) for one, title in PARTS if one != "graph" or graphed]


def _of_wps(report: Report, texts: Texts) -> dict[str, Any]:
    many, by_id = len(report.wps) > FEW, sorted(report.wps, key=lambda one: one.id)
    needed = {one.id: one.situation.wp.dependencies for one in by_id}
    drawn = None
    if any(needed.values()):
        drawn = graph.draw(needed, report.chain, graph.SMALL if many else graph.LARGE)
    return {
        "many": many,
        "by_id": by_id,
        "known": {one.id: one for one in report.wps},
        # An id is the host's word: an anchor is ours.
        "anchors": {one.id: f"wp{place}" for place, one in enumerate(by_id, start=1)},
        "graph": drawn,
        "table": [_cells(one, by_id.index(one), report) for one in report.wps],
        "details": details(by_id, report, texts, many=many),
    }


def _whole(report: Report) -> list[Bar]:
    found, x = [], 0.0
    for status in (
        Status.DONE,
        Status.RUNNING,
        Status.WAITING,
        Status.CUT_OFF,
        Status.NEEDS_YOU,
        Status.HELD_UP,
        Status.LEFT_OUT,
    ):
        if number := len(report.of(status)):
            width = number / len(report.wps) * 100
            found.append(Bar(status, round(x, 2), round(width, 2), f"{number} {status}", status.glyph))
            x += width
    return found


def _cards(
    report: Report, workers: Sequence[statistics.Worker], slots: timeline.Slots
) -> list[tuple[str, str, str]]:
    used = report.state.told
    unknown = sorted({one.agent for one in workers if one.costs_unknown})
    unknown_told = f"{', '.join(unknown)}: not told" if unknown else "as the agents tell it"
    rejected, failed, red = (
        (sum(each) for each in zip(*map(statistics.mishaps, report.wps), strict=True))
        if report.wps
        else (0, 0, 0)
    )
    bad = [
        f"{number} {word}"
        for number, word in (
            (rejected, "rejected"),
            (failed, "failed"),
            (red, "red gates" if red != 1 else "red gate"),
        )
        if number
    ]
    cost = statistics.told_cost(used, sum(one.costs_unknown for one in workers))
    return [
        ("Outcome", *outcome(report)),
        ("Took", duration(report.took_s), _starts(report)),
        ("Cost", cost, unknown_told if cost != NOTHING else ""),
        (
            "Tokens",
            tokens(used.tokens),
            f"{tokens(used.input_tokens)} in, {tokens(used.output_tokens)} out"
            if used.input_tokens
            else "not told",
        ),
        ("Attempts", str(len(report.attempts)), ", ".join(bad) or "none was sent back"),
        (
            "Slots busy",
            f"{slots.average:.1f} of {report.state.policy.max_concurrent}",
            f"on average; {slots.most} at most",
        ),
    ]


def _starts(report: Report) -> str:
    return f"in {count(len(report.starts), 'start')}; longest chain {count(len(report.chain), 'WP')}"


def _when(report: Report) -> str:
    if not report.starts:
        return ""
    begun, now = report.starts[0].at, report.now
    day = f"{begun.day} {begun:%b %Y}, {begun:%H:%M}"
    return (
        f"{day} to {now:%H:%M} UTC"
        if begun.date() == now.date()
        else f"{day} to {now.day} {now:%b %Y, %H:%M} UTC"
    )


@dataclass(frozen=True)
class Cells:
    """One row of the table."""

    id: str
    title: str
    situation: Any
    order: int
    rank: int
    worked: float
    waited: float
    attempts: int
    rejected: int
    tokens: int
    cost: float
    cost_told: str
    told: str


def _cells(wp: WpReport, order: int, report: Report) -> Cells:
    waited = sum(one.seconds(report.now) for one in wp.spans if one.kind is SpanKind.WAIT)
    used = wp.usage
    unknown = sum(one.outcome is not None and one.usage.cost_usd is None for one in wp.attempts)
    told = statistics.approved_by(wp) or advice.reason(wp)
    return Cells(
        wp.id,
        wp.title,
        wp.situation,
        order,
        wp.situation.status.rank,
        round(wp.worked_s, 1),
        round(waited, 1),
        len(wp.attempts),
        statistics.mishaps(wp)[0],
        used.tokens,
        used.cost_usd or 0.0,
        statistics.told_cost(used, unknown),
        told or NOTHING,
    )


@dataclass(frozen=True)
class Start:
    """One row of the starts."""

    number: int
    at: Any
    end: str
    told: str


def _start(one: StartRecord, report: Report) -> Start:
    last = one is report.starts[-1]
    if one.ended_at is None:
        end = "goes on" if last and report.active else "cut off"
    else:
        end = f"{one.ended_at:%H:%M:%S}" + (f", exit {one.exit_code}" if one.exit_code is not None else "")
    return Start(
        one.number, one.at, end, f"version {one.version}" + (f"; {one.summary}" if one.summary else "")
    )


def _settings(start: StartRecord) -> list[tuple[str, str, bool]]:
    """Return the settings of a start as people write them, each with whether it is the default."""
    known, found = named_fields(), []
    for name, value in start.settings.items():
        # One of another version is shown as it is; gates have a list of their own.
        field = known[name][2] if name in known else None
        if field is None and name != "gate":
            found.append((name, str(value), False))
        elif field is not None:
            default = field.get_default(call_default_factory=True)
            told = _spelled(field, value)
            found.append((name, told, told == _spelled(field, default)))
    return found


def _spelled(field: FieldInfo, value: object) -> str:
    if isinstance(value, bool):
        return ("off", "on")[value]
    try:
        return spelled_value(field, value)
    except (TypeError, ValueError, AttributeError):
        return str(value)
