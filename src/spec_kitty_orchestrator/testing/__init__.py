"""Stands in: fakes of every port for tests of drivers, and suites for parts of one's own.

The fakes are loaded with nothing else. The suites, `…Contract`, are classes for pytest, which is needed for
them alone: see `spec_kitty_orchestrator.testing.contracts`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spec_kitty_orchestrator.testing.agent_contract import assert_contract, check_contract
    from spec_kitty_orchestrator.testing.contracts.agent import AgentContract
    from spec_kitty_orchestrator.testing.contracts.gates import GatesContract, GateStage
    from spec_kitty_orchestrator.testing.contracts.host import HostContract, HostStage, OpenMission
    from spec_kitty_orchestrator.testing.contracts.journal import JournalContract, OpenJournal
    from spec_kitty_orchestrator.testing.contracts.lock import LockContract, OpenLock
    from spec_kitty_orchestrator.testing.contracts.orders import OrdersContract, OrdersStage
    from spec_kitty_orchestrator.testing.contracts.runner import RunnerContract, RunnerStage
    from spec_kitty_orchestrator.testing.fake_host import FakeHost
    from spec_kitty_orchestrator.testing.fake_workspaces import FakeWorkspaces
    from spec_kitty_orchestrator.testing.held_agent import HeldAgent, ProgramStage
    from spec_kitty_orchestrator.testing.held_gate import ProgramGateStage
    from spec_kitty_orchestrator.testing.memory_journal import (
        LoopClock,
        MemoryJournal,
        MemoryLock,
        StoppedClock,
        Watcher,
    )
    from spec_kitty_orchestrator.testing.memory_orders import MemoryOrders
    from spec_kitty_orchestrator.testing.mission_files import MissionSpec, WorkPackageSpec
    from spec_kitty_orchestrator.testing.missions import MissionError, chain, demo, diamond, make_mission
    from spec_kitty_orchestrator.testing.sample_lines import example_lines, example_orders
    from spec_kitty_orchestrator.testing.scripted_agents import Play, ScriptedAgents
    from spec_kitty_orchestrator.testing.scripted_gates import Check, ScriptedGates

__all__ = [
    "AgentContract",
    "Check",
    "FakeHost",
    "FakeWorkspaces",
    "GateStage",
    "GatesContract",
    "HeldAgent",
    "HostContract",
    "HostStage",
    "JournalContract",
    "LockContract",
    "LoopClock",
    "MemoryJournal",
    "MemoryLock",
    "MemoryOrders",
    "MissionError",
    "MissionSpec",
    "OpenJournal",
    "OpenLock",
    "OpenMission",
    "OrdersContract",
    "OrdersStage",
    "Play",
    "ProgramGateStage",
    "ProgramStage",
    "RunnerContract",
    "RunnerStage",
    "ScriptedAgents",
    "ScriptedGates",
    "StoppedClock",
    "Watcher",
    "WorkPackageSpec",
    "assert_contract",
    "chain",
    "check_contract",
    "demo",
    "diamond",
    "example_lines",
    "example_orders",
    "make_mission",
]

_HOMES = {
    "agent_contract": "assert_contract check_contract",
    "contracts.agent": "AgentContract",
    "contracts.gates": "GateStage GatesContract",
    "contracts.host": "HostContract HostStage OpenMission",
    "contracts.journal": "JournalContract OpenJournal",
    "contracts.lock": "LockContract OpenLock",
    "contracts.orders": "OrdersContract OrdersStage",
    "contracts.runner": "RunnerContract RunnerStage",
    "fake_host": "FakeHost",
    "fake_workspaces": "FakeWorkspaces",
    "held_agent": "HeldAgent ProgramStage",
    "held_gate": "ProgramGateStage",
    "memory_journal": "LoopClock MemoryJournal MemoryLock StoppedClock Watcher",
    "memory_orders": "MemoryOrders",
    "mission_files": "MissionSpec WorkPackageSpec",
    "missions": "MissionError chain demo diamond make_mission",
    "sample_lines": "example_lines example_orders",
    "scripted_agents": "Play ScriptedAgents",
    "scripted_gates": "Check ScriptedGates",
}
"""The public names of each module, loaded when they are first asked for."""


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names.split():
            value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
