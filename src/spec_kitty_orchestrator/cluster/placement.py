"""Where an attempt of ours is in a cluster, as its files say: quick to load, for whoever only looks."""

import json
from contextlib import suppress
from pathlib import Path

from spec_kitty_orchestrator.core.plain_text import plain
from spec_kitty_orchestrator.core.recorder import WAITS_FOR_WORKER
from spec_kitty_orchestrator.machine.files import read_record

__all__ = ["PLACED", "WANTED", "place_of"]

PLACED = "placed.json"
"""The coordinator's: once it is written, the attempt exists on that machine and on no other."""
WANTED = "wanted.json"
"""What is to be placed."""


def place_of(directory: Path) -> str:
    """Say where the attempt with this directory runs, or that it waits for a worker; "" for this machine."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return f"on {plain(str(json.loads(read_record(directory / PLACED))['machine']))}"
    return WAITS_FOR_WORKER if (directory / WANTED).exists() else ""
