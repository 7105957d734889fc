"""What became of each work package in a report, attempt by attempt."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath

from spec_kitty_orchestrator.core import advice, statistics
from spec_kitty_orchestrator.core.describe import count, duration, last_line, short
from spec_kitty_orchestrator.core.model import Role
from spec_kitty_orchestrator.core.report import AttemptRecord, GateRecord, Report, Told, WpReport
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.core.verdict import Verdict
from spec_kitty_orchestrator.views.report.texts import Texts

__all__ = ["details"]

MOST_ROWS = 60
MOST_LINES = 200
FEW_LINES = 40
"""Of a work package where there are many."""
LONG, SHORT = 400, 140

Links = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Row:
    """One attempt or gate; `more` tells whether findings or a tail follow."""

    at: datetime
    number: str
    what: str
    who: str
    took: str
    told: str
    bad: bool
    tokens: str = ""
    cost: str = ""
    links: Links = ()
    verdict: Verdict | None = None
    tail: str = ""
    limit: int = LONG

    @property
    def more(self) -> bool:
        """Whether something is told below it."""
        return bool(self.tail or (self.verdict is not None and self.verdict.findings))


@dataclass(frozen=True)
class Detail:
    """All about one work package; `left_out` counts attempts that are not among its rows."""

    wp: WpReport
    open: bool
    summed: str
    needs: tuple[str, ...]
    needed_by: tuple[str, ...]
    branch: str
    commits: str
    stat: str
    why: str
    rows: tuple[Row, ...]
    brief: bool
    left_out: int
    lines: tuple[Told, ...]


def details(wps: Sequence[WpReport], report: Report, texts: Texts, *, many: bool) -> list[Detail]:
    """Return what is told of each; where there are many, less of those that are done."""
    lines: dict[str, list[Told]] = defaultdict(list)
    for one in report.lines:
        lines[one.wp_id].append(one)
    needed_by: dict[str, list[str]] = defaultdict(list)
    for wp in wps:
        for need in wp.situation.wp.dependencies:
            needed_by[need].append(wp.id)
    return [
        _detail(wp, tuple(needed_by[wp.id]), lines[wp.id], texts, many=many, active=report.active)
        for wp in wps
    ]


def _detail(
    wp: WpReport, needed_by: tuple[str, ...], lines: Sequence[Told], texts: Texts, *, many: bool, active: bool
) -> Detail:
    done = wp.situation.status in (Status.DONE, Status.HELD_UP, Status.WAITING)
    brief = many and done
    rows = [_attempt(one, texts, brief=brief, active=active) for one in wp.attempts]
    rows += [_gate(one, texts, brief=brief) for one in wp.gates if not (many and one.result.ok)]
    rows.sort(key=lambda one: one.at)
    most = 0 if brief else FEW_LINES if many else MOST_LINES
    work, found = wp.situation.wp, wp.committed
    changed = found is not None and found.base != found.head
    return Detail(
        wp,
        open=wp.situation.status is Status.NEEDS_YOU and not many,
        summed=_summed(wp),
        needs=work.dependencies,
        needed_by=() if many else needed_by,
        branch="" if many or work.workspace is None else work.workspace.branch or "",
        commits=f"{short(found.base)}..{short(found.head)}" if found is not None and changed else "",
        stat=last_line(found.stat).strip() if found is not None else "",
        why=advice.reason(wp),
        rows=tuple(rows[-MOST_ROWS:]),
        brief=brief,
        left_out=max(0, len(rows) - MOST_ROWS),
        lines=tuple(lines[-most:]) if most else (),
    )


def _summed(wp: WpReport) -> str:
    parts = [str(wp.situation.status)]
    if wp.attempts:
        parts.append(count(len(wp.attempts), "attempt"))
    if wp.usage.cost_usd is not None:
        parts.append(f"${wp.usage.cost_usd:.2f}")
    return ", ".join(parts)


def _attempt(one: AttemptRecord, texts: Texts, *, brief: bool, active: bool) -> Row:
    role = "rework" if one.rework else str(one.attempt.role)
    used = one.usage.tokens
    return Row(
        one.began_at,
        str(one.attempt.number),
        role,
        f"{one.attempt.agent} on {one.machine}" if one.machine else one.attempt.agent,
        duration(one.took_s) if one.outcome is not None else "runs" if active else "cut off",
        one.came_to(active=active),
        bool(one.bad),
        f"{used / 1000:.0f}k" if used >= 1000 else str(used or ""),
        statistics.told_cost(one.usage, one.outcome is not None and one.usage.cost_usd is None),
        () if brief and not one.bad else _links(one, texts, brief=brief),
        one.verdict if one.bad == "rejected" and not brief else None,
        limit=SHORT if brief else LONG,
    )


def _links(one: AttemptRecord, texts: Texts, *, brief: bool) -> Links:
    directory = PurePath(one.attempt.directory)
    if not texts.link(str(directory)):
        return ()
    names = {"prompt": "prompt.md", "output": "stdout.log", "errors": "stderr.log"}
    if one.attempt.role is Role.REVIEW:
        names["review"] = "review.md"
    if brief:
        names = {"output": "stdout.log"}
    return tuple((name, texts.link(str(directory / file))) for name, file in names.items())


def _gate(one: GateRecord, texts: Texts, *, brief: bool) -> Row:
    result = one.result
    link = texts.link(str(PurePath(result.log) / "stdout.log")) if result.log else ""
    return Row(
        one.at,
        "",
        "gate",
        result.name,
        duration(result.seconds),
        f"{'✓ green' if result.ok else '✕ red'} on {short(result.head)}",
        not result.ok,
        links=(("output", link),) if link else (),
        tail="" if brief else one.tail,
        limit=SHORT,
    )
