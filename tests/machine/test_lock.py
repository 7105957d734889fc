import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spec_kitty_orchestrator.errors import RunActive, WorkspaceError
from spec_kitty_orchestrator.machine.lock import MissionLock

HOLD = """
import sys
from pathlib import Path
from spec_kitty_orchestrator.machine.lock import MissionLock
with MissionLock(Path(sys.argv[1]), "034-x"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock until its stdin ends."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "held\n"
            yield child
        finally:
            child.kill()


def test_a_second_run_is_told_who_holds_the_mission(tmp_path: Path) -> None:
    with another_process(tmp_path) as child:
        with pytest.raises(
            RunActive, match=rf"another run of 034-x is active: process {child.pid} on .+ UTC"
        ):
            MissionLock(tmp_path, "034-x").acquire()
        owner = MissionLock(tmp_path, "034-x").holder()
        assert owner is not None
        assert owner.pid == child.pid


def test_a_process_that_ends_gives_the_lock_back(tmp_path: Path) -> None:
    with another_process(tmp_path) as child:
        child.communicate(timeout=20)
        assert MissionLock(tmp_path, "034-x").holder() is None
        with MissionLock(tmp_path, "034-x"):
            pass
    assert not (tmp_path / "owner.json").exists()


def test_a_killed_process_gives_the_lock_back(tmp_path: Path) -> None:
    with another_process(tmp_path) as child:
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=20)
        assert (tmp_path / "owner.json").exists()
        assert MissionLock(tmp_path, "034-x").holder() is None
        lock = MissionLock(tmp_path, "034-x")
        with lock:
            owner = lock.holder()
            assert owner is not None
            assert owner.pid == os.getpid()


def test_children_of_the_holder_do_not_inherit_the_lock(tmp_path: Path) -> None:
    with MissionLock(tmp_path, "034-x"):
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    try:
        with MissionLock(tmp_path, "034-x"):
            assert child.poll() is None
    finally:
        child.communicate(timeout=20)


def test_two_locks_in_one_process_exclude_each_other(tmp_path: Path) -> None:
    with MissionLock(tmp_path, "034-x"):
        with pytest.raises(RunActive):
            MissionLock(tmp_path, "034-x").acquire()
        assert MissionLock(tmp_path, "034-x").holder() is not None
    assert MissionLock(tmp_path, "034-x").holder() is None


def test_a_lock_may_be_released_in_another_thread(tmp_path: Path) -> None:
    lock = MissionLock(tmp_path, "034-x")
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join(timeout=20)
    with MissionLock(tmp_path, "034-x"):
        pass


def test_releasing_what_is_not_held_is_harmless(tmp_path: Path) -> None:
    with MissionLock(tmp_path, "034-x"):
        MissionLock(tmp_path, "034-x").release()
        assert MissionLock(tmp_path, "034-x").holder() is not None


def test_a_file_system_without_locks_is_refused_as_a_mere_file_would_outlive_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    lock = MissionLock(tmp_path, "demo")
    with pytest.raises(WorkspaceError, match="file system has no locks"):
        lock.acquire()
    assert lock.holder() is None


def test_a_lock_that_is_removed_leaves_nothing_and_can_be_taken_anew(tmp_path: Path) -> None:
    with MissionLock(tmp_path, "034-x") as lock:
        lock.remove()
        with MissionLock(tmp_path, "034-x") as anew:
            lock.release()
            owner = anew.holder()
            assert owner is not None
            assert owner.pid == os.getpid()
            with pytest.raises(RunActive):
                lock.acquire()
    lock.acquire()
    lock.remove()
    assert {one.name for one in tmp_path.iterdir()} == {".gitignore"}


def test_a_mission_that_never_ran_has_no_holder_and_asking_makes_nothing(tmp_path: Path) -> None:
    assert MissionLock(tmp_path / "none", "034-x").holder() is None
    assert not (tmp_path / "none").exists()


def test_the_owner_s_file_is_private(tmp_path: Path) -> None:
    with MissionLock(tmp_path, "034-x"):
        assert stat.S_IMODE((tmp_path / "owner.json").stat().st_mode) == 0o600


def test_a_garbled_owner_is_no_obstacle(tmp_path: Path) -> None:
    with MissionLock(tmp_path, "034-x"):
        (tmp_path / "owner.json").write_text("{")
        with pytest.raises(RunActive, match="034-x"):
            MissionLock(tmp_path, "034-x").acquire()


def test_a_folder_that_cannot_be_made_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="file/mission/lock cannot be locked"):
        MissionLock(tmp_path / "file" / "mission", "034-x").acquire()
