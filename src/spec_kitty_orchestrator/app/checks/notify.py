"""Checks of the places where people are told of a run; nobody is told anything."""

import os

from spec_kitty_orchestrator.app.checks import Finding, edit, ok, warning
from spec_kitty_orchestrator.app.notifications import BELL, places
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.config import CONFIG_FILE
from spec_kitty_orchestrator.core.describe import command_line
from spec_kitty_orchestrator.machine.redaction import Redactor

__all__ = ["check_places"]


def check_places(project: Project) -> list[Finding]:
    """Check that the places are well-formed, and name secrets as variables."""
    file, found = edit(project.root / CONFIG_FILE), []
    sections = project.settings.notify
    for section, one in zip(sections, places(project, "", os.environ, None), strict=True):
        if one.problem and one.where != BELL:
            text = f"{one.name} would be told nothing of a run: {one.problem}"
            found.append(warning("notify.place", text, file, one.name))
        elif section.url is not None and Redactor().text(section.url) != section.url:
            text = f"the address of {one.name} holds a secret; write ${{NAME}} and set that variable to it"
            found.append(warning("notify.place", text, file, one.name))
    if sections and not found:
        test = command_line("notify", "--test")
        found.append(ok("notify.place", f"where people are told is well-formed; a test message: {test}"))
    return found
