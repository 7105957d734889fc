"""The words of the domain as frozen data; nothing here decides or touches anything."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from spec_kitty_orchestrator.core.gates import Gate, GateResult
from spec_kitty_orchestrator.core.judgement import APPROVED as APPROVED
from spec_kitty_orchestrator.core.judgement import CHANGES_REQUESTED as CHANGES_REQUESTED
from spec_kitty_orchestrator.core.judgement import Feedback as Feedback
from spec_kitty_orchestrator.core.judgement import FeedbackSource as FeedbackSource
from spec_kitty_orchestrator.core.judgement import Finding as Finding
from spec_kitty_orchestrator.core.judgement import Ruling as Ruling
from spec_kitty_orchestrator.core.judgement import Verdict as Verdict


class Lane(StrEnum):
    """The host's status of a work package. We read it and ask for changes; it is never ours to store."""

    PLANNED = "planned"
    CLAIMED = "claimed"
    IN_PROGRESS = "in_progress"
    FOR_REVIEW = "for_review"
    IN_REVIEW = "in_review"
    APPROVED = "approved"
    DONE = "done"
    BLOCKED = "blocked"
    CANCELED = "canceled"

    @property
    def complete(self) -> bool:
        """Whether the host lets dependents of a work package in this lane start."""
        return self in (Lane.APPROVED, Lane.DONE)


class Phase(StrEnum):
    """Where a work package stands in this run; never to be confused with its lane."""

    WAITING = "waiting"
    CLAIMING = "claiming"
    IMPLEMENTING = "implementing"
    COMMITTING = "committing"
    GATING = "gating"
    SUBMITTING = "submitting"
    CLAIMING_REVIEW = "claiming review"
    REVIEWING = "reviewing"
    RECORDING = "recording"
    PARKING = "parking"
    FINISHED = "finished"


class Role(StrEnum):
    """What an agent process is for; rework is an implement attempt with feedback."""

    IMPLEMENT = "implement"
    REVIEW = "review"


class Outcome(StrEnum):
    """How an attempt ended. Only `ok` says that the agent finished what it was asked."""

    OK = "ok"
    FAILED = "failed"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    AUTH = "auth"
    INVALID_REQUEST = "invalid_request"
    BUDGET = "budget"
    TIMEOUT = "timeout"
    STALLED = "stalled"
    CRASHED = "crashed"
    CANCELED = "canceled"
    LOST = "lost"


@dataclass(frozen=True)
class PolicyMetadata:
    """What a call tells the host about the agent that it acts for, computed from the flags really used.

    Every value is a non-empty string without the host's forbidden words (token, secret, key, password,
    credential); `dangerous_flags` holds the flags of the host's ban list that occur in the argv.
    """

    orchestrator_id: str
    orchestrator_version: str
    agent_family: str
    approval_mode: str
    sandbox_mode: str
    network_mode: str
    dangerous_flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workspace:
    """The git worktree of a work package, as the host resolves it.

    Attributes:
        path: absolute path of the worktree; it may not exist before the claim.
        prompt_path: absolute path of the work package's own Markdown file.
        lane_id: work packages with one `lane_id` share the worktree; None on a mission without lanes.json.
        branch: the branch that work must be committed on; None on a mission without lanes.json.
        base_ref: the ref that the branch started from; None on a mission without lanes.json.
    """

    path: str
    prompt_path: str
    lane_id: str | None = None
    branch: str | None = None
    base_ref: str | None = None

    @property
    def key(self) -> str:
        """What two work packages have in common when they cannot be worked on at the same time."""
        return self.lane_id or self.path


@dataclass(frozen=True)
class Usage:
    """What one attempt used, as the agent CLI tells it.

    Attributes:
        input_tokens: tokens sent, cached ones included.
        output_tokens: tokens received, reasoning included.
        cost_usd: US dollars, None where the CLI does not tell.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None


@dataclass(frozen=True)
class AgentReport:
    """What an agent module made of one finished process.

    Attributes:
        outcome: `ok` only after a positive result event of the CLI.
        text: the agent's final message, "" if there is none.
        detail: for people: the CLI's own words on a failure.
        retry_after_s: seconds until a rate limit ends, if the CLI tells.
        session: the id with which the CLI can resume this conversation.
        usage: tokens and cost.
        exit_code: of the process; None when it is unknown.
        leftovers: processes of the attempt that outlived it and were killed.
        usage_is_cumulative: whether `usage` counts from the beginning of the session on.
    """

    outcome: Outcome
    text: str = ""
    detail: str = ""
    retry_after_s: float | None = None
    session: str | None = None
    usage: Usage = field(default_factory=Usage)
    exit_code: int | None = None
    leftovers: int = 0
    usage_is_cumulative: bool = False


@dataclass(frozen=True)
class Attempt:
    """One agent process for one work package and one role.

    Attributes:
        id: unguessable, unique over all runs; a verdict must name it.
        number: counts the attempts of the work package from 1.
        agent: the name under which the agent is configured.
        directory: absolute path of the attempt's files.
        head: for a review, the commit under review; "" for an implementation.
        tree: for a review, the fingerprint of HEAD, index and worktree before it; "" for an implementation.
        session: the session of an earlier attempt that this one goes on with, "" if it begins a new one.
        max_cost_usd: what the agent is told that it may cost, in US dollars; None if it is told of no limit.
    """

    id: str
    number: int
    role: Role
    agent: str
    directory: str
    head: str = ""
    tree: str = ""
    session: str = ""
    max_cost_usd: float | None = None


@dataclass(frozen=True)
class ImplementReport:
    """The JSON object that we ask an implementer to end with; every part may be missing."""

    subtasks_done: tuple[str, ...] = ()
    summary: str = ""
    no_change_reason: str = ""


@dataclass(frozen=True)
class Evidence:
    """The commits of one work package: what lies between the HEAD before its first attempt and now.

    Attributes:
        base: sha before the first attempt.
        head: sha now.
        stat: `git diff --stat` of the range, bounded.
        left_out: paths that were changed and are not committed, each with the reason.
        tree: names the content of `head`: the same for commits that hold the same files; "" if unknown.
    """

    base: str
    head: str
    stat: str = ""
    left_out: tuple[str, ...] = ()
    tree: str = ""


class Result(StrEnum):
    """How a work package left the run."""

    DONE = "done"
    APPROVED = "approved"
    PARKED = "parked"
    BLOCKED = "blocked"
    CANCELED = "canceled"
    FOREIGN = "held by another actor"
    UNREVIEWED = "completed by others"
    REQUEUED = "requeued"


@dataclass(frozen=True)
class Policy:
    """The settings that decisions depend on; frozen for the length of a run and kept in the journal.

    Attributes:
        impl_agents: in the order of fallback, at least one.
        review_agents: in the order of fallback, at least one.
        max_attempts: implement attempts per work package, over all agents.
        max_review_cycles: rejections per work package before it is parked.
        max_unusable: reviews without a usable verdict, per commit, before it is parked in review.
        finish_lane: `done`, or `approved` to let the host's merge close work packages.
        tick_subtasks: whether subtasks that a report names as done are ticked on the agent's word.
        retry_base_s: first back-off, in seconds; it doubles up to `retry_cap_s`.
        gates: commands that must succeed on a commit, in this order, before a review of it is paid for.
        session_resume: whether rework goes on with the implementer's session where that is possible.
        resuming: agents that can go on with a session.
    """

    impl_agents: tuple[str, ...]
    review_agents: tuple[str, ...]
    max_attempts: int = 6
    max_review_cycles: int = 3
    max_unusable: int = 2
    finish_lane: Lane = Lane.DONE
    tick_subtasks: bool = True
    retry_base_s: float = 10.0
    retry_cap_s: float = 300.0
    gates: tuple[Gate, ...] = ()
    session_resume: bool = True
    resuming: tuple[str, ...] = ()


@dataclass(frozen=True)
class MissionState:
    """One answer of the host's `mission-state`: lanes and dependencies by work package id, in its order."""

    slug: str
    lanes: Mapping[str, Lane]
    dependencies: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class WorkPackage:
    """Everything that this run knows of one work package; `step` makes the next one from it.

    Attributes:
        lane: as last seen or acknowledged; the host is the authority.
        base: HEAD of the workspace before the first attempt, "" before the claim.
        ours: whether it was planned when we asked for it, so that nobody else can have begun it.
        head: the commit that was last made or found for review, "" before the first.
        attempts: opened attempts, oldest first.
        outcomes: how each of `attempts` ended; shorter by one while an attempt is open.
        counted_from: attempts before this index belong to an earlier start that ended in parking.
        feedback: what the next implement attempt must mend, oldest first.
        report: the implementer's last report.
        to_tick: subtasks that are to be ticked on the agent's word.
        ticked: whether that was done since the last implement attempt.
        gates: what the gates said of `head` when all of them passed.
        gate_turns: how often the gates were run to an end.
        ungated: the commit whose gates could not run: they come first when it is taken up again.
        sessions: by agent, what its next implement attempt can go on with.
        tree: the content of `head`, "" if unknown.
        rejected_tree: the content that was rejected last, "" if unknown.
        verdict: the verdict that is to be recorded on the host.
        rejected: the usable `changes_requested` verdicts so far, oldest first.
        rejected_from: like `counted_from`, for `rejected`.
        unusable: reviews by the present reviewer without a usable verdict, since the last implement attempt.
        moved: how often others moved it while we worked on it.
        review_claimed: whether the host was told of the review of the present commit.
        tries: how often the present call was repeated after a refusal, a lost reply or a stopped agent.
        impl_agent: position in the implementers' fallback order.
        review_agent: position in the reviewers' fallback order.
        stand_in: position of the agent that makes the next attempt while an earlier one rests, -1 for none.
        stand_in_after: stand-ins up to this position are not asked again before an attempt ends well.
        usage: over all attempts.
        told_usage: by session, what was last told of those whose usage is cumulative.
        rests: why it gave its slot back and for how long, "" while it is at work.
        note: why it stands where it stands, for people.
        blocks: while parking, whether the host is to be told `blocked`.
        skipped: whether a person took it out of the run, so that a new start does not take it up.
        result: set with the phase `finished`.
        left_out: changed files that were not committed, each with the reason.
        rescued: refs under which uncommitted work was saved.
        story: one short line per event, oldest first.
    """

    id: str
    dependencies: tuple[str, ...] = ()
    lane: Lane = Lane.PLANNED
    phase: Phase = Phase.WAITING
    workspace: Workspace | None = None
    base: str = ""
    ours: bool = False
    head: str = ""
    attempts: tuple[Attempt, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    counted_from: int = 0
    feedback: tuple[Feedback, ...] = ()
    report: ImplementReport = field(default_factory=ImplementReport)
    to_tick: tuple[str, ...] = ()
    ticked: bool = False
    gates: tuple[GateResult, ...] = ()
    gate_turns: int = 0
    ungated: str = ""
    sessions: Mapping[str, str] = field(default_factory=dict)
    tree: str = ""
    rejected_tree: str = ""
    verdict: Verdict | None = None
    rejected: tuple[Verdict, ...] = ()
    rejected_from: int = 0
    review_claimed: bool = False
    unusable: int = 0
    moved: int = 0
    tries: int = 0
    impl_agent: int = 0
    review_agent: int = 0
    stand_in: int = -1
    stand_in_after: int = 0
    usage: Usage = field(default_factory=Usage)
    told_usage: Mapping[str, Usage] = field(default_factory=dict)
    rests: str = ""
    note: str = ""
    blocks: bool = False
    skipped: bool = False
    result: Result | None = None
    left_out: tuple[str, ...] = ()
    rescued: tuple[str, ...] = ()
    story: tuple[str, ...] = ()

    @property
    def open_attempt(self) -> Attempt | None:
        """The attempt whose end is not yet known, if there is one."""
        return self.attempts[-1] if len(self.attempts) > len(self.outcomes) else None

    def rounds(self, role: Role) -> int:
        """How many attempts of a role were opened so far."""
        return sum(one.role is role for one in self.attempts)

    def agent(self, role: Role, policy: Policy) -> str:
        """Who is at work in a role, or makes its next attempt."""
        if self.open_attempt is not None and self.open_attempt.role is role:
            return self.open_attempt.agent
        position, agents = self.order(role, policy)
        return agents[self.stand_in if 0 <= self.stand_in < len(agents) else position]

    def last_agent(self, role: Role, policy: Policy) -> str:
        """Who made the last attempt in a role, if it is in the order; else who makes the next one."""
        _, agents = self.order(role, policy)
        made = (one.agent for one in reversed(self.attempts) if one.role is role and one.agent in agents)
        return next(made, "") or self.agent(role, policy)

    def order(self, role: Role, policy: Policy) -> tuple[int, tuple[str, ...]]:
        """Return the present position in the fallback order of a role, and the order."""
        if role is Role.REVIEW:
            return self.review_agent, policy.review_agents
        return self.impl_agent, policy.impl_agents
