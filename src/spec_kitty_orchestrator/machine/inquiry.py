"""A short question to a program that is not ours, such as its version: bounded in time and in what it writes.

Whatever it starts ends with it, also what left its group, and nobody answers it anything.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import anyio
import anyio.to_thread

from spec_kitty_orchestrator.machine import process
from spec_kitty_orchestrator.machine.process import MARKER, Child
from spec_kitty_orchestrator.machine.stopping import Grace, stop, sweep

LONGEST_OUTPUT = 1_000_000
"""Bytes of either stream after which a program is stopped: it does not answer, it floods the disk."""
LOOK_S = 0.2
_STOP_GRACE_S = 2.0
_READ_BYTES = 262_144
_STREAMS = ("stdout.log", "stderr.log")


@dataclass(frozen=True)
class Answer:
    """How a program answered.

    Attributes:
        exit_code: None if it was stopped.
        stdout: the beginning of what it wrote, as of `stderr`; what is not UTF-8 is replaced.
        failure: why there is no answer, "" if the program ended by itself.
        started: whether it could be started at all.
    """

    exit_code: int | None
    stdout: str = ""
    stderr: str = ""
    failure: str = ""
    started: bool = True


async def ask(argv: Sequence[str], env: Mapping[str, str], limit_s: float) -> Answer:
    """Run a program in an empty folder, with nothing on standard input, for at most `limit_s` seconds."""
    with tempfile.TemporaryDirectory(prefix="spec-kitty-orchestrator-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        (folder / "empty").mkdir()
        marker = str(uuid4())
        try:
            child = await process.spawn(
                argv, folder / "empty", {**env, MARKER: marker}, folder, stdin=os.devnull
            )
        except OSError as error:
            return Answer(None, failure=f"cannot be started: {error.strerror or error}", started=False)
        failure = f"did not end within {limit_s:g} s and was stopped"
        try:
            with anyio.move_on_after(limit_s):
                failure = await _watch(child, folder)
        finally:
            with anyio.CancelScope(shield=True):
                await stop(child, marker, Grace(_STOP_GRACE_S)) if failure else await sweep(marker)
        code = None if failure else process.read_exit(folder)
        stdout, stderr = (_beginning(folder / name) for name in _STREAMS)
        return Answer(code, stdout, stderr, failure)


async def _watch(child: Child, folder: Path) -> str:
    """Return "" when the child has ended, or why it must."""
    failure = ""
    async with anyio.create_task_group() as tasks:

        async def measure() -> None:
            nonlocal failure
            while not failure:
                await anyio.sleep(LOOK_S)
                if max((folder / name).stat().st_size for name in _STREAMS) > LONGEST_OUTPUT:
                    failure = "printed without an end and was stopped"
                    tasks.cancel_scope.cancel()

        tasks.start_soon(measure)
        await process.wait(child)
        tasks.cancel_scope.cancel()
    return failure


def _beginning(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(_READ_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
