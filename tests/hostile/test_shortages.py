"""A machine that is short of something for a moment, and a place that nobody can write down."""

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.machine.attempts import LIMIT_S, SAY_OK, PythonAgent, agents_of, request_of, run
from tests.machine.conftest import git

from spec_kitty_orchestrator.app.repository import find_repo_root
from spec_kitty_orchestrator.core.model import Outcome
from spec_kitty_orchestrator.errors import UsageError, WorkspaceError
from spec_kitty_orchestrator.machine import child, files, patience, process
from spec_kitty_orchestrator.machine.git import Git


class Shortage:
    """Stands in for a call that fails some times before it does what it does."""

    def __init__(self, call: Any, number: int, times: int) -> None:
        self._call, self._number, self.times = call, number, times

    def __call__(self, *args: Any, **options: Any) -> Any:
        if self.times:
            self.times -= 1
            raise OSError(self._number, os.strerror(self._number))
        return self._call(*args, **options)


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "DELAYS_S", (0.0,) * 5)


SHORT = [errno.EMFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOSPC]


@pytest.mark.asyncio
@pytest.mark.parametrize("number", SHORT)
async def test_an_agent_is_started_when_a_shortage_has_passed(
    tmp_path: Path, attempt_id: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    runner = agents_of(tmp_path, PythonAgent(SAY_OK))
    writes = Shortage(files.write_private, number, 3)
    monkeypatch.setattr(files, "write_private", writes)
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    starts = Shortage(subprocess.Popen, number, 3)
    monkeypatch.setattr(subprocess, "Popen", starts)

    report = await run(runner, attempt)

    assert report.outcome is Outcome.OK
    assert starts.times == writes.times == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("number", SHORT)
async def test_a_call_is_made_again_when_a_shortage_has_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(subprocess, "Popen", Shortage(subprocess.Popen, number, 3))

    with anyio.fail_after(LIMIT_S):
        reply = await child.run(["echo", "x"], cwd=tmp_path, env=dict(os.environ), limit_s=LIMIT_S)

    assert reply.text == "x"


@pytest.mark.asyncio
async def test_a_shortage_that_lasts_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", Shortage(subprocess.Popen, errno.EMFILE, 99))

    with anyio.fail_after(LIMIT_S), pytest.raises(OSError, match="Too many open files"):
        await child.run(["true"], cwd=tmp_path, env=dict(os.environ), limit_s=LIMIT_S)


def test_what_cannot_be_looked_at_is_not_taken_for_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    ourselves = process.known(os.getpid())
    monkeypatch.setattr("builtins.open", Shortage(open, errno.EMFILE, 99))

    with pytest.raises(OSError, match="Too many open files"):
        process.is_running(ourselves)


def test_a_file_is_read_when_a_shortage_has_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exit").write_text("0\n")
    monkeypatch.setattr(os, "open", Shortage(os.open, errno.EMFILE, 3))

    assert process.read_exit(tmp_path) == 0


@pytest.mark.asyncio
async def test_an_attempt_in_a_place_that_is_no_text_is_refused_in_words(
    tmp_path: Path, attempt_id: str
) -> None:
    request = request_of(Path(os.fsdecode(b"/M\xfcller")), attempt_id)

    with pytest.raises(WorkspaceError, match="no UTF-8"):
        await agents_of(tmp_path, PythonAgent(SAY_OK)).open(request)


def test_a_repository_whose_path_is_no_text_is_refused_in_words(tmp_path: Path) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller"))
    root.mkdir()
    git(root, "init", "-q")

    with pytest.raises(UsageError, match=r"no UTF-8.*rename the folder"):
        find_repo_root(root)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("says", "times", "works"),
    [
        ("fatal: cannot fork: Resource temporarily unavailable", 3, True),
        ("fatal: unable to open a.py: Too many open files", 3, True),
        ("fatal: mmap failed: Cannot allocate memory", 99, False),
        ("fatal: bad revision", 3, False),
    ],
)
async def test_git_is_asked_again_when_it_was_short_of_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, times: int, works: bool
) -> None:
    replies = [child.Reply(128, b"", says.encode())] * times + [child.Reply(0, b"fine", b"")]

    async def ask(*_: object, **__: object) -> child.Reply:
        return replies.pop(0)

    monkeypatch.setattr(Git, "ask", ask)

    if works:
        assert (await Git(tmp_path).run("status")).text == "fine"
    else:
        with pytest.raises(WorkspaceError, match=says.partition(": ")[2]):
            await Git(tmp_path).run("status")
