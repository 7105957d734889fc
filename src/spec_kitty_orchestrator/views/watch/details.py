"""One work package as lines: why it needs a person, its log in words, its events, verdicts and changes."""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from rich.cells import cell_len

from spec_kitty_orchestrator.agents.steps import Step, StepKind
from spec_kitty_orchestrator.core.advice import next_commands
from spec_kitty_orchestrator.core.describe import (
    LONGEST_QUOTE,
    LONGEST_REASON,
    clean,
    count,
    duration,
    note,
    short,
    spent,
    tokens,
)
from spec_kitty_orchestrator.core.levels import Level
from spec_kitty_orchestrator.core.model import Role
from spec_kitty_orchestrator.core.plain_text import plain
from spec_kitty_orchestrator.core.report import AttemptRecord, Report, Told, WpReport
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.core.verdict import Finding, Ruling, Verdict
from spec_kitty_orchestrator.views.watch import spans
from spec_kitty_orchestrator.views.watch.overview import activity, told_line, tone
from spec_kitty_orchestrator.views.watch.source import StepLog
from spec_kitty_orchestrator.views.watch.spans import Line, labelled

__all__ = ["TABS", "card", "changes", "events", "farewell", "head", "story", "verdicts"]

TABS = ("log", "events", "verdict", "diff")

_QUIET = frozenset({StepKind.THINKS, StepKind.ENDS})
_DIFF = (
    ("+++", "text b"),
    ("---", "text b"),
    ("+", "done"),
    ("-", "needs"),
    ("@@", "gate"),
    ("diff ", "text b"),
)


def head(wp: WpReport, tab: str, cells: int, rows: int) -> list[Line]:
    """Return what stands above a pane: one row, or three."""
    situation, style = wp.situation, spans.OF_STATUS[wp.situation.status]
    title = ((f" {situation.status.glyph} {wp.id} ", f"{style} b"), (clean(wp.title), "text b"))
    doing = _doing(wp)
    if rows < 3:
        line = spans.clipped((*title, ("  ", "muted"), (doing, "muted")), cells - 1)
        return [line][:rows]
    facts = []
    if situation.wp.dependencies:
        facts.append(f"needs {', '.join(situation.wp.dependencies)}")
    if situation.holds_up:
        facts.append(f"holds up {', '.join(situation.holds_up)}")
    if wp.attempts:
        facts.append(count(len(wp.attempts), "attempt"))
    if back := sum(one.bad == "rejected" for one in wp.attempts):
        facts.append(f"{back} rejected")
    if used := spent(wp.usage):
        facts.append(used)
    if wp.committed is not None and wp.committed.base != wp.committed.head:
        facts.append(f"{short(wp.committed.base)[:7]}..{short(wp.committed.head)[:7]}")
    tabs = [(f" {one} ", "text b chosen" if one == tab else "muted") for one in TABS]
    return [
        spans.clipped(title, cells - 1),
        spans.clipped(((" " + " · ".join(facts), "muted"),), cells - 1),
        spans.clipped(((" ", "muted"), *_between(tabs), ("  " + doing, "muted")), cells - 1),
    ]


def _between(parts: Sequence[spans.Span]) -> list[spans.Span]:
    return [one for part in parts for one in (part, (" ", "muted"))]


def _doing(wp: WpReport) -> str:
    if wp.situation.status is Status.RUNNING:
        return activity(wp)[0]
    if wp.situation.status in (Status.WAITING, Status.HELD_UP):
        return note(wp.situation.why)
    return _attempt(wp.attempts[-1]) if wp.attempts else ""


def _attempt(record: AttemptRecord) -> str:
    what = "rework" if record.rework else str(record.attempt.role)
    return f"{what} by {clean(record.attempt.agent)}, attempt {record.attempt.number}"


def card(wp: WpReport, report: Report, cells: int) -> list[Line]:
    """Say why a work package needs a person and how it goes on; nothing for others."""
    command = next_commands(report).get(wp.id, "")
    if not command:
        return []
    lines: list[Line] = []
    asked = [one.verdict for one in wp.attempts if one.bad == "rejected" and one.verdict]
    findings = asked[-1].findings if asked else ()
    if wp.situation.why:
        why = note(wp.situation.why, LONGEST_QUOTE if findings else LONGEST_REASON)
        lines += labelled((" why", "muted"), why, "needs b", cells, 8)
    lines += labelled((" next", "muted"), command, "text", cells, 8)
    for finding in findings:
        lines += labelled((" asked", "muted"), _finding(finding), "held", cells, 8)
    red = [one for one in wp.gates if not one.result.ok]
    if red and wp.gates[-1] is red[-1]:
        lines += labelled((" gate", "muted"), f"{clean(red[-1].result.name)} is red", "needs", cells, 8)
        lines += _tail(red[-1].tail, cells)
    return [*lines, ()]


def _tail(text: str, cells: int, most: int = 8) -> list[Line]:
    rows = [one for one in plain(text).splitlines() if one.strip()][-most:]
    return [spans.clipped(((" " * 8, "muted"), (clean(one), "muted")), cells) for one in rows]


def _finding(one: Finding) -> str:
    severity = f"[{one.severity}] " if one.severity else ""
    place = f"{one.place} " if one.place else ""
    return clean(f"{severity}{place}{one.message}", LONGEST_REASON)


@lru_cache(maxsize=20_000)
def step_lines(step: Step, cells: int) -> tuple[Line, ...]:
    """Return the rows of what an agent did."""
    if step.kind is StepKind.ENDS:
        used = f" ({tokens(step.tokens)} tokens)" if step.tokens else ""
        style = "needs" if step.ok is False else "muted"
        return tuple(labelled((" ", "muted"), f"{step.text}{used}", style, cells, 8))
    style = "needs" if step.kind is StepKind.FAILS else "muted" if step.kind in _QUIET else "text"
    return tuple(labelled((f" {step.kind}", "muted"), step.text, style, cells, 8))


def story(wp: WpReport, told: Iterable[Told], logs: Sequence[StepLog | None], cells: int) -> list[Line]:
    """Tell the log of a work package in words.

    Args:
        wp: the work package.
        told: what happened to it, oldest first.
        logs: of its attempts; None for one that is not read yet, which stands before all that are.
        cells: the width.
    """
    between = _by_attempt(wp, told)
    lines: list[Line] = [line for one in between[0] for line in _result(one, None, cells)]
    skipped = sum(log is None for log in logs)
    known = logs[skipped] if skipped < len(logs) else None
    if skipped or (known is not None and not known.whole):
        above = f"{count(skipped, 'earlier attempt')} " if skipped else "earlier output "
        lines = [((f" ↑ {above}above: scroll up (b) for more", "faint"),)]
    for number, (record, log) in enumerate(zip(wp.attempts, logs, strict=True), start=1):
        if log is None:
            continue
        lines.append(_rule(record, cells))
        for step in log.steps:
            lines += step_lines(step, cells)
        for one in between[number]:
            lines += _result(one, record, cells)
    return lines or [((" nothing is known of it yet", "muted"),)]


def _by_attempt(wp: WpReport, told: Iterable[Told]) -> list[list[Told]]:
    """Return what happened before the first attempt, and from the begin of each to that of the next."""
    found: list[list[Told]] = [[]]
    for one in told:
        if one.kind == "attempt_opened":
            if len(found) <= len(wp.attempts):
                found.append([])
        elif one.level is not Level.DETAIL:
            found[-1].append(one)
    return found + [[] for _ in range(len(wp.attempts) + 1 - len(found))]


def _rule(record: AttemptRecord, cells: int) -> Line:
    title = f" ── {record.began_at:%H:%M:%S} {_attempt(record)} "
    style = "review" if record.attempt.role is Role.REVIEW else "implement"
    return ((spans.cut(title, cells - 2) + "─" * max(cells - 2 - cell_len(title), 0), style),)


def _result(told: Told, record: AttemptRecord | None, cells: int) -> list[Line]:
    style = tone(told) or ("done" if told.kind == "agent_exited" else "muted")
    mark = {"done": "✓", "needs": "✕"}.get(style, "·")
    lines = labelled((f" {mark}", style), told.text, style, cells, 8)
    verdict = record.verdict if record is not None and told.kind == "agent_exited" else None
    for finding in verdict.findings if verdict is not None else ():
        lines += labelled((" ", "muted"), _finding(finding), "held", cells, 8)
    return lines


def events(wp: WpReport, told: Iterable[Told], cells: int) -> list[Line]:
    """Return every event of a work package, with its details."""
    lines = [told_line(one, cells, named=False) for one in told]
    return lines or [((f" nothing happened to {wp.id} yet", "muted"),)]


def verdicts(wp: WpReport, cells: int) -> list[Line]:
    """Return what reviewers and gates said, the last first."""
    lines: list[Line] = []
    for record in reversed(wp.attempts):
        if record.verdict is not None:
            lines += [*_verdict(record, record.verdict, cells), ()]
    for gate in reversed(wp.gates):
        word, style = ("green", "done") if gate.result.ok else ("red", "needs")
        took = duration(gate.result.seconds)
        text = f"gate {clean(gate.result.name)} is {word} on {short(gate.result.head)} after {took}"
        lines.append(spans.clipped(((f" {gate.at:%H:%M:%S} ", "muted"), (text, style)), cells))
        lines += _tail(gate.tail, cells)
    return lines or [((" no reviewer and no gate has said anything yet", "muted"),)]


def _verdict(record: AttemptRecord, verdict: Verdict, cells: int) -> list[Line]:
    says, style = {
        Ruling.APPROVED: ("approves", "done"),
        Ruling.CHANGES_REQUESTED: ("asks for changes of", "needs"),
        Ruling.UNUSABLE: ("gave no usable verdict on", "held"),
    }[verdict.ruling]
    at = record.ended_at or record.began_at
    text = f"{clean(record.attempt.agent)} {says} {short(verdict.head)}, attempt {record.attempt.number}"
    lines: list[Line] = [spans.clipped(((f" {at:%H:%M:%S} ", "muted"), (text, f"{style} b")), cells)]
    if record.tampered:
        void = f"does not count, it changed {', '.join(record.tampered)}"
        lines += labelled((" void", "muted"), clean(void, LONGEST_REASON), "needs", cells, 8)
    if verdict.summary:
        lines += labelled((" says", "muted"), clean(verdict.summary, LONGEST_REASON), "text", cells, 8)
    for finding in verdict.findings:
        lines += labelled((" asks", "muted"), _finding(finding), "held", cells, 8)
    return lines


def changes(diff: str, cells: int) -> list[Line]:
    """Return the rows of a diff, cut at the width."""
    lines = []
    for row in plain(diff).splitlines():
        style = next((style for mark, style in _DIFF if row.startswith(mark)), "muted")
        lines.append(spans.clipped(((" ", style), (row.expandtabs(4), style)), cells))
    return lines or [((" no commit of it changes anything yet", "muted"),)]


def farewell(report: Report, tails: dict[str, Sequence[str]]) -> list[Line]:
    """Return what stays in the terminal: the run in a sentence, and whoever needs a person, with what failed.

    Args:
        report: of the run.
        tails: by id, the last lines of what failed.
    """
    lines: list[Line] = [((f"{report.mission}: {report.headline}", "text b"),)]
    commands = next_commands(report)
    for wp in report.wps:
        command = commands.get(wp.id, "")
        if not command or wp.id not in tails:
            continue
        why = note(wp.situation.why, LONGEST_REASON) or str(wp.situation.status)
        lines.append(((f"{wp.situation.status.glyph} {wp.id} {clean(wp.title)}: {why}", "needs"),))
        lines += [((f"    {clean(one)}", "muted"),) for one in tails[wp.id]]
        lines.append(((f"    next: {command}", "text"),))
    return lines
