"""One detached child: started in a session of its own, waited for, and found again after a crash.

The child outlives us on purpose. Its directory says what became of it: `stdout.log` is there once it may have
begun, `process.json` names it, `exit` is there once it ended.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import anyio
import anyio.to_thread
import psutil

from spec_kitty_orchestrator.machine.files import read_record, write_record
from spec_kitty_orchestrator.machine.logs import was_started

MARKER = "SPEC_KITTY_ORCHESTRATOR_ATTEMPT"
"""The environment variable that every process of an attempt inherits; its value is the attempt's id."""
REAP_S = 1.0
"""How long a wrapper that has recorded the exit status may take to end itself."""
POLL_S = 0.2
"""How often we look where the kernel cannot wake us; a look costs some microseconds."""

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
ENDED = (b"Z", b"X")
"""States of a process in /proc that runs no more."""

_WRAPPER_NAME = "spec-kitty-orchestrator-attempt"
# The wrapper lives through a stop's signals in order to record the status (a trapped signal, unlike an
# ignored one, has its default effect in the command). While it records, `mv` ignores the signals too. What
# the shell itself would say of the command's end, such as "Terminated", is kept out of the agent's stderr.
_WRAPPER = """\
trap : HUP INT TERM
directory=$1
shift
exec 3>&2 2>/dev/null
(exec "$@") 2>&3 3>&-
status=$?
trap '' HUP INT TERM
umask 077
PATH=$PATH:/usr/bin:/bin
printf '%s\\n' "$status" >"$directory/exit.part" && mv -f "$directory/exit.part" "$directory/exit"
exit "$status"
"""


@cache
def boot() -> str:
    """Name the start of this machine, "" where the system does not."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


@dataclass(frozen=True)
class Child:
    """A process that cannot be mistaken for another, also when the clock is set.

    Attributes:
        started: in seconds: on Linux since the machine's start, elsewhere since the epoch.
        boot: that start of the machine.
    """

    pid: int
    started: float
    boot: str = field(default_factory=boot)

    @property
    def age_s(self) -> float:
        """For how long it has existed, in seconds."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.time()
        return max(0.0, now - self.started)


@dataclass(frozen=True)
class NeverStarted:
    """Nothing was ever started for the directory."""


@dataclass(frozen=True)
class Alive:
    """The wrapper of the attempt is running."""

    child: Child


@dataclass(frozen=True)
class Finished:
    """The command ended with this status; 128 + n after signal n."""

    exit_code: int


@dataclass(frozen=True)
class Lost:
    """It was started, it is gone, and how it ended was not recorded."""


State = NeverStarted | Alive | Finished | Lost

# Children of ours until they are reaped; a run that is canceled leaves its child here.
_children: dict[int, subprocess.Popen[bytes]] = {}


async def spawn(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], directory: Path, stdin: str = "prompt.md"
) -> Child:
    """Start a command detached, with its output in the directory and this file, there or elsewhere, as stdin.

    Raises:
        OSError: nothing was started: it was started before (`FileExistsError`), a file or `cwd` is
            missing, the arguments are too long, the disk is full.
    """
    return await anyio.to_thread.run_sync(_spawn, command, cwd, env, directory, stdin)


def _spawn(command: Sequence[str], cwd: Path, env: Mapping[str, str], directory: Path, source: str) -> Child:
    new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
    descriptors: list[int] = []
    try:
        descriptors.append(os.open(directory / source, os.O_RDONLY))
        # Exclusive: whoever else believes that this attempt was never started fails here.
        descriptors.append(os.open(directory / "stdout.log", new, 0o600))
        descriptors.append(os.open(directory / "stderr.log", new, 0o600))
        stdin, stdout, stderr = descriptors
        process = subprocess.Popen(
            ["/bin/sh", "-c", _WRAPPER, _WRAPPER_NAME, str(directory), *command],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=dict(env),
            start_new_session=True,
        )
    except OSError:
        # What this call created, and only that, would say that something was started.
        for name in ("stdout.log", "stderr.log")[: max(0, len(descriptors) - 1)]:
            (directory / name).unlink()
        raise
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    _children[process.pid] = process
    # A child of ours that already ended is a zombie until it is reaped, so its start can be read.
    child = known(process.pid)
    record = {**asdict(child), "started_at": datetime.now(UTC)}
    # A full disk must not turn a running child into an error: the marker finds it without the record.
    with suppress(OSError):
        write_record(directory / "process.json", record)
    return child


async def wait(child: Child) -> None:
    """Return when the child is gone; a child of ours is reaped."""
    opened = _open_pidfd(child.pid)
    try:
        # The descriptor is opened first: it stays with the process that the check then finds to be ours.
        while await anyio.to_thread.run_sync(is_running, child):
            if opened is None:
                await anyio.sleep(POLL_S)
            else:
                await anyio.wait_readable(opened)
                break
    finally:
        if opened is not None:
            os.close(opened)
    _reap(child.pid)


def _open_pidfd(pid: int) -> int | None:
    pidfd_open = getattr(os, "pidfd_open", None)
    with suppress(OSError):
        return int(pidfd_open(pid)) if pidfd_open is not None else None
    return None


def _reap(pid: int, limit_s: float = 0.0) -> None:
    if pid in _children:
        with suppress(subprocess.TimeoutExpired):
            _children[pid].wait(limit_s)
            del _children[pid]


def is_running(child: Child) -> bool:
    """Tell whether that very process runs; a zombie does not. Not for the event loop."""
    if sys.platform == "linux":
        with suppress(OSError, ValueError, IndexError):
            stat = read_stat(child.pid)
            return stat[0] not in ENDED and Child(child.pid, started_s(stat)) == child
        return False
    with suppress(psutil.Error):
        return known(child.pid) == child and psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE
    return False


def known(pid: int) -> Child:
    """Return the process that has this number now. Raises `psutil.NoSuchProcess`; not for the event loop."""
    if sys.platform != "linux":
        return Child(pid, psutil.Process(pid).create_time())
    try:
        return Child(pid, started_s(read_stat(pid)))
    except (OSError, ValueError, IndexError):
        raise psutil.NoSuchProcess(pid) from None


def read_stat(pid: int | str) -> list[bytes]:
    """Return what /proc says of a process after its name, first its state. Raises `OSError`."""
    # The name in parentheses can hold anything.
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123 - at half the cost
        return file.read(2048).rpartition(b") ")[2].split()


def started_s(stat: Sequence[bytes]) -> float:
    """Return when a process began, in seconds since the machine's start, from what `read_stat` gave."""
    return int(stat[19]) / TICKS_PER_S


def read_exit(directory: Path) -> int | None:
    """Return the exit status that the wrapper recorded, None if it did not."""
    with suppress(OSError, ValueError):
        return int(read_record(directory / "exit"))
    return None


async def state(directory: Path, marker: str) -> State:
    """Tell what became of the attempt with this directory and this marker."""
    return await anyio.to_thread.run_sync(_state, directory, marker)


def _state(directory: Path, marker: str) -> State:
    if not was_started(directory):
        return NeverStarted()
    child = _recorded(directory)
    if (code := read_exit(directory)) is not None:
        if child is not None:
            # Where it is a child of ours, it writes its exit status and ends at once.
            _reap(child.pid, REAP_S)
        return Finished(code)
    if child is not None and is_running(child):
        return Alive(child)
    # Not recorded in time.
    for found in find_marked(marker):
        with suppress(psutil.Error):
            if psutil.Process(found.pid).cmdline()[3:5] == [_WRAPPER_NAME, str(directory)]:
                return Alive(found)
    if child is not None:
        _reap(child.pid)
    # It may have ended since the first look.
    code = read_exit(directory)
    return Lost() if code is None else Finished(code)


def _recorded(directory: Path) -> Child | None:
    try:
        record = json.loads(read_record(directory / "process.json"))
        return Child(int(record["pid"]), float(record["started"]), str(record["boot"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def find_marked(marker: str) -> list[Child]:
    """Find this user's running processes that carry the marker. Not for the event loop."""
    return [child for child, carried in marked() if carried == marker]


def marked() -> Iterator[tuple[Child, str]]:
    """Yield this user's running processes that carry any marker, with it, ourselves excepted."""
    for pid in psutil.pids():
        # Processes end while we look, and those of other users cannot be looked at.
        with suppress(psutil.Error, OSError):
            carried = _marker(pid)
            if carried and pid != os.getpid():
                process = psutil.Process(pid)
                if process.uids().real == os.getuid() and process.status() != psutil.STATUS_ZOMBIE:
                    yield known(pid), carried


def _marker(pid: int) -> str:
    if sys.platform != "linux":
        return psutil.Process(pid).environ().get(MARKER, "")
    # Every process is looked at after every attempt: this takes a tenth of the time of psutil's way.
    variables = b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    return variables.partition(f"\0{MARKER}=".encode())[2].partition(b"\0")[0].decode("utf-8", "replace")
