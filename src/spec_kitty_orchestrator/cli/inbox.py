"""`inbox`: what needs a person, in all missions of the repository; from their journals, at once."""

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from spec_kitty_orchestrator.app.inbox import read_inbox
from spec_kitty_orchestrator.app.journals import root_around
from spec_kitty_orchestrator.app.status import redactor_around
from spec_kitty_orchestrator.cli.status import FORMATS, JSON, ONELINE, TABLE
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.views.ci import inert_json
from spec_kitty_orchestrator.views.inbox import rows
from spec_kitty_orchestrator.views.screen import Row, stdout

__all__ = ["inbox"]


def inbox(
    repo_root: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The project; else the current directory's.", show_default=False),
    ] = None,
    form: Annotated[
        str,
        typer.Option("--format", metavar="|".join(FORMATS), help="For people, for programs, or in one line."),
    ] = TABLE,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 if anything needs you.")
    ] = False,
) -> None:
    """Show what needs you, in all missions of the repository.

    What holds up most comes first, with its evidence and commands to paste; from the journals, at once.
    """
    if form not in FORMATS:
        raise UsageError(f"--format {form!r} is none of {', '.join(FORMATS)}")
    root = root_around(Path(repo_root) if repo_root else None, os.environ)
    found, redactor = read_inbox(root, os.environ), redactor_around(root, os.environ)
    screen = stdout(redactor)
    if form == JSON:
        print(inert_json(json.dumps(redactor.value(found.document), indent=2, default=datetime.isoformat)))  # noqa: T201
    elif form == ONELINE:
        screen.show([Row(text=found.line, copied=True)])
    else:
        screen.show(rows(found))
    if exit_code:
        raise typer.Exit(found.exit_code)
