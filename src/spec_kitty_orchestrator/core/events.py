"""What happened: the only thing that changes a work package, and what the journal keeps.

Each event has a `kind`, the discriminator under which it is read back from the journal.
"""

from dataclasses import dataclass
from typing import Literal

from spec_kitty_orchestrator.core.gates import GateResult
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Evidence, Lane, Role, Workspace


@dataclass(frozen=True)
class Scheduled:
    """The scheduler gave the work package a slot, with fresh knowledge of its lane and workspace."""

    lane: Lane
    workspace: Workspace
    kind: Literal["scheduled"] = "scheduled"


@dataclass(frozen=True)
class Claimed:
    """The host has the work package in progress for us; `head` is the workspace's HEAD then."""

    workspace: Workspace
    head: str
    kind: Literal["claimed"] = "claimed"


@dataclass(frozen=True)
class AttemptOpened:
    """An attempt has an id and a directory with its prompt; its process may or may not run yet.

    `rescued` names the ref under which a copy of what a failed attempt left was saved, "" if it left nothing.
    """

    attempt: Attempt
    rescued: str = ""
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
    """A commit hook failed, or the agent left the branch; the implementer must mend what `message` says."""

    message: str
    kind: Literal["commit_refused"] = "commit_refused"


@dataclass(frozen=True)
class GatesPassed:
    """Every gate passed on the commit; the workspace is as it was before."""

    results: tuple[GateResult, ...]
    kind: Literal["gates_passed"] = "gates_passed"


@dataclass(frozen=True)
class GateFailed:
    """A gate says no; `tail` is the end of its output. Those after it were not run."""

    result: GateResult
    tail: str
    kind: Literal["gate_failed"] = "gate_failed"


@dataclass(frozen=True)
class GateBroken:
    """A gate says nothing of the work: it could not run, did not end, or moved HEAD. A person must look.

    `log` is the directory with its output, "" if there is none.
    """

    name: str
    reason: str
    log: str = ""
    kind: Literal["gate_broken"] = "gate_broken"

    @property
    def who(self) -> str:
        """Name what cannot run, for people."""
        return f"gate {self.name}" if self.name else "the gates"


@dataclass(frozen=True)
class GatesStopped:
    """The gates were stopped with the run, and are to be run again."""

    kind: Literal["gates_stopped"] = "gates_stopped"


@dataclass(frozen=True)
class HeadMoved:
    """The branch no longer stands at the commit that the gates are for, but at `head`."""

    head: str
    kind: Literal["head_moved"] = "head_moved"


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
class Recorded:
    """The host accepted the verdict; `lane` is where that put the work package.

    `rescued` names the ref under which files that must not be committed were saved before a workspace was
    given free, "" if there were none.
    """

    lane: Lane
    rescued: str = ""
    kind: Literal["recorded"] = "recorded"


@dataclass(frozen=True)
class Parked:
    """The workspace is clean, what was not committed is under `rescued`, and the host knows."""

    lane: Lane
    rescued: str = ""
    kind: Literal["parked"] = "parked"


@dataclass(frozen=True)
class HostRefused:
    """A host call did not do what we asked.

    Attributes:
        call: the command of the contract.
        code: the envelope's error code; NO_REPLY when the host crashed or did not answer.
        message: the host's own words.
        lane: read again after the refusal; the next move is decided by it.
        claimed_by: with WP_ALREADY_CLAIMED, the actor that holds it.
    """

    call: str
    code: str
    message: str
    lane: Lane
    claimed_by: str = ""
    kind: Literal["host_refused"] = "host_refused"


@dataclass(frozen=True)
class AgentExited:
    """An attempt ended.

    Attributes:
        tampered: what a review changed in the workspace; it was put back.
        refused: the host's answer where it was told of a review while the reviewer was at work, and refused.
    """

    attempt_id: str
    report: AgentReport
    tampered: tuple[str, ...] = ()
    refused: HostRefused | None = None
    kind: Literal["agent_exited"] = "agent_exited"


@dataclass(frozen=True)
class TimerFired:
    """A wait is over."""

    kind: Literal["timer_fired"] = "timer_fired"


@dataclass(frozen=True)
class Queued:
    """It gave its slot back and waits its turn: for a slot, or for an agent that has no room."""

    reason: str
    kind: Literal["queued"] = "queued"


@dataclass(frozen=True)
class StandIn:
    """The agent at this position of a role's order makes the next attempt, because an earlier one rests.

    The order stays as it is: the attempt after that is for the agent whose turn it is, if it may work then.
    """

    role: Role
    position: int
    kind: Literal["stand_in"] = "stand_in"


@dataclass(frozen=True)
class BudgetSpent:
    """The work package may cost no more; `reason` says what it has cost."""

    reason: str
    kind: Literal["budget_spent"] = "budget_spent"


@dataclass(frozen=True)
class WorkspaceFailed:
    """Git or the disk refused; a person must look at the workspace."""

    message: str
    kind: Literal["workspace_failed"] = "workspace_failed"


@dataclass(frozen=True)
class Retried:
    """A person puts a parked or blocked work package back to work; `note` is guidance for its implementer."""

    note: str = ""
    kind: Literal["retried"] = "retried"


@dataclass(frozen=True)
class Skipped:
    """A person takes a work package out of the run, which found it in `lane`; `note` says why."""

    lane: Lane
    note: str = ""
    kind: Literal["skipped"] = "skipped"


Event = (
    Scheduled
    | Claimed
    | AttemptOpened
    | AgentExited
    | Committed
    | CommitRefused
    | GatesPassed
    | GateFailed
    | GateBroken
    | GatesStopped
    | HeadMoved
    | Submitted
    | SubtasksTicked
    | ReviewClaimed
    | Recorded
    | Parked
    | HostRefused
    | TimerFired
    | Queued
    | StandIn
    | BudgetSpent
    | WorkspaceFailed
    | Retried
    | Skipped
)

NO_REPLY = "NO_REPLY"
