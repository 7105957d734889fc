"""The record of a mission's runs, one JSON object per line; a line that `append` returned for is on disk.

A crash can tear only what was being written: the last line. It is dropped when reading and cut off before the
next append, so the file never holds a broken line in its middle.
"""

import errno
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import anyio
from anyio import to_thread
from pydantic import Field, TypeAdapter

from spec_kitty_orchestrator.core.events import Event
from spec_kitty_orchestrator.errors import JournalError
from spec_kitty_orchestrator.ports import Entry, Line, RunAborted, RunEnded, RunStarted

SCHEMA = 1
"""Written on each run line; a reader refuses a higher one."""

_EVENT: Final = TypeAdapter[Event](Annotated[Event, Field(discriminator="kind")])
_RUN: Final = TypeAdapter(RunStarted)
_END: Final = TypeAdapter(RunEnded)
_ABORTED: Final = TypeAdapter(RunAborted)
_TIME: Final = TypeAdapter(datetime)

WORDS: Final = frozenset({"text", "detail", "message", "note", "summary", "reason", "output", "tail"})
"""Fields that hold what somebody said, and are redacted; names, paths and commits are never touched."""

_KINDS: Final = frozenset(member.kind for member in Event.__args__)

# Bytes of agent output that were not UTF-8; no JSON reader must be asked to accept them.
_SURROGATES = re.compile("[\ud800-\udfff]")


class SystemClock:
    """The machine's clock, in UTC."""

    def now(self) -> datetime:
        """Return the time in UTC, with its zone."""
        return datetime.now(UTC)


def private_directory(path: Path) -> None:
    """Create a folder that only its owner can enter and that git ignores; harmless to repeat.

    Raises:
        OSError: the folder cannot be made.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    ignore = path / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")


@dataclass(eq=False)
class _Waiting:
    """A line on its way to the disk; whoever holds the lock writes for everybody who waits."""

    data: bytes
    written: bool = False
    error: OSError | None = None


class JsonlJournal:
    """The journal in one folder, `journal.jsonl`; one writer at a time, any number of readers.

    Args:
        directory: of the mission's own; created at the first append.
        clean: takes out of a text what must not be kept.
    """

    def __init__(self, directory: Path, clean: Callable[[str], str] = str) -> None:
        self._clean = clean
        self.path = directory / "journal.jsonl"
        self._lock = anyio.Lock()
        self._waiting: list[_Waiting] = []
        self._mended = False

    async def append(self, line: Line) -> None:
        """Add one line; it is on disk on return.

        Raises:
            JournalError: the disk refused; nothing of the line is left in the file.
        """
        mine = _Waiting(_encode(line, self._clean))
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

    async def read(self) -> Sequence[Line]:
        """Return every whole line, oldest first.

        Raises:
            JournalError: a line that is not the last cannot be read, or a newer version wrote it.
        """
        return await to_thread.run_sync(self._read)

    def _write(self, batch: Sequence[_Waiting]) -> None:
        try:
            self._append_bytes(b"".join(waiting.data for waiting in batch))
        except OSError as error:
            for waiting in batch:
                waiting.error = error
        else:
            for waiting in batch:
                waiting.written = True

    def _append_bytes(self, data: bytes) -> None:
        if not self._mended:
            private_directory(self.path.parent)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if not self._mended:
                self._mend(descriptor)
            end = os.fstat(descriptor).st_size
            try:
                _write_whole(descriptor, data)
            except OSError:
                self._mended = False  # should the next line fail too, the next append cuts off the rest
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)

    def _mend(self, descriptor: int) -> None:
        """Cut off what an earlier process could not finish, and make the file's name durable."""
        content = self.path.read_bytes()
        whole = sum(len(line) + 1 for line in _whole_lines(content))
        if whole < len(content):
            os.ftruncate(descriptor, whole)
        for folder in (self.path.parent, self.path.parent.parent):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        self._mended = True

    def _read(self) -> list[Line]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise JournalError(
                f"{self.path} cannot be read: {error.strerror}; mend the permissions"
            ) from error
        lines: list[Line] = []
        for number, raw in enumerate(_whole_lines(content), start=1):
            try:
                lines.append(_decode(raw))
            except _NewerVersionError as newer:
                raise JournalError(
                    f"{self.path}, line {number}: {newer}: "
                    "a newer version of spec-kitty-orchestrator wrote it; go on with that version"
                ) from None
            except (ValueError, RecursionError) as error:
                raise JournalError(
                    f"{self.path}, line {number} is damaged: {_first_line(error)}; "
                    "move the file away to go on: the host has the lanes, only the attempts' history is lost"
                ) from None
        return lines


def _write_whole(descriptor: int, data: bytes) -> None:
    if os.write(descriptor, data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)


class _NewerVersionError(Exception):
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


def _encode(line: Line, clean: Callable[[str], str]) -> bytes:
    match line:
        case RunStarted():
            record = {"line": "run", "schema": SCHEMA, **asdict(line)}
        case Entry():
            record = {"line": "event", **asdict(line)}
        case RunEnded():
            record = {"line": "end", **asdict(line)}
        case RunAborted():
            record = {"line": "aborted", **asdict(line)}
    text = json.dumps(
        _cleaned(record, clean), ensure_ascii=False, separators=(",", ":"), default=datetime.isoformat
    )
    return _SURROGATES.sub("\ufffd", text).encode() + b"\n"


def _cleaned(value: object, clean: Callable[[str], str], *, said: bool = False) -> object:
    """Redact what was said, wherever it is in a record."""
    if isinstance(value, str):
        return clean(value) if said else value
    if isinstance(value, Mapping):
        return {key: _cleaned(item, clean, said=key in WORDS) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item, clean, said=said) for item in value]
    return value


def _decode(raw: bytes) -> Line:
    record = json.loads(raw)
    if not isinstance(record, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 - like every other damage
    match record.get("line"):
        case "run":
            schema = record.get("schema")
            if isinstance(schema, int) and schema > SCHEMA:
                raise _NewerVersionError(f"schema {schema} is not known")
            return _RUN.validate_python(record)
        case "event":
            return _entry(record)
        case "end":
            return _END.validate_python(record)
        case "aborted":
            return _ABORTED.validate_python(record)
        case str(other):
            raise _NewerVersionError(f"lines of type {other!r} are not known")
        case _:
            raise ValueError("it has no type")


def _entry(record: dict[str, object]) -> Entry:
    event = record.get("event")
    if isinstance(event, dict) and isinstance(kind := event.get("kind"), str) and kind not in _KINDS:
        raise _NewerVersionError(f"events of kind {kind!r} are not known")
    wp_id = record.get("wp_id")
    if not isinstance(wp_id, str):
        raise ValueError("it names no work package")  # noqa: TRY004 - like every other damage
    return Entry(_TIME.validate_python(record.get("at")), wp_id, _EVENT.validate_python(event))


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
