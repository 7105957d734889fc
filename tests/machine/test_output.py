"""The output of an attempt while it grows: its clock, its end, and following it."""

import json
import os
import stat
import tracemalloc
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from spec_kitty_orchestrator.agents.json_lines import LONGEST_LINE
from spec_kitty_orchestrator.machine import output
from spec_kitty_orchestrator.machine.output import Clock, follow, note_growth, tail_lines
from spec_kitty_orchestrator.machine.process_id import Child
from spec_kitty_orchestrator.machine.process_tree import Row
from spec_kitty_orchestrator.machine.watchdog import Signs

AT = datetime(2026, 11, 22, 12, 0, 3, tzinfo=UTC)
SECOND = 1_000_000_000


def write(path: Path, text: str | bytes, at: float = 0.0) -> None:
    """Add to a file, as if `at` seconds after `AT`."""
    with path.open("ab") as file:
        file.write(text.encode() if isinstance(text, str) else text)
    ns = int((AT.timestamp() + at) * SECOND)
    os.utime(path, ns=(ns, ns))


def looked_at(directory: Path) -> Callable[[], bool]:
    signs = Signs(Child(10, 100.0), "no-such-marker", directory, directory)
    return lambda: signs.cheap({10: Row(10, 1, 10, 100.0, 0.0)}, 10.0)


def test_who_looks_after_an_attempt_keeps_when_its_output_came(tmp_path: Path) -> None:
    look = looked_at(tmp_path)
    log = tmp_path / "stdout.log"
    write(log, "x" * 10)
    look()
    write(log, "x" * 20, at=5)
    look()
    look()
    write(log, "x" * 30, at=9)

    clock = Clock(tmp_path)
    times = [clock.at(offset) for offset in (0, 10, 11, 30, 31, 60, 61)]
    assert [one and (one - AT).total_seconds() for one in times] == [0, 0, 5, 5, 9, 9, None]
    assert len((tmp_path / "stdout.times").read_text().splitlines()) == 2
    assert stat.S_IMODE((tmp_path / "stdout.times").stat().st_mode) == 0o600


def test_what_else_moves_is_not_kept(tmp_path: Path) -> None:
    look = looked_at(tmp_path)
    write(tmp_path / "stderr.log", "x")
    look()
    (tmp_path / "stdout.log").touch()
    look()
    assert not (tmp_path / "stdout.times").exists()


@pytest.mark.parametrize("kept", [b"", b"\xff\n12\n1 2 3\n-1 5\n9 " + b"9" * 60 + b"\n", b"9" * 40 + b" 1\n"])
def test_an_unreadable_clock_tells_nothing_and_does_no_harm(tmp_path: Path, kept: bytes) -> None:
    (tmp_path / "stdout.times").write_bytes(kept)
    assert Clock(tmp_path).at(5) in (None, datetime.fromtimestamp(0.001, UTC))
    assert Clock(tmp_path / "nothing").at(0) is None


def test_a_clock_is_bounded_and_never_follows_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MOST_TIMES_BYTES", 40)
    for size in range(100):
        note_growth(tmp_path, size, size)
    assert (tmp_path / "stdout.times").stat().st_size < 50
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "stdout.times").symlink_to(tmp_path / "target")
    note_growth(tmp_path / "other", 1, 1)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    ("content", "count", "texts", "offset"),
    [
        (b"", 3, [], 0),
        (b"a\nb\nc\nd\n", 2, ["c", "d"], 8),
        (b"a\r\n\nb\ntorn", 2, ["", "b"], 6),
        (b"a\nb\n", 9, ["a", "b"], 4),
        (b"torn", 2, [], 0),
        (b"\xff\n", 1, ["\N{REPLACEMENT CHARACTER}"], 2),
    ],
)
def test_the_last_lines_are_whole_ones_with_the_place_from_which_to_follow(
    tmp_path: Path, content: bytes, count: int, texts: list[str], offset: int
) -> None:
    (tmp_path / "log").write_bytes(content)
    lines, begin = tail_lines(tmp_path / "log", count)
    assert ([one.text for one in lines], begin) == (texts, offset)
    assert [one.end for one in lines][-1:] == ([offset] if texts else [])


def test_the_last_lines_of_something_else_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert tail_lines(tmp_path / "pipe", 3) == tail_lines(tmp_path / "nothing", 3) == ((), 0)


def test_the_end_of_a_huge_log_costs_no_more_than_that_of_a_small_one(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        file.truncate(100 * 1024 * 1024)
        file.seek(0, os.SEEK_END)
        file.write(b"\nlast but one\nlast\n")
    tracemalloc.start()
    try:
        lines, begin = tail_lines(log, 2)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [one.text for one in lines] == ["last but one", "last"]
    assert begin == log.stat().st_size
    assert most < 1024 * 1024


def test_an_end_without_a_break_is_read_in_bounded_memory(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * 1_000_000)
    assert tail_lines(tmp_path / "log", 2, most_bytes=200_000)[0] == []


Step = Callable[[], object]


async def followed(path: Path, steps: list[Step], offset: int = 0) -> list[tuple[str, int]]:
    """Follow a file while each step is taken when everything before it was read."""
    left = iter(steps)

    async def wait() -> bool:
        await anyio.lowlevel.checkpoint()
        step = next(left, None)
        if step is not None:
            step()
        return step is not None

    with anyio.fail_after(20):
        async with aclosing(follow(path, offset, wait)) as lines:
            return [(line.text, line.end) async for line in lines]


@pytest.mark.asyncio
async def test_a_file_is_followed_by_whole_lines_from_any_byte_to_its_torn_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    steps: list[Step] = [
        lambda: write(log, "seen\nfirst\nsec"),
        lambda: write(log, "ond\r\n"),
        lambda: None,
        lambda: write(log, "torn"),
    ]
    assert await followed(log, steps, 5) == [("first", 11), ("second", 19), ("torn", 23)]


@pytest.mark.asyncio
async def test_what_comes_with_the_last_word_that_nothing_more_comes_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write(log, "one\n")

    async def wait() -> bool:
        write(log, "two\n")
        return False

    async with aclosing(follow(log, 0, wait)) as lines:
        assert [line.text async for line in lines] == ["one", "two"]


@pytest.mark.asyncio
async def test_a_file_that_never_comes_has_no_lines(tmp_path: Path) -> None:
    assert await followed(tmp_path / "log", [lambda: None]) == []


@pytest.mark.asyncio
async def test_a_file_that_was_cut_off_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write(log, "long before\nhal")
    steps: list[Step] = [lambda: log.write_text("new\n")]
    assert await followed(log, steps) == [("long before", 12), ("new", 4)]


@pytest.mark.asyncio
async def test_a_file_that_is_replaced_by_a_copy_without_secrets_is_read_to_its_end_and_is_over(
    tmp_path: Path,
) -> None:
    log, copy = tmp_path / "log", tmp_path / "copy"
    write(log, "secret\n")

    def replaced() -> None:
        write(log, "last\n")
        write(copy, "[redacted]\nlast\n")
        copy.replace(log)

    def too_late() -> None:
        raise AssertionError

    assert await followed(log, [replaced, too_late]) == [("secret", 7), ("last", 12)]


@pytest.mark.asyncio
async def test_a_file_that_is_removed_is_over(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write(log, "a\n")
    assert await followed(log, [log.unlink, lambda: None]) == [("a", 2)]


@pytest.mark.asyncio
async def test_of_a_line_without_end_the_ends_are_kept_and_json_stays_json(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write(log, json.dumps({"begin": 1, "text": "x y " * LONGEST_LINE, "end": 2}) + "\nnext\n")
    (first, _), (second, end) = await followed(log, [])
    assert len(first) <= LONGEST_LINE
    assert [json.loads(first)[name] for name in ("begin", "end")] == [1, 2]
    assert (second, end) == ("next", log.stat().st_size)


@pytest.mark.asyncio
async def test_a_pipe_in_the_place_of_a_log_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    with pytest.raises(OSError, match="no ordinary file"):
        await followed(tmp_path / "log", [])
