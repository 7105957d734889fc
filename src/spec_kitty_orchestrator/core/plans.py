"""What the scheduler answers."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Start:
    """Each of these was given a slot, in this order."""

    ids: tuple[str, ...]


@dataclass(frozen=True)
class Idle:
    """Nothing to start before something changes, or before `until`."""

    until: float | None = None


@dataclass(frozen=True)
class Finished:
    """Every work package has left the run."""


@dataclass(frozen=True)
class Stalled:
    """Nothing runs and nothing can be started; `reasons` has a line for each work package left."""

    reasons: Mapping[str, str]
