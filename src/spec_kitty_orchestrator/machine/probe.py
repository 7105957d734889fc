"""A short question to a program that is not ours, such as its version: bounded in time and in what it writes.

Whatever it starts ends with it, also what left its group, and nobody answers it anything.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import anyio

from spec_kitty_orchestrator.machine import child
from spec_kitty_orchestrator.machine.process import MARKER
from spec_kitty_orchestrator.machine.stopping import sweep

__all__ = ["Answer", "ask"]

MOST_BYTES = 1_000_000
"""Of stdout; a program that prints more does not answer, it floods."""


@dataclass(frozen=True)
class Answer:
    """How a program answered.

    Attributes:
        exit_code: None if it was stopped.
        stdout: what it wrote, and the end of `stderr`; what is not UTF-8 is replaced.
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
    marker = str(uuid4())
    with tempfile.TemporaryDirectory(prefix="spec-kitty-orchestrator-", ignore_cleanup_errors=True) as empty:
        try:
            reply = await child.run(
                argv, cwd=Path(empty), env={**env, MARKER: marker}, limit_s=limit_s, most=MOST_BYTES
            )
        except TimeoutError:
            return Answer(None, failure=f"did not end within {limit_s:g} s and was stopped")
        except OSError as error:
            return Answer(None, failure=f"cannot be started: {error.strerror or error}", started=False)
        finally:
            with anyio.CancelScope(shield=True):
                await sweep(marker)
    stdout, stderr = (data.decode("utf-8", "replace") for data in (reply.stdout, reply.stderr))
    if reply.cut:
        return Answer(None, stdout, stderr, "printed without an end and was stopped")
    return Answer(reply.rc, stdout, stderr)
