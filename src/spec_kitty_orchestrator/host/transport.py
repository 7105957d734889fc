"""How one call of the host is made. A call never blocks the event loop, and its memory is bounded."""

import os
import selectors
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import anyio
from anyio import to_thread
from anyio.lowlevel import checkpoint_if_cancelled

STDOUT_KEPT = 32 * 1024 * 1024
"""Bytes of stdout that are kept, from its end: the answer is the last line."""
STDERR_KEPT = 64 * 1024
"""Bytes of stderr that are kept, from its end."""
DRAIN_S = 0.5
"""How long pipes are read after the child's exit; a grandchild may hold them open for ever."""
TERM_S = 5.0
"""How long a child may tidy up after SIGTERM; the host releases its locks within a fraction of it."""
KILL_S = 5.0
"""How long the kernel may take to reap after SIGKILL before we give the child up."""
_TICK_S = 0.1
_CHUNK = 65536


@dataclass(frozen=True)
class Reply:
    """What a finished call left: exit code (negative: killed by that signal), ends of output."""

    rc: int
    stdout: bytes
    stderr: bytes


class Transport(Protocol):
    """Makes one call of the host."""

    async def call(self, args: Sequence[str], *, cwd: Path, env: Mapping[str, str], limit_s: float) -> Reply:
        """Run `args`, whose first word is the executable, with exactly the environment `env`.

        Raises:
            TimeoutError: no exit within `limit_s` seconds; the processes were stopped.
            OSError: the executable cannot be started.
        """
        ...

    async def close(self) -> None:
        """Let go of whatever is kept between calls; a later call may take it up again."""
        ...


class Process(Protocol):
    """A call that was begun, whoever its parent is; for worker threads."""

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


class SpawnTransport:
    """Starts one process per call, in a session of its own.

    On the limit or on cancellation the process group is terminated, then killed, each within a named bound.
    """

    async def call(self, args: Sequence[str], *, cwd: Path, env: Mapping[str, str], limit_s: float) -> Reply:
        """Run `args` and return what it left; see `Transport.call`."""
        return await conduct(lambda: _Spawned(args, cwd, env), limit_s)

    async def close(self) -> None:
        """Do nothing: no call leaves anything behind."""


async def conduct(begin: Callable[[], Process], limit_s: float) -> Reply:
    """Begin a call in a worker thread and see it to its end; canceled, it is stopped before this returns.

    Raises:
        TimeoutError: no exit within `limit_s` seconds; the processes were stopped.
        OSError: what `begin` raises.
    """
    watch = _Watch(begin, limit_s)
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_when_canceled, watch)
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(watch.run, limiter=anyio.CapacityLimiter(1))
        group.cancel_scope.cancel()
    await checkpoint_if_cancelled()
    if watch.error is not None:
        raise watch.error
    assert watch.reply is not None
    return watch.reply


async def _stop_when_canceled(watch: "_Watch") -> None:
    try:
        await anyio.sleep_forever()
    finally:
        watch.stop.set()


class _Spawned:
    """A child of ours; implements `Process`."""

    def __init__(self, args: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        try:
            self._process = subprocess.Popen(
                list(args),
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
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
        return self._process.poll()

    def wait(self, timeout_s: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)

    def signal_group(self, signum: signal.Signals) -> None:
        # The leader's death alone does not spare the rest.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signum)

    def close(self) -> None:
        self.stdout.close()
        self.stderr.close()


class _Tail:
    """Keeps the last `kept` bytes of a stream, give or take one chunk."""

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
    """One call, seen to its end by a worker thread; `reply` or `error` is set when `run` returns."""

    def __init__(self, begin: Callable[[], Process], limit_s: float) -> None:
        self.stop = threading.Event()
        self.reply: Reply | None = None
        self.error: OSError | None = None
        self._begin, self._limit_s = begin, limit_s
        self._out, self._err = _Tail(STDOUT_KEPT), _Tail(STDERR_KEPT)

    def run(self) -> None:
        deadline = time.monotonic() + self._limit_s
        try:
            process = self._begin()
        except OSError as error:
            self.error = error
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
        if rc is None:
            self.error = TimeoutError(f"no exit within {self._limit_s:g} s")
        else:
            self.reply = Reply(rc, self._out.value(), self._err.value())

    def _over(self, deadline: float) -> bool:
        return self.stop.is_set() or time.monotonic() >= deadline

    def _drain(self, process: Process, deadline: float) -> None:
        """Read both pipes to their ends, or until the child is gone for `DRAIN_S`, or the call is over."""
        exited_at: float | None = None
        with selectors.DefaultSelector() as selector:
            for pipe, tail in ((process.stdout, self._out), (process.stderr, self._err)):
                selector.register(pipe, selectors.EVENT_READ, tail)
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
