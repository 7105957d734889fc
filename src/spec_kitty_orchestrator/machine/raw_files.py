"""Files as git objects byte for byte, and back: without filters, encodings or other line ends."""

import os
import stat
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.machine.commit_rules import MOST_STORED_BYTES
from spec_kitty_orchestrator.machine.git import Change, Git
from spec_kitty_orchestrator.machine.staging import nul, split

__all__ = ["blobs", "rewrite_raw", "store_raw"]

_AT_ONCE_BYTES = 16 * 1024**2


async def store_raw(git: Git, changes: Sequence[Change]) -> None:
    """Bring these paths of the index to what the worktree holds. Raises `WorkspaceError`."""
    present, gone = await to_thread.run_sync(split, git.path, changes)
    if gone:
        await git.run("update-index", "-z", "--force-remove", "--stdin", stdin=nul(gone))
    modes = await to_thread.run_sync(lambda: {path: _mode(git.path / path) for path in present})
    folders = [path for path, mode in modes.items() if mode == "160000"]
    if folders:
        await git.run("update-index", "-z", "--add", "--replace", "--stdin", stdin=nul(folders))
    names = await _stored(git, {path: mode for path, mode in modes.items() if mode in ("100644", "100755")})
    for path in (path for path, mode in modes.items() if mode == "120000"):
        target = await to_thread.run_sync(_link, git.path / path)
        if target is not None:
            names[path] = (await git.run("hash-object", "-w", "--stdin", stdin=target)).text
    lines = nul(f"{modes[path]} {name}\t{path}" for path, name in names.items())
    if lines:
        await git.run("update-index", "--add", "--replace", "-z", "--index-info", stdin=lines)


async def _stored(git: Git, paths: Sequence[str] | dict[str, str]) -> dict[str, str]:
    # Git reads a line, and takes one that begins with a quotation mark for a quoted name.
    plain = [path for path in paths if "\n" not in path and not path.startswith('"')]
    command = ("hash-object", "-w", "--no-filters")
    stdin = b"".join(os.fsencode(path) + b"\n" for path in plain)
    names = {}
    if plain and (reply := await git.ask(*command, "--stdin-paths", stdin=stdin)).rc == 0:
        names = dict(zip(plain, reply.text.split("\n"), strict=True))
    for path in paths:
        if path not in names:
            one = await git.ask(*command, "--", path)
            # What vanished meanwhile is not there; what else goes wrong would go wrong again.
            if one.rc == 0 or await to_thread.run_sync(os.path.lexists, git.path / path):
                names[path] = one.text if one.rc == 0 else (await git.run(*command, "--", path)).text
    return names


def _mode(path: Path) -> str:
    """Return the mode that git knows for what is at a path, "" if it is gone."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return ""
    if stat.S_ISLNK(mode):
        return "120000"
    if stat.S_ISDIR(mode):
        return "160000"
    return "100755" if mode & stat.S_IXUSR else "100644"


def _link(path: Path) -> bytes | None:
    try:
        return os.fsencode(path.readlink())
    except OSError:
        return None


async def rewrite_raw(git: Git, commit: str, tree: str) -> None:
    """Write the files of `tree` that differ from `commit` as they were stored, after git checked them out."""
    fields = (
        await git.run("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", commit, tree)
    ).paths
    heads = {path: head.split(" ") for head, path in zip(fields[::2], fields[1::2], strict=True)}
    files = {path: head[3] for path, head in heads.items() if head[1].startswith("100")}
    async for path, data in blobs(git, files):
        await to_thread.run_sync(_write_if_other, git.path / path, data)


async def blobs(git: Git, names: Mapping[str, str]) -> AsyncIterator[tuple[str, bytes]]:
    """Yield what the files hold of which these are the objects, by path; larger ones than are stored are not.

    Raises `WorkspaceError`.
    """
    listed = await git.run("cat-file", "--batch-check=%(objectsize)", stdin=_lines(names.values()))
    sizes = dict(zip(names, map(_number, listed.text.split("\n")), strict=True)) if names else {}
    waiting = [path for path, size in sizes.items() if 0 <= size <= MOST_STORED_BYTES]
    while waiting:
        some, held = [waiting.pop()], 0
        while waiting and (held := held + sizes[some[-1]]) < _AT_ONCE_BYTES:
            some.append(waiting.pop())
        read = await git.run("cat-file", "--batch=", stdin=_lines(names[path] for path in some))
        at = 0
        for path in some:
            # An empty line comes before each, and a newline after it.
            at += 1
            yield path, read.stdout[at : at + sizes[path]]
            at += sizes[path] + 1


def _lines(names: Iterable[str]) -> bytes:
    return "".join(f"{one}\n" for one in names).encode()


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else -1


def _write_if_other(path: Path, data: bytes) -> None:
    if path.is_file() and not path.is_symlink() and path.read_bytes() != data:
        path.write_bytes(data)
