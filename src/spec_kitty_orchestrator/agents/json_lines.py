"""Reads JSON lines that nobody vouches for; whatever is not a JSON object on a line of its own is skipped."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping

from spec_kitty_orchestrator.core.model import LONGEST_DETAIL, MOST_TOKENS

Event = Mapping[str, object]

LONGEST_LINE = 4 * 1024 * 1024
"""Bytes, and characters; a longer line is never a result, and parsing it would cost memory."""


_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def events(lines: Iterable[str]) -> Iterator[Event]:
    """Yield the JSON objects among `lines`, in their order."""
    for line in lines:
        if len(line) > LONGEST_LINE or "{" not in line[:64]:
            continue
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            yield event


def part(event: Event, *path: str) -> Event:
    """Return the object at `path`, empty if there is none."""
    for name in path:
        inner = event.get(name)
        if not isinstance(inner, dict):
            return {}
        event = inner
    return event


def text(event: Event, *path: str) -> str:
    """Return the string at `path`, fit for UTF-8 files and for arguments; "" if there is none."""
    value = part(event, *path[:-1]).get(path[-1])
    if not isinstance(value, str):
        return ""
    return value.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")


def number(event: Event, *path: str) -> float | None:
    """Return the finite number at `path`, None if there is none."""
    value = part(event, *path[:-1]).get(path[-1])
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def amount(event: Event, *path: str) -> float | None:
    """Return the number at `path` if it is not negative: seconds or dollars."""
    found = number(event, *path)
    return found if found is not None and found >= 0 else None


def count(event: Event, *path: str) -> int:
    """Return the number of tokens at `path`, 0 if there is none that makes sense."""
    found = number(event, *path)
    return int(found) if found is not None and 0 <= found <= MOST_TOKENS else 0


def plain(told: str) -> str:
    """Return a text without terminal codes, fit for UTF-8 files and for arguments."""
    shown = _TERMINAL_CODES.sub("", told)
    return shown.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")


def message(*candidates: str) -> str:
    """Return the first candidate that says something, without terminal codes and bounded, for people."""
    for candidate in candidates:
        plain = _TERMINAL_CODES.sub("", candidate[-4 * LONGEST_DETAIL :]).replace("\x00", "").strip()
        if plain:
            return plain.encode("utf-8", "replace").decode("utf-8")[-LONGEST_DETAIL:]
    return ""
