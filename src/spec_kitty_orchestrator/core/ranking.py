"""Which of several work packages comes first: by the caller's key if there is one, else by the default order.

Two rules come before either: who needs an agent that failed with it lets others try that agent first, and an
attempt that may still be running comes before new ones, since it would run beside them.
"""

import math
from collections.abc import Callable
from typing import Any

from spec_kitty_orchestrator.core.graph import chains
from spec_kitty_orchestrator.core.lifecycle import agent_needed
from spec_kitty_orchestrator.core.limits import is_suspect
from spec_kitty_orchestrator.core.plain_text import begun, plain
from spec_kitty_orchestrator.core.run_state import RunState
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.errors import UsageError

__all__ = ["Order", "Ranking"]

Order = Callable[[WorkPackage, RunState], Any]
"""A key by which work packages that can go on get slots, the smallest first, in place of the default order.

It may read these, which keep their meaning:

- of the `WorkPackage`: `id`, `dependencies`, `lane`, `phase`, `untried` (no agent has begun with it),
  `attempts` and `outcomes` (oldest first), `usage`, `cost_usd` (US dollars), `review.rejected`;
- of the `RunState`: `wps` (all of them, by id), `at_work`, `free_slots`, `policy`, `spent`, `suspended`,
  `began_at` and `now` (when the last event happened; aware, like every time).

It is called for each work package that can go on, whenever anything happens, in the thread of the event loop:
so it must be quick (far below a millisecond), change nothing, and depend on nothing but what it is given and
what stays the same during the run. What it returns is compared by ``<`` alone; where neither of two is
smaller, the default order decides: what was begun first, then who waited longest for an agent, then the
longest chain of work packages that wait for it, then the id.

It orders those that could all start, and nothing else: dependencies, workspaces, slots, limits, pauses and
budgets hold as without it, and so do three rules: a work package that a person took over is told to the host
first, an attempt that may still be running comes before new ones, and who would try again an agent that has
just failed comes last. A key that raises, or whose results cannot be compared, ends the run with
`UsageError`, as any failure does: nothing is lost, and a later start goes on.
"""

LONGEST_CAUSE = 300


class Ranking:
    """Ranks the work packages of one state; `rank` and `place` return keys for `min` and `sorted`."""

    def __init__(self, state: RunState, order: Order | None = None) -> None:
        self._state, self._order = state, order
        self._chains = chains({wp.id: wp.dependencies for wp in state.wps.values()})

    def rank(self, wp: WorkPackage) -> tuple[object, ...]:
        """Rank those that wait for a slot. Raises `UsageError`."""
        suspect = is_suspect(self._state, wp, agent_needed(wp, self._state.policy))
        kind = 0 if not wp.untried else 1 if wp.begun else 2
        queued = wp.turn.queued_at.timestamp() if wp.turn.queued_at is not None else math.inf
        return suspect, wp.open_attempt is None, *self._own(wp), kind, queued, *self._last(wp)

    def place(self, wp: WorkPackage) -> tuple[object, ...]:
        """Rank those whose workspace is to be asked for. Raises `UsageError`."""
        return *self._own(wp), *self._last(wp)

    def _last(self, wp: WorkPackage) -> tuple[int, str]:
        return -self._chains[wp.id], wp.id

    def _own(self, wp: WorkPackage) -> tuple[object, ...]:
        """Return what the caller's key says, () without one."""
        if self._order is None:
            return ()
        try:
            return (_Own(wp.id, self._order(wp, self._state)),)
        except Exception as error:
            raise _broken(f"failed for {wp.id}", error) from error


class _Own:
    """A caller's key for a work package: two are equal if neither is smaller."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, wp_id: str, key: Any) -> None:
        self._wp_id, self._key = wp_id, key

    def __lt__(self, other: "_Own") -> bool:
        try:
            return bool(self._key < other._key)
        except Exception as error:
            told = f"gave results for {self._wp_id} and {other._wp_id} that cannot be compared"
            raise _broken(told, error) from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Own) and not self < other and not other < self


def _broken(what: str, error: Exception) -> UsageError:
    cause = begun(" ".join(plain(f"{type(error).__name__}: {error}").split()), LONGEST_CAUSE)
    return UsageError(f"the key given as order= {what}: {cause}; mend it and start again, nothing is lost")
