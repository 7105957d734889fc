"""One run per mission: a lock of the kernel's, so a crash of any kind releases it.

It lies beside the host's locks, in git's own folder: what cleans a checkout, as `git clean -fdx` does, cannot
remove it and so let a second run in.
"""

import fcntl
import json
import os
import platform
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from spec_kitty_orchestrator.core.records import dataclass
from spec_kitty_orchestrator.errors import RunActive, WorkspaceError
from spec_kitty_orchestrator.machine.decoder import Decoder
from spec_kitty_orchestrator.machine.files import (
    make_hidden_folder,
    make_private_folder,
    read_record,
    write_record,
)
from spec_kitty_orchestrator.machine.process_id import Child

if TYPE_CHECKING:
    from filelock import FileLock

__all__ = ["MissionLock", "Owner"]

_PROBE_GRACE_S = 0.5
"""`holder` takes the lock for an instant to see whether it is free; a starting run outwaits that."""


@dataclass(frozen=True)
class Owner:
    """Who holds a mission's lock.

    Attributes:
        process: the one that holds it.
        started_at: when the lock was taken.
        host: the machine's name.
    """

    process: Child
    started_at: datetime
    host: str
    mission: str

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self.process.pid


def lock_folder(directory: Path) -> Path:
    """Return where the lock of a mission lies, whose records are in this folder of a primary checkout."""
    git = directory.absolute().parents[2] / ".git" if len(directory.absolute().parents) > 2 else directory
    with suppress(OSError, ValueError):
        if git.is_file():  # as where the folder was separated from the checkout
            git = git.parent / read_record(git).decode().removeprefix("gitdir:").strip()
    return (
        git / "spec-kitty-orchestrator" / directory.name if git.is_dir() and git != directory else directory
    )


class MissionLock:
    """The lock of one mission: a context manager, also an asynchronous one; whoever holds it may enter again.

    Entering it raises `RunActive` if another run holds it, and `WorkspaceError` if it cannot be made.

    Args:
        directory: the mission's folder of our own; created if it is missing.
        mission: its slug, for people.

    Attributes:
        place: the folder of the lock itself.
    """

    def __init__(self, directory: Path, mission: str) -> None:
        self.directory = directory
        self.mission = mission
        self.place: Path = lock_folder(directory)
        self._owner_file = self.place / "owner.json"
        self._entered = 0

    @cached_property
    def _lock(self) -> "FileLock":
        # Loaded only by a run: whoever asks who holds the lock should be told at once.
        from filelock import FileLock

        # A lock that is a mere file would outlive a crash, or be broken from another container.
        # Not per thread: whoever releases may run in another thread than who acquired.
        return FileLock(self.place / "lock", thread_local=False, mode=0o600, fallback_to_soft=False)

    def acquire(self) -> None:
        """Take the lock, also once more.

        Raises:
            RunActive: another run holds it; the message names its process, start and machine.
            WorkspaceError: the lock file cannot be made.
        """
        from filelock import Timeout

        if self._entered:
            self._entered += 1
            return
        try:
            make_hidden_folder(self.directory)
            make_private_folder(self.place)
            self._lock.acquire(timeout=_PROBE_GRACE_S)
        except Timeout:
            raise RunActive(self._active()) from None
        except (OSError, NotImplementedError) as error:
            raise WorkspaceError(
                f"{self._lock.lock_file} cannot be locked: {error}; if the file system has no locks, keep "
                "the repository on another"
            ) from error
        try:
            self._write_owner()
        except OSError as error:
            self._lock.release()
            raise WorkspaceError(f"{self._owner_file} cannot be written: {error}") from error
        self._entered = 1

    def release(self) -> None:
        """Give the lock back, as often as it was taken; harmless if it is not held."""
        self._entered = max(0, self._entered - 1)
        if not self._entered and self._lock.is_locked:
            self._owner_file.unlink(missing_ok=True)
            self._lock.release()

    def remove(self) -> None:
        """Give the lock back, and remove it while it is held: whoever asks for it then makes one anew."""
        self._owner_file.unlink(missing_ok=True)
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()
        self._entered = 0
        if self.place != self.directory:
            with suppress(OSError):  # a new run may use it
                self.place.rmdir()

    def holder(self) -> Owner | None:
        """Tell who holds the lock, in this process or another; None if it is free."""
        owner = self._read_owner()
        if owner is None:
            return None
        try:
            probe = os.open(self.place / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return owner
        except OSError:
            return None  # a file system without locks is not one that a run works in
        finally:
            os.close(probe)
        return None

    async def __aenter__(self) -> Self:
        # Loaded only by a run, as above.
        from anyio import to_thread

        # It may wait for somebody who only looks.
        await to_thread.run_sync(self.acquire)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def _active(self) -> str:
        owner = self._read_owner()
        if owner is None:
            return f"another run of {self.mission} is just starting; see `spec-kitty-orchestrator status`"
        return (
            f"another run of {owner.mission} is active: process {owner.pid} on {owner.host}, "
            f"started {owner.started_at:%Y-%m-%d %H:%M:%S} UTC; wait for it or stop that process"
        )

    def _write_owner(self) -> None:
        # Loaded only by a run, as above.
        from spec_kitty_orchestrator.machine.process import known

        owner = Owner(known(os.getpid()), datetime.now(UTC), platform.node(), self.mission)
        write_record(self._owner_file, asdict(owner))

    def _read_owner(self) -> Owner | None:
        try:
            return Decoder().record(Owner, json.loads(read_record(self._owner_file)))
        except (OSError, ValueError, RecursionError):
            return None
