"""What a person makes happen to a work package, in a run or between two.

Each has `by`, the user who gave the order ("" in journals that did not keep it), and `order`, the id of the
order by which a run took it up, so that it takes it up once; "" if no run was active.
"""

from typing import Literal

from spec_kitty_orchestrator.core.model import Lane
from spec_kitty_orchestrator.core.records import dataclass

__all__ = [
    "ApprovedByPerson",
    "HandedBack",
    "OperatorEvent",
    "Retried",
    "Skipped",
    "Stopped",
    "TakenOver",
    "Told",
]


@dataclass(frozen=True)
class Retried:
    """A person puts a parked, blocked or stopped work package back to work; `note` is for its implementer."""

    note: str = ""
    by: str = ""
    order: str = ""
    kind: Literal["retried"] = "retried"


@dataclass(frozen=True)
class Skipped:
    """A person takes a work package out of the run, which found it in `lane`; `note` says why.

    What is at work on it is stopped first.
    """

    lane: Lane
    note: str = ""
    by: str = ""
    order: str = ""
    kind: Literal["skipped"] = "skipped"


@dataclass(frozen=True)
class Stopped:
    """What is at work on the work package is stopped, its work is kept, until `continue`."""

    by: str = ""
    order: str = ""
    kind: Literal["stopped"] = "stopped"


@dataclass(frozen=True)
class Told:
    """A person says something to whoever works on the work package next, whatever its role.

    `now` stops who is at work on it, and the next attempt begins at once.
    """

    note: str
    now: bool = False
    by: str = ""
    order: str = ""
    kind: Literal["told"] = "told"


@dataclass(frozen=True)
class TakenOver:
    """A person works on the work package from now on; nothing of a run touches its worktree.

    What is at work on it is stopped first.
    """

    by: str
    order: str = ""
    kind: Literal["taken_over"] = "taken_over"


@dataclass(frozen=True)
class HandedBack:
    """Whoever took the work package over is done: what is in its worktree is committed, gated and reviewed.

    Attributes:
        note: what was done.
        subtasks: ids of those of the work package, which count as done.
    """

    by: str
    note: str = ""
    subtasks: tuple[str, ...] = ()
    order: str = ""
    kind: Literal["handed_back"] = "handed_back"


@dataclass(frozen=True)
class ApprovedByPerson:
    """A person reviewed the commit `head` and approves it; `base` is where its work began."""

    by: str
    head: str
    note: str
    base: str = ""
    order: str = ""
    kind: Literal["approved_by_person"] = "approved_by_person"


OperatorEvent = Retried | Skipped | Stopped | Told | TakenOver | HandedBack | ApprovedByPerson
"""Anything that a person makes happen to a work package."""
