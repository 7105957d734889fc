"""The record of a mission's runs, one JSON object per line; a line that `append` returned for is on disk.

A crash can tear only what was being written: the last line. It is dropped when reading and cut off before the
next append, so the file never holds a broken line in its middle. Paths below the repository's root are kept
relative to it, so a repository can be moved. A journal that somebody removed while we write it is put back.
"""

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from spec_kitty_orchestrator.core.bounds import fitted
from spec_kitty_orchestrator.core.documents import PATHS
from spec_kitty_orchestrator.core.run_events import Line
from spec_kitty_orchestrator.errors import JournalError
from spec_kitty_orchestrator.machine.decoder import Decoder, UnknownKindError
from spec_kitty_orchestrator.machine.files import make_hidden_folder, open_file, replacing

if TYPE_CHECKING:
    from anyio import Lock

    from spec_kitty_orchestrator.ports import OneLine

__all__ = ["JsonlJournal", "SystemClock", "archives"]

SCHEMA = 2
"""Written on each run line; a reader refuses any other."""

_CHUNK_BYTES = 1024 * 1024

Value = TypeVar("Value")

_LINES: Final = {kind.line: kind for kind in Line.__args__}

WORDS: Final = frozenset(
    {"text", "detail", "message", "note", "summary", "reason", "reasons", "why", "output", "tail", "titles"}
)
"""Fields that hold what somebody said, and are redacted; names, paths and commits are never touched."""

# Bytes of agent output that were not UTF-8; no JSON reader must be asked to accept them.
_SURROGATES = re.compile("[\ud800-\udfff]")


class SystemClock:
    """The machine's clock, in UTC."""

    def now(self) -> datetime:
        """Return the time in UTC, with its zone."""
        return datetime.now(UTC)


class _Waiting:
    """A line on its way to the disk; whoever holds the lock writes for everybody who waits."""

    def __init__(self, record: str, starts: bool) -> None:
        self.record, self.starts = record, starts
        self.numbers: Mapping[str, Any] = {}
        self.written = False
        self.error: OSError | None = None


class JsonlJournal:
    """The journal in one folder; one writer at a time, any number of readers.

    Args:
        directory: of the mission's own; created at the first append.
        root: of the repository; paths below it are kept relative to it.
        clean: takes out of a text what must not be kept.
        name: of the file; another one was put aside, and is only read.

    Attributes:
        begun: how often `look` began at the first line of a file.
    """

    def __init__(
        self, directory: Path, root: Path, clean: Callable[[str], str] = str, name: str = "journal.jsonl"
    ) -> None:
        self._root = root
        self._clean = clean
        self.path: Path = directory / name
        self._decoder = Decoder(dict.fromkeys(PATHS, self._absolute))
        self._waiting: list[_Waiting] = []
        self._mended = False
        self._descriptor = -1
        self._seq = self._number = 0
        self.begun: int = 0
        self._seen: tuple[int, ...] = ()
        self._offset = self._count = 0

    def __del__(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)

    async def append(self, line: "OneLine") -> "OneLine":
        """Add one line under the next sequence number; it is on disk on return.

        Raises:
            JournalError: the disk refused; nothing of the line is left in the file.
        """
        # Loaded only by a run: whoever looks into a journal should be told at once.
        from anyio import to_thread

        mine = _Waiting(self._encode(line), line.line == "run")
        self._waiting.append(mine)
        async with self._lock:
            if not mine.written and mine.error is None:
                batch, self._waiting = self._waiting, []
                await to_thread.run_sync(self._write, batch)
        if mine.error is not None:
            raise JournalError(
                f"{self.path} cannot be written: {mine.error.strerror or mine.error}; "
                "make room or mend the permissions and start again: the run resumes"
            ) from mine.error
        return replace(line, **mine.numbers)

    async def read(self) -> Sequence[Line]:
        """Return every whole line, oldest first.

        Raises:
            JournalError: a line that is not the last cannot be read, or another version wrote it.
        """
        from anyio import to_thread

        whole = JsonlJournal(self.path.parent, self._root, name=self.path.name)
        return await to_thread.run_sync(whole.look)

    @cached_property
    def _lock(self) -> "Lock":
        from anyio import Lock

        return Lock()

    def _write(self, batch: Sequence[_Waiting]) -> None:
        try:
            self._append(batch)
        except OSError as error:
            for waiting in batch:
                waiting.error = error
        else:
            for waiting in batch:
                waiting.written = True

    def _append(self, batch: Sequence[_Waiting]) -> None:
        if not self._mended:
            make_hidden_folder(self.path.parent)
        descriptor = self._opened()
        if not self._mended:
            self._mend(descriptor)
        end = os.fstat(descriptor).st_size
        try:
            _write_whole(descriptor, b"".join(map(self._numbered, batch)))
        except OSError:
            self._mended = False  # should the next line fail too, the next append cuts off the rest
            os.ftruncate(descriptor, end)
            raise

    def _opened(self) -> int:
        """Return the descriptor of the file that has the journal's name: the one that we wrote so far."""
        if self._descriptor < 0:
            self._descriptor = _open(self.path, os.O_CREAT)
            return self._descriptor
        try:
            found, ours = self.path.lstat(), os.fstat(self._descriptor)
        except FileNotFoundError:
            self._put_back()
        else:
            if (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino):
                raise OSError(errno.ESTALE, "another file took its place while the run went on")
        return self._descriptor

    def _put_back(self) -> None:
        make_hidden_folder(self.path.parent)
        with replacing(self.path) as file:
            for start in range(0, os.fstat(self._descriptor).st_size, _CHUNK_BYTES):
                file.write(os.pread(self._descriptor, _CHUNK_BYTES, start))
        lost, self._descriptor = self._descriptor, _open(self.path)
        os.close(lost)

    def _numbered(self, waiting: _Waiting) -> bytes:
        self._seq += 1
        waiting.numbers = {"seq": self._seq}
        numbers = f'{{"seq":{self._seq},'
        if waiting.starts:
            self._number += 1
            waiting.numbers = {"seq": self._seq, "number": self._number}
            numbers += f'"number":{self._number},"schema":{SCHEMA},'
        return _SURROGATES.sub("\ufffd", numbers + waiting.record[1:]).encode() + b"\n"

    def _mend(self, descriptor: int) -> None:
        """Cut off what an earlier process could not finish, and make the file's name durable."""
        with os.fdopen(os.dup(descriptor), "rb") as file:
            file.seek(0)
            content = file.read()
        lines = _whole_lines(content)
        whole = sum(len(line) + 1 for line in lines)
        if whole < len(content):
            os.ftruncate(descriptor, whole)
        self._seq, self._number = _last_numbers(lines)
        if not lines:
            # Whoever reads on from a number misses nothing when a run starts over.
            self._seq = max(map(_last_seq, archives(self.path.parent)), default=0)
        for folder in (self.path.parent, self.path.parent.parent):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        self._mended = True

    def last(self) -> int:
        """Return the number of the last line of the mission's journals, 0 if there is none. It blocks."""
        return max(map(_last_seq, (self.path, *archives(self.path.parent))))

    def look(self) -> list[Line]:
        """Return the whole lines that were added since the last look: at the first all of them. It blocks.

        Should another file take the journal's place, they are all lines of that one, and `begun` is greater.

        Raises:
            JournalError: see `read`; the next look goes on behind what cannot be read.
        """
        try:
            found = self.path.stat()
            seen = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
            if seen == self._seen:
                return []
            if seen[:2] != self._seen[:2] or found.st_size < self._offset:
                self._offset = self._count = 0
                self.begun += 1
            with open_file(self.path) as file:
                file.seek(self._offset)
                raws = _whole_lines(file.read())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise JournalError(
                f"{self.path} cannot be read: {error.strerror}; mend the permissions"
            ) from error
        first, self._seen = self._count + 1, seen
        self._offset += sum(len(raw) + 1 for raw in raws)
        self._count += len(raws)
        return self._decoded(raws, first)

    def _decoded(self, raws: Sequence[bytes], first: int) -> list[Line]:
        lines: list[Line] = []
        for number, raw in enumerate(raws, start=first):
            try:
                lines.append(self.decode(raw))
            except _OtherVersionError as other:
                raise JournalError(
                    f"{self.path}, line {number}: {other}; go on with the version of spec-kitty-orchestrator "
                    "that wrote it, or start over with `orchestrate --fresh`, which puts the file aside"
                ) from None
            except (ValueError, RecursionError) as error:
                raise JournalError(
                    f"{self.path}, line {number} is damaged: {_first_line(error)}; "
                    "move the file away to go on: the host has the lanes, only the attempts' history is lost"
                ) from None
        return lines

    def _encode(self, line: Line) -> str:
        record = {"line": line.line, **asdict(_with_paths(fitted(line), self._relative))}
        # They are told when the line is written.
        for name in ("seq", "number"):
            record.pop(name, None)
        kept = _cleaned(record, self._clean)
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":"), default=datetime.isoformat)

    def decode(self, raw: bytes | str) -> Line:
        """Return one line of the file. Raises `ValueError` if it is damaged."""
        record = json.loads(raw)
        if not isinstance(record, dict):
            raise ValueError("it is not an object")  # noqa: TRY004 - like every other damage
        kind = record.get("line")
        if not isinstance(kind, str):
            raise ValueError("it has no type")  # noqa: TRY004 - like every other damage
        if kind not in _LINES:
            raise _OtherVersionError(f"lines of type {kind!r} are not known here")
        if kind == "run" and (schema := record.get("schema")) != SCHEMA:
            raise _OtherVersionError(f"its schema is {schema}, but this version reads and writes {SCHEMA}")
        try:
            line: Line = self._decoder.record(_LINES[kind], record)
        except UnknownKindError as error:
            raise _OtherVersionError(f"events of kind {str(error)!r} are not known here") from None
        return line

    def _relative(self, path: str) -> str:
        return str(Path(path).relative_to(self._root)) if Path(path).is_relative_to(self._root) else path

    def _absolute(self, path: str) -> str:
        return str(self._root / path)


def _open(path: Path, more: int = 0) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(path, flags | more, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no ordinary file")
    return descriptor


def _write_whole(descriptor: int, data: bytes) -> None:
    if os.write(descriptor, data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)


class _OtherVersionError(ValueError):
    """A line that this version cannot know."""


def _whole_lines(content: bytes) -> list[bytes]:
    """Return the lines without the torn end: no newline, or a last line that is not JSON."""
    lines = content.split(b"\n")[:-1]
    if lines:
        try:
            json.loads(lines[-1])
        except (ValueError, RecursionError):
            lines.pop()
    return lines


def _last_numbers(lines: Sequence[bytes]) -> tuple[int, int]:
    """Return the sequence number of a journal's last line, and the number of its last start."""
    seq = number = 0
    for line in lines:
        # Whoever reads the journal is told of a damaged line.
        with suppress(ValueError, RecursionError, TypeError, AttributeError):
            record = json.loads(line)
            seq = max(seq, record.get("seq", 0))
            number = max(number, record.get("number", 0))
    return seq, number


def archives(directory: Path) -> Sequence[Path]:
    """Return the journals of a mission that were put aside, the oldest first."""
    return sorted(directory.glob("journal-*.jsonl"))


def _last_seq(file: Path) -> int:
    with suppress(OSError), open_file(file) as content:
        return _last_numbers(_whole_lines(content.read()))[0]
    return 0


def _cleaned(value: object, clean: Callable[[str], str], *, said: bool = False) -> object:
    """Redact what was said, wherever it is in a record."""
    if isinstance(value, str):
        return clean(value) if said else value
    if isinstance(value, Mapping):
        return {key: _cleaned(item, clean, said=said or key in WORDS) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item, clean, said=said) for item in value]
    return value


def _with_paths(value: Value, change: Callable[[str], str]) -> Value:
    """Change every path in a record that is not empty."""
    if isinstance(value, tuple):
        return type(value)(_with_paths(item, change) for item in value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    old = {one.name: getattr(value, one.name) for one in fields(value)}
    new = {name: (_moved if name in PATHS else _with_paths)(item, change) for name, item in old.items()}
    return replace(value, **new) if new != old else value


def _moved(paths: Any, change: Callable[[str], str]) -> Any:
    return tuple(map(change, paths)) if isinstance(paths, tuple) else paths and change(paths)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
