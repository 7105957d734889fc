"""`retry` and `skip`: what a person decides about one work package while no run is active."""

import os
from pathlib import Path
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator import app
from spec_kitty_orchestrator.app import Project
from spec_kitty_orchestrator.cli import options, words
from spec_kitty_orchestrator.cli.console import say
from spec_kitty_orchestrator.errors import UsageError

LONGEST_LINE = 2000

WorkPackageId = Annotated[
    str, typer.Argument(metavar="WP", help="Id of the work package, for example WP03.", show_default=False)
]
Mission = Annotated[
    str | None,
    typer.Option("--mission", "-m", help="Slug; else the only unfinished run's.", show_default=False),
]


def retry(
    wp: WorkPackageId,
    mission: Mission = None,
    note: Annotated[str, typer.Option(help="Guidance for the implementer.", show_default=False)] = "",
    repo_root: options.RepoRoot = None,
) -> None:
    """Put a parked or blocked work package back to work; the next run takes it up."""
    project, slug = _project(repo_root, mission)
    decided = anyio.run(app.retry, project, slug, wp, note)
    _tell(
        project,
        f"{wp} is back to work: {decided.lane} on the host, with fresh limits of attempts and rejections",
    )
    _next(project, decided.mission)


def skip(
    wp: WorkPackageId,
    mission: Mission = None,
    note: Annotated[str, typer.Option(help="Why, for people.", show_default=False)] = "",
    repo_root: options.RepoRoot = None,
) -> None:
    """Leave a work package out of the run, so that the rest can go on; `retry` takes it in again."""
    project, slug = _project(repo_root, mission)
    decided = anyio.run(app.skip, project, slug, wp, note)
    _tell(project, f"{wp} is left out: {decided.lane} on the host; {decided.wp.note}")
    for ref in decided.wp.rescued[-1:]:
        _tell(project, f"saved work: {ref}")
    _next(project, decided.mission)


def _project(repo_root: Path | None, mission: str | None) -> tuple[Project, str]:
    """Open the project with the settings of the run that is meant, and return its mission."""
    root = app.find_repo_root(options.project_folder(repo_root))
    try:
        run = anyio.run(app.choose_unfinished, root, mission)
    except UsageError:
        if mission is None:
            raise
        return app.open_project(root, os.environ, {}), mission  # the host may know it, though no run does
    settings = app.settings_of(run.started) if run.started else {}
    return app.open_project(root, os.environ, settings), run.mission


def _next(project: Project, mission: str) -> None:
    run = anyio.run(app.known_run, project.root, mission)
    command = "resume" if run.started else "orchestrate"
    _tell(project, f"To go on: spec-kitty-orchestrator {command} --mission {mission}")


def _tell(project: Project, line: str) -> None:
    say(words.clean(line, LONGEST_LINE), project.redactor)
