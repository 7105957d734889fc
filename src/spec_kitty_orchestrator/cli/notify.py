"""`notify`: lists the places where people are told of a run, and sends them a test message."""

import os
from collections.abc import Sequence
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator.app.notifications import Place, places
from spec_kitty_orchestrator.app.project import open_project
from spec_kitty_orchestrator.app.repository import start_folder
from spec_kitty_orchestrator.cli import options
from spec_kitty_orchestrator.config import CONFIG_FILE
from spec_kitty_orchestrator.core.describe import count
from spec_kitty_orchestrator.core.notices import trial
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.machine.journal import SystemClock
from spec_kitty_orchestrator.views.console import SteadyConsole

__all__ = ["notify"]

FAILED = 1


def notify(
    test: Annotated[bool, typer.Option("--test", help="Send one test message to each place.")] = False,
    mission: Annotated[str | None, options.mission_option("The slug that the test message names.")] = None,
    repo_root: options.RepoRoot = None,
) -> None:
    """List where people are told of a run, or send a test message.

    The places are the tables `[[notify]]` of the settings. The exit code is 1 if a message did not arrive.
    """
    project = open_project(start_folder(repo_root), os.environ, {})
    project.named.demand()
    console = SteadyConsole(redactor=project.redactor)
    ring = console.bell if console.is_terminal and not console.is_dumb_terminal else None
    found = places(project, mission or "", os.environ, ring)
    if not found:
        raise UsageError(f"nobody is told of a run: {CONFIG_FILE} has no [[notify]]; docs/notifications.md")
    if not test:
        for one in found:
            problem = f"; it cannot be used: {one.problem}" if one.problem else ""
            console.tell(f"{one.name}: {one.where}, on {', '.join(one.on)}{problem}")
        return
    problems = anyio.run(_try, found, mission or "")
    for one, problem in zip(found, problems, strict=True):
        told = f"was not told: {problem}" if problem else "was told"
        console.tell(f"{one.name} ({one.where}) {told}", "", "red" if problem else "")
    failed = sum(map(bool, problems))
    console.tell(f"{failed} of {count(len(found), 'place')} could not be told" if failed else "all were told")
    raise typer.Exit(FAILED if failed else 0)


async def _try(found: Sequence[Place], mission: str) -> list[str]:
    """Send a test message to each place at once, and return why it did not arrive, "" where it did."""
    notice, problems = trial(mission, SystemClock().now()), [one.problem for one in found]

    async def send(number: int, place: Place) -> None:
        problems[number] = await place.send(notice)

    async with anyio.create_task_group() as tasks:
        for number, one in enumerate(found):
            if not one.problem:
                tasks.start_soon(send, number, one)
    return problems
