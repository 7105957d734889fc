"""`watch` as a command: where it works, where it cannot, and what it reads of a mission's files."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.cli.journals import SLUG, event, records, start_line, write_journal

from spec_kitty_orchestrator.app.logs import AttemptOutput
from spec_kitty_orchestrator.app.project import open_project
from spec_kitty_orchestrator.app.watch import END_BYTES, MissionWatch, OutputLog
from spec_kitty_orchestrator.core.model import Attempt, Evidence, Role
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.machine.lock import MissionLock

Project = Any

MISSION = {"slug": SLUG, "lanes": {"WP01": "planned", "WP02": "blocked"}, "dependencies": {}}
START = start_line(mission=MISSION | {"titles": {"WP01": "Lay the ground", "WP02": "Build"}})
END = {"line": "end", "at": "2026-01-02T03:05:05+00:00", "exit_code": 1, "summary": "over"}


def watch_of(project: Project) -> MissionWatch:
    return MissionWatch(open_project(project.root, {}, {}), SLUG)


def test_without_a_terminal_one_line_names_what_works_there(project: Project) -> None:
    write_journal(project, START)
    done = project.run("watch")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "needs a terminal" in line
    assert "`status`" in line
    assert "`events -f`" in line


class Terminal:
    """The command in a terminal of its own, as a process of its own."""

    def __init__(self, project: Project, *, env: dict[str, str] | None = None) -> None:
        self._end, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        command = [sys.executable, "-m", "spec_kitty_orchestrator", "watch"]
        given = {**os.environ, "TERM": "xterm-256color", **(env or {})}
        self.process = subprocess.Popen(
            command, cwd=project.root, env=given, stdin=child, stdout=child, stderr=child, close_fds=True
        )
        os.close(child)
        self.shown = ""

    def until(self, *words: str) -> str:
        """Read until all of these are shown; "" stands for the end."""
        while not all(word in self.shown for word in words):
            ready, _, _ = select.select([self._end], [], [], 60)
            assert ready, self.shown[-2000:]
            try:
                data = os.read(self._end, 65536)
            except OSError:
                data = b""
            if not data:
                break
            self.shown += data.decode("utf-8", "replace")
        assert all(word in self.shown for word in words), self.shown[-2000:]
        return self.shown

    def press(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def close(self) -> int:
        self.until("\x1b[?1049l")
        code = self.process.wait(60)
        while True:
            try:
                data = os.read(self._end, 65536)
            except OSError:
                data = b""
            if not data:
                break
            self.shown += data.decode("utf-8", "replace")
        os.close(self._end)
        return code


def test_in_a_terminal_it_shows_the_run_and_leaves_a_sentence_and_what_failed(project: Project) -> None:
    write_journal(project, START, END)
    terminal = Terminal(project)
    terminal.until("NEEDS YOU", "WP02", "quit")
    terminal.press("q")
    assert terminal.close() == 0
    _, left = terminal.shown.rsplit("\x1b[?1049l", 1)
    assert f"{SLUG}: 0 of 2 work packages are done; WP02 needs you" in left
    assert f"next: spec-kitty-orchestrator retry WP02 --mission {SLUG}" in " ".join(left.split())


def test_without_textual_one_line_says_so(project: Project, tmp_path: Path) -> None:
    write_journal(project, START)
    (tmp_path / "textual").mkdir()
    (tmp_path / "textual" / "__init__.py").write_text("raise ImportError('no textual here')")
    terminal = Terminal(project, env={"PYTHONPATH": str(tmp_path)})
    shown = terminal.until("cannot draw without textual", "`status`")
    assert terminal.process.wait(60) == 2
    assert "Traceback" not in shown
    assert len(shown.split("error: ")) == 2


def test_whether_the_run_is_alive_is_seen_by_its_lock(project: Project) -> None:
    write_journal(project, START)
    watch = watch_of(project)
    assert watch.look()
    assert not watch.report.active
    assert not watch.look()
    with MissionLock(records(project), SLUG):
        watch._asked_at = None
        assert watch.look()
        assert watch.report.active
    watch._asked_at = None
    assert watch.look()
    assert not watch.report.active


def test_what_is_new_in_the_journal_is_taken_and_a_torn_line_waited_for(project: Project) -> None:
    journal = write_journal(project, START)
    watch = watch_of(project)
    watch.look()
    with journal.open("a") as file:
        file.write('{"line": "event", "at"')
    assert not watch.look()
    assert watch.trouble == ""
    write_journal(project, START, event("WP01", "lane_seen", lane="done", dependencies=[]))
    assert watch.look()
    assert [one.id for one in watch.report.of(Status.DONE)] == ["WP01"]


def test_a_damaged_journal_is_told_and_what_was_known_is_kept(project: Project) -> None:
    journal = write_journal(project, START)
    watch = watch_of(project)
    watch.look()
    with journal.open("a") as file:
        file.write("}{\n" + '{"line": "end"}\n')
    assert watch.look()
    assert "line 2 is damaged" in watch.trouble
    assert len(watch.report.wps) == 2


def test_a_run_that_starts_over_is_shown_from_its_beginning(project: Project) -> None:
    journal = write_journal(project, START, END)
    watch = watch_of(project)
    watch.look()
    journal.rename(journal.with_name("journal-20260102T030405.000000Z.jsonl"))
    write_journal(project, start_line(mission=MISSION | {"lanes": {"WP07": "planned"}}))
    assert watch.look()
    assert [one.id for one in watch.report.wps] == ["WP07"]


@pytest.fixture
def output(project: Project) -> tuple[OutputLog, Path]:
    """Return the log of an attempt, and the file of its output."""
    directory = project.root / ".kittify" / "logs" / SLUG / "WP01" / "01-implement-scripted"
    directory.mkdir(parents=True)
    attempt = Attempt("a1", 1, Role.IMPLEMENT, "some-agent", str(directory))
    found = AttemptOutput(open_project(project.root, {}, {}), attempt)
    return OutputLog(found), directory / "stdout.log"


def texts(log: OutputLog) -> list[str]:
    return [one.text for one in log.steps]


def test_a_log_is_read_from_its_end_grows_and_gives_what_was_before(output: tuple[OutputLog, Path]) -> None:
    log, file = output
    assert not log.more()
    file.write_text("".join(f"line {number:06}\n" for number in range(200_000)))
    assert log.more()
    assert texts(log)[-1] == "line 199999"
    assert len(log.steps) <= END_BYTES // 12 + 1
    assert not log.whole
    with file.open("a") as more:
        more.write("one more\nand a torn")
    assert log.more()
    assert texts(log)[-1] == "one more"
    known = len(log.steps)
    assert log.earlier()
    assert len(log.steps) > known
    numbers = [int(one.split()[1]) for one in texts(log)[:-1]]
    assert numbers == list(range(numbers[0], 200_000))
    (file.parent / "exit").write_text("0")
    assert log.more()
    assert texts(log)[-1] == "and a torn"
    assert not log.more()


def test_a_flood_is_passed_over_to_its_end(output: tuple[OutputLog, Path]) -> None:
    log, file = output
    file.write_text("begin\n")
    log.more()
    with file.open("a") as more:
        more.write("x" * 100 + "\n")
        more.write("".join(f"flood {number}\n" for number in range(END_BYTES // 4)))
    assert log.more()
    assert texts(log)[-1] == f"flood {END_BYTES // 4 - 1}"
    assert "begin" not in texts(log)


def test_changes_that_git_does_not_know_are_told_in_words(project: Project) -> None:
    write_journal(project, START)
    watch = watch_of(project)
    told = anyio.run(watch.diff, Evidence("a" * 40, "b" * 40))
    assert "cannot be shown" in told
    assert anyio.run(watch.diff, Evidence("a" * 40, "a" * 40)) == ""
