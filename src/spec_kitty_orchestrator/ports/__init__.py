"""What the driver needs from the world, as protocols; each has a real part and a shipped stand-in.

Implementations raise `HostError` and `WorkspaceError` for a broken environment; whatever is expected to
happen in a healthy one comes back as a value.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Protocol, TypeVar

from spec_kitty_orchestrator.core.approval import Approved, Commit, Tip
from spec_kitty_orchestrator.core.model import (
    AgentReport,
    Attempt,
    Before,
    Evidence,
    Lane,
    MissionState,
    PolicyMetadata,
    Rescue,
    Role,
    Workspace,
)
from spec_kitty_orchestrator.core.records import dataclass, field
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import Line

__all__ = [
    "AgentRunner",
    "AttemptRequest",
    "CommitRefusal",
    "Headroom",
    "Host",
    "Journal",
    "Lock",
    "Observer",
    "OneLine",
    "Restored",
    "ReviewResult",
    "WallClock",
    "WorkspaceState",
    "Workspaces",
]

OneLine = TypeVar("OneLine", bound=Line)
"""Any one kind of line of a journal."""


@dataclass(frozen=True)
class ReviewResult:
    """The host's structured review outcome (`--review-result-json`).

    Attributes:
        verdict: `approved` or `changes_requested`.
        reference: names the review attempt and the sha that it is bound to.
    """

    reviewer: str
    verdict: str
    reference: str
    summary: str


class Host(Protocol):
    """The commands of `spec-kitty orchestrator-api`.

    Every method raises `HostRefusal` for an error envelope and `HostNoReply` when there was none; reads are
    repeated by the implementation on transient failure, mutations never.
    """

    async def mission_state(self, mission: str) -> MissionState:
        """Read the lanes and dependencies of every work package."""
        ...

    async def resolve_workspace(self, mission: str, wp: str) -> Workspace:
        """Read where a work package is worked on; nothing is created."""
        ...

    async def start_implementation(
        self, mission: str, wp: str, actor: str, policy: PolicyMetadata
    ) -> Workspace:
        """Move planned → in_progress and allocate the worktree; harmless to repeat for the same actor."""
        ...

    async def start_review(self, mission: str, wp: str, actor: str, policy: PolicyMetadata) -> None:
        """Move for_review → in_review; repeating it is harmless."""
        ...

    async def transition(
        self,
        mission: str,
        wp: str,
        to: Lane,
        actor: str,
        *,
        policy: PolicyMetadata | None = None,
        note: str = "",
        review: ReviewResult | None = None,
        force: bool = False,
    ) -> None:
        """Move a work package along one edge of the host's state machine, or by `force` along any other.

        What is forced needs a note.
        """
        ...

    async def accept_mission(self, mission: str, actor: str) -> None:
        """Record the mission's acceptance."""
        ...

    async def merge_mission(self, mission: str, branches: int = 1) -> None:
        """Merge the lanes, so many `branches`, into the target branch.

        The host does not check lanes: the caller must.
        """
        ...

    async def tick_subtasks(self, mission: str, wp: str, ids: Sequence[str]) -> None:
        """Mark subtasks as done: the one call outside `orchestrator-api`, made on an implementer's word."""
        ...


@dataclass(frozen=True)
class AttemptRequest:
    """What the runner needs to open an attempt; the prompt is complete.

    Attributes:
        session: what an earlier report of this agent in this workspace called its session, to go on with it;
            the opened `Attempt` has none where the agent cannot.
        max_cost_usd: what the attempt may cost, in US dollars; None for no limit. The opened `Attempt` has
            none where the agent cannot be told.
    """

    id: str
    mission: str
    wp_id: str
    number: int
    role: Role
    agent: str
    workspace: Workspace
    prompt: str
    head: str = ""
    tree: str = ""
    session: str = ""
    max_cost_usd: float | None = None


class AgentRunner(Protocol):
    """Runs attempts as processes, at most one at a time per attempt directory."""

    def policy(self, agent: str, role: Role) -> PolicyMetadata:
        """Tell what the agent's argv for this role really allows."""
        ...

    async def open(self, request: AttemptRequest) -> Attempt:
        """Write `prompt.md` and `command.json` into a directory of the attempt's own; nothing is spawned."""
        ...

    async def run(self, attempt: Attempt) -> AgentReport:
        """Spawn the attempt, or re-attach to it, or harvest what it left; wait for its end.

        Safe to call again after a crash: an attempt never runs twice.
        """
        ...

    async def stop(self, attempt: Attempt, grace_s: float) -> None:
        """Stop one attempt, also one that is still to be run: its `run` then returns `canceled`."""
        ...

    async def stop_all(self, grace_s: float) -> None:
        """Stop every running attempt; each `run` then returns `canceled`."""
        ...


@dataclass(frozen=True)
class WorkspaceState:
    """What git says of a worktree.

    Attributes:
        head: its sha.
        branch: "" when detached.
        dirty: uncommitted paths.
        mark: names this worktree, and no other that is made at the same place; "" of the primary checkout.
    """

    head: str
    branch: str
    dirty: tuple[str, ...]
    mark: str = ""


@dataclass(frozen=True)
class CommitRefusal:
    """Why work could not be committed, in words for the implementer.

    `tree` names the content that a hook refused, "" if it was something else.
    """

    message: str
    tree: str = ""


@dataclass(frozen=True)
class Restored:
    """What a comparison with a fingerprint found: what differed, for people, and what became of it."""

    differed: tuple[str, ...] = ()
    rescued: Rescue = field(default_factory=Rescue)


class Workspaces(Protocol):
    """Git in the worktrees of work packages. Raises `WorkspaceError` when git or the disk is broken."""

    async def primary_branch(self) -> str:
        """Return the branch that is checked out in the primary checkout, "" when detached."""
        ...

    async def branches(self) -> Mapping[str, str]:
        """Return the mission's branches, each with its commit."""
        ...

    async def tip(self, approved: Approved, known: Sequence[str], *, worktree: bool = True) -> Tip:
        """Read a branch and its `worktree`; `known` are commits that may be on any branch of the mission."""
        ...

    async def beyond(self, revision: str, known: Sequence[str]) -> tuple[Sequence[Commit], int]:
        """Return the newest commits that a revision holds beyond what is known, and how many more there are.

        Merges that change nothing themselves, and changes of the host's own files, are passed over.
        """
        ...

    async def sha(self, revision: str) -> str:
        """Return the commit that a revision names in the primary checkout, "" if there is none."""
        ...

    async def undelivered(self, before: str, after: str, heads: Sequence[str]) -> tuple[str, ...]:
        """Say what of these commits a merge left out of a branch: commits, then paths."""
        ...

    async def conflicts(self, pairs: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], tuple[str, ...]]:
        """Return for pairs of branches in which files merging them conflicts, () for none; changes nothing.

        A pair of which git cannot tell is left out.
        """
        ...

    async def ensure(self, wp: str, workspace: Workspace, dependencies: Sequence[str]) -> None:
        """Make sure that the worktree exists; creates it where the host leaves that to us (no lanes.json).

        `dependencies` are ids whose work must be visible in a worktree that is created here.
        """
        ...

    async def bring(self, workspace: Workspace, revisions: Sequence[str]) -> None:
        """Merge commits into the workspace's branch where it lacks them. Raises `WorkspaceError`."""
        ...

    async def deliver(self, wp: str, workspace: Workspace, head: str) -> None:
        """Merge an approved commit of a planning artifact into its target; repeating it is harmless.

        Raises:
            WorkspaceError: that cannot be, and nothing was changed; a person can mend it.
        """
        ...

    async def task(self, workspace: Workspace) -> str:
        """Return the work package's own Markdown, for the prompts."""
        ...

    async def state(self, workspace: Workspace) -> WorkspaceState:
        """Read HEAD, branch and uncommitted paths."""
        ...

    async def uncommitted(self, workspace: Workspace) -> tuple[str, ...]:
        """Return the paths that `commit` would commit now."""
        ...

    async def fork_point(self, workspace: Workspace) -> str:
        """Return where the branch left its base: the start of adopted work whose first HEAD we never saw."""
        ...

    async def before(self, workspace: Workspace) -> Before:
        """Read what is there before anybody works on a work package."""
        ...

    async def commit(
        self,
        wp: str,
        workspace: Workspace,
        base: str,
        message: str,
        empty_reason: str,
        before: Before | None = None,
    ) -> Evidence | CommitRefusal:
        """Commit everything that may be committed on the workspace's branch; repeating it is harmless.

        `before` tells what of it is not the work package's own.

        Raises:
            WorkspaceError: git, its signing or the disk is broken; the work is where it was.
        """
        ...

    async def diff(self, workspace: Workspace, base: str, head: str, limit: int) -> tuple[str, str]:
        """Return `git diff --stat` and the diff of a range as text, each of at most `limit` characters.

        Files whose changes do not fit into the diff are named at its end.
        """
        ...

    async def fingerprint(self, workspace: Workspace) -> str:
        """Name HEAD, index and worktree (untracked files included) so that any change shows."""
        ...

    async def restore(self, wp: str, workspace: Workspace, fingerprint: str, name: str) -> Restored:
        """Compare with a fingerprint; if anything differs, save it under a rescue ref and put it back.

        `name` is the last part of the ref; where that ref exists, an earlier call found something, and the
        answer is not empty.
        """
        ...

    async def keep(self, wp: str, workspace: Workspace, name: str) -> Rescue:
        """Save a copy of uncommitted work under a ref and change nothing."""
        ...

    async def rescue(self, wp: str, workspace: Workspace, name: str) -> Rescue:
        """Save uncommitted work and leave the worktree clean; a missing worktree is clean.

        What git can hold becomes a commit under a ref; the rest is moved out of the worktree.
        """
        ...


class Journal(Protocol):
    """The append-only record of a mission's runs; a line is on disk before `append` returns."""

    async def append(self, line: OneLine) -> OneLine:
        """Add one line durably, and return it with its numbers.

        The journal numbers: whatever `seq` the line has is replaced by the next one, and so is the `number`
        of a `RunStarted`. Both ascend over all starts.

        Raises:
            JournalError: it is not stored. It takes one sentence for people: what failed, and what to do.
        """
        ...

    async def read(self) -> Sequence[Line]:
        """Return every whole line, oldest first; a torn last line is dropped. Raises `JournalError`."""
        ...


class Lock(Protocol):
    """That one driver at a time works on a mission, on whatever machine.

    Whoever holds it may enter it again; it is free when each time was left. A crash frees it.
    """

    async def __aenter__(self) -> object:
        """Take the lock. Raises `RunActive` if somebody else holds it."""
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        """Give it back."""
        ...


class Headroom(Protocol):
    """Whether the machine has room for one more agent."""

    async def shortage(self) -> str:
        """Return "" if there is room; else one sentence: what is short, how much is free, and the floor."""
        ...


class WallClock(Protocol):
    """The time of day, for records; waits use the event loop's clock."""

    def now(self) -> datetime:
        """Return the time in UTC, with its zone."""
        ...


class Observer(Protocol):
    """Is told of every line of the run after it was journaled; must be quick and must not raise."""

    def saw(self, state: RunState, line: Line) -> None:
        """Take notice of an event, or of the run's start or end, which led to `state`."""
        ...

    def said(self, message: str) -> None:
        """Take notice of something that concerns the whole run, for people."""
        ...
