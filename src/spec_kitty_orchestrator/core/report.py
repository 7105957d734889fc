"""What a mission's runs were: attempts, spans of time, waits, rests, costs and the longest chain.

The one source of every view; `core.recorder` makes it from the lines of a journal. Times are those of the
machine that wrote them.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from spec_kitty_orchestrator.core.describe import count, describe, short
from spec_kitty_orchestrator.core.levels import Level, level_of
from spec_kitty_orchestrator.core.model import (
    Attempt,
    Evidence,
    GateResult,
    Outcome,
    Usage,
    WaitsFor,
    total,
)
from spec_kitty_orchestrator.core.records import dataclass, field
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import AnyEvent
from spec_kitty_orchestrator.core.situation import Situation, Status
from spec_kitty_orchestrator.core.verdict import Ruling, Verdict
from spec_kitty_orchestrator.core.work_package import WorkPackage

__all__ = [
    "AGENTS_TIME",
    "AttemptRecord",
    "GateRecord",
    "Report",
    "RestRecord",
    "Span",
    "SpanKind",
    "StartRecord",
    "Told",
    "WpReport",
    "longest_chain",
    "told_end",
    "when",
]


class SpanKind(StrEnum):
    """What a work package's time went to."""

    IMPLEMENT = "implement"
    REWORK = "rework"
    REVIEW = "review"
    GATE = "gate"
    SETUP = "setup"
    HOST = "host"
    WAIT = "wait"


AGENTS_TIME = frozenset({SpanKind.IMPLEMENT, SpanKind.REWORK, SpanKind.REVIEW})
"""Spans in which an agent works."""


@dataclass(frozen=True)
class Span:
    """A span of a work package's time.

    Attributes:
        ended_at: None while it goes on.
        what: an agent, a gate, a step of the host's or git's, or what is waited for.
        waits_for: of a wait.
        attempt: the number of the attempt, 0 if it is none.
        bad: how it ended badly, "" if it did not: `rejected`, `red`, or an outcome.
    """

    kind: SpanKind
    began_at: datetime
    ended_at: datetime | None
    what: str
    waits_for: WaitsFor | None = None
    attempt: int = 0
    bad: str = ""

    def same(self, other: "Span") -> bool:
        """Tell whether both are the same wait."""
        return self.kind is other.kind is SpanKind.WAIT and self.what == other.what

    def seconds(self, now: datetime) -> float:
        """Return how long it took, or has taken until now."""
        return max(0.0, ((self.ended_at or now) - self.began_at).total_seconds())


@dataclass(frozen=True)
class AttemptRecord:
    """What one attempt was.

    Attributes:
        wp_id: its work package.
        attempt: as it was opened.
        rework: whether it mends what was asked for before.
        why: why there was another attempt, and by this agent; "" for the first of its role.
        ended_at: None while it runs.
        took_s: how long it took, in seconds; 0 while it runs.
        outcome: None while it runs.
        usage: what it used; of a session that went on, this attempt's part.
        detail: the CLI's own words on a failure.
        exit_code: of the process, None if unknown.
        machine: of a cluster, on which it ran; "" for the one that the run is on, and while it runs.
        verdict: a review's, as it was read.
        tampered: what a review changed, which makes it void.
    """

    wp_id: str
    attempt: Attempt
    began_at: datetime
    rework: bool = False
    why: str = ""
    ended_at: datetime | None = None
    took_s: float = 0.0
    outcome: Outcome | None = None
    usage: Usage = field(default_factory=Usage)
    detail: str = ""
    exit_code: int | None = None
    machine: str = ""
    verdict: Verdict | None = None
    tampered: tuple[str, ...] = ()

    @property
    def bad(self) -> str:
        """How it ended badly, "" if it did not, or not yet."""
        if self.outcome is None:
            return ""
        if self.outcome is not Outcome.OK:
            return self.outcome
        if self.tampered:
            return "void"
        ruling = self.verdict.ruling if self.verdict is not None else Ruling.APPROVED
        return {Ruling.CHANGES_REQUESTED: "rejected", Ruling.UNUSABLE: "unusable"}.get(ruling, "")

    def came_to(self, *, active: bool) -> str:
        """Say in one line what it came to; `active` is whether the run goes on."""
        return self._end(active=active) + (f" ({self.why})" if self.why else "")

    def _end(self, *, active: bool) -> str:
        verdict = self.verdict
        if self.outcome is None:
            return "runs" if active else "■ cut off"
        if self.outcome is not Outcome.OK:
            said = f": {self.detail}" if self.detail else ""
            return f"✕ {self.outcome.replace('_', ' ')}{said}"
        if self.tampered:
            return f"✕ does not count: {', '.join(self.tampered)}"
        if verdict is None:
            return "finished"
        if verdict.ruling is Ruling.APPROVED:
            return f"approved {short(verdict.head)}"
        if verdict.ruling is Ruling.UNUSABLE:
            return f"✕ no usable verdict: {verdict.summary}"
        return f"↩ asks for changes: {verdict.summary or count(len(verdict.findings), 'finding')}"


@dataclass(frozen=True)
class GateRecord:
    """What one gate said of one commit; `tail` is the end of its output where it failed."""

    at: datetime
    result: GateResult
    tail: str = ""


@dataclass(frozen=True)
class Told:
    """One line of what happened; `wp` is its work package after that, None for an event of the run."""

    at: datetime
    wp_id: str
    event: AnyEvent
    wp: WorkPackage | None = None
    took_s: float = 0.0
    seq: int = 0

    @property
    def kind(self) -> str:
        """The kind of the event."""
        return self.event.kind

    @property
    def level(self) -> Level:
        """Who wants to read it."""
        return level_of(self.event)

    @cached_property
    def text(self) -> str:
        """The line: made when it is read, as most are not."""
        return describe(self.event, self.wp, self.took_s)


@dataclass(frozen=True)
class StartRecord:
    """One start of the run; `ended_at` is None if it was cut off or goes on; an abort has no `exit_code`."""

    number: int
    at: datetime
    version: str
    settings: Mapping[str, object]
    ended_at: datetime | None = None
    exit_code: int | None = None
    summary: str = ""
    last_at: datetime | None = None
    aborted: bool = False

    @property
    def outcome(self) -> str:
        """How one that goes on no more ended, in a word or two."""
        if self.aborted:
            return "aborted"
        return "cut off" if self.exit_code is None else f"exit {self.exit_code}"

    @property
    def told_end(self) -> str:
        """The same in a sentence, whose subject is the run."""
        return told_end(self.ended_at, self.exit_code, self.summary)


def told_end(ended_at: datetime | None, exit_code: int | None, summary: str) -> str:
    """Say how a start ended that goes on no more, as `StartRecord` has it."""
    if ended_at is None:
        return "was cut off"
    if exit_code is None:
        return f"was aborted {when(ended_at)}"
    return f"ended {when(ended_at)} with exit code {exit_code}: {summary}"


def when(moment: datetime) -> str:
    """Write a time for people."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True)
class RestRecord:
    """A time in which an agent began nothing; `ended_at` is when it was to be back, or worked again."""

    agent: str
    began_at: datetime
    ended_at: datetime
    reason: str


@dataclass(frozen=True)
class WpReport:
    """What became of one work package.

    Attributes:
        situation: where it stands.
        title: "" if unknown.
        spans: its time, oldest first.
        attempts: oldest first.
        gates: the gates that ended, oldest first.
        committed: its commits as they were last, None before the first.
        worked_s: seconds in which it went on, waits left out.
    """

    situation: Situation
    title: str
    spans: tuple[Span, ...]
    attempts: tuple[AttemptRecord, ...]
    gates: tuple[GateRecord, ...]
    committed: Evidence | None
    worked_s: float

    @property
    def id(self) -> str:
        """Its id."""
        return self.situation.wp.id

    @property
    def usage(self) -> Usage:
        """What its attempts used."""
        return total(one.usage for one in self.attempts)


@dataclass(frozen=True)
class Report:
    """What a mission's runs were, up to `now`.

    Attributes:
        mission: its slug.
        now: the moment that it is told of; of a run that is over, its last event.
        active: whether the run goes on.
        wps: the most important first.
        starts: of the run, oldest first.
        rests: of agents.
        slots: how many slots were taken from each moment on.
        chain: the ids of the longest chain, first to last: each began when the one before it was done.
        lines: what happened, oldest first.
        state: the run's last.
        took_s: seconds in which a run went on.
    """

    mission: str
    now: datetime
    active: bool
    wps: tuple[WpReport, ...]
    starts: tuple[StartRecord, ...]
    rests: tuple[RestRecord, ...]
    slots: tuple[tuple[datetime, int], ...]
    chain: tuple[str, ...]
    lines: tuple[Told, ...]
    state: RunState
    took_s: float

    def of(self, status: Status) -> list[WpReport]:
        """Return the work packages that stand so."""
        return [one for one in self.wps if one.situation.status is status]

    @property
    def headline(self) -> str:
        """Say in one sentence how many are done, who needs a person, and who waits for them."""
        done, of_all = len(self.of(Status.DONE)), len(self.wps)
        parts = [
            f"{done} of {of_all} work packages are done"
            if of_all != 1
            else f"{done} of 1 work package is done"
        ]
        needy, held = self.of(Status.NEEDS_YOU), self.of(Status.HELD_UP)
        if needy:
            parts.append(f"{_named(needy)} {'needs' if len(needy) == 1 else 'need'} you")
        if held:
            parts.append(f"{_named(held)} {'waits' if len(held) == 1 else 'wait'} for {_roots(held, needy)}")
        for status, verb in ((Status.CUT_OFF, "cut off"), (Status.LEFT_OUT, "left out")):
            if found := self.of(status):
                parts.append(f"{_named(found)} {'was' if len(found) == 1 else 'were'} {verb}")
        if not self.active and (found := self.of(Status.WAITING)):
            parts.append(f"{_named(found)} {'is' if len(found) == 1 else 'are'} left to do")
        if number := len(self.state.conflicts):
            parts.append(f"{number} {'pair' if number == 1 else 'pairs'} of branches cannot be merged")
        return "; ".join(parts)

    @property
    def attempts(self) -> list[AttemptRecord]:
        """Every attempt, in the order in which they began."""
        return sorted((one for wp in self.wps for one in wp.attempts), key=lambda one: one.began_at)


MOST_NAMED = 3


def _named(found: Sequence[WpReport]) -> str:
    ids = [one.id for one in found]
    return f"{len(ids)} work packages" if len(ids) > MOST_NAMED else _listed(ids)


def _listed(ids: Sequence[str]) -> str:
    return " and ".join((", ".join(ids[:-1]), ids[-1])) if len(ids) > 1 else ids[0]


def _roots(held: Sequence[WpReport], needy: Sequence[WpReport]) -> str:
    """Name what is waited for: by a word if it is just what needs a person, which is named before."""
    roots = sorted({root for one in held for root in one.situation.held_by})
    if roots == sorted(one.id for one in needy):
        return "it" if len(roots) == 1 else "them"
    return _listed(roots) if len(roots) <= MOST_NAMED else f"{len(roots)} others"


def longest_chain(wps: Iterable[WpReport], now: datetime) -> tuple[str, ...]:
    """Return who determined how long it took: from the last to end, back over who each waited for."""
    known = {one.id: one for one in wps if any(span.kind in AGENTS_TIME for span in one.spans)}
    ends = {one.id: max(span.ended_at or now for span in one.spans) for one in known.values()}
    found: list[str] = []
    following = max(ends, key=lambda one: (ends[one], one), default="")
    while following and following not in found:
        found.append(following)
        needed = [one for one in known[following].situation.wp.dependencies if one in known]
        following = max(needed, key=lambda one: (ends[one], one), default="")
    return tuple(reversed(found))
