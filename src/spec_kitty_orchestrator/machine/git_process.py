"""One git process: in a session of its own, its output bounded, stopped so that it leaves no lock behind."""

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.abc import ByteReceiveStream, Process

_EXIT_GRACE_S = 0.5
"""A daemon started by a hook inherits our pipes; what git itself wrote has arrived by then."""

_STOP_GRACE_S = 5.0
"""Git removes its lock files on SIGTERM, so it gets the time to."""

_TAIL_CHARS = 2000


@dataclass(frozen=True)
class Reply:
    """What a git process left.

    Attributes:
        code: its exit code.
        out: stdout; at most the call's limit, and then `cut` is set and git was stopped.
    """

    code: int
    out: bytes
    err: bytes
    cut: bool = False

    @property
    def text(self) -> str:
        """Stdout without its last newline; bytes that are not UTF-8 survive as surrogates."""
        return os.fsdecode(self.out).removesuffix("\n")

    @property
    def paths(self) -> tuple[str, ...]:
        """Stdout as NUL-terminated fields."""
        return tuple(part for part in os.fsdecode(self.out).split("\0") if part)

    @property
    def complaint(self) -> str:
        """The end of stderr and stdout, for people."""
        return tail(self.err + b"\n" + self.out)


def tail(data: bytes, limit: int = _TAIL_CHARS) -> str:
    """Return the last `limit` characters of some output, with what is not UTF-8 replaced."""
    text = data[-4 * limit :].decode("utf-8", "replace").strip()
    return text if len(text) <= limit else "…" + text[1 - limit :]


async def run_bounded(
    argv: list[str], cwd: Path, env: dict[str, str], stdin: bytes, limit: int | None
) -> Reply:
    """Run a command to its end, or until it wrote more than `limit` bytes to stdout.

    Raises:
        OSError: it cannot be started.
    """
    # A session of its own: Ctrl-C at our terminal must not cut git off, and gpg or ssh cannot prompt there.
    process = await anyio.open_process(
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    out, err = bytearray(), bytearray()
    try:
        async with anyio.create_task_group() as tasks:
            assert process.stderr is not None
            tasks.start_soon(_feed, process, stdin)
            tasks.start_soon(_drain, process.stderr, err)
            tasks.start_soon(_drain_or_stop, process, out, limit)
            await process.wait()
            tasks.cancel_scope.deadline = anyio.current_time() + _EXIT_GRACE_S
    finally:
        await _stop(process)
    cut = limit is not None and len(out) > limit
    return Reply(process.returncode or 0, bytes(out[:limit]), bytes(err), cut)


async def _drain_or_stop(process: Process, out: bytearray, limit: int | None) -> None:
    assert process.stdout is not None
    await _drain(process.stdout, out, limit)
    if limit is not None and len(out) > limit:
        _signal(process, signal.SIGTERM)


async def _drain(stream: ByteReceiveStream, into: bytearray, limit: int | None = None) -> None:
    async for chunk in stream:
        into += chunk
        if limit is not None and len(into) > limit:
            return


async def _feed(process: Process, data: bytes) -> None:
    assert process.stdin is not None
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, BrokenPipeError, ConnectionError):
        await process.stdin.send(data)
    await process.stdin.aclose()


async def _stop(process: Process) -> None:
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            _signal(process, signal.SIGTERM)
            with anyio.move_on_after(_STOP_GRACE_S):
                await process.wait()
        if process.returncode is None:
            _signal(process, signal.SIGKILL)
        await process.aclose()


def _signal(process: Process, number: signal.Signals) -> None:
    # The group is ours as long as its leader is not reaped, and anyio reaps on wait() only.
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
