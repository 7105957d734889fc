"""Reads JSON lines that nobody vouches for; whatever is not a JSON object on a line of its own is skipped."""

import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from spec_kitty_orchestrator.core.bounds import LONGEST_TEXT, MOST_TOKENS
from spec_kitty_orchestrator.core.plain_text import MARGIN, plain

__all__ = [
    "LONGEST_LINE",
    "LONGEST_SAID",
    "Event",
    "Said",
    "amount",
    "count",
    "events",
    "message",
    "number",
    "part",
    "text",
]

Event = Mapping[str, object]

LONGEST_LINE = 512 * 1024
"""Bytes, and characters; parsing a longer line would cost memory."""

MOST_VALUES = 64_000
"""Marks of a line between values; each of these costs memory, of which a text has no need."""

LONGEST_SAID = LONGEST_TEXT + MARGIN
_MOST_PIECES = 4_096


def events(lines: Iterable[str]) -> Iterator[Event]:
    """Yield the JSON objects among `lines`, in their order."""
    for line in lines:
        if len(line) > LONGEST_LINE or "{" not in line[:64]:
            continue
        if len(line) > MOST_VALUES and sum(map(line.count, ",[{")) > MOST_VALUES:
            continue
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            yield event


class Said:
    """What an agent says piece by piece; of too much the end is kept, in bounded memory."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._pieces: deque[str] = deque()
        self._size = 0

    def add(self, piece: str) -> None:
        """Take the next piece."""
        self._pieces.append(piece[-LONGEST_SAID:])
        self._size += len(self._pieces[-1])
        while self._size - len(self._pieces[0]) >= LONGEST_SAID:
            self._size -= len(self._pieces.popleft())
        if len(self._pieces) > _MOST_PIECES:
            self._pieces = deque([str(self)])

    def clear(self) -> None:
        """Forget what was said."""
        self._pieces.clear()
        self._size = 0

    def __bool__(self) -> bool:
        """Tell whether anything was said."""
        return bool(self._pieces)

    def __str__(self) -> str:
        """Return the end of what was said."""
        return "".join(self._pieces)[-LONGEST_SAID:]


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
    if value.isascii() and "\x00" not in value:
        return value
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


def message(*candidates: str) -> str:
    """Return the first candidate that says something, as plain text for people.

    Nothing is cut: whoever looks for secrets in it must see all.
    """
    return next((words for one in candidates if (words := plain(one).strip())), "")
