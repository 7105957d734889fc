"""GitLab CI: sections of the log, and variables for later jobs."""

import re
from collections.abc import Iterable
from datetime import datetime

from spec_kitty_orchestrator.core.plain_text import begun
from spec_kitty_orchestrator.views.ci import inert

__all__ = ["end", "section", "variables"]

_CLEAR = "\r\x1b[0K"
LONGEST_VALUE = 200
"""GitLab takes files of 5 kB and 20 variables."""


def section(title: str, at: datetime, *, folded: bool) -> str:
    """Open a section."""
    options = "[collapsed=true]" if folded else ""
    return f"section_start:{int(at.timestamp())}:{_name(title)}{options}{_CLEAR}{inert(title)}"


def end(title: str, at: datetime) -> str:
    """Close the section of this title."""
    return f"section_end:{int(at.timestamp())}:{_name(title)}{_CLEAR}"


def _name(title: str) -> str:
    return "sko_" + re.sub(r"[^A-Za-z0-9]+", "_", title)[:40].lower()


def variables(figures: Iterable[tuple[str, str]]) -> str:
    """Return a dotenv file: no quotes, no comments, and values of one line each."""
    lines = []
    for name, text in figures:
        one_line = begun(" ".join(text.split()), LONGEST_VALUE)
        lines.append(f"ORCHESTRATOR_{name.upper().replace('-', '_')}={one_line}\n")
    return "".join(lines)
