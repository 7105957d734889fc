"""The operator commands `retry`, `skip` and `abort`."""

import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator.app.abort import abort as end_run
from spec_kitty_orchestrator.app.operator import (
    Selection,
    project_of_run,
    retry_work_packages,
    selected,
    skip_work_package,
)
from spec_kitty_orchestrator.app.orders import active_mission, give, refuse_agents
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.repository import find_repo_root
from spec_kitty_orchestrator.cli.options import RepoRoot, mission_option
from spec_kitty_orchestrator.core.orders import Order, Retry, Skip
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.views.console import SteadyConsole, tell_asking

__all__ = ["Mission", "WorkPackageId", "decide"]

WorkPackageId = Annotated[
    str, typer.Argument(metavar="WP", help="Id of the work package, for example WP03.", show_default=False)
]
Mission = Annotated[str | None, mission_option("Slug; else the only unfinished run's.")]


def retry(
    wps: Annotated[
        list[str] | None,
        typer.Argument(metavar="WP", help="Ids of work packages, for example WP03.", show_default=False),
    ] = None,
    cause: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID",
            help="All that wait because of this, for example c1; the summary and `status` tell.",
            show_default=False,
        ),
    ] = None,
    all_blocked: Annotated[
        bool, typer.Option("--all-blocked", help="All that are parked or blocked, but for those left out.")
    ] = False,
    mission: Mission = None,
    note: Annotated[str, typer.Option(help="Guidance for the implementer.", show_default=False)] = "",
    repo_root: RepoRoot = None,
) -> None:
    """Put parked or blocked work packages back to work.

    The next run takes them up.
    """
    selection = Selection(wps or (), cause or (), all_blocked)
    if selection == Selection():
        raise UsageError("which work packages? Name them, or give --cause or --all-blocked")
    if not _ordered(repo_root, mission, selection, lambda wp: Retry(wp, note)):
        decide(
            lambda project, slug, say: retry_work_packages(project, slug, selection, note, say),
            repo_root,
            mission,
        )


def skip(
    wp: WorkPackageId,
    mission: Mission = None,
    note: Annotated[str, typer.Option(help="Why, for people.", show_default=False)] = "",
    repo_root: RepoRoot = None,
) -> None:
    """Leave a work package out, so that the rest can go on.

    `retry` takes it in again.
    """
    if not _ordered(repo_root, mission, Selection((wp,)), lambda wp: Skip(wp, note)):
        decide(lambda project, slug, say: skip_work_package(project, slug, wp, note, say), repo_root, mission)


def _ordered(
    repo_root: Path | None, mission: str | None, selection: Selection, order: Callable[[str], Order]
) -> bool:
    """Give the order for each work package to the run that is active; False if none is."""
    refuse_agents()
    root, say = find_repo_root(repo_root), SteadyConsole().tell
    active = active_mission(root, mission)
    if active is None:
        return False
    refused: list[str] = []
    for wp in anyio.run(selected, root, active, selection):
        try:
            if not anyio.run(give, root, active, order(wp), say):
                return False
        except UsageError as error:
            refused.append(str(error))
    if refused:
        raise UsageError("\n".join(refused))
    return True


def decide(
    command: Callable[[Project, str, Callable[[str], None]], Awaitable[None]],
    repo_root: Path | None,
    mission: str | None,
) -> str:
    """Perform a command with the settings of the run in question, and return its mission as it was named."""
    project, slug = anyio.run(project_of_run, find_repo_root(repo_root), os.environ, mission)
    tell_asking("spec-kitty", slug, project.redactor)
    anyio.run(command, project, slug, SteadyConsole(redactor=project.redactor).tell)
    return slug


def abort(
    mission: Annotated[str | None, mission_option("Slug; else the run that is active.")] = None,
    cleanup_worktrees: Annotated[
        bool,
        typer.Option(
            "--cleanup-worktrees",
            help="Remove our records of the run, and its worktrees that hold nothing uncommitted.",
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Save uncommitted work under a ref, then remove those worktrees too."),
    ] = False,
    repo_root: RepoRoot = None,
) -> None:
    """Stop a run and all its agents, and record that it is over.

    Branches, logs and the host's event log stay as they are.
    """
    if force and not cleanup_worktrees:
        raise UsageError("--force belongs to --cleanup-worktrees")
    root, say = find_repo_root(repo_root), SteadyConsole().tell
    anyio.run(partial(end_run, root, mission, cleanup=cleanup_worktrees, force=force, say=say))
