"""Processes that do not want to end, and records that are not what they say: nothing outlives its attempt."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from tests.machine import attempts
from tests.machine.attempts import (
    HOLD,
    LIMIT_S,
    SAY_OK,
    Children,
    PythonAgent,
    agents_of,
    request_of,
    run,
    running,
)
from tests.machine.conftest import Lane, git

from spec_kitty_orchestrator.core.events import GateBegun, GateBroken, GateFailed
from spec_kitty_orchestrator.core.model import Evidence, Outcome, Role, Workspace
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.core.run_events import RunEnded
from spec_kitty_orchestrator.errors import JournalError, RunActive, WorkspaceError
from spec_kitty_orchestrator.machine import process
from spec_kitty_orchestrator.machine.attempt_files import read_result
from spec_kitty_orchestrator.machine.gates import LocalGates
from spec_kitty_orchestrator.machine.journal import JsonlJournal
from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.machine.logs import configure_logging, mission_logs
from spec_kitty_orchestrator.machine.orphans import elsewhere, find_orphans, lock_keepers
from spec_kitty_orchestrator.ports import CommitRefusal

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("never_blocks")]

# Leaves its session, its parents and its environment at once; what it runs then is in HELD.
DAEMON = """
import os, signal, subprocess, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        port = os.environ["HELD_PORT"]
        os.execve(sys.executable, [sys.executable, "-c", os.environ["HELD"]], {"PORT": port})
    os._exit(0)
os.wait()
"""


async def test_a_daemon_without_a_parent_a_session_or_a_marker_ends_with_its_attempt(
    tmp_path: Path, attempt_id: str, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemons = Children()
    monkeypatch.setenv("HELD_PORT", daemons.port)
    runner = agents_of(tmp_path, PythonAgent(DAEMON + SAY_OK + HOLD))
    attempt = await runner.open(request_of(tmp_path, attempt_id))

    async with running(runner, attempt) as report:
        await daemons.up()
        await children.up()
        children.release()

    await daemons.gone()
    daemons.close()
    assert report().outcome is Outcome.OK
    assert report().leftovers == 1


async def test_a_daemon_ends_with_its_attempt_although_nobody_waits_for_it(
    tmp_path: Path, attempt_id: str, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemons = Children()
    monkeypatch.setenv("HELD_PORT", daemons.port)
    command = [sys.executable, "-c", DAEMON + HOLD]
    directory = tmp_path / "attempt"
    directory.mkdir()
    env = {**os.environ, process.MARKER: attempt_id}
    child = await process.spawn(command, tmp_path, env, directory, os.devnull)
    await daemons.up()
    await children.up()
    children.release()

    await daemons.gone()
    daemons.close()
    await process.wait(child)


async def test_what_keeps_the_status_runs_no_program_that_the_command_put_on_path(
    tmp_path: Path,
) -> None:
    directory, folder = tmp_path / "attempt", tmp_path / "bin"
    directory.mkdir()
    folder.mkdir()
    plant = f"printf '#!/bin/sh\\ntouch {tmp_path}/ran\\n' >mv; cp mv sleep; chmod +x mv sleep; exit 3"
    env = {"PATH": f"{folder}:{os.environ['PATH']}"}

    child = await process.spawn(["/bin/sh", "-c", plant], folder, env, directory, os.devnull)
    await process.wait(child)

    assert (folder / "mv").exists()
    assert await anyio.to_thread.run_sync(process.read_exit, directory) == 3
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("role", "outcome"), [(Role.REVIEW, Outcome.CRASHED), (Role.IMPLEMENT, Outcome.OK)])
async def test_a_review_that_a_signal_ended_is_none_whatever_its_log_holds(
    tmp_path: Path, attempt_id: str, role: Role, outcome: Outcome
) -> None:
    code = SAY_OK + "import os; os.kill(os.getpid(), 9)"
    runner = agents_of(tmp_path, PythonAgent(code))

    report = await run(runner, await runner.open(request_of(tmp_path, attempt_id, role=role)))

    assert report.outcome is outcome
    assert report.exit_code == 137
    assert (role is Role.IMPLEMENT) == (report.text == "fine")


async def test_a_review_that_had_to_be_stopped_is_none_whatever_it_said(
    tmp_path: Path, attempt_id: str, children: Children
) -> None:
    runner = agents_of(tmp_path, PythonAgent(SAY_OK + HOLD), s=0.5)

    report = await run(runner, await runner.open(request_of(tmp_path, attempt_id, role=Role.REVIEW)))

    assert (report.outcome, report.text) == (Outcome.TIMEOUT, "")


async def test_an_exit_status_that_was_written_by_who_killed_the_wrapper_is_no_status(
    tmp_path: Path, attempt_id: str
) -> None:
    forge = "import os\nopen('{directory}/exit', 'w').write('0')\nos.kill(os.getppid(), 9)\n"
    runner = agents_of(tmp_path, PythonAgent(SAY_OK + forge))

    report = await run(runner, await runner.open(request_of(tmp_path, attempt_id, role=Role.REVIEW)))

    assert report.outcome is Outcome.CRASHED
    assert report.exit_code is None


async def test_an_exit_status_that_lay_there_before_the_start_is_removed(
    tmp_path: Path, attempt_id: str
) -> None:
    runner = agents_of(tmp_path, PythonAgent("raise SystemExit(3)"))
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    (Path(attempt.directory) / "exit").write_text("0\n")

    report = await run(runner, attempt)

    assert report.exit_code == 3


async def test_a_recorded_process_that_is_no_wrapper_of_the_attempt_is_not_taken_for_it(
    tmp_path: Path, attempt_id: str
) -> None:
    runner = agents_of(tmp_path, PythonAgent(SAY_OK))
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    directory = Path(attempt.directory)
    await run(runner, attempt)
    for name in ("exit", "result.json"):
        (directory / name).unlink()
    ourselves = await anyio.to_thread.run_sync(process.known, os.getpid())
    record = {"pid": ourselves.pid, "started": ourselves.started, "boot": ourselves.boot}
    (directory / "process.json").write_text(json.dumps(record))

    assert await process.state(directory, attempt_id) == process.Lost()


async def test_an_agent_that_runs_where_no_process_is_seen_is_neither_lost_nor_run_again(
    tmp_path: Path, attempt_id: str, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = agents_of(tmp_path, PythonAgent(HOLD))
    attempt = await runner.open(request_of(tmp_path, attempt_id))

    async with running(runner, attempt):
        await children.up()
        with monkeypatch.context() as patch:
            # As in another container.
            patch.setattr(process, "is_running", lambda _: False)
            patch.setattr(process, "find_marked", lambda _: [])
            patch.setattr(process, "holders", lambda _: [])
            assert await process.state(Path(attempt.directory), attempt_id) == process.Elsewhere()
            with pytest.raises(RunActive, match="another container"):
                await run(agents_of(tmp_path, PythonAgent(HOLD)), attempt)
        children.release()


LOCKS = """
import fcntl, sys
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="nobody says who holds a lock")
async def test_who_locks_the_file_of_an_attempt_here_makes_it_no_attempt_of_another_container(
    tmp_path: Path, attempt_id: str
) -> None:
    runner = agents_of(tmp_path, PythonAgent(SAY_OK))
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    directory = Path(attempt.directory)
    for name in ("stdout.log", "lock"):
        (directory / name).touch()
    argv = [sys.executable, "-c", LOCKS, str(directory / "lock")]
    async with await anyio.open_process(argv, env={}, stderr=None) as other:
        assert other.stdout is not None
        with anyio.fail_after(LIMIT_S):
            await other.stdout.receive()

        assert await process.state(directory, attempt_id) == process.Lost()
        assert await anyio.to_thread.run_sync(elsewhere, directory.parents[1]) == []
        assert await anyio.to_thread.run_sync(lock_keepers, directory.parents[1]) == [other.pid]
        report = await run(runner, attempt)
        assert report.outcome is Outcome.LOST
        assert f"process {other.pid}" in report.detail
        assert other.returncode is None
        other.kill()


IN_A_NAMESPACE = ("unshare", "-pf", "--mount-proc", *(() if os.getuid() == 0 else ("-Ur",)))


def namespaces_work() -> bool:
    try:
        return subprocess.run([*IN_A_NAMESPACE, "true"], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not namespaces_work(), reason="no namespaces here")
async def test_two_containers_on_one_folder_know_of_each_others_agents(
    tmp_path: Path, attempt_id: str, children: Children
) -> None:
    driver = [sys.executable, "-c", attempts.DRIVER, attempts.__file__, str(tmp_path), attempt_id, HOLD]
    ask = (
        "import anyio, sys; from pathlib import Path; from spec_kitty_orchestrator.machine import process;"
        "print(anyio.run(process.state, Path(sys.argv[1]), sys.argv[2]))"
    )
    async with await anyio.open_process([*IN_A_NAMESPACE, *driver], stderr=None) as one:
        assert one.stdout is not None
        with anyio.fail_after(LIMIT_S):
            directory = (await one.stdout.receive()).decode().strip()
        await children.up()
        other = [*IN_A_NAMESPACE, sys.executable, "-c", ask, directory, attempt_id]
        with anyio.fail_after(LIMIT_S):
            during = await anyio.run_process(other)
            children.release()
            await one.wait()
            after = await anyio.run_process(other)

    assert during.stdout.decode() == f"{process.Elsewhere()}\n"
    assert after.stdout.decode() == f"{process.Finished(0)}\n"


async def test_no_daemon_of_an_agent_can_hold_the_lock_of_its_attempt(tmp_path: Path) -> None:
    child = await process.spawn(
        ["ls", "-l", "/proc/self/fd"], tmp_path, dict(os.environ), tmp_path, os.devnull
    )
    with anyio.fail_after(LIMIT_S):
        await process.wait(child)

    opened = (tmp_path / "stdout.log").read_text()
    assert str(tmp_path / "stdout.log") in opened
    assert str(tmp_path / "lock") not in opened


async def test_a_pipe_as_prompt_is_not_waited_for(tmp_path: Path, attempt_id: str) -> None:
    os.mkfifo(tmp_path / "prompt.md")

    with pytest.raises(OSError, match="no ordinary file"):
        await process.spawn(["true"], tmp_path, dict(os.environ), tmp_path)

    assert await process.state(tmp_path, attempt_id) == process.NeverStarted()


FORGE = """
import json, os, pathlib
me = pathlib.Path(os.readlink("/proc/self/fd/1")).parent
record = json.loads((me / "command.json").read_text())
victim = me.with_name(me.name.replace("lint", "tests"))
victim.mkdir()
forged = {**record, "gate": "tests", "argv": ["/bin/sh", "-c", "exit 1"]}
(victim / "command.json").write_text(json.dumps(forged))
(victim / "stdout.log").write_text("437 passed")
(victim / "exit").write_text("0")
ending = {"kind": "passed", "reason": "", "seconds": 12.5}
for one in me, victim:
    (one / "result.json").write_text(json.dumps({**ending, "word": ""}))
"""


async def test_what_a_gate_runs_cannot_decide_another_gate(tmp_path: Path) -> None:
    known: list[GateBegun] = []

    async def begun(gate: GateBegun) -> None:
        known.append(gate)

    async def moved() -> str:
        return ""

    red = ("/bin/sh", "-c", "exit 1")
    gates = LocalGates(tmp_path, "m", [Gate("lint", (sys.executable, "-c", FORGE)), Gate("tests", red)])
    reports = []
    for _ in range(2):  # the second goes on after a crash
        with anyio.fail_after(LIMIT_S):
            workspace = Workspace(str(tmp_path), "")
            reports.append(await gates.run("WP01", workspace, "a" * 40, 1, 1, "t", known, moved, begun))

    assert [type(one.event) for one in reports] == [GateFailed, GateFailed]
    assert [one.name for one in known] == ["lint", "tests"]


async def test_a_gate_that_says_itself_how_it_ended_is_not_believed_after_a_crash(tmp_path: Path) -> None:
    known: list[GateBegun] = []

    async def begun(gate: GateBegun) -> None:
        known.append(gate)

    async def moved() -> str:
        return "it moved the branch"

    forged = json.dumps({"kind": "passed", "reason": "", "seconds": 0.0, "word": "x"})
    line = f"echo '{forged}' >$(dirname $(readlink /proc/$$/fd/1))/result.json; touch done; sleep 600"
    gate = Gate("tests", ("/bin/sh", "-c", line))
    workspace = Workspace(str(tmp_path), "")

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks:
            crashing = LocalGates(tmp_path, "m", [gate])
            tasks.start_soon(crashing.run, "WP01", workspace, "a" * 40, 1, 1, "t", known, moved, begun)
            while not await anyio.Path(tmp_path / "done").exists():
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        gates = LocalGates(tmp_path, "m", [replace(gate, timeout_s=0.0)])
        report = await gates.run("WP01", workspace, "a" * 40, 1, 1, "t", known, moved, begun)

    assert isinstance(report.event, GateBroken)


async def test_cleaning_the_checkout_lets_no_second_run_in_and_loses_no_journal(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    directory = tmp_path / ".kittify" / "orchestrator" / "m"
    now = datetime(2026, 1, 1, tzinfo=UTC)
    lock = await anyio.to_thread.run_sync(MissionLock, directory, "m")
    await anyio.to_thread.run_sync(lock.acquire)
    journal = JsonlJournal(directory, tmp_path)
    await journal.append(RunEnded(now, 0, "first"))

    git(tmp_path, "clean", "-fdxq")

    second = await anyio.to_thread.run_sync(MissionLock, directory, "m")
    holder = await anyio.to_thread.run_sync(second.holder)
    assert holder is not None
    assert holder.pid == os.getpid()
    with pytest.raises(RunActive):
        await anyio.to_thread.run_sync(second.acquire)
    await journal.append(RunEnded(now, 0, "second"))
    await anyio.to_thread.run_sync(lock.release)

    lines = await JsonlJournal(directory, tmp_path).read()
    assert [one.summary for one in lines if isinstance(one, RunEnded)] == ["first", "second"]
    assert not git(tmp_path, "status", "--porcelain")


async def test_a_journal_that_another_took_the_place_of_is_not_written_to(tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    journal = JsonlJournal(tmp_path / "m", tmp_path)
    await journal.append(RunEnded(now, 0, "first"))
    other = tmp_path / "other"
    other.write_text("")
    other.replace(journal.path)

    with pytest.raises(JournalError, match="another file took its place"):
        await journal.append(RunEnded(now, 0, "second"))

    assert journal.path.read_text() == ""


async def test_pipes_under_names_of_ours_are_errors_and_nobody_waits_for_them(tmp_path: Path) -> None:
    for name in ("journal.jsonl", "stdout.log", "exit", "process.json", "result.json", "lock"):
        os.mkfifo(tmp_path / name)

    with pytest.raises(JournalError):
        await JsonlJournal(tmp_path, tmp_path).read()
    with pytest.raises(JournalError):
        await JsonlJournal(tmp_path, tmp_path).append(RunEnded(datetime(2026, 1, 1, tzinfo=UTC), 0, ""))
    assert await process.state(tmp_path, "none") == process.Lost()
    assert await anyio.to_thread.run_sync(read_result, tmp_path, "none") is None


@pytest.mark.parametrize("marker", ["", "*", "x", None, 1, ["a"], "a\nb" * 9])
async def test_a_record_without_a_real_id_makes_no_process_an_orphan(tmp_path: Path, marker: object) -> None:
    directory = tmp_path / "WP01" / "01-implement-x"
    directory.mkdir(parents=True)
    (directory / "command.json").write_text(json.dumps({"attempt": marker}))
    env = {**os.environ, process.MARKER: str(marker)}

    async with await anyio.open_process(["sleep", "600"], env=env) as other:
        assert await anyio.to_thread.run_sync(find_orphans, tmp_path) == []
        other.kill()


@pytest.mark.parametrize("name", ["a.py", "new.py"])
async def test_a_pipe_in_the_worktree_is_not_waited_for_by_a_commit(lane: Lane, name: str) -> None:
    (lane.path / name).unlink(missing_ok=True)
    os.mkfifo(lane.path / name)
    lane.write("b.py", "b = 2\n")

    commit = await lane.commit()  # bounded

    assert isinstance(commit, Evidence | CommitRefusal)


async def test_a_pipe_as_the_text_of_a_work_package_is_an_error(lane: Lane) -> None:
    os.mkfifo(lane.root / "WP01.md")

    with anyio.fail_after(LIMIT_S), pytest.raises(WorkspaceError, match="no ordinary file"):
        await lane.git.task(replace(lane.workspace, prompt_path=str(lane.root / "WP01.md")))


async def test_a_pipe_as_the_log_of_a_run_is_an_error(tmp_path: Path) -> None:
    log = mission_logs(tmp_path, "m") / "orchestrator.log"
    log.parent.mkdir(parents=True)
    os.mkfifo(log)

    def configure() -> None:
        with configure_logging(tmp_path, "m"):
            pass

    with (
        anyio.fail_after(LIMIT_S),
        pytest.raises(WorkspaceError, match=r"\.log cannot be written"),
    ):
        await anyio.to_thread.run_sync(configure)
