"""What is the same in several reasons: so a run tells one cause once, whatever it stopped."""

import re
from collections.abc import Iterable, Sequence

from spec_kitty_orchestrator.core.model import Phase, Result
from spec_kitty_orchestrator.core.transitions import UNTOLD
from spec_kitty_orchestrator.core.work_package import WorkPackage

__all__ = ["by_cause", "cause", "likeness", "noted"]

_CHANGES = re.compile(r"\S*[\d/\\]\S*")
"""Words with digits or slashes: numbers, times, ids, versions, paths, addresses."""


def likeness(text: str) -> str:
    """Reduce a reason to what is the same whenever it occurs again, whatever it is about."""
    words = " ".join(re.findall(r"[^\W_]+|\*", _CHANGES.sub("*", text.lower())))
    return re.sub(r"\*(?: \*)+", "*", words)


def cause(wp: WorkPackage) -> str:
    """Return what a work package that needs a person has in common with others, "" if it needs none."""
    left = wp.phase in (Phase.PARKING, Phase.FINISHED) and wp.result in (None, Result.PARKED, Result.BLOCKED)
    return (
        likeness(wp.note.partition(UNTOLD)[0]) or "*" if left and not wp.skipped and wp.taken is None else ""
    )


def noted(causes: tuple[str, ...], wps: Iterable[WorkPackage]) -> tuple[str, ...]:
    """Return the causes of a journal in the order in which they came up, with those of some work packages.

    None is ever taken out, so that the number of a cause stays the same whatever is retried.
    """
    return tuple(dict.fromkeys((*causes, *filter(None, map(cause, wps)))))


def by_cause(causes: Sequence[str], wps: Iterable[WorkPackage]) -> dict[str, tuple[str, ...]]:
    """Return for each cause that is not settled, `c1` and so on, the ids of its work packages."""
    found: dict[str, tuple[str, ...]] = {}
    for wp in wps:
        key = cause(wp)
        if key in causes:
            name = f"c{causes.index(key) + 1}"
            found[name] = (*found.get(name, ()), wp.id)
    return dict(sorted(found.items(), key=lambda one: int(one[0][1:])))
