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
from spec_kitty_orchestrator.app.repository import find_repo_root
from spec_kitty_orchestrator.errors import InvalidTransition, OrchestratorError
from spec_kitty_orchestrator.machine.files import make_private_folder, write_private
from spec_kitty_orchestrator.machine.logs import LOGS
from spec_kitty_orchestrator.machine.redaction import ours

__all__ = ["write_report"]


def write_report(error: BaseException) -> Path | None:
    """Write a report of `error` below `.kittify/logs/`, or else into the temporary folder.

    Returns:
        The file, or None if neither place can be written.
    """
    now = datetime.now(UTC)
    lines = [
        f"spec-kitty-orchestrator {VERSION}, {now.isoformat()}",
        f"Python {platform.python_version()} on {platform.platform()}",
        f"arguments: {sys.argv[1:]}",
        "",
        *traceback.format_exception(error),
        *(error.story if isinstance(error, InvalidTransition) else ()),
    ]
    text = ours().text("\n".join(lines))
    for folder in (_logs(), Path(tempfile.gettempdir())):
        if folder is not None:
            with suppress(OSError):
                make_private_folder(folder)
                file = folder / f"crash-{now:%Y%m%dT%H%M%S}-{os.getpid()}.txt"
                write_private(file, text)
                return file
    return None


def _logs() -> Path | None:
    with suppress(OrchestratorError, OSError):
        root = find_repo_root(None)
        return root / LOGS if (root / LOGS.parent).is_dir() else None
    return None
