"""A child that is waited for: in a session of its own, with a limit in time and bounds on its output.

A worker thread sees it to its end, so no call blocks the event loop, and one works without a loop too.
"""

import os
import selectors
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Protocol

import anyio
from anyio import to_thread
from anyio.lowlevel import checkpoint_if_cancelled

from spec_kitty_orchestrator.machine.children import start
from spec_kitty_orchestrator.machine.patience import delays, is_shortage
from spec_kitty_orchestrator.machine.redaction import LONGEST_BYTES, ours

__all__ = ["KILL_S", "STDERR_KEPT", "STDOUT_KEPT", "Reply", "Spawned", "conduct", "run", "run_now", "tail"]

STDOUT_KEPT = 32 * 1024 * 1024
"""Bytes of stdout that are kept, from its end, of a call that says nothing else."""
STDERR_KEPT = 64 * 1024
"""Bytes of stderr that are kept, from its end."""
DRAIN_S = 0.5
"""How long pipes are read after the child's exit; a daemon that it left may hold them open for ever."""
TERM_S = 5.0
"""How long a child may tidy up after SIGTERM: git removes its locks, the host too, in a fraction of it."""
KILL_S = 5.0
"""How long the kernel may take to reap after SIGKILL before we give the child up."""
_TICK_S = 0.1
_CHUNK = 65536
_TAIL_CHARS = 2000


@dataclass(frozen=True)
class Reply:
    """What a finished child left.

    Attributes:
        rc: its exit code; negative: killed by that signal.
        stdout: all of it, or its end, or its beginning: as the call asked.
        stderr: its end.
        cut: whether the child was stopped because it wrote more than was asked for.
    """

    rc: int
    stdout: bytes
    stderr: bytes
    cut: bool = False

    @property
    def text(self) -> str:
        """Stdout without its last newline; bytes that are not UTF-8 survive as surrogates."""
        return os.fsdecode(self.stdout).removesuffix("\n")

    @property
    def paths(self) -> tuple[str, ...]:
        """Stdout as NUL-terminated fields."""
        return tuple(part for part in os.fsdecode(self.stdout).split("\0") if part)

    @property
    def complaint(self) -> str:
        """The end of stderr and stdout, for people."""
        return tail(self.stderr + b"\n" + self.stdout)


def tail(data: bytes, limit: int = _TAIL_CHARS) -> str:
    """Return the last `limit` characters of some output, with what is not UTF-8 replaced, for people.

    The secrets of our environment, in which it ran, are not in it.
    """
    return ours().tail(data[-4 * limit - LONGEST_BYTES :].decode("utf-8", "replace").strip(), limit)


class Process(Protocol):
    """A child that was begun, whoever its parent is; for worker threads."""

    @property
    def stdout(self) -> IO[bytes]:
        """The reading end of its stdout."""
        ...

    @property
    def stderr(self) -> IO[bytes]:
        """The reading end of its stderr."""
        ...

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs."""
        ...

    def wait(self, timeout_s: float) -> None:
        """Return when it has ended, or after the timeout."""
        ...

    def signal_group(self, signum: signal.Signals) -> None:
        """Send a signal to it and to what it started."""
        ...

    def close(self) -> None:
        """Let go of the pipes."""
        ...


async def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    limit_s: float,
    stdin: bytes | BinaryIO = b"",
    most: int | None = None,
) -> Reply:
    """Run a command to its end; canceled, it is stopped before this returns.

    Args:
        argv: the program and its arguments.
        cwd: the folder in which it runs.
        env: its whole environment.
        limit_s: seconds after which it is stopped.
        stdin: what it can read; of an open file, what is still to be read of it.
        most: bytes of stdout that are kept, and after which it is stopped; None for no such bound.

    Raises:
        TimeoutError: no exit within `limit_s` seconds; the processes were stopped.
        OSError: it cannot be started.
    """
    return await conduct(lambda: Spawned(argv, cwd, env, stdin), limit_s, _Beginning(most))


def run_now(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], limit_s: float) -> Reply:
    """Run a command to its end in this very thread, as `run` does; not for the event loop."""
    watch = _Watch(lambda: Spawned(argv, cwd, env), limit_s, _Beginning(None))
    watch.run()
    return watch.result()


async def conduct(
    begin: Callable[[], Process], limit_s: float, output: "_Beginning | _End | None" = None
) -> Reply:
    """Begin a child in a worker thread and see it to its end, as `run` does; `output` is for its stdout.

    Raises:
        TimeoutError: no exit within `limit_s` seconds; the processes were stopped.
        OSError: what `begin` raises.
    """
    watch = _Watch(begin, limit_s, output or _End(STDOUT_KEPT))
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_when_canceled, watch)
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(watch.run, limiter=anyio.CapacityLimiter(1))
        group.cancel_scope.cancel()
    await checkpoint_if_cancelled()
    return watch.result()


async def _stop_when_canceled(watch: "_Watch") -> None:
    try:
        await anyio.sleep_forever()
    finally:
        watch.stop.set()


@contextmanager
def _source(stdin: bytes | BinaryIO) -> Iterator[IO[bytes]]:
    """Give a file from which a child reads."""
    if not isinstance(stdin, bytes):
        yield stdin
    elif not stdin:
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123
            yield nothing
    else:
        with tempfile.TemporaryFile() as file:
            file.write(stdin)
            file.seek(0)
            yield file


class Spawned:
    """A child of ours; implements `Process`."""

    def __init__(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], stdin: bytes | BinaryIO = b""
    ) -> None:
        """Start it. Raises `OSError`."""
        with _source(stdin) as source:
            try:
                # A session of its own: Ctrl-C at our terminal does not cut it off, and nobody is asked there.
                self._process = start(
                    list(argv),
                    cwd=cwd,
                    env=dict(env),
                    stdin=source,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            except ValueError as error:
                raise OSError(str(error)) from error
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.stdout: IO[bytes] = self._process.stdout
        self.stderr: IO[bytes] = self._process.stderr

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> None:
        """Return when it has ended, or after the timeout."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)

    def signal_group(self, signum: signal.Signals) -> None:
        """Send a signal to it and to what it started."""
        # The leader's death alone does not spare the rest.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signum)

    def close(self) -> None:
        """Let go of the pipes."""
        self.stdout.close()
        self.stderr.close()


class _Beginning:
    """Keeps what comes first, and wants no more than that; all of it without a bound."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._size = 0
        self._chunks: list[bytes] = []

    @property
    def full(self) -> bool:
        return self._most is not None and self._size > self._most

    def add(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)

    def value(self) -> bytes:
        return b"".join(self._chunks)[: self._most]


class _End:
    """Keeps the last bytes, give or take one chunk."""

    full = False

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._size = 0
        self._chunks: deque[bytes] = deque()

    def add(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)
        while self._size - len(self._chunks[0]) >= self._kept:
            self._size -= len(self._chunks.popleft())

    def value(self) -> bytes:
        return b"".join(self._chunks)[-self._kept :]


class _Watch:
    """One child, seen to its end by a thread: `run`, then `result`."""

    def __init__(self, begin: Callable[[], Process], limit_s: float, output: _Beginning | _End) -> None:
        self.stop = threading.Event()
        self._reply: Reply | None = None
        self._error: OSError | None = None
        self._begin, self._limit_s = begin, limit_s
        self._out, self._err = output, _End(STDERR_KEPT)

    def result(self) -> Reply:
        if self._error is not None:
            raise self._error
        assert self._reply is not None
        return self._reply

    def run(self) -> None:
        deadline = time.monotonic() + self._limit_s
        process = self._begun(deadline)
        if process is None:
            return
        try:
            self._drain(process, deadline)
            while process.poll() is None and not self._over(deadline):
                process.wait(_TICK_S)
        finally:
            rc = process.poll()
            if rc is None:
                _stop(process)
            process.close()
        self._error = None
        if rc is not None or self._out.full:
            rc = -signal.SIGTERM if rc is None else rc
            self._reply = Reply(rc, self._out.value(), self._err.value(), self._out.full)
        else:
            self._error = TimeoutError(f"no exit within {self._limit_s:g} s")

    def _begun(self, deadline: float) -> Process | None:
        for delay_s in delays():
            try:
                return self._begin()
            except OSError as error:
                self._error = error
                if delay_s is None or not is_shortage(error) or self._over(deadline - delay_s):
                    return None
            self.stop.wait(delay_s)
        return None

    def _over(self, deadline: float) -> bool:
        return self.stop.is_set() or self._out.full or time.monotonic() >= deadline

    def _drain(self, process: Process, deadline: float) -> None:
        """Read both pipes to their ends, or until the child is gone for `DRAIN_S`, or it is to be stopped."""
        exited_at: float | None = None
        with selectors.DefaultSelector() as selector:
            for pipe, output in ((process.stdout, self._out), (process.stderr, self._err)):
                selector.register(pipe, selectors.EVENT_READ, output)
            while selector.get_map() and not self._over(deadline):
                if exited_at is None and process.poll() is not None:
                    exited_at = time.monotonic()
                if exited_at is not None and time.monotonic() >= exited_at + DRAIN_S:
                    return
                for key, _ in selector.select(_TICK_S):
                    chunk = os.read(key.fd, _CHUNK)
                    if chunk:
                        key.data.add(chunk)
                    else:
                        selector.unregister(key.fileobj)


def _stop(process: Process) -> None:
    for signum, bound_s in ((signal.SIGTERM, TERM_S), (signal.SIGKILL, KILL_S)):
        process.signal_group(signum)
        process.wait(bound_s)
