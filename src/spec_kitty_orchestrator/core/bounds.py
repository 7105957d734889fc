"""Bounds what a journal keeps of an event: others' words can have any length, a line cannot.

An event is bounded before it happens, so a state and what is read back from the journal are the same.
What was cut off stands in the files of the attempt or the gate.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Final, TypeVar

from spec_kitty_orchestrator.core.plain_text import begun, ended

LONGEST_LINE_BYTES = 48 * 1024
"""Of one event in the journal; names and paths around it have room below 64 KB."""

_SURELY_SHORT = LONGEST_LINE_BYTES // 4
_STEPS = (16_000, 8_000, 4_000, 2_000, 1_000, 500, 250, 100)
_MOST_LISTED = 200
_KEPT_WHOLE: Final = frozenset(
    {"path", "prompt_path", "directory", "log", "id", "attempt_id", "head", "base", "tree", "command"}
)
"""Fields that are useless in part; all of them are ours, or the host's."""
_LISTED: Final = frozenset({"tampered", "left_out", "findings", "ids", "saved"})
_FROM_THE_END: Final = frozenset({"text", "tail", "detail"})

Value = TypeVar("Value")


def fitted(event: Value) -> Value:
    """Return an event of which the journal's line is short: unchanged, or with its longest texts cut."""
    for longest in _STEPS:
        if len(repr(event)) <= _SURELY_SHORT or _size(event) <= LONGEST_LINE_BYTES:
            break
        event = _cut(event, longest, "")
    return event


def _size(event: object) -> int:
    assert is_dataclass(event)
    assert not isinstance(event, type)
    return len(json.dumps(asdict(event), ensure_ascii=False, default=str).encode("utf-8", "replace"))


def _cut(value: Value, longest: int, name: str) -> Value:
    if name in _KEPT_WHOLE:
        return value
    changed: object = value
    if isinstance(value, str) and len(value) > longest:
        changed = ended(value, longest) if name in _FROM_THE_END else begun(value, longest)
    elif isinstance(value, tuple):
        kept = value[: min(_MOST_LISTED, longest)] if name in _LISTED else value
        changed = tuple(_cut(one, longest, name) for one in kept)
    elif isinstance(value, Mapping):
        changed = {key: _cut(one, longest, name) for key, one in value.items()}
    elif is_dataclass(value) and not isinstance(value, type):
        inner = {one.name: getattr(value, one.name) for one in fields(value)}
        changed = replace(value, **{key: _cut(one, longest, key) for key, one in inner.items()})
    return changed  # type: ignore[return-value]
