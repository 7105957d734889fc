"""Makes the runner of one work order on a machine: its agent or gate, its confinement, its variables."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from spec_kitty_orchestrator import agents
from spec_kitty_orchestrator.agents.declared import Declared
from spec_kitty_orchestrator.agents.spec import AgentCommand
from spec_kitty_orchestrator.cluster.machine_gate import MachineGate, MachineSetup
from spec_kitty_orchestrator.cluster.records import WorkOrder
from spec_kitty_orchestrator.core.model import AgentReport, Attempt
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.files import write_private
from spec_kitty_orchestrator.machine.redaction import Redactor, secret_values
from spec_kitty_orchestrator.machine.runner import LocalAgents
from spec_kitty_orchestrator.machine.sandbox import Sandbox, find
from spec_kitty_orchestrator.ports import AttemptRequest

__all__ = ["Runner", "Shared", "runner_of", "setup_runner"]


@dataclass(frozen=True)
class Shared:
    """What all attempts of a machine have in common.

    Attributes:
        folder: the machine's.
        version: of this package.
        hidden: places that no confined agent sees, besides what a project hides.
    """

    folder: Path
    version: str
    hidden: tuple[str, ...] = ()


class Runner(Protocol):
    """What an `AttemptHost` needs of `LocalAgents`."""

    async def open(self, request: AttemptRequest) -> Attempt:
        """Write into a directory what is to run; nothing is spawned."""
        ...

    async def run(self, attempt: Attempt) -> AgentReport:
        """Spawn it, or find it again, and wait for its end."""
        ...

    async def stop(self, attempt: Attempt, grace_s: float) -> None:
        """Stop it and return when it is gone."""
        ...


class _Agents(LocalAgents):
    """Agents of this machine that get variables of the coordinator's, which no record holds."""

    def __init__(self, passed: Mapping[str, str], *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._passed = passed

    def environment(self, agent: str, command: AgentCommand, marker: str) -> Mapping[str, str]:
        """Build the whole environment in which a command of the agent runs."""
        passed = {name: value for name, value in self._passed.items() if name not in command.env}
        return {**super().environment(agent, command, marker), **passed}


def runner_of(order: WorkOrder, folder: Path, shared: Shared) -> Runner:
    """Make what runs an attempt in its folder of this machine; a script for rehearsals is written there.

    Raises:
        WorkspaceError: its agent is to be confined, and cannot be.
        PreflightError: its agent is a plug-in that is not here.
        OSError: the disk refuses.
    """
    redactor = Redactor(secret_values(os.environ, order.settings.env, order.env))
    sandbox = _sandbox(order, folder, shared)
    if order.gate is not None:
        return MachineGate(order, order.gate, folder, redactor, sandbox)
    name, settings = order.request.agent, order.settings
    agent = agents.find(name) if order.declared is None else Declared(order.declared)
    if order.scenario:
        scenario = folder / "scenario.toml"
        write_private(scenario, order.scenario)
        settings = replace(settings, scenario=scenario)
    return _Agents(
        order.env,
        folder,
        {name: (agent, settings)},
        timeouts=order.timeouts,
        version=shared.version,
        redactor=redactor,
        stall_timeout_s=order.stall_timeout_s,
        sandbox=sandbox,
    )


def setup_runner(order: WorkOrder, folder: Path, shared: Shared) -> MachineSetup | None:
    """Make what sets up the checkout of an attempt, None if it needs nothing. Raises `WorkspaceError`."""
    if order.setup is None:
        return None
    redactor = Redactor(secret_values(os.environ, order.setup.env))
    return MachineSetup(order, order.setup, folder, redactor, _sandbox(order, folder, shared))


def _sandbox(order: WorkOrder, folder: Path, shared: Shared) -> Sandbox | None:
    if order.confinement is None:
        return None
    rules = order.confinement.rules
    rules = replace(rules, hidden=(*rules.hidden, *shared.hidden))
    sandbox = Sandbox(find(), folder, shared.folder / "sandbox", rules, order.confinement.states)
    if sandbox.failure:
        raise WorkspaceError(f"agents are to be confined, and here they cannot be: {sandbox.failure}")
    return sandbox
