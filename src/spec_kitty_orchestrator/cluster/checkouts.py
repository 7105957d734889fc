"""A machine's side: worktrees of a project's bare repository, in which attempts work.

A workspace has the same folder for each of its attempts on a machine, so that an agent's program, which
knows its sessions by the folder, finds an earlier one, and what is ignored there, such as installed packages,
is still there. A folder in which an earlier attempt has not been dropped is not used again.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.cluster.bare_repository import BareRepository
from spec_kitty_orchestrator.cluster.shipment import Packed, Shipment, Snapshot
from spec_kitty_orchestrator.cluster.snapshots import take
from spec_kitty_orchestrator.errors import WorkspaceError, WorkspaceMissing
from spec_kitty_orchestrator.machine.commit_rules import CommitRules
from spec_kitty_orchestrator.machine.files import make_private_folder, read_record, write_record
from spec_kitty_orchestrator.machine.git import LONG_TIMEOUT_S, Git
from spec_kitty_orchestrator.machine.raw_files import rewrite_raw
from spec_kitty_orchestrator.machine.transfer import write_bundle

__all__ = ["Checkouts"]

MOST_FREE = 16
"""Folders of a project that no attempt works in and that are kept for the next one."""

FREE_S = 7 * 24 * 3600.0
"""How long such a folder is kept."""

UNDROPPED_S = 30 * 24 * 3600.0
"""How long a folder is kept for a coordinator that does not come back for the work in it."""

MOST_BASES = 40
"""Refs of attempts that are over that are kept: what is sent next builds on them."""

SMALL_INDEX_BYTES = 200_000
"""Git's index of some 2000 files, which are checked out in no time."""

_MOST_OF_ONE_PLACE = 100
_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,120}", re.ASCII)
_CLAIM = ".json"
_SPARE = "-spare"

_RULES = CommitRules(max_bytes=0)
"""What comes back is as much as git can hold: what may be committed of it is said at home."""


@dataclass(frozen=True)
class _Folder:
    """A folder for an attempt, and beside it who has it, and git's index as it was sent.

    Attributes:
        path: the worktree.
        attempt: that has it, or had it last.
        ready: whether all that was sent is in it.
        free: whether the attempt was dropped.
        used: when that was last said, in seconds since the epoch.
    """

    path: Path
    attempt: str = ""
    ready: bool = False
    free: bool = True
    used: float = 0.0

    @property
    def claim(self) -> Path:
        """The record of it."""
        return self.path.with_suffix(_CLAIM)

    @property
    def index(self) -> Path:
        """The index with all that was sent, which agents do not write."""
        return self.path.with_suffix(".index")

    def write(self) -> None:
        """Keep the record. Raises `OSError`."""
        write_record(self.claim, {"attempt": self.attempt, "ready": self.ready, "free": self.free})

    @classmethod
    def read(cls, claim: Path) -> "_Folder":
        """Read a record back; one that is missing or damaged is of a free folder."""
        path = claim.with_suffix("")
        with suppress(OSError, ValueError):
            found = json.loads(read_record(claim))
            used = claim.stat().st_mtime
            return cls(path, str(found["attempt"]), bool(found["ready"]), bool(found["free"]), used)
        return cls(path)


class Checkouts:
    """The repositories and worktrees of one machine; several processes may use them at once.

    Args:
        folder: the machine's; it need not hold any yet.
        say: is told what went otherwise than it should, and was mended.
    """

    def __init__(self, folder: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self._repositories = folder / "repositories"
        self._worktrees = folder / "worktrees"
        self._say = say

    async def have(self, project: str, clone: str = "") -> Sequence[str]:
        """Return commits that the machine has of a project, the newest first.

        Args:
            project: see `Shipment`.
            clone: where a repository that is not there yet is cloned from, with what the machine's user may
                read; where that fails, it begins empty.

        Raises:
            WorkspaceError: git or the disk is broken.
        """
        bare = BareRepository(self._repositories, project)
        async with bare.alone():
            if told := await bare.make(clone):
                self._say(told)
            return await bare.tips()

    async def check_out(self, attempt: str, shipment: Shipment, file: Path | None) -> Path:
        """Make the workspace of an attempt; return its folder, the same one when asked again.

        HEAD is detached, and what was uncommitted is uncommitted.

        Args:
            attempt: no other one gets its folder before it is dropped.
            shipment: what is sent.
            file: holds what `have` did not name, None if that is nothing.

        Raises:
            WorkspaceError: the file is damaged or does not fit, or git or the disk is broken.
        """
        bare = BareRepository(self._repositories, shipment.project)
        async with bare.alone():
            await bare.make()
            folder = await to_thread.run_sync(self._find, shipment, attempt)
            if folder.attempt == attempt and folder.ready:
                return folder.path
            await bare.settle(shipment)
            await bare.take_up(attempt, shipment.sent, file)
            folder = replace(folder, attempt=attempt, ready=False, free=False)
            await to_thread.run_sync(folder.write)
            if not await to_thread.run_sync(folder.index.exists):
                await to_thread.run_sync(_take_spare, bare, folder)
        try:
            await self._fill(bare, folder, shipment)
        except (OSError, WorkspaceError) as error:
            # An agent can leave a folder in any state; in an empty one nothing is in the way.
            self._say(f"{folder.path} is made anew: {error}")
            await to_thread.run_sync(_clear, bare, folder)
            await self._fill(bare, folder, shipment)
        await to_thread.run_sync(replace(folder, ready=True).write)
        return folder.path

    async def _fill(self, bare: BareRepository, folder: _Folder, shipment: Shipment) -> None:
        """Make a folder what was sent, from whatever is in it. Raises `OSError` and `WorkspaceError`."""
        sent = shipment.sent
        new = not await to_thread.run_sync(folder.index.exists)
        if new:
            await to_thread.run_sync(_clear, bare, folder)
        await to_thread.run_sync(_link, bare, folder, shipment)
        git = _git(bare, folder)
        all_ = replace(git, index=folder.index)
        await all_.run("read-tree", "--reset", "-u", sent.commit, timeout_s=LONG_TIMEOUT_S)
        if not new:
            await all_.run("clean", "-d", "--force", "--quiet")
        await to_thread.run_sync(shutil.copyfile, folder.index, _admin(bare, folder) / "index")
        if sent.commit != sent.head:
            await git.run("read-tree", "--reset", sent.head)
            await rewrite_raw(git, sent.head, sent.commit)

    async def prepare(self, shipment: Shipment) -> None:
        """Make a worktree in advance, so that the next workspace of a large project is there soon.

        One at a time. Raises `WorkspaceError`.
        """
        bare = BareRepository(self._repositories, shipment.project)
        spare = _Folder(self._worktrees / shipment.project / _SPARE)
        async with bare.alone(_SPARE):
            await self._make_spare(bare, spare, shipment)

    async def _make_spare(self, bare: BareRepository, spare: _Folder, shipment: Shipment) -> None:
        async with bare.alone():
            if spare.claim.exists() or not await to_thread.run_sync(self._is_large, shipment.project):
                return
            # Without a record nobody takes it before it is whole.
            await to_thread.run_sync(_clear, bare, spare)
        await self._fill(
            bare, spare, replace(shipment, sent=Snapshot(shipment.sent.head, shipment.sent.head))
        )
        async with bare.alone():
            await to_thread.run_sync(spare.write)

    async def pack(self, attempt: str, shipment: Shipment, file: Path) -> Packed:
        """Read what an attempt has made of its workspace; nothing there is changed.

        No process of the attempt may be left. Asked again, the answer is the same.

        Args:
            attempt: that was checked out here.
            shipment: what was sent for it.
            file: becomes a bundle of what is new; is not there if nothing is.

        Raises:
            WorkspaceError: there is no such worktree, or git or the disk is broken.
        """
        bare, sent = BareRepository(self._repositories, shipment.project), shipment.sent
        folder = await to_thread.run_sync(self._of, shipment.project, attempt)
        if folder is None or not await to_thread.run_sync(folder.path.is_dir):
            raise WorkspaceMissing(f"there is no worktree of {attempt} on this machine any more")
        async with bare.alone():
            # Not with settings that an agent has made.
            await bare.settle(shipment)
        git, ref = _git(bare, folder), bare.ref(attempt, "back")
        head, earlier = await git.shas("HEAD", ref)
        if not head:
            # An agent that has left all commits, as `git checkout --orphan` does.
            await to_thread.run_sync(_link, bare, folder, shipment)
        known = (sent, Snapshot(head, earlier)) if head and earlier else (sent,)
        found = await take(git, _RULES, known=known)
        back = found.snapshot
        await to_thread.run_sync(lambda: file.unlink(missing_ok=True))
        if back != sent:
            async with bare.alone():
                await bare.git.run("update-ref", ref, back.commit)
                await write_bundle(bare.git, {ref: back.commit}, file, (sent.commit,))
        return Packed(back, found.left)

    async def drop(self, attempt: str, project: str) -> None:
        """Give the folder of an attempt free for the next one; repeating it is harmless."""
        async with BareRepository(self._repositories, project).alone():
            folder = await to_thread.run_sync(self._of, project, attempt)
            if folder is not None and not folder.free:
                await to_thread.run_sync(replace(folder, free=True).write)

    async def tidy(self) -> None:
        """Remove what is old, and repack where no attempt works. Raises `WorkspaceError`."""
        for path in await to_thread.run_sync(lambda: sorted(self._repositories.glob("*.git"))):
            bare = BareRepository(self._repositories, path.name.removesuffix(".git"))
            async with bare.alone():
                busy = await to_thread.run_sync(self._remove_old, bare)
                await bare.forget(busy, kept=MOST_BASES, older_than=time.time() - UNDROPPED_S)
                if not busy and not await to_thread.run_sync(self._remove_unused, bare):
                    await bare.repack()

    def _remove_old(self, bare: BareRepository) -> list[str]:
        """Remove the folders that are old, and return the attempts that have the others. Raises `OSError`."""
        now, folders = time.time(), list(self._all(bare.project))
        free = sorted((one for one in folders if one.free), key=lambda one: one.used, reverse=True)
        gone = [*free[MOST_FREE:], *(one for one in free[:MOST_FREE] if one.used < now - FREE_S)]
        gone += [one for one in folders if not one.free and one.used < now - UNDROPPED_S]
        for one in gone:
            _clear(bare, one)
            one.claim.unlink()
        return [one.attempt for one in folders if one not in gone and not one.free]

    def _remove_unused(self, bare: BareRepository) -> bool:
        """Remove a project that nobody has used for long, and say so. Raises `OSError`."""
        if bare.used_s() > time.time() - UNDROPPED_S or any(self._all(bare.project)):
            return False
        for place in (self._worktrees / bare.project, bare.path):
            _make_writable(place)
            shutil.rmtree(place, ignore_errors=True)
        return True

    def _is_large(self, project: str) -> bool:
        indexes = (self._worktrees / project).glob("*.index")
        return any(one.stat().st_size > SMALL_INDEX_BYTES for one in indexes)

    def _all(self, project: str) -> Iterator[_Folder]:
        for claim in sorted((self._worktrees / project).glob(f"[!-]*{_CLAIM}")):
            yield _Folder.read(claim)

    def _of(self, project: str, attempt: str) -> _Folder | None:
        return next((one for one in self._all(project) if one.attempt == attempt), None)

    def _find(self, shipment: Shipment, attempt: str) -> _Folder:
        """Return the attempt's folder, or one of its place that is free."""
        if not _PLACE.fullmatch(shipment.place):
            raise WorkspaceError(f"{shipment.place!r} is no name of a workspace")
        root = self._worktrees / shipment.project
        make_private_folder(root)
        if found := self._of(shipment.project, attempt):
            return found
        for number in range(1, _MOST_OF_ONE_PLACE):
            name = shipment.place if number == 1 else f"{shipment.place}-{number}"
            folder = _Folder.read(root / f"{name}{_CLAIM}")
            if folder.free:
                return folder
        raise WorkspaceError(f"{_MOST_OF_ONE_PLACE} attempts in {shipment.place} were never dropped here")


def _admin(bare: BareRepository, folder: _Folder) -> Path:
    return bare.path / "worktrees" / folder.path.name


def _git(bare: BareRepository, folder: _Folder) -> Git:
    workers = ("checkout.workers", "0")
    return Git(folder.path, _admin(bare, folder), bare.path, settings=(workers,), alone=True)


def _clear(bare: BareRepository, folder: _Folder) -> None:
    """Remove a worktree and all that git knows of it; the record stays. Raises `OSError`."""
    for place in (folder.path, _admin(bare, folder)):
        if os.path.lexists(place):
            _make_writable(place)
            shutil.rmtree(place)
    folder.index.unlink(missing_ok=True)


def _take_spare(bare: BareRepository, folder: _Folder) -> None:
    """Let a folder be the worktree that was made in advance, if there is one. Raises `OSError`."""
    spare = _Folder(folder.path.with_name(_SPARE))
    if spare.claim.exists():
        spare.claim.unlink()
        _clear(bare, folder)
        _admin(bare, spare).rename(_admin(bare, folder))
        spare.path.rename(folder.path)
        spare.index.rename(folder.index)


def _make_writable(place: Path) -> None:
    for folder, _, _ in os.walk(place):
        with suppress(OSError):
            Path(folder).chmod(0o700)


def _link(bare: BareRepository, folder: _Folder, shipment: Shipment) -> None:
    """Make a folder a worktree whose HEAD is detached, as git does, and forget what was under way in it."""
    admin = _admin(bare, folder)
    make_private_folder(admin)
    for entry in list(admin.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != "index":
            entry.unlink()
    make_private_folder(folder.path)
    link = folder.path / ".git"
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    if shipment.sparse:
        (admin / "info").mkdir()
        (admin / "info" / "sparse-checkout").write_bytes(os.fsencode(shipment.sparse))
    for file, text in (
        (admin / "HEAD", shipment.sent.head),
        (admin / "commondir", "../.."),
        (admin / "gitdir", str(link)),
    ):
        file.write_text(f"{text}\n")
    link.write_text(f"gitdir: {admin}\n")
