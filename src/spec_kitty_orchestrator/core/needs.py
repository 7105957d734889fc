"""How many of a work package's dependencies are open, counted once per change and never searched for."""

from collections.abc import Sequence
from dataclasses import dataclass

from spec_kitty_orchestrator.core.model import Phase, WorkPackage


@dataclass(slots=True)
class _Count:
    """Of one id, which need not be in the mission: a dependency of others may be missing there.

    Attributes:
        needed: its dependencies, as they were counted.
        missing: those that are not complete.
        adrift: those of `missing` that this run does not work on.
        complete: whether it is complete itself.
        outside: whether this run does not work on it.
    """

    needed: tuple[str, ...] = ()
    missing: int = 0
    adrift: int = 0
    complete: bool = False
    outside: bool = True


class Needs:
    """The open dependencies of every work package."""

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = {}
        self._dependents: dict[str, list[str]] = {}

    def put(self, wp: WorkPackage) -> Sequence[str]:
        """Take a new state of a work package; return the ids whose dependencies changed by that."""
        count = self._counts.setdefault(wp.id, _Count())
        if count.needed != wp.dependencies:
            self._link(wp, count)
        complete = wp.lane.complete
        outside = not complete and wp.phase is Phase.FINISHED
        if (complete, outside) == (count.complete, count.outside):
            return ()
        dependents = self._dependents.get(wp.id, ())
        for one in dependents:
            self._counts[one].missing += count.complete - complete
            self._counts[one].adrift += outside - count.outside
        count.complete, count.outside = complete, outside
        return dependents

    def missing(self, wp_id: str) -> int:
        """Count the dependencies that are not complete."""
        return self._counts[wp_id].missing

    def adrift(self, wp_id: str) -> int:
        """Count the dependencies that are not complete and that this run does not work on."""
        return self._counts[wp_id].adrift

    def _link(self, wp: WorkPackage, count: _Count) -> None:
        for one in count.needed:
            self._dependents[one].remove(wp.id)
        count.needed = wp.dependencies
        found = [self._counts.setdefault(one, _Count()) for one in wp.dependencies]
        count.missing = sum(not one.complete for one in found)
        count.adrift = sum(one.outside for one in found)
        for one in wp.dependencies:
            self._dependents.setdefault(one, []).append(wp.id)
