"""GitHub Actions: groups, annotations and outputs, as its runner reads them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from secrets import token_hex

from spec_kitty_orchestrator.core.describe import count
from spec_kitty_orchestrator.core.findings import Severity
from spec_kitty_orchestrator.core.plain_text import begun
from spec_kitty_orchestrator.views.ci import inert
from spec_kitty_orchestrator.views.ci.notes import Note

__all__ = ["END", "LARGEST_SUMMARY", "annotation", "annotations", "group", "outputs"]

MOST_OF_A_KIND = 10
"""GitHub shows so many errors, warnings and notices of a step, and 50 of a job."""

LONGEST = 4000
"""Characters of a message; the runner cuts at 4096."""

LARGEST_SUMMARY = 1024 * 1024
"""Bytes; a summary that is larger is not shown at all."""

_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}


def data(text: str) -> str:
    """Escape a command's text."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def value(text: str) -> str:
    """Escape the value of a command's property."""
    return data(text).replace(":", "%3A").replace(",", "%2C")


def group(title: str) -> str:
    """Open a group, which is folded."""
    return f"::group::{data(inert(title))}"


END = "::endgroup::"


def annotation(note: Note) -> str:
    """Return the command that puts a note on its line, or on the job."""
    place = [f"file={value(note.file)}"] if note.file else []
    place += [f"line={note.line}"] if note.file and note.line else []
    properties = ",".join([*place, f"title={value(note.title)}"])
    return f"::{_COMMANDS[note.severity]} {properties}::{data(begun(note.message, LONGEST))}"


def annotations(notes: Sequence[Note]) -> list[str]:
    """Return as many as GitHub shows, and a line that counts the others."""
    seen: Counter[Severity] = Counter()
    shown = []
    for one in notes:
        seen[one.severity] += 1
        if seen[one.severity] <= MOST_OF_A_KIND:
            shown.append(annotation(one))
    left = {kind: number - MOST_OF_A_KIND for kind, number in seen.items() if number > MOST_OF_A_KIND}
    if left:
        told = ", ".join(count(number, _COMMANDS[kind]) for kind, number in left.items())
        shown.append(f"{told} more than GitHub shows for one step; the report has all of them")
    return shown


def outputs(figures: Iterable[tuple[str, str]]) -> str:
    """Return lines for the file of a step's outputs; no value can end with what was drawn for it."""
    lines = []
    for name, text in figures:
        delimiter = f"end_{token_hex(16)}"
        lines.append(f"{name}<<{delimiter}\n{text}\n{delimiter}\n")
    return "".join(lines)
