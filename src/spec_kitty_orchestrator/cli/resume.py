"""`resume`: goes on with an unfinished run, with the settings that it had."""

import os
from pathlib import Path
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator import app
from spec_kitty_orchestrator.cli import options, running
from spec_kitty_orchestrator.cli.options import OnInterrupt
from spec_kitty_orchestrator.cli.running import Work
from spec_kitty_orchestrator.errors import UsageError


def resume(
    mission: Annotated[
        str | None,
        typer.Option("--mission", "-m", help="Slug; else the only unfinished run's.", show_default=False),
    ] = None,
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
    actor: options.Actor = None,
    repo_root: options.RepoRoot = None,
    accept: options.Accept = False,
    merge: options.Merge = False,
    on_interrupt: options.Interrupt = OnInterrupt.STOP,
    poll_interval: options.PollInterval = None,
    timeout: options.Timeout = None,
    review_timeout: options.ReviewTimeout = None,
    stall_timeout: options.StallTimeout = None,
    host_transport: options.Transport = None,
    no_caffeinate: options.NoCaffeinate = False,
) -> None:
    """Go on with a run that was interrupted, with its own settings.

    Flags given here win over those of the run, and are remembered for the next time; `--poll-interval`,
    `--host-transport` and what only tells how this start ends are not.
    """
    root = app.find_repo_root(repo_root or Path.cwd())
    chosen = anyio.run(app.choose_unfinished, root, mission)
    if chosen.started is None:
        raise UsageError(f"the journal of {chosen.mission} holds no run; `orchestrate` starts one")
    given = options.flags(
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
    settings = app.settings_of(chosen.started)
    flags = {**settings, **{key: value for key, value in given.items() if value is not None}}
    known = settings["gate"]
    flags["gate"] = [*(known if isinstance(known, list) else ()), *(gate or ())] or None
    work = Work(
        app.open_project(root, os.environ, flags),
        chosen.mission,
        merge=merge,
        accept=accept,
        drains=on_interrupt is OnInterrupt.DRAIN,
        awake=not no_caffeinate,
    )
    raise typer.Exit(anyio.run(work.main, running.run))
