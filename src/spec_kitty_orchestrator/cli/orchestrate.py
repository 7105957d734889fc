"""`orchestrate`: runs a mission, or with `--dry-run` shows what that would do."""

import os
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator.app.build import build_host
from spec_kitty_orchestrator.app.checks import stop_at
from spec_kitty_orchestrator.app.checks.agent_programs import find_installed
from spec_kitty_orchestrator.app.checks.agents import find_problems, untried_versions
from spec_kitty_orchestrator.app.checks.mission import check_free
from spec_kitty_orchestrator.app.mission import read_mission
from spec_kitty_orchestrator.app.plan import make_plan
from spec_kitty_orchestrator.app.project import open_project
from spec_kitty_orchestrator.cli import dry_run, options, running
from spec_kitty_orchestrator.cli.options import RunOptions
from spec_kitty_orchestrator.cli.running import Work
from spec_kitty_orchestrator.errors import OrchestratorError
from spec_kitty_orchestrator.views.console import SteadyConsole


@options.runs_a_mission
def orchestrate(
    chosen: RunOptions,
    mission: Annotated[str, typer.Option("--mission", "-m", help="Slug of the mission.", show_default=False)],
    plan_only: Annotated[bool, typer.Option("--dry-run", help="Change nothing; show the plan.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Put the journal of an earlier run aside and start over.")
    ] = False,
) -> None:
    """Take every work package of a mission from planned to done.

    Interrupt it at any time; the same command goes on where it was, with the options and settings of now,
    and `resume` with those that the run was started with.
    """
    project = open_project(options.project_folder(chosen.repo_root), os.environ, chosen.settings)
    work = Work(project, mission, chosen, fresh=fresh)
    raise typer.Exit(anyio.run(work.main, _show_plan if plan_only else running.run))


async def _show_plan(work: Work) -> int:
    problems = find_problems(work.project, work.agents)
    try:
        async with build_host(work.project, work.say) as host:
            await host.check_contract()
            state = await read_mission(work.project, host, work.mission)
            problems += check_free(work.project, state.slug)
            installed = await find_installed(work.agents, work.project.agents, thorough=False)
            versions = untried_versions(work.agents, installed)
            plan = await make_plan(work.project, host, work.agents, state, versions)
    except OrchestratorError as error:
        problems.append(error)
    else:
        dry_run.show(plan, SteadyConsole(highlight=False, soft_wrap=True, redactor=work.project.redactor))
    stop_at(problems)
    return 0
