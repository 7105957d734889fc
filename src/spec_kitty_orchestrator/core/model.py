"""The words of the domain as frozen data; nothing here decides or touches anything."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum

from spec_kitty_orchestrator.core.records import dataclass, field

__all__ = [
    "PLANNING_LANE",
    "AgentReport",
    "Attempt",
    "Before",
    "Evidence",
    "GateProgress",
    "GateResult",
    "ImplementReport",
    "Lane",
    "MissionState",
    "Outcome",
    "Phase",
    "PolicyMetadata",
    "Rescue",
    "Result",
    "Role",
    "Taken",
    "Usage",
    "WaitsFor",
    "Workspace",
    "total",
]

PLANNING_LANE = "lane-planning"
"""The `lane_id` that the host gives to planning-artifact work packages."""


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


class Result(StrEnum):
    """How a work package left the run."""

    DONE = "done"
    APPROVED = "approved"
    PARKED = "parked"
    BLOCKED = "blocked"
    CANCELED = "canceled"
    FOREIGN = "held by another actor"
    UNREVIEWED = "completed by others"


class WaitsFor(StrEnum):
    """What a work package waits for: the kind of it, for whoever counts or draws waits."""

    DEPENDENCY = "dependency"
    SLOT = "slot"
    WORKSPACE = "workspace"
    AGENT = "agent"
    QUOTA = "quota"
    BUDGET = "budget"
    MACHINE = "machine"
    BACK_OFF = "back-off"
    PAUSE = "pause"
    RUN = "run"


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
        target: the branch that gets a planning artifact once it is approved; "" if unknown, and for others.
    """

    path: str
    prompt_path: str
    lane_id: str | None = None
    branch: str | None = None
    base_ref: str | None = None
    target: str = ""

    @property
    def planning(self) -> bool:
        """Whether it is for planning artifacts, which belong on the target branch and in no lane."""
        return self.lane_id == PLANNING_LANE

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

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.input_tokens + self.output_tokens


def total(usages: Iterable[Usage]) -> Usage:
    """Add up what was used; a cost is known as soon as one of them is."""
    each = list(usages)
    costs = [one.cost_usd for one in each if one.cost_usd is not None]
    tokens = sum(one.input_tokens for one in each), sum(one.output_tokens for one in each)
    return Usage(*tokens, sum(costs) if costs else None)


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
        refused: whether the CLI's own rules refused every call that would have changed or run something.
        machine: of a cluster, on which it ran; "" for the one that the run is on.
        waited_s: seconds for which it waited for a slot of a cluster before it began.
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
    refused: bool = False
    machine: str = ""
    waited_s: float = 0.0


@dataclass(frozen=True)
class Attempt:
    """One agent process for one work package and one role.

    Attributes:
        id: unguessable, unique over all runs; a verdict must name it.
        number: counts the attempts of the work package from 1.
        agent: the name under which the agent is configured.
        directory: absolute path of the attempt's files.
        head: for a review, the commit under review; for an implementation, HEAD before it.
        tree: for a review, the fingerprint of HEAD, index and worktree before it; "" for an implementation.
        session: the session of an earlier attempt that this one goes on with, "" if it begins a new one.
        max_cost_usd: what the agent is told that it may cost, in US dollars; None if it is told of no limit.
        model: that is set for the agent, "" if its CLI chooses.
        version: of its CLI, "" if it is not known yet.
        tells_cost: whether its reports say what it cost; a cost of none may else be either.
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
    model: str = ""
    version: str = ""
    tells_cost: bool = True


@dataclass(frozen=True)
class ImplementReport:
    """The JSON object that we ask an implementer to end with; every part may be missing."""

    subtasks_done: tuple[str, ...] = ()
    summary: str = ""
    no_change_reason: str = ""


@dataclass(frozen=True)
class Rescue:
    """What became of uncommitted work before a workspace was cleaned or put back, or of a copy of it.

    Attributes:
        refs: what git can hold is a commit under each of these.
        aside: where what git cannot hold was moved: absolute paths outside of the workspace.
        lacking: paths in the workspace of which there is no copy; they are as they were found.
    """

    refs: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether there was anything."""
        return bool(self.refs or self.aside or self.lacking)

    def __add__(self, other: "Rescue") -> "Rescue":
        """Return both as one."""
        pairs = ((self.refs, other.refs), (self.aside, other.aside), (self.lacking, other.lacking))
        return Rescue(*(tuple(dict.fromkeys((*mine, *its))) for mine, its in pairs))

    def __str__(self) -> str:
        """Say it in one line, for people."""
        parts = [f"saved, `git show {ref}`" for ref in self.refs]
        if self.aside:
            parts.append(f"what git cannot hold was moved to {_some(self.aside)}")
        if self.lacking:
            parts.append(f"there is no copy of {_some(self.lacking)}")
        return "; ".join(parts) or "there was nothing to save"


def _some(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@dataclass(frozen=True)
class Before:
    """What was there before anybody worked on a work package.

    Attributes:
        known: a commit that reaches all that branches, tags and remotes held; "" if that was not read.
        ignored: paths in the workspace that git ignored.
    """

    known: str = ""
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """The commits of one work package: what lies between the HEAD before its first attempt and now.

    Attributes:
        base: sha before the first attempt.
        head: sha now.
        stat: `git diff --stat` of the range, bounded.
        left_out: paths that were changed and are not committed, each with the reason.
        tree: names the content of `head`: the same for commits that hold the same files; "" if unknown.
        notes: sentences on what else is in the workspace and in no commit.
    """

    base: str
    head: str
    stat: str = ""
    left_out: tuple[str, ...] = ()
    tree: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MissionState:
    """One answer of the host's `mission-state`, by work package id, in its order.

    Attributes:
        titles: of the work packages, as far as their files tell.
        subtasks: their ids, as far as the files tell.
        ready: those that the host lets start although it has dependencies of theirs canceled.
    """

    slug: str
    lanes: Mapping[str, Lane]
    dependencies: Mapping[str, tuple[str, ...]]
    titles: Mapping[str, str] = field(default_factory=dict)
    subtasks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ready: tuple[str, ...] = ()

    @property
    def held_by_canceled(self) -> tuple[str, ...]:
        """The work packages that canceled dependencies alone may keep; only the host says whether they do."""
        found = []
        for wp, needed in self.dependencies.items():
            lanes = {self.lanes.get(one) for one in needed} - {Lane.APPROVED, Lane.DONE}
            if self.lanes.get(wp) is Lane.PLANNED and lanes == {Lane.CANCELED}:
                found.append(wp)
        return tuple(found)


@dataclass(frozen=True)
class Taken:
    """Who took a work package over, and when; None before that is journaled."""

    by: str
    at: datetime | None = None

    @property
    def told(self) -> str:
        """Say it for people."""
        since = f" at {self.at.astimezone(UTC):%H:%M} UTC" if self.at is not None else ""
        return f"taken over by {self.by}{since}"


@dataclass(frozen=True)
class GateResult:
    """What one gate said of one commit.

    Attributes:
        name: the gate's.
        command: what ran, so that a gate that was changed since has said nothing.
        head: the commit.
        ok: whether it passed.
        seconds: how long it took.
        log: absolute path of the directory with its output.
    """

    name: str
    command: tuple[str, ...]
    head: str
    ok: bool
    seconds: float = 0.0
    log: str = ""


@dataclass(frozen=True)
class GateProgress:
    """How far a turn of the gates is.

    Attributes:
        tree: the fingerprint of the workspace when the turn began, "" if it has not begun.
        running: whether one of its gates still runs.
        stopped: how many gates were stopped because they are no part of it.
    """

    tree: str = ""
    running: bool = False
    stopped: int = 0
