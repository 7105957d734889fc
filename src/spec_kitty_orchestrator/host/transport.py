"""How one call of the host is made. A call never blocks the event loop, and its memory is bounded."""

import os
import selectors
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

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


class SpawnTransport:
    """Starts one process per call, in a session of its own.

    On the limit or on cancellation the process group is terminated, then killed, each within a named bound.
    """

    async def call(self, args: Sequence[str], *, cwd: Path, env: Mapping[str, str], limit_s: float) -> Reply:
        """Run `args` and return what it left; see `Transport.call`."""
        child = _Child(args, cwd, env, limit_s)
        async with anyio.create_task_group() as group:
            group.start_soon(_stop_when_canceled, child)
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(child.run, limiter=anyio.CapacityLimiter(1))
            group.cancel_scope.cancel()
        await checkpoint_if_cancelled()
        if child.error is not None:
            raise child.error
        assert child.reply is not None
        return child.reply


async def _stop_when_canceled(child: "_Child") -> None:
    try:
        await anyio.sleep_forever()
    finally:
        child.stop.set()


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


class _Child:
    """One process, driven from a worker thread; `reply` or `error` is set when `run` returns."""

    def __init__(self, args: Sequence[str], cwd: Path, env: Mapping[str, str], limit_s: float) -> None:
        self.stop = threading.Event()
        self.reply: Reply | None = None
        self.error: OSError | None = None
        self._args, self._cwd, self._env, self._limit_s = list(args), cwd, dict(env), limit_s
        self._out, self._err = _Tail(STDOUT_KEPT), _Tail(STDERR_KEPT)

    def run(self) -> None:
        deadline = time.monotonic() + self._limit_s
        try:
            process = subprocess.Popen(
                self._args,
                cwd=self._cwd,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self.error = error if isinstance(error, OSError) else OSError(str(error))
            return
        try:
            self._drain(process, deadline)
            while process.poll() is None and not self._over(deadline):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_TICK_S)
        finally:
            rc = process.poll()
            if rc is None:
                _stop_group(process)
            for pipe in (process.stdout, process.stderr):
                assert pipe is not None
                pipe.close()
        if rc is None:
            self.error = TimeoutError(f"no exit within {self._limit_s:g} s")
        else:
            self.reply = Reply(rc, self._out.value(), self._err.value())

    def _over(self, deadline: float) -> bool:
        return self.stop.is_set() or time.monotonic() >= deadline

    def _drain(self, process: "subprocess.Popen[bytes]", deadline: float) -> None:
        """Read both pipes to their ends, or until the child is gone for `DRAIN_S`, or the call is over."""
        exited_at: float | None = None
        with selectors.DefaultSelector() as selector:
            for pipe, tail in ((process.stdout, self._out), (process.stderr, self._err)):
                assert pipe is not None
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


def _stop_group(process: "subprocess.Popen[bytes]") -> None:
    """Terminate the child's group, then kill it; the leader's death alone does not spare the rest."""
    for stop, bound_s in ((signal.SIGTERM, TERM_S), (signal.SIGKILL, KILL_S)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, stop)
        with suppress(subprocess.TimeoutExpired):
            process.wait(bound_s)
