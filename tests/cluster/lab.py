"""A scheduler and workers as processes of this machine, each with a HOME and a disk of its own."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import IO

LIMIT_S = 40
"""Bounds each wait of a test; a worker imports for two seconds, and more where others work."""
MOST_SAID = 256 * 1024
"""Bytes that are kept of what a process says."""


def _drain(output: IO[bytes], said: bytearray) -> None:
    """Read what a process says, so that it never waits for a reader, and keep the beginning."""
    with output:
        while line := output.readline():
            if len(said) < MOST_SAID:
                said += line


class Lab:
    """The processes of a cluster, and what each has said, by their names; `address` is the scheduler's.

    Args:
        root: where each has its home.
        around: the beginning of a command line that each worker runs in.
        env: what each process has in its environment, besides a HOME of its own.
    """

    def __init__(self, root: Path, around: Sequence[str] = (), env: Mapping[str, str] = os.environ) -> None:
        self.root = root
        self._env = env
        self._around = around
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.said: dict[str, bytearray] = {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"

    def scheduler(self) -> None:
        """Start the scheduler, at the same address each time, and wait until it takes connections."""
        module = "distributed.cli.dask_scheduler"
        argv = [
            sys.executable,
            "-m",
            module,
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--no-dashboard",
            "--no-show",
        ]
        self._start("scheduler", argv, b"Scheduler at")

    def worker(self, name: str, offers: str = "bot=2", *more: str) -> None:
        """Start a worker with a state folder of its own, and wait until the scheduler knows it."""
        state = self.root / name / "state"
        argv = [*self._around, sys.executable, "-m", "spec_kitty_orchestrator", "worker", self.address]
        argv += ["--resources", offers]
        self._start(name, [*argv, "--state-folder", str(state), *more], b"worker of")

    def _start(self, name: str, argv: Sequence[str], ready: bytes) -> None:
        home = self.root / name
        home.mkdir(exist_ok=True)
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=home,
            env={**self._env, "HOME": str(home), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        self.processes[name] = process
        assert process.stdout is not None
        said = b""
        while ready not in said:
            line = process.stdout.readline()
            assert line, f"{name} has ended: {said.decode()}"
            said += line
        kept = self.said.setdefault(name, bytearray())
        Thread(target=_drain, args=(process.stdout, kept), daemon=True).start()

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal a process, and wait for its end."""
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(LIMIT_S)

    def close(self) -> None:
        """End all that is left."""
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(LIMIT_S)
