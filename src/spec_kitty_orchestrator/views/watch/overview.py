"""The header, the list of work packages, what is new, and what stays when `watch` is left: as lines."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.cells import cell_len

from spec_kitty_orchestrator.core import events
from spec_kitty_orchestrator.core.describe import clean, count, duration, note, tokens
from spec_kitty_orchestrator.core.levels import Level
from spec_kitty_orchestrator.core.limits import resting
from spec_kitty_orchestrator.core.model import Lane, Outcome, Role, Usage
from spec_kitty_orchestrator.core.pauses import of_run
from spec_kitty_orchestrator.core.report import AttemptRecord, Report, Span, SpanKind, Told, WpReport
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.core.verdict import Ruling
from spec_kitty_orchestrator.machine.user import this_user
from spec_kitty_orchestrator.views.watch import spans
from spec_kitty_orchestrator.views.watch.arrangement import Mode
from spec_kitty_orchestrator.views.watch.spans import Line, cut, padded

__all__ = [
    "Roster",
    "Row",
    "Wanted",
    "activity",
    "header",
    "keys",
    "news",
    "open_attempt",
    "told_line",
    "tone",
]

TIME_CELLS = 7
LEAST_OTHERS = 2
"""Rows that what agents do leaves to work packages that do not run."""
_BAR = dict(zip(Status, "■■═┄┅–━", strict=True))  # noqa: RUF001 - a dash that is as wide as the others


@dataclass(frozen=True)
class Row:
    """A row of the list; `wp` is "" for a heading."""

    line: Line
    wp: str = ""


@dataclass(frozen=True)
class Wanted:
    """What the list shows: `text` is looked for in every row, and `done` shows or hides what is done.

    `done` is None for what fits.
    """

    text: str = ""
    done: bool | None = None

    def has(self, wp: WpReport) -> bool:
        """Tell whether a work package is to be shown."""
        agents = " ".join(one.attempt.agent for one in wp.attempts)
        told = f"{wp.id} {wp.title} {wp.situation.status} {wp.situation.why} {agents}".lower()
        return all(word in told for word in self.text.lower().split())


def open_span(wp: WpReport) -> Span | None:
    """Return what goes on now, None if nothing does."""
    last = wp.spans[-1] if wp.spans else None
    return last if last is not None and last.ended_at is None else None


def open_attempt(wp: WpReport) -> AttemptRecord | None:
    """Return the attempt that runs, None if none does."""
    last = wp.attempts[-1] if wp.attempts else None
    at_work = wp.situation.status is Status.RUNNING and last is not None and last.ended_at is None
    return last if at_work else None


def activity(wp: WpReport) -> tuple[str, str, datetime | None]:
    """Say what a running work package does, in which colour, and since when."""
    span = open_span(wp)
    if span is None:
        since = wp.spans[-1].ended_at if wp.spans else None
        return str(wp.situation.wp.phase), "faint", since
    colour = spans.OF_KIND[span.kind]
    if span.kind in (SpanKind.GATE, SpanKind.SETUP):
        return f"{span.kind} {clean(span.what)}", colour, span.began_at
    if span.kind is SpanKind.WAIT:
        return clean(span.what), "held", span.began_at
    rounds = sum(one.rework for one in wp.attempts)
    again = f" #{rounds + 1}" if span.kind is SpanKind.REWORK else ""
    return f"{span.kind}{again} {clean(span.what)}", colour, span.began_at


def trouble(wp: WpReport) -> str:
    """Say how often a work package was sent back, and how often an agent failed on it."""
    back = sum(one.bad == "rejected" for one in wp.attempts)
    failed = sum(bool(one.bad) for one in wp.attempts) - back
    return " ".join(filter(None, (f"↩{back}" if back else "", f"✕{failed}" if failed else "")))


def _what(wp: WpReport, now: datetime) -> tuple[str, str, str]:
    """Return what stands behind a title, its colour, and the time at the end of the row."""
    match wp.situation.status:
        case Status.RUNNING:
            what, colour, since = activity(wp)
            more = trouble(wp)
            took = duration((now - since).total_seconds()) if since else ""
            return f"{what} {more}" if more else what, colour, took
        case Status.DONE:
            makers = [one.attempt.agent for one in wp.attempts if one.attempt.role is Role.IMPLEMENT]
            agent = clean(makers[-1]) if makers else ""
            took = duration(wp.worked_s) if wp.worked_s else ""
            return f"{agent} {trouble(wp)}".strip(), "muted", took
        case Status.NEEDS_YOU if wp.situation.wp.review.rejected:
            return count(len(wp.situation.wp.review.rejected), "rejection"), "needs", ""
        case status:
            return note(wp.situation.why), spans.OF_STATUS[status], ""


class Roster:
    """The list of all work packages; of those that do not run it remembers the rows."""

    def __init__(self) -> None:
        self._made: tuple[object, ...] = ()
        self._shown: dict[Status, list[WpReport]] = {}
        self._rows: dict[str, Row] = {}
        self._columns = (0, 0, 0)

    def rows(
        self, report: Report, now: datetime, says: Mapping[str, str], wanted: Wanted, cells: int, height: int
    ) -> list[Row]:
        """Return the rows, the most important first.

        Args:
            report: of the run.
            now: the time, for what goes on.
            says: by id, what the agent of a running work package does.
            wanted: what is shown.
            cells: the width.
            height: the number of rows that can be seen: where they are scarce, `says` is left out and what
                is done is hidden.
        """
        if self._made != (report, wanted, cells):
            self._remember(report, now, wanted, cells)
        groups = self._shown
        size = sum(len(group) + 1 for group in groups.values() if group)
        done = wanted.done
        if done is None:
            alone = len(groups[Status.DONE]) == sum(map(len, groups.values()))
            done = size <= height or bool(wanted.text) or alone
        first = (Status.NEEDS_YOU, Status.CUT_OFF, Status.RUNNING)
        size = sum(len(groups[one]) + 1 for one in first if groups[one])
        told = says if size + len(says) <= height - LEAST_OTHERS else {}
        rows: list[Row] = []
        for status, group in groups.items():
            hidden = status is Status.DONE and not done
            if group:
                rows.append(Row(_heading(status, len(group), hidden)))
            if status is Status.RUNNING:
                for one in group:
                    rows.append(Row(_row(one, _what(one, now), self._columns), one.id))
                    if told.get(one.id):
                        line = (("   └ ", "faint"), (cut(told[one.id], cells - 6), "muted"))
                        rows.append(Row(line, one.id))
            elif not hidden:
                rows += [self._rows[one.id] for one in group]
        return rows

    def _remember(self, report: Report, now: datetime, wanted: Wanted, cells: int) -> None:
        shown = [one for one in report.wps if wanted.has(one)]
        what = [(one, _what(one, now)) for one in shown]
        self._columns = _columns(what, cells)
        self._shown = {one: [wp for wp in shown if wp.situation.status is one] for one in Status}
        self._rows = {one.id: Row(_row(one, told, self._columns), one.id) for one, told in what}
        self._made = (report, wanted, cells)


def _heading(status: Status, number: int, hidden: bool) -> Line:
    more = (("  z shows them", "faint"),) if hidden else ()
    return ((f" {status.upper()} ", f"{spans.OF_STATUS[status]} b"), (str(number), "muted"), *more)


def _columns(rows: Sequence[tuple[WpReport, tuple[str, str, str]]], cells: int) -> tuple[int, int, int]:
    """Return the width of ids, of titles, and of what stands behind them."""
    ids = max((len(one.id) for one, _ in rows), default=4)
    title = max((cell_len(clean(one.title)) for one, _ in rows), default=0)
    what = max((cell_len(told[0]) for _, told in rows), default=0)
    left = max(cells - ids - TIME_CELLS - 6, 10)
    title = min(title, max(left - what, left * 9 // 20))
    return ids, title, left - title


def _row(wp: WpReport, told: tuple[str, str, str], columns: tuple[int, int, int]) -> Line:
    ids, title_cells, what_cells = columns
    what, colour, took = told
    status = wp.situation.status
    quiet = "muted" if status in (Status.DONE, Status.LEFT_OUT) else "text"
    style = spans.OF_STATUS[status]
    return (
        (f" {status.glyph} ", f"{style} b"),
        (padded(wp.id, ids) + " ", "text b"),
        (padded(clean(wp.title), title_cells) + " ", quiet),
        (padded(what, what_cells), colour),
        (took.rjust(TIME_CELLS)[:TIME_CELLS], "muted"),
    )


def header(report: Report, now: datetime, used: Usage, trouble: str, cells: int, rows: int) -> list[Line]:
    """Return the state of the whole run in one or two rows; `used` is what it used."""
    took = report.took_s + (max(0.0, (now - report.now).total_seconds()) if report.active else 0.0)
    number = {status: len(report.of(status)) for status in Status}
    policy = report.state.policy
    parts = [(f" {cut(report.mission, max(12, cells // 5))}", "text b"), *_going_on(report, took)]
    parts.append((f"{number[Status.DONE]}/{len(report.wps)} done", "done"))
    if needy := number[Status.NEEDS_YOU]:
        parts.append((f"! {needy} need{'s' * (needy == 1)} you", "needs b"))
    if cut_off := number[Status.CUT_OFF]:
        parts.append((f"■ {cut_off} cut off", "needs"))
    if report.active:
        taken = policy.max_concurrent - report.state.free_slots
        parts.append((f"{taken}/{policy.max_concurrent} slots", "text"))
        for agent, rest in resting(report.state, now).items():
            left = duration(max(0.0, (rest.until - now).total_seconds()))
            parts.append((f"‖ {clean(agent)} {left}", "held"))
    parts += [(f"‖ {clean(one.agent)} paused", "held") for one in report.state.pauses if one.agent]
    if used.cost_usd is not None:
        parts.append((f"${used.cost_usd:.2f}", "text"))
    if in_all := used.tokens:
        parts.append((f"{tokens(in_all)} tokens", "muted"))
    line = spans.joined(parts, cells)
    if trouble:
        line = spans.clipped((parts[0], ("  ", "muted"), (clean(trouble), "needs b")), cells)
    return [line, _bar(number, cells)][:rows]


def _going_on(report: Report, took_s: float) -> Iterator[tuple[str, str]]:
    """Yield whether the run goes on or how it ended, and that a person has paused it."""
    pause = of_run(report.state.pauses)
    end = report.starts[-1] if report.starts else None
    if report.active and pause is None:
        yield f"running {duration(took_s)}", "implement"
    elif not report.active and end is not None:
        style = {None: "needs", 0: "done"}.get(end.exit_code, "muted")
        yield f"{end.outcome}, {duration(took_s)}", style
    elif not report.active:
        yield "not run", "muted"
    if pause is not None:
        # All clocks are in UTC here.
        yield f"‖ {clean(pause.told(this_user()).removesuffix(' UTC'))}", "held b"


def _bar(number: Mapping[Status, int], cells: int) -> Line:
    """Draw how many work packages stand how; each status has a glyph of its own."""
    order = (Status.DONE, Status.RUNNING, Status.NEEDS_YOU, Status.CUT_OFF, Status.HELD_UP)
    ordered = [*order, Status.WAITING, Status.LEFT_OUT]
    every, room = sum(number.values()), cells - 2
    line: list[tuple[str, str]] = [(" ", "muted")]
    drawn = passed = 0
    for status in ordered:
        passed += number[status]
        until = room * passed // every if every else 0
        line.append((_BAR[status] * (until - drawn), spans.OF_STATUS[status]))
        drawn = until
    return tuple(line)


_BAD = frozenset(
    {"gate_failed", "gate_broken", "commit_refused", "workspace_failed", "budget_spent", "parked"}
)


def tone(told: Told) -> str:
    """Return `done` for what settles something, `needs` for what went wrong, "" for the rest."""
    event = told.event
    if isinstance(event, events.AgentExited):
        # What an agent says is no sign: an approval can quote who asked for changes.
        good = event.verdict is None or event.verdict.ruling is Ruling.APPROVED
        return "" if good and event.report.outcome is Outcome.OK and not event.tampered else "needs"
    if isinstance(event, events.Recorded) and event.lane.complete:
        return "done"
    blocked = isinstance(event, events.Recorded) and event.lane is Lane.BLOCKED
    bad = blocked or told.kind in _BAD or told.level is Level.NEEDS_YOU
    return "needs" if bad else "done" if told.kind == "gates_passed" else ""


def told_line(told: Told, cells: int, *, named: bool = True) -> Line:
    """Return one row for something that happened."""
    colour = tone(told) or ("faint" if told.level is Level.DETAIL else "text")
    who = ((f"{told.wp_id or 'run':<4} ", "text b"),) if named else ()
    return spans.clipped(((f" {told.at:%H:%M:%S} ", "muted"), *who, (told.text, colour)), cells)


def news(report: Report, cells: int, height: int) -> list[Line]:
    """Return what happened last, without details."""
    found: list[Line] = []
    for told in reversed(report.lines):
        if len(found) >= height:
            break
        if told.level is not Level.DETAIL:
            found.append(told_line(told, cells))
    return found[::-1]


_KEYS = {
    Mode.LIST: (
        "↑↓ pick|↵ open|v verdict|d diff",
        "? help|q quit|t timeline|/ filter|e events|g graph|z done",
    ),
    Mode.FULL: ("Esc list|l log|e events|v verdict|d diff", "? help|q quit|↑↓ scroll"),
}
_BACK = "Esc back|↑↓ scroll|q quit"


def keys(mode: Mode, wanted: Wanted, orders: str, cells: int) -> Line:
    """Return the keys that matter, as many as fit, behind the filter if there is one.

    Those of `orders` stand among them where there is one to give them to.
    """
    line: list[spans.Span] = []
    if wanted.text:
        line.append((cut(f" filter: {clean(wanted.text)} ", cells // 3), "held b"))
    first, last = _KEYS.get(mode, ("", ""))
    shown = "|".join(filter(None, (first, orders, last))) if first else _BACK
    for one in shown.split("|"):
        key, _, what = one.partition(" ")
        more = [(f" {key}", "text b"), (f" {what} ", "muted")]
        if spans.width((*line, *more)) > cells:
            break
        line += more
    return tuple(line)
