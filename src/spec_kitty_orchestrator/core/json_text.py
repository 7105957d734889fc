"""Finds JSON objects in an agent's final text, in a time that grows with its length alone.

The text is untrusted and may be anything. Braces and strings are matched first, in one pass: no string of
JSON crosses a line, so what begins a line never hides in one. Only what is whole goes to a parser.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping

from spec_kitty_orchestrator.core.plain_text import plain
from spec_kitty_orchestrator.core.records import dataclass

__all__ = ["Found", "objects", "text_of"]

LONGEST_TEXT = 100_000
"""Characters of a final text that are looked at, from its end: a verdict is the last word."""

LONGEST_BROKEN = 2_000
"""Characters behind the beginning of a broken object in which `"verdict"` makes it a broken verdict."""

_VERDICT = '"verdict"'
_OPENING = re.compile(r"\{\s*[\"}]")
_BEGINS_LINE = re.compile(r"^[^\S\n]*+\{", re.MULTILINE)
# It matches at every quote, so it never looks at a character again to find another way.
_MARK = re.compile(r'[{}]|"[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*("?)')

_QUOTED = re.compile(r'\{\s*"\Z')
"""Ends what is a string only if something before it began one: else, it begins an object."""
_QUOTED_CHARS = 200


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
    """Return the outermost JSON objects of a text in their order; what does not parse is skipped."""
    if len(text) > LONGEST_TEXT:
        # What the cut goes through is no line.
        text = text[-LONGEST_TEXT:].partition("\n")[2]
    lines = [one.end() - 1 for one in _BEGINS_LINE.finditer(text)]
    apart = frozenset(lines)
    end_of_words = len(text.rstrip().removesuffix("```").rstrip())
    found = []
    intact, verdict = True, -1
    for start, end in _spans(text):
        value = _parsed(text[start:end]) if end else None
        if value is not None:
            found.append(Found(value, end >= end_of_words, start in apart, intact))
            continue
        if verdict < start:
            # Looked for behind the last place only, so that all looks together are one pass.
            verdict = text.find(_VERDICT, start)
            verdict = len(text) if verdict < 0 else verdict
        after = bisect_right(lines, start)
        reach = min(start + LONGEST_BROKEN, lines[after] if after < len(lines) else len(text))
        intact = intact and start not in apart and verdict >= max(reach, end)
    return tuple(found)


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield what begins like an object, by its place: outermost ones with their end, else 0 as the end."""
    at = 0
    while opening := _OPENING.search(text, at):
        unclosed: list[int] = []
        closed: list[tuple[int, int]] = []
        quoted: list[tuple[int, int]] = []
        at = len(text)
        for mark in _MARK.finditer(text, opening.start()):
            if mark[0] == "{":
                unclosed.append(mark.start())
            elif mark[0] == "}":
                start = unclosed.pop()
                if _OPENING.match(text, start):
                    while closed and closed[-1][0] > start:
                        closed.pop()
                    closed.append((start, mark.end()))
            elif brace := _QUOTED.search(mark[0], max(0, len(mark[0]) - _QUOTED_CHARS)):
                quoted.append((mark.start() + brace.start(), 0))
            if not unclosed or mark[1] == "":
                at = mark.end()
                break
        broken = ((start, 0) for start in unclosed if _OPENING.match(text, start))
        yield from sorted([*closed, *broken, *(quoted if unclosed else ())])


def _parsed(text: str) -> Mapping[str, object] | None:
    try:
        value, length = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return value if length == len(text) else None


def text_of(value: object, limit: int) -> str:
    """Return a string value as `plain` text, stripped and bounded; "" for anything else.

    It goes on to command lines, commit messages and terminals.
    """
    return plain(value).strip()[:limit].strip() if isinstance(value, str) else ""
