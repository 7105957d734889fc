"""Private files: written whole or not at all, and read without waiting and in bounded memory.

Whatever holds prompts or output is readable by its owner alone. A folder that an agent can write to may hold
anything under a name of ours, so what is no ordinary file counts as missing.
"""

import errno
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from threading import get_ident
from typing import BinaryIO

from spec_kitty_orchestrator.agents.json_lines import LONGEST_LINE
from spec_kitty_orchestrator.machine.patience import patiently_now

__all__ = [
    "LEFT_OUT",
    "PART",
    "discard",
    "is_text",
    "make_hidden_folder",
    "make_private_folder",
    "open_descriptor",
    "open_file",
    "read_lines",
    "read_record",
    "read_tail",
    "read_whole",
    "replacing",
    "without_middle",
    "write_private",
    "write_record",
]

PART = ".part"
"""Ends the name of what a write that was cut off has left."""

MOST_RECORD_BYTES = 4 * 1024 * 1024

_CUT_ESCAPE = re.compile(rb"(?<!\\)((?:\\\\)*)\\(?:u[0-9A-Fa-f]{0,3})?\Z")
_CLEAN_CUT = re.compile(rb"[A-Za-z0-9 ][A-Za-z0-9 ]|\n")
LEFT_OUT = " … ".encode()

_CHUNK_BYTES = 256 * 1024


def is_text(path: Path) -> bool:
    """Tell whether a path is UTF-8, so that a record can hold it and give it back."""
    with suppress(UnicodeDecodeError):
        os.fsencode(path).decode("utf-8")
        return True
    return False


def discard(descriptor: int) -> None:
    """Let what is still written to a descriptor whose reader is gone go nowhere, such as Python's last flush.

    Raises `OSError`.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def make_private_folder(path: Path) -> None:
    """Create a folder and its missing parents, each with mode 0700; existing ones keep theirs."""
    missing = [place for place in (path, *path.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(mode=0o700, exist_ok=True)


def make_hidden_folder(path: Path) -> None:
    """Create a folder that only its owner can enter and that git ignores. Raises `OSError`."""
    make_private_folder(path)
    path.chmod(0o700)
    ignore = path / ".gitignore"
    if not ignore.exists():
        # What we keep in the user's repository must never show up as uncommitted work, nor be committed.
        write_private(ignore, "*\n")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write that takes the place of another when the context ends well, and else is removed.

    It has mode 0600, and is there whole or not at all, also after a power failure. Raises `OSError`.
    """
    # Two threads of a program can put the same file in place.
    part = path.with_name(f".{path.name}.{os.getpid()}-{get_ident()}{PART}")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_private(path: Path, text: str) -> None:
    """Put a text in place; see `replacing`."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", "replace"))


def write_record(path: Path, record: Mapping[str, object]) -> None:
    """Put a JSON object in place, for programs and for people; see `replacing`."""
    write_private(path, json.dumps(record, indent=2, default=datetime.isoformat) + "\n")


def open_descriptor(path: Path, *, links: bool = False) -> int:
    """Open an ordinary file for reading, with `links` also through links. Raises `OSError`."""
    # A pipe would be waited for until somebody writes to it.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    descriptor = patiently_now(lambda: os.open(path, flags))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, "no ordinary file", str(path))
    return descriptor


def open_file(path: Path, *, links: bool = False) -> BinaryIO:
    """Open an ordinary file as `open_descriptor` does. Raises `OSError`."""
    return os.fdopen(open_descriptor(path, links=links), "rb", _CHUNK_BYTES)


def read_whole(path: Path, *, links: bool = False) -> bytes:
    """Return what an ordinary file holds; see `open_file`. Raises `OSError`."""
    with open_file(path, links=links) as file:
        return file.read()


def read_record(path: Path) -> bytes:
    """Return what a small file of ours holds. Raises `OSError`."""
    with open_file(path) as file:
        return file.read(MOST_RECORD_BYTES)


def read_tail(path: Path, limit: int) -> str:
    """Return the last `limit` bytes of a file as text, "" if it cannot be read."""
    with suppress(OSError), open_file(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
        return file.read(limit).decode("utf-8", "replace")
    return ""


def _ends_of(line: bytes, file: BinaryIO, half: int) -> bytes:
    """Return the beginning of a line, and its end, which is still to be read."""
    begun, end = line[:half], line[half:]
    while not end.endswith(b"\n") and (more := file.readline(_CHUNK_BYTES)):
        end = (end + more)[-half:]
    return without_middle(begun, end)


def without_middle(begun: bytes, end: bytes) -> bytes:
    """Join the ends of a line; neither is cut within an escape of JSON."""
    clean = _CLEAN_CUT.search(end)
    return _CUT_ESCAPE.sub(rb"\1", begun) + b"".join((LEFT_OUT, end[clean.end() - 1 :] if clean else b"\n"))


def read_lines(path: Path, limit: int = LONGEST_LINE) -> Iterator[str]:
    """Yield the lines of a file without their ends, one in memory at a time.

    Of a line of more than `limit` bytes the middle is left out: JSON stays JSON if that lies in one of its
    texts. A missing file has no lines.
    """
    try:
        file = open_file(path)
    except OSError:
        return
    with file:
        while line := file.readline(limit + 1):
            if len(line) > limit and not line.endswith(b"\n"):
                line = _ends_of(line, file, (limit - len(LEFT_OUT)) // 2)
            if len(line) < _CHUNK_BYTES:
                yield line.rstrip(b"\r\n").decode("utf-8", "replace")
                continue
            # No copies are kept while the caller works: a long line is in memory once.
            end = len(line) - (line.endswith(b"\r\n") + line.endswith(b"\n"))
            text = str(memoryview(line)[:end], "utf-8", "replace")
            del line
            yield text
            del text
