"""Agents that a program gives a run: which it may give, and what the journal keeps of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spec_kitty_orchestrator.agents import names
from spec_kitty_orchestrator.agents.fit import misfits
from spec_kitty_orchestrator.agents.function import FunctionAgent, address
from spec_kitty_orchestrator.agents.spec import Agent
from spec_kitty_orchestrator.config import AGENTS
from spec_kitty_orchestrator.core.describe import clean
from spec_kitty_orchestrator.core.model import Role
from spec_kitty_orchestrator.errors import PreflightError, UsageError

__all__ = ["Away", "away", "given", "record"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


@dataclass(frozen=True)
class Away:
    """An agent of the program that began a run, in another program.

    Attributes:
        name: under which the run knows it.
        address: the function, or the class of the object.
        family: its vendor.
        is_function: whether it is one, or else an object with what every agent has.
    """

    name: str
    address: str
    family: str
    is_function: bool

    @property
    def refusal(self) -> str:
        """Why nobody else can go on with it, and what people can do."""
        what = f"the function {self.address}" if self.is_function else f"an object of {self.address}"
        return (
            f"agent {self.name} is {what} of the program that began this run: let that program go on "
            "with it, or name other agents with --impl-agent and --review-agent"
        )

    def stand_in(self) -> FunctionAgent:
        """Return a function of whose work the host is told the same; it is never called.

        Raises:
            UsageError: it is an object, of which only its program knows what it may do.
        """
        if not self.is_function:
            raise UsageError(self.refusal)

        async def gone(_prompt: str, _workspace: Path, _role: Role) -> str:
            raise UsageError(self.refusal)

        return FunctionAgent(gone, family=self.family).named(self.name)


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
    found: dict[str, Away] = {}
    for name, one in told.items() if isinstance(told, Mapping) else ():
        if name not in (*here, *names()) and isinstance(one, Mapping):
            kind = "function" if "function" in one else "object"
            address, family = (clean(str(one.get(key))) for key in (kind, "family"))
            found[name] = Away(name, address, family, kind == "function")
    return found


def record(here: Mapping[str, Agent], away: Mapping[str, Away]) -> Mapping[str, object]:
    """Return what a start records of them: nothing if there are none."""
    every = [*away.values()]
    for name, one in here.items():
        what = one.function if isinstance(one, FunctionAgent) else type(one)
        every.append(Away(name, address(what), one.family, isinstance(one, FunctionAgent)))
    told = {
        one.name: {("function" if one.is_function else "object"): one.address, "family": one.family}
        for one in every
    }
    return {AGENTS: told} if told else {}
