"""Text of others without what acts on whoever shows it; the one cleaner for all that leaves us.

It goes to terminals, to the host's event log, into notes, arguments, files and the journal. Escape sequences
set titles, write the clipboard or hide lines; bidirectional marks show other text than is there; half a
character makes the host unable to read its own mission again; a NUL ends an argument.
"""

import re

__all__ = ["MARGIN", "begun", "ended", "plain"]

MARGIN = 20 * 1024
"""Characters that are read beyond those that are kept: whoever redacts, then cuts, must see whole secrets."""

_ACTS = re.compile(
    # Sequences of a terminal, in seven or eight bits; a string of one (a title, the clipboard) goes with it.
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|\x1b[ -/]*[0-~]?"
    # Other control characters, what turns the direction of text, and invisible doubles of letters.
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_HALVES = re.compile("[\ud800-\udfff]")
_RETURNS = re.compile(r"\r+(\n?)|[\u2028\u2029]")


def plain(text: str) -> str:
    """Return valid text without what acts; of control characters only tabs and line breaks are left.

    A lone carriage return, which lets a terminal write over the line, becomes a blank.
    """
    if text.isascii() and text.isprintable():
        return text
    if _HALVES.search(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return _ACTS.sub("", _RETURNS.sub(lambda found: found[1] or " ", text))


def ended(text: str, limit: int) -> str:
    """Return the last `limit` characters, with a mark of what was left out."""
    return text if len(text) <= limit else "…" + text[len(text) - limit + 1 :]


def begun(text: str, limit: int) -> str:
    """Return the first `limit` characters, with a mark of what was left out."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
