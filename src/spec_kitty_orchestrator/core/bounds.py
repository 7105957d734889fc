"""Bounds what a journal keeps of an event: others' words can have any length, a line cannot.

An event is bounded before it happens, so a state and what is read back from the journal are the same.
What was cut off stands in the files of the attempt or the gate.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Final, TypeVar

from spec_kitty_orchestrator.core.model import AgentReport, Usage
from spec_kitty_orchestrator.core.plain_text import begun, ended, plain

__all__ = ["LONGEST_DETAIL", "LONGEST_TEXT", "MOST_TOKENS", "fitted", "within_bounds"]

LONGEST_WAIT_S = 7 * 24 * 3600.0
"""The longest limits of vendors are weekly; what says more is a mistake."""

LONGEST_TEXT = 100_000
"""Characters of an agent's last words that are kept, from their end: what we ask for stands there."""

LONGEST_DETAIL = 2_000
"""Characters of a message for people that are kept, from its end."""
LONGEST_SESSION = 1_000
MOST_COST_USD = 1e6
MOST_TOKENS = 10**15

LONGEST_LINE_BYTES = 48 * 1024
"""Of one event in the journal; names and paths around it have room below 64 KB."""

_SURELY_SHORT = LONGEST_LINE_BYTES // 4
_STEPS = (16_000, 8_000, 4_000, 2_000, 1_000, 500, 250, 100)
_MOST_LISTED = 200
_KEPT_WHOLE: Final = frozenset(
    {"path", "prompt_path", "directory", "log", "id", "attempt_id", "head", "base", "tree", "command"}
)
"""Fields that are useless in part; all of them are ours, or the host's."""
_LISTED: Final = frozenset({"tampered", "left_out", "findings", "ids", "saved", "ignored"})
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


def within_bounds(report: AgentReport) -> AgentReport:
    """Keep of a report no more than a journal can hold and a run can wait for; of texts, their ends."""
    usage = report.usage
    cost_usd = usage.cost_usd
    if cost_usd is not None:
        cost_usd = min(cost_usd, MOST_COST_USD) if cost_usd >= 0 else None
    wait_s = report.retry_after_s
    if wait_s is not None:
        wait_s = float(min(wait_s, LONGEST_WAIT_S)) if 0 <= wait_s < math.inf else None
    session = report.session
    return replace(
        report,
        text=ended(plain(report.text), LONGEST_TEXT),
        detail=ended(plain(report.detail), LONGEST_DETAIL),
        # A part of it would name another session, or none.
        session=session if session is not None and len(session) <= LONGEST_SESSION else None,
        usage=Usage(_tokens(usage.input_tokens), _tokens(usage.output_tokens), cost_usd),
        retry_after_s=wait_s,
    )


def _tokens(told: int) -> int:
    return min(max(0, told), MOST_TOKENS)
