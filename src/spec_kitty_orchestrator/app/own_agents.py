"""Agents that a program gives a run: which it may give, and what the journal keeps of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from spec_kitty_orchestrator.agents import names
from spec_kitty_orchestrator.agents.fit import misfits
from spec_kitty_orchestrator.agents.function import FunctionAgent, address
from spec_kitty_orchestrator.agents.spec import Agent
from spec_kitty_orchestrator.config import AGENTS
from spec_kitty_orchestrator.core.describe import clean
from spec_kitty_orchestrator.errors import PreflightError, UsageError

__all__ = ["Away", "away", "given", "record"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


@dataclass(frozen=True)
class Away:
    """An agent of the program that began a run, in another one: `address` says what it was there."""

    address: str
    family: str

    def refusal(self, name: str) -> str:
        """Say, for people, why nobody else can go on with it, and what they can do."""
        return (
            f"agent {name} is {self.address} of the program that began this run: let that program go on "
            "with it, or name other agents with --impl-agent and --review-agent"
        )


def given(agents: Mapping[str, Agent]) -> Mapping[str, Agent]:
    """Return the agents of a program as a run knows them.

    Raises:
        UsageError: a name cannot be used, or is another agent's.
        PreflightError: an object is no agent of this version.
    """
    known = names()
    found: dict[str, Agent] = {}
    for name, agent in agents.items():
        if name in known:
            raise UsageError(
                f"agents: {name} is known already; give yours another name, for example my-{name}"
            )
        if not _NAME.fullmatch(name):
            raise UsageError(f"agents: {name!r} must be a short name of letters, digits, `.`, `_` and `-`")
        found[name] = agent.named(name) if isinstance(agent, FunctionAgent) else agent
        if wrong := misfits(found[name]):
            raise PreflightError(f"agents: {name} is no agent of this version: {'; '.join(wrong)}")
    return found


def away(recorded: Mapping[str, object], here: Mapping[str, Agent]) -> Mapping[str, Away]:
    """Return the agents that a run's record names and that are not here."""
    told = recorded.get(AGENTS)
    rows = told.items() if isinstance(told, Mapping) else ()
    return {
        str(name): Away(clean(str(one.get("is"))), str(one.get("family")))
        for name, one in rows
        if name not in (*here, *names()) and isinstance(one, Mapping)
    }


def record(here: Mapping[str, Agent], away: Mapping[str, Away]) -> Mapping[str, object]:
    """Return what a start records of them: nothing if there are none."""
    told = {name: {"is": one.address, "family": one.family} for name, one in away.items()}
    for name, agent in here.items():
        what = f"an object of {address(type(agent))}"
        if isinstance(agent, FunctionAgent):
            what = f"the function {address(agent.function)}"
        told[name] = {"is": what, "family": agent.family}
    return {AGENTS: told} if told else {}
