"""The options that `orchestrate` and `resume` share."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from spec_kitty_orchestrator.core.quota import OnRateLimit
from spec_kitty_orchestrator.errors import UsageError


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
RepoRoot = Annotated[
    Path | None, typer.Option(help="The project; else the current directory's.", show_default=False)
]


def project_folder(repo_root: Path | None) -> Path:
    """Return the folder in which the project is looked for. Raises `UsageError` if we stand in none."""
    try:
        return repo_root or Path.cwd()
    except OSError:
        raise UsageError(
            "the current directory is gone; change into the project or give it with --repo-root"
        ) from None


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a command that runs a mission takes."""

    impl_agent: ImplAgent = None
    review_agent: ReviewAgent = None
    max_concurrent: Annotated[
        int | None, typer.Option(help="Work packages in work at once.", show_default=False)
    ] = None
    max_per_agent: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=N", help="Attempts of one agent at once; repeatable.", show_default=False),
    ] = None
    gate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CMD",
            help="A command that must succeed on a commit before it is reviewed; repeatable.",
            show_default=False,
        ),
    ] = None
    no_session_resume: Annotated[
        bool, typer.Option("--no-session-resume", help="Begin each rework in a new session of its agent.")
    ] = False
    on_rate_limit: Annotated[
        OnRateLimit | None,
        typer.Option(
            "--on-rate-limit",
            help="A quota is used up: wait, let another of the order work meanwhile, or end the run.",
            show_default=False,
        ),
    ] = None
    max_wait: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="How long to wait for nothing but quotas (6h).", show_default=False
        ),
    ] = None
    review_quorum: Annotated[
        str | None,
        typer.Option(
            metavar="all|N", help="How many reviewers must approve each commit.", show_default=False
        ),
    ] = None
    require_independent_review: Annotated[
        bool,
        typer.Option(
            "--require-independent-review", help="Never use a reviewer of the family of the implementer."
        ),
    ] = False
    max_cost: Annotated[
        str | None, typer.Option(metavar="USD", help="What the mission may cost in all.", show_default=False)
    ] = None
    max_tokens: Annotated[
        str | None,
        typer.Option(metavar="N", help="Tokens for the mission in all: 500k, 2M.", show_default=False),
    ] = None
    max_duration: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long this start may take.", show_default=False)
    ] = None
    max_cost_per_wp: Annotated[
        str | None,
        typer.Option(
            metavar="USD", help="What one WP may cost; beyond that it is parked.", show_default=False
        ),
    ] = None
    budget_hard: Annotated[
        bool, typer.Option("--budget-hard", help="Stop running attempts too when a limit is reached.")
    ] = False
    strict_budget: Annotated[
        bool, typer.Option("--strict-budget", help="Refuse agents that do not tell what they cost.")
    ] = False
    actor: Annotated[
        str | None, typer.Option(help="The name under which the host knows us.", show_default=False)
    ] = None
    repo_root: RepoRoot = None
    accept: Annotated[
        bool, typer.Option("--accept", help="Accept the mission if every WP is approved or done.")
    ] = False
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge the mission if every WP is approved or done.")
    ] = False
    on_interrupt: Annotated[
        OnInterrupt,
        typer.Option(help="On the first signal: stop the agents, or let them end their attempts."),
    ] = OnInterrupt.STOP
    poll_interval: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="How often to look whether others moved a WP, while only that could free work.",
            show_default=False,
        ),
    ] = None
    timeout: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="Longest implement attempt, from its start.", show_default=False
        ),
    ] = None
    review_timeout: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Longest review, from its start.", show_default=False),
    ] = None
    stall_timeout: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Stop an agent without output, processor time and changed files for so long; 0 for never.",
            show_default=False,
        ),
    ] = None
    host_transport: Annotated[
        HostTransport | None,
        typer.Option(
            "--host-transport",
            help="Call the host as a process each time, or one that stays warm; auto: if it can be trusted.",
            show_default=False,
        ),
    ] = None
    no_caffeinate: Annotated[
        bool, typer.Option("--no-caffeinate", help="Let the machine fall asleep while agents work.")
    ] = False

    @property
    def settings(self) -> Mapping[str, object]:
        """The options that are settings, by the names that `app.open_project` wants; None if not given."""
        return {
            "impl_agents": self.impl_agent,
            "review_agents": self.review_agent,
            "max_concurrent": self.max_concurrent,
            "max_per_agent": self.max_per_agent or None,
            "poll_interval": self.poll_interval,
            "timeout": self.timeout,
            "review_timeout": self.review_timeout,
            "stall_timeout": self.stall_timeout,
            "actor": self.actor,
            "host_transport": self.host_transport.value if self.host_transport else None,
            "review_quorum": self.review_quorum,
            "require_independent_review": self.require_independent_review or None,
            "session_resume": False if self.no_session_resume else None,
            "gate": self.gate or None,
            "on_rate_limit": self.on_rate_limit.value if self.on_rate_limit else None,
            "max_wait": self.max_wait,
            "max_cost": self.max_cost,
            "max_tokens": self.max_tokens,
            "max_duration": self.max_duration,
            "max_cost_per_wp": self.max_cost_per_wp,
            "budget_hard": self.budget_hard or None,
            "strict_budget": self.strict_budget or None,
        }


def runs_a_mission(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command every option of `RunOptions`; they reach it together, as its first argument."""
    _, *own = inspect.signature(command).parameters.values()
    hints = get_type_hints(RunOptions, include_extras=True)
    shared = [
        inspect.Parameter(one.name, one.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
        for one in inspect.signature(RunOptions).parameters.values()
    ]
    names = [one.name for one in shared]

    def called(**given: Any) -> None:
        command(RunOptions(**{name: given.pop(name) for name in names}), **given)

    parameters = [*(one.replace(kind=one.KEYWORD_ONLY) for one in own), *shared]
    # typer reads the options from these.
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    called.__name__, called.__doc__ = command.__name__, command.__doc__
    return called
