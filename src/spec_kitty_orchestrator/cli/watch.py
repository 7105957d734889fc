"""`watch`: an interactive view of a mission's run, from any terminal."""

import os
import sys
from typing import Annotated

from spec_kitty_orchestrator.app.journals import run_here
from spec_kitty_orchestrator.app.project import open_project
from spec_kitty_orchestrator.app.runs import active_run
from spec_kitty_orchestrator.cli import options
from spec_kitty_orchestrator.errors import UsageError

__all__ = ["watch"]

INSTEAD = "`status` shows the same once, `events -f` goes on telling what happens"


def watch(
    mission: Annotated[
        str | None, options.mission_option("Slug; else the one that runs, or ran most recently.")
    ] = None,
    repo_root: options.RepoRoot = None,
) -> None:
    """Watch a run on the whole screen, and steer it.

    What needs you comes first. It can be left and begun again at any time. Small letters only look; capital
    letters give orders, as `pause`, `stop` and `retry` do. `?` explains its keys.
    """
    # It is drawn on standard error.
    if (
        not all(one.isatty() for one in (sys.stdin, sys.stdout, sys.stderr))
        or os.environ.get("TERM", "dumb") == "dumb"
    ):
        raise UsageError(f"`watch` needs a terminal; {INSTEAD}")
    try:
        from spec_kitty_orchestrator.views.watch.screen import WatchApp
    except ImportError as error:
        raise UsageError(f"`watch` cannot draw without textual ({error}): install it; {INSTEAD}") from error
    # Loaded only for what is drawn.
    from spec_kitty_orchestrator.app.watch import MissionWatch
    from spec_kitty_orchestrator.core.situation import Status
    from spec_kitty_orchestrator.views.console import SteadyConsole
    from spec_kitty_orchestrator.views.watch.details import farewell
    from spec_kitty_orchestrator.views.watch.spans import text_of

    project = open_project(repo_root, os.environ, {})

    source = MissionWatch(project, run_here(project.root, mission or active_run(project.root)))
    source.look()
    WatchApp(source).run()
    source.look()
    report = source.report
    needy = [*report.of(Status.NEEDS_YOU), *report.of(Status.CUT_OFF)]
    console = SteadyConsole(redactor=project.redactor)
    for line in farewell(report, source.tails(needy)):
        console.tell(text_of(line), style=line[0][1])
