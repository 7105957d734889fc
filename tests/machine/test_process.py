"""Detached children: started once, found again, waited for without polling, stopped with all they started."""

import json
import os
import signal
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from errno import EMFILE
from pathlib import Path

import anyio
import anyio.to_thread
import psutil
import pytest
from tests.machine.attempts import LIMIT_S, Children

from spec_kitty_orchestrator.machine import children, process, stopping
from spec_kitty_orchestrator.machine.environment import environment
from spec_kitty_orchestrator.machine.process_id import Child, boot

# Connects to the test and ends when the test says so. EOF proves to the test that it is gone.
HOLD = """
import os, signal, socket, subprocess, sys
port, *words = sys.argv[1:]
if "deaf" in words:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
if "int" in words:
    signal.signal(signal.SIGINT, lambda *_: os._exit(42))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "parent" in words:
    words.remove("parent")
    env = {} if "clean" in words else None
    command = [sys.executable, "-c", os.environ["HOLD"], port, *words]
    subprocess.Popen(command, env=env, start_new_session=True)
with socket.create_connection(("127.0.0.1", int(port))) as line:
    line.sendall(b"+")
    line.recv(1)
"""


class Lines(Children):
    """Connections of children that hold on until they are released."""

    def holder(self, *words: str) -> list[str]:
        return [sys.executable, "-c", HOLD, self.port, *words]


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    yield lines
    lines.close()


@pytest.fixture
def marker(attempt_id: str) -> str:
    """A marker of the test's own."""
    return attempt_id


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "attempt").mkdir()
    (tmp_path / "attempt" / "prompt.md").write_text("the prompt")
    return tmp_path / "attempt"


async def start(
    command: Sequence[str], directory: Path, marker: str, additions: Mapping[str, str] | None = None
) -> Child:
    env = environment({"HOLD": HOLD, **(additions or {})}, marker)
    return await process.spawn(command, directory.parent, env, directory)


async def finish(child: Child) -> None:
    with anyio.fail_after(LIMIT_S):
        await process.wait(child)


async def end(child: Child, marker: str) -> int:
    with anyio.fail_after(LIMIT_S):
        return await stopping.stop(child, marker, stopping.Grace(0.0))


@pytest.mark.asyncio
@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137)])
async def test_the_exit_status_is_recorded(directory: Path, marker: str, script: str, code: int) -> None:
    child = await start(["/bin/sh", "-c", script], directory, marker)
    await finish(child)

    assert process.read_exit(directory) == code
    assert await process.state(directory, marker) == process.Finished(code)


@pytest.mark.asyncio
async def test_the_prompt_is_stdin_and_output_goes_to_private_files(directory: Path, marker: str) -> None:
    child = await start(["/bin/sh", "-c", "cat; echo oops >&2"], directory, marker)
    await finish(child)

    assert (directory / "stdout.log").read_text() == "the prompt"
    assert (directory / "stderr.log").read_text() == "oops\n"
    record = json.loads((directory / "process.json").read_text())
    assert Child(record["pid"], record["started"], record["boot"]) == child
    for name in ("stdout.log", "stderr.log", "process.json", "exit"):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600


@pytest.mark.asyncio
async def test_no_argument_is_read_as_shell_syntax(directory: Path, marker: str) -> None:
    words = ["$(touch pwned)", "; exit 9", "'\"`", "-c", "", "two\nlines"]
    print_words = "import json, sys; print(json.dumps(sys.argv[1:]))"
    child = await start([sys.executable, "-c", print_words, *words], directory, marker)
    await finish(child)

    assert json.loads((directory / "stdout.log").read_text()) == words
    assert process.read_exit(directory) == 0


@pytest.mark.asyncio
async def test_nothing_is_started_twice_in_one_directory(directory: Path, marker: str) -> None:
    command = ["/bin/sh", "-c", "echo ran >>runs"]
    await finish(await start(command, directory, marker))

    with pytest.raises(FileExistsError):
        await start(command, directory, marker)

    assert (directory.parent / "runs").read_text() == "ran\n"


@pytest.mark.asyncio
async def test_a_missing_working_directory_is_an_error_and_starts_nothing(
    directory: Path, marker: str, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        await process.spawn(["true"], tmp_path / "nowhere", environment({}, marker), directory)

    assert process.find_marked(marker) == []
    assert await process.state(directory, marker) == process.NeverStarted()


@pytest.mark.asyncio
async def test_arguments_that_are_too_long_are_an_error(directory: Path, marker: str) -> None:
    with pytest.raises(OSError, match="too long"):
        await start(["true", "x" * 3_000_000], directory, marker)


@pytest.mark.asyncio
async def test_a_child_of_ours_is_reaped(directory: Path, marker: str) -> None:
    child = await start(["true"], directory, marker)
    await finish(child)

    assert not psutil.pid_exists(child.pid)


@pytest.mark.asyncio
async def test_the_end_is_noticed_where_the_kernel_cannot_wake_us(
    directory: Path, marker: str, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    monkeypatch.setattr(process, "POLL_S", 0.01)
    child = await start(lines.holder(), directory, marker)
    await lines.up()

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(process.wait, child)
            await anyio.wait_all_tasks_blocked()
            lines.release()

    assert process.read_exit(directory) == 0


@pytest.mark.asyncio
async def test_who_stops_waiting_leaves_the_child_running(directory: Path, marker: str, lines: Lines) -> None:
    child = await start(lines.holder(), directory, marker)
    await lines.up()

    with anyio.move_on_after(0.01) as waiting:
        await process.wait(child)

    assert waiting.cancelled_caught
    assert await process.state(directory, marker) == process.Alive(child)
    lines.release()
    await finish(child)
    assert await process.state(directory, marker) == process.Finished(0)


@pytest.mark.asyncio
async def test_an_end_that_nobody_waited_for_is_not_taken_for_life(
    directory: Path, marker: str, lines: Lines
) -> None:
    child = await start(lines.holder(), directory, marker)
    await lines.up()
    os.kill(child.pid, signal.SIGKILL)
    await finish(child)

    assert await process.state(directory, marker) == process.Lost()
    with anyio.fail_after(LIMIT_S):
        assert await stopping.sweep(marker) == 1
    await lines.gone()


@pytest.mark.asyncio
async def test_who_was_seen_is_ended_although_processes_cannot_be_read(
    directory: Path, marker: str, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = await start(lines.holder(), directory, marker)
    await lines.up()

    def fail(*_: str) -> None:
        raise OSError(EMFILE, "Too many open files")

    monkeypatch.setattr(stopping, "read_table", fail)
    monkeypatch.setattr(stopping, "find_marked", fail)
    with anyio.fail_after(LIMIT_S):
        await stopping.stop(child, marker, stopping.Grace(0.1))
    await lines.gone()


@pytest.mark.asyncio
async def test_what_was_only_prepared_never_started(directory: Path, marker: str) -> None:
    assert await process.state(directory, marker) == process.NeverStarted()


@pytest.mark.asyncio
@pytest.mark.parametrize("record", [None, "", "{", "[]", '{"pid": 1}', "mine"])
async def test_a_process_that_was_not_recorded_is_found_by_its_marker(
    directory: Path, marker: str, lines: Lines, record: str | None
) -> None:
    child = await start(lines.holder("parent"), directory, marker)
    await lines.up(2)
    (directory / "process.json").unlink()
    if record == "mine":
        # What a pid that was given to another process looks like.
        record = json.dumps({"pid": os.getpid(), "started": 1.0, "boot": boot()})
    if record is not None:
        (directory / "process.json").write_text(record)

    assert await process.state(directory, marker) == process.Alive(child)
    await end(child, marker)


@pytest.mark.asyncio
async def test_a_recorded_pid_that_belongs_to_another_process_is_lost(directory: Path, marker: str) -> None:
    (directory / "stdout.log").touch()
    mine = asdict(process.known(os.getpid()))
    for other in ({"started": 1.0}, {"boot": "an earlier one"}):
        (directory / "process.json").write_text(json.dumps(mine | other))

        assert await process.state(directory, marker) == process.Lost()


@pytest.mark.asyncio
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the clock does not move a process's start")
async def test_a_clock_that_is_set_makes_no_other_process_of_a_child(
    directory: Path, marker: str, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = await start(lines.holder("parent"), directory, marker)
    await lines.up(2)
    told = psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: told + 3600)

    assert process.is_running(child)
    assert await process.state(directory, marker) == process.Alive(child)
    assert child.age_s < 600
    await end(child, marker)


@pytest.mark.asyncio
@pytest.mark.parametrize("content", ["", "zero"])
async def test_an_unreadable_exit_file_counts_as_none(directory: Path, marker: str, content: str) -> None:
    (directory / "stdout.log").touch()
    (directory / "exit").write_text(content)

    assert await process.state(directory, marker) == process.Lost()


@pytest.mark.asyncio
async def test_a_stop_ends_the_tree_with_sessions_of_its_own(
    directory: Path, marker: str, lines: Lines
) -> None:
    child = await start(lines.holder("parent"), directory, marker)
    await lines.up(2)

    with anyio.fail_after(LIMIT_S):
        killed = await stopping.stop(child, marker, stopping.Grace(LIMIT_S))

    await lines.gone()
    assert killed + process.read_end(child, directory)[1] == 1
    assert process.read_exit(directory) == 143


@pytest.mark.asyncio
async def test_a_tree_that_ignores_every_gentle_signal_is_killed(
    directory: Path, marker: str, lines: Lines
) -> None:
    child = await start(lines.holder("parent", "deaf"), directory, marker)
    await lines.up(2)

    with anyio.fail_after(LIMIT_S):
        await stopping.stop(child, marker, stopping.Grace(0.1), "INT")

    await lines.gone()
    assert process.read_exit(directory) == 137


@pytest.mark.asyncio
async def test_a_cli_that_cleans_up_on_int_gets_int_first(directory: Path, marker: str, lines: Lines) -> None:
    child = await start(lines.holder("int"), directory, marker)
    await lines.up()

    with anyio.fail_after(LIMIT_S):
        assert await stopping.stop(child, marker, stopping.Grace(LIMIT_S), "INT") == 0

    assert process.read_exit(directory) == 42


@pytest.mark.asyncio
async def test_a_long_grace_can_be_shortened_while_it_runs(
    directory: Path, marker: str, lines: Lines
) -> None:
    child = await start(lines.holder("deaf"), directory, marker)
    await lines.up()
    grace = stopping.Grace(3600.0)

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stopping.stop, child, marker, grace)
            await anyio.wait_all_tasks_blocked()
            grace.shorten(7200.0)
            grace.shorten(0.0)

    await lines.gone()


@pytest.mark.asyncio
async def test_a_descendant_without_the_marker_is_stopped_because_it_was_seen(
    directory: Path, marker: str, lines: Lines
) -> None:
    child = await start(lines.holder("parent", "clean"), directory, marker)
    await lines.up(2)

    await end(child, marker)

    await lines.gone()


@pytest.mark.asyncio
async def test_what_outlives_its_wrapper_is_swept_and_others_are_left_alone(
    directory: Path, marker: str, lines: Lines
) -> None:
    background = ["/bin/sh", "-c", '"$0" "$@" & exit 0', *lines.holder("deaf")]
    env = environment({"HOLD": HOLD}, marker)
    child = await process.spawn(background, directory.parent, env, directory, contained=True)
    env = environment({}, marker + "0")
    async with await anyio.open_process(lines.holder(), env=env) as other:
        await lines.up(2)
        await finish(child)

        with anyio.fail_after(LIMIT_S):
            assert await stopping.sweep(marker) == 1
            assert await stopping.sweep(marker) == 0

        assert other.returncode is None
        other.kill()
    await lines.gone()


@pytest.mark.asyncio
@pytest.mark.parametrize("executable", ["", "/nowhere/python3", "/bin/false"])
async def test_an_attempt_runs_where_our_program_is_no_python_that_could_be_started(
    directory: Path, marker: str, monkeypatch: pytest.MonkeyPatch, executable: str
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    child = await process.spawn(
        ["/bin/sh", "-c", "exit 3"], directory.parent, environment({}, marker), directory
    )
    await finish(child)
    assert await process.state(directory, marker) == process.Finished(3)


def test_a_python_without_ctypes_takes_no_orphans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "find_spec", lambda _: None)
    children.take_orphans()
    assert not children.takes_orphans()
