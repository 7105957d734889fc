"""The words of the domain as frozen data; nothing here decides or touches anything."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from spec_kitty_orchestrator.core.gates import GateResult
from spec_kitty_orchestrator.core.judgement import APPROVED as APPROVED
from spec_kitty_orchestrator.core.judgement import CHANGES_REQUESTED as CHANGES_REQUESTED
from spec_kitty_orchestrator.core.judgement import Feedback as Feedback
from spec_kitty_orchestrator.core.judgement import FeedbackSource as FeedbackSource
from spec_kitty_orchestrator.core.judgement import Finding as Finding
from spec_kitty_orchestrator.core.judgement import Ruling as Ruling
from spec_kitty_orchestrator.core.judgement import Verdict as Verdict
from spec_kitty_orchestrator.core.policy import Policy as Policy
from spec_kitty_orchestrator.core.reviewers import remaining
from spec_kitty_orchestrator.core.words import Lane as Lane
from spec_kitty_orchestrator.core.words import Outcome as Outcome
from spec_kitty_orchestrator.core.words import Phase as Phase
from spec_kitty_orchestrator.core.words import Result as Result
from spec_kitty_orchestrator.core.words import Role as Role


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
        by_exit_code: whether `ok` rests on the exit code alone, which says nothing of a stopped process.
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
    by_exit_code: bool = False


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
        votes: approvals so far, of the commit that each names; only those of `head` count.
        rejected: the usable `changes_requested` verdicts so far, oldest first.
        rejected_from: like `counted_from`, for `rejected`.
        unusable: reviews by the present reviewer without a usable verdict, since the last implement attempt.
        moved: how often others moved it while we worked on it.
        review_claimed: whether the host was told of the review of the present commit.
        tries: how often the present call was repeated after a refusal, a lost reply or a stopped agent.
        impl_agent: position in the implementers' fallback order.
        review_agent: position in the order of reviewers.
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
    votes: tuple[Verdict, ...] = ()
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
        if not agents:
            # Nobody may; where the host wants to know the agent of a role, it is told the first of it.
            return policy.review_agents[0]
        return agents[self.stand_in if 0 <= self.stand_in < len(agents) else min(position, len(agents) - 1)]

    def last_agent(self, role: Role, policy: Policy) -> str:
        """Who made the last attempt in a role, if it is in the order; else who makes the next one."""
        _, agents = self.order(role, policy)
        made = (one.agent for one in reversed(self.attempts) if one.role is role and one.agent in agents)
        return next(made, "") or self.agent(role, policy)

    def order(self, role: Role, policy: Policy) -> tuple[int, tuple[str, ...]]:
        """Return the present position in the order of a role, and the order: who has voted is not in it."""
        if role is Role.REVIEW:
            return self.review_agent, remaining(self, policy)
        return self.impl_agent, policy.impl_agents
