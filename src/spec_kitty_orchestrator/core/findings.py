"""What is still open on work packages: what reviewers want changed, and gates that are red."""

import re
from collections.abc import Iterator
from enum import StrEnum

from spec_kitty_orchestrator.core.records import dataclass
from spec_kitty_orchestrator.core.report import Report, WpReport
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.core.verdict import Finding, Ruling, Verdict

__all__ = ["Open", "Severity", "last_verdict", "red_gates", "still_open"]


class Severity(StrEnum):
    """How bad it is, the worst first."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


_WORDS = {
    Severity.ERROR: ("critical", "blocker", "blocking", "severe", "high", "major", "error"),
    Severity.WARNING: ("medium", "moderate", "minor", "warning", "low"),
    Severity.NOTE: ("nit", "nitpick", "info", "note", "style", "suggestion", "trivial"),
}
_KNOWN = {word: level for level, words in _WORDS.items() for word in words}
_RANKS = {one: place for place, one in enumerate(Severity)}

_SETTLED = (Status.DONE, Status.LEFT_OUT)
"""Whatever was wanted of these, a reviewer or a person has decided otherwise since."""

_TRACED = re.compile(
    r'File "(?P<file>[^"\n]+)", line (?P<line>\d+)'
    r"|^\s*(?:E\s+)?(?P<path>[\w./@+-]*\w\.\w+):(?P<number>\d+)(?::\d+)?:",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Open:
    """One thing that is open.

    Attributes:
        wp: its work package.
        severity: at most a warning where a reviewer approved all the same.
        finding: what is wanted, and where; of a red gate the place that its output named last.
        by: the reviewer, or the gate.
        head: the commit that was looked at.
        tail: the end of a red gate's output; "" of a reviewer's finding.
        gate: whether it is a red gate.
    """

    wp: WpReport
    severity: Severity
    finding: Finding
    by: str
    head: str
    tail: str = ""
    gate: bool = False


def still_open(report: Report) -> tuple[Open, ...]:
    """Return what is open, the worst first, then by the importance of its work package."""
    found = [one for wp in report.wps for one in (*_gates(wp), *_findings(wp))]
    return tuple(sorted(found, key=lambda one: _RANKS[one.severity]))


def last_verdict(wp: WpReport) -> Verdict | None:
    """Return what was said last of a work package in a review that counts, None if nothing was."""
    rulings = (Ruling.APPROVED, Ruling.CHANGES_REQUESTED)
    found = (one.verdict for one in reversed(wp.attempts) if not one.tampered)
    return next((one for one in found if one is not None and one.ruling in rulings), None)


def red_gates(wp: WpReport) -> list[Open]:
    """Return the gates that failed when they ran last."""
    return list(_gates(wp))


def _gates(wp: WpReport) -> Iterator[Open]:
    if wp.situation.status in _SETTLED:
        return
    for one in {gate.result.name: gate for gate in wp.gates}.values():
        if not one.result.ok:
            told = Finding("", f"gate {one.result.name} is red", *_traced(one.tail))
            yield Open(wp, Severity.ERROR, told, one.result.name, one.result.head, one.tail, gate=True)


def _traced(tail: str) -> tuple[str, int]:
    found = list(_TRACED.finditer(tail))
    if not found:
        return "", 0
    last = found[-1]
    return last["file"] or last["path"], int((last["line"] or last["number"])[:9])


def _findings(wp: WpReport) -> Iterator[Open]:
    verdict = last_verdict(wp)
    if verdict is None:
        return
    stops = verdict.ruling is Ruling.CHANGES_REQUESTED
    if stops and wp.situation.status in _SETTLED:
        return
    for one in verdict.findings:
        level = _KNOWN.get(one.severity.strip().lower(), Severity.ERROR if stops else Severity.NOTE)
        if not stops and level is Severity.ERROR:
            level = Severity.WARNING
        yield Open(wp, level, one, verdict.reviewer, verdict.head)
