"""A machine's side: worktrees of a project's bare repository, in which attempts work.

A workspace has the same folder for each of its attempts on a machine, so that an agent's program, which
knows its sessions by the folder, finds an earlier one, and what is ignored there, such as installed packages,
is still there. A folder in which an earlier attempt has not been dropped is not used again.
"""

import re
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.cluster.bare_repository import BareRepository
from spec_kitty_orchestrator.cluster.checkout_folder import (
    CLAIM,
    SPARE,
    Folder,
    admin_of,
    clear,
    git_of,
    link,
    make_writable,
    take_spare,
)
from spec_kitty_orchestrator.cluster.shipment import Packed, Shipment, Snapshot
from spec_kitty_orchestrator.cluster.snapshots import take
from spec_kitty_orchestrator.errors import WorkspaceError, WorkspaceMissing
from spec_kitty_orchestrator.machine import rescue
from spec_kitty_orchestrator.machine.commit_rules import CommitRules
from spec_kitty_orchestrator.machine.files import make_private_folder
from spec_kitty_orchestrator.machine.git import LONG_TIMEOUT_S
from spec_kitty_orchestrator.machine.raw_files import rewrite_raw
from spec_kitty_orchestrator.machine.staging import caches_among
from spec_kitty_orchestrator.machine.transfer import write_bundle

__all__ = ["UNDROPPED_S", "Checkouts"]

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

_RULES = CommitRules(max_bytes=0)
"""What comes back is as much as git can hold: what may be committed of it is said at home."""


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
            new = not await to_thread.run_sync(folder.index.exists)
            set_up = "" if new else folder.set_up
            folder = replace(folder, attempt=attempt, ready=False, free=False, set_up=set_up)
            await to_thread.run_sync(folder.write)
            if new:
                await to_thread.run_sync(take_spare, bare, folder)
        try:
            await self._fill(bare, folder, shipment)
        except (OSError, WorkspaceError) as error:
            # An agent can leave a folder in any state; in an empty one nothing is in the way.
            self._say(f"{folder.path} is made anew: {error}")
            folder = replace(folder, set_up="")
            await to_thread.run_sync(clear, bare, folder)
            await self._fill(bare, folder, shipment)
        await to_thread.run_sync(replace(folder, ready=True).write)
        return folder.path

    async def _fill(self, bare: BareRepository, folder: Folder, shipment: Shipment) -> None:
        """Make a folder what was sent, from whatever is in it. Raises `OSError` and `WorkspaceError`."""
        sent = shipment.sent
        new = not await to_thread.run_sync(folder.index.exists)
        if new:
            await to_thread.run_sync(clear, bare, folder)
        await to_thread.run_sync(link, bare, folder, shipment)
        git = git_of(bare, folder)
        all_ = replace(git, index=folder.index)
        await all_.run("read-tree", "--reset", "-u", sent.commit, timeout_s=LONG_TIMEOUT_S)
        if not new:
            await all_.run("clean", "-d", "--force", "--quiet")
        await to_thread.run_sync(shutil.copyfile, folder.index, admin_of(bare, folder) / "index")
        if sent.commit != sent.head:
            await git.run("read-tree", "--reset", sent.head)
            await rewrite_raw(git, sent.head, sent.commit)

    async def set_up(
        self,
        attempt: str,
        shipment: Shipment,
        mark: str,
        run: Callable[[Path, Callable[[], Awaitable[str]]], Awaitable[bool]],
    ) -> None:
        """Let a setup make what the workspace of an attempt needs, unless it has: once for each folder.

        What git ignores stays, and what tools can make again; what else was changed is put back. Where git
        does not ignore all that stays, it is gone before the next attempt, and the setup runs again.

        Args:
            attempt: that was checked out here, and has not begun.
            shipment: what was sent for it.
            mark: tells the setup from another one.
            run: runs it in this folder and tells whether it is done; a call tells in words if it moved HEAD.

        Raises:
            WorkspaceError: git or the disk is broken, and whatever `run` raises.
        """
        bare, sent = BareRepository(self._repositories, shipment.project), shipment.sent
        folder = await to_thread.run_sync(self._of, shipment.project, attempt)
        if folder is None:
            raise WorkspaceMissing(f"there is no worktree of {attempt} on this machine any more")
        lasting, passing = mark, f"{mark} {attempt}"
        if folder.set_up in (lasting, passing):
            return
        git = git_of(bare, folder)

        async def moved() -> str:
            return "" if await git.sha("HEAD") == sent.head else "it moved the branch"

        # If it fails or is cut off, the folder is filled again, without what it has changed.
        await to_thread.run_sync(replace(folder, ready=False, set_up="").write)
        done = await run(folder.path, moved)
        await rescue.put_back(git, rescue.Snapshot(sent.head, "", sent.head, sent.commit, ""))
        passes = await caches_among(git, await git.changes())
        set_up = (passing if passes else lasting) if done else ""
        await to_thread.run_sync(replace(folder, set_up=set_up).write)

    async def prepare(self, shipment: Shipment) -> None:
        """Make a worktree in advance, so that the next workspace of a large project is there soon.

        One at a time. Raises `WorkspaceError`.
        """
        bare = BareRepository(self._repositories, shipment.project)
        spare = Folder(self._worktrees / shipment.project / SPARE)
        async with bare.alone(SPARE):
            await self._make_spare(bare, spare, shipment)

    async def _make_spare(self, bare: BareRepository, spare: Folder, shipment: Shipment) -> None:
        async with bare.alone():
            if spare.claim.exists() or not await to_thread.run_sync(self._is_large, shipment.project):
                return
            # Without a record nobody takes it before it is whole.
            await to_thread.run_sync(clear, bare, spare)
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
        git, ref = git_of(bare, folder), bare.ref(attempt, "back")
        head, earlier = await git.shas("HEAD", ref)
        if not head:
            # An agent that has left all commits, as `git checkout --orphan` does.
            await to_thread.run_sync(link, bare, folder, shipment)
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
            clear(bare, one)
            one.claim.unlink()
        return [one.attempt for one in folders if one not in gone and not one.free]

    def _remove_unused(self, bare: BareRepository) -> bool:
        """Remove a project that nobody has used for long, and say so. Raises `OSError`."""
        if bare.used_s() > time.time() - UNDROPPED_S or any(self._all(bare.project)):
            return False
        for place in (self._worktrees / bare.project, bare.path):
            make_writable(place)
            shutil.rmtree(place, ignore_errors=True)
        return True

    def _is_large(self, project: str) -> bool:
        indexes = (self._worktrees / project).glob("*.index")
        return any(one.stat().st_size > SMALL_INDEX_BYTES for one in indexes)

    def _all(self, project: str) -> Iterator[Folder]:
        for claim in sorted((self._worktrees / project).glob(f"[!-]*{CLAIM}")):
            yield Folder.read(claim)

    def _of(self, project: str, attempt: str) -> Folder | None:
        return next((one for one in self._all(project) if one.attempt == attempt), None)

    def _find(self, shipment: Shipment, attempt: str) -> Folder:
        """Return the attempt's folder, or one of its place that is free."""
        if not _PLACE.fullmatch(shipment.place):
            raise WorkspaceError(f"{shipment.place!r} is no name of a workspace")
        root = self._worktrees / shipment.project
        make_private_folder(root)
        if found := self._of(shipment.project, attempt):
            return found
        for number in range(1, _MOST_OF_ONE_PLACE):
            name = shipment.place if number == 1 else f"{shipment.place}-{number}"
            folder = Folder.read(root / f"{name}{CLAIM}")
            if folder.free:
                return folder
        raise WorkspaceError(f"{_MOST_OF_ONE_PLACE} attempts in {shipment.place} were never dropped here")
