"""What a signal does while an agent works, and that a reader who has stopped reading holds nothing up."""

import fcntl
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.cli.working import LIMIT_S, ONE, at_work, host_of_one, lane_of

Project = Any  # the class lives in conftest, which tests cannot import
STOPPING = [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def _host(project: Project) -> None:
    host_of_one(project)


@pytest.mark.parametrize("signum", STOPPING[:2], ids=lambda one: one.name)
def test_a_signal_that_was_ignored_at_the_start_stays_ignored(project: Project, signum: int) -> None:
    with at_work(project, *ONE, prepare=lambda: void(signal.signal(signum, signal.SIG_IGN))) as working:
        working.run.send_signal(signum)
        working.let_the_agent_end()
        code, told = working.ended()
    assert (code, lane_of(project)) == (0, "done"), told


@pytest.mark.parametrize("signum", STOPPING[:2], ids=lambda one: one.name)
def test_the_line_names_the_signal_that_came(project: Project, signum: signal.Signals) -> None:
    with at_work(project, *ONE) as working:
        working.run.send_signal(signum)
        assert working.agent_is_gone()
        code, told = working.ended()
    assert code >= 128
    assert signum.name in told
    assert not [other.name for other in STOPPING if other is not signum and other.name in told]


def void(_: object) -> None:
    """Forget a value, where a function of nothing is wanted."""


@pytest.fixture
def stuck() -> tuple[int, int]:
    """A pipe that is full, and that nobody reads."""
    reading, writing = os.pipe()
    flags = fcntl.fcntl(writing, fcntl.F_GETFL)
    fcntl.fcntl(writing, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        pass
    fcntl.fcntl(writing, fcntl.F_SETFL, flags)
    return reading, writing


def test_a_reader_that_has_stopped_reading_holds_neither_the_work_nor_a_signal_up(
    project: Project, stuck: tuple[int, int]
) -> None:
    reading, writing = stuck
    with at_work(project, *ONE, stdout=writing) as working:
        os.close(writing)
        working.run.send_signal(signal.SIGINT)
        assert working.agent_is_gone()
        threading.Thread(target=read_all, args=(reading,), daemon=True).start()
        assert working.run.wait(LIMIT_S) == 130


def test_a_run_comes_to_its_end_though_nobody_reads_its_output(
    project: Project, stuck: tuple[int, int], tmp_path: Path
) -> None:
    """The host tells the test when it is told of the approval."""
    heard = tmp_path / "heard"
    os.mkfifo(heard)
    host_of_one(
        project, after=f'if args.get("--to") == "done":\n    open({str(heard)!r}, "w").write("done")\n'
    )
    reading, writing = stuck
    with at_work(project, *ONE, stdout=writing) as working:
        os.close(writing)
        told: list[str] = []
        listens = threading.Thread(target=lambda: told.append(heard.read_text()), daemon=True)
        listens.start()
        working.let_the_agent_end()
        listens.join(LIMIT_S)
        assert told == ["done"]
        threading.Thread(target=read_all, args=(reading,), daemon=True).start()
        assert working.run.wait(LIMIT_S) == 0


def read_all(fd: int) -> None:
    """Read until nobody writes any more."""
    with os.fdopen(fd, "rb") as file:
        file.read()
