"""Git in memory: commits are numbered, so tests can tell which commit a verdict was bound to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import anyio.lowlevel

from spec_kitty_orchestrator.core.approval import Approved, Commit, Tip
from spec_kitty_orchestrator.core.model import Before, Evidence, Rescue, Workspace
from spec_kitty_orchestrator.ports import CommitRefusal, Restored, WorkspaceState

__all__ = ["FakeTree", "FakeWorkspaces"]


@dataclass
class FakeTree:
    """One worktree: its commits (oldest first), uncommitted paths and checked-out branch."""

    branch: str
    commits: list[str] = field(default_factory=lambda: [f"{0:040x}"])
    dirty: set[str] = field(default_factory=set)


class FakeWorkspaces:
    """Implements the port `Workspaces`; runs on asyncio and trio.

    Attributes:
        subtasks: ids that every work package's text names.
        trees: by the workspace's key.
        refusals: messages with which the next commits are refused, in this order, as a hook would.
        errors: exceptions that the next calls of `commit` raise, after the refusals.
        rescued: refs that were made, oldest first.
        content: names the content of a commit; each has its own unless a test says otherwise.
        restored: what each review was found to have changed, oldest first.
        branch: what is checked out in the primary checkout.
        conflicting: the files in which pairs of branches conflict.
        brought: what was merged into workspaces: the key of each and a revision.
        delivered: the planning artifacts that were merged into their target, each with its commit.
        undeliverable: exceptions that the next calls of `deliver` raise.
    """

    def __init__(self) -> None:
        self.subtasks: tuple[str, ...] = ("T001", "T002", "T003")
        self.trees: dict[str, FakeTree] = {}
        self.refusals: list[str] = []
        self.errors: list[Exception] = []
        self.rescued: list[str] = []
        self.restored: list[tuple[str, ...]] = []
        self.content: Callable[[str], str] = lambda sha: sha
        self.branch = "main"
        self.conflicting: dict[tuple[str, str], tuple[str, ...]] = {}
        self.brought: list[tuple[str, str]] = []
        self.delivered: list[tuple[str, str]] = []
        self.undeliverable: list[Exception] = []
        self._made = 0

    def tree(self, workspace: Workspace) -> FakeTree:
        """Return the worktree, made on first use."""
        return self.trees.setdefault(workspace.key, FakeTree(workspace.branch or workspace.key))

    def edit(self, workspace: Workspace, path: str) -> None:
        """Change a file, as an agent would."""
        self.tree(workspace).dirty.add(path)

    def commit_by_hand(self, workspace: Workspace) -> str:
        """Commit what is uncommitted, as an agent or a person would; return the new sha."""
        tree = self.tree(workspace)
        self._made += 1
        tree.commits.append(f"{self._made:040x}")
        tree.dirty.clear()
        return tree.commits[-1]

    async def primary_branch(self) -> str:
        """Return the branch of the primary checkout."""
        await anyio.lowlevel.checkpoint()
        return self.branch

    async def branches(self) -> Mapping[str, str]:
        """Return where the branches of the worktrees stand."""
        await anyio.lowlevel.checkpoint()
        return {tree.branch: tree.commits[-1] for tree in self.trees.values()}

    async def tip(self, approved: Approved, known: Sequence[str], *, worktree: bool = True) -> Tip:
        """Read a worktree's commits."""
        await anyio.lowlevel.checkpoint()
        tree = self.trees.get(approved.workspace.key)
        if tree is None:
            return Tip("", (approved.known or ("",))[-1])
        may = {*approved.known, *known}
        beyond = [sha for at, sha in enumerate(tree.commits) if not may & set(tree.commits[at:])]
        return Tip(
            tree.commits[-1],
            (approved.known or ("",))[-1],
            tuple(head for head in approved.heads if head not in tree.commits),
            tuple(Commit(sha, "somebody", "a change") for sha in reversed(beyond)),
            path=approved.workspace.path,
            uncommitted=tuple(sorted(tree.dirty)) if worktree else (),
            merged={*approved.heads} <= {head for _, head in self.delivered},
        )

    async def beyond(self, revision: str, known: Sequence[str]) -> tuple[Sequence[Commit], int]:
        """Return that nothing is there."""
        await anyio.lowlevel.checkpoint()
        return (), 0

    async def sha(self, revision: str) -> str:
        """Return the name itself."""
        await anyio.lowlevel.checkpoint()
        return revision

    async def undelivered(self, before: str, after: str, heads: Sequence[str]) -> tuple[str, ...]:
        """Return that nothing is missing."""
        await anyio.lowlevel.checkpoint()
        return ()

    async def conflicts(self, pairs: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], tuple[str, ...]]:
        """Return what the test says, nothing of other pairs."""
        await anyio.lowlevel.checkpoint()
        return {pair: self.conflicting.get(pair, ()) for pair in pairs}

    async def ensure(self, wp: str, workspace: Workspace, dependencies: Sequence[str]) -> None:
        """Make the worktree."""
        await anyio.lowlevel.checkpoint()
        self.tree(workspace)

    async def bring(self, workspace: Workspace, revisions: Sequence[str]) -> None:
        """Note what was merged into a workspace."""
        await anyio.lowlevel.checkpoint()
        self.brought += [(workspace.key, one) for one in revisions]

    async def deliver(self, wp: str, workspace: Workspace, head: str) -> None:
        """Note what was merged into a target; fail as told."""
        await anyio.lowlevel.checkpoint()
        if self.undeliverable:
            raise self.undeliverable.pop(0)
        self.delivered.append((wp, head))

    async def task(self, workspace: Workspace) -> str:
        """Return a line of Markdown."""
        await anyio.lowlevel.checkpoint()
        return f"# the task in {workspace.prompt_path}\n\nSubtasks: {', '.join(self.subtasks)}\n"

    async def state(self, workspace: Workspace) -> WorkspaceState:
        """Read HEAD, branch and uncommitted paths."""
        await anyio.lowlevel.checkpoint()
        tree = self.tree(workspace)
        # A worktree that is made anew is another one.
        mark = f"{workspace.key}:{id(tree)}"
        return WorkspaceState(tree.commits[-1], tree.branch, tuple(sorted(tree.dirty)), mark)

    async def uncommitted(self, workspace: Workspace) -> tuple[str, ...]:
        """Return the uncommitted paths: all may be committed."""
        await anyio.lowlevel.checkpoint()
        return tuple(sorted(self.tree(workspace).dirty))

    async def fork_point(self, workspace: Workspace) -> str:
        """Return the first commit."""
        await anyio.lowlevel.checkpoint()
        return self.tree(workspace).commits[0]

    async def before(self, workspace: Workspace) -> Before:
        """Return that nothing was there."""
        await anyio.lowlevel.checkpoint()
        return Before()

    async def commit(
        self,
        wp: str,
        workspace: Workspace,
        base: str,
        message: str,
        empty_reason: str,
        before: Before | None = None,
    ) -> Evidence | CommitRefusal:
        """Commit what is uncommitted; refuse or fail as told."""
        await anyio.lowlevel.checkpoint()
        tree = self.tree(workspace)
        if self.refusals:
            return CommitRefusal(self.refusals.pop(0), ",".join((tree.commits[-1], *sorted(tree.dirty))))
        if self.errors:
            raise self.errors.pop(0)
        if tree.dirty or (empty_reason and tree.commits[-1] == base):
            self.commit_by_hand(workspace)
        return Evidence(base, tree.commits[-1], stat=message, tree=self.content(tree.commits[-1]))

    async def diff(self, workspace: Workspace, base: str, head: str, limit: int) -> tuple[str, str]:
        """Return the ends of the range, nothing if they hold the same."""
        await anyio.lowlevel.checkpoint()
        if self.content(base) == self.content(head):
            return "", ""
        return (f"{base}..{head}"[:limit], "")

    async def fingerprint(self, workspace: Workspace) -> str:
        """Name HEAD and the uncommitted paths."""
        await anyio.lowlevel.checkpoint()
        tree = self.tree(workspace)
        return f"{tree.commits[-1]}:{','.join(sorted(tree.dirty))}"

    async def restore(self, wp: str, workspace: Workspace, fingerprint: str, name: str) -> Restored:
        """Put the tree back to the fingerprint; return the paths that differed."""
        await anyio.lowlevel.checkpoint()
        tree = self.tree(workspace)
        head, _, listed = fingerprint.partition(":")
        before = set(listed.split(",")) - {""}
        differs = tuple(sorted(tree.dirty ^ before)) + (("HEAD",) if tree.commits[-1] != head else ())
        if differs:
            self.rescued.append(f"{wp}/{name}")
            tree.dirty = before
            del tree.commits[tree.commits.index(head) + 1 :]
        elif f"{wp}/{name}" in self.rescued:
            differs = (name,)
        self.restored.append(differs)
        refs = (f"refs/fake/{wp}/{name}",) if f"{wp}/{name}" in self.rescued else ()
        return Restored(differs, Rescue(refs))

    async def keep(self, wp: str, workspace: Workspace, name: str) -> Rescue:
        """Return a ref if there is something to save."""
        await anyio.lowlevel.checkpoint()
        if not self.tree(workspace).dirty:
            return Rescue()
        self.rescued.append(f"{wp}/{name}")
        return Rescue((f"refs/fake/{wp}/{name}",))

    async def rescue(self, wp: str, workspace: Workspace, name: str) -> Rescue:
        """Clean the tree; return a ref if there was something to save."""
        await anyio.lowlevel.checkpoint()
        tree = self.tree(workspace)
        if not tree.dirty:
            return Rescue()
        tree.dirty.clear()
        self.rescued.append(f"{wp}/{name}")
        return Rescue((f"refs/fake/{wp}/{name}",))
