"""The files of a gate: `command.json` says what runs on which commit, `result.json` how it ended."""

import hashlib
import hmac
import json
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from spec_kitty_orchestrator.core.events import GateBegun
from spec_kitty_orchestrator.machine import files, logs
from spec_kitty_orchestrator.machine.redaction import LONGEST_BYTES, Redactor

__all__ = [
    "BROKEN",
    "FAILED",
    "PASSED",
    "STOPPED",
    "Ending",
    "make_directory",
    "new_seal",
    "output_tail",
    "read_ending",
    "write_command",
    "write_ending",
]

TAIL_CHARS = 6_000
"""Of a gate's output for the implementer: enough for the last failures of a test run and its summary."""

PASSED: Literal["passed"] = "passed"
FAILED: Literal["failed"] = "failed"
BROKEN: Literal["broken"] = "broken"
STOPPED: Literal["stopped"] = "stopped"


@dataclass(frozen=True)
class Ending:
    """How a gate ended and how long it took; `reason` is for people."""

    kind: Literal["passed", "failed", "broken", "stopped"]
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class _Sealed(Ending):
    word: str = ""


_SEALED = TypeAdapter(_Sealed)


def make_directory(repo_root: Path, mission: str, wp_id: str, number: int, gate: str) -> Path:
    """Make the directory of a gate that begins, where nobody can have left anything. Raises `OSError`."""
    home = logs.make_logs_root(repo_root) / logs.path_part(mission) / logs.path_part(wp_id)
    files.make_private_folder(home)
    name = f"{number:02d}-gate-{logs.path_part(gate)}"
    for extra in count(1):
        directory = home / (name if extra == 1 else f"{name}-{extra}")
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return directory
    raise AssertionError


def write_command(gate: GateBegun, cwd: Path) -> None:
    """Write `command.json`, for people and for whoever looks for orphans. Raises `OSError`."""
    record = {
        "attempt": gate.marker,
        "gate": gate.name,
        "argv": gate.command,
        "head": gate.head,
        "turn": gate.turn,
        "cwd": str(cwd),
    }
    files.write_record(Path(gate.log) / "command.json", record)


def new_seal() -> tuple[str, str]:
    """Return a word that nobody can guess, and what tells that somebody knew it."""
    word = secrets.token_hex(16)
    return word, _hash(word)


def _hash(word: str) -> str:
    return hashlib.sha256(word.encode("utf-8", "replace")).hexdigest()


def read_ending(gate: GateBegun) -> Ending | None:
    """Return how the gate ended, None if we did not record that: what it runs can write there too."""
    with suppress(OSError, ValueError):
        found = _SEALED.validate_json(files.read_record(Path(gate.log) / "result.json"))
        if gate.seal and hmac.compare_digest(_hash(found.word), gate.seal):
            return Ending(found.kind, found.reason, found.seconds)
    return None


def write_ending(directory: Path, ending: Ending, word: str) -> Ending:
    """Record how the gate ended, if the disk allows that, and return it with the time that it took."""
    ending = replace(ending, seconds=ending.seconds or _seconds(directory))
    with suppress(OSError):
        files.write_record(directory / "result.json", {**asdict(ending), "word": word})
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
        text = files.read_tail(directory / name, 4 * TAIL_CHARS + LONGEST_BYTES).strip()
        parts.append(redactor.tail(text, TAIL_CHARS))
    return "\n\n".join(part for part in parts if part)
