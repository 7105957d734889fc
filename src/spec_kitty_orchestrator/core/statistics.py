"""Figures of a report: what each agent did, where the time went and what made it long."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from statistics import median

from spec_kitty_orchestrator.core.describe import (
    count,
    duration,
)
from spec_kitty_orchestrator.core.model import Outcome, Role, Usage, WaitsFor, total
from spec_kitty_orchestrator.core.report import AttemptRecord, Report, Span, SpanKind, WpReport
from spec_kitty_orchestrator.core.verdict import Ruling

__all__ = [
    "SHARES",
    "Share",
    "Worker",
    "approved_by",
    "chain_shares",
    "chain_told",
    "mishaps",
    "steps",
    "time_spent",
    "told_cost",
    "workers",
]

MATTERS_FROM = 0.02
"""A share of the time below this is not worth a word."""


@dataclass(frozen=True)
class Worker:
    """What one agent did in one role; `attempts` are oldest first."""

    agent: str
    role: Role
    attempts: tuple[AttemptRecord, ...]

    @cached_property
    def times(self) -> tuple[float, ...]:
        """How long each attempt took that ended, in seconds."""
        return tuple(one.took_s for one in self.attempts if one.outcome is not None)

    @property
    def median_s(self) -> float:
        """What is usual, in seconds."""
        return median(self.times) if self.times else 0.0

    @property
    def wps(self) -> int:
        """On how many work packages it worked."""
        return len({one.wp_id for one in self.attempts})

    @property
    def usage(self) -> Usage:
        """What all of it used, as far as it was told."""
        return total(one.usage for one in self.attempts)

    @property
    def costs_unknown(self) -> int:
        """How many attempts ended without telling what they cost."""
        return sum(one.outcome is not None and one.usage.cost_usd is None for one in self.attempts)

    @property
    def results(self) -> str:
        """Say how the attempts ended: ``10 approved, 6 rejected, 1 rate limited``."""
        good = "approved" if self.role is Role.REVIEW else "finished"
        ends = Counter(
            "running" if one.outcome is None else (one.bad or good).replace("_", " ") for one in self.attempts
        )
        return ", ".join(f"{number} {end}" for end, number in ends.most_common())


def workers(report: Report) -> tuple[Worker, ...]:
    """Return what each agent did, by role, whoever worked longest first."""
    found: dict[tuple[Role, str], list[AttemptRecord]] = defaultdict(list)
    for one in report.attempts:
        found[one.attempt.role, one.attempt.agent].append(one)
    each = (Worker(agent, role, tuple(attempts)) for (role, agent), attempts in found.items())
    return tuple(sorted(each, key=lambda one: (list(Role).index(one.role), -sum(one.times), one.agent)))


@dataclass(frozen=True)
class Step:
    """How often a step of the host or git was made, and how long it took, in seconds."""

    name: str
    times: tuple[float, ...]

    @property
    def in_all_s(self) -> float:
        """How long all of them took."""
        return sum(self.times)

    @property
    def median_s(self) -> float:
        """What is usual."""
        return median(self.times)


def steps(report: Report) -> tuple[Step, ...]:
    """Return the steps of the host and git, those that took longest in all first."""
    found: dict[str, list[float]] = defaultdict(list)
    for wp in report.wps:
        for span in wp.spans:
            if span.kind is SpanKind.HOST:
                found[span.what].append(span.seconds(report.now))
    each = [Step(name, tuple(times)) for name, times in found.items()]
    return tuple(sorted(each, key=lambda one: -one.in_all_s))


Share = SpanKind | WaitsFor
"""What time went to; a wait is told by what it was for."""


def shares(spans: Sequence[Span], now: datetime, since: datetime | None = None) -> dict[Share, float]:
    """Add up the seconds that spans took from `since` on, by what they went to."""
    found: dict[Share, float] = defaultdict(float)
    for span in spans:
        end = span.ended_at or now
        begin = max(span.began_at, since) if since is not None else span.began_at
        if end > begin:
            found[span.waits_for or span.kind] += (end - begin).total_seconds()
    return dict(found)


def time_spent(report: Report) -> dict[Share, float]:
    """Return what the time of all work packages went to, in seconds; several run at once."""
    found: dict[Share, float] = defaultdict(float)
    for wp in report.wps:
        for kind, seconds in shares(wp.spans, report.now).items():
            found[kind] += seconds
    return dict(found)


def chain_shares(report: Report) -> dict[Share, float]:
    """Return what the time of the longest chain went to: of each, from the end of the one before it."""
    known = {one.id: one for one in report.wps}
    found: dict[Share, float] = defaultdict(float)
    since: datetime | None = None
    for wp_id in report.chain:
        spans = known[wp_id].spans
        own = [one for one in spans if one.waits_for is not WaitsFor.DEPENDENCY]
        for kind, seconds in shares(own, report.now, since).items():
            found[kind] += seconds
        since = max((one.ended_at or report.now for one in spans), default=since)
    return dict(found)


SHARES: Mapping[Share, str] = {
    SpanKind.IMPLEMENT: "implementing",
    SpanKind.REWORK: "rework",
    SpanKind.REVIEW: "reviewing",
    SpanKind.GATE: "gates",
    SpanKind.SETUP: "setup",
    SpanKind.HOST: "host and git",
    WaitsFor.DEPENDENCY: "waiting for another work package",
    WaitsFor.SLOT: "waiting for a slot",
    WaitsFor.WORKSPACE: "waiting for a worktree",
    WaitsFor.AGENT: "waiting for an agent's limit",
    WaitsFor.QUOTA: "waiting for a quota",
    WaitsFor.BUDGET: "waiting for the budget",
    WaitsFor.MACHINE: "waiting for the machine",
    WaitsFor.BACK_OFF: "waiting before another try",
    WaitsFor.PAUSE: "paused",
    WaitsFor.RUN: "waiting for the run",
}
"""What time goes to, for people, in the order in which it is told."""


def chain_told(report: Report) -> str:
    """Say what the longest chain's time went to, and whether more slots would have helped; "" of none."""
    spent = chain_shares(report)
    in_all = sum(spent.values())
    if not report.chain or not in_all:
        return ""
    parts = [
        f"{name} {spent[kind] / in_all:.0%}"
        for kind, name in SHARES.items()
        if spent.get(kind, 0.0) >= MATTERS_FROM * in_all
    ]
    return f"{duration(in_all)}: {', '.join(parts)}. {_about_slots(report, spent, in_all)}"


def _about_slots(report: Report, spent: Mapping[Share, float], in_all: float) -> str:
    waited = spent.get(WaitsFor.SLOT, 0.0)
    slots = report.state.policy.max_concurrent
    if waited >= MATTERS_FROM * in_all:
        told = "its only slot" if slots == 1 else f"one of the {slots} slots"
        return f"It waited {duration(waited)} for {told}; more slots would have saved at most that."
    most = max((taken for _, taken in report.slots), default=0)
    used = f"; at most {most} of {count(slots, 'slot')} were in use" if most < slots else ""
    return f"More slots would not have made it shorter{used}."


def approved_by(wp: WpReport) -> str:
    """Say who approved a work package that is done, and which commit; "" where we know of no approval."""
    verdict = wp.situation.wp.review.verdict
    if not wp.situation.wp.lane.complete or verdict is None or verdict.ruling is not Ruling.APPROVED:
        return ""
    return f"{verdict.reviewer} {verdict.head[:10]}"


def told_cost(usage: Usage, unknown: int) -> str:
    """Write a cost; of `unknown` attempts nobody told any."""
    if usage.cost_usd is None:
        return "unknown" if unknown else "–"  # noqa: RUF001 - a dash that stands for nothing
    return f"${usage.cost_usd:.2f}" + " or more" * bool(unknown)


def mishaps(wp: WpReport) -> tuple[int, int, int]:
    """Return how many attempts were rejected, how many failed, and how many gates were red."""
    rejected = sum(one.bad == "rejected" for one in wp.attempts)
    failed = sum(bool(one.bad) and one.bad not in ("rejected", Outcome.CANCELED) for one in wp.attempts)
    return rejected, failed, sum(not one.result.ok for one in wp.gates)
