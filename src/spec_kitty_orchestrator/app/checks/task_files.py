"""Which file of a mission the host cannot read: it tells what is wrong, but often not where."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from spec_kitty_orchestrator.app.checks import Finding, edit, error
from spec_kitty_orchestrator.app.repository import MISSIONS, front_matter_of
from spec_kitty_orchestrator.core.plain_text import begun

_LONGEST_REASON = 300
_LINE = re.compile(r"\bline (\d+), column \d+")
_AT = re.compile(r' in "<[^>]*>", line .*')
_FIELD = re.compile(
    r"validation errors? for \S+ (?P<key>[A-Za-z_]\w*)\S* (?P<reason>.+?)"
    r" \[type=(?P<kind>\w+), input_value=(?P<value>.*?), input_type=\w+\]"
)
_MISSING = "missing"


@dataclass(frozen=True)
class _Place:
    """A line of a file, counted from 1, and what the host says of it."""

    file: Path
    line: int
    reason: str


def unreadable_file(root: Path, slug: str, exception: str) -> Finding | None:
    """Return which task file made the host end with this exception, None if it was none of them."""
    files = sorted((root / MISSIONS / slug / "tasks").glob("WP*.md"))
    places = [*_named(files, exception)] or [*_with_the_field(files, exception)]
    if not places:
        return None
    first, *others = places
    more = f" (and {len(others)} more with the same)" if others else ""
    where = f"{first.file.relative_to(root)}, line {first.line}"
    text = f"the host cannot read {where}: {begun(first.reason, _LONGEST_REASON)}{more}"
    return error("mission.files", text, edit(first.file))


def _named(files: Sequence[Path], exception: str) -> Iterator[_Place]:
    """Find the file whose path the exception holds; lines are counted from the front matter's first."""
    for file in files:
        if str(file) in exception:
            line = _LINE.search(exception)
            before, _, after = exception.partition(str(file))
            reason = _AT.sub("", after).strip(" :;") or before.partition(": ")[2].strip(" :;")
            yield _Place(file, int(line[1]) + 1 if line else 1, reason)


def _with_the_field(files: Sequence[Path], exception: str) -> Iterator[_Place]:
    """Find the files that have the key, with the value, or that lack the key, which the exception names."""
    found = _FIELD.search(exception)
    if found is None:
        return
    key, reason, kind, value = found.groups()
    having = [_Place(file, line, f"{key}: {reason}") for file in files if (line := _line_of(file, key))]
    if kind == _MISSING:
        known = {one.file for one in having}
        yield from (_Place(file, 1, f"{key}: {reason}") for file in files if file not in known)
        return
    # The value of a long one is cut in the middle.
    start = value.strip("'\"[]{}").partition("...")[0].partition("'")[0]
    same = [one for one in having if start and start in _text(one)]
    yield from same or having


def _line_of(file: Path, key: str) -> int:
    """Return the line of a key at the top level of the front matter, 0 without one."""
    with suppress(OSError, ValueError):
        lines = front_matter_of(file).splitlines()
        return next((at for at, line in enumerate(lines, 2) if line.startswith(f"{key}:")), 0)
    return 0


def _text(place: _Place) -> str:
    """Return a key with what belongs to it."""
    first, *rest = front_matter_of(place.file).splitlines()[place.line - 2 :]
    end = next((at for at, line in enumerate(rest) if re.match(r"\w", line)), len(rest))
    return "\n".join((first, *rest[:end]))
