"""`report`: what a mission's runs were, for people and for programs."""

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator.app.project import open_project
from spec_kitty_orchestrator.app.report import Format, Found, read_report, write_as
from spec_kitty_orchestrator.app.runs import named_run
from spec_kitty_orchestrator.cli import options
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.machine.files import discard, write_private
from spec_kitty_orchestrator.views.ci import inert, inert_json, service_around
from spec_kitty_orchestrator.views.console import SteadyConsole

__all__ = ["report"]

STDOUT = "-"


def report(
    mission: Annotated[str | None, options.mission_option("Slug; else the most recent run's.")] = None,
    repo_root: options.RepoRoot = None,
    form: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.HTML,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Where to write it, - for stdout; else a page goes beside the journal, the rest to stdout.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Tell what a mission's runs were, as a page or for programs.

    It comes from the journal, also while the run goes on; nothing else is changed or asked.
    """
    project = open_project(repo_root, os.environ, {})
    run = anyio.run(named_run, project.root, mission)
    if run.damage is not None:
        raise run.damage
    if run.started is None:
        raise UsageError(f"the journal of {run.mission} holds no run; `orchestrate` starts one")

    async def read() -> Found:
        return await read_report(project, run.mission, active=run.owner is not None)

    found = anyio.run(read)
    if output == STDOUT or (output is None and form is not Format.HTML):
        _print(write_as(found, project, form, found.page.parent))
        return
    target = found.page if output is None else Path(output).absolute()
    _write(target, write_as(found, project, form, target.parent))
    SteadyConsole(stderr=output is not None, redactor=project.redactor).tell(str(target))


def _write(target: Path, text: str) -> None:
    try:
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            # A device or a pipe is written to, not replaced.
            with target.open("w", encoding="utf-8") as file:
                file.write(text)
        else:
            write_private(target, text)
    except OSError as error:
        raise UsageError(
            f"{target} cannot be written: {error.strerror or error}; give another --output"
        ) from error


def _print(text: str) -> None:
    if service_around(os.environ) is not None:
        text = inert(inert_json(text) if text.startswith("{") else text)
    data = text.encode("utf-8", "replace")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough.
        with suppress(OSError):
            discard(sys.stdout.fileno())
