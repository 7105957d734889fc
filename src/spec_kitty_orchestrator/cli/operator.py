"""The operator commands `retry`, `skip` and `abort`."""

import os
from pathlib import Path
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator.app.abort import Stopped, clean_up, find_run_to_abort, record_abort, stop_run
from spec_kitty_orchestrator.app.operator import retry_work_package, skip_work_package
from spec_kitty_orchestrator.app.project import Project, open_project
from spec_kitty_orchestrator.app.repository import find_repo_root
from spec_kitty_orchestrator.app.runs import describe_run, find_unfinished, known_run
from spec_kitty_orchestrator.cli import options
from spec_kitty_orchestrator.core.describe import clean
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.views.console import LONGEST_LINE, say

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
    """Put a parked or blocked work package back to work.

    The next run takes it up.
    """
    project, slug = _project(repo_root, mission)
    decided = anyio.run(retry_work_package, project, slug, wp, note)
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
    """Leave a work package out, so that the rest can go on.

    `retry` takes it in again.
    """
    project, slug = _project(repo_root, mission)
    decided = anyio.run(skip_work_package, project, slug, wp, note)
    _tell(project, f"{wp} is left out: {decided.lane} on the host; {decided.wp.note}")
    for ref in decided.wp.rescued[-1:]:
        _tell(project, f"saved work: {ref}")
    _next(project, decided.mission)


def _project(repo_root: Path | None, mission: str | None) -> tuple[Project, str]:
    """Open the project with the settings of the run in question, and return its mission."""
    root = find_repo_root(options.project_folder(repo_root))
    try:
        run = anyio.run(find_unfinished, root, mission)
    except UsageError:
        if mission is None:
            raise
        return open_project(root, os.environ, {}), mission  # the host may know it although there is no run
    recorded = run.started.settings if run.started else {}
    return open_project(root, os.environ, {}, recorded), run.mission


def _next(project: Project, mission: str) -> None:
    run = anyio.run(known_run, project.root, mission)
    command = "resume" if run.started else "orchestrate"
    _tell(project, f"To go on: spec-kitty-orchestrator {command} --mission {mission}")


def _tell(project: Project, line: str) -> None:
    say(clean(line, LONGEST_LINE), project.redactor)


def abort(
    mission: Annotated[
        str | None,
        typer.Option("--mission", "-m", help="Slug; else the run that is active.", show_default=False),
    ] = None,
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
    repo_root: options.RepoRoot = None,
) -> None:
    """Stop a run and all its agents, and record that it is over.

    Branches, logs and the host's event log stay as they are.
    """
    if force and not cleanup_worktrees:
        raise UsageError("--force belongs to --cleanup-worktrees")
    root = find_repo_root(options.project_folder(repo_root))
    anyio.run(_abort, root, mission, cleanup_worktrees, force)


async def _abort(root: Path, mission: str | None, cleanup: bool, force: bool) -> None:
    run = await find_run_to_abort(root, mission, cleanup=cleanup)
    if run is None:
        _say("nothing to abort: no run is active or unfinished here")
        return
    if run.owner is not None:
        _say(f"{run.mission}: stopping process {run.owner.pid}; its agents get some seconds to save")
    stopped = await stop_run(root, run)
    for line in _told(stopped):
        _say(f"{run.mission}: {line}")
    if not stopped.anything and not (run.unfinished and not run.aborted) and not cleanup:
        _say(f"nothing to abort: {run.mission} {describe_run(run)}")
        return
    if run.damage is not None:
        raise run.damage
    # With force, work is saved when its worktree is removed.
    copies = await record_abort(root, run, stopped, save=not force)
    for ref in copies:
        _say(f"a copy of uncommitted work is saved: {ref}")
    _say(f"{run.mission}: aborted; no process of it is left")
    if not cleanup:
        again = f"spec-kitty-orchestrator resume --mission {run.mission}"
        _say(f"Its worktrees, branches and lanes are as they were. To go on after all: {again}")
        return
    for one in await clean_up(root, run, force=force):
        names = ", ".join(one.work_packages)
        if one.saved:
            _say(f"saved: {one.saved} ({names})")
        _say(f"kept: {one.path} ({names}): {one.kept}" if one.kept else f"removed: {one.path} ({names})")
    if copies:
        _say(
            "What a kept worktree holds is saved above. Before another run of this mission, commit it there,"
        )
        _say("or remove the worktree with `git worktree remove --force PATH`, which loses nothing.")
    _say(f"removed: {run.directory}; branches, logs and the host's lanes are as they were")


def _told(stopped: Stopped) -> list[str]:
    lines = []
    if stopped.owner is not None:
        how = "had to be killed" if stopped.killed else "stopped its agents and ended"
        lines.append(f"process {stopped.owner.pid} {how}")
    if stopped.agents:
        pids = ", ".join(str(one.child.pid) for one in stopped.agents)
        lines.append(f"agents that no run watched were stopped: processes {pids}")
    return lines


def _say(line: str) -> None:
    say(clean(line, LONGEST_LINE))
