"""A work package's Markdown file: what its front matter says, which is YAML of the simplest form."""

import re
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

from spec_kitty_orchestrator.machine.files import open_file

__all__ = ["TaskFile", "front_matter_of", "owned_files", "read_task_file"]

LONGEST_FRONT_MATTER = 64 * 1024

_FRONT_MATTER = re.compile(r"---[^\S\n]*\n(.*?)^---[^\S\n]*$", re.DOTALL | re.MULTILINE)
_KEY = re.compile(r"([A-Za-z_]\w*):(?:\s+(.*))?")
_ITEM = re.compile(r"\s*-\s+(.*)")


@dataclass(frozen=True)
class TaskFile:
    """What a work package's file says of it, as far as it can be read: "" and () if it does not.

    Attributes:
        title: one line.
        subtasks: ids; () too where one of them cannot be read.
        owned_files: patterns of paths, without those that cannot be read.
    """

    title: str = ""
    subtasks: tuple[str, ...] = ()
    owned_files: tuple[str, ...] = ()


def read_task_file(path: Path) -> TaskFile:
    """Read the front matter of a file. Raises `OSError`, `ValueError`."""
    keys = _front_matter(front_matter_of(path))
    title, subtasks = keys.get("title", []), _items(keys.get("subtasks", [""]))
    return TaskFile(
        _text(title[0]) if len(title) == 1 else "",
        # A part of a list would be told as the whole.
        tuple(subtasks) if all(subtasks) else (),
        tuple(filter(None, _items(keys.get("owned_files", [""])))),
    )


def owned_files(path: Path) -> tuple[str, ...]:
    """Return the patterns of the paths that a work package owns, () if its file cannot be read."""
    with suppress(OSError, ValueError):
        return read_task_file(path).owned_files
    return ()


def _items(value: list[str]) -> list[str]:
    """Return the items of a list, "" for each that cannot be read."""
    written, *lines = value
    if not lines and written.startswith("[") and written.endswith("]"):
        return [_text(one) for one in written[1:-1].split(",") if one.strip()]
    items = [_text(one[1] if (one := _ITEM.fullmatch(line)) else "") for line in lines]
    return items + [""] * bool(written)


def front_matter_of(path: Path) -> str:
    """Return what stands between a file's first line and the next `---`. Raises `OSError`, `ValueError`."""
    with open_file(path, links=True) as data, TextIOWrapper(data, encoding="utf-8") as file:
        matter = _FRONT_MATTER.match(file.read(LONGEST_FRONT_MATTER))
    return matter[1] if matter else ""


def _front_matter(text: str) -> dict[str, list[str]]:
    """Return by key what stands behind it, and the lines that belong to it."""
    found: dict[str, list[str]] = {}
    belongs: list[str] = []
    for one in map(str.rstrip, text.splitlines()):
        if key := _KEY.fullmatch(one):
            belongs = found[key[1]] = [(key[2] or "").strip()]
        elif one and not one.lstrip().startswith("#"):
            belongs.append(one)
    return found


def _text(value: str) -> str:
    """Return what a plain or quoted text of one line says, "" if it is anything else."""
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        inner = value[1:-1]
        if value[0] == "'":
            plain = inner.replace("''", "")
            return "" if "'" in plain else inner.replace("''", "'")
        return "" if '"' in inner or "\\" in inner else inner
    value = value.partition(" #")[0].rstrip()
    odd = value.startswith(tuple("|>&*!%@`{}[]\"'#,?-:~")) or ": " in value or value.endswith(":")
    return "" if odd or value in ("null", "Null", "NULL") else value
