"""Keeps the machine from falling asleep while a run is active, where the system has a tool for it."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from spec_kitty_orchestrator.machine.children import start
from spec_kitty_orchestrator.machine.environment import search_path

__all__ = ["kept_awake"]

END_S = 2.0
"""The tools end at once when told; a run must not wait for one that does not."""


def _command() -> Sequence[str]:
    if sys.platform == "darwin":
        return ("caffeinate", "-i", "-w", str(os.getpid()))
    who = ("--who=spec-kitty-orchestrator", "--why=agents are at work")
    # `cat` ends with our end of its stdin, so the inhibitor goes when we do, even by SIGKILL.
    return ("systemd-inhibit", "--what=idle:sleep", *who, "--mode=block", "cat")


@contextmanager
def kept_awake() -> Iterator[None]:
    """Hold the machine awake while the context lasts; without a tool, or if it refuses, do nothing."""
    child: subprocess.Popen[bytes] | None = None
    with suppress(OSError):
        # A session of its own: no terminal on which the system could ask for a password.
        child = start(
            _command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "PATH": search_path(os.environ)},
        )
    try:
        yield
    finally:
        if child is not None:
            _end(child)


def _end(child: "subprocess.Popen[bytes]") -> None:
    if child.stdin is not None:
        with suppress(OSError):
            child.stdin.close()
    if sys.platform == "darwin":
        child.terminate()
    try:
        child.wait(END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
