"""What follows an attempt that did not end `ok`: the same agent again, the next agent, or a person."""

from zlib import crc32

from spec_kitty_orchestrator.core.model import Outcome
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.records import dataclass

__all__ = ["JITTER", "REFUSED", "RETRIES", "UNCHARGED", "Fallback", "GiveUp", "Retry", "next_move"]

RETRIES: dict[Outcome, int] = {
    Outcome.OVERLOADED: 3,
    Outcome.FAILED: 1,
    Outcome.CRASHED: 2,
    Outcome.STALLED: 2,
    Outcome.TIMEOUT: 1,
    Outcome.LOST: 2,
    Outcome.AUTH: 0,
    Outcome.INVALID_REQUEST: 0,
    Outcome.BUDGET: 0,
}
"""How often one agent is tried again after outcomes in a row that are not `ok`; the last one decides.

A rate limit is not among them: it says nothing about the work package, see `core.limits`.
"""

REFUSED = frozenset({Outcome.AUTH, Outcome.INVALID_REQUEST})
"""Outcomes of which another try with the same agent is of use only where there is no other agent."""

JITTER = 0.2
"""The part of a back-off by which it varies, so that work packages that failed together do not return so."""

UNCHARGED = frozenset({Outcome.OVERLOADED, Outcome.RATE_LIMITED, Outcome.CANCELED})
"""Outcomes that say nothing about the work: they do not count towards `max_attempts`."""


@dataclass(frozen=True)
class Retry:
    """The same agent again after so many seconds."""

    after_s: float


@dataclass(frozen=True)
class Fallback:
    """The next agent of the fallback order."""


@dataclass(frozen=True)
class GiveUp:
    """A person must look; `reason` says at what."""

    reason: str


def next_move(
    outcome: Outcome, failures: int, more_agents: bool, policy: Policy, attempt_id: str
) -> Retry | Fallback | GiveUp:
    """Decide what follows `outcome`.

    Args:
        outcome: of the attempt that just ended; neither `ok`, `rate_limited` nor `canceled`.
        failures: attempts of the same agent and role in a row that did not end `ok`, this one included.
        more_agents: whether the fallback order has a next agent.
        policy: gives the first back-off and its cap.
        attempt_id: of that attempt; the same one always gives the same jitter.
    """
    if failures <= RETRIES[outcome]:
        if outcome is not Outcome.OVERLOADED:
            return Retry(0.0)
        backoff_s = policy.retry_base_s * 2.0 ** (failures - 1) * _jitter(attempt_id)
        return Retry(min(backoff_s, policy.retry_cap_s))
    if more_agents:
        return Fallback()
    if failures == 1 and outcome in REFUSED:
        # Another work package may show meanwhile that the agent is to blame, and not the work.
        return Retry(0.0)
    return GiveUp(f"the agent ended {failures} times in a row without a result, at last: {outcome}")


def _jitter(attempt_id: str) -> float:
    """Return a factor around 1 that looks like chance and is the same at every replay."""
    return 1.0 + JITTER * (2.0 * crc32(attempt_id.encode(errors="replace")) / 0xFFFFFFFF - 1.0)
