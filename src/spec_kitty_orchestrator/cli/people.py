"""`takeover`, `handback` and `approve`: what a person does to a work package."""

import os
from pathlib import Path
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator.app.orders import active_mission
from spec_kitty_orchestrator.app.people import approve as approve_work
from spec_kitty_orchestrator.app.people import (
    approve_in_run,
    hand_back,
    hand_back_in_run,
    take_over,
    take_over_in_run,
)
from spec_kitty_orchestrator.app.project import open_project
from spec_kitty_orchestrator.app.repository import find_repo_root
from spec_kitty_orchestrator.app.status import StatusReader
from spec_kitty_orchestrator.cli.operator import Mission, WorkPackageId, decide
from spec_kitty_orchestrator.cli.options import RepoRoot
from spec_kitty_orchestrator.core.advice import handback as handback_command
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.machine.user import this_user
from spec_kitty_orchestrator.views.console import SteadyConsole
from spec_kitty_orchestrator.views.inbox import evidence
from spec_kitty_orchestrator.views.screen import Row, stdout

__all__ = ["approve", "handback", "takeover"]

Person = Annotated[str, typer.Option("--as", metavar="NAME", help="Who you are; else your user's name.")]


def takeover(wp: WorkPackageId, mission: Mission = None, by: Person = "", repo_root: RepoRoot = None) -> None:
    """Work on a work package yourself.

    An agent at work on it is stopped and its work is kept. No run touches it until `handback`; what depends
    on it waits.
    """
    name, root, say = by or this_user(), find_repo_root(repo_root), SteadyConsole().tell
    slug = active_mission(root, mission)
    if slug is None or not anyio.run(take_over_in_run, root, slug, wp, name, say):
        slug = decide(lambda project, slug, say: take_over(project, slug, wp, name, say), repo_root, mission)
    _show_work(root, slug, wp, name)


def handback(
    wp: WorkPackageId,
    mission: Mission = None,
    note: Annotated[str, typer.Option(help="What you did, for reviewers.", show_default=False)] = "",
    by: Person = "",
    repo_root: RepoRoot = None,
) -> None:
    """Give a work package that you took over back to the run.

    What you left is committed; its gates and its review follow, as after an agent's attempt.
    """
    name, root, say = by or this_user(), find_repo_root(repo_root), SteadyConsole().tell
    slug = active_mission(root, mission)
    if slug is None or not anyio.run(hand_back_in_run, root, slug, wp, name, note, say):
        decide(lambda project, slug, say: hand_back(project, slug, wp, name, note, say), repo_root, mission)


def approve(
    wp: WorkPackageId,
    note: Annotated[str, typer.Option(help="What you say of it; it is told to the host.")],
    mission: Mission = None,
    by: Person = "",
    head: Annotated[
        str, typer.Option(metavar="SHA", help="The commit you looked at; else the one that is there.")
    ] = "",
    repo_root: RepoRoot = None,
) -> None:
    """Approve the work of a work package yourself.

    It is a review of the commit that its worktree is at; every gate must have passed on it.
    """
    if not note.strip():
        raise UsageError("--note says what you looked at; it may not be empty")
    name, root = by or this_user(), find_repo_root(repo_root)
    slug = active_mission(root, mission)
    if slug is not None:
        project = open_project(root, os.environ, {})
        say = SteadyConsole(redactor=project.redactor).tell
        if anyio.run(approve_in_run, project, slug, wp, name, note, head, say):
            return
    decide(
        lambda project, slug, say: approve_work(project, slug, wp, name, note, head, say), repo_root, mission
    )


def _show_work(root: Path, mission: str, wp: str, name: str) -> None:
    """Show what was asked for, where the work is, and how to hand it back."""
    reader = StatusReader(root, mission, os.environ)
    report = reader.read().report
    known = next((one for one in report.wps if one.id == wp), None)
    if known is None or known.situation.wp.taken is None:
        return
    workspace = known.situation.wp.workspace
    path = f"worktree: {workspace.path}" if workspace is not None else ""
    rows = [*evidence(known), *([Row(text=path, copied=True)] if path else [])]
    back = Row((("To hand it back: ", ""),), handback_command(wp, name, report.mission), copied=True)
    stdout(reader.redactor).show([*rows, back])
