"""What a run knows of one work package, and what follows from it without a decision: who is next in a role.

`step` makes each from the one before. The parts that start anew together are records of their own.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

from spec_kitty_orchestrator.core.events import Event, GateBegun
from spec_kitty_orchestrator.core.model import (
    Attempt,
    Before,
    GateResult,
    ImplementReport,
    Lane,
    Outcome,
    Phase,
    Rescue,
    Result,
    Role,
    Taken,
    Usage,
    WaitsFor,
    Workspace,
    total,
)
from spec_kitty_orchestrator.core.records import dataclass, field, replace
from spec_kitty_orchestrator.core.verdict import Feedback, Verdict

__all__ = [
    "AT_WORK",
    "NOT_BEGUN",
    "WORKSPACE_LANES",
    "Bounds",
    "Grant",
    "Review",
    "Turn",
    "Work",
    "WorkPackage",
    "bounded",
    "reviewed",
    "unvoted",
    "worked",
]

WORKSPACE_LANES = frozenset({Lane.CLAIMED, Lane.IN_PROGRESS, Lane.FOR_REVIEW, Lane.IN_REVIEW})
"""Lanes in which a work package has its workspace to itself, whoever works on it."""


class Grant(StrEnum):
    """What the scheduler lets a work package do: work in a slot, be claimed ahead of one, or be located."""

    SLOT = "slot"
    CLAIM_AHEAD = "claim ahead"
    RESOLVE = "resolve"


NOT_BEGUN = frozenset({Phase.WAITING, Phase.FINISHED})
"""Phases of what this run has not taken up, or has left."""

AT_WORK = frozenset({Grant.SLOT, Grant.CLAIM_AHEAD})
"""The grants with which a work package goes on; to be located is none."""


@dataclass(frozen=True)
class Work:
    """What implementers made of it.

    Attributes:
        base: HEAD of the workspace before the first attempt, "" before the claim.
        before: what else was there before the first attempt.
        ours: whether it was planned when we asked for it, so that nobody else can have begun it.
        head: the commit that was last made or found for review, "" before the first.
        tree: the content of `head`, "" if unknown.
        pending: the phase in which finished work waits to be committed or submitted, None if there is none.
        feedback: what the next implement attempt must mend, oldest first.
        report: the implementer's last report.
        to_tick: subtasks that are to be ticked on the agent's word.
        ticked: whether that was done since the last implement attempt.
        left_out: changed files that were not committed, each with the reason.
        notes: what else is in the workspace and in no commit.
        sessions: by agent, what its next implement attempt can go on with.
        gates: what the gates said of `head` when all of them passed.
        gates_begun: the gates whose processes may still run, or whose ends are not told yet.
        gate_turns: how often the gates were run to an end.
        set_up: the mark of the worktree in which the setup ran for it, "" before the first.
        prepared: whether that is known in this turn to be the present one.
        ungated: the commit whose gates could not run: they come first when it is taken up again.
        untouched: ids of implement attempts that are known to have changed nothing.
        told: what people said while it was under way, oldest first: for every prompt from then on.
        red: the gates that failed, each with the content on which it did.
        refused: the content that a hook, git or the host refused last, and their words.
        by: the person whose work waits to be committed, or is under review; "" if it is an agent's.
        people: whoever handed work back.
    """

    base: str = ""
    before: Before = field(default_factory=Before)
    ours: bool = False
    head: str = ""
    tree: str = ""
    pending: Phase | None = None
    feedback: tuple[Feedback, ...] = ()
    report: ImplementReport = field(default_factory=ImplementReport)
    to_tick: tuple[str, ...] = ()
    ticked: bool = False
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sessions: Mapping[str, str] = field(default_factory=dict)
    gates: tuple[GateResult, ...] = ()
    gates_begun: tuple[GateBegun, ...] = ()
    gate_turns: int = 0
    set_up: str = ""
    prepared: bool = False
    ungated: str = ""
    untouched: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    red: tuple[tuple[str, GateResult], ...] = ()
    refused: tuple[str, str] | None = None
    by: str = ""
    people: tuple[str, ...] = ()

    @property
    def gates_told(self) -> str:
        """What its gates said, for people and reviewers, one a line; "" if nothing."""
        lines = [
            f"- {one.name}: {'passed' if one.ok else 'failed'} on {one.head} in {one.seconds:.0f} s"
            for one in self.gates
        ]
        if lines and self.uncommitted:
            lines.append("- They saw files that the commit does not hold, and might not pass without them.")
        return "\n".join(lines)

    @property
    def uncommitted(self) -> str:
        """What is in the workspace and not in the commit, one a line; "" if nothing."""
        left_out = [f"not committed: {one}" for one in self.left_out]
        return "\n".join(f"- {one}" for one in (*left_out, *self.notes))


@dataclass(frozen=True)
class Review:
    """What reviewers said of it.

    Attributes:
        claimed: whether the host was told of the review of the present commit.
        verdict: the verdict that is to be recorded on the host.
        votes: approvals so far, of the commit that each names; only those of the present commit count.
        rejected: the usable `changes_requested` verdicts so far, oldest first.
        rejected_tree: the content that was rejected last, "" if unknown.
    """

    claimed: bool = False
    verdict: Verdict | None = None
    votes: tuple[Verdict, ...] = ()
    rejected: tuple[Verdict, ...] = ()
    rejected_tree: str = ""


@dataclass(frozen=True)
class Bounds:
    """What is counted until a person must look; a new chance begins with new ones.

    Attributes:
        attempts_from: attempts before this index do not count.
        rejected_from: the same of rejections.
        spared: ids of attempts among them that do not count, because their agent was broken.
        moved: how often others moved it while we worked on it.
        tries: how often the present call was repeated after a refusal, a lost reply or a stopped agent.
        said: what the host said when the present call was last refused.
        unusable: reviews by the present reviewer without a usable verdict, since the last implement attempt.
        unchanged: the agents of the last attempts in a row that handed in what was there before.
        passed_over: by role, the agents that are not asked again.
        skipped_fallbacks: agents that are not asked as a fallback for one that rests, before an attempt ends
            well.
    """

    attempts_from: int = 0
    rejected_from: int = 0
    spared: tuple[str, ...] = ()
    moved: int = 0
    tries: int = 0
    said: str = ""
    unusable: int = 0
    unchanged: tuple[str, ...] = ()
    passed_over: Mapping[Role, tuple[str, ...]] = field(default_factory=dict)
    skipped_fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Turn:
    """Its place among the others in this start.

    Attributes:
        grant: what the scheduler lets it do now; None while it waits.
        agent: whose place it takes: the agent of the attempt that it runs or needs next, "" for none.
        assigned: whether that attempt may be opened.
        began_at: when its last attempt was assigned, None if this start assigned none.
        max_cost_usd: what that attempt may cost, in US dollars; None for any sum.
        waits: what it waits for, "" while it does not.
        waits_for: the kind of that.
        until: when it may go on, None if no time ends the wait.
        queued_at: when it began to wait for `queued_for`.
        queued_for: the agent that had no place for it, "" for none.
        quota: whether it waits for a quota.
        unspawned: whether its open attempt was put off by the end of the run before its agent began.
    """

    grant: Grant | None = None
    agent: str = ""
    assigned: bool = False
    began_at: datetime | None = None
    max_cost_usd: float | None = None
    waits: str = ""
    waits_for: WaitsFor = WaitsFor.RUN
    until: datetime | None = None
    queued_at: datetime | None = None
    queued_for: str = ""
    quota: bool = False
    unspawned: bool = False


@dataclass(frozen=True)
class WorkPackage:
    """One work package.

    Attributes:
        lane: as last seen or acknowledged; the host is the authority.
        workspace: where it is worked on, None before the host told.
        attempts: opened attempts, oldest first.
        outcomes: how each of `attempts` ended; shorter by one while an attempt is open.
        used: by each of `outcomes`.
        capped_usd: what agents say that they used beyond what they told, as they ended at a limit of ours.
        cost_before_usd: what earlier runs paid for it whose journals were put aside.
        told_usage: by session, what was last told of those whose usage is cumulative.
        note: why it stands where it stands, for people.
        blocks: while parking, whether the host is to be told `blocked`.
        untold: whether the host could not be told that it is parked.
        skipped: whether a person took it out of the run, so that a new start does not take it up.
        leaves: why a person takes it out, until what is at work on it has ended; "" if nobody does.
        halted: whether what is at work on it is to be stopped, because a person said so.
        unblocks: what the host is to be told with it that a person puts it back to work, "" for nothing.
        taken: the person who works on it, None if nobody took it over.
        result: set with the phase `finished`.
        rescued: what became of uncommitted work.
        found: the mission's branches when a start found it completed by somebody else, None before.
        ready: whether the host lets it start although dependencies are canceled.
        refused_for: dependencies for which the host refused the claim and whose lanes have not changed since.
        story: the last events, oldest first, each with the phase and the number of attempts that it met.
    """

    id: str
    dependencies: tuple[str, ...] = ()
    lane: Lane = Lane.PLANNED
    phase: Phase = Phase.WAITING
    workspace: Workspace | None = None
    work: Work = field(default_factory=Work)
    review: Review = field(default_factory=Review)
    bounds: Bounds = field(default_factory=Bounds)
    turn: Turn = field(default_factory=Turn)
    attempts: tuple[Attempt, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    used: tuple[Usage, ...] = ()
    capped_usd: float = 0.0
    cost_before_usd: float = 0.0
    told_usage: Mapping[str, Usage] = field(default_factory=dict)
    note: str = ""
    blocks: bool = False
    untold: bool = False
    skipped: bool = False
    leaves: str = ""
    halted: bool = False
    unblocks: str = ""
    taken: Taken | None = None
    result: Result | None = None
    rescued: Rescue = field(default_factory=Rescue)
    found: Mapping[str, str] | None = None
    ready: bool = False
    refused_for: tuple[str, ...] = ()
    story: tuple[tuple[Phase, int, Event], ...] = ()

    @cached_property
    def open_attempt(self) -> Attempt | None:
        """The attempt whose end is not yet known, if there is one."""
        return self.attempts[-1] if len(self.attempts) > len(self.outcomes) else None

    @property
    def cost_usd(self) -> float:
        """What counts towards the limit of its cost."""
        return self.cost_before_usd + (self.usage.cost_usd or 0.0) + self.capped_usd

    @property
    def usage(self) -> Usage:
        """What all attempts used."""
        return total(self.used)

    @cached_property
    def begun(self) -> bool:
        """Whether this run or an earlier one has taken it up and not yet left it."""
        return self.phase not in NOT_BEGUN

    @cached_property
    def untried(self) -> bool:
        """Whether an agent is yet to begin with it, also if it was only claimed so far."""
        return not self.begun or (self.phase is Phase.IMPLEMENTING and not self.attempts)

    @cached_property
    def at_work(self) -> bool:
        """Whether it goes on at present, in a slot or ahead of one."""
        return self.turn.grant in AT_WORK

    @cached_property
    def foreign(self) -> bool:
        """Whether somebody else works on it, so that its worktree must be left alone."""
        others = self.result is Result.FOREIGN or (self.taken is not None and self.phase is Phase.FINISHED)
        return others and self.lane in WORKSPACE_LANES

    @property
    def approved_by(self) -> str:
        """The person who approved its present commit, "" if nobody did."""
        given = (one.reviewer for one in self.review.votes if one.by_person and one.head == self.work.head)
        return next(given, "")

    @property
    def ended_attempts(self) -> tuple[tuple[Attempt, Outcome], ...]:
        """The attempts that count, with their outcomes, oldest first."""
        return tuple(zip(self.attempts, self.outcomes, strict=False))[self.bounds.attempts_from :]

    def rounds(self, role: Role) -> int:
        """How many attempts of a role were opened so far."""
        return sum(one.role is role for one in self.attempts)


def worked(wp: WorkPackage, **changes: Any) -> WorkPackage:
    """Return the work package with changes of its `work`."""
    return replace(wp, work=replace(wp.work, **changes))


def reviewed(wp: WorkPackage, **changes: Any) -> WorkPackage:
    """Return the work package with changes of its `review`."""
    return replace(wp, review=replace(wp.review, **changes))


def bounded(wp: WorkPackage, **changes: Any) -> WorkPackage:
    """Return the work package with changes of its `bounds`."""
    return replace(wp, bounds=replace(wp.bounds, **changes))


def unvoted(wp: WorkPackage) -> WorkPackage:
    """Forget verdicts that are not recorded on the host."""
    return reviewed(wp, verdict=None, votes=())
