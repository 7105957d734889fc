"""What a model's API said, whatever CLI heard it: an HTTP status, and the time until a limit ends."""

import re

from spec_kitty_orchestrator.core.model import Outcome

__all__ = ["last_match", "outcome_of_status", "told_again", "told_request", "told_reset", "until_reset"]

_OUTCOMES = {
    400: Outcome.INVALID_REQUEST,
    401: Outcome.AUTH,
    402: Outcome.BUDGET,
    403: Outcome.AUTH,
    404: Outcome.INVALID_REQUEST,
    408: Outcome.OVERLOADED,
    413: Outcome.INVALID_REQUEST,
    422: Outcome.INVALID_REQUEST,
    429: Outcome.RATE_LIMITED,
}

LONGEST_LIMIT_S = 8 * 86_400.0
"""No limit of a plan's lasts longer than a week; a later reset is a mistake and must not stall a run."""


def outcome_of_status(status: float | None) -> Outcome | None:
    """Return the outcome for an HTTP status, None where the status decides nothing."""
    if status is None:
        return None
    if 500 <= status <= 599:
        return Outcome.OVERLOADED
    return _OUTCOMES.get(int(status))


def until_reset(seconds: float | None) -> float | None:
    """Return the seconds until a limit ends within sensible bounds, None if they are unknown."""
    return None if seconds is None else min(max(0.0, seconds), LONGEST_LIMIT_S)


def told_reset(amount: str | None, unit: str = "s") -> float | None:
    """Return the seconds until a limit ends, told as digits and a unit, `s` or `ms`; None for no number."""
    try:
        return until_reset(float(amount or "") * (0.001 if unit == "ms" else 1.0))
    except ValueError:
        return None


def last_match(pattern: re.Pattern[str], told: str) -> re.Match[str] | None:
    """Return the last place of a text that a pattern finds, None if there is none."""
    return max(pattern.finditer(told), key=lambda found: found.start(), default=None)


def told_request(status: float | None) -> str:
    """Say for people how a request ended: with `status`, or unanswered."""
    return f"a request ended {_end(status)}"


def told_again(status: float | None) -> str:
    """Say for people that a CLI was trying a request again, which had ended with `status` or unanswered."""
    return f"it was trying again after a request that ended {_end(status)}"


def _end(status: float | None) -> str:
    return "without an answer" if status is None else f"with status {status:g}"
