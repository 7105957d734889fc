"""The status of a mission for people: what needs them first, then what runs, waits and is done."""

import os
from collections.abc import Iterator
from typing import Final

from spec_kitty_orchestrator.core.conflicts import advice
from spec_kitty_orchestrator.core.describe import (
    LONGEST_REASON,
    count,
    describe,
    duration,
    last_line,
    note,
    short,
    spent,
    totals,
)
from spec_kitty_orchestrator.core.model import Lane, Phase, Role
from spec_kitty_orchestrator.core.report import (
    AGENTS_TIME,
    AttemptRecord,
    GateRecord,
    SpanKind,
    WpReport,
    when,
)
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.core.verdict import Ruling
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.machine.user import this_user
from spec_kitty_orchestrator.views.screen import Part, Row, shortened
from spec_kitty_orchestrator.views.status import MissionStatus, gate_log

__all__ = ["STYLES", "mission_rows", "told", "wp_rows"]

MOST_DONE = 8
"""Work packages that are done are told one by one; more are named in one row."""

STYLES: Final = {
    Status.NEEDS_YOU: "red",
    Status.CUT_OFF: "yellow",
    Status.RUNNING: "cyan",
    Status.WAITING: "",
    Status.HELD_UP: "yellow",
    Status.LEFT_OUT: "dim",
    Status.DONE: "green",
}

STEPS: Final = {
    Phase.CLAIMING: "is claimed on the host",
    Phase.IMPLEMENTING: "its agent begins",
    Phase.COMMITTING: "its work is committed",
    Phase.GATING: "its gates run",
    Phase.SUBMITTING: "is handed over for review",
    Phase.CLAIMING_REVIEW: "its review is claimed on the host",
    Phase.REVIEWING: "its reviewer begins",
    Phase.RECORDING: "its verdict is recorded on the host",
    Phase.PARKING: "is left to you on the host",
}
"""What goes on in a phase while no agent and no gate is at work."""


def mission_rows(found: MissionStatus, width: int) -> Iterator[Row]:
    """Tell the whole mission."""
    report = found.report
    yield Row((("Mission ", ""), (report.mission, "bold"), (": ", "")), _run(found), indent=2)
    if report.wps:
        yield Row(text=f"{report.headline}.", style="bold")
    for text in _trouble(found):
        yield Row(text=text, style="yellow", indent=2)
    for pause in report.state.pauses:
        head = ((f"{pause.sentence(this_user())}; to go on: ", "yellow"),)
        yield Row(head, found.ends(pause), copied=True)
    yield Row()
    yield from _table(found, width)
    yield from _causes(found)
    for agent, one in found.resting.items():
        told = one.told if found.report.active else one.told_afterwards
        yield Row(text=f"{agent} is paused: {told}", indent=2)
    for text in advice(report.state.conflicts, report.state.wps.values(), report.mission):
        yield Row(text=text, indent=2, copied=text.startswith(" "))
    yield Row()
    wps = report.state.wps.values()
    if any(one.attempts for one in wps) or report.state.spent_before.cost_usd:
        yield Row(text=totals(wps, report.state.spent_before), indent=2)
    if not found.asked and not found.report.active and report.state.now is not None:
        yield Row(text=f"Lanes as of {when(report.state.now)}; --host asks spec-kitty for those of now.")
    if report.state.handed_over is not None:
        yield Row(text=f"The run was {describe(report.state.handed_over)}.", style="yellow", indent=2)
        yield Row((("Unless it was, take it back: ", ""),), found.goes_on, copied=True)
    elif found.goes_on:
        yield Row((("To go on: ", ""),), found.goes_on, copied=True)
    elif not found.report.active and report.wps and not report.state.conflicts:
        merged, command = report.state.finalized.merged, found.merge
        told = "It is merged" if merged else "Approved or done is not merged"
        yield Row(((f"{told}: " if command else f"{told} and accepted.", ""),), command, copied=True)


def _run(found: MissionStatus) -> str:
    report, start, owner = found.report, found.start, found.owner
    if owner is not None:
        most, free = report.state.policy.max_concurrent, report.state.free_slots
        since = f"for {duration((report.now - owner.started_at).total_seconds())}"
        slots = f"{most - free} of {most} slots taken"
        place = f" on {owner.host}" if owner.host != os.uname().nodename else ""
        return f"a run is active {since}, {slots}, process {owner.pid}{place}"
    return f"no run is active; the last one {start.told_end}" if start else "it was not run here yet"


def _trouble(found: MissionStatus) -> Iterator[str]:
    """Yield what keeps the whole of an active run."""
    state = found.report.state
    if not found.report.active:
        return
    if state.failure is not None:
        yield f"The run ends, because something is broken: {state.failure.message}"
    elif state.ending is not None:
        yield f"The run ends: {state.ending.reason}"
    elif state.signals:
        yield "The run ends: it was told to stop" + (", agents may end before" if state.draining else "")
    if state.short_of:
        yield f"Nothing new starts: {state.short_of}"


def _table(found: MissionStatus, width: int) -> Iterator[Row]:
    wps = list(found.report.wps)
    done = found.report.of(Status.DONE)
    named = done if len(done) > MOST_DONE else []
    shown = [one for one in wps if one not in named]
    longest = max((len(one.title) for one in shown), default=0)
    room = min(longest, width // 3)
    ids = max((len(one.id) for one in shown), default=4)
    for one in shown:
        yield from _work_package(found, one, ids, room)
    if named:
        head = ((f"{Status.DONE.glyph} ", "green"), (f"{len(named)} done  ", "green"))
        yield Row(head, ", ".join(sorted(one.id for one in named)), indent=2)


def _work_package(found: MissionStatus, one: WpReport, ids: int, room: int) -> Iterator[Row]:
    style = STYLES[one.situation.status]
    head: list[Part] = [(f"{one.situation.status.glyph} ", style), (f"{one.id:{ids}}  ", "bold")]
    if room:
        head.append((f"{shortened(one.title, room):{room}}  ", ""))
    indent = sum(len(text) for text, _ in head)
    shade = style if one.situation.status in (Status.NEEDS_YOU, Status.LEFT_OUT) else ""
    yield Row(head, told(found, one), shade, indent)
    step = found.steps.get(one.id)
    if step is not None:
        yield Row(((" " * (ids + 4), ""),), f"{step.kind} {step.text}", "dim", cut=True)
    if one.situation.status is Status.NEEDS_YOU and one.situation.holds_up:
        named = ", ".join(one.situation.holds_up)
        yield Row(((" " * (ids + 4), ""),), f"holds up {named}", indent=ids + 4)
    for command in found.commands(one):
        yield Row(((" " * (ids + 4), ""), ("$ ", "dim")), command, copied=True)


def told(found: MissionStatus, one: WpReport, *, costs: bool = True) -> str:
    """Say what a work package does, waits for, or came to."""
    situation, wp = one.situation, one.situation.wp
    why = note(situation.why, LONGEST_REASON)
    cost = spent(one.usage) if costs else ""
    match situation.status:
        case Status.NEEDS_YOU:
            cause = next((name for name, wps in found.shared.items() if one.id in wps), "")
            return f"needs you: cause {cause}, below" if cause else f"needs you: {why or wp.lane}"
        case Status.RUNNING:
            return ", ".join(filter(None, (_doing(found, one), cost)))
        case Status.CUT_OFF:
            return f"cut off: {_doing(found, one)}"
        case Status.WAITING:
            until = f", until {wp.turn.until:%H:%M:%S} UTC" if wp.turn.until and found.report.active else ""
            idle = "its turn comes" if found.report.active else "nothing runs"
            return (why or f"{wp.lane}, {idle}") + until
        case Status.HELD_UP:
            return f"held up: {why}"
        case Status.LEFT_OUT:
            return why if wp.lane is Lane.CANCELED else f"left out: {why}" if why else "left out"
        case Status.DONE:
            attempts = count(len(one.attempts), "attempt") if one.attempts else ""
            took = duration(one.worked_s) if one.worked_s else ""
            return ", ".join(filter(None, (wp.lane, attempts, took, cost)))


def _doing(found: MissionStatus, one: WpReport) -> str:
    """Say what goes on, for how long, and how long that usually takes."""
    wp, span = one.situation.wp, one.spans[-1] if one.spans else None
    active = found.report.active
    if span is None or (active and span.ended_at is not None):
        return _working(found, wp) or STEPS.get(wp.phase, "begins")
    passed = duration(span.seconds(found.report.now)) if active else ""
    if span.kind in AGENTS_TIME and wp.open_attempt is not None:
        usual_s = found.usual_s(wp.open_attempt)
        usual = f"{passed} of usually {duration(usual_s)}" if usual_s and passed else passed
        return ", ".join(filter(None, (_working(found, wp), usual)))
    if span.kind in (SpanKind.GATE, SpanKind.SETUP):
        what = f"gate {span.what}" if span.kind is SpanKind.GATE else span.what
        return ", ".join(filter(None, (f"{what} runs", passed)))
    return STEPS.get(wp.phase, "begins")


def _working(found: MissionStatus, wp: WorkPackage) -> str:
    """Say which attempt runs, "" if none does."""
    attempt, place = wp.open_attempt, found.round_of(wp)
    if attempt is None or place is None:
        return ""
    where = f", {told}" if (told := found.places.get(wp.id)) else ""
    if attempt.role is Role.REVIEW:
        return f"{attempt.agent} reviews, round {place[0]} of {place[1]}{where}"
    does = "reworks" if wp.work.feedback else "implements"
    return f"{attempt.agent} {does}, attempt {place[0]} of {place[1]}{where}"


def _causes(found: MissionStatus) -> Iterator[Row]:
    """Tell once what several have in common."""
    wps = found.report.state.wps
    for name, ids in found.shared.items():
        reason = note(found.note(wps[ids[0]]), LONGEST_REASON)
        yield Row(text=f"{name} ({', '.join(ids)}): {reason}", style="red", indent=2)


def wp_rows(found: MissionStatus, one: WpReport) -> Iterator[Row]:
    """Tell all of one work package."""
    wp, situation = one.situation.wp, one.situation
    style = STYLES[situation.status]
    yield Row(((f"{situation.status.glyph} ", style), (f"{one.id}  ", "bold")), one.title, "bold", indent=2)
    words = note(situation.why, LONGEST_REASON) if situation.status is Status.NEEDS_YOU else told(found, one)
    yield Row(text=f"{situation.status}: {words}" if words else situation.status, style=style, indent=2)
    step = found.steps.get(one.id)
    if step is not None:
        yield Row((("  ", ""),), f"{step.kind} {step.text}", "dim", indent=2)
    facts = {
        "lane": f"{wp.lane} on the host, {wp.phase} here",
        "needs": ", ".join(wp.dependencies),
        "holds up": ", ".join(situation.holds_up),
        "branch": wp.workspace.branch if wp.workspace else "",
        "worktree": wp.workspace.path if wp.workspace else "",
        "took": duration(one.worked_s) if one.worked_s else "",
        "used": spent(one.usage),
        "gate log": gate_log(wp),
    }
    for name, value in facts.items():
        if value:
            yield Row(((f"{name:9} ", "dim"),), value, indent=10)
    for attempt in one.attempts:
        yield from _attempt(found, attempt)
    for gate in one.gates[-MOST_GATES:]:
        yield from _gate(gate)
    if one.committed is not None and one.committed.stat:
        yield Row()
        yield Row(text=f"Changed up to {short(one.committed.head)}", style="bold")
        for line in one.committed.stat.splitlines():
            yield Row((("  ", ""),), line, cut=True)
        for text in (*(f"not committed: {left}" for left in one.committed.left_out), *one.committed.notes):
            yield Row((("  ", ""),), text, indent=4)
    for ref in wp.rescued.refs:
        yield Row((("saved work: ", ""),), f"git show {ref}", copied=True)
    commands = [*found.commands(one)[1:], found.logs(one), found.goes_on]
    yield Row()
    for command in filter(None, commands):
        yield Row((("$ ", "dim"),), command, copied=True)


MOST_GATES = 6
MOST_TAIL_LINES = 12


def _attempt(found: MissionStatus, one: AttemptRecord) -> Iterator[Row]:
    open_ = one.outcome is None
    took = duration((found.report.now - one.began_at).total_seconds() if open_ else one.took_s)
    kind = "rework" if one.rework else one.attempt.role
    style = "red" if one.bad else "cyan" if open_ else "green"
    where = f"on {one.machine}" if one.machine else ""
    used = ", ".join(filter(None, (one.attempt.agent, where, took, spent(one.usage))))
    yield Row()
    head: list[Part] = [(f"{one.attempt.number:>2} ", "bold"), (f"{kind}  ", style)]
    yield Row(head, f"{used}: {one.came_to(active=found.report.active)}", indent=3)
    if one.verdict is not None and one.verdict.ruling is not Ruling.APPROVED:
        for finding in one.verdict.findings:
            told = filter(None, (finding.severity, finding.place, finding.message))
            yield Row((("   - ", ""),), ": ".join(told), indent=5)


def _gate(one: GateRecord) -> Iterator[Row]:
    result = one.result
    words = "passed" if result.ok else "is red"
    text = f"{words} on {short(result.head)} after {duration(result.seconds)}"
    yield Row((("gate ", ""), (f"{result.name} ", "green" if result.ok else "red")), text, indent=5)
    lines = [line for line in one.tail.splitlines() if last_line(line)]
    for line in lines[-MOST_TAIL_LINES:]:
        yield Row((("     ", ""),), line, "dim", cut=True)
    if not result.ok and result.log:
        yield Row((("     ", ""),), f"logs: {result.log}", "dim", indent=5)
