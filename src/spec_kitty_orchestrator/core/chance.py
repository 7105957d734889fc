"""Draws attempts and steps that could be, from those that were.

Chance first draws, for a whole simulation, how agents are: few samples leave that open, so simulations differ
by it, and so does a forecast. Nothing is made up but how far attempts differ where too few were seen to tell.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Protocol

from spec_kitty_orchestrator.core.model import Outcome, Role, Usage
from spec_kitty_orchestrator.core.records import dataclass, field
from spec_kitty_orchestrator.core.samples import End, Sample, Samples

__all__ = ["Chance", "Dice", "History"]

USUAL_SPREAD = 0.8
"""How far attempts differ, as the deviation of their logarithms: counts as much as one sample."""

USUAL_ENDS = {End.GOOD: 2.0, End.AGAIN: 0.8, End.FAILED: 0.1}
"""How attempts end, counted in samples."""

FEW = 3
"""With fewer attempts of an agent in a role, those of all agents in it say more."""

SHORTEST_S = 0.001


class Dice(Protocol):
    """The part of `random.Random` that is used."""

    def random(self) -> float:
        """Draw from 0 to 1."""
        ...

    def gauss(self, mu: float, sigma: float) -> float:
        """Draw from a normal distribution."""
        ...

    def gammavariate(self, alpha: float, beta: float) -> float:
        """Draw from a gamma distribution."""
        ...


def _log(seconds: float) -> float:
    return math.log(max(seconds, SHORTEST_S))


@dataclass(frozen=True)
class Pool:
    """What is drawn from: the attempts of one agent in a role, or of all agents where it has few.

    Attributes:
        usable: those that ended in order; all of them if none did.
        failed: the others.
        ends: how often each end was seen.
    """

    usable: tuple[Sample, ...]
    failed: tuple[Sample, ...]
    ends: Mapping[End, float]

    @cached_property
    def middle(self) -> float:
        """The mean of the logarithms of their seconds."""
        return sum(_log(one.seconds) for one in self.usable) / len(self.usable)

    @cached_property
    def spread(self) -> float:
        """The deviation of these logarithms."""
        squares = sum((_log(one.seconds) - self.middle) ** 2 for one in self.usable)
        return math.sqrt((USUAL_SPREAD**2 + squares) / len(self.usable))

    @cached_property
    def width(self) -> float:
        """How far what is drawn may be from its sample: less the more samples there are."""
        return 1.06 * self.spread * math.pow(len(self.usable), -0.2)

    @cached_property
    def shrink(self) -> float:
        """What keeps values that were moved by `width` as far apart as the samples are."""
        return 1.0 / math.hypot(1.0, self.width / self.spread)


@dataclass(frozen=True)
class History:
    """Samples, ready to be drawn from."""

    samples: Samples
    _pools: dict[tuple[Role, str], Pool | None] = field(default_factory=dict)

    def pool(self, role: Role, agent: str) -> Pool | None:
        """Return what attempts are drawn from; None if there was never one."""
        key = (role, agent)
        if key not in self._pools:
            self._pools[key] = self._pool(*key)
        return self._pools[key]

    def _pool(self, role: Role, agent: str) -> Pool | None:
        attempts = self.samples.attempts
        own = attempts.get((role, agent), ())
        of_role = _joined(found for key, found in attempts.items() if key[0] is role)
        enough = own if len(own) >= FEW else of_role
        found = enough or _joined(attempts.values())
        usable = tuple(one for one in found if one.end is not End.FAILED)
        failed = tuple(one for one in found if one.end is End.FAILED)
        ends = {end: usual + sum(one.end is end for one in enough) for end, usual in USUAL_ENDS.items()}
        return Pool(usable or failed, failed, ends) if found else None


def _joined(parts: Iterable[tuple[Sample, ...]]) -> tuple[Sample, ...]:
    return tuple(one for part in parts for one in part)


@dataclass(frozen=True)
class _Agent:
    """How an agent is in a role, in one simulation; `weights` and `shares` are running totals."""

    pool: Pool
    weights: Sequence[float]
    shift: float
    shares: Sequence[float]


class Chance:
    """What happens in one simulation."""

    def __init__(self, history: History, dice: Dice) -> None:
        """Draw from a history."""
        self._history = history
        self._dice = dice
        self._agents: dict[tuple[Role, str], _Agent | None] = {}

    def step(self, name: str) -> float:
        """Draw how long a step takes, in seconds; 0 for one that was never seen."""
        times = self._history.samples.steps.get(name, ())
        return times[int(self._dice.random() * len(times))] if times else 0.0

    def attempt(self, role: Role, agent: str, beyond_s: float = 0.0) -> Sample:
        """Draw an attempt; one that has run for `beyond_s` takes longer than that, if ever one did."""
        key = (role, agent)
        if key not in self._agents:
            pool = self._history.pool(*key)
            self._agents[key] = self._drawn(pool) if pool is not None else None
        known = self._agents[key]
        if known is None:
            return Sample(0.0, Usage(), End.GOOD)
        drawn = self._attempt(known)
        for _ in range(_MOST_DRAWS):
            if drawn.seconds > beyond_s:
                return drawn
            drawn = self._attempt(known)
        # It takes longer than any that was seen, so nobody knows how long.
        return _scaled(drawn, beyond_s * (1.0 + self._dice.random()), drawn.end)

    def _drawn(self, pool: Pool) -> _Agent:
        dice, number = self._dice, len(pool.usable)
        # The Bayesian bootstrap, which knows the less of an agent the fewer samples there are.
        weights = [dice.gammavariate(1.0, 1.0) for _ in range(number)]
        shares = [dice.gammavariate(known, 1.0) for known in pool.ends.values()]
        shift = dice.gauss(0.0, pool.spread / number)
        return _Agent(pool, list(accumulate(weights)), shift, list(accumulate(shares)))

    def _attempt(self, known: _Agent) -> Sample:
        pool, dice = known.pool, self._dice
        end = list(pool.ends)[self._place(known.shares)]
        if end is End.FAILED and pool.failed:
            return pool.failed[int(dice.random() * len(pool.failed))]
        sample = pool.usable[self._place(known.weights)]
        apart = _log(sample.seconds) - pool.middle + dice.gauss(0.0, pool.width)
        return _scaled(sample, math.exp(pool.middle + apart * pool.shrink + known.shift), end)

    def _place(self, totals: Sequence[float]) -> int:
        return min(bisect_right(totals, self._dice.random() * totals[-1]), len(totals) - 1)


_MOST_DRAWS = 20


def _scaled(sample: Sample, seconds: float, end: End) -> Sample:
    """Return a sample that takes so long, and costs the more the longer."""
    factor, used = seconds / max(sample.seconds, SHORTEST_S), sample.usage
    cost_usd = None if used.cost_usd is None else used.cost_usd * factor
    usage = Usage(int(used.input_tokens * factor), int(used.output_tokens * factor), cost_usd)
    return Sample(seconds, usage, end, Outcome.FAILED if end is End.FAILED else Outcome.OK)
