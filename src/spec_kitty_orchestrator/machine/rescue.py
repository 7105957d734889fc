"""Saving a worktree's state as git objects and putting it back; nothing goes before its copy is verified.

Files are stored byte for byte, whatever filters and line ends are configured. Ignored files, and what tools
can make again, are neither saved nor put back. What git cannot hold is compared, and moved aside: `unheld`.
"""

import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine import unheld
from spec_kitty_orchestrator.machine.commit_rules import CommitRules, is_trace
from spec_kitty_orchestrator.machine.git import OUR_IDENTITY, Change, Git, failure
from spec_kitty_orchestrator.machine.nested import Link, links, links_among
from spec_kitty_orchestrator.machine.raw_files import rewrite_raw, store_raw
from spec_kitty_orchestrator.machine.staging import caches_among, stage
from spec_kitty_orchestrator.machine.unheld import Unheld

__all__ = [
    "REFS",
    "Snapshot",
    "anchor",
    "changed_unheld",
    "differences",
    "heal",
    "index_copy",
    "make_clean",
    "measure",
    "noted",
    "own_files",
    "put_back",
    "ref_name",
    "release",
    "save",
    "save_unsaved",
    "uncommitted",
]

REFS = "refs/spec-kitty-orchestrator"

_UNMERGED = "unmerged"
"""Stands for the tree of an index with conflicts, which has none."""

_MAX_SAME_NAME = 1000


@dataclass(frozen=True)
class Snapshot:
    """The state of a worktree.

    Attributes:
        head: sha of HEAD.
        branch: "" when detached.
        index: tree of the index, or `unmerged`.
        worktree: tree of everything that is not ignored, untracked files included.
        unheld: blob that lists what git cannot hold, "" if there is nothing of that.
    """

    head: str
    branch: str
    index: str
    worktree: str
    unheld: str

    def __str__(self) -> str:
        return ":".join((self.head, self.branch, self.index, self.worktree, self.unheld))

    @classmethod
    def parse(cls, text: str) -> "Snapshot":
        """Read back what `str` gave. Raises `WorkspaceError` for anything else."""
        parts = text.split(":")
        if len(parts) != 5 or not all(re.fullmatch("[0-9a-f]{40,64}", part) for part in (parts[0], parts[3])):
            raise WorkspaceError(f"{text!r} is no fingerprint of a worktree; the journal is damaged")
        return cls(*parts)


def ref_name(*parts: str) -> str:
    """Return a valid ref of ours from names that may hold anything."""
    return "/".join((REFS, *(_component(part) for part in parts)))


def _component(name: str) -> str:
    safe = re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9._-]", "-", name)).strip(".-")
    return (safe.removesuffix(".lock") or "unnamed")[:100]


async def measure(
    git: Git, rules: CommitRules, base: str = "", left_out: Callable[[Change], bool] | None = None
) -> Snapshot:
    """Write index and worktree as trees; neither is changed.

    Files that the work since `base` has to do with are compared by content, whatever git remembers of them.
    What is new and `left_out`, as a worker thread is told, is in neither tree.
    """
    async with index_copy(git) as copy:
        index = await copy.ask("write-tree")
        submodules = await _show_hidden(copy)
        if base:
            await _forget_what_was_seen(copy, base)
        changes = [change for change in await copy.changes() if change.code[1] != " "]
        caches = await caches_among(copy, changes)
        changes = [change for change in changes if change.path not in caches]
        if left_out is not None:
            changes = await to_thread.run_sync(_without, changes, left_out)
        apart = await unheld.find(copy, changes, submodules, rules)
        without = {one.path for one in apart}
        await store_raw(copy, [change for change in changes if change.path not in without])
        worktree = (await copy.run("write-tree")).text
    return Snapshot(
        *await git.place(),
        index.text if index.rc == 0 else _UNMERGED,
        worktree,
        await unheld.write(git, apart),
    )


def _without(changes: Sequence[Change], left_out: Callable[[Change], bool]) -> list[Change]:
    return [change for change in changes if not (change.untracked and left_out(change))]


async def _forget_what_was_seen(git: Git, base: str) -> None:
    """Take from the index size and time of the files that differ from `base`, so that git reads them."""
    raw = ("-r", "-z", "--raw", "--no-abbrev", "--no-renames", "--diff-filter=d", "--ignore-submodules=none")
    fields = (await git.ask("diff-tree", *raw, base, "HEAD")).paths
    pairs = list(zip(fields[::2], fields[1::2], strict=False))
    present = await to_thread.run_sync(
        lambda: [pair for pair in pairs if os.path.lexists(git.path / pair[1])]
    )
    if present:
        entries = (f"{(parts := head.split(' '))[1]} {parts[3]} 0\t{path}\0" for head, path in present)
        await git.run("update-index", "-z", "--index-info", stdin=b"".join(map(os.fsencode, entries)))


async def uncommitted(git: Git, rules: CommitRules) -> tuple[str, ...]:
    """Return the paths that may be committed and are not; nothing is changed."""
    async with index_copy(git) as copy:
        staged = await stage(copy, rules)
    return tuple(change.path for change in staged.allowed)


@asynccontextmanager
async def index_copy(git: Git) -> AsyncIterator[Git]:
    """Give git that works on a copy of the index."""
    real = await git.file("index")
    folder = Path(await to_thread.run_sync(tempfile.mkdtemp))
    try:
        copy = folder / "index"
        await to_thread.run_sync(_copy_if_there, real, copy)
        yield replace(git, index=copy)
    finally:
        await to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))


def _copy_if_there(source: Path, target: Path) -> None:
    if source.exists():
        shutil.copy2(source, target)


async def _show_hidden(git: Git) -> tuple[Link, ...]:
    """Clear the index bits that make git overlook changes of a file that is there; return the submodules."""
    listed = (await git.run("ls-files", "-v", "-s", "-z")).paths
    assumed = [line.partition("\t")[2] for line in listed if line[0].islower()]
    skipped = [line.partition("\t")[2] for line in listed if line[0] in "Ss"]
    # A sparse checkout skips files that are absent; those stay skipped.
    skipped = await to_thread.run_sync(lambda: [path for path in skipped if (git.path / path).exists()])
    for flag, paths in (("--no-assume-unchanged", assumed), ("--no-skip-worktree", skipped)):
        if paths:
            names = "".join(f"{path}\0" for path in paths).encode("utf-8", "surrogateescape")
            await git.run("update-index", flag, "-z", "--stdin", stdin=names)
    return links_among(line[2:] for line in listed)


async def save_unsaved(
    git: Git, rules: CommitRules, branch: str, ref: str, subject: str
) -> tuple[tuple[str, ...], list[Unheld]]:
    """Save what `branch` does not hold; return under which ref what git can hold is, and what it cannot."""
    if (
        await git.branch() == branch
        and not await git.changes()
        and not await git.operation()
        and not await links(git)
    ):
        return (), []
    now = await measure(git, rules)
    apart = await unheld.unsaved(git, (await unheld.read(git, now.unheld)).values())
    tree = (await git.run("rev-parse", "HEAD^{tree}")).text
    in_order = now.branch == branch and not await git.operation()
    if in_order and now.index == now.worktree == tree:
        return (), apart
    return (await save(git, now, ref, subject),), apart


async def anchor(git: Git, snapshot: Snapshot, ref: str, note: str = "") -> None:
    """Keep a snapshot's objects, and a note, under one ref that is overwritten."""
    await git.run("update-ref", ref, await _commit(git, snapshot, f"To be put back\n\n{note}".rstrip()))


async def noted(git: Git, ref: str) -> str:
    """Return the note of a ref of `anchor`, "" if there is none."""
    reply = await git.ask("cat-file", "commit", ref)
    return reply.stdout.decode("utf-8", "replace").partition("\n\n")[2].partition("\n\n")[2].rstrip("\n")


async def release(git: Git, ref: str) -> None:
    """Remove a ref of `anchor`; harmless if there is none."""
    await git.run("update-ref", "-d", ref)


async def save(git: Git, snapshot: Snapshot, ref: str, subject: str) -> str:
    """Save a snapshot as a commit whose parents are HEAD and, if it is a state of its own, the index.

    Returns:
        The ref; with -2, -3 … at its end if the name was taken.

    Raises:
        WorkspaceError: it was not saved.
    """
    commit = await _commit(git, snapshot, subject)
    for number in range(1, _MAX_SAME_NAME):
        name = ref if number == 1 else f"{ref}-{number}"
        if not await git.sha(name):
            # All zeros: only if nobody took the name meanwhile.
            await git.run("update-ref", name, commit, "0" * len(commit))
            if await git.sha(name) != commit:
                raise WorkspaceError(
                    f"{name} does not hold what was saved from {git.path}; nothing was removed"
                )
            return name
    raise WorkspaceError(f"there are {_MAX_SAME_NAME} refs {ref}-N; remove those that nobody needs")


async def _commit(git: Git, snapshot: Snapshot, subject: str) -> str:
    parents = ["-p", snapshot.head]
    if snapshot.index not in (_UNMERGED, snapshot.worktree):
        text = f"{subject.partition(chr(10))[0]}: the index"
        reply = await git.run(*OUR_IDENTITY, "commit-tree", snapshot.index, "-p", snapshot.head, "-m", text)
        parents += ["-p", reply.text]
    command = (*OUR_IDENTITY, "commit-tree", snapshot.worktree, *parents, "-F", "-")
    reply = await git.run(*command, stdin=subject.encode("utf-8", "replace") + b"\n")
    return reply.text


async def differences(git: Git, before: Snapshot, now: Snapshot) -> tuple[str, ...]:
    """Name what differs between two snapshots, for people."""
    found = []
    if now.branch != before.branch:
        found.append(f"branch switched to {now.branch or 'none (detached)'}")
    if now.head != before.head:
        found.append(f"HEAD moved to {now.head}")
    if before.branch and now.branch != before.branch:
        tip = await git.sha(f"refs/heads/{before.branch}")
        if tip != before.head:
            found.append(f"branch {before.branch} " + (f"moved to {tip}" if tip else "deleted"))
    if now.worktree != before.worktree:
        reply = await git.run(
            "diff-tree", "-r", "-z", "--name-only", "--no-renames", before.worktree, now.worktree
        )
        found += reply.paths
    elif now.index != before.index:
        found.append("the index")
    return tuple(found)


async def changed_unheld(git: Git, before: Snapshot, now: Snapshot) -> tuple[list[Unheld], list[str]]:
    """Return what is new of that which git cannot hold, and the paths of what was changed or is gone."""
    if before.unheld == now.unheld:
        return [], []
    then, there = await unheld.read(git, before.unheld), await unheld.read(git, now.unheld)
    # A submodule that was only checked out holds nothing of its own.
    new = await unheld.unsaved(git, [one for path, one in there.items() if path not in then])
    other = [path for path, one in then.items() if path not in there or there[path].state != one.state]
    return new, other


async def own_files(git: Git, head: str, paths: Sequence[str], traces: Collection[str]) -> bool:
    """Tell whether all `paths` are traces of agents that are no part of the commit `head`."""
    if not all(is_trace(path, traces) for path in paths):
        return False
    tops = sorted({path.partition("/")[0] for path in paths})
    tracked = (await git.run("ls-tree", "-r", "-z", "--name-only", head, "--", *tops)).paths
    return not set(tracked) & set(paths)


async def heal(git: Git, before: Snapshot) -> tuple[str, ...]:
    """Give HEAD its commit again where the branch that it is on was deleted; say so, for people."""
    if await git.sha("HEAD") or await git.branch() != before.branch:
        return ()
    await git.run("update-ref", f"refs/heads/{before.branch}", before.head)
    return (f"branch {before.branch} deleted",)


async def put_back(git: Git, before: Snapshot, base: str = "") -> None:
    """Make branch, HEAD, index and worktree what they were; what is there now must have been saved.

    Files that differ from `base` are written anew, whatever git remembers of them.
    """
    if before.index == _UNMERGED:
        raise WorkspaceError(f"{git.path} had conflicts that cannot be put back; resolve them by hand")
    await end_operation(git)
    await _point_head(git, before.branch, before.head)
    await _show_hidden(git)
    if base:
        await _forget_what_was_seen(git, base)
    # With the worktree's tree as the index, untracked files of then are tracked, so that `clean` spares them.
    await git.run("read-tree", "--reset", "-u", before.worktree)
    await rewrite_raw(git, before.head, before.worktree)
    spared = [
        *(await caches_among(git, await git.changes())).values(),
        *await unheld.read(git, before.unheld),
    ]
    await _clean(git, spared)
    await git.run("read-tree", "--reset", before.index)
    await git.ask("update-index", "-q", "--refresh")


async def make_clean(git: Git, branch: str) -> None:
    """Leave nothing uncommitted, on `branch` if that exists; what is there now must have been saved."""
    await end_operation(git)
    if await git.branch() != branch:
        tip = await git.sha(f"refs/heads/{branch}")
        if tip:
            await _point_head(git, branch, tip)
    await _show_hidden(git)
    await git.run("reset", "--hard", "--quiet")
    await _clean(git, ())


async def _clean(git: Git, spared: Sequence[str]) -> None:
    """Delete what is untracked, except for these files and folders."""
    anchored = ("/" + re.sub(r"([\\*?[ ])", r"\\\1", path) for path in dict.fromkeys(spared))
    command = ("clean", "-d", "--force", "--quiet", *(word for one in anchored for word in ("-e", one)))
    reply = await git.ask(*command)
    left = [
        change
        for change in await git.changes()
        if change.untracked and not any(f"{change.path}/".startswith(f"{one.rstrip('/')}/") for one in spared)
    ]
    if left and git.excludes is not None:
        # An exclude file that is not to be believed has hidden them from `clean`.
        await to_thread.run_sync(_unlink, [git.path / change.path for change in left if not change.nested])
    elif left and reply.rc != 0:
        # A folder that cannot be removed is nothing to git once it is empty.
        raise failure(git.path, command, reply)


def _unlink(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


async def end_operation(git: Git) -> None:
    """Forget a merge, rebase, cherry-pick or revert that is under way; files and branches stay."""
    # `--abort` would move files and refs that we put back ourselves; `--quit` keeps an autostash.
    for name in ("rebase", "am", "cherry-pick", "revert", "merge"):
        await git.ask(name, "--quit")


async def _point_head(git: Git, branch: str, head: str) -> None:
    if branch:
        await git.run(
            "symbolic-ref", "-m", "spec-kitty-orchestrator: put back", "HEAD", f"refs/heads/{branch}"
        )
        await git.run("update-ref", f"refs/heads/{branch}", head)
    else:
        await git.run("update-ref", "--no-deref", "HEAD", head)
