"""`abort`: ends a run for good, from any terminal, and if asked clears away what it left here."""

from pathlib import Path
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator import app
from spec_kitty_orchestrator.cli import options, words
from spec_kitty_orchestrator.cli.console import say
from spec_kitty_orchestrator.errors import UsageError

LONGEST_LINE = 2000


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
    root = app.find_repo_root(options.project_folder(repo_root))
    anyio.run(_abort, root, mission, cleanup_worktrees, force)


async def _abort(root: Path, mission: str | None, cleanup: bool, force: bool) -> None:
    run = await app.choose_to_abort(root, mission, cleanup=cleanup)
    if run is None:
        _say("nothing to abort: no run is active or unfinished here")
        return
    if run.owner is not None:
        _say(f"{run.mission}: stopping process {run.owner.pid}; its agents get some seconds to save")
    stopped = await app.stop_run(root, run)
    for line in _told(stopped):
        _say(f"{run.mission}: {line}")
    if not stopped.anything and not (run.unfinished and not run.aborted) and not cleanup:
        _say(f"nothing to abort: {run.mission} {app.describe(run)}")
        return
    if run.damage is not None:
        raise run.damage
    # What is removed by force is saved when that happens.
    copies = await app.record_abort(root, run, stopped, save=not force)
    for ref in copies:
        _say(f"a copy of uncommitted work is saved: {ref}")
    _say(f"{run.mission}: aborted; no process of it is left")
    if not cleanup:
        again = f"spec-kitty-orchestrator resume --mission {run.mission}"
        _say(f"Its worktrees, branches and lanes are as they were. To go on after all: {again}")
        return
    for one in await app.clean_up(root, run, force=force):
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


def _told(stopped: app.Stopped) -> list[str]:
    lines = []
    if stopped.owner is not None:
        how = "had to be killed" if stopped.killed else "stopped its agents and ended"
        lines.append(f"process {stopped.owner.pid} {how}")
    if stopped.agents:
        pids = ", ".join(str(one.child.pid) for one in stopped.agents)
        lines.append(f"agents that no run watched were stopped: processes {pids}")
    return lines


def _say(line: str) -> None:
    say(words.clean(line, LONGEST_LINE))
