"""Which repository a worktree belongs to, by the word of the primary checkout alone.

The file `.git` in a worktree is the agent's to write, and whoever believes it commits into, compares and
reviews a repository of the agent's choice. So it is compared with what the primary lists, what stands in its
place is moved aside, and it is written anew. A lock that a killed git left in the worktree's part is removed.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
from anyio import to_thread

from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.configuration import Configuration, Held, contents
from spec_kitty_orchestrator.machine.git import Git, failure

__all__ = ["OURS", "Repository", "Worktree"]

OURS = "spec-kitty-orchestrator"
"""The folder in git's common folder where what stood in place of a worktree's `.git` is kept."""

LOCKS = ("index.lock", "HEAD.lock")

LOCK_LOOK_S = 0.5
"""How long a lock must stay as it is to be taken for one that was left."""

LONGEST_LINK = 8192
"""Bytes of a `.git` file; git itself writes one path."""


@dataclass(frozen=True)
class Worktree:
    """A worktree as the primary lists it.

    Attributes:
        git: for every call there.
        configured: its settings.
        hooks: the folder of its hooks, as it was when the repository was opened, or as a person sets it.
        replaced: that its `.git` file was wrong, as something that was changed; "" if it was right.
        told: all that was mended, for people.
    """

    git: Git
    configured: Configuration
    hooks: Path
    replaced: str = ""
    told: tuple[str, ...] = ()


@dataclass(frozen=True)
class Repository:
    """The repository of a primary checkout.

    Attributes:
        primary: git there.
        common: git's common folder.
        configured: the settings that it had when it was opened.
        remembered: by git's folder of a worktree: its settings, and what the files held that they are from.
    """

    primary: Git
    common: Path
    configured: Configuration
    remembered: dict[Path, tuple[Held, Configuration]] = field(default_factory=dict)

    @classmethod
    async def open(cls, root: Path) -> "Repository":
        """Find the repository of the checkout `root`, before any agent works. Raises `WorkspaceError`."""
        question = ("rev-parse", "--path-format=absolute", "--git-dir", "--git-common-dir")
        reply = await Git(root).run(*question)
        folders = [Path(line) for line in reply.text.split("\n")]
        if len(folders) != 2:
            raise failure(root, question, reply)
        git_dir, common = folders
        primary = Git(root, git_dir, None if git_dir == common else common)
        return cls(primary, common, await Configuration.read(primary))

    async def guarded(self, path: Path) -> Git:
        """Return git in the primary checkout for calls that check out files in `path`, or look at them."""
        now = await self._settings(self.primary)
        settings = await to_thread.run_sync(now.neutral, self.configured, path)
        return replace(self.primary, settings=settings)

    async def settings(self) -> Configuration:
        """Return the settings as they are now. Raises `WorkspaceError`."""
        return await self._settings(self.primary)

    async def worktree(self, path: Path) -> Worktree | None:
        """Return git in the worktree whose top is `path`, mended where that is needed; None if it is none.

        Raises:
            WorkspaceError: it cannot be mended, or the primary lists it twice.
        """
        try:
            found = await to_thread.run_sync(self._look, path)
        except OSError as error:
            raise WorkspaceError(
                f"the worktree {path} cannot be mended: {error.strerror or error} ({error.filename}); "
                "see `git worktree list` in the primary checkout"
            ) from error
        if found is None:
            return None
        git, replaced, told = found
        now = await self._settings(git)
        settings, hooks = await to_thread.run_sync(self._settled, now, path)
        return Worktree(replace(git, settings=settings), now, hooks, replaced, told)

    async def _settings(self, git: Git) -> Configuration:
        """Read the settings there, if the files that hold them are not what they were at the last time."""
        assert git.git_dir is not None
        files = (self.common / "config", git.git_dir / "config.worktree")
        held = await to_thread.run_sync(contents, files)
        then, settings = self.remembered.get(git.git_dir, (None, self.configured))
        if then == held:
            return settings
        settings = await Configuration.read(git)
        if not settings.includes and await to_thread.run_sync(contents, files) == held:
            self.remembered[git.git_dir] = held, settings
        return settings

    def _settled(self, now: Configuration, path: Path) -> tuple[tuple[tuple[str, str], ...], Path]:
        folder = now.trusted(self.configured).get("core.hookspath", "")
        hooks = path / Path(folder).expanduser() if folder else self.common / "hooks"
        return now.neutral(self.configured, path), hooks

    async def peek(self, path: Path) -> Git | None:
        """Return git in the worktree or primary checkout whose top is `path`, None if it is none.

        Nothing is mended, so this is for looking only.
        """
        git_dir = await to_thread.run_sync(lambda: self._git_dir(path) if path.is_dir() else None)
        return None if git_dir is None else self._at(path, git_dir)

    def _at(self, path: Path, git_dir: Path) -> Git:
        return self.primary if git_dir == self.primary.git_dir else Git(path, git_dir, self.common)

    def _look(self, path: Path) -> tuple[Git, str, tuple[str, ...]] | None:
        git_dir = self._git_dir(path) if path.is_dir() else None
        if git_dir is None:
            return None
        if git_dir == self.primary.git_dir:
            return self.primary, "", ()
        mended, place = _mend_link(path, git_dir, self.common / OURS)
        replaced = (
            f"the worktree's .git file ({f'kept as {place}' if place else 'it was gone'})" if mended else ""
        )
        locks = [f"{lock}, which a git that is gone left" for lock in _stale_locks(path, git_dir)]
        told = (*([mended] if mended else ()), *(f"removed {lock}" for lock in locks))
        return self._at(path, git_dir), replaced, told

    def _git_dir(self, path: Path) -> Path | None:
        real = path.resolve()
        if real == self.primary.path.resolve():
            return self.primary.git_dir
        found = [entry for entry, at in _listed(self.common) if at.resolve() == real]
        if len(found) > 1:
            raise WorkspaceError(
                f"{self.common / 'worktrees'} lists {path} twice ({found[0].name}, {found[1].name}); "
                "remove the entry that is wrong"
            )
        return found[0] if found else None


def _listed(common: Path) -> Iterator[tuple[Path, Path]]:
    """Yield git's folder of each worktree, and where the worktree lies."""
    with suppress(OSError):
        for entry in sorted((common / "worktrees").iterdir()):
            with suppress(OSError):
                link = os.fsdecode((entry / "gitdir").read_bytes()).removesuffix("\n")
                yield entry, (entry / link).parent


def _mend_link(path: Path, git_dir: Path, aside: Path) -> tuple[str, Path | None]:
    """Make `.git` name `git_dir` again; say what was wrong, "" for nothing, and where what stood there is."""
    link, common = path / ".git", git_dir / "commondir"
    if _target(common, git_dir, "") != git_dir.parent.parent.resolve():
        common.write_text("../..\n")
    if _target(link, path, "gitdir: ") == git_dir.resolve():
        return "", None
    place = None
    if not os.path.lexists(link):
        told = f"{link} was missing and is made anew"
    else:
        place = _move_aside(link, aside, git_dir.name)
        told = f"{link} was not the file that git had put there; it is kept as {place} and made anew"
    with link.open("x") as file:
        file.write(f"gitdir: {git_dir}\n")
    return told, place


def _target(link: Path, base: Path, prefix: str) -> Path | None:
    """Return what one of git's files with one path names, None if it is not such a file."""
    if link.is_symlink() or not link.is_file() or link.stat().st_size > LONGEST_LINK:
        return None
    text = os.fsdecode(link.read_bytes()).removesuffix("\n")
    named = text.removeprefix(prefix)
    if not named or "\0" in named or not text.startswith(prefix):
        return None
    return (base / named).resolve()


def _move_aside(link: Path, aside: Path, name: str) -> Path:
    aside.mkdir(exist_ok=True)
    number = 1
    while os.path.lexists(place := aside / f"{name}.git-{number}"):
        number += 1
    shutil.move(link, place)
    return place


def _stale_locks(path: Path, git_dir: Path) -> list[Path]:
    """Remove the locks that no living git can have, and return them."""
    locks = [git_dir / name for name in LOCKS if os.path.lexists(git_dir / name)]
    if not locks or any(_works_in(process, path, git_dir) for process in psutil.process_iter()):
        return []
    # A program that uses git's files without git has them for some milliseconds.
    before = [_state(lock) for lock in locks]
    time.sleep(LOCK_LOOK_S)
    stale = [lock for lock, state in zip(locks, before, strict=True) if state and _state(lock) == state]
    for lock in stale:
        lock.unlink(missing_ok=True)
    return stale


def _state(path: Path) -> tuple[int, ...] | None:
    with suppress(OSError):
        found = path.lstat()
        return found.st_ino, found.st_size, found.st_mtime_ns
    return None


def _works_in(process: psutil.Process, *folders: Path) -> bool:
    """Tell whether a process is a git, or a program of one, that works in a folder, or may be."""
    try:
        if "git" not in process.name().lower():
            return False
        places = [Path(process.cwd()), *map(Path, filter(None, map(process.environ().get, _PLACES)))]
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
    except psutil.Error:
        # Another user's git: what it does cannot be seen.
        return True
    return any(place.is_relative_to(folder.resolve()) for place in places for folder in folders)


_PLACES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
