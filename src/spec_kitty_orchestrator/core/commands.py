"""What to do next. Every command can be performed again after a crash without doing its work twice."""

from spec_kitty_orchestrator.core.model import Attempt, Lane, Result, Role
from spec_kitty_orchestrator.core.records import dataclass
from spec_kitty_orchestrator.core.verdict import Verdict

__all__ = [
    "Claim",
    "ClaimReview",
    "Command",
    "Commit",
    "Finish",
    "OpenAttempt",
    "Park",
    "PrepareWorkspace",
    "Record",
    "Resolve",
    "RunAgent",
    "RunGates",
    "Submit",
    "TickSubtasks",
    "Unblock",
    "Wait",
]


@dataclass(frozen=True)
class Resolve:
    """Ask the host where the work package is worked on; gives `WorkspaceResolved` or `HostRefused`."""


@dataclass(frozen=True)
class Claim:
    """Ask the host to start the implementation; gives `Claimed` or `HostRefused`."""


@dataclass(frozen=True)
class OpenAttempt:
    """Write the prompt of the next attempt into a directory of its own; gives `AttemptOpened`.

    For a review it gives `ReviewClaimed` if the branch moved, `NothingToReview` if it holds no work.

    Attributes:
        role: decides prompt and permissions.
        agent: the configured name.
        number: the first number to try for the directory.
        session: of an earlier attempt, to go on with; "" for a new one.
        max_cost_usd: what it may cost, in US dollars; None for any sum.
    """

    role: Role
    agent: str
    number: int
    session: str = ""
    max_cost_usd: float | None = None


@dataclass(frozen=True)
class RunAgent:
    """Spawn, re-attach or harvest the attempt and wait for its end; gives `AgentExited`."""

    attempt: Attempt


@dataclass(frozen=True)
class Commit:
    """Commit the work on the workspace's branch; gives `Committed` or `CommitRefused`.

    Attributes:
        message: the commit's subject and body.
        empty_reason: if nothing changed, make an empty commit with this reason; "" makes none.
    """

    message: str
    empty_reason: str = ""


@dataclass(frozen=True)
class RunGates:
    """Run the gates on a commit, or go on with them, and put the workspace back as it was before them.

    Gives `GatesPassed`, `GateFailed`, `GateBroken`, `GatesStopped` or `HeadMoved`.

    Attributes:
        head: the commit that the branch must stand at.
        number: for the names of the logs: that of the last attempt, 0 before the first.
        turn: counts from 1 how often the gates of this work package are run; the same turn runs once.
    """

    head: str
    number: int
    turn: int


@dataclass(frozen=True)
class PrepareWorkspace:
    """Run the operator's setup in a worktree that has not had it; gives `SetUp` or `GatesStopped`.

    Attributes:
        number: as of `RunGates`.
        turn: as of `RunGates`.
    """

    number: int
    turn: int


@dataclass(frozen=True)
class Submit:
    """Ask the host for `for_review`; gives `Submitted` or `HostRefused`."""

    note: str


@dataclass(frozen=True)
class TickSubtasks:
    """Tick these subtasks on the agent's word; gives `SubtasksTicked` or `HostRefused`."""

    ids: tuple[str, ...]


@dataclass(frozen=True)
class ClaimReview:
    """Ask the host for `in_review`; gives `ReviewClaimed` or `HostRefused`."""


@dataclass(frozen=True)
class Record:
    """Tell the host the verdict; gives `Recorded` or `HostRefused`.

    Attributes:
        to: `done` or `approved`, `in_progress` for rework, `blocked` when the cycles are used up.
        note: for the event's note on the host.
    """

    verdict: Verdict
    to: Lane
    note: str


@dataclass(frozen=True)
class Wait:
    """Give the slot back, for so many seconds, or until something changes where that is None."""

    reason: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Park:
    """Leave the work package to a person; gives `Parked`.

    Attributes:
        block: whether the host is told.
        rescue: whether uncommitted work is put away, which leaves the workspace clean.
    """

    reason: str
    block: bool
    rescue: bool = True


@dataclass(frozen=True)
class Unblock:
    """Tell the host that a blocked work package is back at work; gives `Unblocked` or `HostRefused`.

    Attributes:
        to: the lanes through which it goes, one after the other.
        note: for the host.
    """

    to: tuple[Lane, ...]
    note: str


@dataclass(frozen=True)
class Finish:
    """The work package leaves the run."""

    result: Result
    reason: str = ""


Command = (
    Resolve
    | Claim
    | OpenAttempt
    | RunAgent
    | Commit
    | RunGates
    | PrepareWorkspace
    | Submit
    | TickSubtasks
    | ClaimReview
    | Record
    | Wait
    | Park
    | Unblock
    | Finish
)
"""Any command; after `Wait` and `Finish` the work package gives back its turn."""
