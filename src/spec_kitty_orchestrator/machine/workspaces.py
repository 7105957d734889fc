"""Git in the worktrees of a mission's work packages: the `Workspaces` port."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.core.approval import Approved, Commit, Tip
from spec_kitty_orchestrator.core.model import Before, Evidence, Rescue, Workspace
from spec_kitty_orchestrator.errors import WorkspaceError, WorkspaceMissing
from spec_kitty_orchestrator.machine import (
    commit,
    conflicts,
    diff,
    hidden,
    history,
    planning,
    rescue,
    surroundings,
    tips,
    unheld,
    worktree,
)
from spec_kitty_orchestrator.machine.commit_rules import CommitRules
from spec_kitty_orchestrator.machine.committer import Committer, identity
from spec_kitty_orchestrator.machine.files import read_whole
from spec_kitty_orchestrator.machine.git import Git
from spec_kitty_orchestrator.machine.hooks import HookRules, Hooks
from spec_kitty_orchestrator.machine.repository import Repository, Worktree
from spec_kitty_orchestrator.machine.rescue import Snapshot
from spec_kitty_orchestrator.machine.surroundings import Surroundings
from spec_kitty_orchestrator.machine.task_file import owned_files
from spec_kitty_orchestrator.machine.worktree import Removal
from spec_kitty_orchestrator.ports import CommitRefusal, Restored, WorkspaceState

__all__ = ["GitWorkspaces"]

ANCHORS = "before-review"
_HOOKS = HookRules()
ASIDE = Path(".kittify") / "set-aside"
"""Where in the primary checkout that is moved which git cannot hold."""
_PARTS = 5
"""Colons in a fingerprint."""


class GitWorkspaces:
    """Real git, one call at a time per worktree; the caller never lets two work packages share one.

    Args:
        repo_root: the primary checkout.
        mission: its slug.
        rules: what may be committed.
        say: is told what had to be mended.
        hooks: how the repository's commit hooks run; None if they do not.
        confined: whether the kernel keeps reviewers from writing.
    """

    def __init__(
        self,
        repo_root: Path,
        mission: str,
        rules: CommitRules | None = None,
        say: Callable[[str], None] = lambda _: None,
        hooks: HookRules | None = _HOOKS,
        *,
        confined: bool = False,
    ) -> None:
        self._root = repo_root
        self._mission = mission
        self._rules = rules if rules is not None else CommitRules()
        self._say = say
        self._hooks = hooks
        self._confined = confined
        self._opened: Repository | None = None
        self._excludes: tuple[str, ...] = ()
        self._delivered: set[str] = set()
        # Two `git worktree add` at the same instant trip over each other's half-written folders.
        self._creating = anyio.Lock()

    async def primary_branch(self) -> str:
        """Return the branch that is checked out in the primary checkout, "" when detached."""
        return await (await self._repository()).primary.branch()

    async def branches(self) -> Mapping[str, str]:
        """Return the mission's branches, each with its commit. Raises `WorkspaceError`."""
        # The host leaves the number of a mission out where it names branches.
        return await tips.branches((await self._repository()).primary, re.sub(r"^\d{3}-", "", self._mission))

    async def tip(self, approved: Approved, known: Sequence[str], *, worktree: bool = True) -> Tip:
        """Read a branch and its `worktree`; `known` are commits that may be on any branch of the mission.

        Raises `WorkspaceError`.
        """
        repository, space = await self._repository(), approved.workspace
        tip = await tips.read(repository.primary, approved, (*known, "HEAD", space.base_ref or "HEAD"))
        if not worktree or not tip.head or await repository.peek(Path(space.path)) is None:
            return tip
        git = await self._git(space)
        unsaved = await tips.unsaved(git, approved.branch, await self.uncommitted(space))
        return replace(tip, path=space.path, uncommitted=unsaved)

    async def beyond(self, revision: str, known: Sequence[str]) -> tuple[Sequence[Commit], int]:
        """Return the commits that a revision holds beyond what is known. Raises `WorkspaceError`."""
        return await tips.beyond((await self._repository()).primary, revision, known)

    async def sha(self, revision: str) -> str:
        """Return the commit that a revision names in the primary checkout, "" if there is none."""
        return await (await self._repository()).primary.sha(revision)

    async def undelivered(self, before: str, after: str, heads: Sequence[str]) -> tuple[str, ...]:
        """Say what of these commits a merge left out of a branch. Raises `WorkspaceError`."""
        return await tips.undelivered((await self._repository()).primary, before, after, heads)

    async def conflicts(self, pairs: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], tuple[str, ...]]:
        """Return for pairs of branches in which files they conflict. Raises `WorkspaceError`."""
        repository = await self._repository()
        return await conflicts.conflicts(repository.primary, await repository.settings(), pairs)

    async def ensure(self, wp: str, workspace: Workspace, dependencies: Sequence[str]) -> None:
        """Make sure that the worktree exists; on a mission without lanes it is made here.

        Raises:
            WorkspaceError: it cannot be made, or the work of `dependencies` does not merge into it.
        """
        repository = await self._repository()
        async with self._creating:
            if workspace.branch is None:
                branches = [self._branch(dependency) for dependency in dependencies]
                await worktree.create(repository, workspace, self._branch(wp), branches)
            elif workspace.planning:
                await worktree.create(repository, workspace, workspace.branch, ())
            elif await repository.peek(Path(workspace.path)) is None:
                await worktree.recreate(repository, workspace, workspace.branch)

    async def bring(self, workspace: Workspace, revisions: Sequence[str]) -> None:
        """Merge commits into the workspace's branch where it lacks them. Raises `WorkspaceError`."""
        for revision in revisions:
            there = await self._worktree(workspace)
            name = revision.removeprefix("refs/heads/")
            await worktree.merge(there, name, await there.git.sha(revision))

    async def deliver(self, wp: str, workspace: Workspace, head: str) -> None:
        """Merge an approved commit into the target of a planning artifact. Raises `WorkspaceError`."""
        subject = f"Merge {wp} of {self._mission} into {workspace.target}"
        self._delivered |= await planning.deliver(await self._repository(), workspace, head, subject)

    async def task(self, workspace: Workspace) -> str:
        """Return the work package's own Markdown; what is not UTF-8 in it is replaced.

        Raises:
            WorkspaceError: the file cannot be read.
        """
        try:
            path = Path(workspace.prompt_path)
            data = await to_thread.run_sync(lambda: read_whole(path, links=True))
        except OSError as error:
            raise WorkspaceError(f"{workspace.prompt_path} cannot be read: {error.strerror}") from error
        return data.decode("utf-8", "replace")

    async def state(self, workspace: Workspace) -> WorkspaceState:
        """Read HEAD, branch and uncommitted paths. Raises `WorkspaceError`."""
        git = await self._git(workspace)
        dirty = tuple(change.path for change in await git.changes())
        return WorkspaceState(*await git.place(), dirty, await worktree.mark(git))

    async def uncommitted(self, workspace: Workspace) -> tuple[str, ...]:
        """Return the paths that `commit` would commit now. Raises `WorkspaceError`."""
        return await rescue.uncommitted(await self._git(workspace), await self._judging(workspace))

    async def fork_point(self, workspace: Workspace) -> str:
        """Return where the branch's own work begins. Raises `WorkspaceError`."""
        base_ref = workspace.base_ref or await (await self._repository()).primary.head()
        return await tips.fork_point(await self._git(workspace), base_ref)

    async def before(self, workspace: Workspace) -> Before:
        """Read what is there before anybody works on a work package. Raises `WorkspaceError`."""
        git, rules = await self._git(workspace), await self._judging(workspace)
        return Before(await history.tips(git), hidden.remembered(await hidden.ignored(git, rules)))

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

        Raises:
            WorkspaceError: git or the disk is broken.
        """
        repository, there = await self._repository(), await self._worktree(workspace)
        rules = await self._judging(workspace)
        hooks = None if self._hooks is None else Hooks(there.hooks, self._root, self._hooks)
        committer = Committer(there.git, there.configured, hooks)
        branch = workspace.branch or self._branch(wp)
        known = [before.known] if before is not None and before.known else []
        # A person may have merged the target into the branch since.
        others = await repository.primary.shas(workspace.base_ref or "HEAD", "HEAD")
        known += [one for one in dict.fromkeys(others) if one and not await there.git.contains("HEAD", one)]
        found = await commit.commit(committer, branch, base, message, empty_reason, rules, known)
        if isinstance(found, CommitRefusal):
            return found
        ignored = await hidden.ignored(there.git, rules)
        new = hidden.note(ignored, before.ignored if before is not None else ())
        return replace(found, notes=tuple(filter(None, (new, await self._changed_excludes(workspace)))))

    async def diff(self, workspace: Workspace, base: str, head: str, limit: int) -> tuple[str, str]:
        """Return stat and diff of a range, each of at most `limit` characters. Raises `WorkspaceError`."""
        return await diff.stat_and_changes(await self._git(workspace), base, head, limit)

    async def fingerprint(self, workspace: Workspace) -> str:
        """Return "HEAD:branch:index:worktree:unheld:surroundings"; a ref keeps what is named until `restore`.

        Raises:
            WorkspaceError: git or the disk is broken.
        """
        there = await self._worktree(workspace)
        around = await self._look(workspace, there)
        snapshot = await rescue.measure(there.git, await self._judging(workspace), around.base)
        await rescue.anchor(there.git, snapshot, self._anchor(workspace), str(around))
        return f"{snapshot}:{around.digest}"

    async def restore(self, wp: str, workspace: Workspace, fingerprint: str, name: str) -> Restored:
        """Compare with a fingerprint; if anything differs, save it under a ref and put the old state back.

        Files that an agent wrote for itself are put back too, but are not saved and do not count. What git
        cannot hold is moved aside if it is new; what of that was changed stays, and is named.

        Raises:
            WorkspaceError: it could not be saved, and then nothing was changed, or not be put back.
        """
        snapshot, _, digest = fingerprint.rpartition(":")
        if fingerprint.count(":") < _PARTS:
            snapshot, digest = fingerprint, ""
        before = Snapshot.parse(snapshot)
        there = await self._worktree(workspace)
        git, rules = there.git, await self._judging(workspace)
        base, changed = await self._around(workspace, there, digest)
        healed = await rescue.heal(git, before)
        now = await rescue.measure(git, rules, base)
        new, lacking = await rescue.changed_unheld(git, before, now)
        found = (*healed, *await rescue.differences(git, before, now), *(one.path for one in new), *lacking)
        saved, rescued = self._ref(wp, name), Rescue()
        if found:
            harmless = await rescue.own_files(git, before.head, found, rules.traces)
            if not harmless:
                rescued = Rescue((await rescue.save(git, now, saved, f"{wp}: changed where nothing may be"),))
            aside = await unheld.move_aside(git, new, *self._aside(wp, name))
            rescued += Rescue(aside=aside, lacking=tuple(lacking))
            await rescue.put_back(git, before, base)
            left = await rescue.differences(git, before, await rescue.measure(git, rules, base))
            if left:
                raise WorkspaceError(
                    f"{git.path} could not be put back to what it was: {', '.join(left)}; "
                    f"what was changed: {rescued}"
                )
            found = () if harmless else found
        if not found and await git.sha(saved):
            # We were cut off after an earlier look had found something: a review is as void as then.
            place = self._aside(wp, name)[1]
            aside = (str(place),) if await anyio.Path(place).is_dir() else ()
            found, rescued = (f"what is saved under {saved}",), Rescue((saved,), aside)
        if not changed:
            await rescue.release(git, self._anchor(workspace))
        replaced = (there.replaced,) if there.replaced else ()
        return Restored((*replaced, *found, *changed), rescued)

    async def _around(
        self, workspace: Workspace, there: Worktree, digest: str
    ) -> tuple[str, tuple[str, ...]]:
        """Return what the work is compared with, and what changed around it since a fingerprint."""
        now = await self._look(workspace, there)
        note = await rescue.noted(there.git, self._anchor(workspace))
        if not digest or (not note and now.digest == digest):
            # Where the answer of an earlier look was lost, that had found nothing here.
            return now.base, ()
        before = Surroundings.parse(note)
        if before is None or before.digest != digest:
            return now.base, ("what was noted of the repository",)
        found = await surroundings.moved(
            await self._repository(), before, now, workspace.base_ref or "", self._delivered
        )
        return before.base, found

    async def _look(self, workspace: Workspace, there: Worktree) -> Surroundings:
        target, repository = workspace.base_ref or "", await self._repository()
        return await surroundings.look(repository, there, target, confined=self._confined)

    async def rescue(self, wp: str, workspace: Workspace, name: str) -> Rescue:
        """Save uncommitted work and leave the worktree clean, on its branch; a missing worktree is clean.

        What git can hold becomes a commit under a ref, the rest is moved out of the worktree, except for what
        tools can make again, which is deleted.

        Raises:
            WorkspaceError: it could not be saved; then nothing was removed.
        """
        if not await anyio.Path(workspace.path).exists():
            return Rescue()
        git = await self._git(workspace)
        branch = workspace.branch or self._branch(wp)
        rules, subject = await self._judging(workspace), f"{wp}: rescued work"
        saved, apart = await rescue.save_unsaved(git, rules, branch, self._ref(wp, name), subject)
        aside = await unheld.move_aside(git, apart, *self._aside(wp, name))
        if saved or aside or await git.changes():
            await rescue.make_clean(git, branch)
        return Rescue(saved, aside)

    async def keep(self, wp: str, workspace: Workspace, name: str) -> Rescue:
        """Save uncommitted work under a ref and change nothing; a missing worktree holds nothing.

        Raises:
            WorkspaceError: it could not be saved.
        """
        path = Path(workspace.path)
        if await (await self._repository()).peek(path) is None:
            return Rescue()
        git = await self._git(workspace)
        branch = workspace.branch or self._branch(wp)
        ref, subject = self._ref(wp, name), f"{wp}: a copy of uncommitted work"
        saved, apart = await rescue.save_unsaved(git, await self._judging(workspace), branch, ref, subject)
        return Rescue(saved, lacking=tuple(str(path / one.path) for one in apart))

    def _aside(self, wp: str, name: str) -> tuple[Path, Path]:
        root = self._root / ASIDE
        return root, root.joinpath(*rescue.ref_name(self._mission, wp, name).split("/")[2:])

    async def remove(self, wp: str, workspace: Workspace, save_as: str = "") -> Removal:
        """Remove a worktree that holds nothing of its own; branches stay.

        Args:
            wp: whose work is saved.
            workspace: it must not be in use.
            save_as: last part of the ref under which uncommitted work is saved first; "" keeps it in place.

        Raises:
            WorkspaceError: git is broken, or the work could not be saved, and then nothing was removed.
        """
        path, repository = Path(workspace.path), await self._repository()
        if await repository.peek(path) is None:
            return Removal("it is not a git worktree")
        if await anyio.Path(path).samefile(self._root):
            return Removal("it is the primary checkout")
        saved = await self.rescue(wp, workspace, save_as) if save_as else Rescue()
        git = await self._git(workspace)
        kept = await worktree.why_kept(git, workspace.branch or self._branch(wp))
        return Removal(kept or await worktree.remove(await repository.guarded(path), path), saved)

    async def record(self, checkout: Path, paths: Sequence[str], message: str) -> None:
        """Commit these paths alone on the checked out branch; no hook runs. Raises `WorkspaceError`."""
        there = await self._worktree(Workspace(str(checkout), ""))
        words = ("commit", "--quiet", "--no-verify", "--only", "-m", message, "--", *paths)
        await there.git.run(*identity(there.configured), *words)

    async def _judging(self, workspace: Workspace) -> CommitRules:
        """Return what may be committed there: documents of the mission itself where they are the work."""
        owned = await to_thread.run_sync(owned_files, Path(workspace.prompt_path))
        return replace(self._rules, mission=self._mission if workspace.planning else "", owned=owned)

    async def _repository(self) -> Repository:
        if self._opened is None:
            self._opened = await Repository.open(self._root)
            self._excludes = await to_thread.run_sync(hidden.read_excludes, self._opened.common)
        return self._opened

    async def _git(self, workspace: Workspace) -> Git:
        return (await self._worktree(workspace)).git

    async def _changed_excludes(self, workspace: Workspace) -> str:
        """Say how the repository's own exclude file was changed since it was opened, "" if it was not."""
        common, path = (await self._repository()).common, Path(workspace.path)
        here = path.is_relative_to(self._root) and path != self._root
        own = f"/{path.relative_to(self._root).parts[0]}/" if here else ""
        now = await to_thread.run_sync(hidden.read_excludes, common)
        return hidden.changed_excludes(self._excludes, now, own)

    async def _worktree(self, workspace: Workspace) -> Worktree:
        path = Path(workspace.path)
        found = await (await self._repository()).worktree(path)
        if found is None:
            raise WorkspaceMissing(f"{path} is not a git worktree; see `git worktree list`")
        for told in found.told:
            self._say(f"{path}: {told}")
        if await self._changed_excludes(workspace):
            return replace(found, git=replace(found.git, excludes=self._excludes))
        return found

    def _branch(self, wp: str) -> str:
        return f"{self._mission}-{wp}"

    def _ref(self, wp: str, name: str) -> str:
        return rescue.ref_name(self._mission, wp, name)

    def _anchor(self, workspace: Workspace) -> str:
        return rescue.ref_name(self._mission, ANCHORS, Path(workspace.path).name)
