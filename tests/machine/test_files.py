"""Private files, written whole or not at all, and bounded reading."""

import json
import os
import stat
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pytest

from spec_kitty_orchestrator.machine import files


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_private_file_is_readable_by_its_owner_alone_even_over_an_open_one(tmp_path: Path) -> None:
    path = tmp_path / "prompt.md"
    path.write_text("old")
    path.chmod(0o644)

    files.write_private(path, "new é\n")

    assert path.read_text(encoding="utf-8") == "new é\n"
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_text_that_is_not_unicode_does_not_stop_a_private_file(tmp_path: Path) -> None:
    files.write_private(tmp_path / "prompt.md", "half a pair: \ud800.")

    assert (tmp_path / "prompt.md").read_text() == "half a pair: ?."


def test_a_private_file_that_cannot_be_put_in_place_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()

    with pytest.raises(OSError, match="taken"):
        files.write_private(tmp_path / "taken", "text")

    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_the_tail_of_a_file_is_its_last_bytes_and_a_missing_file_has_none(tmp_path: Path) -> None:
    (tmp_path / "stderr.log").write_bytes(b"first\nlast \xff\n")

    assert files.read_tail(tmp_path / "stderr.log", 7) == "last \N{REPLACEMENT CHARACTER}\n"
    assert files.read_tail(tmp_path / "stderr.log", 1000).startswith("first")
    assert files.read_tail(tmp_path / "nothing", 7) == ""


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"a\nb", ["a", "b"]),
        (b"a\r\n\n b \n", ["a", "", " b "]),
        (b"12345678\n", ["12345678"]),
        (b"12345678", ["12345678"]),
        (b"123456789\nb\n", ["1 … ", "b"]),
        (b"a\n123456789", ["a", "1 … 3456789"]),
        (b"a\n" + b"x" * 1_000_000 + b"\nb\n", ["a", "x … ", "b"]),
        (b"\xff\n", ["\N{REPLACEMENT CHARACTER}"]),
    ],
)
def test_lines_are_read_without_their_ends_and_overlong_ones_without_their_middle(
    tmp_path: Path, content: bytes, lines: list[str]
) -> None:
    (tmp_path / "stdout.log").write_bytes(content)

    assert list(files.read_lines(tmp_path / "stdout.log", limit=8)) == lines


@pytest.mark.parametrize("filling", ["word ", '\\"', "\\\\", "\\u00e9", "\u00e9", '\\\\\\"x'])
def test_of_a_huge_text_in_json_the_middle_is_left_out_and_it_stays_json(
    tmp_path: Path, filling: str
) -> None:
    for shift in range(8):
        line = '{"a": "' + "x" * shift + filling * 2_000 + ' and this is the end", "b": 1}'
        (tmp_path / "stdout.log").write_text(line + "\n")

        (read,) = files.read_lines(tmp_path / "stdout.log", limit=2_000)

        assert len(read) < 2_100
        assert json.loads(read)["b"] == 1
        assert json.loads(read)["a"].endswith("the end")


def test_a_missing_file_has_no_lines(tmp_path: Path) -> None:
    assert list(files.read_lines(tmp_path / "stdout.log")) == []


@pytest.mark.parametrize("line_bytes", [10_000, 4_000_000, 60_000_000])
def test_reading_a_flood_takes_little_memory(tmp_path: Path, line_bytes: int) -> None:
    flood = tmp_path / "stdout.log"
    with flood.open("wb") as file:
        line = b"x" * (line_bytes - 1) + b"\n"
        block = line * max(1, 4_000_000 // line_bytes)
        while file.tell() < 60_000_000:
            file.write(block)
        file.write(b"the end\n")
        del line, block
    last = ""

    tracemalloc.start()
    try:
        for text in files.read_lines(flood):
            last = text
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert last == "the end"
    assert peak < 20_000_000


@pytest.mark.parametrize("begin", ["pipe", "link", "folder"])
def test_what_is_no_ordinary_file_counts_as_missing_and_is_not_waited_for(tmp_path: Path, begin: str) -> None:
    path = tmp_path / "stdout.log"
    (tmp_path / "secret").write_text("of others")
    {"pipe": os.mkfifo, "link": lambda it: it.symlink_to(tmp_path / "secret"), "folder": Path.mkdir}[begin](
        path
    )

    assert files.read_tail(path, 100) == ""
    assert list(files.read_lines(path)) == []
    with pytest.raises(OSError):  # noqa: PT011 - whichever the system has for it
        files.read_record(path)


def test_a_hidden_folder_is_made_private_and_ignored_when_it_was_not(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "mission"
    folder.mkdir(parents=True, mode=0o755)
    files.make_hidden_folder(folder)
    assert mode(folder) == 0o700
    assert (folder / ".gitignore").read_text() == "*\n"


def test_a_record_tells_times_too(tmp_path: Path) -> None:
    files.write_record(tmp_path / "owner.json", {"pid": 1, "at": datetime(2026, 1, 1, tzinfo=UTC)})
    assert json.loads((tmp_path / "owner.json").read_bytes()) == {"pid": 1, "at": "2026-01-01T00:00:00+00:00"}
