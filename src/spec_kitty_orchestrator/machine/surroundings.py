"""What a review must leave as it was besides its worktree: the repository that the worktree belongs to.

Others work in it meanwhile: the host commits on the target branch and on branches that are checked out, each
implementer on its own, and new branches come up. So what is compared is what none of them has to do with:
hooks, settings, git's files of exclusions and attributes, tags, and branches that are checked out nowhere; of
the target branch, whether it went on by the host's own files alone. What is new among refs does not count.
"""

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.machine.commit_rules import CommitRules
from spec_kitty_orchestrator.machine.repository import Repository, Worktree

__all__ = ["Surroundings", "look", "moved"]

MOST_BYTES = 1024 * 1024
"""Of one hook; what stands behind that is told by the length alone."""
MOST_REFS = 5000
MOST_NAMED = 20

_OF_THE_HOST = re.compile(r"branch\..*|user\.(name|email)|merge\.spec-kitty[^.]*\.name")
_ITS_DRIVER = re.compile(r"merge\.spec-kitty[^.]*\.driver")
_NOTED = re.compile(r"#(?!!).*|\.spec-kitty/|/?\.worktrees/")
"""Lines that say nothing, or that we and the host write."""


@dataclass(frozen=True)
class Surroundings:
    """What was there.

    Attributes:
        base: the commit that the work is compared with.
        parts: by their names for people: a digest, or the commit of a ref.
    """

    base: str
    parts: Mapping[str, str]

    def __str__(self) -> str:
        return json.dumps([self.base, self.parts], sort_keys=True)

    @classmethod
    def parse(cls, text: str) -> "Surroundings | None":
        """Read back what `str` gave, None for anything else."""
        with suppress(ValueError, TypeError, AttributeError):
            base, parts = json.loads(text)
            return cls(str(base), {str(name): str(value) for name, value in parts.items()})
        return None

    @property
    def digest(self) -> str:
        """Short for all of it."""
        return hashlib.sha256(str(self).encode()).hexdigest()[:32]


async def look(repository: Repository, there: Worktree, target: str, *, confined: bool) -> Surroundings:
    """Take stock around a worktree.

    Args:
        repository: that it belongs to.
        there: the worktree.
        target: the branch that its work is for; "" for what is checked out.
        confined: whether reviewers cannot write in it: then nobody but others moves refs, and git remembers
            of files what it saw.
    """
    files = await to_thread.run_sync(_files, repository, there)
    if confined:
        return Surroundings("", files)
    listed = await repository.primary.run(
        "for-each-ref",
        f"--count={MOST_REFS}",
        "--format=%(objectname) %(refname) %(worktreepath)",
        "refs/heads",
        "refs/tags",
    )
    refs = {}
    for line in listed.text.splitlines():
        sha, name, *at = line.split(" ", 2)
        if name == f"refs/heads/{target}" or not (at and at[0]):
            refs[_shown(name)] = sha
    base = refs.get(_shown(f"refs/heads/{target}")) or await repository.primary.sha(target or "HEAD")
    return Surroundings(base, {**files, **refs})


async def moved(
    repository: Repository, before: Surroundings, now: Surroundings, target: str, ours: Collection[str] = ()
) -> tuple[str, ...]:
    """Name what differs, for people; `ours` are paths that we changed on the target."""
    kept = _shown(f"refs/heads/{target}")
    found = []
    for name, value in before.parts.items():
        after = now.parts.get(name, "")
        if after == value:
            continue
        # One that was checked out meanwhile is not listed, and somebody's to work on.
        stays = name not in _FILES and not after and await repository.primary.sha(_ref(name)) == value
        if stays or (name == kept and await _by_the_host(repository, value, after, ours)):
            continue
        found.append(name if name in _FILES else f"{name}, which stood at {value}")
    more = len(found) - MOST_NAMED
    return (*found[:MOST_NAMED], *([f"{more} more"] if more > 0 else ()))


async def _by_the_host(repository: Repository, before: str, now: str, ours: Collection[str]) -> bool:
    git, rules = repository.primary, CommitRules()
    if not now or not await git.contains(before, now):
        return False
    changed = await git.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", before, now)
    return all(path in ours or bool(rules.of_host(path)) for path in changed.paths)


def _shown(ref: str) -> str:
    return ref.replace("refs/heads/", "branch ", 1).replace("refs/tags/", "tag ", 1)


def _ref(shown: str) -> str:
    return shown.replace("branch ", "refs/heads/", 1).replace("tag ", "refs/tags/", 1)


_FILES = ("git's hooks", "git's settings", "git's own files")


def _files(repository: Repository, there: Worktree) -> dict[str, str]:
    common, git_dir = repository.common, there.git.git_dir or repository.common
    folders = {common / "hooks"}
    if not there.hooks.is_relative_to(there.git.path):
        folders.add(there.hooks)
    hooks = [one for folder in sorted(folders) for one in _content(folder)]
    settings = [
        f"{one.key}={one.value}"
        for one in there.configured.all
        if one.own
        and not _OF_THE_HOST.fullmatch(one.key)
        and not (_ITS_DRIVER.fullmatch(one.key) and one.value.startswith("spec-kitty "))
    ]
    own = [
        one
        for folder in (common / "info", git_dir / "info", common / "objects" / "info")
        for one in _content(folder, ("exclude", "attributes", "grafts", "sparse-checkout", "alternates"))
    ]
    own += _content(common, ("shallow",))
    return dict(zip(_FILES, map(_digest, (hooks, settings, own)), strict=True))


def _content(folder: Path, names: tuple[str, ...] = ()) -> list[str]:
    """Tell of a folder's files what matters in them."""
    found = []
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            if (names and path.name not in names) or not path.is_file():
                continue
            with path.open("rb") as file:
                text = os.fsdecode(file.read(MOST_BYTES))
            said = [line for line in text.splitlines() if line and not _NOTED.fullmatch(line)]
            # An executable file that says nothing runs nothing; a file without a word is as good as none.
            if said:
                state = path.stat()
                size = state.st_size if state.st_size > MOST_BYTES else 0
                found += [f"{path} {state.st_mode & 0o111 != 0} {size}", *said]
    return found


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:32]
