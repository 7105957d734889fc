"""A small program in Python that stands for the host: it does what it is told."""

import os
import select
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import psutil
from anyio import to_thread

from spec_kitty_orchestrator.host.console_script import PROBE_ARGV
from spec_kitty_orchestrator.host.transport import SpawnTransport, Transport
from spec_kitty_orchestrator.host.warm import WarmTransport
from spec_kitty_orchestrator.machine.child import Reply

ENV = {"PATH": os.environ.get("PATH", os.defpath), "GREETING": "hi"}
LONG_S = 60.0
BOUND_S = 30.0
PROGRAM = """\
#!{python}
import json, os, sys, time
import part
if sys.argv[1:] == ["orchestrator-api", "contract-version"]:
    print(json.dumps({{"success": True, "timestamp": time.time_ns(), "correlation_id": os.urandom(4).hex()}}))
elif sys.argv[1] == "do":
    exec(sys.argv[3])
else:
    part.other(sys.argv[1:])
"""
"""`HOST do NAME CODE` executes CODE as the program's own."""
PART = """\
import os, sys, time
def other(argv):
    raise SystemExit("no such command")
"""


@dataclass(frozen=True)
class Pulse:
    """A pipe that processes hold open: a byte says that they run, its end that all of them are gone."""

    path: Path
    fd: int

    @property
    def hold(self) -> str:
        """The code by which a fake host takes hold of it."""
        return f"_pulse = os.open({str(self.path)!r}, os.O_WRONLY); os.write(_pulse, b'x')\n"

    @property
    def hold_with_children(self) -> str:
        """The same, and what it starts holds it too."""
        return self.hold + "os.set_inheritable(_pulse, True)\n"

    async def read(self) -> bytes:
        """Return a byte, or b"" once nobody is there any more."""
        return await to_thread.run_sync(self._read)

    def _read(self) -> bytes:
        # Without a wait, a pipe that nobody has opened yet looks like one that everybody has left.
        ready, _, _ = select.select([self.fd], [], [], 20)
        assert ready, "nobody wrote, and somebody is still there"
        return os.read(self.fd, 1)


def make_pulse(path: Path) -> Iterator[Pulse]:
    """Make a pulse at a path."""
    os.mkfifo(path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield Pulse(path, fd)
    os.close(fd)


@dataclass(frozen=True)
class Gate:
    """Where fake hosts wait until it is opened."""

    path: Path

    @property
    def wait(self) -> str:
        """The code by which a fake host waits."""
        return f"open({str(self.path)!r}, 'rb').read()\n"

    async def open(self) -> None:
        """Let all pass that wait; somebody must."""
        with anyio.fail_after(BOUND_S):
            await to_thread.run_sync(lambda: os.close(os.open(self.path, os.O_WRONLY)))


@dataclass
class Stand:
    """A fake host and the transport that serves it.

    Attributes:
        said: what the transport told people.
    """

    executable: Path
    cwd: Path
    transport: WarmTransport
    env: Mapping[str, str]
    said: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """The warm process's id; it must be there."""
        assert self.transport.pid is not None, self.said
        return self.transport.pid

    @property
    def process(self) -> psutil.Process:
        """The warm process."""
        return psutil.Process(self.pid)

    async def start(self) -> None:
        """Have the warm process started."""
        assert b"success" in (await self.call(*PROBE_ARGV)).stdout

    async def call(
        self,
        *args: str,
        limit_s: float = LONG_S,
        transport: Transport | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Reply:
        """Call the fake host."""
        with anyio.fail_after(BOUND_S):
            return await (transport or self.transport).call(
                [str(self.executable), *args],
                cwd=cwd or self.cwd,
                env=self.env if env is None else env,
                limit_s=limit_s,
            )

    async def do(self, code: str, *args: str, **options: Any) -> Reply:
        """Have the fake host execute code."""
        return await self.call("do", "something", code, *args, **options)

    async def do_anew(self, code: str, *args: str, **options: Any) -> Reply:
        """Have a process of its own execute code."""
        return await self.do(code, *args, transport=SpawnTransport(), **options)

    async def is_warm(self) -> bool:
        """Tell whether a call is made by a child of the warm process."""
        reply = await self.do("print(os.getppid())")
        return reply.rc == 0 and int(reply.stdout) == self.transport.pid


def install(folder: Path, name: str = "spec-kitty") -> Path:
    """Write a fake host into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    executable = folder / name
    executable.write_text(PROGRAM.format(python=sys.executable))
    executable.chmod(0o755)
    (folder / "part.py").write_text(PART)
    return executable


@asynccontextmanager
async def stand(
    tmp_path: Path, *, executable: Path | None = None, env: Mapping[str, str] | None = None, **options: Any
) -> AsyncIterator[Stand]:
    """Set up a fake host and its transport, which is closed at the end."""
    executable = executable or install(tmp_path / "bin")
    cwd = tmp_path / "project"
    cwd.mkdir(exist_ok=True)
    said: list[str] = []
    transport = WarmTransport(say=said.append, **options)
    try:
        yield Stand(executable, cwd, transport, {**ENV, **(env or {})}, said)
    finally:
        with anyio.CancelScope(shield=True):
            await transport.close()
