"""`resume`: goes on with an unfinished run, with the settings that it had."""

import os
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator.agents import names
from spec_kitty_orchestrator.app.project import Project, open_project
from spec_kitty_orchestrator.app.repository import find_repo_root
from spec_kitty_orchestrator.app.runs import find_unfinished
from spec_kitty_orchestrator.cli import options, running
from spec_kitty_orchestrator.cli.options import RunOptions
from spec_kitty_orchestrator.cli.running import Work
from spec_kitty_orchestrator.config import load
from spec_kitty_orchestrator.errors import ConfigError, UsageError
from spec_kitty_orchestrator.settings import as_option


@options.runs_a_mission
def resume(
    chosen: RunOptions,
    mission: Annotated[
        str | None,
        typer.Option("--mission", "-m", help="Slug; else the only unfinished run's.", show_default=False),
    ] = None,
) -> None:
    """Go on with a run that was interrupted, with its own settings.

    Options given here win over those of the run, and are remembered for the next time; `--host-transport` and
    what is listed under "This start" are not. Variables and the file's `[run]` count as they did when the run
    was started; `orchestrate` goes on with them as they are now. Defaults below are those of a first start.
    """
    root = find_repo_root(options.project_folder(chosen.repo_root))
    earlier = anyio.run(find_unfinished, root, mission)
    if earlier.started is None:
        raise UsageError(f"the journal of {earlier.mission} holds no run; `orchestrate` starts one")
    project = open_project(root, os.environ, chosen.settings, earlier.started.settings)
    work = Work(project, earlier.mission, chosen)
    kept = _kept(project, chosen)
    if kept:
        work.say(f"{earlier.mission}: keeps its own {kept}; the file and variables say otherwise now")
    raise typer.Exit(anyio.run(work.main, running.run))


def _kept(project: Project, chosen: RunOptions) -> str:
    """Return the options of the run that the file and the variables of now would have otherwise."""
    try:
        now = load(project.root, os.environ, {}, names()).run
    except ConfigError:
        return ""
    own = project.settings.run
    return " ".join(
        as_option(name, value)
        for name, value in own
        if name not in chosen.settings and value != getattr(now, name)
    )
