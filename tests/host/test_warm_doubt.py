"""Whatever makes a warm answer doubtful ends warm calls for good, is said once, and repeats nothing."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EMFILE
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio import to_thread
from tests.host.fake_host import Pulse, Stand, install, make_pulse, stand

from spec_kitty_orchestrator.errors import HostError
from spec_kitty_orchestrator.host import forked
from spec_kitty_orchestrator.host.console_script import PROBE_ARGV
from spec_kitty_orchestrator.host.forked import LOST, Forked, NotTaken
from spec_kitty_orchestrator.host.transport import SpawnTransport

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[Pulse]:
    yield from make_pulse(tmp_path / "pulse")


async def assert_given_up(host: Stand, reason: str) -> None:
    """The next calls are answered by processes of their own, and people were told once."""
    for _ in range(2):
        assert (await host.do("print(os.getppid())")).stdout == f"{os.getpid()}\n".encode()
    assert host.transport.pid is None
    assert len(host.said) == 1
    assert reason in host.said[0]
    assert "each call starts spec-kitty anew" in host.said[0]


def touch_a_module(host: Stand) -> None:
    (host.executable.parent / "part.py").write_text("CHANGED = 1\n")


def touch_the_script(host: Stand) -> None:
    host.executable.write_text(host.executable.read_text() + "\n")


def install_another_distribution(host: Stand) -> None:
    (host.executable.parent / "kitty-2.dist-info").mkdir()


def edit_what_was_read(host: Stand) -> None:
    (host.cwd / ".kitty.env").write_text("A=2")


def create_what_was_missed(host: Stand) -> None:
    (host.cwd / "missing.toml").write_text("")


@pytest.mark.parametrize(
    "change",
    [
        touch_a_module,
        touch_the_script,
        install_another_distribution,
        edit_what_was_read,
        create_what_was_missed,
    ],
)
async def test_an_installation_that_changes_is_not_mixed_with_what_is_in_memory(
    change: Callable[[Stand], None], tmp_path: Path
) -> None:
    async with stand(tmp_path) as host:
        (host.cwd / ".kitty.env").write_text("A=1")
        reads = (
            "for name in ('.kitty.env', 'missing.toml'):\n try: open(name).close()\n except OSError: pass\n"
        )
        (host.executable.parent / "part.py").write_text(reads)
        await host.start()
        change(host)
        await assert_given_up(host, "the installation of the host has changed")


async def test_a_link_that_is_set_to_another_installation_is_noticed(tmp_path: Path) -> None:
    link = tmp_path / "spec-kitty"
    link.symlink_to(install(tmp_path / "one"))
    async with stand(tmp_path, executable=link) as host:
        await host.start()
        assert host.pid
        link.unlink()
        link.symlink_to(install(tmp_path / "two"))
        assert f"{tmp_path}/two".encode() in (await host.do("print(sys.path[0])")).stdout
        await assert_given_up(host, "the installation of the host has changed")


async def test_files_that_the_host_writes_are_not_taken_for_a_change(tmp_path: Path) -> None:
    async with stand(tmp_path) as host:
        await host.start()
        await host.do("open('state.json', 'w').write('1'); open('new.yaml', 'w').write('1')")
        assert await host.is_warm()


async def test_a_crash_is_answered_as_it_is_and_not_repeated(tmp_path: Path) -> None:
    async with stand(tmp_path) as host:
        await host.start()
        reply = await host.do("open('count', 'a').write('x'); raise KeyError('lost')")
        assert (reply.rc, reply.stdout) == (1, b"")
        assert b"KeyError" in reply.stderr
        assert (host.cwd / "count").read_text() == "x"
        assert await host.is_warm()


@pytest.mark.parametrize("code", ["sys.exit(3)", "raise ModuleNotFoundError('of the host')"])
async def test_an_end_without_an_answer_that_may_be_due_to_how_it_was_started_raises_doubt(
    code: str, tmp_path: Path
) -> None:
    async with stand(tmp_path) as host:
        await host.start()
        reply = await host.do(code)
        assert reply.stdout == b""
        await assert_given_up(host, f"something ended without an answer, with code {reply.rc}")


async def test_a_refusal_with_an_answer_raises_no_doubt(tmp_path: Path) -> None:
    async with stand(tmp_path) as host:
        await host.start()
        assert (await host.do("print('{}'); sys.exit(1)")).rc == 1
        assert await host.is_warm()


async def test_a_call_beyond_its_limit_raises_doubt(tmp_path: Path) -> None:
    async with stand(tmp_path) as host:
        await host.start()
        with pytest.raises(TimeoutError):
            await host.do("open('count', 'a').write('x'); time.sleep(60)", limit_s=1)
        assert (host.cwd / "count").read_text() == "x"
        await assert_given_up(host, "something did not end within 1 s")


THREAD = "import threading; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("if 'zygote' in sys.orig_argv[1]: print('more')", "otherwise than a process of its own"),
        ("import sys\nif 'zygote' in sys.orig_argv[1]: sys.exit(3)", "otherwise than a process of its own"),
        (THREAD, "did not start"),
        ("if 'zygote' in sys.orig_argv[1]: os.write(2, b'no memory'); os._exit(9)", "start: no memory"),
    ],
    ids=["another answer", "another code", "threads", "a crash"],
)  # fmt: skip
async def test_a_first_answer_that_cannot_be_trusted_keeps_calls_cold(
    program: str, reason: str, tmp_path: Path
) -> None:
    async with stand(tmp_path) as host:
        host.executable.write_text(
            host.executable.read_text().replace("import part\n", f"import part\n{program}\n")
        )
        assert (await host.call(*PROBE_ARGV)).stdout
        await assert_given_up_with_noise(host, reason)


async def assert_given_up_with_noise(host: Stand, reason: str) -> None:
    assert (await host.do("print(os.getppid())")).stdout.split() == [str(os.getpid()).encode()]
    assert host.transport.pid is None
    assert len(host.said) == 1
    assert reason in host.said[0]


async def test_a_program_that_is_not_python_is_called_as_it_is(tmp_path: Path) -> None:
    script = tmp_path / "spec-kitty"
    script.write_text("#!/bin/sh\necho shell $1\n")
    script.chmod(0o755)
    async with stand(tmp_path, executable=script) as host:
        assert (await host.call("words")).stdout == b"shell words\n"
        assert len(host.said) == 1
        assert "is not a Python program that we understand" in host.said[0]


async def test_where_warm_calls_are_required_an_error_says_why_there_are_none(tmp_path: Path) -> None:
    script = tmp_path / "spec-kitty"
    script.write_text("#!/bin/sh\necho shell\n")
    script.chmod(0o755)
    async with stand(tmp_path, executable=script, required=True) as host:
        for _ in range(2):
            with pytest.raises(HostError, match=r"transport is \"warm\", but .* not a Python program"):
                await host.call("words")
    async with stand(tmp_path, executable=tmp_path / "absent", required=True) as host:
        with pytest.raises(HostError, match="absent"):
            await host.call("words")
    async with stand(tmp_path, required=True) as host:
        assert await host.is_warm()


async def test_an_executable_that_is_missing_is_an_os_error(tmp_path: Path) -> None:
    async with stand(tmp_path, executable=tmp_path / "absent") as host:
        with pytest.raises(OSError, match="absent"):
            await host.call("words")


async def test_calls_of_another_kind_than_the_first_are_made_by_processes(tmp_path: Path) -> None:
    async with stand(tmp_path) as host:
        await host.start()
        look = "print(os.getppid(), os.environ.get('OTHER'), os.getcwd())"
        ours = os.getpid()
        other_env = {**host.env, "OTHER": "1"}
        assert (await host.do(look, env=other_env)).stdout == f"{ours} 1 {host.cwd}\n".encode()
        assert (await host.do(look, cwd=tmp_path)).stdout == f"{ours} None {tmp_path}\n".encode()
        assert await host.is_warm()
        assert host.said == []


async def test_two_calls_that_fail_at_once_are_said_once(tmp_path: Path) -> None:
    async with stand(tmp_path) as host:
        await host.start()
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(host.do, "os._exit(5)")
        await assert_given_up(host, "with code 5")


GARBAGE = {
    "nothing": b"",
    "not JSON": b"garbage\n",
    "not UTF-8": b"\xff\xfe\n",
    "nested": b"[" * 100_000 + b"\n",
    "a list": b"[]\n",
    "no token": b"{}\n",
    "a token of another kind": b'{"token": 1, "argv": [], "cwd": "/", "env": {}}\n',
    "another token": b'{"token": "x", "argv": [], "cwd": "/", "env": {}}\n',
    "a token that is not ASCII": '{"token": "é", "argv": [], "cwd": "/", "env": {}}\n'.encode(),
    "an unfinished line": b'{"token": "x"',
    "too much": b"x" * (9 * 1024 * 1024),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
@pytest.mark.parametrize("descriptors", [0, 1, 2, 5])
async def test_garbage_on_its_socket_is_refused_and_harms_nobody(
    garbage: bytes, descriptors: int, host: Stand
) -> None:
    count = "import psutil; print(psutil.Process(os.getppid()).num_fds())"
    before = (await host.do(count)).stdout
    answer, unread = await to_thread.run_sync(throw, host, garbage, descriptors)
    assert answer == b"" or "refused" in json.loads(answer)
    assert (answer == b"") == (garbage[-1:] != b"\n" and len(garbage) < 1000)
    assert not unread
    assert await host.is_warm()
    assert (await host.do(count)).stdout == before


@pytest.fixture(scope="module")
async def host(tmp_path_factory: pytest.TempPathFactory) -> Any:
    async with stand(tmp_path_factory.mktemp("garbage")) as made:
        await made.start()
        yield made


def address(host: Stand) -> str:
    assert host.transport._process is not None
    return host.transport._process.address


def throw(host: Stand, garbage: bytes, descriptors: int) -> tuple[bytes, bool]:
    """Send garbage; return the answer, and whether the descriptors sent with it are still held open."""
    reading, writing = os.pipe()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(address(host))
        try:
            sent = socket.send_fds(connection, [garbage], [writing] * descriptors) if garbage else 0
            connection.sendall(garbage[sent:])
            if garbage[-1:] != b"\n":
                connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(1000)
        except (BrokenPipeError, ConnectionResetError):
            answer = b'{"refused": ""}'
    os.close(writing)
    os.set_blocking(reading, True)
    held = os.read(reading, 1) != b""
    os.close(reading)
    return answer, held


async def test_a_caller_that_never_ends_its_line_holds_neither_others_nor_their_pipes(
    tmp_path: Path, pulse: Pulse
) -> None:
    async with stand(tmp_path) as host:
        await host.start()
        reading, writing = os.pipe()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(address(host))
            socket.send_fds(connection, [b'{"token"'], [writing, writing])
            os.close(writing)
            assert await host.is_warm()
            async with anyio.create_task_group() as group:
                group.start_soon(host.do, pulse.hold + "time.sleep(60)")
                assert await pulse.read() == b"x"
                connection.close()
                # The call that runs did not inherit what the unfinished one had sent.
                with anyio.fail_after(20):
                    assert await to_thread.run_sync(os.read, reading, 1) == b""
                group.cancel_scope.cancel()
        os.close(reading)


@contextmanager
def pretender(*answers: bytes, hang: bool = False, last: bytes = b"") -> Iterator[Any]:
    """Listen where a warm process would, and answer a request with something else; `last` once killed."""
    listener = socket.socket(socket.AF_UNIX)
    folder = TemporaryDirectory(prefix="sko-")
    where = f"{folder.name}/socket"
    listener.bind(where)
    listener.listen()
    killed = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            _, descriptors, _, _ = socket.recv_fds(connection, 1_000_000, 3)
            for answer in answers:
                connection.sendall(answer)
            if hang:
                killed.wait(20)
                connection.sendall(last)
            for one in descriptors:
                os.close(one)

    thread = threading.Thread(target=serve)
    thread.start()
    yield SimpleNamespace(address=where, token="t", env={}, kill=killed.set)
    thread.join()
    listener.close()
    folder.cleanup()


def ask(warm: Any, cwd: Path) -> int | None:
    call = Forked(warm, ["x"], cwd)
    try:
        call.wait(20)
        return call.poll()
    finally:
        call.close()


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ((), LOST),
        ((b"garbage\n",), LOST),
        ((b'{"pid": 4194303}\n',), LOST),
        ((b'{"pid": 4194303}\n', b'{"exi'), LOST),
        ((b'{"pid": 4194303}\n{"exit": 7}\n',), 7),
        ((b'{"pid": 4194', b'303}\n{"exit"', b": -15}\n"), -15),
    ],
)
async def test_an_answer_that_is_cut_off_is_no_answer(
    answers: tuple[bytes, ...], code: int, tmp_path: Path
) -> None:
    with pretender(*answers) as warm, anyio.fail_after(30):
        assert await to_thread.run_sync(ask, warm, tmp_path) == code


async def test_a_refusal_says_that_nothing_was_begun(tmp_path: Path) -> None:
    with pretender(b'{"refused": "reason"}\n') as warm, pytest.raises(NotTaken, match="reason"):
        await to_thread.run_sync(ask, warm, tmp_path)


async def test_a_warm_process_that_begins_nothing_is_killed_before_the_call_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forked, "ANSWER_S", 0.2)
    with pretender(hang=True) as warm, anyio.fail_after(30):
        assert await to_thread.run_sync(ask, warm, tmp_path) == LOST


async def test_a_copy_that_was_begun_at_the_last_moment_can_still_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forked, "ANSWER_S", 0.2)
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as copy:  # noqa: ASYNC220
        last = json.dumps({"pid": copy.pid}).encode() + b"\n"
        with pretender(hang=True, last=last) as warm, anyio.fail_after(30):
            call = await to_thread.run_sync(Forked, warm, ["x"], tmp_path)
            call.signal_group(signal.SIGTERM)
            call.close()
        try:
            assert await to_thread.run_sync(copy.wait, 20) == -signal.SIGTERM
        finally:
            copy.kill()


async def test_a_refusal_at_the_last_moment_says_that_nothing_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forked, "ANSWER_S", 0.2)
    with (
        pretender(hang=True, last=b'{"refused": "reason"}\n') as warm,
        pytest.raises(NotTaken, match="reason"),
    ):
        await to_thread.run_sync(ask, warm, tmp_path)


@pytest.mark.parametrize("left", range(4))
async def test_a_lack_of_descriptors_says_that_nothing_was_begun(
    left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.pipe
    made: list[int] = []

    def pipe() -> tuple[int, int]:
        if len(made) == 2 * left:
            raise OSError(EMFILE, "Too many open files")
        made.extend(ends := original())
        return ends

    def no_socket(*_: object) -> None:
        raise OSError(EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pipe", pipe)
    monkeypatch.setattr(socket, "socket", no_socket)
    with pytest.raises(NotTaken, match="Too many open files"):
        Forked(SimpleNamespace(token="t", env={}), ["x"], tmp_path)  # type: ignore[arg-type]
    monkeypatch.undo()
    for end in made:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(end)


TYPER = """\
import typer, typer.main
APP = typer.Typer()
@APP.command()
def one(): print("one")
@APP.command()
def two(name: str = "n"): print("two", name)
SEEN = []
def other(argv):
    APP(args=argv)
"""


@pytest.mark.parametrize("memoize", [True, False])
async def test_the_command_tree_is_built_once_or_for_every_call(memoize: bool, tmp_path: Path) -> None:
    look = (
        "part.SEEN.append(part.typer.main.get_command(part.APP)); print(len({id(one) for one in part.SEEN}))"
    )
    async with stand(tmp_path, memoize=memoize) as host:
        (host.executable.parent / "part.py").write_text(TYPER)
        program = host.executable.read_text().replace(
            "import part\n", "import part\npart.SEEN.append(part.typer.main.get_command(part.APP))\n"
        )
        host.executable.write_text(program)
        await host.start()
        assert (await host.do(look)).stdout == (b"1\n" if memoize else b"3\n")
        for args in (("one",), ("two", "--name", "x"), ("two",), ("--help",), ("two", "--help"), ("one",)):
            warm, anew = await host.call(*args), await host.call(*args, transport=SpawnTransport())
            assert (warm.rc, warm.stdout, warm.stderr) == (anew.rc, anew.stdout, anew.stderr)
            assert host.transport.pid is not None


async def test_a_folder_that_is_deleted_is_no_reason_to_hang(tmp_path: Path) -> None:
    async with stand(tmp_path) as host:
        await host.start()
        shutil.rmtree(host.cwd)
        reply = await host.do("print('never')")
        assert reply.rc != 0
        assert reply.stdout == b""
