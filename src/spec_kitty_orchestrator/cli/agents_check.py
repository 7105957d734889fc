"""`agents check`: tells the author of an agent whether it keeps the contract of agents."""

import json
import os
from pathlib import Path
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator import app as parts
from spec_kitty_orchestrator.cli import words
from spec_kitty_orchestrator.cli.console import SteadyConsole
from spec_kitty_orchestrator.cli.options import project_folder
from spec_kitty_orchestrator.errors import PreflightError

LONGEST_LINE = 4000
"""Characters: an argv must be seen whole."""


def check(
    context: typer.Context,
    agent: Annotated[str, typer.Argument(help="Its name, as --impl-agent takes it.", show_default=False)],
    trial: Annotated[
        bool,
        typer.Option(
            "--run", help="Run it too, on a harmless task in a temporary repository. This can cost money."
        ),
    ] = False,
    repo_root: Annotated[
        Path | None, typer.Option(help="The project; else the current directory's.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check that an agent keeps the contract: its words, how it reads output, and with --run that it works.

    Outside of a repository the settings of none apply. Exit code 5 if something is wrong.
    """
    # The same options can stand before the word `check`.
    before = context.parent.params if context.parent else {}
    repo_root, as_json = repo_root or before.get("repo_root"), as_json or before.get("as_json", False)

    async def look() -> parts.CheckedAgent:
        start = project_folder(repo_root)
        return await parts.check_agent(start, os.environ, agent, anywhere=repo_root is None, trial=trial)

    found = anyio.run(look)
    redactor = found.redactor
    if as_json:
        typer.echo(json.dumps(redactor.value(_document(found)), indent=2, ensure_ascii=True))
    else:
        _show(found, SteadyConsole(highlight=False, soft_wrap=True, redactor=redactor), trial=trial)
    if not found.ok:
        raise typer.Exit(PreflightError.exit_code)


def _show(found: parts.CheckedAgent, console: SteadyConsole, *, trial: bool) -> None:
    for one in found.checks:
        state = "[green]ok    [/]" if one.ok else "[red]failed[/]"
        console.print(f"{state}  ", end="")
        console.print(words.clean(f"{one.name}: {one.text}", LONGEST_LINE), markup=False)
    if found.kept:
        console.print(f"The trial is kept in {found.kept}", markup=False)
    if trial and not found.tried:
        console.print("It was not run: what failed comes first", markup=False)
    if not trial and found.ok:
        console.print("It was not run; --run tries it on a harmless task, which can cost money", markup=False)


def _document(found: parts.CheckedAgent) -> dict[str, object]:
    return {
        "agent": found.name,
        "ok": found.ok,
        "tried": found.tried,
        "kept": str(found.kept) if found.kept else None,
        "checks": [{"name": one.name, "ok": one.ok, "text": one.text} for one in found.checks],
    }
