"""The folder in which a machine keeps all that is ours: private, and its own also where a home is shared."""

import errno
import fcntl
import json
import os
import re
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.files import make_private_folder, read_record, write_record
from spec_kitty_orchestrator.machine.process_id import boot

__all__ = ["MachineFolder"]

_RECORD = "machine.json"
_MOST_OF_ONE_NAME = 100


@dataclass(frozen=True)
class MachineFolder:
    """A machine's folder; while it is open, no other machine takes it for its own.

    Attributes:
        path: of mode 0700.
        name: of the machine: the same after each restart, and no other machine's.
        lock: a descriptor that is shared with the other processes of the machine.
    """

    path: Path
    name: str
    lock: int

    @classmethod
    def open(cls, root: Path | None = None) -> "MachineFolder":
        """Find it, or make it.

        Args:
            root: machines with one home may share it: each has a folder of its own in it. None for the usual
                place of programs' state.

        Raises:
            WorkspaceError: it cannot be made, or belongs to somebody else.
        """
        # Absolute, as git and agents are run in other folders.
        root = root.expanduser().absolute() if root is not None else _usual()
        host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).strip(".-")[:60] or "machine"
        try:
            for number in range(1, _MOST_OF_ONE_NAME):
                path = root / (host if number == 1 else f"{host}-{number}")
                if found := _take(path, host):
                    return found
        except OSError as error:
            raise WorkspaceError(
                f"the machine's folder {root} cannot be used: {error.strerror or error}; "
                "name one that is yours and has room"
            ) from error
        raise WorkspaceError(f"more than {_MOST_OF_ONE_NAME} machines named {host} share {root}")

    def close(self) -> None:
        """Let go of it; what is in it stays."""
        os.close(self.lock)


def _usual() -> Path:
    home = os.environ.get("XDG_STATE_HOME", "")
    return (Path(home) if home.startswith("/") else Path.home() / ".local" / "state") / (
        "spec-kitty-orchestrator"
    )


def _take(path: Path, host: str) -> MachineFolder | None:
    """Take a folder; None if a living machine of the same name has it. Raises `OSError`."""
    make_private_folder(path)
    if path.stat().st_uid != os.getuid():
        raise PermissionError(errno.EPERM, "it belongs to another user", str(path))
    path.chmod(0o700)
    with _locked(path / "opening.lock"):
        lock = _open(path / "machine.lock")
        try:
            name, booted = _read(path / _RECORD)
            if booted != boot():
                # After a start of the machine nobody is here; if somebody is, that is another machine.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                name = name or f"{host}-{uuid.uuid4().hex[:8]}"
                write_record(path / _RECORD, {"name": name, "boot": boot()})
            fcntl.flock(lock, fcntl.LOCK_SH)
        except BaseException as error:
            os.close(lock)
            if isinstance(error, BlockingIOError):
                return None
            raise
    return MachineFolder(path, name, lock)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = _open(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _read(record: Path) -> tuple[str, str | None]:
    """Return the machine's name and the start that it was last used in; "" and None where there is none."""
    try:
        found = json.loads(read_record(record))
    except (OSError, ValueError):
        return "", None
    if not isinstance(found, dict):
        return "", None
    return str(found.get("name", "")), str(found.get("boot", ""))
