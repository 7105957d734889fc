"""What happened: the only thing that changes the state of a run, and what the journal keeps.

Each has a `kind`, under which the journal reads it back; what happens to a whole run is in `core.run_events`.
"""

from datetime import datetime
from typing import Literal

from spec_kitty_orchestrator.core.model import (
    AgentReport,
    Attempt,
    Before,
    Evidence,
    GateResult,
    Lane,
    Rescue,
    Role,
    WaitsFor,
    Workspace,
)
from spec_kitty_orchestrator.core.operator_events import OperatorEvent
from spec_kitty_orchestrator.core.records import dataclass, field
from spec_kitty_orchestrator.core.verdict import Verdict

__all__ = [
    "CRASHED",
    "NO_REPLY",
    "AgentExited",
    "Assigned",
    "AttemptOpened",
    "BudgetSpent",
    "Claimed",
    "CommitRefused",
    "Committed",
    "Deferred",
    "Event",
    "GateBegun",
    "GateBroken",
    "GateFailed",
    "GatesPassed",
    "GatesStopped",
    "HeadMoved",
    "HostRefused",
    "LaneSeen",
    "NothingToReview",
    "Parked",
    "Recorded",
    "Resolving",
    "ReviewClaimed",
    "Scheduled",
    "SetUp",
    "Submitted",
    "SubtasksTicked",
    "Unblocked",
    "WorkspaceFailed",
    "WorkspaceResolved",
]

NO_REPLY, CRASHED = "NO_REPLY", "CRASHED"
"""Codes of a `HostRefused` where the host did not answer, or with a traceback."""


@dataclass(frozen=True)
class Resolving:
    """The host is asked where the work package is worked on."""

    kind: Literal["resolving"] = "resolving"


@dataclass(frozen=True)
class WorkspaceResolved:
    """The host told where the work package is worked on; nothing was created."""

    workspace: Workspace
    kind: Literal["workspace_resolved"] = "workspace_resolved"


@dataclass(frozen=True)
class LaneSeen:
    """The host has a work package that is not at work here in another lane, or with other dependencies.

    `ready` tells that it lets the work package start although dependencies are canceled.
    """

    lane: Lane
    dependencies: tuple[str, ...]
    ready: bool = False
    kind: Literal["lane_seen"] = "lane_seen"


@dataclass(frozen=True)
class Scheduled:
    """The scheduler lets the work package go on from `lane`: in a slot, or `ahead` of one to be claimed."""

    lane: Lane
    workspace: Workspace
    ahead: bool = False
    kind: Literal["scheduled"] = "scheduled"


@dataclass(frozen=True)
class Deferred:
    """The work package gives its slot back.

    Attributes:
        reason: what it waits for.
        until: when it may go on, None if something else ends the wait.
        agent: the agent that has no place for it, "" if that is not the reason.
        quota: whether it waits for a quota.
        waits_for: the kind of `reason`.
    """

    reason: str
    until: datetime | None = None
    agent: str = ""
    quota: bool = False
    waits_for: WaitsFor = WaitsFor.RUN
    kind: Literal["deferred"] = "deferred"


@dataclass(frozen=True)
class Assigned:
    """An agent is to make the next attempt, which may cost `max_cost_usd` US dollars; None for any sum.

    `why` tells why there is another attempt and why it is this agent's, "" for the first of the first.
    """

    role: Role
    agent: str
    why: str = ""
    max_cost_usd: float | None = None
    kind: Literal["assigned"] = "assigned"


@dataclass(frozen=True)
class Claimed:
    """The host has the work package in progress for us, with the workspace at `head`.

    `before` is what else was there then; of no use where somebody else began the work.
    """

    workspace: Workspace
    head: str
    before: Before = field(default_factory=Before)
    kind: Literal["claimed"] = "claimed"


@dataclass(frozen=True)
class AttemptOpened:
    """An attempt has an id and a directory with its prompt; its process may or may not run yet.

    `rescued` is the copy of what a failed attempt left.
    """

    attempt: Attempt
    rescued: Rescue = field(default_factory=Rescue)
    kind: Literal["attempt_opened"] = "attempt_opened"


@dataclass(frozen=True)
class Submitted:
    """The host has the work package for review."""

    kind: Literal["submitted"] = "submitted"


@dataclass(frozen=True)
class Committed:
    """The work is committed on the workspace's branch; base equal to head means that nothing changed."""

    evidence: Evidence
    kind: Literal["committed"] = "committed"


@dataclass(frozen=True)
class CommitRefused:
    """A commit hook failed, or the agent left the branch; the implementer must mend what `message` says.

    `tree` names the content that a hook refused, "" if it was something else.
    """

    message: str
    tree: str = ""
    kind: Literal["commit_refused"] = "commit_refused"


@dataclass(frozen=True)
class GateBegun:
    """A gate runs on the commit, or is taken up again; only gates that are told like this ever ran.

    Attributes:
        log: absolute path of the directory with its output.
        turn: see `RunGates`.
        tree: fingerprint of the workspace when the turn began.
        marker: in the environment of its processes.
        seal: hash of a word that is in our record of its end, and that nobody can know before.
        mark: see `SetUp`; "" for a gate of a commit.
    """

    name: str
    head: str
    log: str = ""
    command: tuple[str, ...] = ()
    turn: int = 0
    tree: str = ""
    marker: str = ""
    seal: str = ""
    mark: str = ""
    kind: Literal["gate_begun"] = "gate_begun"


@dataclass(frozen=True)
class GatesPassed:
    """Every gate passed on the commit; the workspace is as it was before."""

    results: tuple[GateResult, ...]
    rescued: Rescue = field(default_factory=Rescue)
    kind: Literal["gates_passed"] = "gates_passed"


@dataclass(frozen=True)
class GateFailed:
    """A gate says no; `tail` is the end of its output. Those after it were not run."""

    result: GateResult
    tail: str
    rescued: Rescue = field(default_factory=Rescue)
    kind: Literal["gate_failed"] = "gate_failed"


@dataclass(frozen=True)
class GateBroken:
    """A gate says nothing of the work: it could not run, did not end, or moved HEAD. `log` is a directory."""

    name: str
    reason: str
    log: str = ""
    rescued: Rescue = field(default_factory=Rescue)
    kind: Literal["gate_broken"] = "gate_broken"

    @property
    def who(self) -> str:
        """Name what cannot run, for people."""
        return f"gate {self.name}" if self.name else "the gates"


@dataclass(frozen=True)
class GatesStopped:
    """The gates were stopped, with the run or by a person, and are to be run again."""

    rescued: Rescue = field(default_factory=Rescue)
    kind: Literal["gates_stopped"] = "gates_stopped"


@dataclass(frozen=True)
class HeadMoved:
    """The branch no longer stands at the commit that the gates are for, but at `head`."""

    head: str
    rescued: Rescue = field(default_factory=Rescue)
    kind: Literal["head_moved"] = "head_moved"


@dataclass(frozen=True)
class SetUp:
    """A worktree is set up, both named by `mark` ("" if that does not last); or it failed for a `reason`."""

    mark: str
    results: tuple[GateResult, ...] = ()
    reason: str = ""
    tail: str = ""
    rescued: Rescue = field(default_factory=Rescue)
    ignored: tuple[str, ...] = ()  # what git ignores of what it made
    kind: Literal["set_up"] = "set_up"


@dataclass(frozen=True)
class SubtasksTicked:
    """These subtasks were ticked on the word of the implementer's report."""

    ids: tuple[str, ...]
    kind: Literal["subtasks_ticked"] = "subtasks_ticked"


@dataclass(frozen=True)
class ReviewClaimed:
    """The host has the work package in review for us; the range under review is read from git."""

    base: str
    head: str
    kind: Literal["review_claimed"] = "review_claimed"


@dataclass(frozen=True)
class NothingToReview:
    """The commits under review change nothing, and no implementer of ours says why nothing had to change."""

    head: str
    kind: Literal["nothing_to_review"] = "nothing_to_review"


@dataclass(frozen=True)
class Recorded:
    """The host accepted the verdict; `lane` is where that put the work package.

    `rescued` is what became of files that must not be committed when the workspace was given free.
    """

    lane: Lane
    rescued: Rescue = field(default_factory=Rescue)
    kind: Literal["recorded"] = "recorded"


@dataclass(frozen=True)
class Parked:
    """The work package is left to a person for `reason`; `rescued` is what was put away."""

    lane: Lane
    rescued: Rescue = field(default_factory=Rescue)
    reason: str = ""
    kind: Literal["parked"] = "parked"


@dataclass(frozen=True)
class Unblocked:
    """The host has a blocked work package back at work, in `lane`, as a person wants it."""

    lane: Lane
    kind: Literal["unblocked"] = "unblocked"


@dataclass(frozen=True)
class HostRefused:
    """A host call did not do what we asked.

    Attributes:
        call: the command of the contract.
        code: the envelope's error code; NO_REPLY or CRASHED if there was no envelope.
        message: the host's own words.
        lane: read again after the refusal; the next move is decided by it.
        claimed_by: with WP_ALREADY_CLAIMED, the actor that holds it.
        unmet: with DEPENDENCIES_NOT_SATISFIED, the dependencies that it names.
    """

    call: str
    code: str
    message: str
    lane: Lane
    claimed_by: str = ""
    unmet: tuple[str, ...] = ()
    kind: Literal["host_refused"] = "host_refused"


@dataclass(frozen=True)
class AgentExited:
    """An attempt ended.

    Attributes:
        tampered: what a review changed in the workspace; it was put back.
        rescued: what was changed there meanwhile, by whomever.
        refused: the host's answer where it was told of a review while the reviewer was at work, and refused.
        untouched: whether an implementer that did not end `ok` is known to have changed nothing.
        verdict: what a reviewer that ended `ok` said, as it was read; None of any other attempt.
    """

    attempt_id: str
    report: AgentReport
    tampered: tuple[str, ...] = ()
    refused: HostRefused | None = None
    verdict: Verdict | None = None
    untouched: bool = False
    rescued: Rescue = field(default_factory=Rescue)
    kind: Literal["agent_exited"] = "agent_exited"


@dataclass(frozen=True)
class BudgetSpent:
    """The work package may cost no more; `reason` says what it has cost."""

    reason: str
    kind: Literal["budget_spent"] = "budget_spent"


@dataclass(frozen=True)
class WorkspaceFailed:
    """Git or the disk refused; a person must look at the workspace.

    `missing` tells that the worktree is no longer there, and what was not committed with it.
    """

    message: str
    missing: bool = False
    kind: Literal["workspace_failed"] = "workspace_failed"


Event = (
    Resolving
    | WorkspaceResolved
    | LaneSeen
    | Scheduled
    | Deferred
    | Assigned
    | Claimed
    | AttemptOpened
    | AgentExited
    | Committed
    | CommitRefused
    | GateBegun
    | GatesPassed
    | GateFailed
    | GateBroken
    | GatesStopped
    | HeadMoved
    | SetUp
    | Submitted
    | SubtasksTicked
    | ReviewClaimed
    | NothingToReview
    | Recorded
    | Parked
    | Unblocked
    | HostRefused
    | BudgetSpent
    | WorkspaceFailed
    | OperatorEvent
)
"""Anything that happens to a work package."""
