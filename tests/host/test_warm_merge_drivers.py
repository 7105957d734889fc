"""Git's merge drivers of the host are answered warm, and by the host itself where that cannot be."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest
from anyio import to_thread
from tests.host.fake_host import ENV, Pulse, install, make_pulse, stand

from spec_kitty_orchestrator.host import merge_driver, warm_process

pytestmark = pytest.mark.anyio

DRIVER = """\
import os, sys
def other(argv):
    name, ancestor, ours, theirs = argv
    assert name == "merge-driver-log"
    lines = sorted({*open(ours), *open(theirs)})
    open(ours, "w").writelines(lines)
    open(os.environ["DRIVEN_BY"], "a").write(f"{os.getppid()}\\n")
    if os.environ.get("AFTERWARDS"):
        exec(os.environ["AFTERWARDS"])
"""
MERGE = "import subprocess; sys.exit(subprocess.run(['git', 'merge', '-q', '--no-edit', 'other']).returncode)"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[Pulse]:
    yield from make_pulse(tmp_path / "pulse")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    people = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    path = os.pathsep.join((str(tmp_path / "bin"), ENV["PATH"]))
    return {"PATH": path, "DRIVEN_BY": str(tmp_path / "driven"), "HOME": str(tmp_path), **people}


@pytest.fixture
def repository(tmp_path: Path, env: dict[str, str]) -> Path:
    """Two branches that both add to a file which a driver of the host merges."""
    (install(tmp_path / "bin").parent / "part.py").write_text(DRIVER)
    root = tmp_path / "project"
    root.mkdir()

    def git(*args: str) -> None:
        subprocess.run(["git", *args], cwd=root, env=env, check=True, stdout=subprocess.DEVNULL)

    git("init", "-q", "-b", "main")
    git("config", "merge.kitty-log.driver", "spec-kitty merge-driver-log %O %A %B")
    git("config", "merge.foreign.driver", "true %O %A %B")
    (root / ".gitattributes").write_text("log merge=kitty-log\n")
    for branch, line in (("main", "a"), ("other", "b"), ("main", "c")):
        git("checkout", "-q", *([] if branch == "main" and line == "c" else ["-B"]), branch)
        with (root / "log").open("a") as log:
            log.write(f"{line}\n")
        git("add", "-A")
        git("commit", "-q", "-m", line)
    return root


def driven_by(tmp_path: Path) -> list[int]:
    return [int(line) for line in (tmp_path / "driven").read_text().split()]


async def test_a_merge_within_a_call_is_driven_by_the_warm_process(
    repository: Path, tmp_path: Path, env: dict[str, str]
) -> None:
    async with stand(tmp_path, executable=tmp_path / "bin" / "spec-kitty", env=env) as host:
        await host.start()
        assert (await host.do(MERGE)).rc == 0
        assert driven_by(tmp_path) == [host.pid]
        assert (repository / "log").read_text() == "a\nb\nc\n"
        assert await host.is_warm()


async def test_switched_off_the_host_itself_drives_the_merge(
    repository: Path, tmp_path: Path, env: dict[str, str]
) -> None:
    async with stand(
        tmp_path, executable=tmp_path / "bin" / "spec-kitty", env=env, merge_drivers=False
    ) as host:
        await host.start()
        assert (await host.do(MERGE)).rc == 0
        assert len(driven_by(tmp_path)) == 1
        assert driven_by(tmp_path) != [host.pid]
        assert (repository / "log").read_text() == "a\nb\nc\n"
        shown = (await host.do("print(sorted(os.environ))")).stdout
        assert b"GIT_CONFIG" not in shown
        assert b"WARM" not in shown


async def test_settings_of_git_in_the_environment_are_added_to_and_foreign_drivers_left_alone(
    repository: Path, tmp_path: Path, env: dict[str, str]
) -> None:
    have = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "user.nick", "GIT_CONFIG_VALUE_0": "nick"}
    async with stand(tmp_path, executable=tmp_path / "bin" / "spec-kitty", env=env | have) as host:
        await host.start()
        shown = await host.do(
            "sys.stdout.flush(); os.system('git config --get-regexp \"user.nick|merge.*driver\"')"
        )
        lines = shown.stdout.decode().splitlines()
        assert "user.nick nick" in lines
        assert [line for line in lines if "foreign" in line] == ["merge.foreign.driver true %O %A %B"]
        assert "merge_driver.py" in next(line for line in reversed(lines) if "kitty-log" in line)
        assert (await host.do("print(os.environ['GIT_CONFIG_COUNT'])")).stdout == b"2\n"
        assert (await host.do(MERGE)).rc == 0
        assert driven_by(tmp_path) == [host.pid]


@pytest.mark.parametrize("count", ["", "many", "-1"])
async def test_settings_of_git_that_are_not_understood_are_left_alone(
    count: str, repository: Path, tmp_path: Path, env: dict[str, str]
) -> None:
    have = {"GIT_CONFIG_COUNT": count}
    async with stand(tmp_path, executable=tmp_path / "bin" / "spec-kitty", env=env | have) as host:
        await host.start()
        assert (await host.do("print(os.environ['GIT_CONFIG_COUNT'])")).stdout.decode() == f"{count}\n"
        assert await host.is_warm()


async def test_a_git_that_does_not_answer_leaves_the_merge_to_the_host(
    tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_process, "GIT_CONFIG_S", 0.2)
    executable = install(tmp_path / "bin")
    (tmp_path / "bin" / "git").write_text("#!/bin/sh\nexec sleep 600\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    async with stand(tmp_path, executable=executable, env=env) as host:
        with anyio.fail_after(60):
            await host.start()
        assert (await host.do("print('GIT_CONFIG_COUNT' in os.environ)")).stdout == b"False\n"
        assert await host.is_warm()


async def test_a_warm_process_that_is_gone_leaves_the_merge_to_the_host(
    repository: Path, tmp_path: Path, env: dict[str, str]
) -> None:
    async with stand(tmp_path, executable=tmp_path / "bin" / "spec-kitty", env=env) as host:
        await host.start()
        pid = host.pid
        # It is killed before the merge begins.
        await host.do(
            f"import signal; os.kill({pid}, signal.SIGKILL)\nwhile os.getppid() == {pid}: pass\n{MERGE}"
        )
        assert len(driven_by(tmp_path)) == 1
        assert driven_by(tmp_path) != [pid]
        assert (repository / "log").read_text() == "a\nb\nc\n"


async def test_a_merge_driver_ends_with_the_call_that_is_canceled(
    repository: Path, tmp_path: Path, env: dict[str, str], pulse: Pulse
) -> None:
    slow = {"AFTERWARDS": f"import time; {pulse.hold.strip()}; time.sleep(60)"}
    async with stand(tmp_path, executable=tmp_path / "bin" / "spec-kitty", env=env | slow) as host:
        await host.start()
        async with anyio.create_task_group() as group:
            group.start_soon(host.do, MERGE)
            assert await pulse.read() == b"x"
            group.cancel_scope.cancel()
        assert await pulse.read() == b""
        assert await host.is_warm()


class Listener:
    """Answers one request of the shim with what a test says."""

    def __init__(self, folder: str, answer: bytes) -> None:
        self.address = f"{folder}/socket"
        self.requests: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.address)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, args=(answer,))
        self._thread.start()

    def _serve(self, answer: bytes) -> None:
        connection, _ = self._socket.accept()
        with connection:
            data, descriptors, _, _ = socket.recv_fds(connection, 1_000_000, 3)
            self.requests.append(data)
            connection.sendall(answer)
            for one in descriptors:
                os.close(one)

    def close(self) -> None:
        self._thread.join()
        self._socket.close()


def shim(host: Path, address: str) -> Any:
    argv = [
        sys.executable,
        "-IS",
        str(merge_driver.__file__),
        str(host),
        address,
        "do",
        "x",
        "print('itself')",
    ]
    return subprocess.run(argv, env=dict(ENV), capture_output=True, check=False)


@pytest.mark.parametrize(
    ("answer", "code", "itself"),
    [
        (b'{"pid": 7}\n{"exit": 0}\n', 0, False),
        (b'{"pid": 7}\n{"exit": 1}\n', 1, False),
        (b'{"pid": 7}\n{"exit": -9}\n', merge_driver.FAILED, False),
        (b'{"refused": "x"}\n', 0, True),
        (b'{"pid": 7}\n', merge_driver.FAILED, False),
        (b"garbage\n", merge_driver.FAILED, False),
        (b"", merge_driver.FAILED, False),
    ],
)
async def test_a_request_that_was_sent_is_made_again_only_if_it_was_refused(
    answer: bytes, code: int, itself: bool, tmp_path: Path
) -> None:
    with TemporaryDirectory(prefix="sko-") as folder:
        listener = Listener(folder, answer)
        done = await to_thread.run_sync(shim, install(tmp_path / "bin"), listener.address)
        listener.close()
    assert (done.returncode, done.stdout) == (code, b"itself\n" if itself else b"")
    assert len(listener.requests) == 1


async def test_a_socket_that_is_not_there_leaves_it_to_the_host(tmp_path: Path) -> None:
    done = await to_thread.run_sync(shim, install(tmp_path / "bin"), str(tmp_path / "absent"))
    assert (done.returncode, done.stdout) == (0, b"itself\n")
