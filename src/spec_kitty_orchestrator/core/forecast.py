"""How long a run goes on and what it costs, as ranges: many simulations of it from what journals tell."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from spec_kitty_orchestrator.core.chance import Chance, Dice, History
from spec_kitty_orchestrator.core.describe import clean, count
from spec_kitty_orchestrator.core.model import Phase
from spec_kitty_orchestrator.core.records import dataclass
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.samples import Samples
from spec_kitty_orchestrator.core.scheduler import WAITS_FOR_SLOT
from spec_kitty_orchestrator.core.simulate import Known, Simulated, simulate

__all__ = [
    "MOST_WORK",
    "NOTHING_KNOWN",
    "NOTHING_LEFT",
    "Forecast",
    "Range",
    "foreseen",
    "simulations",
    "spelled_cost",
    "spelled_time",
]

NOTHING_KNOWN = "no attempt has been recorded in this repository yet"
"""Why there is no forecast."""

NOTHING_LEFT = "every work package is approved or done: nothing is left to do"

MOST_SIMULATIONS = 100
FEWEST_SIMULATIONS = 12
MOST_WORK = 500
"""Simulations times work packages: about a second of a core."""

DEVIATIONS = 2.1
"""From the middle of the simulations to each end of a range: nine of ten runs then are within those of their
duration and of their cost."""

BINDS_FROM = 0.15
"""The part of a run that is spent waiting for something from which on that counts as the bound."""


@dataclass(frozen=True)
class Range:
    """From where to where something is expected."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        """Tell whether a value is within it."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Forecast:
    """What is expected of a run.

    Attributes:
        seconds: until it ends.
        cost_usd: that its attempts will cost from now on, as agents tell; None if none ever told.
        attempts: on how many samples this rests.
        bound: what makes it so long, in words.
        complete: the part of the simulations in which every work package was approved.
    """

    seconds: Range
    cost_usd: Range | None
    attempts: int
    bound: str
    complete: float

    def __str__(self) -> str:
        """Say it in one line."""
        cost = f", {spelled_cost(self.cost_usd)}" if self.cost_usd is not None else ""
        seen = f"from {count(self.attempts, 'attempt')} in this repository"
        short = f"; {self.unfinished}" if self.unfinished else ""
        bound = f"; bounded by {self.bound}" if self.bound else ""
        return f"about {spelled_time(self.seconds)}{cost} ({seen}{bound}{short})"

    @property
    def document(self) -> Mapping[str, object]:
        """Itself as a JSON object."""

        def pair(told: Range | None) -> Sequence[float] | None:
            return None if told is None else (round(told.low, 4), round(told.high, 4))

        return {
            "duration_s": pair(self.seconds),
            "cost_usd": pair(self.cost_usd),
            "attempts": self.attempts,
            "bounded_by": self.bound,
            "complete": round(self.complete, 2),
        }

    def left(self, passed_s: float) -> str:
        """Say what is left of it when so many seconds have passed, "" if nothing is."""
        low, high = self.seconds.low - passed_s, self.seconds.high - passed_s
        if high <= 0:
            return ""
        time = f"about {spelled_time(Range(low, high))}" if low > 0 else f"at most {_time(_rounded(high))}"
        cost = f", {spelled_cost(self.cost_usd)} more" if self.cost_usd is not None else ""
        return f"{time} left{cost}"

    @property
    def unfinished(self) -> str:
        """Say how likely it is that a person is needed before all is approved, "" if hardly."""
        tenths = round(10 * (1.0 - self.complete))
        return f"in {tenths} of 10 cases not everything is approved" if tenths else ""


def simulations(
    state: RunState,
    now: datetime,
    samples: Samples,
    dice: Dice,
    known: Known | None = None,
    most_work: int = MOST_WORK,
) -> Iterator[Simulated]:
    """Simulate the rest of a run, as often as `most_work` allows: simulations times work packages.

    Args:
        state: of the run now.
        now: the time.
        samples: what is known of attempts like those to come.
        dice: the same dice give the same simulations.
        known: what the state does not hold.
        most_work: bounds the time that all of them take.
    """
    history = History(samples)
    left = sum(wp.phase is not Phase.FINISHED for wp in state.wps.values())
    number = max(FEWEST_SIMULATIONS, min(MOST_SIMULATIONS, most_work // max(1, left)))
    for _ in range(number if samples.count else 0):
        yield simulate(state, now, known or Known(), Chance(history, dice))


def foreseen(found: Sequence[Simulated], samples: Samples, slots: int) -> Forecast | None:
    """Sum up simulations with so many slots; None of none, because no attempt was ever recorded."""
    if not found:
        return None
    costs = [one.cost_usd for one in found if one.cost_usd is not None]
    return Forecast(
        _range([one.seconds for one in found]),
        _range(costs) if costs else None,
        samples.count,
        _bound(found, slots),
        sum(one.complete for one in found) / len(found),
    )


def _range(values: Sequence[float]) -> Range:
    """Return the range that the next value like these is in, most probably."""
    logs = [math.log(max(one, 1e-6)) for one in values]
    number, middle = len(logs), sum(logs) / len(logs)
    if number < 2:
        return Range(min(values), max(values))
    deviation = math.sqrt(sum((one - middle) ** 2 for one in logs) / (number - 1))
    # Student's factor: few simulations tell less of the deviation.
    factor = DEVIATIONS * (1.0 + (DEVIATIONS**2 + 1.0) / (4.0 * (number - 1)))
    reach = factor * deviation * math.sqrt(1.0 + 1.0 / number)
    return Range(math.exp(middle - reach), math.exp(middle + reach))


def _bound(found: Sequence[Simulated], slots: int) -> str:
    """Say what makes a run so long: its end, what is waited for, or the longest chain."""
    endings = Counter(one.ending.partition(":")[0] for one in found if one.ending)
    if endings.total() * 2 > len(found):
        return clean(endings.most_common(1)[0][0])
    total_s = sum(one.seconds for one in found)
    waits: dict[str, float] = defaultdict(float)
    for one in found:
        for reason, seconds in one.waits.items():
            waits[reason] += seconds
    reason = max(waits, key=waits.__getitem__, default="")
    if reason and waits[reason] >= BINDS_FROM * total_s:
        slots_told = "its only slot" if slots == 1 else f"the {slots} slots"
        return slots_told if reason == WAITS_FOR_SLOT else clean(reason.removeprefix("waits for "))
    paths = Counter(one.path for one in found if one.path)
    return f"the chain {' -> '.join(paths.most_common(1)[0][0])}" if paths else ""


def spelled_time(seconds: Range) -> str:
    """Write a range of durations for people: no more exact than it is."""
    low, high = _rounded(seconds.low), _rounded(seconds.high)
    return _time(low) if low == high else f"{_time(low)} to {_time(high)}"


def _rounded(seconds: float) -> int:
    for below, unit in ((20, 1), (120, 5), (600, 30), (7_200, 60), (36_000, 600)):
        if seconds < below:
            return max(1, round(seconds / unit) * unit)
    return round(seconds / 3600) * 3600


def _time(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    if minutes:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{rest} s"


def spelled_cost(cost_usd: Range) -> str:
    """Write a range of costs for people."""
    low, high = (f"${one:.2f}" for one in (cost_usd.low, cost_usd.high))
    return low if low == high else f"{low} to {high}"
