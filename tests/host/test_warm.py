"""Warm calls: many at once, each seen to its end whatever becomes of the warm process; nothing stays."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import psutil
import pytest
from anyio import to_thread
from blockbuster import blockbuster_ctx
from tests.host.fake_host import BOUND_S, ENV, Gate, Pulse, install, make_pulse, stand

from spec_kitty_orchestrator.host.console_script import PROBE_ARGV
from spec_kitty_orchestrator.host.forked import LOST
from spec_kitty_orchestrator.machine import child
from spec_kitty_orchestrator.machine.child import Reply  # noqa: TC001 - beside its neighbours

pytestmark = pytest.mark.anyio
both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "asyncio"))


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[Pulse]:
    yield from make_pulse(tmp_path / "pulse")


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    os.mkfifo(tmp_path / "gate")
    return Gate(tmp_path / "gate")


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files whose path is short enough for sockets in it."""
    with TemporaryDirectory(prefix="sko-") as name:
        monkeypatch.setattr("tempfile.tempdir", name)
        yield Path(name)


def entries(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def gone(pid: int) -> None:
    """Wait until a child of ours is gone; it is not reaped."""
    with anyio.fail_after(BOUND_S):
        await to_thread.run_sync(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@both_backends
async def test_the_first_call_starts_the_warm_process_and_later_ones_are_its_children(tmp_path: Path) -> None:
    async with stand(tmp_path) as host:
        assert host.transport.pid is None
        reply = await host.do("print(os.getppid())")
        assert int(reply.stdout) == host.pid
        assert await host.is_warm()
        assert host.said == []


async def test_the_first_question_about_the_contract_is_not_asked_again(tmp_path: Path) -> None:
    async with stand(tmp_path) as host:
        log = tmp_path / "log"
        program = host.executable.read_text().replace(
            "import part\n", f"import part\nopen({str(log)!r}, 'a').write('x')\n"
        )
        host.executable.write_text(program)
        await host.start()
        assert log.read_text() == "x"
        await host.call(*PROBE_ARGV)
        assert log.read_text() == "xx"


async def test_a_wrapper_is_asked_as_well_for_only_it_knows_what_it_does_besides(tmp_path: Path) -> None:
    async with stand(tmp_path) as host:
        log, script = tmp_path / "log", host.executable.with_name("behind")
        host.executable.rename(script)
        host.executable.write_text(f'#!/bin/sh\necho x >> {log}\nexec {script} "$@"\n')
        host.executable.chmod(0o755)
        await host.start()
        assert log.read_text() == "x\n" * 2, "once to find what it starts, once for its answer"
        assert await host.is_warm()


async def test_calls_run_at_once(tmp_path: Path, pulse: Pulse, gate: Gate) -> None:
    async with stand(tmp_path) as host:
        replies: list[Reply] = []

        async def call() -> None:
            replies.append(
                await host.do(pulse.hold + "import fcntl; fcntl.flock(os.open(sys.argv[4], 0), 1)", str(lock))
            )

        lock = tmp_path / "lock"
        lock.touch()
        held = os.open(lock, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(call)
            assert [await pulse.read() for _ in range(8)] == [b"x"] * 8
            os.close(held)
        assert [reply.rc for reply in replies] == [0] * 8
        assert host.said == []


async def test_a_hundred_and_twenty_calls_leave_no_descriptor_and_no_zombie(tmp_path: Path) -> None:
    async with stand(tmp_path) as host:
        # A call that runs knows that the warm process has seen to those before it.
        count = "import psutil; print(psutil.Process(os.getppid()).num_fds())"
        await host.do("pass")
        theirs, ours = (await host.do(count)).stdout, psutil.Process().num_fds()
        for number in range(120):
            code = "print('x' * 200_000); print('e', file=sys.stderr)" if number % 2 else "os.close(1)"
            await host.do(code)
        assert (await host.do(count)).stdout == theirs
        assert psutil.Process().num_fds() == ours
        siblings = "import psutil; print(len(psutil.Process(os.getppid()).children()))"
        assert (await host.do(siblings)).stdout == b"1\n"
        assert await host.is_warm()


async def test_a_flood_is_bounded_here_and_does_not_touch_the_warm_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "STDOUT_KEPT", 100_000)
    async with stand(tmp_path) as host:
        await host.do("pass")
        before = host.process.memory_info().rss
        flood = "for _ in range(200_000): print('x' * 99); sys.stderr.write('e' * 99)\nprint('{}')"
        reply = await host.do(flood)
        assert reply.stdout.endswith(b"x\n{}\n")
        assert (len(reply.stdout), len(reply.stderr)) == (100_000, child.STDERR_KEPT)
        assert host.process.memory_info().rss - before < 2_000_000


async def test_a_grandchild_that_holds_the_pipes_does_not_hold_the_answer(
    tmp_path: Path, pulse: Pulse
) -> None:
    async with stand(tmp_path) as host:
        linger = f"import os, time; {pulse.hold.replace(chr(10), ';')} time.sleep(20)"
        reply = await host.do(
            "import subprocess; subprocess.Popen([sys.executable, '-c', sys.argv[4]]); print('answer')",
            linger,
        )
        assert (reply.rc, reply.stdout) == (0, b"answer\n")
        assert await pulse.read() == b"x"
        assert await host.is_warm()


STUBBORN = """import signal, subprocess
{mine}
{hold}
subprocess.run(["sh", "-c", "trap '' TERM; sleep 60 & sleep 60; sleep 60"], close_fds=False)
"""


@pytest.mark.parametrize(
    "mine", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"], ids=["heeds", "ignores"]
)
async def test_the_limit_ends_the_whole_group(
    mine: str, tmp_path: Path, pulse: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "TERM_S", 0.2)
    async with stand(tmp_path) as host:
        await host.start()
        with pytest.raises(TimeoutError):
            await host.do(STUBBORN.format(mine=mine, hold=pulse.hold_with_children), limit_s=2)
        assert await pulse.read() == b"x"
        assert await pulse.read() == b""


@both_backends
async def test_cancellation_ends_the_whole_group_before_it_returns(tmp_path: Path, pulse: Pulse) -> None:
    async with stand(tmp_path) as host:
        await host.start()
        async with anyio.create_task_group() as group:

            async def call() -> None:
                await host.do(pulse.hold_with_children + "os.system('sleep 60 & sleep 60')")
                pytest.fail("a canceled call returned")

            group.start_soon(call)
            assert await pulse.read() == b"x"
            group.cancel_scope.cancel()
        assert await pulse.read() == b""
        assert await host.is_warm()


async def test_a_warm_process_that_hangs_does_not_keep_a_call_from_being_stopped(
    tmp_path: Path, pulse: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "TERM_S", 0.2)
    monkeypatch.setattr(child, "KILL_S", 0.2)
    async with stand(tmp_path) as host:
        await host.start()
        pid = host.pid
        with pytest.raises(TimeoutError):
            await host.do(
                f"import signal, time; os.kill({pid}, signal.SIGSTOP)\n{pulse.hold}time.sleep(60)", limit_s=2
            )
        assert await pulse.read() == b"x"
        assert await pulse.read() == b""
        assert len(host.said) == 1
        os.kill(pid, signal.SIGCONT)
        await gone(pid)


async def test_a_call_that_a_hanging_warm_process_does_not_begin_is_never_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spec_kitty_orchestrator.host.forked.ANSWER_S", 0.3)
    async with stand(tmp_path) as host:
        await host.start()
        pid = host.pid
        host.process.suspend()
        reply = await host.do("open('begun', 'x')")
        assert (reply.rc, reply.stdout) == (LOST, b"")
        await gone(pid)
        assert not (host.cwd / "begun").exists()
        assert (await host.do("print('anew')")).stdout == b"anew\n"
        assert len(host.said) == 1


@pytest.mark.parametrize("closes", ["", "os.close(1); os.close(2)"], ids=["speaks", "is silent"])
async def test_a_call_whose_warm_process_is_killed_is_given_up_only_after_it_has_ended(
    closes: str, tmp_path: Path, pulse: Pulse
) -> None:
    # It goes on for a while as an orphan, and then changes something.
    code = "parent = os.getppid()\n{hold}{closes}\nwhile os.getppid() == parent: time.sleep(0.01)\n"
    code += "time.sleep(0.3)\nopen('changed', 'x')"
    async with stand(tmp_path) as host:
        await host.start()
        replies: list[tuple[Reply, bool]] = []
        async with anyio.create_task_group() as group:

            async def call() -> None:
                reply = await host.do(code.format(hold=pulse.hold, closes=closes))
                replies.append((reply, (host.cwd / "changed").exists()))

            group.start_soon(call)
            assert await pulse.read() == b"x"
            host.process.kill()
        assert await pulse.read() == b""
        assert [(reply.rc, changed) for reply, changed in replies] == [(LOST, True)]
        assert (await host.do("print(os.getppid())")).stdout == f"{os.getpid()}\n".encode()
        assert len(host.said) == 1
        assert "something ended without an answer" in host.said[0]


async def test_an_orphaned_call_is_stopped_at_its_limit(
    tmp_path: Path, pulse: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "TERM_S", 0.2)
    async with stand(tmp_path) as host:
        await host.start()
        kill = f"os.kill({host.pid}, signal.SIGKILL)"
        with pytest.raises(TimeoutError):
            await host.do(
                STUBBORN.format(
                    mine=f"signal.signal(signal.SIGTERM, signal.SIG_IGN); {kill}",
                    hold=pulse.hold_with_children,
                ),
                limit_s=2,
            )
        assert await pulse.read() == b"x"
        assert await pulse.read() == b""


async def test_a_warm_process_that_died_between_calls_is_replaced_by_processes_and_said_once(
    tmp_path: Path, temporary: Path
) -> None:
    async with stand(tmp_path) as host:
        await host.start()
        pid = host.pid
        host.process.kill()
        await gone(pid)
        for _ in range(2):
            assert (await host.do("print(os.getppid())")).stdout == f"{os.getpid()}\n".encode()
        assert len(host.said) == 1
        assert host.said[0].startswith("the host is not kept warm: it cannot be reached")
        assert host.transport.pid is None
        assert not psutil.pid_exists(pid)
        assert entries(temporary) == []


async def test_calls_that_run_when_it_is_let_go_may_end_and_new_ones_are_refused(
    tmp_path: Path, pulse: Pulse, gate: Gate
) -> None:
    async with stand(tmp_path) as host:
        await host.start()
        pid, process = host.pid, host.transport._process
        assert process is not None
        async with anyio.create_task_group() as group:

            async def call() -> None:
                reply = await host.do(pulse.hold + gate.wait + "print('done')")
                assert (reply.rc, reply.stdout) == (0, b"done\n")

            group.start_soon(call)
            assert await pulse.read() == b"x"
            process.let_go()
            assert (await host.do("print(os.getppid())")).stdout == f"{os.getpid()}\n".encode()
            assert psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
            await gate.open()
        await gone(pid)
        assert len(host.said) == 1


@both_backends
async def test_closing_ends_it_and_a_later_call_starts_another(tmp_path: Path, temporary: Path) -> None:
    others = psutil.Process().children()
    async with stand(tmp_path) as host:
        await host.start()
        first = host.pid
        assert len(entries(temporary)) == 1
        await host.transport.close()
        assert not psutil.pid_exists(first)
        assert entries(temporary) == []
        assert await host.is_warm()
        assert host.pid != first
    assert entries(temporary) == []
    assert psutil.Process().children() == others


async def test_a_folder_for_temporary_files_with_a_long_name_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ("long" * 40)).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("long" * 40)))
    async with stand(tmp_path) as host:
        assert await host.is_warm()


async def test_it_ends_and_removes_its_folder_when_this_process_is_killed(
    tmp_path: Path, temporary: Path
) -> None:
    executable = install(tmp_path / "bin")
    owner = f"""
import anyio, os, signal
from pathlib import Path
from spec_kitty_orchestrator.host.warm import WarmTransport
async def main():
    host = WarmTransport()
    args = [{str(executable)!r}, "do", "x", "print(os.getppid())"]
    reply = await host.call(args, cwd=Path({str(tmp_path)!r}), env={ENV!r}, limit_s=60)
    print(host.pid, int(reply.stdout), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
anyio.run(main)
"""
    env = {**os.environ, "TMPDIR": str(temporary)}
    done = await to_thread.run_sync(
        lambda: subprocess.run([sys.executable, "-c", owner], env=env, stdout=subprocess.PIPE, check=False)
    )
    assert done.returncode == -signal.SIGKILL
    pid, parent = (int(word) for word in done.stdout.split())
    assert pid == parent
    with anyio.fail_after(BOUND_S), suppress(psutil.NoSuchProcess):
        await to_thread.run_sync(psutil.Process(pid).wait, BOUND_S)
    assert entries(temporary) == []


async def test_a_start_that_is_canceled_leaves_nobody_behind(
    tmp_path: Path, pulse: Pulse, temporary: Path
) -> None:
    others = psutil.Process().children()
    async with stand(tmp_path) as host:
        slow = pulse.hold_with_children + "import time; time.sleep(60)\n"
        host.executable.write_text(host.executable.read_text().replace("import part\n", slow))
        async with anyio.create_task_group() as group:
            group.start_soon(host.do, "pass")
            assert await pulse.read() == b"x"
            group.cancel_scope.cancel()
        assert await pulse.read() == b""
        assert entries(temporary) == []
        assert psutil.Process().children() == others


async def test_the_event_loop_is_never_blocked(tmp_path: Path) -> None:
    with blockbuster_ctx("spec_kitty_orchestrator"):
        async with stand(tmp_path) as host:
            assert await host.is_warm()
            await host.transport.close()
            assert await host.is_warm()
            host.process.kill()
            await host.do("pass")
            assert len(host.said) == 1


async def test_this_process_and_what_it_starts_otherwise_learn_nothing_of_the_warm_one(
    tmp_path: Path,
) -> None:
    before, open_before = dict(os.environ), inheritable()
    async with stand(tmp_path) as host:
        assert await host.is_warm()
        inherited = (await anyio.run_process(["env"])).stdout
        assert dict(os.environ) == before
        assert b"WARM" not in inherited
        # Whoever may look at descriptors of this process finds none that a child would inherit.
        assert inheritable() <= open_before


def inheritable() -> set[int]:
    """Return the descriptors that a child would inherit; whoever runs the tests may have left some."""
    found = set()
    for fd in range(3, 1024):
        with suppress(OSError):
            if os.get_inheritable(fd):
                found.add(fd)
    return found
