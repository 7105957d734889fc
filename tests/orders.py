"""Keys for `order=`: pure ones, and those that a caller should not write but no promise may depend on."""

import math
from random import Random

from hypothesis import strategies as st

from spec_kitty_orchestrator.core.ranking import Order

__all__ = ["any_order"]


def _random(seed: int) -> Order:
    dice = Random(seed)
    return lambda wp, state: dice.random()


def _shuffled(seed: int) -> Order:
    return lambda wp, state: Random(f"{seed}{wp.id}").random()


KNOWN: tuple[Order | None, ...] = (
    None,
    lambda wp, state: 0,
    lambda wp, state: math.nan,
    # What nobody has begun with comes first, so that as much as possible is begun and nothing is ended.
    lambda wp, state: (not wp.untried, [-ord(one) for one in wp.id]),
    # The order turns around whenever a slot is taken or left.
    lambda wp, state: ord(wp.id[-1]) * (-1) ** state.free_slots,
    lambda wp, state: (-len(state.wps[wp.id].attempts), wp.cost_usd, wp.lane),
    lambda wp, state: -sum(wp.id in one.dependencies for one in state.wps.values()),
)


def any_order() -> st.SearchStrategy[Order | None]:
    """Return the default order, and keys that are constant, random, no numbers, or depend on the state."""
    seeds = st.integers(0, 99)
    return st.sampled_from(KNOWN) | st.builds(_shuffled, seeds) | st.builds(_random, seeds)
