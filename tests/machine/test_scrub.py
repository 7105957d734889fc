"""The files of an ended attempt: no secret stays, nothing else changes, and an interruption loses nothing."""

import os
import stat
import tracemalloc
from pathlib import Path

import pytest

from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.machine.scrub import scrub_directory, scrub_file, scrub_unreported

REDACTOR = Redactor(["the-secret-1"])


@pytest.fixture
def attempt(tmp_path: Path) -> Path:
    directory = tmp_path / "01-implement-py"
    directory.mkdir()
    (directory / "prompt.md").write_text("the-secret-1")
    (directory / "stdout.log").write_text("before the-secret-1 after\n")
    (directory / "stderr.log").write_bytes(b"nothing \xff here\n")
    return directory


def test_secrets_leave_every_file_but_the_prompt(attempt: Path) -> None:
    (attempt / "last-message.txt").write_text("the-secret-1")
    (attempt / "stdout.log").chmod(0o644)

    assert scrub_directory(attempt, REDACTOR) == 2

    assert (attempt / "stdout.log").read_text() == "before [redacted] after\n"
    assert (attempt / "last-message.txt").read_text() == "[redacted]"
    assert (attempt / "prompt.md").read_text() == "the-secret-1"
    assert stat.S_IMODE((attempt / "stdout.log").stat().st_mode) == 0o600


def test_a_file_without_secrets_is_not_touched(attempt: Path) -> None:
    before = (attempt / "stderr.log").stat()

    scrub_directory(attempt, REDACTOR)

    after = (attempt / "stderr.log").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_scrubbing_again_finds_nothing(attempt: Path) -> None:
    scrub_directory(attempt, REDACTOR)

    assert scrub_directory(attempt, REDACTOR) == 0
    assert sorted(path.name for path in attempt.iterdir()) == ["prompt.md", "stderr.log", "stdout.log"]


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_an_interruption_leaves_the_old_file_and_the_next_time_does_it(
    attempt: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(step, die)
        with pytest.raises(KeyboardInterrupt):
            scrub_file(attempt / "stdout.log", REDACTOR)
    assert (attempt / "stdout.log").read_text() == "before the-secret-1 after\n"

    scrub_directory(attempt, REDACTOR)
    assert (attempt / "stdout.log").read_text() == "before [redacted] after\n"


def test_what_a_killed_scrub_left_is_removed(attempt: Path) -> None:
    (attempt / ".stderr.log.123.part").write_text("half of it")

    scrub_directory(attempt, REDACTOR)

    assert not (attempt / ".stderr.log.123.part").exists()


def test_links_and_pipes_are_left_alone(attempt: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("the-secret-1")
    (attempt / "link").symlink_to(outside)
    os.mkfifo(attempt / "pipe")
    (attempt / "folder").mkdir()

    scrub_directory(attempt, REDACTOR)

    assert outside.read_text() == "the-secret-1"
    assert (attempt / "link").is_symlink()
    assert stat.S_ISFIFO((attempt / "pipe").stat().st_mode)


def test_a_file_that_cannot_be_replaced_does_not_keep_the_others_from_it(
    attempt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (attempt / "a.log").write_text("the-secret-1")
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if target.name == "a.log":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        scrub_directory(attempt, REDACTOR)

    assert (attempt / "stdout.log").read_text() == "before [redacted] after\n"
    assert sorted(path.name for path in attempt.iterdir()) == [
        "a.log",
        "prompt.md",
        "stderr.log",
        "stdout.log",
    ]


def test_a_flood_is_scrubbed_in_little_memory(attempt: Path) -> None:
    with (attempt / "stdout.log").open("wb") as file:
        for _ in range(100):
            file.write(b"a line of a log, and many more of them\n" * 8_000)
        file.write(b"the-secret-1\n")
    tracemalloc.start()
    try:
        assert scrub_file(attempt / "stdout.log", REDACTOR)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (attempt / "stdout.log").read_bytes().endswith(b"more of them\n[redacted]\n")
    assert peak < 4_000_000


def test_of_a_mission_only_attempts_without_a_report_are_scrubbed(tmp_path: Path) -> None:
    for number in ("01", "02"):
        directory = tmp_path / "WP01" / f"{number}-implement-py"
        directory.mkdir(parents=True)
        (directory / "command.json").write_text("{}")
        (directory / "stdout.log").write_text("the-secret-1")
    (tmp_path / "WP01/01-implement-py/result.json").write_text("{}")

    assert scrub_unreported(tmp_path, REDACTOR) == 1

    assert (tmp_path / "WP01/02-implement-py/stdout.log").read_text() == "[redacted]"
