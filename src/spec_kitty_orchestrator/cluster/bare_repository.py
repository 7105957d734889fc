"""A project's bare repository on a machine: what was sent is the base of what is sent next.

Its settings are written by us before each use, so none that an agent made is followed, and no call uses those
of the machine's user but the one that clones with what that user may read.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.cluster.shipment import Shipment, Snapshot
from spec_kitty_orchestrator.core.describe import clean
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.files import make_private_folder, open_file
from spec_kitty_orchestrator.machine.git import LONG_TIMEOUT_S, Git, in_a_line
from spec_kitty_orchestrator.machine.rescue import REFS, ref_name

__all__ = ["BareRepository"]

LOCK_S = 1800.0
"""How long one waits for another that fetches, which may be all of a large project."""

MOST_TIPS = 100
"""Commits that are named as being here; a few hundred bytes of them are as good as all."""

MOST_PACKS = 20
"""Beyond this number of packs git looks slowly."""

_USED = "used"
_LOOK_S = 0.02
_ORIGIN = f"{REFS}/origin"
_ATTEMPTS = f"{REFS}/attempts"
_CHUNK_BYTES = 1024 * 1024
_SIZE_BYTES = 8
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}", re.ASCII)
_USER = re.compile(r"(?<=://)[^/@\s]*@")


class BareRepository:
    """The repository of one project.

    Args:
        folder: of all projects.
        project: see `Shipment`.

    Attributes:
        project: its name.
        path: where it lies.
        git: in it, without any worktree.

    Raises:
        WorkspaceError: the project's name is none.
    """

    def __init__(self, folder: Path, project: str) -> None:
        if not _NAME.fullmatch(project):
            raise WorkspaceError(f"{clean(project)!r} is no name of a project")
        self.project = project
        self.path: Path = folder / f"{project}.git"
        self.git: Git = Git(self.path, self.path, alone=True)
        self._sha256 = project.endswith(".sha256")

    @asynccontextmanager
    async def alone(self, what: str = "") -> AsyncIterator[None]:
        """Keep others, processes too, from what is done here: of refs, worktrees and packs, or `what`.

        Raises `WorkspaceError`.
        """
        # A fetch would stumble over a worktree that another is making at that moment.
        lock = await to_thread.run_sync(self._open_lock, what)
        try:
            end = anyio.current_time() + LOCK_S
            while not _taken(lock):
                if anyio.current_time() > end:
                    raise WorkspaceError(f"{self.path} was in use for {LOCK_S:g} s; see what works there")
                await anyio.sleep(_LOOK_S)
            yield
        finally:
            os.close(lock)

    def _open_lock(self, what: str) -> int:
        make_private_folder(self.path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self.path.with_name(f"{self.project}{what}.lock"), flags, 0o600)

    async def make(self, clone: str = "") -> str:
        """Make it if it is not there; say why it could not be filled from `clone`, "" if it was.

        Raises `WorkspaceError`.
        """
        if await to_thread.run_sync(self.path.is_dir):
            return ""
        part = self.path.with_suffix(".part")
        await to_thread.run_sync(lambda: shutil.rmtree(part, ignore_errors=True))
        kind = ("--object-format=sha256",) if self._sha256 else ()
        await Git(self.path.parent, alone=True).run(
            "init", "--quiet", "--bare", "--template=", *kind, str(part)
        )
        told = await _fill(Git(part, part), clone) if clone else ""
        await to_thread.run_sync(part.rename, self.path)
        return told

    async def tips(self) -> tuple[str, ...]:
        """Return commits that are here, the newest first. Raises `WorkspaceError`."""
        words = ("--sort=-committerdate", f"--count={MOST_TIPS}", "--format=%(objectname)")
        return tuple(dict.fromkeys((await self.git.run("for-each-ref", *words)).text.split()))

    async def settle(self, shipment: Shipment) -> None:
        """Make the settings what a shipment says, and nothing else. Raises `WorkspaceError`."""
        await to_thread.run_sync(self._settle, shipment)

    def _settle(self, shipment: Shipment) -> None:
        lines = ["[core]", f"\trepositoryformatversion = {int(self._sha256)}", "\tbare = true"]
        lines += ["[gc]", "\tauto = 0", "[maintenance]", "\tauto = false"]
        lines += ["[extensions]", "\tobjectFormat = sha256"] if self._sha256 else []
        lines[3:3] = ["\tsparseCheckout = true"] if shipment.sparse else []
        who = [
            (part, value) for part, value in zip(("name", "email"), shipment.identity, strict=True) if value
        ]
        lines += ["[user]", *(f"\t{part} = {_quoted(value)}" for part, value in who)] if who else []
        _put(self.path / "config", "\n".join(lines) + "\n")
        (self.path / "info").mkdir(exist_ok=True)
        _put(self.path / "info" / "exclude", shipment.excludes)
        for strange in ("info/attributes", "objects/info/alternates", "config.worktree"):
            (self.path / strange).unlink(missing_ok=True)
        shallow = self.path / "shallow"
        known = shallow.read_text(encoding="ascii").split() if shallow.exists() else []
        (self.path / _USED).touch()
        if lacking := [one for one in shipment.shallow if one not in known]:
            _put(shallow, "".join(f"{one}\n" for one in (*known, *lacking)))

    async def take_up(self, attempt: str, sent: Snapshot, file: Path | None) -> None:
        """Take up what was sent for an attempt. Raises `WorkspaceError` if it is damaged or not all here."""
        if file is not None:
            try:
                kind = "sha256" if self._sha256 else "sha1"
                await to_thread.run_sync(_unpack, file, self.path / "objects" / "pack", kind)
            except OSError as error:
                raise WorkspaceError(
                    f"what was sent cannot be unpacked into {self.path}: {error.strerror or error}"
                ) from error
        if not all(await self.git.shas(sent.head, sent.commit)):
            raise WorkspaceError(f"this machine lacks {sent.commit}, and it was not sent")
        await self.git.run("update-ref", self.ref(attempt, "sent"), sent.commit)

    def ref(self, attempt: str, name: str) -> str:
        """Return the name of a ref of an attempt."""
        return f"{_ATTEMPTS}/{ref_name(attempt, name).removeprefix(f'{REFS}/')}"

    async def forget(self, attempts: Collection[str], *, kept: int, older_than: float) -> None:
        """Remove refs of attempts that are no bases any more.

        Args:
            attempts: whose refs stay.
            kept: how many of the others stay.
            older_than: seconds since the epoch before which none of the others stays.

        Raises:
            WorkspaceError: git or the disk is broken.
        """
        words = ("--sort=-committerdate", "--format=%(committerdate:unix) %(refname)", _ATTEMPTS)
        lines = (await self.git.run("for-each-ref", *words)).text.splitlines()
        mine = {self.ref(one, name) for one in attempts for name in ("sent", "back")}
        old = [line.split(" ", 1) for line in lines if line.split(" ", 1)[1] not in mine]
        gone = [name for number, (at, name) in enumerate(old) if number >= kept or float(at) < older_than]
        stdin = "".join(f"delete {name}\n" for name in gone).encode()
        if gone:
            await self.git.run("update-ref", "--stdin", stdin=stdin)

    def used_s(self) -> float:
        """Return when it was last settled, in seconds since the epoch. Raises `OSError`."""
        mark = self.path / _USED
        return (mark if mark.exists() else self.path).stat().st_mtime

    async def repack(self) -> None:
        """Make one pack of many; for when no attempt is here. Raises `WorkspaceError`."""
        packs = await to_thread.run_sync(lambda: list((self.path / "objects" / "pack").glob("*.pack")))
        if len(packs) > MOST_PACKS:
            await self.git.run("repack", "-a", "-d", "-l", "--quiet", timeout_s=LONG_TIMEOUT_S)
        await self.git.run("prune", "--expire=2.weeks.ago", timeout_s=LONG_TIMEOUT_S)


def _taken(lock: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


async def _fill(git: Git, clone: str) -> str:
    words = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", clone)
    shown = _USER.sub("", clone)
    try:
        reply = await git.ask(*words, f"+refs/heads/*:{_ORIGIN}/*", timeout_s=LONG_TIMEOUT_S)
    except WorkspaceError as error:
        told = str(error)
    else:
        if reply.rc == 0:
            return ""
        told = in_a_line(reply)
    # The address may hold a password.
    told = clean(_USER.sub("", told.replace(clone, shown)))
    return f"{clean(shown)} cannot be cloned on this machine: {told}; all is sent instead"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'


def _put(path: Path, text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")
    if not path.is_symlink() and path.is_file() and path.read_bytes() == data:
        return
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)


def _unpack(file: Path, packs: Path, hashed: str) -> None:
    """Put the pack and the index of a file, as they were joined, among the packs. Raises `OSError`."""
    packs.mkdir(parents=True, exist_ok=True)
    pack, index = (packs / f".arriving-{os.getpid()}.{end}" for end in ("pack", "idx"))
    with open_file(file) as source:
        whole = os.fstat(source.fileno()).st_size
        source.seek(max(0, whole - _SIZE_BYTES))
        size = int.from_bytes(source.read(_SIZE_BYTES), "big")
        source.seek(0)
        try:
            name = _copy(source, pack, size, hashed)
            _copy(source, index, whole - _SIZE_BYTES - size, hashed)
            # The pack first: an index says that its pack is there.
            pack.replace(packs / f"pack-{name}.pack")
            index.replace(packs / f"pack-{name}.idx")
        finally:
            for part in (pack, index):
                part.unlink(missing_ok=True)


def _copy(source: BinaryIO, target: Path, size: int, hashed: str) -> str:
    """Copy bytes that end with the sum of those before; return it. Raises `OSError` if it is another."""
    sum_ = hashlib.new(hashed, usedforsecurity=False)
    left = size - sum_.digest_size
    target.unlink(missing_ok=True)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb") as out:
        while left > 0 and (chunk := source.read(min(left, _CHUNK_BYTES))):
            sum_.update(chunk)
            out.write(chunk)
            left -= len(chunk)
        end = source.read(sum_.digest_size)
        out.write(end)
        out.flush()
        os.fsync(out.fileno())
    if left != 0 or end != sum_.digest():
        raise OSError(errno.EBADMSG, "it is damaged", str(target))
    return end.hex()
