"""One run per mission: a lock of the kernel's, so a crash of any kind releases it."""

import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from spec_kitty_orchestrator.errors import RunActive, WorkspaceError
from spec_kitty_orchestrator.machine.files import make_hidden_folder, write_record
from spec_kitty_orchestrator.machine.process import Child, known

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


_OWNER: Final = TypeAdapter(Owner)


class MissionLock:
    """The lock of one mission; a context manager that raises `RunActive` when another run holds it.

    Args:
        directory: the mission's folder of our own; created if it is missing.
        mission: its slug, for people.
    """

    def __init__(self, directory: Path, mission: str) -> None:
        self.directory = directory
        self.mission = mission
        # Not per thread: whoever releases may run in another thread than who acquired.
        self._lock = FileLock(directory / "lock", thread_local=False, mode=0o600)
        self._owner_file = directory / "owner.json"

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            RunActive: another run holds it; the message names its process, start and machine.
            WorkspaceError: the lock file cannot be made.
        """
        try:
            make_hidden_folder(self.directory)
            self._lock.acquire(timeout=_PROBE_GRACE_S)
        except Timeout:
            raise RunActive(self._active()) from None
        except (OSError, NotImplementedError) as error:
            raise WorkspaceError(f"{self._lock.lock_file} cannot be locked: {error}") from error
        try:
            self._write_owner()
        except OSError as error:
            self._lock.release()
            raise WorkspaceError(f"{self._owner_file} cannot be written: {error}") from error

    def release(self) -> None:
        """Give the lock back; harmless if it is not held."""
        if self._lock.is_locked:
            self._owner_file.unlink(missing_ok=True)
            self._lock.release()

    def remove(self) -> None:
        """Give the lock back, and remove it while it is held: whoever asks for it then makes one anew."""
        self._owner_file.unlink(missing_ok=True)
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()

    def holder(self) -> Owner | None:
        """Tell who holds the lock, in this process or another; None if it is free."""
        owner = self._read_owner()
        if owner is None or self._lock.is_locked:
            return owner
        probe = FileLock(self._lock.lock_file, thread_local=False, mode=0o600)
        try:
            probe.acquire(blocking=False)
        except Timeout:
            return owner
        except OSError:
            return None  # a folder that cannot be written is not one that a run works in
        probe.release()
        return None

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
        owner = Owner(known(os.getpid()), datetime.now(UTC), platform.node(), self.mission)
        write_record(self._owner_file, asdict(owner))

    def _read_owner(self) -> Owner | None:
        try:
            return _OWNER.validate_json(self._owner_file.read_bytes())
        except (OSError, ValidationError):
            return None
