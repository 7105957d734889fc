"""`status`: the host's lanes, joined with what this machine knows about the run."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator.app.journals import journaled
from spec_kitty_orchestrator.app.project import open_project
from spec_kitty_orchestrator.app.runs import KnownRun, describe_end, when
from spec_kitty_orchestrator.app.status import MissionStatus, mission_status, status_forecast
from spec_kitty_orchestrator.cli import options
from spec_kitty_orchestrator.core.conflicts import advice
from spec_kitty_orchestrator.core.describe import LONGEST_REASON, note, totals
from spec_kitty_orchestrator.core.forecast import NOTHING_KNOWN, NOTHING_LEFT
from spec_kitty_orchestrator.core.model import Usage, total
from spec_kitty_orchestrator.core.run_events import RunEnded
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.views.console import SteadyConsole, print_json, tell_asking
from spec_kitty_orchestrator.views.table import columns, row


def status(
    mission: Annotated[str | None, options.mission_option("Slug; else the most recent run's.")] = None,
    repo_root: options.RepoRoot = None,
    as_json: options.Json = False,
    host: Annotated[
        bool, typer.Option("--host", help="Ask spec-kitty for the lanes, too, which takes seconds.")
    ] = False,
    forecast: Annotated[
        bool, typer.Option("--forecast", help="Say what is left, too: how long and how much; takes seconds.")
    ] = False,
) -> None:
    """Show where every work package stands, and what runs now.

    This comes from the journal, at once; a mission that was never run here is asked for at spec-kitty.
    """
    project = open_project(repo_root, os.environ, {})
    known = journaled(project.root)
    if mission is None and not known:
        raise UsageError("no mission was run here yet; name one with --mission")

    def asking(slug: str) -> None:
        if not as_json:
            tell_asking("spec-kitty", slug, project.redactor)

    found = anyio.run(lambda: mission_status(project, mission or known[0], asking, ask_host=host))
    ahead = anyio.run(status_forecast, project, found) if forecast else None
    if as_json:
        print_json({**_document(found, known), "forecast": ahead and ahead.document}, project.redactor)
        return
    console = SteadyConsole(redactor=project.redactor)
    if mission is None and len(known) > 1:
        console.tell(f"also run here: {', '.join(known[1:])}")
    _show(found, console)
    if forecast and all(wp.lane.complete for wp in found.work_packages):
        console.tell(f"No forecast: {NOTHING_LEFT}")
    elif forecast:
        console.tell(f"What is left: {ahead}" if ahead else f"No forecast: {NOTHING_KNOWN}")


def _show(found: MissionStatus, console: SteadyConsole) -> None:
    console.tell(f"Mission {found.run.mission}: {_run(found.run)}")
    if found.lanes_at is not None:
        console.tell(f"Lanes as of {when(found.lanes_at)}; --host asks spec-kitty for those of now.")
    shared = {wp: name for name, wps in found.causes.items() if len(wps) > 1 for wp in wps}
    table = columns("since (UTC)", {"overflow": "fold"}, pad_edge=False)
    for wp in found.work_packages:
        since = found.opened.get(wp.id) if wp.open_attempt else None
        said = f"cause {shared[wp.id]}, below" if wp.id in shared else found.note(wp)
        table.add_row(*row(wp, f"{since:%Y-%m-%d %H:%M:%S}" if since else "", said))
    console.print(table)
    for name, wps in found.causes.items():
        reason = next(found.note(wp) for wp in found.work_packages if wp.id == wps[0])
        if len(wps) > 1:
            console.tell(f"{name} ({', '.join(wps)}): {note(reason, LONGEST_REASON)}")
    for agent, one in found.resting.items():
        told = one.told if found.run.owner is not None else one.told_afterwards
        console.tell(f"{agent} is paused: {told}")
    if any(wp.attempts for wp in found.work_packages) or found.spent_before != Usage():
        console.tell(totals(found.work_packages, found.spent_before))
    for text in advice(found.conflicts, found.work_packages, found.run.mission):
        console.tell(text)
    for wp in found.work_packages:
        if logs := wp.open_attempt.directory if wp.open_attempt else found.gate_logs.get(wp.id):
            console.tell(f"{wp.id} logs: {logs}")


def _run(run: KnownRun) -> str:
    if run.owner is not None:
        owner = run.owner
        return f"a run is active: process {owner.pid} on {owner.host} since {when(owner.started_at)}"
    if run.started is None:
        return "it was not run here yet"
    go_on = "" if run.end else ": `resume` continues it"
    return f"no run is active; the last one {describe_end(run)}{go_on}"


def _document(found: MissionStatus, known: Sequence[str]) -> Mapping[str, object]:
    run, owner = found.run, found.run.owner
    return {
        "mission": run.mission,
        "run": {
            "active": owner is not None,
            "pid": owner.pid if owner else None,
            "host": owner.host if owner else None,
            "since": owner.started_at if owner else None,
            "last_exit_code": run.end.exit_code if isinstance(run.end, RunEnded) else None,
            "aborted": run.aborted,
        },
        "lanes_at": found.lanes_at,
        "work_packages": [_work_package(wp, found) for wp in found.work_packages],
        "agents_resting": {agent: one.until for agent, one in found.resting.items()},
        "agents_broken": {agent: one.broken for agent, one in found.resting.items() if one.broken},
        "conflicts": [asdict(one) for one in found.conflicts],
        "causes": found.causes,
        "used": asdict(total((found.spent_before, *(wp.usage for wp in found.work_packages)))),
        "used_before": asdict(found.spent_before),
        "missions_run_here": known,
    }


def _work_package(wp: WorkPackage, found: MissionStatus) -> Mapping[str, object]:
    attempt: dict[str, object] | None = None
    if wp.open_attempt:
        told = ("id", "number", "role", "agent", "directory")
        attempt = {name: getattr(wp.open_attempt, name) for name in told} | {"since": found.opened.get(wp.id)}
    return {
        "id": wp.id,
        "lane": wp.lane,
        "dependencies": wp.dependencies,
        "phase": wp.phase,
        "attempts": len(wp.attempts),
        "rejections": len(wp.review.rejected),
        "note": found.note(wp),
        "attempt": attempt,
        "gate_log": found.gate_logs.get(wp.id),
    }
