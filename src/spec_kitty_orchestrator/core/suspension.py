"""Agents that rest, as a fold of how their attempts ended: a quota is used up, or the agent itself is broken.

Neither says anything about the work: the agent rests for everybody, then one attempt tries it before the
others do. An agent is taken for broken when its attempts on several work packages end alike in a row.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from spec_kitty_orchestrator.core.causes import likeness
from spec_kitty_orchestrator.core.describe import ENDS, LONGEST_QUOTE, clean, last_line
from spec_kitty_orchestrator.core.events import AgentExited
from spec_kitty_orchestrator.core.model import AgentReport, Outcome
from spec_kitty_orchestrator.core.records import dataclass, replace

__all__ = [
    "ABOUT_THE_AGENT",
    "BROKEN_REST_S",
    "FIRST_REST_S",
    "LONGEST_REST_S",
    "PROBE_S",
    "Failures",
    "Suspension",
    "at_a_start",
    "failed_again",
    "is_about_the_agent",
    "suspended_by",
]

FIRST_REST_S = 60.0
"""How long an agent rests that does not tell when its limit ends; it doubles with every limit in a row."""
LONGEST_REST_S = 1800.0

BROKEN_REST_S = 600.0
"""How long an agent rests that is taken for broken; then one attempt, which is paid, tries it.

It doubles with every attempt that shows that it still is, up to the longest rest.
"""

PROBE_S = 120.0
"""How long an attempt must run before others of its agent follow, if that met its limit or failed."""

SLOWER = 1.5
"""How much longer than the failures an attempt must run before it shows that its agent works."""

ABOUT_THE_AGENT: Final = {
    Outcome.AUTH: 2,
    Outcome.INVALID_REQUEST: 3,
    Outcome.FAILED: 3,
    Outcome.CRASHED: 3,
    Outcome.STALLED: 3,
}
"""Attempts in a row that end alike, on several work packages, before the agent is taken for broken.

An attempt that ran out of time or money worked, a lost or stopped one says nothing, and an overloaded model
is waited for.
"""

MOST_NAMED = 4


@dataclass(frozen=True)
class Suspension:
    """An agent that starts no attempt.

    Attributes:
        until: it rests until then; after that one attempt tries it before the others do.
        strikes: limits or failures in a row, each met after the rest before it.
        rest_s: how long that rest is, in seconds.
        back: whether an attempt after the rest ran for long enough that others may follow.
        broken: why it is taken for broken, "" if its quota is used up.
    """

    until: datetime
    strikes: int
    rest_s: float
    back: bool = False
    broken: str = ""

    @property
    def why(self) -> str:
        """Say why it rests, and until when if time mends that."""
        return self.broken or f"its quota is used up until {self.until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"

    @property
    def told(self) -> str:
        """Say why it rests, and when a run that goes on tries it again."""
        then = f"; it is tried again in {self.rest_s / 60:.0f} min and at the next start"
        return self.why + then * bool(self.broken)

    @property
    def told_afterwards(self) -> str:
        """Say why it rests, and what the next start does about it, when no run goes on."""
        return self.why + "; `resume` tries it once more, and goes on with it if it works" * bool(self.broken)


@dataclass(frozen=True)
class Failures:
    """Failures of one agent that are alike, since one of its attempts ended well.

    Attributes:
        alike: what they have in common, see `likeness`.
        wps: the work package of each, oldest first.
        took_s: how long the slowest took, in seconds.
        last: in words.
    """

    alike: str
    wps: tuple[str, ...] = ()
    took_s: float = 0.0
    last: str = ""

    @property
    def watched_s(self) -> float:
        """How long an attempt must run before it shows that the agent works, in seconds."""
        return min(max(PROBE_S, self.took_s * SLOWER), BROKEN_REST_S)

    def show(self, outcome: Outcome) -> bool:
        """Tell whether they show that the agent is broken, and not the work."""
        return len(self.wps) >= ABOUT_THE_AGENT[outcome] and len(set(self.wps)) > 1

    @property
    def told(self) -> str:
        """Say what happened."""
        named = _named(tuple(dict.fromkeys(self.wps)))
        return f"{len(self.wps)} attempts in a row ({named}) ended alike: it {self.last}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def is_about_the_agent(event: AgentExited) -> bool:
    """Tell whether an end of an attempt may be the agent's own fault."""
    return event.report.outcome in ABOUT_THE_AGENT and not event.tampered and event.refused is None


def failed_again(known: Failures | None, wp_id: str, report: AgentReport, took_s: float) -> Failures:
    """Return the failures of an agent after one more."""
    words = f"{report.outcome} {report.detail or report.exit_code}"
    # What a program says last is what it ended with.
    said = f": {clean(last_line(report.detail), LONGEST_QUOTE)}" if report.detail else ""
    before = known if known is not None and known.alike == likeness(words) else Failures(likeness(words))
    last = f"{ENDS[report.outcome]}{said}"
    return Failures(before.alike, (*before.wps, wp_id), max(before.took_s, took_s), last)


def suspended_by(
    known: Suspension | None,
    failures: Failures | None,
    event: AgentExited,
    began_at: datetime | None,
    at: datetime,
) -> Suspension | None:
    """Return how an agent rests after one of its attempts ended, None if it may go on.

    Args:
        known: how it rested before.
        failures: those that are alike, this one included; None if it is none.
        event: the end.
        began_at: when the attempt began, if this start began it.
        at: when it ended.
    """
    report = event.report
    if report.outcome is Outcome.OK:
        return None
    tried = known is not None and began_at is not None and began_at >= known.until
    if report.outcome is Outcome.RATE_LIMITED:
        return _limited(known, report, at)
    if failures is not None and is_about_the_agent(event):
        resting = known is not None and at < known.until
        if not resting and (failures.show(report.outcome) or (tried and known is not None and known.broken)):
            strikes = known.strikes + 1 if known is not None and known.broken else 1
            rest_s = _longer(BROKEN_REST_S, strikes)
            return Suspension(at + timedelta(seconds=rest_s), strikes, rest_s, broken=failures.told)
    if known is not None and tried and began_at is not None:
        worked = at >= began_at + timedelta(seconds=PROBE_S)
        return replace(known, back=known.back or worked)
    return known


def _limited(known: Suspension | None, report: AgentReport, at: datetime) -> Suspension:
    told_s = report.retry_after_s or 0.0
    if known is not None and at < known.until:
        # Another attempt met the same limit; a longer time that it tells is the better knowledge.
        until = max(known.until, at + timedelta(seconds=told_s))
        return replace(known, until=until, rest_s=max(known.rest_s, told_s))
    strikes = known.strikes + 1 if known is not None and not known.broken else 1
    rest_s = _longer(FIRST_REST_S, strikes)
    # What the agent tells is believed, but not again once it was wrong.
    rest_s = told_s if told_s and strikes == 1 else max(told_s, rest_s)
    return Suspension(at + timedelta(seconds=rest_s), strikes, rest_s)


def _longer(first_s: float, strikes: int) -> float:
    return float(min(first_s * 2.0 ** min(strikes - 1, 10), LONGEST_REST_S))


def at_a_start(suspended: Mapping[str, Suspension], at: datetime) -> dict[str, Suspension]:
    """Return how agents rest when a new start begins: a broken one may have been mended, so it is tried.

    No rest is longer than it was when it began: the clock may have been set meanwhile.
    """
    return {
        agent: replace(one, until=min(one.until, at if one.broken else at + timedelta(seconds=one.rest_s)))
        for agent, one in suspended.items()
    }
