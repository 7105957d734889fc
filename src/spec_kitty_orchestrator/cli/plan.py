"""`plan`: what a run would do, as `--dry-run` shows it, or how long it takes with more and fewer slots."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator.app.build import build_host
from spec_kitty_orchestrator.app.checks.mission import plan_work_packages
from spec_kitty_orchestrator.app.forecasts import foresee, known_samples, start_of
from spec_kitty_orchestrator.app.mission import read_mission
from spec_kitty_orchestrator.app.project import Project, open_project
from spec_kitty_orchestrator.cli import dry_run, options, running
from spec_kitty_orchestrator.core.describe import count
from spec_kitty_orchestrator.core.forecast import (
    MOST_WORK,
    NOTHING_KNOWN,
    NOTHING_LEFT,
    Forecast,
    spelled_cost,
    spelled_time,
)
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.views.console import SteadyConsole, print_json, tell_asking

__all__ = ["plan"]

USUAL = range(1, 9)
MOST_SLOTS = 256

_SPAN = re.compile(r"(\d{1,3})(?:\.\.(\d{1,3}))?")


def plan(
    mission: Annotated[str, options.mission_option("Slug of the mission.")],
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Run the plan on virtual time instead of showing it.")
    ] = False,
    max_concurrent: Annotated[
        str | None,
        typer.Option(metavar="N", help="Slots; with --simulate also a span. [default: as set, or 1..8]"),
    ] = None,
    impl_agent: options.ImplAgent = None,
    review_agent: options.ReviewAgent = None,
    repo_root: options.RepoRoot = None,
    as_json: options.Json = False,
) -> None:
    """Show what a run would do, or simulate it with other slots.

    Nothing is changed or spent. A simulation draws durations, costs and verdicts from the attempts that were
    recorded in this repository.
    """
    given = {"impl_agents": impl_agent, "review_agents": review_agent}
    settings: dict[str, object] = {name: value for name, value in given.items() if value not in (None, [])}
    if simulate:
        slots = USUAL if max_concurrent is None else _slots(max_concurrent)
        raise typer.Exit(_simulate(open_project(repo_root, os.environ, settings), mission, slots, as_json))
    if as_json:
        raise UsageError("--json is for --simulate; without it `plan` is text for people")
    if max_concurrent is not None:
        settings["max_concurrent"] = max_concurrent
    project = open_project(repo_root, os.environ, settings)
    work = running.Work(project, mission, options.RunOptions(settings=settings))
    raise typer.Exit(anyio.run(work.main, dry_run.run))


def _slots(text: str) -> range:
    found = _SPAN.fullmatch(text)
    first, last = (int(one) for one in (found[1], found[2] or found[1])) if found else (0, 0)
    if not 1 <= first <= last <= MOST_SLOTS:
        raise UsageError(f"--max-concurrent {text!r} is no number or span of 1 to {MOST_SLOTS}, such as 1..8")
    return range(first, last + 1)


@dataclass(frozen=True)
class _Row:
    slots: int
    found: Forecast


def _simulate(project: Project, mission: str, slots: range, as_json: bool) -> int:
    if not as_json:
        tell_asking("spec-kitty", mission, project.redactor)
    slug, rows = anyio.run(_rows, project, mission, slots)
    if as_json:
        print_json(_document(slug, rows), project.redactor)
        return 0
    console = SteadyConsole(redactor=project.redactor)
    for line in _lines(slug, rows):
        console.tell(line)
    return 0


async def _rows(project: Project, mission: str, slots: range) -> tuple[str, list[_Row]]:
    # A call for each work package: a warm host answers them sooner.
    async with build_host(project, lambda _: None) as host:
        await host.check_contract()
        state = await read_mission(project, host, mission)
        planned = await plan_work_packages(project, host, state)
    if all(lane.complete for lane in state.lanes.values()):
        raise UsageError(f"{state.slug}: {NOTHING_LEFT}")
    samples, known = await known_samples(project.root), dry_run.where(planned)
    rows: list[_Row] = []
    for one in slots:
        begins = await start_of(project, state, replace(project.policy, max_concurrent=one))
        found = await foresee(begins, samples, known, most_work=MOST_WORK // 2)
        if found is not None:
            rows.append(_Row(one, found))
    return state.slug, rows


def _lines(slug: str, rows: Sequence[_Row]) -> Iterator[str]:
    if not rows:
        yield f"No forecast: {NOTHING_KNOWN}"
        return
    yield f"Mission {slug}, simulated from {count(rows[0].found.attempts, 'attempt')} in this repository"
    cells = [("slots", "duration", "cost", "bounded by"), *map(_cells, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    for row in cells:
        yield "  " + "  ".join(
            [*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]]
        )
    if unfinished := rows[-1].found.unfinished:
        yield f"With {count(rows[-1].slots, 'slot')}, {unfinished}."
    yield "Nine of ten runs should be within these ranges; nothing was changed."


def _cells(row: _Row) -> tuple[str, str, str, str]:
    found = row.found
    cost = spelled_cost(found.cost_usd) if found.cost_usd is not None else "not told"
    return str(row.slots), spelled_time(found.seconds), cost, found.bound


def _document(slug: str, rows: Sequence[_Row]) -> Mapping[str, object]:
    return {
        "mission": slug,
        "attempts": rows[0].found.attempts if rows else 0,
        "settings": [{"max_concurrent": row.slots, **row.found.document} for row in rows],
    }
