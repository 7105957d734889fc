"""`takeover`, `handback` and `approve`: what a person does to a work package."""

import os
from pathlib import Path
from typing import Annotated

import typer

from spec_kitty_orchestrator.app.journals import find_journal
from spec_kitty_orchestrator.app.people import approve as approve_work
from spec_kitty_orchestrator.app.people import hand_back, take_over
from spec_kitty_orchestrator.app.repository import find_repo_root
from spec_kitty_orchestrator.app.status import StatusReader
from spec_kitty_orchestrator.cli.operator import Mission, WorkPackageId, decide
from spec_kitty_orchestrator.cli.options import RepoRoot
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.machine.user import this_user
from spec_kitty_orchestrator.views.inbox import evidence
from spec_kitty_orchestrator.views.screen import stdout

Person = Annotated[str, typer.Option("--as", metavar="NAME", help="Who you are; else your user's name.")]


def takeover(wp: WorkPackageId, mission: Mission = None, by: Person = "", repo_root: RepoRoot = None) -> None:
    """Work on a work package yourself.

    An agent at work on it is stopped and its work is kept. No run touches it until `handback`; what depends
    on it waits.
    """
    name = by or this_user()
    slug = decide(lambda project, slug, say: take_over(project, slug, wp, name, say), repo_root, mission)
    _show_evidence(repo_root, slug, wp)


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
    name = by or this_user()
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
    name = by or this_user()
    decide(
        lambda project, slug, say: approve_work(project, slug, wp, name, note, head, say), repo_root, mission
    )


def _show_evidence(repo_root: Path | None, mission: str, wp: str) -> None:
    root = find_repo_root(repo_root)
    reader = StatusReader(root, find_journal(root, mission) or mission, os.environ)
    known = next((one for one in reader.read().report.wps if one.id == wp), None)
    if known is not None:
        stdout(reader.redactor).show(evidence(known))
