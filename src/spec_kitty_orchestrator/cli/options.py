"""The options that `orchestrate` and `resume` share."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from spec_kitty_orchestrator.core.quota import OnRateLimit


class OnInterrupt(StrEnum):
    """What the first signal does; a later one always stops the agents."""

    STOP = "stop"
    DRAIN = "drain"


class HostTransport(StrEnum):
    """How the host is called; the words of `[host] transport`."""

    AUTO = "auto"
    SPAWN = "spawn"
    WARM = "warm"


ImplAgent = Annotated[
    str | None, typer.Option(help="Who implements; a,b is an order of fallback.", show_default=False)
]
ReviewAgent = Annotated[
    str | None, typer.Option(help="Who reviews; a,b is an order of fallback.", show_default=False)
]
MaxConcurrent = Annotated[int | None, typer.Option(help="Work packages in work at once.", show_default=False)]
MaxPerAgent = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=N", help="Attempts of one agent at once; repeatable.", show_default=False),
]
PollInterval = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="How often to look whether others moved a WP, while only that could free work.",
        show_default=False,
    ),
]
Gate = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CMD",
        help="A command that must succeed on a commit before it is reviewed; repeatable.",
        show_default=False,
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="Longest implement attempt, from its start.", show_default=False),
]
ReviewTimeout = Annotated[
    str | None, typer.Option(metavar="DURATION", help="Longest review, from its start.", show_default=False)
]
StallTimeout = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="Stop an agent without output, processor time and changed files for so long; 0 for never.",
        show_default=False,
    ),
]
ReviewQuorum = Annotated[
    str | None,
    typer.Option(metavar="all|N", help="How many reviewers must approve each commit.", show_default=False),
]
IndependentReview = Annotated[
    bool,
    typer.Option(
        "--require-independent-review", help="Never use a reviewer of the family of the implementer."
    ),
]
NoSessionResume = Annotated[
    bool, typer.Option("--no-session-resume", help="Begin each rework in a new session of its agent.")
]
Transport = Annotated[
    HostTransport | None,
    typer.Option(
        "--host-transport",
        help="Call the host as a process each time, or one that stays warm; auto: warm if it can be trusted.",
        show_default=False,
    ),
]
Actor = Annotated[
    str | None, typer.Option(help="The name under which the host knows us.", show_default=False)
]
RepoRoot = Annotated[
    Path | None, typer.Option(help="The project; else the current directory's.", show_default=False)
]
Accept = Annotated[bool, typer.Option("--accept", help="Accept the mission if every WP is approved or done.")]
Merge = Annotated[bool, typer.Option("--merge", help="Merge the mission if every WP is approved or done.")]
Interrupt = Annotated[
    OnInterrupt, typer.Option(help="On the first signal: stop the agents, or let them end their attempts.")
]
NoCaffeinate = Annotated[
    bool, typer.Option("--no-caffeinate", help="Let the machine fall asleep while agents work.")
]


OnLimit = Annotated[
    OnRateLimit | None,
    typer.Option(
        "--on-rate-limit",
        help="An agent's quota is used up: wait, let another of the order work meanwhile, or end the run.",
        show_default=False,
    ),
]
MaxWait = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION", help="How long to wait for nothing but quotas (6h).", show_default=False
    ),
]


MaxCost = Annotated[
    str | None, typer.Option(metavar="USD", help="What the mission may cost in all.", show_default=False)
]
MaxTokens = Annotated[
    str | None, typer.Option(metavar="N", help="Tokens for the mission in all: 500k, 2M.", show_default=False)
]
MaxDuration = Annotated[
    str | None, typer.Option(metavar="DURATION", help="How long this start may take.", show_default=False)
]
MaxCostPerWp = Annotated[
    str | None,
    typer.Option(metavar="USD", help="What one WP may cost; beyond that it is parked.", show_default=False),
]
BudgetHard = Annotated[
    bool, typer.Option("--budget-hard", help="Stop running attempts too when a limit is reached.")
]
StrictBudget = Annotated[
    bool, typer.Option("--strict-budget", help="Refuse agents that do not tell what they cost.")
]


def flags(
    *,
    impl_agent: str | None,
    review_agent: str | None,
    max_concurrent: int | None,
    max_per_agent: Sequence[str] | None,
    poll_interval: str | None,
    timeout: str | None,
    review_timeout: str | None,
    stall_timeout: str | None,
    actor: str | None,
    transport: HostTransport | None,
    gate: Sequence[str] | None,
    no_session_resume: bool,
    on_rate_limit: OnRateLimit | None,
    max_wait: str | None,
    review_quorum: str | None,
    require_independent_review: bool,
    max_cost: str | None,
    max_tokens: str | None,
    max_duration: str | None,
    max_cost_per_wp: str | None,
    budget_hard: bool,
    strict_budget: bool,
) -> Mapping[str, object]:
    """Return the options that are settings, by the names that `app.open_project` wants."""
    return {
        "impl_agents": impl_agent,
        "review_agents": review_agent,
        "max_concurrent": max_concurrent,
        "max_per_agent": list(max_per_agent) if max_per_agent else None,
        "poll_interval": poll_interval,
        "timeout": timeout,
        "review_timeout": review_timeout,
        "stall_timeout": stall_timeout,
        "actor": actor,
        "host_transport": transport.value if transport else None,
        "review_quorum": review_quorum,
        "require_independent_review": require_independent_review or None,
        "session_resume": False if no_session_resume else None,
        "gate": list(gate) if gate else None,
        "on_rate_limit": on_rate_limit.value if on_rate_limit else None,
        "max_wait": max_wait,
        "max_cost": max_cost,
        "max_tokens": max_tokens,
        "max_duration": max_duration,
        "max_cost_per_wp": max_cost_per_wp,
        "budget_hard": True if budget_hard else None,
        "strict_budget": True if strict_budget else None,
    }
