"""What git ignores in a worktree: no commit holds it, a merge deletes it, and gates see it all the same.

What a project ignores stands in its `.gitignore` files, which are reviewed like the rest. Git's own exclude
file belongs to the person, and all worktrees share it: what it holds is believed as it was when a run began.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.machine.commit_rules import MARKERS, OF_HOST, TRACE, CommitRules, regenerable
from spec_kitty_orchestrator.machine.git import Git

__all__ = ["changed_excludes", "ignored", "note", "read_excludes", "remembered"]

MOST_REMEMBERED = 500
"""Paths that are compared with those of later; what is beyond them counts as new."""

MOST_REMEMBERED_CHARS = 30_000

MOST_IN_FOLDER = 50
"""Files of an ignored folder that are named one by one; a folder with more is named as a whole."""

MOST_NAMED = 20


async def ignored(git: Git, rules: CommitRules) -> tuple[str, ...]:
    """Return what git ignores and no tool can surely make again. Raises `WorkspaceError`."""
    shown = await git.run("status", "--porcelain=v1", "-z", "--untracked-files=all", "--ignored=matching")
    found = [line[3:] for line in shown.paths if line.startswith("!! ")]
    if not found:
        return ()
    return await to_thread.run_sync(lambda: tuple(sorted(_worth_naming(git.path, found, rules))))


def _worth_naming(root: Path, found: Sequence[str], rules: CommitRules) -> Iterator[str]:
    caches = regenerable(found, ())
    for path in found:
        if path in caches or rules.by_name(path.rstrip("/")) in {*OF_HOST, TRACE}:
            continue
        files = list(_files(root, path)) if path.endswith("/") else [path]
        yield from files if len(files) <= MOST_IN_FOLDER else [path]


def _files(root: Path, folder: str) -> Iterator[str]:
    """Yield the files of an ignored folder that no tool can surely make again, as few as decide."""
    number = 0
    for place, folders, files in os.walk(root / folder):
        here = str(Path(place).relative_to(root))
        if any(name in files for name in MARKERS):
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not regenerable([f"{name}/"], ()))
        names = [f"{here}/{name}" for name in sorted(files)]
        caches = regenerable(names, ())
        for name in names:
            if name not in caches:
                yield name
                number += 1
        if number > MOST_IN_FOLDER:
            return


def remembered(paths: Sequence[str]) -> tuple[str, ...]:
    """Return as many of the paths as a journal can keep."""
    kept, left = [], MOST_REMEMBERED_CHARS
    for path in paths[:MOST_REMEMBERED]:
        left -= len(path)
        if left < 0:
            break
        kept.append(path)
    return tuple(kept)


def note(now: Iterable[str], before: Collection[str]) -> str:
    """Say what is new of what git ignores, "" if nothing is."""
    new = [path for path in now if path not in before]
    if not new:
        return ""
    more = f" and {len(new) - MOST_NAMED} more" if len(new) > MOST_NAMED else ""
    what = "git ignores these new files, so no commit holds them and a merge deletes them"
    return f"{what}: {', '.join(new[:MOST_NAMED])}{more}"


def read_excludes(common: Path) -> tuple[str, ...]:
    """Return the patterns of a repository's own exclude file; none if it cannot be read."""
    try:
        text = (common / "info" / "exclude").read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return ()
    return tuple(line for line in text.splitlines() if line.strip() and not line.startswith("#"))


def changed_excludes(before: Sequence[str], now: Sequence[str], own: str) -> str:
    """Say how the exclude file was changed since the run began, "" if it was not; `own` is our pattern."""
    added = [line for line in now if line not in before and line != own]
    lost = [line for line in before if line not in now]
    told = [f"+ {line}" for line in added[:MOST_NAMED]] + [f"- {line}" for line in lost[:MOST_NAMED]]
    if not told:
        return ""
    return f"git's exclude file was changed during the run, and that was not followed: {', '.join(told)}"
