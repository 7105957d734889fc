"""How attempts end that do not end by themselves, and what their ends leave running: nothing."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.to_thread
import psutil
import pytest
from tests.machine.attempts import (
    BACKGROUND,
    DEAF,
    HOLD,
    LIMIT_S,
    SAY_OK,
    Children,
    PythonAgent,
    agents_of,
    killed_while_running,
    request_of,
    run,
    running,
)

from spec_kitty_orchestrator.agents.spec import ShellInReview
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Workspace
from spec_kitty_orchestrator.machine import attempt_files, process, watchdog
from spec_kitty_orchestrator.machine import runner as runner_module
from spec_kitty_orchestrator.machine.process_tree import Table

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("never_blocks")]


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


@pytest.mark.parametrize(
    ("waited_for", "outcome"),
    [
        (Outcome.RATE_LIMITED, Outcome.RATE_LIMITED),
        (Outcome.OVERLOADED, Outcome.OVERLOADED),
        (Outcome.CRASHED, Outcome.TIMEOUT),
        (Outcome.FAILED, Outcome.TIMEOUT),
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


async def test_a_result_that_was_said_before_the_timeout_counts(
    tmp_path: Path, attempt_id: str, children: Children
) -> None:
    code = SAY_OK + HOLD
    attempt = await killed_while_running(tmp_path, attempt_id, code, children)

    report = await run(agents_of(tmp_path, PythonAgent(code), s=0), attempt)

    await children.gone()
    assert report.outcome is Outcome.OK
    assert report.text == "fine"


@dataclass
class LastLine(PythonAgent):
    """An agent whose last line decides."""

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        return super().report(list(stdout)[-1:], stderr_tail, exit_code)


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_LOOK_S", "LOOK_S", "THOROUGH_LOOK_S"):
        monkeypatch.setattr(watchdog, name, 0.01)


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


INTERRUPTED = """
import signal, sys
def interrupted(*_):
    print("error: interrupted", flush=True)
    sys.exit(1)
signal.signal(signal.SIGINT, interrupted)
"""


@pytest.mark.usefixtures("quick_looks")
async def test_who_told_a_result_and_does_not_end_is_stopped_after_a_grace_and_the_result_counts(
    tmp_path: Path, attempt_id: str, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "RESULT_GRACE_S", 0.1)
    said: list[str] = []
    agent = LastLine(INTERRUPTED + BACKGROUND + SAY_OK + HOLD, stop_signal="INT")
    runner = agents_of(tmp_path, agent, stall_timeout_s=900, say=said.append)

    report = await run(runner, await runner.open(request_of(tmp_path, attempt_id)))

    await children.up(2)
    await children.gone()
    assert (report.outcome, report.text) == (Outcome.OK, "fine")
    assert said == ["WP01: py told its result 30s ago and did not end; it is stopped"]


@dataclass
class Patient(PythonAgent):
    """An agent that waits for something that it started, and goes on then."""

    def goes_on(self, stdout: Iterable[str]) -> bool:
        return list(stdout)[-1] == "result: fine"


@pytest.mark.usefixtures("quick_looks")
async def test_who_told_a_result_and_will_go_on_by_itself_is_not_stopped(
    tmp_path: Path, attempt_id: str, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "RESULT_GRACE_S", 0.0)
    looks: list[bool] = []
    seen = anyio.Event()
    look = attempt_files.has_result

    def has_result(directory: Path, agent: PythonAgent) -> bool:
        found = look(directory, agent)
        if (directory / "stdout.log").read_text() == "result: fine\n":
            looks.append(found)
            anyio.from_thread.run_sync(seen.set)
        return found

    monkeypatch.setattr(runner_module, "has_result", has_result)
    code = SAY_OK + HOLD + "print('result: all done', flush=True)\n"
    runner = agents_of(tmp_path, Patient(code), stall_timeout_s=900)

    async with running(runner, await runner.open(request_of(tmp_path, attempt_id))) as report:
        await children.up()
        await seen.wait()
        children.release()

    assert (report().outcome, report().text) == (Outcome.OK, "all done")
    assert not any(looks)


@pytest.mark.usefixtures("quick_looks")
@pytest.mark.parametrize(
    ("confined", "shell", "outcome"),
    [(True, "never", Outcome.OK), (True, "confined", Outcome.STALLED), (False, "never", Outcome.STALLED)],
)
async def test_a_review_whose_process_does_not_end_counts_only_if_nobody_else_could_write_its_log(
    tmp_path: Path,
    attempt_id: str,
    children: Children,
    monkeypatch: pytest.MonkeyPatch,
    confined: bool,
    shell: ShellInReview,
    outcome: Outcome,
) -> None:
    monkeypatch.setattr(watchdog, "RESULT_GRACE_S", 0.1)
    agent = PythonAgent(SAY_OK + HOLD, shell_in_review=shell)
    runner = agents_of(tmp_path, agent, stall_timeout_s=900)
    attempt = await runner.open(request_of(tmp_path, attempt_id, role=Role.REVIEW))
    if confined:
        read = attempt_files.read_command

        def as_if_confined(directory: Path, attempt_id: str) -> attempt_files.CommandRecord:
            record = read(directory, attempt_id)
            assert record is not None
            return replace(record, sandbox=("bwrap",))

        monkeypatch.setattr(attempt_files, "read_command", as_if_confined)

    report = await run(runner, attempt)

    assert report.outcome is outcome
    assert report.text == ("fine" if outcome is Outcome.OK else "")
    if outcome is Outcome.STALLED:
        assert report.detail == "it did not end within 30s of its result"


WORKER = """
import os, subprocess, sys
code = os.environ["HELD"].replace('os.environ["PORT"]', repr(os.environ["HELD_PORT"]))
words = [sys.executable, "-c", code]
if "deaf" in sys.argv:
    words[2] = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\\n" + words[2]
bare = "bare" in sys.argv
subprocess.Popen(words, env={} if bare else None, start_new_session="own-session" in sys.argv)
"""


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
        process = runner._running[attempt.directory]
        assert isinstance(process, runner_module._Running)
        tree = process.signs.tree
        while len(tree.members) < 3:
            await anyio.wait_all_tasks_blocked()
        if end == "good":
            children.release()
        elif end == "killed":
            for one in psutil.Process(process.child.pid).children():
                one.kill()
        else:
            process.scope.deadline = anyio.current_time()

    await workers.gone()
    workers.close()
    expected = {"good": Outcome.OK, "killed": Outcome.FAILED, "timeout": Outcome.TIMEOUT}
    assert report().outcome is expected[end]


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


async def test_stopping_ends_every_attempt_with_all_that_it_started(
    tmp_path: Path, attempt_id: str, children: Children
) -> None:
    runner = agents_of(tmp_path, PythonAgent(BACKGROUND + HOLD))
    one = await runner.open(request_of(tmp_path, attempt_id))
    two = await runner.open(request_of(tmp_path, attempt_id + "2", wp_id="WP02"))

    async with running(runner, one) as first, running(runner, two):
        await children.up(4)
        await runner.stop_all(LIMIT_S)
        for attempt in (one, two):
            assert await anyio.to_thread.run_sync(process.find_marked, attempt.id) == []

    await children.gone()
    assert (first().detail, first().exit_code) == ("the run was stopped", 143)


async def test_an_attempt_that_a_person_stopped_says_so(
    tmp_path: Path, attempt_id: str, children: Children
) -> None:
    runner = agents_of(tmp_path, PythonAgent(BACKGROUND + HOLD))
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    async with running(runner, attempt) as report:
        await children.up(2)
        await runner.stop(attempt, LIMIT_S)
    await children.gone()
    assert report().detail == "a person stopped it"


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
    assert report().exit_code == 137
