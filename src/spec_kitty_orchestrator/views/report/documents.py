"""A report for programs: one JSON document, a row of CSV per attempt, and a trace with a row per slot.

The document's `schema` grows by one when something in it changes its meaning or goes; more keys may come.
"""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from spec_kitty_orchestrator.core import advice, statistics
from spec_kitty_orchestrator.core.report import AttemptRecord, Report, Span, WpReport
from spec_kitty_orchestrator.views.report.texts import Texts

__all__ = ["document", "rows", "trace"]

SCHEMA = 1

COLUMNS = (
    *("mission", "wp", "title", "attempt", "role", "rework", "agent", "model", "began_at", "ended_at"),
    *("took_s", "outcome", "verdict", "findings", "input_tokens", "output_tokens", "cost_usd", "exit_code"),
    *("head", "came_to", "logs"),
)

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def document(report: Report, texts: Texts) -> str:
    """Return it as one JSON document."""
    return (
        json.dumps(_document(report, texts), indent=1, default=datetime.isoformat, ensure_ascii=False) + "\n"
    )


def _document(report: Report, texts: Texts) -> Mapping[str, Any]:
    return {
        "schema": SCHEMA,
        "mission": report.mission,
        "as_of": report.now,
        "active": report.active,
        "headline": texts.line(report.headline),
        "took_s": round(report.took_s, 3),
        "used": asdict(report.state.told),
        "used_before": asdict(report.state.spent_before),
        "starts": [
            {
                "number": one.number,
                "at": one.at,
                "ended_at": one.ended_at,
                "exit_code": one.exit_code,
                "version": one.version,
                "summary": texts.line(one.summary),
            }
            for one in report.starts
        ],
        "work_packages": [_work_package(one, report, texts) for one in report.wps],
        "needs": [
            {
                "cause": one.name or None,
                "work_packages": [wp.id for wp in one.wps],
                "reason": texts.note(one.reason),
                "commands": [command for _, command in one.steps],
            }
            for one in advice.needs(report)
        ],
        "next": [command for _, command in advice.go_on(report)],
        "longest_chain": {
            "work_packages": report.chain,
            "seconds": _rounded(statistics.chain_shares(report)),
            "told": statistics.chain_told(report),
        },
        "agents": [
            {
                "agent": one.agent,
                "role": one.role,
                "attempts": len(one.attempts),
                "work_packages": one.wps,
                "worked_s": round(sum(one.times), 3),
                "median_s": round(one.median_s, 3),
                "used": asdict(one.usage),
                "costs_unknown": one.costs_unknown,
            }
            for one in statistics.workers(report)
        ],
        "rests": [{**asdict(one), "reason": texts.line(one.reason)} for one in report.rests],
        "seconds": _rounded(statistics.time_spent(report)),
        "steps": [
            {
                "step": one.name,
                "count": len(one.times),
                "median_s": round(one.median_s, 3),
                "longest_s": round(max(one.times), 3),
                "in_all_s": round(one.in_all_s, 3),
            }
            for one in statistics.steps(report)
        ],
        "slots": [{"at": at, "taken": taken} for at, taken in report.slots],
    }


def _rounded(shares: Mapping[statistics.Share, float]) -> Mapping[str, float]:
    return {str(kind): round(seconds, 3) for kind, seconds in shares.items()}


def _work_package(wp: WpReport, report: Report, texts: Texts) -> Mapping[str, Any]:
    work, situation = wp.situation.wp, wp.situation
    return {
        "id": wp.id,
        "title": texts.line(wp.title),
        "status": situation.status,
        "lane": work.lane,
        "phase": work.phase,
        "why": texts.note(situation.why),
        "dependencies": work.dependencies,
        "held_by": situation.held_by,
        "holds_up": situation.holds_up,
        "worked_s": round(wp.worked_s, 3),
        "used": asdict(wp.usage),
        "branch": work.workspace.branch if work.workspace is not None else None,
        "base": wp.committed.base if wp.committed is not None else None,
        "head": wp.committed.head if wp.committed is not None else None,
        "approved": statistics.approved_by(wp) or None,
        "attempts": [_attempt(one, texts) for one in wp.attempts],
        "gates": [
            {
                "at": one.at,
                "gate": one.result.name,
                "head": one.result.head,
                "ok": one.result.ok,
                "seconds": round(one.result.seconds, 3),
                "tail": texts.block(one.tail),
                "logs": _below(one.result.log, texts),
            }
            for one in wp.gates
        ],
        "spans": [_span(one, report, texts) for one in wp.spans],
    }


def _span(one: Span, report: Report, texts: Texts) -> Mapping[str, Any]:
    return {
        "kind": one.kind,
        "began_at": one.began_at,
        "seconds": round(one.seconds(report.now), 3),
        "what": texts.line(one.what),
        "waits_for": one.waits_for,
        "attempt": one.attempt or None,
        "bad": one.bad or None,
    }


def _attempt(one: AttemptRecord, texts: Texts) -> Mapping[str, Any]:
    verdict = None
    if one.verdict is not None:
        findings = [
            {
                "severity": texts.line(each.severity, 40),
                "file": texts.line(each.file),
                "line": each.line or None,
                "message": texts.line(each.message, 4000),
            }
            for each in one.verdict.findings
        ]
        verdict = {
            "ruling": one.verdict.ruling,
            "head": one.verdict.head,
            "summary": texts.line(one.verdict.summary, 4000),
            "findings": findings,
        }
    return {
        "id": one.attempt.id,
        "number": one.attempt.number,
        "role": one.attempt.role,
        "rework": one.rework,
        "agent": one.attempt.agent,
        "model": one.attempt.model or None,
        "why": texts.line(one.why),
        "began_at": one.began_at,
        "ended_at": one.ended_at,
        "took_s": round(one.took_s, 3),
        "outcome": one.outcome,
        "bad": one.bad or None,
        "detail": texts.line(one.detail),
        "exit_code": one.exit_code,
        "machine": texts.line(one.machine) or None,
        "used": asdict(one.usage),
        "verdict": verdict,
        "tampered": [texts.line(each) for each in one.tampered],
        "logs": _below(one.attempt.directory, texts),
    }


def _below(directory: str, texts: Texts) -> str | None:
    return texts.path(directory) or None


def rows(report: Report, texts: Texts) -> str:
    """Return a row of CSV for each attempt, in the order in which they began, below the names of columns."""
    titles = {one.id: one.title for one in report.wps}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in report.attempts:
        used, verdict = one.usage, one.verdict
        values = (
            *(report.mission, one.wp_id, titles.get(one.wp_id, ""), one.attempt.number, one.attempt.role),
            *(one.rework, one.attempt.agent, one.attempt.model, one.began_at, one.ended_at),
            *(round(one.took_s, 3), one.outcome, verdict.ruling if verdict is not None else ""),
            len(verdict.findings) if verdict is not None else "",
            *(used.input_tokens, used.output_tokens, used.cost_usd, one.exit_code, one.attempt.head),
            *(one.came_to(active=report.active), texts.path(one.attempt.directory)),
        )
        writer.writerow([_cell(value, texts) for value in values])
    return text.getvalue()


def _cell(value: object, texts: Texts) -> object:
    """Return a value as a cell that no program takes for a formula."""
    if isinstance(value, datetime):
        return value.isoformat()
    if not isinstance(value, str):
        return value
    told = texts.line(value)
    return f"'{told}" if told.startswith(_FORMULA) else told


def trace(report: Report, texts: Texts) -> str:
    """Return it in the Trace Event format, which Perfetto and the tools of browsers show."""
    begun = report.starts[0].at if report.starts else report.now
    events: list[Mapping[str, Any]] = [
        _name("process_name", 1, 0, "slots"),
        _name("process_name", 2, 0, "waits"),
    ]

    def piece(span: Span, pid: int, tid: int, name: str, category: str) -> Mapping[str, Any]:
        since_us = round((span.began_at - begun).total_seconds() * 1e6)
        told = {"what": texts.line(span.what), "bad": span.bad, "attempt": span.attempt}
        length = {"ph": "X", "ts": since_us, "dur": max(1, round(span.seconds(report.now) * 1e6))}
        return {"name": name, "cat": category, "pid": pid, "tid": tid, **length, "args": told}

    places = _places(report)
    for tid in sorted({place for place, _, _ in places}):
        beside = tid > report.state.policy.max_concurrent
        events.append(_name("thread_name", 1, tid, "beside the slots" if beside else f"slot {tid}"))
    for place, wp, span in places:
        name = f"{texts.line(wp.id, 60)} {span.kind}" + (f" {span.attempt}" if span.attempt else "")
        events.append(piece(span, 1, place, name, span.kind))
    for number, wp in enumerate(sorted(report.wps, key=lambda one: one.id), start=1):
        events.append(_name("thread_name", 2, number, texts.line(wp.id, 60)))
        waits = [one for one in wp.spans if one.waits_for is not None]
        events += [piece(one, 2, number, str(one.waits_for), "wait") for one in waits]
    other = {"mission": report.mission, "began_at": begun.isoformat()}
    return json.dumps({"displayTimeUnit": "ms", "otherData": other, "traceEvents": events}) + "\n"


def _name(kind: str, pid: int, tid: int, name: str) -> Mapping[str, Any]:
    return {"name": kind, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}


def _places(report: Report) -> list[tuple[int, WpReport, Span]]:
    """Give each stretch of work of a work package the first row that is free for all of it."""
    stretches: list[tuple[datetime, datetime, WpReport, list[Span]]] = []
    for wp in report.wps:
        stretch: list[Span] = []
        for span in wp.spans:
            if span.waits_for is None:
                stretch.append(span)
            elif stretch:
                stretches.append(_stretch(wp, stretch, report))
                stretch = []
        if stretch:
            stretches.append(_stretch(wp, stretch, report))
    free: list[datetime] = []
    found = []
    for begin, end, wp, spans in sorted(stretches, key=lambda one: (one[0], one[2].id)):
        place = next((at for at, until in enumerate(free) if until <= begin), len(free))
        free[place : place + 1] = [end]
        found += [(place + 1, wp, span) for span in spans]
    return found


def _stretch(
    wp: WpReport, spans: list[Span], report: Report
) -> tuple[datetime, datetime, WpReport, list[Span]]:
    return spans[0].began_at, max(one.ended_at or report.now for one in spans), wp, spans
