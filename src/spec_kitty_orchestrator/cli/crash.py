"""The report of a bug: a private file with the whole story, so that no terminal shows a traceback."""

import os
import platform
import sys
import tempfile
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from spec_kitty_orchestrator.app.build import VERSION
from spec_kitty_orchestrator.app.repository import LOGS, find_repo_root
from spec_kitty_orchestrator.errors import InvalidTransition, OrchestratorError
from spec_kitty_orchestrator.machine.files import make_private_folder, write_private
from spec_kitty_orchestrator.machine.redaction import Redactor, secret_values


def write_report(error: BaseException) -> Path | None:
    """Write a report of `error` below `.kittify/logs/`, or else into the temporary folder.

    Returns:
        The file, or None if neither place can be written.
    """
    now = datetime.now(UTC)
    name = f"crash-{now:%Y%m%dT%H%M%S}-{os.getpid()}.txt"
    text = Redactor(secret_values(os.environ)).text(_text(error, now))
    for folder in (_logs(), Path(tempfile.gettempdir())):
        if folder is not None:
            with suppress(OSError):
                make_private_folder(folder)
                write_private(folder / name, text)
                return folder / name
    return None


def _logs() -> Path | None:
    try:
        root = find_repo_root(Path.cwd())
    except (OrchestratorError, OSError):
        return None
    return root / LOGS if (root / LOGS.parent).is_dir() else None


def _text(error: BaseException, now: datetime) -> str:
    story = "\n".join(error.story) if isinstance(error, InvalidTransition) else ""
    return "\n".join(
        [
            f"spec-kitty-orchestrator {VERSION}, {now.isoformat()}",
            f"Python {platform.python_version()} on {platform.platform()}",
            f"arguments: {sys.argv[1:]}",
            "",
            *traceback.format_exception(error),
            story,
        ]
    )
