"""The orders to a run that is active: `pause`, `continue`, `stop`, `tell`, `set` and `drain`."""

import os
from pathlib import Path
from typing import Annotated

import anyio
import typer

from spec_kitty_orchestrator.app.journals import root_around
from spec_kitty_orchestrator.app.orders import active_mission, give
from spec_kitty_orchestrator.core import orders
from spec_kitty_orchestrator.core.describe import clean
from spec_kitty_orchestrator.errors import UsageError

__all__ = ["continue_", "drain", "pause", "set_", "stop", "tell"]

LONGEST_ANSWER = 2000

Mission = Annotated[
    str | None,
    typer.Option("--mission", "-m", help="Slug; else that of the run that is active.", show_default=False),
]
Root = Annotated[
    str | None,
    typer.Option(
        "--repo-root", metavar="PATH", help="The project; else the current directory's.", show_default=False
    ),
]
Agent = Annotated[
    str | None,
    typer.Option(metavar="AGENT", help="This agent alone, on every work package.", show_default=False),
]
Wp = Annotated[
    str, typer.Argument(metavar="WP", help="Id of the work package, for example WP03.", show_default=False)
]
WpOrAll = Annotated[
    str | None,
    typer.Argument(metavar="WP", help="This work package alone, for example WP03.", show_default=False),
]


def pause(wp: WpOrAll = None, agent: Agent = None, mission: Mission = None, repo_root: Root = None) -> None:
    """Begin nothing new: of a run, an agent or a work package.

    What is at work goes on to the end of its attempt. Other agents of the list do the work of one that is
    paused. A pause lasts until `continue`, also over a new start; without a run it is for the next one.
    """
    _order(orders.Pause(*_one_of(agent, wp)), mission, repo_root)


def continue_(
    wp: WpOrAll = None, agent: Agent = None, mission: Mission = None, repo_root: Root = None
) -> None:
    """Go on after `pause` or `stop`."""
    _order(orders.Continue(*_one_of(agent, wp)), mission, repo_root)


def stop(wp: Wp, mission: Mission = None, repo_root: Root = None) -> None:
    """Stop the attempt of one work package, and keep its work.

    Nothing begins on it until `continue WP` or `retry WP`; the attempt does not count.
    """
    _order(orders.Stop(wp), mission, repo_root)


def tell(
    wp: Wp,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to say.", show_default=False)],
    now: Annotated[
        bool, typer.Option("--now", help="Stop its attempt, and go on in its session with that at once.")
    ] = False,
    mission: Mission = None,
    repo_root: Root = None,
) -> None:
    """Say something to whoever works on a work package next.

    It stands in every prompt of that work package from then on, a reviewer's included.
    """
    if not text.strip():
        raise UsageError("there is no text to tell")
    _order(orders.Tell(wp, text, now), mission, repo_root)


def set_(
    changes: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=VALUE…", help="For example max_concurrent=6 max_cost=40.", show_default=False
        ),
    ],
    mission: Mission = None,
    repo_root: Root = None,
) -> None:
    """Change limits of a run and of its next starts.

    NAME is one of max_concurrent, max_per_agent, max_attempts,
    max_review_cycles, max_cost, max_cost_per_wp, max_tokens, max_duration, budget_hard, on_rate_limit and
    max_wait; values are written as for its options.
    """
    parts = [one.partition("=") for one in changes]
    for name, assigned, value in parts:
        if not (name.strip() and assigned and value.strip()):
            raise UsageError(f"{name!r} sets nothing: write NAME=VALUE, for example max_cost=40")
    given = {name.strip().replace("-", "_"): value.strip() for name, _, value in parts}
    _order(orders.Set(given), mission, repo_root)


def drain(mission: Mission = None, repo_root: Root = None) -> None:
    """End a run once its running attempts have ended.

    Nothing more is started; `resume` goes on with it.
    """
    _order(orders.Drain(), mission, repo_root)


def _one_of(agent: str | None, wp: str | None) -> tuple[str, str]:
    if agent and wp:
        raise UsageError("an agent or a work package, not both")
    return agent or "", wp or ""


def _order(order: orders.Order, mission: str | None, repo_root: str | None) -> None:
    root = root_around(Path(repo_root) if repo_root is not None else None, os.environ)
    active = active_mission(root, mission)
    if active is not None and anyio.run(give, root, active, order, _say):
        return
    from spec_kitty_orchestrator.app.operator import without_run

    anyio.run(without_run, root, os.environ, mission, order, _say)


def _say(text: str) -> None:
    typer.echo(clean(text, LONGEST_ANSWER))
