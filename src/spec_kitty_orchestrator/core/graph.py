"""The graph of dependencies: its waves, its chains, and who depends on whom."""

from collections.abc import Mapping
from functools import lru_cache

from spec_kitty_orchestrator.core.model import Lane, MissionState

__all__ = ["behind", "chains", "critical_path", "remaining", "waves"]


def remaining(mission: MissionState) -> dict[str, tuple[str, ...]]:
    """Return the work packages that are not settled, each with those of its dependencies that are not."""
    settled = (Lane.APPROVED, Lane.DONE, Lane.CANCELED)
    left = [one for one, lane in mission.lanes.items() if lane not in settled]
    needed = mission.dependencies
    return {one: tuple(other for other in needed.get(one, ()) if other in left) for one in left}


def chains(dependencies: Mapping[str, tuple[str, ...]]) -> Mapping[str, int]:
    """Return for each id the number of work packages on the longest chain that starts with it.

    Members of a dependency cycle count as if the edge that closes it did not exist.
    """
    return _chains(tuple(dependencies.items()))


@lru_cache(maxsize=8)
def _chains(items: tuple[tuple[str, tuple[str, ...]], ...]) -> Mapping[str, int]:
    dependencies = dict(items)
    dependents = _dependents(dependencies)
    length: dict[str, int] = {}
    for wave in reversed(waves(dependencies)):
        for one in wave:
            length[one] = 1 + max((length.get(other, 0) for other in dependents[one]), default=0)
    return {one: length.get(one, 1) for one in dependencies}


def waves(dependencies: Mapping[str, tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Return the ids in waves: each needs only ids of earlier waves. Members of cycles are left out."""
    order = {one: place for place, one in enumerate(dependencies)}
    dependents = _dependents(dependencies)
    missing = {one: sum(other in order for other in needed) for one, needed in dependencies.items()}
    found: list[tuple[str, ...]] = []
    wave = [one for one, count in missing.items() if not count]
    while wave:
        found.append(tuple(wave))
        freed = []
        for one in wave:
            for other in dependents[one]:
                missing[other] -= 1
                if not missing[other]:
                    freed.append(other)
        wave = sorted(freed, key=order.__getitem__)
    return tuple(found)


def _dependents(dependencies: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    dependents: dict[str, list[str]] = {one: [] for one in dependencies}
    for one, needed in dependencies.items():
        for other in needed:
            if other in dependents:
                dependents[other].append(one)
    return dependents


def critical_path(dependencies: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return a longest chain of ids, first to last; the smallest id where several are as long."""
    length = chains(dependencies)
    path: list[str] = []
    candidates = [one for wave in waves(dependencies)[:1] for one in wave]
    while candidates:
        best = min(candidates, key=lambda one: (-length[one], one))
        path.append(best)
        candidates = [
            one for one, needed in dependencies.items() if best in needed and length[one] == length[best] - 1
        ]
    return tuple(path)


def behind(dependencies: Mapping[str, tuple[str, ...]], one: str) -> tuple[str, ...]:
    """Return the ids that come before one, directly or not; those of a cycle once."""
    found: dict[str, None] = {}
    left = list(dependencies.get(one, ()))
    while left:
        other = left.pop(0)
        if other not in found and other != one:
            found[other] = None
            left += dependencies.get(other, ())
    return tuple(found)
