"""Finds JSON objects in an agent's final text; the text is untrusted and may be anything."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

LONGEST_TEXT = 200_000
"""Characters of a final text that are looked at, from its end: a verdict is the last word."""

_ONLY_A_FENCE = re.compile(r"\s*(?:```\s*)?\Z")


class _DuplicateKey(ValueError):
    """An object that says two things under one name says nothing."""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _DuplicateKey
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


@dataclass(frozen=True)
class Found:
    """One object of a text; `last` tells whether nothing but a closing code fence follows it."""

    value: Mapping[str, object]
    last: bool


def objects(text: str) -> tuple[Found, ...]:
    """Return the outermost JSON objects of a text in their order; what does not parse is skipped."""
    text = text[-LONGEST_TEXT:]
    found = []
    at = text.find("{")
    while at >= 0:
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            found.append(Found(value, bool(_ONLY_A_FENCE.match(text, end))))
        at = text.find("{", end)
    return tuple(found)


def text_of(value: object, limit: int) -> str:
    """Return a string value, stripped and bounded; "" for anything that is not a string."""
    return value.strip()[:limit] if isinstance(value, str) else ""
