"""`status`: the host's lanes, joined with what this machine knows about the run."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import anyio
import typer
from rich.table import Table
from rich.text import Text

from spec_kitty_orchestrator.app.project import open_project
from spec_kitty_orchestrator.app.repository import journaled
from spec_kitty_orchestrator.app.status import MissionStatus, mission_status
from spec_kitty_orchestrator.cli import options
from spec_kitty_orchestrator.core.describe import clean, note
from spec_kitty_orchestrator.core.limits import used_up
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.views.console import LANE_STYLES, SteadyConsole, print_json


def status(
    mission: Annotated[str | None, options.mission_option("Slug; else the most recent run's.")] = None,
    repo_root: options.RepoRoot = None,
    as_json: options.Json = False,
    host: Annotated[
        bool, typer.Option("--host", help="Ask spec-kitty for the lanes, too, which takes seconds.")
    ] = False,
) -> None:
    """Show where every work package stands, and what runs now.

    This comes from the journal, at once; a mission that was never run here is asked for at spec-kitty.
    """
    project = open_project(options.project_folder(repo_root), os.environ, {})
    known = journaled(project.root)
    if mission is None and not known:
        raise UsageError("no mission was run here yet; name one with --mission")
    found = anyio.run(lambda: mission_status(project, mission or known[0], ask_host=host))
    if as_json:
        print_json(_document(found, known), project.redactor)
        return
    console = SteadyConsole(redactor=project.redactor)
    if mission is None and len(known) > 1:
        console.tell(f"also run here: {', '.join(known[1:])}")
    _show(found, console)


def _show(found: MissionStatus, console: SteadyConsole) -> None:
    console.tell(_headline(found))
    if found.lanes_at is not None:
        console.tell(f"Lanes as of {_time(found.lanes_at)} UTC; --host asks spec-kitty for those of now.")
    table = Table(box=None, pad_edge=False)
    for heading in ("WP", "lane", "phase", "attempt", "agent", "since (UTC)"):
        table.add_column(heading, no_wrap=True)
    table.add_column("note", overflow="fold")
    for row in found.work_packages:
        live = row.attempt
        table.add_row(
            Text(row.id, style="bold"),
            Text(row.lane, style=LANE_STYLES.get(row.lane, "")),
            Text(row.phase),
            Text(str(row.attempts or "")),
            Text(clean(live.agent) if live else ""),
            Text(_time(live.since) if live and live.since else ""),
            Text(note(row.note)),
        )
    console.print(table)
    for agent, until in found.resting.items():
        console.tell(f"{agent} is paused: {used_up(until)}")
    for row in found.work_packages:
        logs = row.attempt.directory if row.attempt else row.gate_log
        if logs:
            console.tell(f"{row.id} logs: {logs}")


def _headline(found: MissionStatus) -> str:
    owner = found.owner
    if owner is not None:
        run = f"a run is active: process {owner.pid} on {owner.host} since {_time(owner.started_at)} UTC"
    elif found.last_exit is not None:
        run = f"no run is active; the last one ended with exit code {found.last_exit}"
    elif found.aborted:
        run = "no run is active; the last one was aborted"
    elif found.started:
        run = "no run is active; the last one was cut off: `resume` continues it"
    else:
        run = "it was not run here yet"
    return f"Mission {found.mission}: {run}"


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _document(found: MissionStatus, known: Sequence[str]) -> Mapping[str, object]:
    owner = found.owner
    return {
        "mission": found.mission,
        "run": {
            "active": owner is not None,
            "pid": owner.pid if owner else None,
            "host": owner.host if owner else None,
            "since": owner.started_at if owner else None,
            "last_exit_code": found.last_exit,
            "aborted": found.aborted,
        },
        "lanes_at": found.lanes_at,
        "work_packages": [asdict(row) for row in found.work_packages],
        "agents_resting": found.resting,
        "missions_run_here": known,
    }
