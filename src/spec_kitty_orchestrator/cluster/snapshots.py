"""What a worktree holds, uncommitted work included, as commits; the same on both sides."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spec_kitty_orchestrator.cluster.shipment import Snapshot
from spec_kitty_orchestrator.machine import rescue, unheld
from spec_kitty_orchestrator.machine.commit_rules import CommitRules
from spec_kitty_orchestrator.machine.git import OUR_IDENTITY, Change, Git, failure

__all__ = ["Content", "differing", "is_sha", "take"]

MOST_LISTED_BYTES = 64 * 1024**2
"""Of the paths in which two commits differ: trees can be made that hold more paths than any disk."""

SUBJECT = "What is not committed in a workspace"

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def is_sha(text: str) -> bool:
    """Tell whether a text is the whole name of an object."""
    return _SHA.fullmatch(text) is not None


@dataclass(frozen=True)
class Content:
    """What is in a worktree.

    Attributes:
        snapshot: all that git can hold of it.
        branch: that is checked out, "" when detached.
        left: what git cannot hold, each with the reason, for people.
    """

    snapshot: Snapshot
    branch: str
    left: tuple[str, ...]


async def take(
    git: Git,
    rules: CommitRules,
    left_out: Callable[[Change], bool] | None = None,
    known: Sequence[Snapshot] = (),
) -> Content:
    """Read a worktree; nothing in it is changed.

    Args:
        git: there.
        rules: say what is too large.
        left_out: see `rescue.measure`.
        known: the first of these that is what there is is returned.

    Raises:
        WorkspaceError: git or the disk is broken.
    """
    found = await rescue.measure(git, rules, left_out=left_out)
    apart = (await unheld.read(git, found.unheld)).values()
    left = tuple(f"{one.path}: {_WHY.get(one.kind, 'too large, or not readable')}" for one in apart)
    likely = [*(one for one in known if one.head == found.head), Snapshot(found.head, found.head)]
    trees = await git.run("rev-parse", *(f"{one.commit}^{{tree}}" for one in likely))
    for one, tree in zip(likely, trees.text.split("\n"), strict=True):
        if tree == found.worktree:
            return Content(one, found.branch, left)
    words = ("commit-tree", found.worktree, "-p", found.head, "-m", SUBJECT)
    snapshot = Snapshot(found.head, (await git.run(*OUR_IDENTITY, *words)).text)
    return Content(snapshot, found.branch, left)


_WHY = {"repository": "a repository of its own", "submodule": "a submodule"}


async def differing(git: Git, old: str, new: str) -> dict[str, tuple[str, str]] | None:
    """Return the paths in which two commits differ, each with "mode name" of then and of now.

    What is not there has the mode 000000. None if there are too many. Raises `WorkspaceError`.
    """
    words = ("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", "--ignore-submodules=none")
    reply = await git.ask(*words, old, new, limit=MOST_LISTED_BYTES)
    if reply.cut:
        return None
    if reply.rc != 0:
        raise failure(git.path, words, reply)
    fields: Sequence[str] = reply.paths
    heads = (head.removeprefix(":").split(" ") for head in fields[::2])
    return {
        path: (f"{head[0]} {head[2]}", f"{head[1]} {head[3]}")
        for head, path in zip(heads, fields[1::2], strict=True)
    }
