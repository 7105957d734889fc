"""Agents of other distributions, by the entry points of the group `spec_kitty_orchestrator.agents`.

An entry point has the name of an agent, and loads an object that satisfies `agents.spec.Agent`, or a class
that makes one without arguments. Nothing is loaded before its name is asked for.
"""

from spec_kitty_orchestrator import entry_points
from spec_kitty_orchestrator.agents.fit import misfits
from spec_kitty_orchestrator.agents.spec import Agent
from spec_kitty_orchestrator.errors import PreflightError

__all__ = ["distributions", "load", "names"]

GROUP = "spec_kitty_orchestrator.agents"


def names() -> tuple[str, ...]:
    """Return the names of all agents that installed distributions offer, sorted; none is loaded."""
    return tuple(sorted({one.name for one in entry_points.offers(GROUP)}))


def distributions(name: str) -> tuple[str, ...]:
    """Return the distributions that offer an agent of that name, with their versions."""
    return tuple(entry_points.distribution(one) for one in entry_points.offers(GROUP) if one.name == name)


def load(name: str) -> Agent:
    """Load the agent of that name; there must be an entry point for it.

    Raises:
        PreflightError: it cannot be loaded, or is no agent; the message names its distribution.
    """
    offers = tuple(one for one in entry_points.offers(GROUP) if one.name == name)
    if len({one.value for one in offers}) != 1:
        both = ", ".join(entry_points.distribution(one) for one in offers)
        raise PreflightError(
            f"agent {name} is offered by several distributions ({both}): uninstall all but one"
        )
    offer = offers[0]
    who = f"agent {name} of the distribution {entry_points.distribution(offer)} ({offer.value})"
    fix = "fix or uninstall that distribution, or choose another agent"
    try:
        agent: Agent = entry_points.load(offer)
        wrong = misfits(agent)
    except (Exception, SystemExit) as error:
        raise PreflightError(f"{who} cannot be loaded: {entry_points.why(error)}; {fix}") from error
    if not wrong and agent.name != name:
        wrong = [f"it calls itself {agent.name!r}"]
    if wrong:
        raise PreflightError(f"{who} is no agent of this version: {'; '.join(wrong)}; {fix}")
    return agent
