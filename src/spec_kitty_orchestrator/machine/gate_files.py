"""The files of a gate: `command.json` says what runs on which commit, `result.json` how it ended."""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from spec_kitty_orchestrator.machine import files, logs
from spec_kitty_orchestrator.machine.redaction import Redactor

TAIL_CHARS = 6_000
"""Of a gate's output for the implementer: enough for the last failures of a test run and its summary."""

PASSED: Literal["passed"] = "passed"
FAILED: Literal["failed"] = "failed"
BROKEN: Literal["broken"] = "broken"
STOPPED: Literal["stopped"] = "stopped"


@dataclass(frozen=True)
class GateRecord:
    """What runs on which commit, in which turn.

    Attributes:
        attempt: the marker in the environment of its processes, named as that of attempts.
        tree: fingerprint of the workspace when the turn began.
    """

    attempt: str
    gate: str
    argv: tuple[str, ...]
    head: str
    turn: int
    tree: str
    cwd: str


@dataclass(frozen=True)
class Ending:
    """How a gate ended and how long it took; `reason` is for people."""

    kind: Literal["passed", "failed", "broken", "stopped"]
    reason: str = ""
    seconds: float = 0.0


_RECORD = TypeAdapter(GateRecord)
_ENDING = TypeAdapter(Ending)


def place(
    repo_root: Path, mission: str, wp_id: str, number: int, wanted: GateRecord
) -> tuple[Path, GateRecord]:
    """Find the directory in which this turn of the gate was begun, or make one.

    Args:
        repo_root: the primary checkout.
        mission: its slug.
        wp_id: the work package.
        number: the first part of the directory's name.
        wanted: without a marker.

    Returns:
        The directory and what its `command.json` says.

    Raises:
        OSError: the disk refuses.
    """
    home = logs.make_logs_root(repo_root) / logs.path_part(mission) / logs.path_part(wp_id)
    files.make_private_folder(home)
    name = f"{number:02d}-gate-{logs.path_part(wanted.gate)}"
    for extra in count(1):
        directory = home / (name if extra == 1 else f"{name}-{extra}")
        if not directory.exists():
            break
        found = _read_record(directory)
        if found is not None and _same(found, wanted):
            return directory, found
        if not logs.was_started(directory) and read_ending(directory) is None:
            break
    # It must be found again by whoever goes on after us, so it is no random name.
    marker = hashlib.sha256(f"{directory}\0{wanted.head}\0{wanted.turn}".encode()).hexdigest()[:16]
    record = replace(wanted, attempt=f"gate-{marker}")
    directory.mkdir(mode=0o700, exist_ok=True)
    files.write_record(directory / "command.json", asdict(record))
    return directory, record


def begun(repo_root: Path, mission: str, wp_id: str) -> list[tuple[Path, GateRecord, bool]]:
    """Find the gates of a work package that were started, and tell of each whether its end is recorded."""
    home = logs.logs_root(repo_root) / logs.path_part(mission) / logs.path_part(wp_id)
    found = []
    for directory in sorted(home.glob("*-gate-*")):
        record = _read_record(directory)
        if record is not None and logs.was_started(directory):
            found.append((directory, record, read_ending(directory) is not None))
    return found


def _same(found: GateRecord, wanted: GateRecord) -> bool:
    return (found.gate, found.argv, found.head, found.turn, found.cwd) == (
        wanted.gate,
        wanted.argv,
        wanted.head,
        wanted.turn,
        wanted.cwd,
    )


def _read_record(directory: Path) -> GateRecord | None:
    with suppress(OSError, ValueError):
        return _RECORD.validate_json(files.read_record(directory / "command.json"))
    return None


def read_ending(directory: Path) -> Ending | None:
    """Return how the gate ended, None if that was not recorded."""
    with suppress(OSError, ValueError):
        return _ENDING.validate_json(files.read_record(directory / "result.json"))
    return None


def write_ending(directory: Path, ending: Ending) -> Ending:
    """Record how the gate ended, if the disk allows that, and return it with the time that it took."""
    ending = replace(ending, seconds=_seconds(directory))
    with suppress(OSError):
        files.write_record(directory / "result.json", asdict(ending))
    return ending


def _seconds(directory: Path) -> float:
    with suppress(OSError, ValueError, TypeError, KeyError):
        began = datetime.fromisoformat(
            json.loads(files.read_record(directory / "process.json"))["started_at"]
        )
        return round(max(0.0, (directory / "exit").stat().st_mtime - began.timestamp()), 1)
    return 0.0


def output_tail(directory: Path, redactor: Redactor) -> str:
    """Return the end of a gate's output without secrets, for the implementer and for people."""
    parts = []
    for name in ("stdout.log", "stderr.log"):
        # A secret that is cut in half would not be found, so more is read than is shown.
        text = redactor.text(files.read_tail(directory / name, 2 * TAIL_CHARS)).strip()
        parts.append(text if len(text) <= TAIL_CHARS else "…" + text[1 - TAIL_CHARS :])
    return "\n\n".join(part for part in parts if part)
