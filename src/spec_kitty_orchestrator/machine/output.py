"""The output of an attempt while it grows: when each part of it came, its end, and what is added to it.

Its size costs nothing: an end is read from behind, and who follows reads what is new.
"""

import os
from bisect import bisect_left
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from spec_kitty_orchestrator.agents.json_lines import LONGEST_LINE
from spec_kitty_orchestrator.core.records import dataclass
from spec_kitty_orchestrator.machine.files import LEFT_OUT, open_descriptor, open_file, without_middle

__all__ = [
    "STDOUT",
    "Clock",
    "GrowingOutput",
    "OutputLine",
    "follow",
    "lines_before",
    "note_growth",
    "read_lines",
    "tail_lines",
]

STDOUT = "stdout.log"
TIMES = "stdout.times"
"""Beside it, a line for each time it was seen to have grown: its size, and when it was written, in ms."""

MOST_TIMES_BYTES = 1024 * 1024
"""Of `TIMES`: enough for four days of looks."""
MOST_TAIL_BYTES = 8 * 1024 * 1024
"""Read for an end, however many lines of it are wanted."""

_CHUNK_BYTES = 128 * 1024
_FEW_BYTES = 4 * 1024
"""The last lines are looked for in four times as much at first, and four times as much again."""
_HALF = (LONGEST_LINE - len(LEFT_OUT)) // 2


def note_growth(directory: Path, size: int, written_ns: int) -> None:
    """Keep when an attempt's output had grown to `size` bytes; without room for that, it is not kept."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with suppress(OSError):
        descriptor = os.open(directory / TIMES, flags, 0o600)
        try:
            if os.fstat(descriptor).st_size < MOST_TIMES_BYTES:
                os.write(descriptor, f"{size} {written_ns // 1_000_000}\n".encode())
        finally:
            os.close(descriptor)


class Clock:
    """Tells when a part of an attempt's output was there; some seconds late, as it is looked at seldom."""

    def __init__(self, directory: Path) -> None:
        """Read what was kept; anything unreadable in it is left out."""
        seen: list[tuple[int, int]] = []
        with suppress(OSError), open_file(directory / TIMES) as file:
            for line in file.read(2 * MOST_TIMES_BYTES).splitlines():
                size, _, ms = line.partition(b" ")
                if size.isdigit() and ms.isdigit() and len(line) < 64:
                    seen.append((int(size), int(ms)))
        with suppress(OSError):
            status = (directory / STDOUT).lstat()
            seen.append((status.st_size, status.st_mtime_ns // 1_000_000))
        # Two of us may have looked for a moment.
        self._seen = sorted(seen)

    def at(self, offset: int) -> datetime | None:
        """Return when the bytes before `offset` were there, None if that is not known."""
        place = bisect_left(self._seen, (offset, 0))
        with suppress(IndexError, ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(self._seen[place][1] / 1000, UTC)
        return None


@dataclass(frozen=True)
class OutputLine:
    """A line of a file, without what ends it; of one beyond `LONGEST_LINE` bytes the middle is left out.

    Attributes:
        end: offset of the byte behind it.
    """

    text: str
    end: int


class _Splitter:
    """Cuts bytes into lines; of the line that is not complete it keeps no more than `LONGEST_LINE` bytes."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self._begun = bytearray()
        self._end: bytes | None = None

    def feed(self, data: bytes) -> list[OutputLine]:
        """Return the lines that are complete with these bytes."""
        *whole, rest = data.split(b"\n")
        lines = []
        for piece in whole:
            self._add(piece + b"\n")
            lines.append(self._line())
        self._add(rest)
        return lines

    def finish(self) -> list[OutputLine]:
        """Return the line that nothing ends, if there is one."""
        return [self._line()] if self._begun else []

    def _add(self, piece: bytes) -> None:
        self.offset += len(piece)
        if self._end is not None:
            self._end = (self._end + piece)[-_HALF:]
        elif len(self._begun) + len(piece) <= LONGEST_LINE:
            self._begun += piece
        else:
            self._end = (bytes(self._begun[_HALF:]) + piece)[-_HALF:]
            del self._begun[_HALF:]

    def _line(self) -> OutputLine:
        line = bytes(self._begun)
        if self._end is not None:
            line = without_middle(line, self._end)
        self._begun, self._end = bytearray(), None
        return OutputLine(line.rstrip(b"\r\n").decode("utf-8", "replace"), self.offset)


def read_lines(path: Path) -> Iterator[OutputLine]:
    """Yield the lines of a file as it is now, one in memory at a time; none where it cannot be read."""
    with suppress(OSError), open_file(path) as file:
        lines = _Splitter(0)
        while chunk := file.read(_CHUNK_BYTES):
            yield from lines.feed(chunk)
        yield from lines.finish()


def tail_lines(path: Path, count: int, most_bytes: int = MOST_TAIL_BYTES) -> tuple[Sequence[OutputLine], int]:
    """Return the last whole lines of a file, and the offset from which to follow it.

    Not for the event loop. They are fewer where `most_bytes` hold no more, none where it cannot be read.
    """
    with suppress(OSError), open_file(path) as file:
        start = size = os.fstat(file.fileno()).st_size
        chunks: list[bytes] = []
        breaks, length = 0, _FEW_BYTES
        while start > 0 and breaks <= count and size - start < most_bytes:
            length = min(4 * length, _CHUNK_BYTES, start)
            start -= length
            file.seek(start)
            chunks.append(file.read(length))
            breaks += chunks[-1].count(b"\n")
        data = b"".join(reversed(chunks))
        whole = data[: data.rfind(b"\n") + 1]
        until = start + len(whole)
        if start > 0:
            whole = whole[whole.find(b"\n") + 1 :]
        begun = len(whole)
        for _ in range(count):
            begun = whole.rfind(b"\n", 0, max(0, begun - 1)) + 1
        return _Splitter(until - len(whole) + begun).feed(whole[begun:]), until
    return (), 0


def lines_before(path: Path, until: int | None, most_bytes: int) -> tuple[int, Sequence[OutputLine]]:
    """Return the whole lines that end before a byte, or the file's end, as far as so many bytes hold them.

    Not for the event loop. Of a line that is longer than that, nothing is returned.

    Returns:
        The offset of the first one's beginning: what is before it was not read. And the lines.
    """
    with suppress(OSError), open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        until = size if until is None else min(until, size)
        start = max(0, until - most_bytes)
        file.seek(start)
        data = file.read(until - start)
        begun = data.find(b"\n") + 1 if start else 0
        return start + begun, _Splitter(start + begun).feed(data[begun:])
    return 0, ()


class GrowingOutput:
    """A file of which each look gives the lines that are new, unless they are too many."""

    def __init__(self, path: Path, offset: int) -> None:
        """Begin at a byte that begins a line."""
        self._path = path
        self._lines = _Splitter(offset)

    def look(self, most_bytes: int) -> Sequence[OutputLine] | None:
        """Return the lines that were completed since the last look; it blocks for as long as reading takes.

        None if the file was cut off or grew by more bytes than that: then its end is to be read anew.
        """
        with suppress(OSError):
            size = self._path.stat().st_size
            if size == self._lines.offset:
                return ()
            if not 0 < size - self._lines.offset <= most_bytes:
                return None
            with open_file(self._path) as file:
                file.seek(self._lines.offset)
                return self._lines.feed(file.read(most_bytes))
        return ()

    def finish(self) -> Sequence[OutputLine]:
        """Return the last line if nothing ends it: nothing more comes."""
        return self._lines.finish()


async def follow(
    path: Path, offset: int, wait: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[OutputLine, None]:
    """Yield the lines of a file from a byte on as they are written; one that nothing ends comes at the end.

    A file that does not exist yet is waited for, and one that was cut off is read from its beginning. One
    that another takes the place of is over: that is a copy of it without secrets.

    Args:
        path: of the file.
        offset: of the beginning of a line.
        wait: returns when there may be more, and whether there can be any after what there is then.

    Raises:
        OSError: it cannot be read.
    """
    # Loaded only where a file is followed.
    import aiofiles
    import anyio.to_thread

    goes_on = True
    while not await anyio.to_thread.run_sync(os.path.lexists, path):
        if not goes_on:
            return
        goes_on = await wait()
    async with aiofiles.open(path, "rb", buffering=0, opener=_opener) as file:
        lines = _Splitter(offset)
        while True:
            size = await anyio.to_thread.run_sync(_size, path, file.fileno())
            if 0 <= size < lines.offset:
                lines = _Splitter(0)
            if size != lines.offset:
                await file.seek(lines.offset)
                while chunk := await file.read(_CHUNK_BYTES):
                    for line in lines.feed(chunk):
                        yield line
            if not goes_on or size < 0:
                break
            goes_on = await wait()
        for line in lines.finish():
            yield line


def _opener(path: str, _flags: int) -> int:
    return open_descriptor(Path(path))


def _size(path: Path, descriptor: int) -> int:
    """Return the size of an open file, -1 if its name is not its own any more."""
    ours = os.fstat(descriptor)
    try:
        found = path.lstat()
    except FileNotFoundError:
        return -1
    return ours.st_size if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino) else -1
