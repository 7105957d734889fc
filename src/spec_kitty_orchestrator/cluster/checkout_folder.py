"""One folder of a machine in which attempts work: a worktree of a bare repository, and who has it."""

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from spec_kitty_orchestrator.cluster.bare_repository import BareRepository
from spec_kitty_orchestrator.cluster.shipment import Shipment
from spec_kitty_orchestrator.machine.files import make_private_folder, read_record, write_record
from spec_kitty_orchestrator.machine.git import Git

__all__ = ["CLAIM", "SPARE", "Folder", "admin_of", "clear", "git_of", "link", "make_writable", "take_spare"]

CLAIM = ".json"
SPARE = "-spare"


@dataclass(frozen=True)
class Folder:
    """A folder for an attempt, and beside it who has it, and git's index as it was sent.

    Attributes:
        path: the worktree.
        attempt: that has it, or had it last.
        ready: whether all that was sent is in it.
        free: whether the attempt was dropped.
        used: when that was last said, in seconds since the epoch.
        set_up: the mark of the setup that ran in it, "" for none; with the attempt for which it ran, if what
            it made does not last.
    """

    path: Path
    attempt: str = ""
    ready: bool = False
    free: bool = True
    used: float = 0.0
    set_up: str = ""

    @property
    def claim(self) -> Path:
        """The record of it."""
        return self.path.with_suffix(CLAIM)

    @property
    def index(self) -> Path:
        """The index with all that was sent, which agents do not write."""
        return self.path.with_suffix(".index")

    def write(self) -> None:
        """Keep the record. Raises `OSError`."""
        told = {"attempt": self.attempt, "ready": self.ready, "free": self.free, "set_up": self.set_up}
        write_record(self.claim, told)

    @classmethod
    def read(cls, claim: Path) -> "Folder":
        """Read a record back; one that is missing or damaged is of a free folder."""
        path = claim.with_suffix("")
        with suppress(OSError, ValueError):
            found = json.loads(read_record(claim))
            used = claim.stat().st_mtime
            ready, free, set_up = bool(found["ready"]), bool(found["free"]), str(found.get("set_up", ""))
            return cls(path, str(found["attempt"]), ready, free, used, set_up)
        return cls(path)


def admin_of(bare: BareRepository, folder: Folder) -> Path:
    """Return where git keeps what it knows of a worktree."""
    return bare.path / "worktrees" / folder.path.name


def git_of(bare: BareRepository, folder: Folder) -> Git:
    """Make git for a worktree, which believes nothing that lies in it."""
    workers = ("checkout.workers", "0")
    return Git(folder.path, admin_of(bare, folder), bare.path, settings=(workers,), alone=True)


def clear(bare: BareRepository, folder: Folder) -> None:
    """Remove a worktree and all that git knows of it; the record stays. Raises `OSError`."""
    for place in (folder.path, admin_of(bare, folder)):
        if os.path.lexists(place):
            make_writable(place)
            shutil.rmtree(place)
    folder.index.unlink(missing_ok=True)


def take_spare(bare: BareRepository, folder: Folder) -> None:
    """Let a folder be the worktree that was made in advance, if there is one. Raises `OSError`."""
    spare = Folder(folder.path.with_name(SPARE))
    if spare.claim.exists():
        spare.claim.unlink()
        clear(bare, folder)
        admin_of(bare, spare).rename(admin_of(bare, folder))
        spare.path.rename(folder.path)
        spare.index.rename(folder.index)


def make_writable(place: Path) -> None:
    """Let what is below a folder be removed."""
    for folder, _, _ in os.walk(place):
        with suppress(OSError):
            Path(folder).chmod(0o700)


def link(bare: BareRepository, folder: Folder, shipment: Shipment) -> None:
    """Make a folder a worktree whose HEAD is detached, as git does, and forget what was under way in it."""
    admin = admin_of(bare, folder)
    make_private_folder(admin)
    for entry in list(admin.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != "index":
            entry.unlink()
    make_private_folder(folder.path)
    pointer = folder.path / ".git"
    if pointer.is_dir() and not pointer.is_symlink():
        shutil.rmtree(pointer)
    pointer.unlink(missing_ok=True)
    if shipment.sparse:
        (admin / "info").mkdir()
        (admin / "info" / "sparse-checkout").write_bytes(os.fsencode(shipment.sparse))
    for file, text in (
        (admin / "HEAD", shipment.sent.head),
        (admin / "commondir", "../.."),
        (admin / "gitdir", str(pointer)),
    ):
        file.write_text(f"{text}\n")
    pointer.write_text(f"gitdir: {admin}\n")
