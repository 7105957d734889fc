"""`orchestrate`: runs a mission, or with `--dry-run` shows what that would do."""

import os
from pathlib import Path
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator import app
from spec_kitty_orchestrator.cli import dry_run, options, running
from spec_kitty_orchestrator.cli.console import SteadyConsole
from spec_kitty_orchestrator.cli.options import OnInterrupt
from spec_kitty_orchestrator.cli.running import Work
from spec_kitty_orchestrator.errors import OrchestratorError


def orchestrate(
    mission: Annotated[str, typer.Option("--mission", "-m", help="Slug of the mission.", show_default=False)],
    impl_agent: options.ImplAgent = None,
    review_agent: options.ReviewAgent = None,
    max_concurrent: options.MaxConcurrent = None,
    max_per_agent: options.MaxPerAgent = None,
    gate: options.Gate = None,
    no_session_resume: options.NoSessionResume = False,
    on_rate_limit: options.OnLimit = None,
    max_wait: options.MaxWait = None,
    review_quorum: options.ReviewQuorum = None,
    require_independent_review: options.IndependentReview = False,
    max_cost: options.MaxCost = None,
    max_tokens: options.MaxTokens = None,
    max_duration: options.MaxDuration = None,
    max_cost_per_wp: options.MaxCostPerWp = None,
    budget_hard: options.BudgetHard = False,
    strict_budget: options.StrictBudget = False,
    plan_only: Annotated[bool, typer.Option("--dry-run", help="Change nothing; show the plan.")] = False,
    actor: options.Actor = None,
    repo_root: options.RepoRoot = None,
    accept: options.Accept = False,
    merge: options.Merge = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Put the journal of an earlier run aside and start over.")
    ] = False,
    on_interrupt: options.Interrupt = OnInterrupt.STOP,
    poll_interval: options.PollInterval = None,
    timeout: options.Timeout = None,
    review_timeout: options.ReviewTimeout = None,
    stall_timeout: options.StallTimeout = None,
    host_transport: options.Transport = None,
    no_caffeinate: options.NoCaffeinate = False,
) -> None:
    """Take every work package of a mission from planned to done.

    Interrupt it at any time; the same command, or `resume`, goes on where it was.
    """
    flags = options.flags(
        impl_agent=impl_agent,
        review_agent=review_agent,
        max_concurrent=max_concurrent,
        max_per_agent=max_per_agent,
        poll_interval=poll_interval,
        timeout=timeout,
        review_timeout=review_timeout,
        stall_timeout=stall_timeout,
        actor=actor,
        transport=host_transport,
        gate=gate,
        no_session_resume=no_session_resume,
        on_rate_limit=on_rate_limit,
        max_wait=max_wait,
        review_quorum=review_quorum,
        require_independent_review=require_independent_review,
        max_cost=max_cost,
        max_tokens=max_tokens,
        max_duration=max_duration,
        max_cost_per_wp=max_cost_per_wp,
        budget_hard=budget_hard,
        strict_budget=strict_budget,
    )
    project = app.open_project(repo_root or Path.cwd(), os.environ, flags)
    work = Work(
        project,
        mission,
        merge=merge,
        accept=accept,
        fresh=fresh,
        drains=on_interrupt is OnInterrupt.DRAIN,
        awake=not no_caffeinate,
    )
    raise typer.Exit(anyio.run(work.main, _show_plan if plan_only else running.run))


async def _show_plan(work: Work) -> int:
    problems = app.find_problems(work.project, work.agents)
    try:
        async with app.build_host(work.project, work.say) as host:
            await host.check_contract()
            state = await app.examine(work.project, host, work.mission)
            problems += app.check_free(work.project, state.slug)
            plan = await app.make_plan(work.project, host, work.agents, state)
    except OrchestratorError as error:
        problems.append(error)
    else:
        dry_run.show(plan, SteadyConsole(highlight=False, soft_wrap=True, redactor=work.project.redactor))
    app.stop_at(problems)
    return 0
