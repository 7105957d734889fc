"""Writes what the code knows into the pages, so that no table is written twice.

A block `{from-the-code} settings run` in a page becomes the keys of `[run]`; the others are below.
"""

import re
from collections.abc import Callable, Iterable

import command_pages
import event_pages
import reference_pages
import setting_pages
from sphinx.application import Sphinx

__all__ = ["setup"]

BLOCK = re.compile(r"^```\{from-the-code\} (\S+) ?(.*)\n```$", re.MULTILINE)
WRITERS: dict[str, Callable[[str], Iterable[str]]] = {
    "settings": setting_pages.lines,
    "commands": command_pages.lines,
    "events": event_pages.lines,
    "reference": reference_pages.lines,
}


def _fill(_app: Sphinx, _docname: str, source: list[str]) -> None:
    source[0] = BLOCK.sub(lambda found: "\n".join(WRITERS[found[1]](found[2])), source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect this to Sphinx."""
    app.connect("source-read", _fill)
    reference_pages.connect(app)
    app.add_object_type("setting", "setting", "%s (setting)", setting_pages.parse, objname="setting")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
