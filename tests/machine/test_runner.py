"""Attempts on this machine: one run each, whatever happens to us, and nothing left behind."""

import json
import os
import shutil
import signal
import socket
import stat
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import anyio
import anyio.to_thread
import psutil
import pytest
from blockbuster import blockbuster_ctx

from spec_kitty_orchestrator.agents.spec import (
    BOTH_ROLES,
    PROMPT_WORD,
    AgentCommand,
    AgentSettings,
    Assignment,
    Login,
    Permissions,
)
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Outcome, Role, Usage, Workspace
from spec_kitty_orchestrator.errors import PreflightError, WorkspaceError
from spec_kitty_orchestrator.machine import process, watchdog
from spec_kitty_orchestrator.machine import runner as runner_module
from spec_kitty_orchestrator.machine.process_tree import Table
from spec_kitty_orchestrator.machine.redaction import Redactor
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
    shell_in_review: bool = True
    traces: tuple[str, ...] = ()

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


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[Children]:
    children = Children()
    monkeypatch.setenv("PORT", children.port)
    monkeypatch.setenv("HELD", HOLD)
    yield children
    children.close()


@pytest.fixture(autouse=True)
def never_blocks() -> Iterator[None]:
    """Fail the test if our code blocks its event loop."""
    with blockbuster_ctx("spec_kitty_orchestrator"):
        yield


@pytest.fixture
def attempt_id() -> Iterator[str]:
    """The id of the test's attempt; whatever carries it when the test ends is a leak."""
    attempt_id = uuid4().hex
    yield attempt_id
    leaked = process.find_marked(attempt_id)
    for one in leaked:
        os.kill(one.pid, signal.SIGKILL)
    assert leaked == []


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


@pytest.mark.asyncio
async def test_opening_writes_the_prompt_and_the_command_and_starts_nothing(
    tmp_path: Path, attempt_id: str
) -> None:
    settings = AgentSettings(env={"API_KEY": "abc", "PLAIN": "x", "HEADER": "Bearer abcdefgh12345678"})
    runner = agents_of(tmp_path, PythonAgent("", stop_signal="INT"), settings)

    attempt = await runner.open(request_of(tmp_path, attempt_id, role=Role.REVIEW))

    directory = tmp_path / ".kittify/logs/034-demo/WP01/01-review-py"
    assert attempt == Attempt(attempt_id, 1, Role.REVIEW, "py", str(directory), "abc", "tree")
    assert (directory / "prompt.md").read_text() == "the prompt"
    assert json.loads((directory / "command.json").read_text()) == {
        "attempt": attempt_id,
        "agent": "py",
        "role": "review",
        "cwd": str(tmp_path),
        "argv": [sys.executable, "-c", ""],
        "env": {
            "ROLE": "review",
            "API_KEY": "[redacted]",
            "PLAIN": "x",
            "HEADER": "Bearer [redacted]",
        },
        "stop_signal": "INT",
    }
    assert sorted(path.name for path in directory.iterdir()) == ["command.json", "prompt.md"]
    assert stat.S_IMODE((directory / "command.json").stat().st_mode) == 0o600


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("prompt", "word", "code"),
    [
        ("argument", "say: {prompt}", "sys.argv[1].removeprefix('say: ')"),
        ("file", "{directory}/prompt.md", "open(sys.argv[1]).read()"),
    ],
)
async def test_a_prompt_that_is_no_input_comes_as_the_command_says_and_is_recorded_so(
    tmp_path: Path, attempt_id: str, prompt: Literal["file", "argument"], word: str, code: str
) -> None:
    code = f"import sys\nprint('result:', {code} + '|' + sys.stdin.read())"
    runner = agents_of(tmp_path, PythonAgent(code, words=(word,), prompt=prompt))
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    assert (await run(runner, attempt)).text == "the prompt|"
    record = json.loads((Path(attempt.directory) / "command.json").read_text())
    said = {"argument": "say: the prompt", "file": f"{attempt.directory}/prompt.md"}
    assert record["argv"] == [sys.executable, "-c", code, said[prompt]]


@pytest.mark.asyncio
async def test_a_prompt_that_is_too_long_for_an_argument_is_refused_with_both_sizes(
    tmp_path: Path, attempt_id: str
) -> None:
    runner = agents_of(tmp_path, PythonAgent("", words=(PROMPT_WORD,), prompt="argument"))
    attempt = await runner.open(request_of(tmp_path, attempt_id, prompt="x" * 131_072))
    report = await run(runner, attempt)
    assert report.outcome is Outcome.INVALID_REQUEST
    assert "its prompt has 131,072 bytes, but" in report.detail
    assert "131,071 at most" in report.detail
    assert await run(runner, attempt) == report


@pytest.mark.asyncio
async def test_the_longest_prompt_that_an_argument_can_hold_arrives(tmp_path: Path, attempt_id: str) -> None:
    code = "import sys\nprint('result:', len(sys.argv[1]))"
    runner = agents_of(tmp_path, PythonAgent(code, words=(PROMPT_WORD,), prompt="argument"))
    attempt = await runner.open(request_of(tmp_path, attempt_id, prompt="x" * 131_071))
    assert (await run(runner, attempt)).text == "131071"


@pytest.mark.asyncio
async def test_what_a_cli_wrote_of_its_usage_is_the_last_line_of_its_output(
    tmp_path: Path, attempt_id: str
) -> None:
    code = "import sys\nopen(sys.argv[1], 'w').write('result: a\\nb')\nprint('result: on stdout')"
    runner = agents_of(tmp_path, PythonAgent(code, words=("{directory}/usage.json",)))
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    assert (await run(runner, attempt)).text == "a b"


@pytest.mark.asyncio
async def test_an_attempt_runs_in_its_worktree_and_its_report_is_kept(
    tmp_path: Path, attempt_id: str
) -> None:
    worktree = tmp_path / "worktree"
    worktree.mkdir()
    code = "import os, sys\nprint('result:', os.getcwd(), os.environ['X_KEY'], sys.stdin.read())\nsys.exit(7)"
    runner = agents_of(tmp_path, PythonAgent(code), AgentSettings(env={"X_KEY": "short"}))
    workspace = Workspace(str(worktree), "")
    attempt = await runner.open(request_of(tmp_path, attempt_id, workspace=workspace))

    report = await run(runner, attempt)

    text = f"{worktree.resolve()} short the prompt"
    assert report == AgentReport(Outcome.OK, text, session="s", usage=Usage(1, 2, 0.5), exit_code=7)
    result = json.loads((Path(attempt.directory) / "result.json").read_text())
    assert result["attempt"] == attempt_id
    assert result["report"]["outcome"] == "ok"


@pytest.mark.asyncio
async def test_a_finished_attempt_is_neither_run_nor_read_again(tmp_path: Path, attempt_id: str) -> None:
    agent = PythonAgent(COUNT + SAY_OK)
    runner = agents_of(tmp_path, agent)
    attempt = await runner.open(request_of(tmp_path, attempt_id))

    first = await run(runner, attempt)
    again = await run(runner, attempt)
    after_a_restart = await run(agents_of(tmp_path, agent), attempt)

    assert first == again == after_a_restart
    assert runs(tmp_path) == 1
    assert agent.read == 1


@pytest.mark.asyncio
async def test_two_calls_at_once_are_one_run(tmp_path: Path, attempt_id: str, children: Children) -> None:
    runner = agents_of(tmp_path, PythonAgent(COUNT + HOLD + SAY_OK))
    attempt = await runner.open(request_of(tmp_path, attempt_id))

    async with running(runner, attempt) as one, running(runner, attempt) as other:
        await children.up()
        children.release()

    assert one() == other()
    assert runs(tmp_path) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("torn", ["", "{", '{"attempt": "another", "report": {"outcome": "ok"}}'])
async def test_an_unreadable_result_is_made_again_of_the_output(
    tmp_path: Path, attempt_id: str, torn: str
) -> None:
    runner = agents_of(tmp_path, PythonAgent(COUNT + SAY_OK))
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    first = await run(runner, attempt)
    (Path(attempt.directory) / "result.json").write_text(torn)

    assert await run(runner, attempt) == first
    assert runs(tmp_path) == 1


@pytest.mark.asyncio
async def test_the_command_on_record_is_the_one_that_ran(tmp_path: Path, attempt_id: str) -> None:
    attempt = await agents_of(tmp_path, PythonAgent("")).open(request_of(tmp_path, attempt_id))
    changed = agents_of(tmp_path, PythonAgent(SAY_OK), AgentSettings(extra_args=("--new",)))

    assert (await run(changed, attempt)).outcome is Outcome.OK

    record = json.loads((Path(attempt.directory) / "command.json").read_text())
    assert record["argv"] == [sys.executable, "-c", SAY_OK, "--new"]


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


@pytest.mark.asyncio
@pytest.mark.parametrize("able", [True, False])
async def test_an_attempt_goes_on_with_a_session_and_is_told_its_limit_where_the_agent_can(
    tmp_path: Path, attempt_id: str, able: bool
) -> None:
    agent = PythonAgent("import sys; print('result:', *sys.argv[1:])", resumes=able, caps_cost=able)
    runner = agents_of(tmp_path, agent)

    attempt = await runner.open(request_of(tmp_path, attempt_id, session="s-1", max_cost_usd=2.5))

    assert (attempt.session, attempt.max_cost_usd) == (("s-1", 2.5) if able else ("", None))
    written = json.loads((Path(attempt.directory) / "command.json").read_text())["argv"]
    assert written[3:] == (["s-1", "2.5"] if able else [])
    assert (await run(runner, attempt)).text.strip() == ("s-1 2.5" if able else "")


@pytest.mark.asyncio
@pytest.mark.parametrize("recorded", [True, False], ids=["pid recorded", "pid not recorded"])
async def test_an_agent_that_outlived_a_killed_orchestrator_is_re_attached(
    tmp_path: Path, attempt_id: str, children: Children, recorded: bool
) -> None:
    code = COUNT + HOLD + SAY_OK
    attempt = await killed_while_running(tmp_path, attempt_id, code, children)
    if not recorded:
        (Path(attempt.directory) / "process.json").unlink()

    async with running(agents_of(tmp_path, PythonAgent(code)), attempt) as report:
        children.release()

    assert report().outcome is Outcome.OK
    assert report().exit_code == 0
    assert runs(tmp_path) == 1


@pytest.mark.asyncio
async def test_what_an_agent_finished_after_the_orchestrator_was_killed_is_harvested(
    tmp_path: Path, attempt_id: str, children: Children
) -> None:
    code = COUNT + HOLD + SAY_OK + "sys.exit(5)"
    attempt = await killed_while_running(tmp_path, attempt_id, code, children)
    state = await process.state(Path(attempt.directory), attempt_id)
    assert isinstance(state, process.Alive)
    children.release()
    with anyio.fail_after(LIMIT_S):
        await process.wait(state.child)

    report = await run(agents_of(tmp_path, PythonAgent(code)), attempt)

    assert report.outcome is Outcome.OK
    assert report.exit_code == 5
    assert runs(tmp_path) == 1


def others(agent: PythonAgent) -> Callable[[str], tuple[PythonAgent, AgentSettings]]:
    """Find the agent for a run that does not choose it."""
    return lambda _: (agent, AgentSettings())


@pytest.mark.asyncio
async def test_an_attempt_of_an_agent_that_is_no_longer_chosen_is_re_attached_and_read(
    tmp_path: Path, attempt_id: str, children: Children
) -> None:
    code = COUNT + HOLD + SAY_OK
    attempt = await killed_while_running(tmp_path, attempt_id, code, children)
    timeouts = dict.fromkeys(Role, 60.0)
    now = LocalAgents(tmp_path, {}, timeouts=timeouts, version="1", others=others(PythonAgent(code)))

    async with running(now, attempt) as report:
        children.release()

    assert report().outcome is Outcome.OK
    assert runs(tmp_path) == 1


@pytest.mark.asyncio
async def test_an_attempt_that_had_not_begun_is_not_begun_with_an_agent_that_is_no_longer_chosen(
    tmp_path: Path, attempt_id: str
) -> None:
    agent = PythonAgent(COUNT + SAY_OK)
    attempt = await agents_of(tmp_path, agent).open(request_of(tmp_path, attempt_id))
    timeouts = dict.fromkeys(Role, 60.0)
    now = LocalAgents(tmp_path, {}, timeouts=timeouts, version="1", others=others(agent))

    report = await run(now, attempt)

    assert (report.outcome, (tmp_path / "runs").exists()) == (Outcome.CANCELED, False)
    assert report.detail == "it had not begun, and other agents are chosen now"


@pytest.mark.asyncio
@pytest.mark.parametrize(("said", "outcome"), [("", Outcome.LOST), (SAY_OK, Outcome.OK)])
async def test_an_attempt_whose_wrapper_was_killed_is_lost_unless_it_left_a_result(
    tmp_path: Path, attempt_id: str, children: Children, said: str, outcome: Outcome
) -> None:
    code = COUNT + said + HOLD
    attempt = await killed_while_running(tmp_path, attempt_id, code, children)
    state = await process.state(Path(attempt.directory), attempt_id)
    assert isinstance(state, process.Alive)
    os.kill(state.child.pid, signal.SIGKILL)
    with anyio.fail_after(LIMIT_S):
        await process.wait(state.child)

    report = await run(agents_of(tmp_path, PythonAgent(code)), attempt)

    await children.gone()
    assert report.outcome is outcome
    assert report.exit_code is None
    assert report.leftovers == 1
    assert runs(tmp_path) == 1


@pytest.mark.asyncio
async def test_who_is_cancelled_leaves_the_agent_running_and_a_second_call_re_attaches(
    tmp_path: Path, attempt_id: str, children: Children
) -> None:
    runner = agents_of(tmp_path, PythonAgent(COUNT + HOLD + SAY_OK))
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runner.run, attempt)
            await children.up()
            tasks.cancel_scope.cancel()

    async with running(runner, attempt) as report:
        children.release()

    assert report().outcome is Outcome.OK
    assert runs(tmp_path) == 1


@pytest.mark.asyncio
async def test_an_attempt_without_its_files_is_lost_and_what_runs_of_it_is_ended(
    tmp_path: Path, attempt_id: str, children: Children
) -> None:
    attempt = await killed_while_running(tmp_path, attempt_id, HOLD, children)
    await anyio.to_thread.run_sync(shutil.rmtree, attempt.directory)

    report = await run(agents_of(tmp_path, PythonAgent(HOLD)), attempt)

    await children.gone()
    assert report.outcome is Outcome.LOST
    assert attempt.directory in report.detail


@pytest.mark.asyncio
async def test_a_timeout_stops_everything_that_the_agent_started(
    tmp_path: Path, attempt_id: str, children: Children
) -> None:
    code = "import sys; print('working on it', file=sys.stderr, flush=True)\n" + BACKGROUND + HOLD
    runner = agents_of(tmp_path, PythonAgent(code))
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runner.run, attempt)
            await children.up(2)
            tasks.cancel_scope.cancel()

    report = await run(agents_of(tmp_path, PythonAgent(code), s=0), attempt)

    await children.gone()
    assert report.outcome is Outcome.TIMEOUT
    assert report.detail == "no result within 0s; working on it\n"
    assert report.exit_code == 143
    assert report.leftovers == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("waited_for", "outcome"),
    [
        (Outcome.RATE_LIMITED, Outcome.RATE_LIMITED),
        (Outcome.OVERLOADED, Outcome.OVERLOADED),
        (Outcome.CRASHED, Outcome.TIMEOUT),
        (Outcome.AUTH, Outcome.AUTH),
        (Outcome.INVALID_REQUEST, Outcome.INVALID_REQUEST),
    ],
)
async def test_an_agent_whose_time_is_over_is_named_by_what_it_waited_for(
    tmp_path: Path, attempt_id: str, children: Children, waited_for: Outcome, outcome: Outcome
) -> None:
    runner = agents_of(tmp_path, PythonAgent(HOLD, unfinished=waited_for), s=0.2)

    report = await run(runner, await runner.open(request_of(tmp_path, attempt_id)))

    assert report.outcome is outcome
    assert report.detail == "no result within 0.2s"


def test_what_an_agent_sets_by_default_gives_way_to_the_settings_and_to_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bounded(PythonAgent):
        def command(self, *args: Any, **options: Any) -> AgentCommand:
            return replace(super().command(*args, **options), default_env=dict.fromkeys("ABC", "default"))

    monkeypatch.setenv("B", "ours")
    runner = agents_of(tmp_path, Bounded(""), AgentSettings(env={"C": "setting"}))
    env = runner.command("py", Role.REVIEW, tmp_path, "a1", tmp_path).env
    assert (env["A"], "B" in env, env["C"]) == ("default", False, "setting")


@pytest.mark.asyncio
async def test_a_timeout_strikes_an_agent_that_just_runs_on(
    tmp_path: Path, attempt_id: str, children: Children
) -> None:
    runner = agents_of(tmp_path, PythonAgent(HOLD), s=0.2)

    report = await run(runner, await runner.open(request_of(tmp_path, attempt_id)))

    assert report.outcome is Outcome.TIMEOUT


@pytest.mark.asyncio
async def test_a_result_that_was_said_before_the_timeout_counts(
    tmp_path: Path, attempt_id: str, children: Children
) -> None:
    code = SAY_OK + HOLD
    attempt = await killed_while_running(tmp_path, attempt_id, code, children)

    report = await run(agents_of(tmp_path, PythonAgent(code), s=0), attempt)

    await children.gone()
    assert report.outcome is Outcome.OK
    assert report.text == "fine"


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_LOOK_S", "LOOK_S", "THOROUGH_LOOK_S"):
        monkeypatch.setattr(watchdog, name, 0.01)


@pytest.mark.asyncio
@pytest.mark.usefixtures("quick_looks")
async def test_an_agent_that_does_not_move_is_warned_of_stopped_and_reported_as_stalled(
    tmp_path: Path, attempt_id: str, children: Children
) -> None:
    said: list[str] = []
    worktree = tmp_path / "worktree"
    worktree.mkdir()
    runner = agents_of(tmp_path, PythonAgent(BACKGROUND + HOLD), stall_timeout_s=0.3, say=said.append)
    request = request_of(tmp_path, attempt_id, workspace=Workspace(str(worktree), ""))

    report = await run(runner, await runner.open(request))

    await children.up(2)
    await children.gone()
    assert report.outcome is Outcome.STALLED
    assert report.detail == "nothing moved for 0.3s"
    (warning,) = said
    assert warning.startswith("WP01: py has not moved for ")


@pytest.mark.asyncio
@pytest.mark.usefixtures("quick_looks")
async def test_an_agent_may_rest_as_long_as_it_likes_if_stalls_are_switched_off(
    tmp_path: Path, attempt_id: str, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    cheap = watchdog.Signs.cheap

    def count(self: watchdog.Signs, table: Table, elapsed_s: float) -> bool:
        nonlocal looks
        looks += 1
        return cheap(self, table, elapsed_s)

    monkeypatch.setattr(watchdog.Signs, "cheap", count)
    runner = agents_of(tmp_path, PythonAgent(HOLD + SAY_OK), stall_timeout_s=0.0)
    attempt = await runner.open(request_of(tmp_path, attempt_id))

    async with running(runner, attempt) as report:
        await children.up()
        while looks < 50:
            await anyio.wait_all_tasks_blocked()
        children.release()

    assert report().outcome is Outcome.OK


WORKER = """
import os, subprocess, sys
code = os.environ["HELD"].replace('os.environ["PORT"]', repr(os.environ["HELD_PORT"]))
words = [sys.executable, "-c", code]
if "deaf" in sys.argv:
    words[2] = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\\n" + words[2]
bare = "bare" in sys.argv
subprocess.Popen(words, env={} if bare else None, start_new_session="own-session" in sys.argv)
"""


@pytest.mark.asyncio
@pytest.mark.usefixtures("quick_looks")
@pytest.mark.parametrize(
    "words",
    [
        ("own-session",),
        ("own-session", "deaf"),
        ("bare",),
        ("bare", "deaf"),
        ("bare", "own-session"),
        ("bare", "own-session", "deaf"),
    ],
    ids="-".join,
)
@pytest.mark.parametrize("end", ["good", "killed", "timeout"])
async def test_a_worker_never_outlives_its_agent(
    tmp_path: Path,
    attempt_id: str,
    children: Children,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    end: str,
) -> None:
    workers = Children()
    monkeypatch.setenv("HELD_PORT", workers.port)
    if end == "timeout":
        monkeypatch.setattr(runner_module, "STOP_GRACE_S", 0.5)
    runner = agents_of(tmp_path, PythonAgent(WORKER + HOLD + SAY_OK, words=words))
    attempt = await runner.open(request_of(tmp_path, attempt_id))

    async with running(runner, attempt) as report:
        await workers.up()
        await children.up()
        tree = runner._running[attempt.directory].signs.tree
        while len(tree.members) < 3:
            await anyio.wait_all_tasks_blocked()
        if end == "good":
            children.release()
        elif end == "killed":
            for one in tree.members - {runner._running[attempt.directory].child}:
                if psutil.Process(one.pid).ppid() == runner._running[attempt.directory].child.pid:
                    os.kill(one.pid, signal.SIGKILL)
        else:
            runner._running[attempt.directory].scope.deadline = anyio.current_time()

    await workers.gone()
    workers.close()
    expected = {"good": Outcome.OK, "killed": Outcome.FAILED, "timeout": Outcome.TIMEOUT}
    assert report().outcome is expected[end]


@pytest.mark.asyncio
async def test_a_worker_that_nobody_saw_is_known_by_the_session_that_it_stayed_in(
    tmp_path: Path, attempt_id: str, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELD_PORT", children.port)
    monkeypatch.setattr(watchdog, "FIRST_LOOK_S", 3600.0)
    monkeypatch.setattr(watchdog, "LOOK_S", 3600.0)
    runner = agents_of(tmp_path, PythonAgent(WORKER + SAY_OK, words=("bare",)))

    report = await run(runner, await runner.open(request_of(tmp_path, attempt_id)))

    assert report.outcome is Outcome.OK
    assert report.leftovers == 1


@pytest.mark.asyncio
async def test_stopping_ends_every_attempt_and_starts_no_other(
    tmp_path: Path, attempt_id: str, children: Children
) -> None:
    runner = agents_of(tmp_path, PythonAgent(COUNT + BACKGROUND + HOLD))
    one = await runner.open(request_of(tmp_path, attempt_id))
    two = await runner.open(request_of(tmp_path, attempt_id + "2", wp_id="WP02"))
    late = await runner.open(request_of(tmp_path, attempt_id + "3", wp_id="WP03"))

    async with running(runner, one) as first, running(runner, two) as second:
        await children.up(4)
        await runner.stop_all(LIMIT_S)
        for attempt in (one, two):
            assert await anyio.to_thread.run_sync(process.find_marked, attempt.id) == []

    await children.gone()
    third = await run(runner, late)
    assert [first().outcome, second().outcome, third.outcome] == [Outcome.CANCELED] * 3
    assert first().exit_code == 143
    assert runs(tmp_path) == 2
    assert (await run(agents_of(tmp_path, PythonAgent(COUNT + SAY_OK)), late)).outcome is Outcome.OK


@pytest.mark.asyncio
async def test_a_second_stop_shortens_the_grace_of_an_agent_that_does_not_listen(
    tmp_path: Path, attempt_id: str, children: Children
) -> None:
    runner = agents_of(tmp_path, PythonAgent(DEAF, stop_signal="INT"))
    attempt = await runner.open(request_of(tmp_path, attempt_id))

    async with running(runner, attempt) as report:
        await children.up()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runner.stop_all, 3600.0)
            await anyio.wait_all_tasks_blocked()
            await runner.stop_all(0.0)

    await children.gone()
    assert report().outcome is Outcome.CANCELED
    assert report().exit_code is None


@pytest.mark.asyncio
async def test_what_outlives_a_good_end_is_swept_and_counted(
    tmp_path: Path, attempt_id: str, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    background = Children()
    monkeypatch.setenv("HELD_PORT", background.port)
    runner = agents_of(tmp_path, PythonAgent(BACKGROUND + HOLD + SAY_OK))
    attempt = await runner.open(request_of(tmp_path, attempt_id))

    async with running(runner, attempt) as report:
        await background.up()
        await children.up()
        children.release()

    await background.gone()
    background.close()
    assert report().outcome is Outcome.OK
    assert report().leftovers == 1


@pytest.mark.asyncio
async def test_an_executable_that_vanished_is_a_report(tmp_path: Path, attempt_id: str) -> None:
    runner = agents_of(tmp_path, PythonAgent("", executable="no-such-agent-cli"))
    attempt = await runner.open(request_of(tmp_path, attempt_id))

    report = await run(runner, attempt)

    assert report.outcome is Outcome.INVALID_REQUEST
    assert "no-such-agent-cli" in report.detail


@pytest.mark.asyncio
async def test_arguments_that_are_too_long_are_a_report(tmp_path: Path, attempt_id: str) -> None:
    runner = agents_of(tmp_path, PythonAgent("", words=("x" * 3_000_000,)))

    report = await run(runner, await runner.open(request_of(tmp_path, attempt_id)))

    assert report.outcome is Outcome.INVALID_REQUEST
    assert "too long" in report.detail


@pytest.mark.asyncio
async def test_a_missing_worktree_is_an_error_and_the_attempt_can_run_later(
    tmp_path: Path, attempt_id: str
) -> None:
    runner = agents_of(tmp_path, PythonAgent(SAY_OK))
    workspace = Workspace(str(tmp_path / "gone"), "")
    attempt = await runner.open(request_of(tmp_path, attempt_id, workspace=workspace))

    with pytest.raises(WorkspaceError, match="gone"):
        await run(runner, attempt)

    (tmp_path / "gone").mkdir()
    assert (await run(runner, attempt)).outcome is Outcome.OK


@pytest.mark.asyncio
async def test_a_disk_that_refuses_is_an_error_of_the_workspace(tmp_path: Path, attempt_id: str) -> None:
    (tmp_path / ".kittify").write_text("a file where a folder should be")

    with pytest.raises(WorkspaceError, match="WP01"):
        await agents_of(tmp_path, PythonAgent("")).open(request_of(tmp_path, attempt_id))


@pytest.mark.asyncio
async def test_an_agent_that_is_not_configured_any_more_is_named(tmp_path: Path, attempt_id: str) -> None:
    runner = agents_of(tmp_path, PythonAgent(""))
    attempt = replace(await runner.open(request_of(tmp_path, attempt_id)), agent="other")

    with pytest.raises(PreflightError, match="other"):
        await run(runner, attempt)


@pytest.mark.asyncio
async def test_a_plug_in_that_cannot_read_its_output_does_not_end_the_run(
    tmp_path: Path, attempt_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> AgentReport:
        raise KeyError("usage")

    agent = PythonAgent(SAY_OK)
    monkeypatch.setattr(agent, "report", fail)
    runner = agents_of(tmp_path, agent)

    report = await run(runner, await runner.open(request_of(tmp_path, attempt_id)))

    assert report.outcome is Outcome.CRASHED
    assert "usage" in report.detail


@pytest.mark.asyncio
async def test_secrets_do_not_leave_in_a_report(
    tmp_path: Path, attempt_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INHERITED_TOKEN", "inherited-value")
    code = "import os; print('result:', os.environ['INHERITED_TOKEN'], os.environ['MY_KEY'])"
    settings = AgentSettings(env={"MY_KEY": "own-secret"}, extra_args=("--key=own-secret",))
    redactor = Redactor(["inherited-value", "own-secret"])
    runner = agents_of(tmp_path, PythonAgent(code), settings, redactor=redactor)
    attempt = await runner.open(request_of(tmp_path, attempt_id, prompt="own-secret"))
    assert "own-secret" not in (Path(attempt.directory) / "command.json").read_text()

    report = await run(runner, attempt)

    assert report.text == "[redacted] [redacted]"
    kept = texts(Path(attempt.directory))
    assert kept.pop("prompt.md") == "own-secret"
    assert kept["stdout.log"] == "result: [redacted] [redacted]\n"
    assert not [name for name, text in kept.items() if "own-secret" in text or "inherited-value" in text]


@pytest.mark.asyncio
async def test_a_kill_between_the_report_and_the_scrubbing_leaves_no_secret_for_good(
    tmp_path: Path, attempt_id: str
) -> None:
    runner = agents_of(tmp_path, PythonAgent("print('result: the-secret-1')"))
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    saved = await run(runner, attempt)
    log = Path(attempt.directory) / "stdout.log"
    assert "the-secret-1" in log.read_text()

    again = await run(agents_of(tmp_path, PythonAgent(""), redactor=Redactor(["the-secret-1"])), attempt)

    assert again == saved
    assert log.read_text() == "result: [redacted]\n"


@pytest.mark.asyncio
async def test_an_attempts_id_and_commit_are_never_redacted(tmp_path: Path, attempt_id: str) -> None:
    sha = "3f786850e387550fdaba1c0f5ab8d0e9c6c1f3e4"
    redactor = Redactor([attempt_id, sha, sha[:10], "the-secret-1"])
    code = f"print('result: {attempt_id} {sha} the-secret-1')"
    runner = agents_of(tmp_path, PythonAgent(code), redactor=redactor)

    report = await run(runner, await runner.open(request_of(tmp_path, attempt_id, head=sha)))

    assert report.text == f"{attempt_id} {sha} [redacted]"


@pytest.mark.asyncio
async def test_a_flood_of_output_takes_little_memory(tmp_path: Path, attempt_id: str) -> None:
    flood = (
        "import sys\nline = b'x' * 999 + b'\\n'\nfor _ in range(1000): sys.stdout.buffer.write(line * 100)\n"
    )
    runner = agents_of(tmp_path, PythonAgent(flood + "sys.stdout.buffer.flush()\n" + SAY_OK))
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    us = psutil.Process()
    before = us.memory_info().rss
    peak = [before]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], us.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        report = await run(runner, attempt)
    finally:
        done.set()
        await anyio.to_thread.run_sync(watcher.join)

    assert report.outcome is Outcome.OK
    assert (Path(attempt.directory) / "stdout.log").stat().st_size > 100_000_000
    assert peak[0] - before < 20_000_000


def test_the_policy_is_what_the_argv_really_allows(tmp_path: Path) -> None:
    agent = PythonAgent("", words=("--yolo", "--full-autonomy", "--dangerously-skip-permissions=true"))
    runner = LocalAgents(
        tmp_path, {"py": (agent, AgentSettings())}, timeouts={}, version="0.3.0.dev1+key.token"
    )

    policy = runner.policy("py", Role.REVIEW)

    assert policy.orchestrator_id == "spec-kitty-orchestrator"
    assert policy.orchestrator_version == "0.3.0.dev1"
    assert (policy.agent_family, policy.approval_mode, policy.sandbox_mode) == ("test", "auto-review", "none")
    assert policy.dangerous_flags == ("--yolo", "--dangerously-skip-permissions")


def test_a_banned_flag_from_the_configuration_shows_in_the_policy(tmp_path: Path) -> None:
    runner = agents_of(tmp_path, PythonAgent(""), AgentSettings(extra_args=("--full-auto",)))

    assert runner.policy("py", Role.IMPLEMENT).dangerous_flags == ("--full-auto",)


def test_an_agent_is_found_in_the_extra_folders_and_below_the_repository(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    program = tmp_path / "tools" / "my-agent"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    agents = {
        "name": (PythonAgent("", executable="my-agent"), AgentSettings()),
        "path": (PythonAgent("", executable="tools/my-agent"), AgentSettings()),
    }
    agents["none"] = (PythonAgent("", executable="no-such-agent-cli"), AgentSettings())
    runner = LocalAgents(tmp_path, agents, timeouts={}, version="1", extra_path=[tmp_path / "tools"])

    assert runner.executable("none") is None
    assert runner.executable("name") == runner.executable("path") == str(program)


@pytest.mark.asyncio
async def test_what_a_review_said_before_it_failed_is_no_review(tmp_path: Path, attempt_id: str) -> None:
    class Talkative(PythonAgent):
        def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
            return replace(super().report(stdout, stderr_tail, exit_code), outcome=Outcome.OVERLOADED)

    runner = agents_of(tmp_path, Talkative(SAY_OK))
    attempt = await runner.open(request_of(tmp_path, attempt_id, role=Role.REVIEW))
    report = await run(runner, attempt)
    assert (report.outcome, report.text) == (Outcome.OVERLOADED, "")
    assert not (Path(attempt.directory) / "review.md").exists()


@pytest.mark.asyncio
async def test_a_review_is_kept_as_a_file_of_its_own(tmp_path: Path, attempt_id: str) -> None:
    runner = agents_of(tmp_path, PythonAgent(SAY_OK))
    attempt = await runner.open(request_of(tmp_path, attempt_id, role=Role.REVIEW))
    await run(runner, attempt)
    review = Path(attempt.directory) / "review.md"
    assert review.read_text() == "fine"
    assert stat.S_IMODE(review.stat().st_mode) == 0o600
