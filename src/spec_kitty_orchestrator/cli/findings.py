"""Shows findings: for people one line each and the command that mends it below, for programs an object."""

from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.text import Text

from spec_kitty_orchestrator.app.checks import Finding, Level
from spec_kitty_orchestrator.views import words

LONGEST = 4000
"""Characters: a command must be seen whole."""

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "bold red"}
_WIDTH = max(len(level) for level in Level)


def show(found: Iterable[Finding], console: Console) -> None:
    """Print them; a command stands alone on its line, to be copied."""
    for one in found:
        text = Text(f"{one.level:<{_WIDTH}}", style=_STYLES[one.level])
        console.print(text, Text(words.clean(one.text, LONGEST)))
        if one.mend:
            console.print(Text(f"{'':<{_WIDTH}}   {words.clean(one.mend, LONGEST)}"))


def document(one: Finding) -> Mapping[str, object]:
    """Write one as the fields of an object of JSON."""
    return {
        "id": one.id,
        "level": one.level.value,
        "about": one.about or None,
        "text": one.text,
        "mend": one.mend or None,
    }
