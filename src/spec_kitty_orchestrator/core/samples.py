"""What journals tell of attempts and of the steps between them: how long, how much, and how they ended.

A fold of lines, like the state of a run: live and at a replay. Only what says something of the next attempt
counts: neither one that a start took over half way, nor one that met a limit or was stopped with its run.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum, auto

from spec_kitty_orchestrator.core import events, run_events
from spec_kitty_orchestrator.core.model import Attempt, Outcome, Role, Usage
from spec_kitty_orchestrator.core.records import dataclass, field, replace
from spec_kitty_orchestrator.core.verdict import Ruling

__all__ = ["END", "STEPS", "End", "Gathering", "Sample", "Samples", "gather"]

MOST_KEPT = 200
"""Attempts of one agent in one role that count: its newest."""

COUNTED = frozenset(
    {
        Outcome.OK,
        Outcome.FAILED,
        Outcome.OVERLOADED,
        Outcome.TIMEOUT,
        Outcome.STALLED,
        Outcome.CRASHED,
    }
)

STEPS: Mapping[type[events.Event], str] = {
    events.WorkspaceResolved: "resolve",
    events.Claimed: "claim",
    events.SetUp: "set up",
    events.AttemptOpened: "open",
    events.Committed: "commit",
    events.CommitRefused: "commit",
    events.GatesPassed: "gates",
    events.GateFailed: "gates",
    events.Submitted: "submit",
    events.ReviewClaimed: "claim review",
    events.Recorded: "record",
    events.Parked: "park",
}
"""What each event ends, besides attempts."""

END = "end"
"""The step from the last event of a run to its end."""


class End(Enum):
    """What an attempt came to: work for a review or an approval, another round, or nothing."""

    GOOD = auto()
    AGAIN = auto()
    FAILED = auto()


@dataclass(frozen=True)
class Sample:
    """One attempt.

    Attributes:
        seconds: how long it took.
    """

    seconds: float
    usage: Usage
    end: End
    outcome: Outcome = Outcome.OK


@dataclass(frozen=True)
class Samples:
    """What journals told.

    Attributes:
        attempts: by role and agent, the newest last.
        steps: by their names in `STEPS`, how long each took, in seconds.
    """

    attempts: Mapping[tuple[Role, str], tuple[Sample, ...]] = field(default_factory=dict)
    steps: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many attempts there are."""
        return sum(map(len, self.attempts.values()))

    def __add__(self, newer: "Samples") -> "Samples":
        """Return both; of each kind the newest are kept."""
        attempts, steps = dict(self.attempts), dict(self.steps)
        for key, found in newer.attempts.items():
            attempts[key] = (*attempts.get(key, ()), *found)[-MOST_KEPT:]
        for name, times in newer.steps.items():
            steps[name] = (*steps.get(name, ()), *times)[-MOST_KEPT:]
        return Samples(attempts, steps)


class Gathering:
    """Takes the lines of one journal, oldest first."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.attempts: dict[tuple[Role, str], list[Sample]] = {}
        self.steps: dict[str, list[float]] = {}
        self.opened: dict[str, tuple[Attempt, datetime]] = {}
        self._extra_s: dict[str, float] = {}
        self._unseen: dict[str, tuple[tuple[Role, str], int]] = {}
        self._last_at: datetime | None = None

    @property
    def samples(self) -> Samples:
        """What was told so far."""
        return Samples(
            {key: tuple(found[-MOST_KEPT:]) for key, found in self.attempts.items()},
            {name: tuple(times[-MOST_KEPT:]) for name, times in self.steps.items()},
        )

    def take(self, line: run_events.Line) -> None:
        """Take one more line."""
        match line:
            case run_events.RunStarted():
                # What goes on from before was not watched all the time.
                self.opened.clear()
                self._extra_s.clear()
                self._last_at = None
            case run_events.RunEnded(at=at):
                if self._last_at is not None:
                    self._step(END, (at - self._last_at).total_seconds())
                self._last_at = None
            case run_events.Entry(at=at, wp_id=wp_id, event=event, took_s=took_s):
                self._last_at = at
                if wp_id and not isinstance(event, run_events.RunEvent):
                    self._take(at, wp_id, event, took_s)
            case run_events.RunAborted():
                self._last_at = None

    def _take(self, at: datetime, wp_id: str, event: events.Event, took_s: float) -> None:
        if isinstance(event, events.AgentExited):
            self._extra_s.pop(wp_id, None)
            attempt, since = self.opened.pop(wp_id, (None, at))
            if attempt is not None and attempt.id == event.attempt_id:
                self._ended(wp_id, attempt, event, took_s or (at - since).total_seconds())
            return
        if isinstance(event, events.AttemptOpened):
            self.opened[wp_id] = (event.attempt, at)
            self._judge(wp_id, event.attempt.role)
        name = STEPS.get(type(event))
        if name is not None:
            self._step(name, took_s + self._extra_s.pop(wp_id, 0.0))
        elif took_s:
            # A refusal, or subtasks that had to be ticked first: a part of the step that follows.
            self._extra_s[wp_id] = self._extra_s.get(wp_id, 0.0) + took_s

    def _step(self, name: str, seconds: float) -> None:
        self.steps.setdefault(name, []).append(max(0.0, seconds))

    def _ended(self, wp_id: str, attempt: Attempt, event: events.AgentExited, seconds: float) -> None:
        report = event.report
        if report.outcome not in COUNTED:
            return
        end = End.GOOD
        if report.outcome is not Outcome.OK or event.tampered:
            end = End.FAILED
        elif attempt.role is Role.REVIEW:
            ruling = event.verdict.ruling if event.verdict is not None else Ruling.UNUSABLE
            end = {Ruling.APPROVED: End.GOOD, Ruling.CHANGES_REQUESTED: End.AGAIN}.get(ruling, End.FAILED)
        key = (attempt.role, attempt.agent)
        found = self.attempts.setdefault(key, [])
        found.append(Sample(max(0.0, seconds), report.usage, end, report.outcome))
        if attempt.role is Role.IMPLEMENT and end is End.GOOD:
            self._unseen[wp_id] = (key, len(found) - 1)

    def _judge(self, wp_id: str, following: Role) -> None:
        """Note of the last implement attempt whether a reviewer saw its work, or it was sent back before."""
        key, place = self._unseen.pop(wp_id, (None, 0))
        if key is not None and following is Role.IMPLEMENT:
            self.attempts[key][place] = replace(self.attempts[key][place], end=End.AGAIN)


def gather(lines: Iterable[run_events.Line]) -> Samples:
    """Return what the lines of one journal tell."""
    gathering = Gathering()
    for line in lines:
        gathering.take(line)
    return gathering.samples
