"""Real small children: a call always ends, leaves nobody behind, and keeps a bounded part of the output."""

import os
import select
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from blockbuster import blockbuster_ctx

from spec_kitty_orchestrator.machine import child
from spec_kitty_orchestrator.machine.child import Reply, Spawned, conduct

pytestmark = pytest.mark.anyio

ENV = {"PATH": os.environ.get("PATH", os.defpath)}
LONG_S = 60.0


@dataclass(frozen=True)
class Pulse:
    """A pipe that children hold open: a byte says that they run, its end that all of them are gone."""

    path: Path
    fd: int

    async def read(self) -> bytes:
        return await to_thread.run_sync(self._read)

    def _read(self) -> bytes:
        # Without a wait, a pipe that nobody has opened yet looks like one that everybody has left.
        ready, _, _ = select.select([self.fd], [], [], 10)
        assert ready, "nobody wrote, and somebody is still there"
        return os.read(self.fd, 1)


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[Pulse]:
    path = tmp_path / "pulse"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield Pulse(path, fd)
    os.close(fd)


async def run(*args: str, cwd: Path, limit_s: float = LONG_S, env: dict[str, str] | None = None) -> Reply:
    with anyio.fail_after(30):
        return await conduct(lambda: Spawned(args, cwd, ENV if env is None else env), limit_s)


def shell(script: str) -> tuple[str, str, str]:
    return ("/bin/sh", "-c", script)


async def test_exit_code_and_both_streams_are_returned(tmp_path: Path) -> None:
    reply = await run(*shell("pwd; echo $GREETING >&2; exit 3"), cwd=tmp_path, env={**ENV, "GREETING": "hi"})
    assert reply == Reply(3, f"{tmp_path}\n".encode(), b"hi\n")


async def test_the_environment_is_exactly_the_one_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEAK", "yes")
    assert b"LEAK" not in (await run("/usr/bin/env", cwd=tmp_path)).stdout


async def test_a_child_killed_by_a_signal_is_told_by_a_negative_code(tmp_path: Path) -> None:
    assert (await run(*shell("kill -9 $$"), cwd=tmp_path)).rc == -9


async def test_an_executable_that_is_missing_or_not_executable_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("text")
    for name in ("absent", "plain"):
        with pytest.raises(OSError, match=name):
            await run(str(tmp_path / name), cwd=tmp_path)


async def test_a_nul_in_an_argument_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="null"):
        await run("/bin/echo", "a\0b", cwd=tmp_path)


async def test_the_limit_ends_the_whole_group(
    tmp_path: Path, pulse: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "TERM_S", 0.2)
    stubborn = f"trap '' TERM; exec 9>{pulse.path}; printf x >&9; sleep 60 & sleep 60; sleep 60"
    with pytest.raises(TimeoutError):
        await run(*shell(stubborn), cwd=tmp_path, limit_s=2)
    with anyio.fail_after(10):
        assert await pulse.read() == b"x"
        assert await pulse.read() == b""


async def test_cancellation_ends_the_whole_group_before_it_returns(tmp_path: Path, pulse: Pulse) -> None:
    script = f"exec 9>{pulse.path}; printf x >&9; sleep 60 & sleep 60"
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:

            async def call() -> None:
                await child.run(shell(script), cwd=tmp_path, env=ENV, limit_s=LONG_S)
                pytest.fail("a canceled call returned")

            group.start_soon(call)
            assert await pulse.read() == b"x"
            group.cancel_scope.cancel()
        assert await pulse.read() == b""


async def test_a_grandchild_that_holds_the_pipes_does_not_hold_the_answer(
    tmp_path: Path, pulse: Pulse
) -> None:
    script = f"sh -c 'exec 9>{pulse.path}; printf x >&9; sleep 20' & echo answer"
    reply = await run(*shell(script), cwd=tmp_path)
    assert reply.stdout == b"answer\n"
    with anyio.fail_after(10):
        assert await pulse.read() == b"x"


async def test_a_child_that_closes_its_output_is_still_awaited(tmp_path: Path) -> None:
    script = "echo early; exec >&- 2>&-; sleep 0.3; exit 7"
    reply = await run(*shell(script), cwd=tmp_path)
    assert (reply.rc, reply.stdout) == (7, b"early\n")


async def test_a_flood_keeps_the_last_line_and_a_bounded_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "STDOUT_KEPT", 100_000)
    flood = "import sys; [sys.stdout.write('x' * 99 + '\\n') for _ in range(200_000)]; print('{}')"
    reply = await run(sys.executable, "-c", flood, cwd=tmp_path)
    assert reply.stdout.endswith(b"x\n{}\n")
    assert len(reply.stdout) == 100_000


async def test_a_flood_on_stderr_is_bounded_and_does_not_block_the_child(tmp_path: Path) -> None:
    flood = "import sys; sys.stderr.write('e' * 5_000_000); print('done')"
    reply = await run(sys.executable, "-c", flood, cwd=tmp_path)
    assert reply.stdout == b"done\n"
    assert len(reply.stderr) == child.STDERR_KEPT


async def test_of_a_flood_that_has_a_bound_the_beginning_is_kept_and_the_child_is_stopped(
    tmp_path: Path,
) -> None:
    flood = "echo first; while :; do echo xxxxxxxxxxxxxxxxxxxx; done"
    with anyio.fail_after(30):
        reply = await child.run(shell(flood), cwd=tmp_path, env=ENV, limit_s=LONG_S, most=1000)
    assert reply.cut
    assert reply.stdout.startswith(b"first\nx")
    assert len(reply.stdout) == 1000


async def test_a_child_reads_what_it_is_given_or_nothing(tmp_path: Path) -> None:
    for given in (b"", b"x" * 1_000_000):
        with anyio.fail_after(30):
            reply = await child.run(("cat",), cwd=tmp_path, env=ENV, limit_s=LONG_S, stdin=given)
        assert reply == Reply(0, given, b"")


async def test_a_child_that_does_not_read_what_it_is_given_is_not_waited_for(tmp_path: Path) -> None:
    with anyio.fail_after(30):
        reply = await child.run(("true",), cwd=tmp_path, env=ENV, limit_s=LONG_S, stdin=b"x" * 1_000_000)
    assert reply.rc == 0


def test_a_child_runs_without_an_event_loop_too(tmp_path: Path) -> None:
    assert child.run_now(shell("echo ok; exit 3"), cwd=tmp_path, env=ENV, limit_s=LONG_S) == Reply(
        3, b"ok\n", b""
    )
    with pytest.raises(TimeoutError):
        child.run_now(shell("sleep 60"), cwd=tmp_path, env=ENV, limit_s=0.2)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_event_loop_is_never_blocked(tmp_path: Path) -> None:
    with blockbuster_ctx("spec_kitty_orchestrator"):
        assert (await run(*shell("echo ok"), cwd=tmp_path)).stdout == b"ok\n"
