"""The lock of an attempt: the kernel keeps it while the wrapper lives, in whatever container that is."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from spec_kitty_orchestrator.machine.files import open_file

__all__ = ["holders", "is_locked", "lock"]


def lock(directory: Path) -> int:
    """Lock the attempt; the kernel lets go when the last process that inherited the descriptor is gone."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(directory / "lock", flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise FileExistsError(errno.EEXIST, "it runs already", str(directory)) from None
    except OSError:
        pass  # a file system without locks
    return descriptor


def is_locked(directory: Path) -> bool:
    """Tell whether the lock of the attempt is held, here or elsewhere. Not for the event loop."""
    # All containers of a machine see it, and other machines where NFS passes it to its server; what forgets a
    # lock, as a server does that was started anew, makes the attempt lost, as no lock at all would.
    with suppress(OSError), open_file(directory / "lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def holders(directory: Path) -> list[int]:
    """Find the processes seen from here that hold the lock of the attempt; none where there is no /proc.

    Not only the wrapper can: a command without a sandbox can lock the file itself. Not for the event loop.
    """
    if not is_locked(directory):
        return []
    with suppress(OSError):
        wanted = (directory / "lock").stat()
        with os.scandir("/proc") as entries:
            pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
        return [pid for pid in pids if _holds(pid, wanted)]
    return []


def _holds(pid: int, wanted: os.stat_result) -> bool:
    # Processes end while we look, and those of other users cannot be looked at.
    with suppress(OSError), os.scandir(f"/proc/{pid}/fdinfo") as entries:
        for entry in entries:
            with suppress(OSError):
                # Who took the lock may be gone; whoever has the descriptor keeps it.
                about = Path(entry.path).read_bytes()
                if b"FLOCK" in about and os.path.samestat(os.stat(f"/proc/{pid}/fd/{entry.name}"), wanted):  # noqa: PTH116
                    return True
    return False
