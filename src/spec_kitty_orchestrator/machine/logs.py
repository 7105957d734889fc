"""Attempt directories, private files and the log of a run.

Whatever holds prompts or output is readable by its owner alone, and no reader here needs memory in
proportion to what an agent printed.
"""

import hashlib
import logging
import logging.handlers
import os
import queue
import re
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import structlog

from spec_kitty_orchestrator.agents.json_lines import LONGEST_LINE
from spec_kitty_orchestrator.core.model import Role
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.log import LOGGER_NAME
from spec_kitty_orchestrator.machine.redaction import Redactor

_CHUNK_BYTES = 256 * 1024


def make_private_directory(path: Path) -> None:
    """Create a directory and its missing parents, each with mode 0700; existing ones keep theirs."""
    missing = [place for place in (path, *path.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(mode=0o700, exist_ok=True)


def write_private(path: Path, text: str) -> None:
    """Put a file of mode 0600 in place, whole or not at all, also over a power failure."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_tail(path: Path, limit: int) -> str:
    """Return the last `limit` bytes of a file as text, "" if it cannot be read."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
        return file.read(limit).decode("utf-8", "replace")
    return ""


def read_lines(path: Path, limit: int = LONGEST_LINE) -> Iterator[str]:
    """Yield the lines of a file without their ends, one in memory at a time.

    Lines of more than `limit` bytes are skipped; a missing file has no lines.
    """
    try:
        file = path.open("rb", buffering=_CHUNK_BYTES)
    except OSError:
        return
    with file:
        while line := file.readline(limit + 1):
            if len(line) > limit and not line.endswith(b"\n"):
                while (rest := file.readline(_CHUNK_BYTES)) and not rest.endswith(b"\n"):
                    pass
                continue
            if len(line) < _CHUNK_BYTES:
                yield line.rstrip(b"\r\n").decode("utf-8", "replace")
                continue
            # No copies are kept while the caller works: a long line is in memory once.
            end = len(line) - (line.endswith(b"\r\n") + line.endswith(b"\n"))
            text = str(memoryview(line)[:end], "utf-8", "replace")
            del line
            yield text
            del text


def logs_root(repo_root: Path) -> Path:
    """Name the folder under which everything of every mission's attempts is kept."""
    return repo_root / ".kittify" / "logs"


def path_part(name: str) -> str:
    """Turn a name into one harmless part of a path; different names stay different."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip(".")[:80]
    if safe == name and safe:
        return safe
    return f"{safe}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


def was_started(directory: Path) -> bool:
    """Tell whether a process was ever started, or about to be, for the attempt of this directory."""
    return (directory / "stdout.log").exists()


def make_logs_root(repo_root: Path) -> Path:
    """Make the folder of all logs, private and hidden from git, and return it. Raises `OSError`."""
    root = logs_root(repo_root)
    make_private_directory(root)
    ignore = root / ".gitignore"
    if not ignore.exists():
        # Logs in the user's repository must never show up as uncommitted work, nor be committed.
        write_private(ignore, "*\n")
    return root


def open_directory(
    repo_root: Path, mission: str, wp_id: str, number: int, role: Role, agent: str
) -> tuple[int, Path]:
    """Create the directory of an attempt.

    A number under which anything was ever started is not used again; a directory that was only prepared is.

    Returns:
        The number from `number` up that was free, and the directory.
    """
    root = make_logs_root(repo_root)
    home = root / path_part(mission) / path_part(wp_id)
    make_private_directory(home)
    free = next(n for n in count(max(1, number)) if not any(map(was_started, home.glob(f"{n:02d}-*"))))
    directory = home / f"{free:02d}-{role.value}-{path_part(agent)}"
    directory.mkdir(mode=0o700, exist_ok=True)
    return free, directory


@contextmanager
def configure_logging(path: Path, redactor: Redactor | None = None) -> Iterator[None]:
    """Write the package's log as redacted JSON lines to a file of mode 0600 while the context lasts.

    Nothing goes to stdout or stderr. A thread does the writing, so logging never blocks the event loop.

    Raises:
        WorkspaceError: the file cannot be written.
    """
    try:
        make_private_directory(path.parent)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600))
    except OSError as error:
        raise WorkspaceError(
            f"the log {path} cannot be written: {error.strerror}; mend that first"
        ) from error

    clean = (redactor or Redactor()).value

    def redaction(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {key: clean(value) for key, value in event.items()}

    lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[],
            processors=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                redaction,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    file = logging.FileHandler(path, encoding="utf-8", errors="replace", delay=True)
    listener = logging.handlers.QueueListener(lines, file)
    logger = logging.getLogger(LOGGER_NAME)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    listener.start()
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
        listener.stop()
        file.close()
