"""The files of one attempt, on a machine or here, and pieces of them; nothing of it is for the event loop."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.agents.spec import USAGE_FILE
from spec_kitty_orchestrator.cluster.records import ATTEMPT, ORDER, Delivery, WorkOrder, read
from spec_kitty_orchestrator.cluster.shipment import Packed
from spec_kitty_orchestrator.core.model import AgentReport, Attempt
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.machine import attempt_files, process
from spec_kitty_orchestrator.machine.files import open_file, write_private
from spec_kitty_orchestrator.ports import AttemptRequest

__all__ = [
    "BACK",
    "DELIVERY",
    "KEPT",
    "LOGS",
    "MOST_LOG_BYTES",
    "PIECE_BYTES",
    "SENT",
    "SETUP",
    "SETUP_LOG",
    "STOP",
    "append",
    "begun",
    "delivery_of",
    "digest_of",
    "empty",
    "growth",
    "here",
    "path_of",
    "piece",
    "put",
    "remove_old",
    "sizes",
    "state_of",
    "task_of",
]

SETUP, SETUP_LOG = "setup", "setup.log"
"""The folder of the setup that ran for an attempt, in its directory, and how its output is named."""
LOGS = ("stdout.log", "stderr.log", SETUP_LOG)
"""The files of an attempt that are fetched while it runs."""
MOST_LOG_BYTES = 256 * 1024
"""Of each log in one answer: who asks sets the pace, so a flood of output costs nobody memory."""
PIECE_BYTES = 4 * 1024 * 1024
"""Of a bundle or a file in one message."""
KEPT = (*LOGS, "exit", USAGE_FILE, "review.md")
"""The files of an attempt that are handed back."""
SENT = "in.bundle"
BACK = "out.bundle"
DELIVERY = "delivery.json"
TASK = "task.md"
STOP = "stop"
"""A file that says that nothing begins here, or is to go on."""


def here(order: WorkOrder, tree: Path, folder: Path) -> AttemptRequest:
    """Return what is ordered with the paths of this machine. Raises `OSError`."""
    request, there = order.request, order.request.workspace
    prompt = request.prompt
    if order.task:
        write_private(folder / TASK, order.task)
        prompt = prompt.replace(there.prompt_path, str(folder / TASK))
    prompt = prompt.replace(there.path, str(tree))
    return replace(request, workspace=replace(there, path=str(tree)), prompt=prompt)


def task_of(request: AttemptRequest, prompt: str) -> str:
    """Return the text of the work package where a prompt names its file, which only we have; else ""."""
    path = request.workspace.prompt_path
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace") if path and path in prompt else ""
    return ""


def begun(folder: Path) -> tuple[Attempt | None, WorkOrder | None]:
    """Return the attempt that has begun here, and what was ordered; each None if there is none."""
    return read(Attempt, folder / ATTEMPT), read(WorkOrder, folder / ORDER)


async def state_of(folder: Path, attempt_id: str) -> str:
    """Return `absent`, `running`, `ended`, or `refused`: it never began here and never will."""
    attempt = await to_thread.run_sync(read, Attempt, folder / ATTEMPT)
    if attempt is None:
        return "refused" if (folder / STOP).exists() else "absent"
    directory = Path(attempt.directory)
    if await to_thread.run_sync(attempt_files.read_result, directory, attempt_id) is not None:
        return "ended"
    if isinstance(await process.state(directory, attempt_id), process.NeverStarted):
        return "refused" if (folder / STOP).exists() else "absent"
    return "running"


def growth(directory: Path, offsets: Mapping[str, int]) -> dict[str, bytes]:
    """Return what the logs hold beyond these offsets, as much of each as one answer takes."""
    found = ((name, piece(path_of(directory, name), offsets.get(name, 0), MOST_LOG_BYTES)) for name in LOGS)
    return {name: data for name, data in found if data}


def sizes(directory: Path) -> dict[str, int]:
    """Return how much of each log is in a directory of ours."""
    found = {}
    for name in LOGS:
        try:
            found[name] = (directory / name).stat().st_size
        except OSError:
            found[name] = 0
    return found


def append(path: Path, offset: int, data: bytes) -> None:
    """Let a log of ours grow by what follows this offset. Raises `OSError`."""
    with path.open("ab") as file:
        # Only what follows: whoever else has written to it is mended at the attempt's end.
        if file.tell() == offset:
            file.write(data)


def path_of(directory: Path, name: str) -> Path:
    """Return where a file that is handed back lies."""
    return directory / SETUP / "stdout.log" if name == SETUP_LOG else directory / name


def piece(path: Path, offset: int, limit: int) -> bytes:
    """Return a part of a file, b"" if there is none."""
    with suppress(OSError), open_file(path) as file:
        file.seek(offset)
        return file.read(limit)
    return b""


def put(path: Path, offset: int, data: bytes) -> None:
    """Write a part of a file, which ends with it. Raises `OSError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.seek(offset)
        file.write(data)
        file.truncate()


def delivery_of(folder: Path, directory: Path, report: AgentReport, packed: Packed) -> Delivery:
    """Sum up what is handed back of an attempt with this folder and this directory of logs."""
    listed = {}
    for name in KEPT:
        if (found := digest_of(path_of(directory, name))) is not None:
            listed[name] = found
    bundle = folder / BACK
    return Delivery(report, packed, bundle.stat().st_size if bundle.exists() else 0, listed)


def digest_of(path: Path) -> tuple[int, str] | None:
    """Return the size and the SHA-256 of a file, None if there is none. Not for the event loop."""
    digest, size = hashlib.sha256(), 0
    try:
        with open_file(path) as file:
            while piece := file.read(1024 * 1024):
                digest.update(piece)
                size += len(piece)
    except OSError:
        return None
    return size, digest.hexdigest()


def empty(folder: Path) -> None:
    """Remove all but what says that nothing begins here."""
    for entry in folder.iterdir():
        if entry.name in (STOP, "lock"):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def remove_old(attempts: Path, before: float) -> None:
    """Remove the folders of attempts that nothing has come to or gone from since; in seconds since 1970."""
    for folder in list(attempts.iterdir()):
        with suppress(OSError):
            if folder.stat().st_mtime < before:
                shutil.rmtree(folder)
