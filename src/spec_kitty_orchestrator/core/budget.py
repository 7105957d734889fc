"""What a mission may spend: money and tokens over all its runs, time in this one."""

from collections.abc import Iterable
from dataclasses import dataclass

from spec_kitty_orchestrator.core.model import Usage

WARN_AT = 0.8
"""The part of a budget at which people are warned."""


@dataclass(frozen=True)
class Budget:
    """The limits of a run; None where there is none.

    Attributes:
        max_cost_usd: US dollars, over all runs of the mission, as far as agents tell.
        max_tokens: tokens sent and received, over all runs of the mission.
        max_duration_s: seconds since this run began.
        max_cost_per_wp_usd: US dollars for one work package, over all runs; beyond that it is parked.
        hard: stop attempts at work when a limit is reached, instead of only starting nothing new.
        strict: refuse agents that do not tell what they cost, where a cost is limited.
    """

    max_cost_usd: float | None = None
    max_tokens: int | None = None
    max_duration_s: float | None = None
    max_cost_per_wp_usd: float | None = None
    hard: bool = False
    strict: bool = False

    @property
    def limits_cost(self) -> bool:
        """Whether anything depends on what agents cost."""
        return self.max_cost_usd is not None or self.max_cost_per_wp_usd is not None


@dataclass(frozen=True)
class _Part:
    name: str
    spent: float
    limit: float
    text: str

    @property
    def share(self) -> float:
        return (self.spent + 1e-9) / self.limit


def total(usages: Iterable[Usage]) -> Usage:
    """Add up what was used; a cost is known as soon as one of them is."""
    each = list(usages)
    costs = [one.cost_usd for one in each if one.cost_usd is not None]
    return Usage(
        sum(one.input_tokens for one in each),
        sum(one.output_tokens for one in each),
        sum(costs) if costs else None,
    )


def moved(spent: Usage, before: Usage, after: Usage) -> Usage:
    """Return the sum in which one part was `before` and is `after` now; no part ever becomes smaller."""
    cost = spent.cost_usd
    if after.cost_usd is not None:
        cost = (cost or 0.0) + after.cost_usd - (before.cost_usd or 0.0)
    return Usage(
        spent.input_tokens + after.input_tokens - before.input_tokens,
        spent.output_tokens + after.output_tokens - before.output_tokens,
        cost,
    )


def reached(budget: Budget, spent: Usage, elapsed_s: float) -> str:
    """Say which limit is reached, "" if none is."""
    return next((one.text for one in _parts(budget, spent, elapsed_s) if one.share >= 1.0), "")


def nearing(budget: Budget, spent: Usage, elapsed_s: float) -> dict[str, str]:
    """Say by the name of the limit which are nearly used up."""
    return {one.name: one.text for one in _parts(budget, spent, elapsed_s) if one.share >= WARN_AT}


def over(budget: Budget, spent: Usage) -> str:
    """Say why a work package that used this may cost no more, "" if it may."""
    limit, cost = budget.max_cost_per_wp_usd, spent.cost_usd or 0.0
    if limit is None or cost < limit:
        return ""
    return f"it has cost ${cost:.2f} of ${limit:.2f}, the most for one work package"


def left(budget: Budget, spent: Usage, spent_by_wp: Usage) -> float | None:
    """Return what the next attempt of a work package may cost, in US dollars; None for any sum."""
    limits = ((budget.max_cost_usd, spent), (budget.max_cost_per_wp_usd, spent_by_wp))
    rests = [max(0.0, limit - (used.cost_usd or 0.0)) for limit, used in limits if limit is not None]
    return min(rests, default=None)


def _parts(budget: Budget, spent: Usage, elapsed_s: float) -> list[_Part]:
    parts = []
    if budget.max_cost_usd is not None:
        cost = spent.cost_usd or 0.0
        text = f"${cost:.2f} of ${budget.max_cost_usd:.2f} are spent"
        parts.append(_Part("cost", cost, budget.max_cost_usd, text))
    if budget.max_tokens is not None:
        tokens = spent.input_tokens + spent.output_tokens
        parts.append(
            _Part("tokens", tokens, budget.max_tokens, f"{tokens} of {budget.max_tokens} tokens are used")
        )
    if budget.max_duration_s is not None:
        text = f"{elapsed_s / 60:.0f} of {budget.max_duration_s / 60:.0f} minutes are over"
        parts.append(_Part("duration", elapsed_s, budget.max_duration_s, text))
    return parts
