"""One detached child: started in a session of its own, waited for, and found again after a crash.

The child outlives us on purpose. Its directory says what became of it: `stdout.log` is there once it may have
begun, `process.json` names it, `lock` is locked while it runs, `exit` is there at its end. Agents can write
there too, so a record makes no other process ours, and what the kernel says goes first.
"""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.to_thread
import psutil

from spec_kitty_orchestrator.machine.attempt_lock import holders, is_locked, lock
from spec_kitty_orchestrator.machine.children import start
from spec_kitty_orchestrator.machine.files import read_record, write_record
from spec_kitty_orchestrator.machine.logs import was_started
from spec_kitty_orchestrator.machine.patience import is_shortage, patiently, patiently_now
from spec_kitty_orchestrator.machine.process_id import Child
from spec_kitty_orchestrator.machine.wrapper import wrapped, wrapped_directory

__all__ = [
    "ENDED",
    "MARKER",
    "TICKS_PER_S",
    "Alive",
    "Elsewhere",
    "Finished",
    "Lost",
    "NeverStarted",
    "find_marked",
    "inherited_marker",
    "is_running",
    "known",
    "marked",
    "out_of_reach",
    "read_end",
    "read_exit",
    "read_stat",
    "signal_name",
    "spawn",
    "started_s",
    "state",
    "wait",
]

MARKER = "SPEC_KITTY_ORCHESTRATOR_ATTEMPT"
"""The environment variable that every process of an attempt inherits; its value is the attempt's id."""
REAP_S = 1.0
"""How long a wrapper that has recorded the exit status may take to end itself."""
POLL_S = 0.2
"""How often we look where the kernel cannot wake us; a look costs some microseconds."""

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
ENDED = (b"Z", b"X")
"""States of a process in /proc that runs no more."""


@dataclass(frozen=True)
class NeverStarted:
    """Nothing was ever started for the directory."""


@dataclass(frozen=True)
class Alive:
    """The wrapper of the attempt is running."""

    child: Child


@dataclass(frozen=True)
class Elsewhere:
    """Its wrapper is running where we see no processes: in another container, or on another machine."""


@dataclass(frozen=True)
class Finished:
    """The command ended with this status; 128 + n after signal n.

    Attributes:
        leftovers: how many processes it had left running; they were ended.
    """

    exit_code: int
    leftovers: int = 0


@dataclass(frozen=True)
class Lost:
    """It was started, it is gone, and how it ended was not recorded."""


State = NeverStarted | Alive | Elsewhere | Finished | Lost

# Children of ours until they are reaped; a run that is canceled leaves its child here.
_children: dict[Child, subprocess.Popen[bytes]] = {}
# What the kernel said of those that are reaped, until somebody asks; negative after a signal.
_statuses: dict[Child, int] = {}


async def spawn(
    command: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    directory: Path,
    stdin: str = "prompt.md",
    *,
    contained: bool = False,
) -> Child:
    """Start a command detached, with its output in the directory and this file, there or elsewhere, as stdin.

    What it leaves running when it ends is ended, unless the command sees to that itself (`contained`), which
    saves some milliseconds.

    Raises:
        OSError: nothing was started: it was started before (`FileExistsError`), a file or `cwd` is
            missing, the arguments are too long, the disk is full.
    """
    return await patiently(
        lambda: anyio.to_thread.run_sync(_spawn, command, cwd, env, directory, stdin, contained)
    )


def _spawn(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], directory: Path, source: str, contained: bool
) -> Child:
    new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
    stdin = directory / source
    if not (stat.S_ISREG(stdin.stat().st_mode) or source == os.devnull):
        raise OSError(errno.EINVAL, "no ordinary file", str(stdin))
    descriptors: list[int] = []
    try:
        # Exclusive: whoever else believes that this attempt was never started fails here.
        descriptors.append(os.open(directory / "stdout.log", new, 0o600))
        descriptors.append(os.open(directory / "stderr.log", new, 0o600))
        # Nothing has ended here yet, whatever somebody left who can write here.
        for name in ("exit", "process.json"):
            (directory / name).unlink(missing_ok=True)
        descriptors.append(lock(directory))
        stdout, stderr, locked = descriptors
        process = start(
            wrapped(command, directory, stdin, contained=contained),
            stdin=locked,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=dict(env),
            start_new_session=True,
        )
    except OSError:
        # What this call created, and only that, would say that something was started.
        for name in ("stdout.log", "stderr.log")[: len(descriptors)]:
            (directory / name).unlink()
        raise
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    # A child of ours that already ended is a zombie until it is reaped, so its start can be read.
    child = known(process.pid)
    _children[child] = process
    record = {**asdict(child), "started_at": datetime.now(UTC)}
    # A full disk must not turn a running child into an error: the marker finds it without the record.
    with suppress(OSError):
        write_record(directory / "process.json", record)
    return child


def out_of_reach(who: str, directory: Path) -> str:
    """Say, for people, that an attempt runs out of our reach and what to do."""
    return (
        f"{who} still runs in another container, or on another machine that shares this folder: wait for its "
        f"end or stop it there, then start again; its files are in {directory}"
    )


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
    _reap(child)


def _open_pidfd(pid: int) -> int | None:
    pidfd_open = getattr(os, "pidfd_open", None)
    with suppress(OSError):
        return int(pidfd_open(pid)) if pidfd_open is not None else None
    return None


def _reap(child: Child, limit_s: float = 0.0) -> None:
    if child in _children:
        with suppress(subprocess.TimeoutExpired):
            _statuses[child] = _children[child].wait(limit_s)
            del _children[child]


def is_running(child: Child) -> bool:
    """Tell whether that very process runs; a zombie does not. Not for the event loop.

    Raises:
        OSError: it cannot be looked at for want of descriptors or memory.
    """
    if sys.platform == "linux":
        try:
            stat = read_stat(child.pid)
            return stat[0] not in ENDED and Child(child.pid, started_s(stat)) == child
        except (OSError, ValueError, IndexError) as error:
            if is_shortage(error):
                raise
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
    with patiently_now(lambda: open(f"/proc/{pid}/stat", "rb", buffering=0)) as file:  # noqa: PTH123 - half the cost
        return file.read(2048).rpartition(b") ")[2].split()


def started_s(stat: Sequence[bytes]) -> float:
    """Return when a process began, in seconds since the machine's start, from what `read_stat` gave."""
    return int(stat[19]) / TICKS_PER_S


def read_exit(directory: Path) -> int | None:
    """Return the exit status that the wrapper recorded, None if it did not."""
    return _recorded_end(directory)[0]


def read_end(child: Child, directory: Path) -> tuple[int | None, int]:
    """Return the exit status of a child that is gone, None if unknown, and how many it had left running.

    Where the kernel told it, a record that somebody else wrote says nothing.
    """
    code, swept = _recorded_end(directory)
    if (status := _statuses.pop(child, None)) is not None:
        code = status if status >= 0 else None
    return code, swept


def _recorded_end(directory: Path) -> tuple[int | None, int]:
    with suppress(OSError, ValueError):
        code, *swept = map(int, read_record(directory / "exit").split())
        return code, max(0, 0, *swept)
    return None, 0


def signal_name(exit_code: int | None) -> str:
    """Name the signal that an exit status speaks of, "" if it speaks of none."""
    with suppress(ValueError, TypeError):
        return signal.Signals(exit_code - 128).name  # type: ignore[operator]
    return ""


async def state(directory: Path, marker: str) -> State:
    """Tell what became of the attempt with this directory and this marker."""
    return await anyio.to_thread.run_sync(_state, directory, marker)


def _state(directory: Path, marker: str) -> State:
    if not was_started(directory):
        return NeverStarted()
    child = _recorded(directory)
    code, swept = _recorded_end(directory)
    if code is not None:
        if child is not None:
            # Where it is a child of ours, it writes its exit status and ends at once.
            _reap(child, REAP_S)
            code, swept = read_end(child, directory)
        return Lost() if code is None else Finished(code, swept)
    # The first may not have been recorded in time.
    for found in (child, *find_marked(marker)):
        if found is not None and is_running(found) and _is_wrapper(found.pid, directory):
            return Alive(found)
    if child is not None:
        _reap(child)
    if (code := read_exit(directory)) is not None:
        return Finished(code)  # since the first look
    held = holders(directory)
    for pid in held:
        with suppress(psutil.NoSuchProcess):
            if _is_wrapper(pid, directory):
                return Alive(known(pid))
    # Whoever else holds the lock here is what an attempt without a sandbox left: its wrapper is gone.
    return Elsewhere() if not held and is_locked(directory) else Lost()


def _is_wrapper(pid: int, directory: Path) -> bool:
    """Tell whether a process is the wrapper of the attempt; the repository may have been moved meanwhile."""
    with suppress(psutil.Error, OSError):
        place = wrapped_directory(psutil.Process(pid).cmdline())
        return place is not None and place.parts[-3:] == directory.parts[-3:]
    return False


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


def inherited_marker() -> str:
    """Return the marker that this process, or one that it comes from, carries; "" outside of any attempt."""
    if own := os.environ.get(MARKER):
        return own
    with suppress(psutil.Error, OSError):
        for one in psutil.Process().parents():
            with suppress(psutil.Error, OSError):
                if found := _marker(one.pid):
                    return found
    return ""


def _marker(pid: int) -> str:
    if sys.platform != "linux":
        return psutil.Process(pid).environ().get(MARKER, "")
    # Every process is looked at after every attempt: this takes a tenth of the time of psutil's way.
    variables = b"\0" + patiently_now(Path(f"/proc/{pid}/environ").read_bytes)
    return variables.partition(f"\0{MARKER}=".encode())[2].partition(b"\0")[0].decode("utf-8", "replace")
