"""Attempts for tests: an agent that runs a piece of Python, children that a test holds, a killed command."""

import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import anyio

from spec_kitty_orchestrator.agents.spec import (
    BOTH_ROLES,
    AgentCommand,
    AgentSettings,
    Assignment,
    Login,
    Permissions,
    ShellInReview,
)
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Outcome, Role, Usage, Workspace
from spec_kitty_orchestrator.machine.runner import LocalAgents
from spec_kitty_orchestrator.ports import AttemptRequest

LIMIT_S = 20
"""Bounds each wait of a test; nothing here needs more than a fraction of it."""

COUNT = "open('runs', 'a').write('ran\\n')\n"
CONNECT = """
import os, signal, socket, sys
line = socket.create_connection(("127.0.0.1", int(os.environ["PORT"])))
line.sendall(b"+")
"""
HOLD = CONNECT + "line.recv(1)\n"
DEAF = "import signal\nfor s in (signal.SIGTERM, signal.SIGINT): signal.signal(s, signal.SIG_IGN)\n" + HOLD
SAY_OK = "print('result: fine', flush=True)\n"
BACKGROUND = """
import os, subprocess, sys
port = os.environ.get("HELD_PORT", os.environ["PORT"])
command = [sys.executable, "-c", os.environ["HELD"]]
subprocess.Popen(command, env={**os.environ, "PORT": port}, start_new_session=True)
"""


@dataclass
class PythonAgent:
    """An agent that runs a piece of Python, and whose result is a line that begins with `result: `."""

    code: str
    name: str = "python"
    family: str = "test"
    executable: str = sys.executable
    environment: tuple[str, ...] = ("PORT", "HELD*", "INHERITED_*")
    resumes: bool = True
    reports_cost: bool = True
    caps_cost: bool = True
    words: tuple[str, ...] = ()
    unfinished: Outcome = Outcome.FAILED
    stop_signal: Literal["INT", "TERM"] = "TERM"
    prompt: Literal["stdin", "file", "argument"] = "stdin"
    read: int = field(default=0, compare=False)
    roles: frozenset[Role] = BOTH_ROLES
    versions: tuple[str, ...] = ()
    install: str = ""
    login: Login = field(default_factory=Login)
    shell_in_review: ShellInReview = "always"
    traces: tuple[str, ...] = ()
    state: tuple[str, ...] = ()

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        argv = (settings.executable or self.executable, "-c", self.code, *self.words, *settings.extra_args)
        if task.session or task.max_cost_usd is not None:
            argv = (*argv, task.session, str(task.max_cost_usd))
        argv = tuple(word.replace("{directory}", str(task.directory)) for word in argv)
        return AgentCommand(argv, {"ROLE": task.role.value}, self.stop_signal, prompt=self.prompt)

    def permissions(self, role: Role) -> Permissions:
        return Permissions(f"auto-{role.value}", "none", "open")

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        self.read += 1
        results = [line.removeprefix("result: ") for line in stdout if line.startswith("result: ")]
        if results:
            return AgentReport(Outcome.OK, text=results[-1], usage=Usage(1, 2, 0.5), session="s")
        return AgentReport(self.unfinished, detail=stderr_tail)


class Children:
    """The test's end of the connections of its children."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port = str(self._listener.getsockname()[1])
        self.lines: list[socket.socket] = []

    async def up(self, count: int = 1) -> None:
        """Wait until so many more children are connected."""
        with anyio.fail_after(LIMIT_S):
            for _ in range(count):
                await anyio.wait_readable(self._listener)
                line, _ = self._listener.accept()
                line.setblocking(False)
                self.lines.append(line)
                await anyio.wait_readable(line)
                assert line.recv(1) == b"+"

    async def gone(self) -> None:
        """Wait until every connected child is gone."""
        with anyio.fail_after(LIMIT_S):
            for line in self.lines:
                await anyio.wait_readable(line)
                with suppress(ConnectionResetError):
                    assert line.recv(1) == b""

    def release(self) -> None:
        """Let the connected children go on."""
        for line in self.lines:
            line.send(b"-")

    def close(self) -> None:
        for line in (*self.lines, self._listener):
            line.close()


def agents_of(
    root: Path,
    agent: PythonAgent,
    settings: AgentSettings | None = None,
    s: float = 60,
    **more: Any,
) -> LocalAgents:
    agents = {"py": (agent, settings or AgentSettings())}
    timeouts = {Role.IMPLEMENT: s, Role.REVIEW: s}
    return LocalAgents(root, agents, timeouts=timeouts, version="0.2.0", **more)


def request_of(root: Path, attempt_id: str, **changes: object) -> AttemptRequest:
    workspace = Workspace(str(root), str(root / "WP01.md"))
    request = AttemptRequest(
        attempt_id, "034-demo", "WP01", 1, Role.IMPLEMENT, "py", workspace, "the prompt", "abc", "tree"
    )
    return replace(request, **changes)  # type: ignore[arg-type]


async def run(runner: LocalAgents, attempt: Attempt) -> AgentReport:
    with anyio.fail_after(LIMIT_S):
        return await runner.run(attempt)


@asynccontextmanager
async def running(runner: LocalAgents, attempt: Attempt) -> AsyncIterator[Callable[[], AgentReport]]:
    """Run an attempt beside the body; afterwards the callable gives its report."""
    reports: list[AgentReport] = []

    async def collect() -> None:
        reports.append(await runner.run(attempt))

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collect)
            yield lambda: reports[0]


def texts(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def runs(root: Path) -> int:
    return len((root / "runs").read_text().splitlines())


async def drive(root: str, attempt_id: str, code: str) -> None:
    """Be the orchestrator that a test kills: open an attempt, say which, and run it."""
    runner = agents_of(Path(root), PythonAgent(code))
    attempt = await runner.open(request_of(Path(root), attempt_id))
    sys.stdout.write(attempt.directory + "\n")
    sys.stdout.flush()
    await runner.run(attempt)


DRIVER = """
import importlib.util, sys, anyio
spec = importlib.util.spec_from_file_location("driven", sys.argv[1])
module = sys.modules["driven"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
anyio.run(module.drive, *sys.argv[2:])
"""


async def killed_while_running(root: Path, attempt_id: str, code: str, children: Children) -> Attempt:
    """Return an attempt whose orchestrator got SIGKILL after the agent had connected."""
    argv = [sys.executable, "-c", DRIVER, __file__, str(root), attempt_id, code]
    async with await anyio.open_process(argv, stderr=None) as driver:
        assert driver.stdout is not None
        with anyio.fail_after(LIMIT_S):
            directory = (await driver.stdout.receive()).decode().strip()
        await children.up()
        driver.kill()
        await driver.wait()
    return Attempt(attempt_id, 1, Role.IMPLEMENT, "py", directory, "abc", "tree")
