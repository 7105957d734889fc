"""Where the files of attempts are, and the log of a run."""

import os
import re
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from spec_kitty_orchestrator.core.model import Role
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.log import LOGGER_NAME
from spec_kitty_orchestrator.machine.files import make_hidden_folder, make_private_folder
from spec_kitty_orchestrator.machine.redaction import Redactor

__all__ = [
    "JOURNALS",
    "LOGS",
    "configure_logging",
    "logs_root",
    "make_logs_root",
    "mission_logs",
    "open_directory",
    "path_part",
    "was_started",
]

LOGS = Path(".kittify") / "logs"
"""Of a checkout: the directories of attempts are in it, by mission and work package."""
JOURNALS = Path(".kittify") / "orchestrator"
"""Of a checkout: what else is kept of its runs, by mission."""


def logs_root(repo_root: Path) -> Path:
    """Name the folder under which everything of every mission's attempts is kept."""
    return repo_root / LOGS


def mission_logs(repo_root: Path, mission: str) -> Path:
    """Name the folder of a mission's attempts."""
    return logs_root(repo_root) / path_part(mission)


def path_part(name: str) -> str:
    """Turn a name into one harmless part of a path; different names stay different."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip(".")[:80]
    if safe == name and safe:
        return safe
    # Few names need it, and it takes as long to load as the rest of this module.
    import hashlib

    return f"{safe}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


def was_started(directory: Path) -> bool:
    """Tell whether a process was ever started, or about to be, for the attempt of this directory."""
    return (directory / "stdout.log").exists()


def make_logs_root(repo_root: Path) -> Path:
    """Make the folder of all logs, private and hidden from git, and return it. Raises `OSError`."""
    root = logs_root(repo_root)
    make_hidden_folder(root)
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
    make_private_folder(home)
    free = next(n for n in count(max(1, number)) if not any(map(was_started, home.glob(f"{n:02d}-*"))))
    directory = home / f"{free:02d}-{role.value}-{path_part(agent)}"
    directory.mkdir(mode=0o700, exist_ok=True)
    return free, directory


@contextmanager
def configure_logging(repo_root: Path, mission: str, redactor: Redactor | None = None) -> Iterator[None]:
    """Write the package's log as redacted JSON lines to the mission's own file while the context lasts.

    The file is private. Nothing goes to stdout or stderr. A thread does the writing, so logging never blocks
    the event loop.

    Raises:
        WorkspaceError: the file cannot be written.
    """
    # Loaded only by a run.
    import logging.handlers
    import queue

    import structlog

    path = mission_logs(repo_root, mission) / "orchestrator.log"
    try:
        make_logs_root(repo_root)
        make_private_folder(path.parent)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600))
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
