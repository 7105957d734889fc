"""What of a worktree git cannot hold, or at a price: repositories inside it, large and unreadable files.

It is compared by what the file system says of it, and moved out of the way instead of being deleted.
"""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.commit_rules import MOST_STORED_BYTES, CommitRules, regenerable
from spec_kitty_orchestrator.machine.files import make_hidden_folder
from spec_kitty_orchestrator.machine.git import Change, Git
from spec_kitty_orchestrator.machine.nested import Link, declared, edits_in, inside_of, is_held, links

__all__ = ["Unheld", "find", "move_aside", "read", "unsaved", "write"]

NESTED = "repository"
SUBMODULE = "submodule"
FILE = "file"


@dataclass(frozen=True)
class Unheld:
    """Something in a worktree.

    Attributes:
        path: relative; of a folder, with a slash at its end.
        state: differs when it was changed.
        kind: a repository, a submodule or a file.
    """

    path: str
    state: str
    kind: str


async def find(
    git: Git, changes: Sequence[Change], submodules: Sequence[Link], rules: CommitRules
) -> tuple[Unheld, ...]:
    """Find what of the `changes` git cannot hold, and which of the `submodules` are checked out."""
    found = []
    for link in submodules:
        inside = await inside_of(git, link.path)
        if inside is not None:
            found.append(Unheld(f"{link.path}/", await _state_of(inside), SUBMODULE))
    known = {one.path for one in found}
    nested = [change.path for change in changes if change.nested and change.path not in known]
    found += [Unheld(path, await _state_at(git.path / path), NESTED) for path in nested]
    found += await to_thread.run_sync(lambda: list(_files(git.path, changes, rules)))
    return tuple(sorted(found, key=lambda one: one.path))


def _files(root: Path, changes: Iterable[Change], rules: CommitRules) -> Iterator[Unheld]:
    for change in changes:
        path = root / change.path
        with suppress(OSError):
            at = path.lstat()
            most = (rules.max_bytes or MOST_STORED_BYTES) if change.untracked else MOST_STORED_BYTES
            if stat.S_ISREG(at.st_mode) and (at.st_size > most or not _is_readable(path)):
                yield Unheld(change.path, _of_stat(at), FILE)


def _is_readable(path: Path) -> bool:
    try:
        path.open("rb").close()
    except PermissionError:
        return False
    return True


def _of_stat(at: os.stat_result) -> str:
    # The time of the last change of the inode cannot be set back, unlike that of the content.
    return f"{at.st_mode:o}:{at.st_size}:{at.st_mtime_ns}:{at.st_ctime_ns}"


async def _state_at(folder: Path) -> str:
    if await to_thread.run_sync(os.access, folder, os.R_OK | os.X_OK):
        return await _state_of(Git(folder, foreign=True))
    return _of_stat(await to_thread.run_sync(folder.lstat))


async def _state_of(inside: Git) -> str:
    """Digest the commit and the files of a repository, as far as it does not ignore them."""
    listed = await inside.ask("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    head = await inside.sha("HEAD")
    return await to_thread.run_sync(_digest, inside.path, head, listed.paths if listed.rc == 0 else None)


def _digest(root: Path, head: str, listed: Sequence[str] | None) -> str:
    paths = sorted(set(_walked(root) if listed is None else listed))
    digest = hashlib.sha256(head.encode())
    caches = regenerable(paths, ())
    for path in paths:
        if path not in caches:
            with suppress(OSError):
                digest.update(os.fsencode(path) + b"\0" + _of_stat((root / path).lstat()).encode() + b"\0")
    return digest.hexdigest()


def _walked(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name != ".git"]
        here = Path(folder).relative_to(root)
        yield from (str(here / name) for name in files if name != ".git")


async def write(git: Git, found: Sequence[Unheld]) -> str:
    """Store what was found as a blob and return its name, "" for nothing."""
    if not found:
        return ""
    fields = (field for one in found for field in (one.path, one.state, one.kind))
    data = b"\0".join(map(os.fsencode, fields))
    return (await git.run("hash-object", "-w", "--stdin", stdin=data)).text


async def read(git: Git, name: str) -> dict[str, Unheld]:
    """Return by path what `write` stored. Raises `WorkspaceError`."""
    fields = (await git.run("cat-file", "blob", name)).paths if name else ()
    found = (Unheld(*fields[place : place + 3]) for place in range(0, len(fields), 3))
    return {one.path: one for one in found}


async def unsaved(git: Git, found: Iterable[Unheld]) -> list[Unheld]:
    """Return those that would be lost with the worktree: a submodule is not, if others have all of it."""
    committed = {f"{link.path}/": link.commit for link in await links(git, "HEAD")}
    elsewhere = await declared(git)
    lost = []
    for one in found:
        inside = await inside_of(git, one.path) if one.kind == SUBMODULE else None
        if inside is not None and one.path.rstrip("/") in elsewhere and not await edits_in(inside):
            head = await inside.sha("HEAD")
            shallow = (await inside.ask("rev-parse", "--is-shallow-repository")).text == "true"
            if await is_held(inside, head) or (shallow and head == committed.get(one.path)):
                continue
        lost.append(one)
    return lost


async def move_aside(git: Git, found: Iterable[Unheld], root: Path, place: Path) -> tuple[str, ...]:
    """Move things out of a worktree into a new folder below `root`, which git ignores; return where they are.

    Args:
        git: in the worktree.
        found: what is to be moved.
        root: a folder of ours.
        place: the new folder; with -2, -3 … at its end if it is taken.

    Raises:
        WorkspaceError: something could not be moved; it is where it was.
    """
    found = tuple(found)
    if not found:
        return ()
    moved = []
    try:
        target = await to_thread.run_sync(_new_folder, root, place)
        for one in found:
            there = await to_thread.run_sync(_move, git.path, target, one)
            if one.kind == SUBMODULE:
                await git.ask("config", "--file", str(there / ".git" / "config"), "--unset", "core.worktree")
            moved.append(str(there))
    except OSError as error:
        raise WorkspaceError(
            f"{error.filename} in {git.path} cannot be moved to {place}: {error.strerror or error}; move it "
            "away by hand, as git cannot hold it" + (f" (moved so far: {', '.join(moved)})" if moved else "")
        ) from error
    return tuple(moved)


def _new_folder(root: Path, place: Path) -> Path:
    make_hidden_folder(root)
    number = 1
    while True:
        target = place if number == 1 else place.with_name(f"{place.name}-{number}")
        try:
            target.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return target


def _open_up(source: Path) -> None:
    """Make movable what its maker has closed: the folder that it is in, and itself if it is one."""
    for folder in (source.parent, source):
        if folder.is_dir() and not folder.is_symlink() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            folder.chmod(0o700)


def _move(worktree: Path, target: Path, one: Unheld) -> Path:
    source, there = worktree / one.path, target / one.path
    there.parent.mkdir(parents=True, exist_ok=True)
    link = source / ".git"
    store = None
    if one.kind == SUBMODULE and link.is_file():
        named = os.fsdecode(link.read_bytes()).removeprefix("gitdir: ").rstrip("\n")
        store = (source / named).resolve()
    _open_up(source)
    try:
        source.rename(there)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.move(source, there)
    if store is not None and store.is_dir():
        # Git deletes a submodule's commits together with the worktree.
        (there / ".git").unlink()
        shutil.copytree(store, there / ".git", symlinks=True)
    if one.kind == SUBMODULE:
        source.mkdir()
    return there
