"""`resume`: goes on with an unfinished run, with the settings that it had."""

import os
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator.app.project import open_project
from spec_kitty_orchestrator.app.repository import find_repo_root
from spec_kitty_orchestrator.app.runs import find_unfinished, settings_of
from spec_kitty_orchestrator.cli import options, running
from spec_kitty_orchestrator.cli.options import RunOptions
from spec_kitty_orchestrator.cli.running import Work
from spec_kitty_orchestrator.errors import UsageError


@options.runs_a_mission
def resume(
    chosen: RunOptions,
    mission: Annotated[
        str | None,
        typer.Option("--mission", "-m", help="Slug; else the only unfinished run's.", show_default=False),
    ] = None,
) -> None:
    """Go on with a run that was interrupted, with its own settings.

    Flags given here win over those of the run, and are remembered for the next time; `--poll-interval`,
    `--host-transport` and what only tells how this start ends are not.
    """
    root = find_repo_root(options.project_folder(chosen.repo_root))
    earlier = anyio.run(find_unfinished, root, mission)
    if earlier.started is None:
        raise UsageError(f"the journal of {earlier.mission} holds no run; `orchestrate` starts one")
    settings = settings_of(earlier.started)
    flags = {**settings, **{key: value for key, value in chosen.settings.items() if value is not None}}
    known = settings["gate"]
    flags["gate"] = [*(known if isinstance(known, list) else ()), *(chosen.gate or ())] or None
    work = Work(open_project(root, os.environ, flags), earlier.mission, chosen)
    raise typer.Exit(anyio.run(work.main, running.run))
