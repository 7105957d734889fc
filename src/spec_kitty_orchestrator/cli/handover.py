"""`export` and `import`: a run goes on in another clone, on another machine."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator.app.export import export_run
from spec_kitty_orchestrator.app.import_run import import_run, take_back
from spec_kitty_orchestrator.app.journals import run_here
from spec_kitty_orchestrator.app.project import open_project
from spec_kitty_orchestrator.app.repository import find_repo_root, primary_checkout
from spec_kitty_orchestrator.app.runs import known_run
from spec_kitty_orchestrator.app.trust import own_records
from spec_kitty_orchestrator.cli.options import RepoRoot, mission_option
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.views.console import SteadyConsole

__all__ = ["export", "import_"]


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the pack goes.", show_default=False)],
    mission: Annotated[str | None, mission_option("Slug; else the most recent run's.")] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Also pack the history that remotes are known to have.")
    ] = False,
    repo_root: RepoRoot = None,
) -> None:
    """Pack a run into one file, to go on in another clone.

    It holds the mission's branches, what is not committed in its worktrees, the journal and the reviews, but
    no secrets, no sessions of agents and no settings file. Here the run goes on only after an `import`.
    """
    root = find_repo_root(repo_root)
    # They say which files are packed.
    own_records(root).demand()
    run = anyio.run(known_run, root, run_here(root, mission))
    if run.damage is not None:
        raise run.damage
    if run.started is None:
        raise UsageError(f"the journal of {run.mission} holds no run: there is nothing to export")
    project = open_project(root, os.environ, {}, run.started.settings)
    say = SteadyConsole(redactor=project.redactor).tell
    anyio.run(partial(export_run, project, run.mission, file.absolute(), say, whole=whole))


def import_(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="What `export` made.", show_default=False)
    ] = None,
    back: Annotated[
        bool,
        typer.Option(
            "--take-back", help="Instead of a file: go on here with a run that was exported and not imported."
        ),
    ] = False,
    mission: Annotated[
        str | None, mission_option("With --take-back: slug, else the most recent run's.")
    ] = None,
    repo_root: RepoRoot = None,
) -> None:
    """Unpack an exported run, to go on with it here.

    Branches only move forward, worktrees are made anew, and what agents had not committed is put back.
    Nothing is changed where the run here has gone on, or commits and edits here are in the way.
    """
    root, say = find_repo_root(repo_root), SteadyConsole().tell
    if back is (file is not None) or (mission and not back):
        raise UsageError("give a file, or --take-back, which can name a --mission")
    if file is None:
        anyio.run(take_back, root, mission, say)
    else:
        primary, bare = primary_checkout(root)
        if bare or primary.resolve() != root:
            raise UsageError(f"{root} is no primary checkout: import where the host works, in a clone")
        anyio.run(import_run, root, file.absolute(), say)
