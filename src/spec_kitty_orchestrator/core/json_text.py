"""Finds JSON objects in an agent's final text; the text is untrusted and may be anything."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

LONGEST_TEXT = 100_000
"""Characters of a final text that are looked at, from its end: a verdict is the last word."""

MOST_WORK = 2_000_000
"""Characters that are read in vain before a text counts as garbage, so that no text takes long."""

LEAST_COST = 400
"""What one place that holds no object costs of it, however soon that shows."""

DEEP_COST = 50_000
"""The same where the error does not tell how far it came: too deep a nesting, a key that occurs twice."""

_OPENING = re.compile(r"\{\s*[\"}]")
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_BROKEN_VERDICT = re.compile(r'(?:(?!\n\s*\{)[\s\S]){0,2000}?"verdict"')
"""Something that speaks of a verdict before the next line that begins with an object."""

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
    """One object of a text.

    Attributes:
        last: whether nothing but a closing code fence follows it.
        apart: whether it begins a line, so that it is neither quoted nor part of something larger.
        intact: whether nothing before it began like an object of its own, or like a verdict, and is none.
    """

    value: Mapping[str, object]
    last: bool
    apart: bool
    intact: bool


def objects(text: str) -> tuple[Found, ...]:
    """Return the outermost JSON objects of a text in their order; what does not parse is skipped.

    A text that is garbage in bulk holds no objects.
    """
    text = text[-LONGEST_TEXT:]
    found = []
    work = 0
    intact = True
    opening = _OPENING.search(text)
    while opening is not None and work <= MOST_WORK:
        at = opening.start()
        try:
            # Sliced, because an error counts the lines before its place.
            value, length = _DECODER.raw_decode(text[at:])
        except (ValueError, RecursionError) as error:
            end = at + 1
            work += _cost(error)
            intact = intact and not _begins_line(text, at) and not _BROKEN_VERDICT.match(text, at)
        else:
            end = at + length
            last = bool(_ONLY_A_FENCE.match(text, end))
            found.append(Found(value, last, _begins_line(text, at), intact))
        opening = _OPENING.search(text, end)
    return tuple(found) if work <= MOST_WORK else ()


def _begins_line(text: str, at: int) -> bool:
    return not text[text.rfind("\n", 0, at) + 1 : at].strip()


def _cost(error: ValueError | RecursionError) -> int:
    if isinstance(error, json.JSONDecodeError):
        return max(error.pos, LEAST_COST)
    return DEEP_COST


def text_of(value: object, limit: int) -> str:
    """Return a string value without control characters, stripped and bounded; "" for anything else.

    It goes on to command lines, commit messages and terminals, which a NUL, a lone surrogate or an escape
    sequence would break.
    """
    return _NOT_TEXT.sub("", value).strip()[:limit].strip() if isinstance(value, str) else ""
