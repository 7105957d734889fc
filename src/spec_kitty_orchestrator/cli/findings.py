"""Shows findings: one line each with the command that fixes it below, or objects of JSON."""

from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.text import Text

from spec_kitty_orchestrator.app.checks import Finding, Level
from spec_kitty_orchestrator.core.describe import clean
from spec_kitty_orchestrator.views.console import LONGEST_LINE

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "bold red"}
_WIDTH = max(len(level) for level in Level)


def show(found: Iterable[Finding], console: Console) -> None:
    """Print findings; each command has a line of its own, to be copied."""
    for one in found:
        text = Text(f"{one.level:<{_WIDTH}}", style=_STYLES[one.level])
        console.print(text, Text(clean(one.text, LONGEST_LINE)))
        if one.fix:
            console.print(Text(f"{'':<{_WIDTH}}   {clean(one.fix, LONGEST_LINE)}"))


def document(one: Finding) -> Mapping[str, object]:
    """Return a finding as a JSON object."""
    return {
        "id": one.id,
        "level": one.level.value,
        "about": one.about or None,
        "text": one.text,
        "fix": one.fix or None,
    }
