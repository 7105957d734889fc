"""In which files branches cannot be merged with each other as they stand: git merges them in memory.

Of the repository only objects and attributes count. A program that attributes name does not run, and what it
would merge is taken for merged; so is what the host keeps itself, which its own programs merge.
"""

from collections.abc import Mapping, Sequence

from spec_kitty_orchestrator.log import get_logger
from spec_kitty_orchestrator.machine.commit_rules import kept_by_host
from spec_kitty_orchestrator.machine.configuration import Configuration
from spec_kitty_orchestrator.machine.git import BRANCHES, Git
from spec_kitty_orchestrator.machine.scratch import scratch

__all__ = ["OLDEST_GIT", "conflicts"]

OLDEST_GIT = (2, 39)
"""The first whose `merge-tree` merges many pairs in one process."""

LIMIT_S = 120.0
"""For the merges of one look; who asks can do without an answer."""

MOST_FILES = 50
"""Of one pair, that are named."""

_CONFLICTS, _MERGED = "0", "1"

Pair = tuple[str, str]


async def conflicts(
    git: Git, configured: Configuration, pairs: Sequence[Pair]
) -> Mapping[Pair, tuple[str, ...]]:
    """Return for pairs of branches the files in which merging them conflicts.

    A pair is left out if git cannot tell: a branch is gone, or this git is too old.

    Raises:
        WorkspaceError: git cannot be run, or takes too long.
    """
    branches = list(dict.fromkeys(branch for pair in pairs for branch in pair))
    shas = await git.shas(*(f"{BRANCHES}{one}" for one in branches)) if branches else ()
    heads = {branch: sha for branch, sha in zip(branches, shas, strict=True) if sha}
    known = [pair for pair in pairs if all(one in heads for one in pair)]
    if not known:
        return {}
    drivers = {one.key: "true" for one in configured.all if _is_driver(one.key)}
    asked = "".join(f"{heads[one]} {heads[other]}\n" for one, other in known)
    words = ("merge-tree", "--stdin", "--name-only", "--no-messages")
    sha256 = len(next(iter(heads.values()))) > 40
    async with scratch(git, sha256=sha256, path=git.path, settings=tuple(drivers.items())) as beside:
        reply = await beside.ask(*words, stdin=asked.encode(), timeout_s=LIMIT_S)
    if reply.rc != 0:
        get_logger().info("conflicts_not_known", reason=reply.complaint[:500])
        return {}
    # Two NULs end each answer: a status, a tree, and the files.
    answers = [one.split("\0") for one in reply.text.split("\0\0") if one]
    return {
        pair: tuple(one for one in dict.fromkeys(files) if not kept_by_host(one))[:MOST_FILES]
        for pair, (status, _, *files) in zip(known, answers, strict=False)
        if status in (_CONFLICTS, _MERGED)
    }


def _is_driver(key: str) -> bool:
    return key.startswith("merge.") and key.endswith(".driver")
