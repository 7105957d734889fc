"""Carrying a mission's branches, and what is not committed in its worktrees, from one clone to another.

What another clone brings is not believed: it is taken up as objects first, and a branch only moves forward.
"""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from anyio import to_thread

from spec_kitty_orchestrator.core.describe import short
from spec_kitty_orchestrator.core.model import Workspace
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.machine.commit_rules import CommitRules
from spec_kitty_orchestrator.machine.files import open_file
from spec_kitty_orchestrator.machine.git import BRANCHES, LONG_TIMEOUT_S, OUR_IDENTITY, Git, failure
from spec_kitty_orchestrator.machine.pack import Checkout
from spec_kitty_orchestrator.machine.planning import FORWARD
from spec_kitty_orchestrator.machine.repository import Repository
from spec_kitty_orchestrator.machine.rescue import REFS, index_copy, ref_name
from spec_kitty_orchestrator.machine.staging import nul, split, stage
from spec_kitty_orchestrator.machine.worktree import recreate

__all__ = [
    "SNAPSHOTS",
    "check_out",
    "checkouts",
    "complete",
    "in_the_way",
    "is_of_mission",
    "keep",
    "mission_refs",
    "move",
    "moves",
    "needed_by",
    "on_remotes",
    "put_there",
    "read_bundle",
    "strange_refs",
    "take_away",
    "write_bundle",
]

SNAPSHOTS = "handover"
"""The part of the names of refs that hold what was not committed."""

MOST_REFS = 10_000
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_HEADER_BYTES = 16 * 1024**2


async def mission_refs(primary: Git, mission: str, branches: Collection[str]) -> dict[str, str]:
    """Return these branches and all refs of ours of the mission, with their commits."""
    listed = await primary.run(
        "for-each-ref",
        f"--count={MOST_REFS}",
        "--format=%(objectname) %(objecttype) %(refname)",
        ref_name(mission),
        *(BRANCHES + one for one in sorted(branches)),
    )
    found = {}
    for line in listed.text.splitlines():
        sha, kind, name = line.split(" ", 2)
        if kind == "commit":
            found[name] = sha
    return found


async def checkouts(primary: Git, branches: Collection[str]) -> dict[str, Path]:
    """Return for those of the branches that are checked out where."""
    listed = await primary.run("worktree", "list", "--porcelain", "-z")
    found = {}
    for entry in listed.stdout.decode("utf-8", "surrogateescape").split("\0\0"):
        lines = entry.split("\0")
        branch = next((one.partition(" ")[2] for one in lines if one.startswith("branch ")), "")
        name = branch.removeprefix(BRANCHES)
        if name in branches and "prunable" not in {one.partition(" ")[0] for one in lines}:
            found[name] = Path(lines[0].removeprefix("worktree "))
    return found


async def keep(git: Git, rules: CommitRules, ref: str, only: str = "") -> tuple[bool, tuple[str, ...]]:
    """Keep what may be committed and is not as a commit under a ref, which is overwritten.

    Args:
        git: in the checkout; nothing in it is changed.
        rules: say what may be committed.
        ref: of ours.
        only: the folder whose files alone are kept, whatever the rules say; "" for all that may be committed.

    Returns:
        Whether there was anything; and the paths that are not kept, each with the reason.
    """
    changed, left = False, list[str]()
    if await git.changes():
        async with index_copy(git) as copy:
            if only:
                await copy.run("read-tree", "HEAD")
                changes = [one for one in await copy.changes() if one.path.startswith(f"{only}/")]
                there, gone = await to_thread.run_sync(split, git.path, changes)
                for words, paths in (("--add", there), ("--force-remove", gone)):
                    if paths:
                        await copy.run("update-index", "-z", words, "--stdin", stdin=nul(paths))
            else:
                staged = await stage(copy, rules)
                left = [*staged.left_out, *staged.refused, *(f"{one}: a repository" for one in staged.nested)]
            tree = (await copy.run("write-tree")).text
        changed = tree != (await git.run("rev-parse", "HEAD^{tree}")).text
    if not changed:
        await git.run("update-ref", "-d", ref)
        return False, tuple(left)
    subject = "What was not committed at the hand-over"
    reply = await git.run(*OUR_IDENTITY, "commit-tree", tree, "-p", "HEAD", "-m", subject)
    await git.run("update-ref", ref, reply.text)
    return True, tuple(left)


async def on_remotes(primary: Git) -> tuple[str, ...]:
    """Return the commits that remotes are known to have."""
    listed = await primary.run("for-each-ref", "--format=%(objectname)", "refs/remotes")
    return tuple(sorted(set(listed.text.split())))


async def write_bundle(primary: Git, refs: Mapping[str, str], file: Path, known: Collection[str]) -> bool:
    """Bundle refs without what is `known` there; False, and no file, if nothing is left.

    Raises `WorkspaceError`.
    """
    known = [f"^{one}" for one in known]
    wanted = _lines((*refs.values(), *known))
    if (await primary.run("rev-list", "--count", "--stdin", stdin=wanted)).text == "0":
        return False
    names = _lines((*refs, *known))
    await primary.run(
        "bundle", "create", "--quiet", str(file), "--stdin", stdin=names, timeout_s=LONG_TIMEOUT_S
    )
    return True


def _lines(names: Collection[str]) -> bytes:
    return "".join(f"{one}\n" for one in names).encode()


def needed_by(bundle: Path) -> tuple[str, ...]:
    """Return the commits that a bundle builds on; not for the event loop. Raises `UsageError`."""
    with open_file(bundle) as file:
        header = file.read(_HEADER_BYTES).partition(b"\n\n")[0].decode("utf-8", "replace")
    first, *lines = header.split("\n")
    if not re.fullmatch(r"# v[23] git bundle", first):
        raise UsageError("the pack is damaged: its part of the repository is no bundle of git's")
    found = [one[1:].partition(" ")[0] for one in lines if one.startswith("-")]
    return tuple(one for one in found if _COMMIT.fullmatch(one))


async def read_bundle(primary: Git, bundle: Path, tips: Collection[str]) -> None:
    """Take up the objects of a bundle; no ref is changed. Raises `UsageError` if `tips` are not whole."""
    with await to_thread.run_sync(open_file, bundle) as file:
        await to_thread.run_sync(_pass_header, file)
        # `bundle unbundle` would not look into the objects.
        reply = await primary.ask(
            *("index-pack", "--stdin", "--fix-thin", "--strict"), stdin=file, timeout_s=LONG_TIMEOUT_S
        )
    if reply.rc != 0:
        raise UsageError(f"git refuses the pack's part of the repository: {reply.complaint}")
    await complete(primary, tips)


def _pass_header(file: BinaryIO) -> None:
    header = file.read(_HEADER_BYTES)
    os.lseek(file.fileno(), header.find(b"\n\n") + 2, os.SEEK_SET)


async def complete(primary: Git, tips: Collection[str]) -> None:
    """Check that commits are here with all that they hold. Raises `UsageError`."""
    words = ("rev-list", "--objects", "--quiet", "--stdin", "--not", "--all")
    if (await primary.ask(*words, stdin=_lines(tips), timeout_s=LONG_TIMEOUT_S)).rc != 0:
        raise UsageError("the pack does not hold all of the commits that it names")


@dataclass(frozen=True)
class Move:
    """A ref that moves: from `old`, "" for a new one, to `new`; `place` is where it is checked out."""

    ref: str
    old: str
    new: str
    place: Path | None = None


async def moves(primary: Git, refs: Mapping[str, str]) -> tuple[list[Move], list[str]]:
    """Return what moves so that this clone has these refs, and what is in the way, for people."""
    found: list[Move] = []
    wrong: list[str] = []
    places = await checkouts(primary, {one.removeprefix(BRANCHES) for one in refs})
    for ref, new in refs.items():
        old, name = await primary.sha(ref), ref.removeprefix(BRANCHES)
        if old == new or (old and ref.startswith(BRANCHES) and await primary.contains(new, old)):
            continue
        if old and not (_overwritten(ref) or await primary.contains(old, new)):
            wrong.append(f"{name} holds commits here that the run's has not (see {short(old)})")
        else:
            found.append(Move(ref, old, new, places.get(name)))
    return found, wrong


def _overwritten(ref: str) -> bool:
    return (ref.startswith(f"{REFS}/") and f"/{SNAPSHOTS}/" in ref) or "/before-review/" in ref


async def in_the_way(git: Git, new: str, snapshot: str, kept: str) -> list[str]:
    """Return what is not committed in a checkout and would be lost if it moved on.

    Args:
        git: in the checkout.
        new: the commit to which it would move.
        snapshot: what would be put there, "" for nothing.
        kept: what is not committed there is no loss where this commit says the same, "" for none.
    """
    changed = {one.path for one in await git.changes()}
    same = await _same(git, kept) if changed and kept else []
    changed.difference_update(same)
    found = changed.intersection(await _changed(git, "HEAD", new)) if changed else set[str]()
    put = set(await _changed(git, new, snapshot)) if snapshot else set[str]()
    # What git ignores here is no change, and would be lost all the same.
    untracked = put.difference(same, await _tracked(git)) if put else put
    hidden = await to_thread.run_sync(_there, git.path, untracked)
    put = hidden.union(changed.intersection(put))
    return sorted(found.union([one for one in put if await _differs(git, snapshot, one)]))


def _there(root: Path, paths: Collection[str]) -> set[str]:
    return {one for one in paths if os.path.lexists(root / one)}


async def _tracked(git: Git) -> set[str]:
    return set((await git.run("ls-tree", "-r", "-z", "--name-only", "HEAD")).paths)


async def _changed(git: Git, old: str, new: str) -> Sequence[str]:
    return (await git.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", old, new)).paths


async def _same(git: Git, snapshot: str) -> list[str]:
    """Return the paths in which a worktree is not as HEAD but as a snapshot says."""
    paths = await _changed(git, "HEAD", snapshot)
    return [one for one in paths if not await _differs(git, snapshot, one)]


async def take_away(git: Git, snapshot: str) -> None:
    """Make a worktree as HEAD says where it is as a snapshot says that keeps it. Raises `WorkspaceError`."""
    same = await _same(git, snapshot)
    known = await _tracked(git)
    for path in same:
        if path not in known:
            await to_thread.run_sync((git.path / path).unlink)
    back = [one for one in same if one in known]
    if back:
        await _restore(git, "HEAD", back)


async def move(repository: Repository, one: Move) -> None:
    """Move a ref forward, with the checkout of its branch if there is one. Raises `WorkspaceError`."""
    primary = repository.primary
    if one.place is None:
        await primary.run("update-ref", one.ref, one.new, one.old or "0" * len(one.new))
        return
    guarded = await repository.guarded(one.place)
    at = await repository.peek(one.place)
    git = replace(at or primary, settings=guarded.settings)
    words = (*FORWARD, one.new)
    reply = await git.ask(*words, timeout_s=LONG_TIMEOUT_S)
    if reply.rc != 0:
        raise failure(one.place, words, reply)


async def check_out(repository: Repository, root: Path, one: Checkout) -> bool:
    """Make a worktree that is missing; False if it is there. Raises `WorkspaceError`."""
    path = root / one.path
    if await repository.peek(path) is not None:
        return False
    await recreate(repository, Workspace(str(path), ""), one.branch)
    return True


async def put_there(git: Git, snapshot: str) -> None:
    """Write into a worktree, uncommitted, what a snapshot holds beyond HEAD. Raises `WorkspaceError`."""
    if paths := await _changed(git, "HEAD", snapshot):
        await _restore(git, snapshot, paths)


async def _restore(git: Git, source: str, paths: Sequence[str]) -> None:
    await git.run(
        *("--literal-pathspecs", "restore", "--worktree", f"--source={source}"),
        *("--pathspec-from-file=-", "--pathspec-file-nul"),
        stdin=nul(paths),
        timeout_s=LONG_TIMEOUT_S,
    )


async def _differs(git: Git, snapshot: str, path: str) -> bool:
    wanted = (await git.ask("rev-parse", "--verify", "--quiet", f"{snapshot}:{path}")).text
    there = await git.ask("hash-object", "--", path)
    return (there.text if there.rc == 0 else "") != wanted


def is_of_mission(branch: str, mission: str) -> bool:
    """Tell whether a branch is one that the host, or we, give to a mission; its target is another one."""
    # The host leaves the number of a mission out where it names branches.
    lanes = f"kitty/mission-{re.sub(r'^[0-9]{3}-', '', mission)}"
    return branch == lanes or branch.startswith((f"{lanes}-", f"{mission}-"))


def strange_refs(refs: Mapping[str, str], mission: str, target: str) -> Sequence[str]:
    """Return the names that are neither the target, a branch of the mission, nor a ref of ours of it."""

    def known(name: str) -> bool:
        branch = name.removeprefix(BRANCHES)
        if branch == name:
            return name.startswith(f"{ref_name(mission)}/")
        return branch == target or is_of_mission(branch, mission)

    return [name for name, sha in refs.items() if not (_COMMIT.fullmatch(sha) and known(name))]
