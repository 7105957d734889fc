"""Bringing into an index exactly what may be committed; the rest is named with its reason."""

import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.machine.commit_rules import (
    MOST_STORED_BYTES,
    OF_HOST,
    REGENERABLE,
    SECRET,
    SECRET_VALUE,
    CommitRules,
    regenerable,
)
from spec_kitty_orchestrator.machine.files import read_whole
from spec_kitty_orchestrator.machine.git import Change, Git, failure, in_a_line
from spec_kitty_orchestrator.machine.history import secrets_of, tracked_blobs
from spec_kitty_orchestrator.machine.nested import declared, links_among

__all__ = ["caches_among", "nul", "split", "stage"]

NESTED = "a git repository of its own"
CLOSED = "a folder that cannot be opened"

_UPDATE = ("update-index", "-z", "--add", "--remove", "--replace", "--stdin")

_ALL = "--ignore-submodules=none"
"""Whatever `.gitmodules` says."""

_MACHINE = re.compile(
    rb"filter|\.lock'|No space left|quota exceeded|object (?:file|database|directory)|index file corrupt"
    rb"|unable to write|Read-only file system|Input/output error|Cannot allocate"
)
"""What git says where the machine, and not a file, is what it cannot work with."""


@dataclass(frozen=True)
class Staged:
    """What became of the changes of a worktree.

    Attributes:
        allowed: those that the index now holds.
        left_out: the paths of those that it must not hold, each with the reason.
        refused: the paths of those that only the implementer can mend, each with the reason.
        nested: folders that are repositories of their own, besides those that are left out anyway.
    """

    allowed: Sequence[Change]
    left_out: Sequence[str]
    refused: Sequence[str]
    nested: Sequence[str]


async def stage(git: Git, rules: CommitRules) -> Staged:
    """Make the index HEAD plus every change that may be committed.

    Raises:
        WorkspaceError: git or the machine is broken, a filter that cannot run included.
    """
    # The agent may have staged what must not be committed, or half of a file.
    await git.run("reset", "--quiet", "--mixed")
    elsewhere = await declared(git)
    entries = (await git.run("ls-files", "-s", "-z")).paths
    stray = [link.path for link in links_among(entries) if link.path not in elsewhere]
    if stray := await to_thread.run_sync(lambda: [path for path in stray if _is_filled(git.path / path)]):
        # Git would see a submodule that is not checked out, and none of its files.
        await git.run("update-index", "-z", "--force-remove", "--stdin", stdin=nul(stray))
    changes = _submodules(await git.changes(), elsewhere)
    tracked = {line.partition("\t")[2] for line in entries}.difference(stray)
    caches = regenerable([change.path for change in changes if change.untracked], tracked)
    reasons = await to_thread.run_sync(_judge, git.path, changes, caches, rules)
    reasons = await _without_moved(git, changes, reasons, rules)
    allowed, left_out, refused = [], [], []
    nested = [change.path for change, reason in zip(changes, reasons, strict=True) if reason == NESTED]
    for change, reason in zip(changes, reasons, strict=True):
        if reason == SECRET_VALUE:
            if change.untracked or not await _was_there(git, change, rules):
                refused.append(f"{change.path}: {reason}")
                continue
            reason = ""
        if reason == NESTED:
            continue
        if reason == CLOSED:
            refused.append(f"{change.path}: {reason}")
            continue
        if reason:
            left_out.append(f"{caches.get(change.path, change.path)}: {reason}")
        else:
            allowed.append(change)
    refused += [f"{path}: {reason}" for path, reason in await _put_in_index(git, allowed)]
    if allowed and (await git.ask("diff-index", "--cached", "--quiet", _ALL, "HEAD")).rc == 0:
        allowed = []  # only stat information or line endings differed
    return Staged(allowed, tuple(dict.fromkeys(left_out)), refused, nested)


def _submodules(changes: Sequence[Change], paths: Collection[str]) -> list[Change]:
    """Take a new submodule for what it is: git shows it as a repository that happens to lie there."""
    return [
        replace(change, path=change.path.rstrip("/")) if change.path.rstrip("/") in paths else change
        for change in changes
    ]


async def caches_among(git: Git, changes: Sequence[Change]) -> dict[str, str]:
    """Find those new files that a tool can surely make again: by path, what to name for it."""
    new = [change.path for change in changes if change.untracked]
    return regenerable(new, (await git.run("ls-files", "-z")).paths) if new else {}


async def _without_moved(
    git: Git, changes: Sequence[Change], reasons: Sequence[str], rules: CommitRules
) -> list[str]:
    """Let be added what the project has had all along, at another path."""
    moved = set()
    asked = [
        (change.path, reason)
        for change, reason in zip(changes, reasons, strict=True)
        if change.untracked and reason in (SECRET, rules.too_big)
    ]
    if asked:
        asked = await to_thread.run_sync(lambda: [one for one in asked if _is_small(git.path / one[0])])
    tracked = await tracked_blobs(git, "HEAD") if asked else {}
    deleted = {change.path for change in changes if "D" in change.code}
    gone = {path: name for path, name in tracked.items() if path in deleted}
    had = {SECRET: secrets_of(gone, rules), rules.too_big: set(gone.values())}
    for path, reason in asked:
        if had[reason]:
            reply = await git.ask("hash-object", "--", path)
            moved |= {path} if reply.rc == 0 and reply.text in had[reason] else set()
    return ["" if change.path in moved else reason for change, reason in zip(changes, reasons, strict=True)]


def _is_small(path: Path) -> bool:
    try:
        return not path.is_symlink() and path.lstat().st_size <= MOST_STORED_BYTES
    except OSError:
        return False


def _judge(root: Path, changes: Sequence[Change], caches: Collection[str], rules: CommitRules) -> list[str]:
    left = {change.path for change in changes if change.path in caches and not rules.allows(change.path)}
    return [REGENERABLE if change.path in left else _reason(root, change, rules) for change in changes]


def _reason(root: Path, change: Change, rules: CommitRules) -> str:
    named = rules.by_name(change.path.rstrip("/"))
    if change.nested:
        is_open = os.access(root / change.path, os.R_OK | os.X_OK)
        return named or (NESTED if is_open else CLOSED)
    # What is tracked belongs to the project, wherever it lies; the host's files stay the host's.
    if named in OF_HOST:
        return named
    path = root / change.path
    try:
        size = path.lstat().st_size
        data = os.fsencode(path.readlink()) if path.is_symlink() else b""
        if not data and change.untracked and rules.is_big(size):
            return named or ("" if rules.allows(change.path) else rules.too_big)
        data = data or read_whole(path)
    except OSError:
        # It is gone, or git says that it cannot be read.
        return named if change.untracked else ""
    if change.untracked:
        return rules.by_content(change.path, data, named)
    return SECRET_VALUE if rules.redactor.knows(data) else ""


async def _was_there(git: Git, change: Change, rules: CommitRules) -> bool:
    """Tell whether the project itself keeps the value of a secret in a file."""
    before = await git.ask("cat-file", "blob", f"HEAD:{change.path}")
    return before.rc == 0 and rules.redactor.knows(before.stdout)


async def _put_in_index(git: Git, changes: Sequence[Change]) -> list[tuple[str, str]]:
    """Return the paths that git refuses, each with its words; the index holds all others."""
    # update-index takes names literally, unlike `git add`, and does not mind a file that vanishes meanwhile.
    present, gone = await to_thread.run_sync(split, git.path, changes)
    if gone:
        await git.run("update-index", "-z", "--force-remove", "--stdin", stdin=nul(gone))
    refused = []
    groups = [present] if present else []
    while groups:
        group = groups.pop()
        reply = await git.ask(*_UPDATE, stdin=nul(group))
        if reply.rc == 0:
            continue
        # Where it fails, git has written nothing: one half of the paths is without the culprit.
        if _MACHINE.search(reply.stderr):
            raise failure(git.path, _UPDATE, reply)
        if len(group) == 1:
            refused.append((group[0], in_a_line(reply)))
        else:
            half = len(group) // 2
            groups += [group[half:], group[:half]]
    return sorted(refused)


def split(root: Path, changes: Sequence[Change]) -> tuple[list[str], list[str]]:
    """Return the paths of what is in the worktree, and of what is not; repositories in it are neither."""
    present: list[str] = []
    gone: list[str] = []
    for change in changes:
        if not change.nested:
            path = root / change.path
            here = os.path.lexists(path) and not _behind_symlink(root, path) and not _is_filled(path)
            (present if here else gone).append(change.path)
    return present, gone


def _is_filled(path: Path) -> bool:
    """Tell whether something is a plain folder, of whose files each counts by itself."""
    return path.is_dir() and not path.is_symlink() and not (path / ".git").exists() and any(path.iterdir())


def _behind_symlink(root: Path, path: Path) -> bool:
    return any(parent.is_symlink() for parent in path.parents if parent != root and root in parent.parents)


def nul(paths: Iterable[str]) -> bytes:
    """Write paths as git reads them from its stdin with `-z`."""
    return b"".join(os.fsencode(path) + b"\0" for path in paths)
