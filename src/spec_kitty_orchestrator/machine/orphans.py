"""Processes of a mission's attempts, found by their marker even when nobody remembers having started them."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from spec_kitty_orchestrator.machine import process
from spec_kitty_orchestrator.machine.attempt_files import read_command
from spec_kitty_orchestrator.machine.attempt_lock import holders, is_locked
from spec_kitty_orchestrator.machine.files import read_record
from spec_kitty_orchestrator.machine.process import marked
from spec_kitty_orchestrator.machine.process_id import Child
from spec_kitty_orchestrator.machine.stopping import STOP_GRACE_S, Grace, stop, sweep

__all__ = ["Orphan", "elsewhere", "find_orphans", "lock_keepers", "stop_orphans"]

_MARKER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{7,127}")
"""What we make is longer than what other programs might set by chance."""


@dataclass(frozen=True)
class Orphan:
    """A running process of an attempt; `directory` is the attempt's."""

    child: Child
    marker: str
    directory: Path


def find_orphans(logs: Path) -> list[Orphan]:
    """Find this user's running processes that belong to an attempt below a mission's log folder.

    Not for the event loop.
    """
    attempts = _attempts(logs)
    return [Orphan(child, one, attempts[one]) for child, one in marked() if one in attempts]


def _attempts(logs: Path) -> Mapping[str, Path]:
    found = {}
    for record in logs.glob("*/*/command.json"):
        # Torn by a power failure, it belongs to an attempt whose processes that failure ended too.
        with suppress(OSError, ValueError, TypeError, KeyError):
            marker = json.loads(read_record(record))["attempt"]
            if isinstance(marker, str) and _MARKER.fullmatch(marker):
                found[marker] = record.parent
    return found


def elsewhere(logs: Path) -> list[Path]:
    """Find the directories of attempts that run where we see no processes. Not for the event loop."""
    places = _locked(logs)
    here = {one.directory for one in find_orphans(logs)} if places else set()
    return [one for one in places if one not in here and not holders(one) and is_locked(one)]


def lock_keepers(logs: Path) -> list[int]:
    """Find the processes seen from here that hold locks of attempts. Not for the event loop."""
    return sorted({pid for one in _locked(logs) for pid in holders(one)})


def _locked(logs: Path) -> list[Path]:
    return [one.parent for one in logs.glob("*/*/lock") if is_locked(one.parent)]


async def stop_orphans(logs: Path, grace_s: float = STOP_GRACE_S, of: str = "") -> list[Orphan]:
    """Stop every attempt below a mission's log folder, all at once; every wait is bounded.

    With `of`, the name of a work package's folder, only its attempts are stopped.

    Returns:
        The processes that were found running, before they were stopped.
    """
    found = await anyio.to_thread.run_sync(find_orphans, logs)
    found = [one for one in found if of in ("", one.directory.parent.name)]
    async with anyio.create_task_group() as tasks:
        for marker, directory in {one.marker: one.directory for one in found}.items():
            tasks.start_soon(_stop, marker, directory, grace_s)
    return found


async def _stop(marker: str, directory: Path, grace_s: float) -> None:
    match await process.state(directory, marker):
        case process.Alive(child):
            command = await anyio.to_thread.run_sync(read_command, directory, marker)
            await stop(child, marker, Grace(grace_s), command.stop_signal if command else "TERM")
        case _:
            await sweep(marker)
