"""Shows findings: one line each with the command that fixes it below, or objects of JSON."""

from collections.abc import Iterable, Mapping

from spec_kitty_orchestrator.app.checks import Finding, Level
from spec_kitty_orchestrator.views.console import SteadyConsole

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "bold red"}
_WIDTH = max(len(level) for level in Level)


def show(found: Iterable[Finding], console: SteadyConsole) -> None:
    """Print findings; each command has a line of its own, to be copied."""
    for one in found:
        console.tell(one.text, f"{one.level:<{_WIDTH}} ", _STYLES[one.level])
        if one.fix:
            console.tell(one.fix, " " * (_WIDTH + 3))


def document(one: Finding) -> Mapping[str, object]:
    """Return a finding as a JSON object."""
    return {
        "id": one.id,
        "level": one.level.value,
        "about": one.about or None,
        "text": one.text,
        "fix": one.fix or None,
    }
