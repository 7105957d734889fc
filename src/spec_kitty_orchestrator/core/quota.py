"""What is known of each agent's quota: one that is used up rests for everybody, then one attempt tries it.

A limit says nothing about the work, so it charges no attempt; what is known is a fold over the journal, so a
later start knows it too.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from spec_kitty_orchestrator.core.model import AgentReport, Outcome

FIRST_REST_S = 60.0
"""How long an agent rests that does not tell when its limit ends; it doubles with every limit in a row."""
LONGEST_REST_S = 1800.0


class OnRateLimit(StrEnum):
    """What a run does when an agent's quota is used up."""

    WAIT = "wait"
    FALLBACK = "fallback"
    STOP = "stop"


@dataclass(frozen=True)
class Patience:
    """What a run does about quotas that are used up.

    Attributes:
        on_rate_limit: wait for the agent, let another one of the order work meanwhile, or end the run.
        max_wait_s: how long a run that waits for nothing but quotas goes on, in seconds.
    """

    on_rate_limit: OnRateLimit = OnRateLimit.FALLBACK
    max_wait_s: float = 6 * 3600.0


@dataclass(frozen=True)
class Quota:
    """One agent's limit.

    Attributes:
        until: it rests until then; after that one attempt tries it before the others do.
        strikes: limits in a row, each met after the rest before it.
    """

    until: datetime
    strikes: int


def noted(quotas: Mapping[str, Quota], agent: str, report: AgentReport, at: datetime) -> dict[str, Quota]:
    """Return what is known once an attempt of `agent` has ended with `report` at the time `at`."""
    after = dict(quotas)
    known = after.get(agent)
    if report.outcome is Outcome.OK:
        after.pop(agent, None)
    if report.outcome is not Outcome.RATE_LIMITED:
        return after
    told_s = report.retry_after_s or 0.0
    if known is not None and at < known.until:
        # Another attempt met the same limit; a longer time that it tells is the better knowledge.
        after[agent] = Quota(max(known.until, at + timedelta(seconds=told_s)), known.strikes)
        return after
    strikes = known.strikes + 1 if known is not None else 1
    rest_s = min(FIRST_REST_S * 2.0 ** min(strikes - 1, 10), LONGEST_REST_S)
    # What the agent tells is believed, but not again once it was wrong.
    rest_s = told_s if told_s and strikes == 1 else max(told_s, rest_s)
    after[agent] = Quota(at + timedelta(seconds=rest_s), strikes)
    return after


@dataclass(frozen=True)
class Use:
    """The agent at this position of the order may work now."""

    position: int


@dataclass(frozen=True)
class Rest:
    """Nobody may work now; the first may at `until`, None if an attempt that tries it must end first."""

    agent: str
    until: datetime | None

    @property
    def reason(self) -> str:
        """Say what is waited for."""
        if self.until is None:
            return f"waits for {self.agent}: an attempt tries whether its quota is back"
        return f"waits for {self.agent}: {used_up(self.until)}"


def used_up(until: datetime) -> str:
    """Say until when a quota is used up."""
    return f"its quota is used up until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def choose(
    agents: Sequence[str],
    positions: Sequence[int],
    quotas: Mapping[str, Quota],
    now: datetime,
    tried: AbstractSet[str],
) -> Use | Rest:
    """Choose who works.

    Args:
        agents: all of the role.
        positions: of those that may work, the most wanted first; at least one.
        quotas: what is known.
        now: the time.
        tried: agents whose limit is being tried by another attempt at this moment.
    """
    rests: list[Rest] = []
    for position in positions:
        agent = agents[position]
        quota = quotas.get(agent)
        if quota is None:
            return Use(position)
        if now < quota.until:
            rests.append(Rest(agent, quota.until))
        elif agent in tried:
            rests.append(Rest(agent, None))
        else:
            return Use(position)
    return min(rests, key=lambda one: one.until or now)
