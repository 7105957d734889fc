"""The changes of a commit range as text for a prompt: bounded, whole files first, the rest named.

Read are the objects of the repository and nothing else that an agent could have written: a repository of its
own stands around them, without settings, replaced objects or files, and with the attributes of the commit
that the work began with. So no attribute of the work says that its changes are binary, or are not shown.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from spec_kitty_orchestrator.machine.git import Git, failure
from spec_kitty_orchestrator.machine.scratch import scratch

__all__ = ["MOST_NAMED", "stat", "stat_and_changes"]

MOST_READ_BYTES = 16 * 1024 * 1024
"""Of one diff; what stands behind that is named only."""

MOST_NAMED = 100
"""Files that are left out of a diff and named one by one."""

MOST_NAMED_CHARS = 8_000
"""Kept free for those names."""

_CUT = "\n… cut here"


@dataclass(frozen=True)
class _Changed:
    """One file of a range, as `--numstat` tells it; "-" lines for a binary file."""

    path: str
    added: str
    deleted: str

    @property
    def binary(self) -> bool:
        """Whether git shows no lines of it, perhaps because an attribute says so."""
        return self.added == "-"

    def __str__(self) -> str:
        if self.binary:
            return f"- {self.path} (binary)"
        return f"- {self.path} (+{self.added} -{self.deleted})"


async def stat(git: Git, base: str, head: str, limit: int) -> str:
    """Return how much a range changes each file, at most `limit` characters. Raises `WorkspaceError`."""
    async with _evidence(git, base) as shown:
        return await _stat(shown, base, head, limit)


async def stat_and_changes(git: Git, base: str, head: str, limit: int) -> tuple[str, str]:
    """Return the same, and the diff of a range, each of at most `limit` characters.

    Where the diff is longer, it holds the files whose changes are shortest, each as a whole, and names the
    others.

    Raises:
        WorkspaceError: git is broken, or does not know the range.
    """
    async with _evidence(git, base) as shown:
        return await _stat(shown, base, head, limit), await _changes(shown, base, head, limit)


async def _stat(git: Git, base: str, head: str, limit: int) -> str:
    text, cut = await _read(git, 4 * limit, "--stat=120", base, head)
    return text if not cut and len(text) <= limit else _shortened(text, limit)


async def _changes(git: Git, base: str, head: str, limit: int) -> str:
    text, cut = await _read(git, MOST_READ_BYTES, "-p", base, head)
    if not cut and len(text) <= limit:
        return text
    sections = _sections(text)
    # The last one may lack its end.
    whole = sections[:-1] if cut else sections
    chosen = _fitting(whole, limit - min(limit // 4, MOST_NAMED_CHARS))
    changed = await _changed(git, base, head)
    # A binary file's section shows nothing of it. Where the two do not match, no file must go unmentioned.
    known = cut or len(sections) == len(changed)
    left_out = [one for number, one in enumerate(changed) if number not in chosen or one.binary or not known]
    if not chosen:
        named = _named(left_out[1:], limit // 4)
        return _shortened(text, limit - len(named)) + named
    shown = "".join(whole[number] for number in sorted(chosen))
    return shown + _named(left_out, limit - len(shown))


def _fitting(sections: Sequence[str], room: int) -> set[int]:
    """Return the numbers of the shortest sections that fit together."""
    chosen = set()
    for number in sorted(range(len(sections)), key=lambda number: len(sections[number])):
        room -= len(sections[number])
        if room < 0:
            break
        chosen.add(number)
    return chosen


def _sections(text: str) -> list[str]:
    # Lines of a file's content begin with a blank, a plus or a minus.
    first, *others = text.split("\ndiff --git ")
    found = [first]
    for other in others:
        found[-1] += "\n"
        section = f"diff --git {other}"
        if section.partition("\n")[0] == found[-1].partition("\n")[0]:
            # A file that became a symbolic link, or the other way round, has two.
            found[-1] += section
        else:
            found.append(section)
    return found


async def _changed(git: Git, base: str, head: str) -> list[_Changed]:
    """Read the files of a range in the order of its diff."""
    text, _ = await _read(git, MOST_READ_BYTES, "--numstat", "-z", base, head)
    fields = iter(text.split("\0"))
    found = []
    for field in fields:
        added, _, rest = field.partition("\t")
        deleted, _, path = rest.partition("\t")
        if rest and not path:
            # A renamed file: its old and its new path follow.
            next(fields, None)
            path = next(fields, "")
        if path:
            found.append(_Changed(path, added, deleted))
    return found


def _named(left_out: Sequence[_Changed], limit: int) -> str:
    if not left_out:
        return ""
    shown = "\n".join(map(str, left_out[:MOST_NAMED]))
    more = len(left_out) - MOST_NAMED
    rest = f"\n- and {more} more" if more > 0 else ""
    return f"\nNot shown here, because it is long; read it in the workspace:\n{shown}{rest}\n"[:limit]


def _shortened(text: str, limit: int) -> str:
    return (text[: max(0, limit - len(_CUT))] + _CUT)[:limit]


async def _read(git: Git, limit: int, *args: str) -> tuple[str, bool]:
    """Return a diff, and whether it was cut at `limit` bytes; git is stopped there."""
    # A person's settings of `diff` do not reach `diff-tree`.
    plain = ("--no-ext-diff", "--no-textconv", "--no-color", "--submodule=short", "--ignore-submodules=none")
    command = ("diff-tree", "-r", "-M", *plain, *args, "--")
    reply = await git.ask(*command, limit=limit)
    if reply.rc != 0 and not reply.cut:
        raise failure(git.path, command, reply)
    return reply.stdout.decode("utf-8", "replace"), reply.cut


@asynccontextmanager
async def _evidence(git: Git, base: str) -> AsyncIterator[Git]:
    """Give git for reading commits that `git` knows, with the attributes of the commit `base`.

    Raises:
        WorkspaceError: `base` is not there, or git is broken.
    """
    async with scratch(git, sha256=len(base) > 40) as shown:
        # What is not in the worktree, git takes from the index: so does it with attributes.
        await shown.run("read-tree", base)
        yield shown
