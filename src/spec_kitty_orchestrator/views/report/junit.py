"""A report as JUnit XML, for whatever shows test reports: a mission is a suite, a work package a test case.

The order of its elements is that of the schema of Jenkins' xUnit plug-in, which other readers accept, too.
"""

import re
from collections.abc import Iterator

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from spec_kitty_orchestrator.core import advice, statistics
from spec_kitty_orchestrator.core.describe import short
from spec_kitty_orchestrator.core.findings import last_verdict, red_gates
from spec_kitty_orchestrator.core.plain_text import ended
from spec_kitty_orchestrator.core.report import Report, WpReport
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.core.verdict import Ruling
from spec_kitty_orchestrator.views.report.texts import Texts
from spec_kitty_orchestrator.views.report.words import outcome

__all__ = ["junit"]

LONGEST_OUTPUT = 8000
"""Characters of what is told of the attempts of one work package."""

LONGEST_TAIL = 4000

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: Report, texts: Texts) -> str:
    """Return the report as one suite, whose time is that of the runs."""
    suite = TestSuite(_xml(texts.line(report.mission)))
    for name, value in _properties(report, texts):
        suite.add_property(name, _xml(value))
    following = advice.next_commands(report)
    for wp in sorted(report.wps, key=lambda one: one.id):
        suite.add_testcase(_case(report, wp, following.get(wp.id, ""), texts))
    suite.update_statistics()  # type: ignore[no-untyped-call]
    if report.starts:
        suite.timestamp = report.starts[0].at.isoformat(timespec="seconds")
    whole = JUnitXml("spec-kitty-orchestrator")
    whole.add_testsuite(suite)
    whole.tests, whole.failures, whole.errors = suite.tests, suite.failures, suite.errors
    # The schema knows three decimals.
    suite.time = whole.time = round(report.took_s, 3)
    text: bytes = whole.tostring()  # type: ignore[no-untyped-call]
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text.decode()}\n'


def _xml(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)


def _properties(report: Report, texts: Texts) -> Iterator[tuple[str, str]]:
    """Yield those of the mission, then those of its work packages: a test case has none in the schema."""
    told, more = outcome(report)
    used = report.state.told
    unknown = sum(one.costs_unknown for one in statistics.workers(report))
    yield "outcome", f"{told} ({more})" if more else told
    yield "headline", texts.line(report.headline)
    yield "attempts", str(len(report.attempts))
    yield "tokens", str(used.tokens)
    yield "cost", statistics.told_cost(used, unknown)
    for wp in sorted(report.wps, key=lambda one: one.id):
        name = _xml(texts.line(wp.id, 60))
        yield f"{name}.state", str(wp.situation.status)
        yield f"{name}.lane", str(wp.situation.wp.lane)
        yield f"{name}.attempts", str(len(wp.attempts))
        if approved := statistics.approved_by(wp):
            yield f"{name}.approved_by", texts.line(approved)


def _case(report: Report, wp: WpReport, command: str, texts: Texts) -> TestCase:
    title = f"{wp.id}: {wp.title}" if wp.title else wp.id
    case = TestCase(_xml(texts.line(title)), _xml(texts.line(report.mission)), round(wp.worked_s, 3))
    if (result := _result(report, wp, texts)) is not None:
        result.text = _xml(
            "\n".join((*_wanted(wp, texts), *([texts.line(command, 1000)] if command else [])))
        )
        case.result = [result]
    told = [
        texts.note(
            f"{one.attempt.number} {one.attempt.role} by {one.attempt.agent}: {one.came_to(active=False)}"
        )
        for one in wp.attempts
    ]
    if told:
        lines = "\n".join(told)
        case.system_out = _xml(ended(lines, LONGEST_OUTPUT))
    return case


def _result(report: Report, wp: WpReport, texts: Texts) -> Failure | Error | Skipped | None:
    status = wp.situation.status
    if status is Status.DONE:
        return None
    why = _xml(f"{status}: {texts.note(reason)}" if (reason := advice.reason(wp)) else str(status))
    if status is Status.CUT_OFF and report.state.failure is not None:
        return Error(why, "broken")
    if status is not Status.NEEDS_YOU:
        return Skipped(why, str(status))
    last = wp.attempts[-1] if wp.attempts else None
    if red_gates(wp):
        return Failure(why, "red gate")
    if last is not None and last.bad and last.bad != "rejected":
        return Error(why, last.bad)
    if wp.spans and wp.spans[-1].bad in ("broken", "failed"):
        return Error(why, "broken")
    verdict = last_verdict(wp)
    rejected = verdict is not None and verdict.ruling is Ruling.CHANGES_REQUESTED
    return Failure(why, "rejected" if rejected else "blocked")


def _wanted(wp: WpReport, texts: Texts) -> Iterator[str]:
    for gate in red_gates(wp):
        yield f"gate {texts.line(gate.by)} is red on {short(gate.head)}"
        yield texts.block(gate.tail, LONGEST_TAIL).rstrip()
    verdict = last_verdict(wp)
    for one in verdict.findings if verdict is not None else ():
        told = (
            f"[{one.severity}]" if one.severity else "",
            f"{one.place}:" if one.place else "",
            one.message,
        )
        yield texts.line(" ".join(filter(None, told)), 1000)
