"""What needs a person over all missions of a repository, with evidence and the commands to answer with."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from spec_kitty_orchestrator.core.advice import Need, needs, reason, resume, why_ended
from spec_kitty_orchestrator.core.describe import LONGEST_REASON, count, last_line, note
from spec_kitty_orchestrator.core.records import dataclass
from spec_kitty_orchestrator.core.report import GateRecord, Report, WpReport
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.core.verdict import Finding, Verdict
from spec_kitty_orchestrator.views.screen import Part, Row

__all__ = ["Inbox", "Item", "evidence", "items", "ordered", "rows"]

MOST_FINDINGS = 3
MOST_TAIL_LINES = 4
"""Of what a reviewer or a gate said; the log has the rest."""


@dataclass(frozen=True)
class Item:
    """One thing that a person is to do in a mission.

    Attributes:
        wps: that have the same reason, the most important first.
        reason: why.
        holds_up: ids of those that cannot go on before it is done.
        actions: what to do, each with the command for it.
    """

    mission: str
    wps: tuple[WpReport, ...]
    reason: str
    holds_up: tuple[str, ...]
    actions: tuple[tuple[str, str], ...]

    @property
    def rejection(self) -> Verdict | None:
        """What its last reviewer asks for, if that is what needs a person."""
        return _rejection(self._one) if self._one is not None else None

    @property
    def red_gate(self) -> GateRecord | None:
        """The gate that failed last, if none passed after it."""
        return _red_gate(self._one) if self._one is not None else None

    @property
    def log(self) -> str:
        """The folder with what its last agent or gate said, "" if none was at work."""
        if self.red_gate is not None and self.red_gate.result.log:
            return self.red_gate.result.log
        attempts = self.wps[0].attempts if self.wps else ()
        return attempts[-1].attempt.directory if attempts else ""

    @property
    def worktree(self) -> str:
        """Where the work is, "" if that is unknown or in several places."""
        wp = self._one.situation.wp if self._one is not None else None
        return wp.workspace.path if wp is not None and wp.workspace is not None and wp.work.base else ""

    @property
    def _one(self) -> WpReport | None:
        return self.wps[0] if len(self.wps) == 1 else None

    @property
    def document(self) -> Mapping[str, object]:
        """Return it as a JSON object."""
        verdict, gate = self.rejection, self.red_gate
        asked = {
            "reviewer": verdict.reviewer if verdict is not None else None,
            "summary": verdict.summary if verdict is not None else None,
            "findings": [_finding(one) for one in verdict.findings] if verdict is not None else [],
        }
        return {
            "mission": self.mission,
            "work_packages": [{"id": one.id, "title": one.title} for one in self.wps],
            "reason": self.reason,
            "holds_up": self.holds_up,
            "rejection": asked if verdict is not None else None,
            "red_gate": {"name": gate.result.name, "tail": gate.tail} if gate is not None else None,
            "log": self.log or None,
            "worktree": self.worktree or None,
            "actions": [{"what": what, "command": command} for what, command in self.actions],
        }


@dataclass(frozen=True)
class Inbox:
    """All of them, those first that hold up most.

    Attributes:
        missions: that have a journal here.
        unreadable: those whose journal cannot be read, each with the reason.
    """

    items: tuple[Item, ...]
    missions: tuple[str, ...]
    unreadable: Mapping[str, str]

    @property
    def exit_code(self) -> int:
        """Return 1 if anything needs a person, else 0."""
        return 1 if self.items or self.unreadable else 0

    @cached_property
    def line(self) -> str:
        """Say it in one line."""
        if not self.items:
            runs = count(len(self.missions), "mission")
            told = f"Nothing needs you ({runs} looked at)" if self.missions else "No mission was run here yet"
            return f"{told}{self._broken}"
        named = list(dict.fromkeys(one.mission for one in self.items))
        needs_you = f"{count(len(self.items), 'thing')} {'needs' if len(self.items) == 1 else 'need'} you"
        return f"{needs_you} in {', '.join(named)}{self._broken}"

    @property
    def _broken(self) -> str:
        return f"; cannot be read: {', '.join(self.unreadable)}" if self.unreadable else ""

    @property
    def document(self) -> Mapping[str, object]:
        """Return it as a JSON object."""
        return {
            "exit_code": self.exit_code,
            "items": [one.document for one in self.items],
            "missions": self.missions,
            "unreadable": self.unreadable,
        }


def items(report: Report) -> list[Item]:
    """Return what needs a person in one mission; whoever it was handed over to sees to it there."""
    if report.state.handed_over is not None:
        return []
    found = [_item(need, report) for need in needs(report)]
    going = resume(report)
    left = [one.id for status in (Status.CUT_OFF, Status.WAITING) for one in report.of(status)]
    if going and left and report.starts and not report.starts[-1].aborted:
        why = why_ended(report) or f"nothing runs: the last run {report.starts[-1].told_end}"
        found.append(Item(report.mission, (), why, tuple(left), (("Go on", going),)))
    return found


def _item(need: Need, report: Report) -> Item:
    held = dict.fromkeys(one for wp in need.wps for one in wp.situation.holds_up)
    why = reason(need.wps[0]) if len(need.wps) == 1 else need.reason
    return Item(report.mission, need.wps, why, tuple(held), need.steps)


def ordered(found: Iterable[Item]) -> tuple[Item, ...]:
    """Return items with those first that hold up most; else in the order in which they came."""
    return tuple(sorted(found, key=lambda one: -len(one.holds_up)))


def rows(inbox: Inbox) -> Iterator[Row]:
    """Tell all of it."""
    yield Row(text=inbox.line, style="bold" if inbox.items else "")
    for mission, why in inbox.unreadable.items():
        yield Row(((f"{mission}: ", "red"),), why, indent=2)
    for one in inbox.items:
        yield Row()
        yield from _rows(one)


def _rows(item: Item) -> Iterator[Row]:
    ids = ", ".join(one.id for one in item.wps) or item.mission
    titles = item.wps[0].title if len(item.wps) == 1 else ""
    head: list[Part] = [(f"{Status.NEEDS_YOU.glyph} ", "red"), (f"{ids}  ", "bold")]
    yield Row(head, "  ".join(filter(None, (titles, f"in {item.mission}" if item.wps else ""))), indent=4)
    yield Row((("  ", ""),), note(item.reason, LONGEST_REASON), "red", indent=2)
    if len(item.wps) == 1:
        yield from evidence(item.wps[0])
    facts = {"holds up": ", ".join(item.holds_up), "log": item.log, "worktree": item.worktree}
    for name, value in facts.items():
        if value:
            yield Row(((f"  {name:9} ", "dim"),), value, indent=12, copied=name != "holds up")
    yield from _actions(item.actions)


def evidence(wp: WpReport) -> Iterator[Row]:
    """Tell what its last reviewer asks for, and the end of what the gate said that failed last."""
    verdict, gate = _rejection(wp), _red_gate(wp)
    findings = verdict.findings if verdict is not None else ()
    for finding in findings[:MOST_FINDINGS]:
        yield Row((("  - ", ""),), _finding(finding), indent=4)
    if len(findings) > MOST_FINDINGS:
        yield Row((("    ", ""),), f"and {len(findings) - MOST_FINDINGS} more in the log", "dim")
    if gate is not None:
        yield Row((("  gate ", ""),), f"{gate.result.name} is red", indent=4)
        lines = [line for line in gate.tail.splitlines() if last_line(line)]
        for line in lines[-MOST_TAIL_LINES:]:
            yield Row((("    ", ""),), line, "dim", cut=True)
    for ref in wp.situation.wp.rescued.refs:
        yield Row((("  saved work: ", ""),), f"git show {ref}", copied=True)


def _rejection(wp: WpReport) -> Verdict | None:
    last = wp.attempts[-1] if wp.attempts else None
    return last.verdict if last is not None and last.bad == "rejected" else None


def _red_gate(wp: WpReport) -> GateRecord | None:
    return wp.gates[-1] if wp.gates and not wp.gates[-1].result.ok else None


def _actions(actions: Sequence[tuple[str, str]]) -> Iterator[Row]:
    for number, (what, command) in enumerate(actions, 1):
        yield Row(((f"  {number} ", "bold"),), what, indent=4)
        yield Row((("    $ ", "dim"),), command, copied=True)


def _finding(one: Finding) -> str:
    severity = f"[{one.severity}] " if one.severity else ""
    place = f"{one.place}: " if one.place else ""
    return f"{severity}{place}{one.message}"
