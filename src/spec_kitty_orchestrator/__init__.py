"""Drives a whole spec-kitty mission unattended: agents implement and review, the host keeps the lanes.

What other programs import to build drivers of their own. `Orchestrator` runs a mission with parts that
implement the protocols of `spec_kitty_orchestrator.ports`; `open_project` and `build` give the default ones;
`step` and `plan` are the decisions alone; `spec_kitty_orchestrator.testing` has stand-ins.

Each name is loaded when it is first asked for, so that importing this costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spec_kitty_orchestrator.agents.function import Done, FunctionAgent, Review
    from spec_kitty_orchestrator.app.build import build, build_agents, build_parts, connect
    from spec_kitty_orchestrator.app.project import open_project
    from spec_kitty_orchestrator.core.documents import EventObserver, to_document
    from spec_kitty_orchestrator.core.lifecycle import resume, step
    from spec_kitty_orchestrator.core.model import (
        AgentReport,
        Attempt,
        Lane,
        MissionState,
        Outcome,
        Phase,
        PolicyMetadata,
        Result,
        Role,
        Usage,
        Workspace,
    )
    from spec_kitty_orchestrator.core.policy import Budget, OnRateLimit, Patience, Policy
    from spec_kitty_orchestrator.core.prompts import Prompts
    from spec_kitty_orchestrator.core.ranking import Order
    from spec_kitty_orchestrator.core.run import RunState, begin, fold, happened
    from spec_kitty_orchestrator.core.run_events import Entry, Line, RunAborted, RunEnded, RunStarted
    from spec_kitty_orchestrator.core.scheduler import Finished, Idle, Stalled, Start, plan
    from spec_kitty_orchestrator.core.verdict import Finding, Ruling, Verdict, read_verdict
    from spec_kitty_orchestrator.core.work_package import WorkPackage
    from spec_kitty_orchestrator.driver.engine import Orchestrator
    from spec_kitty_orchestrator.driver.ledger import Ledger
    from spec_kitty_orchestrator.driver.parts import Parts
    from spec_kitty_orchestrator.driver.result import RunResult
    from spec_kitty_orchestrator.errors import (
        ConfigError,
        HostError,
        HostNoReply,
        HostRefusal,
        InvalidTransition,
        JournalError,
        OrchestratorError,
        PreflightError,
        RunActive,
        UsageError,
        WorkspaceError,
    )
    from spec_kitty_orchestrator.ports import Observer

    __version__: str

__all__ = [
    "AgentReport",
    "Attempt",
    "Budget",
    "ConfigError",
    "Done",
    "Entry",
    "EventObserver",
    "Finding",
    "Finished",
    "FunctionAgent",
    "HostError",
    "HostNoReply",
    "HostRefusal",
    "Idle",
    "InvalidTransition",
    "JournalError",
    "Lane",
    "Ledger",
    "Line",
    "MissionState",
    "Observer",
    "OnRateLimit",
    "Orchestrator",
    "OrchestratorError",
    "Order",
    "Outcome",
    "Parts",
    "Patience",
    "Phase",
    "Policy",
    "PolicyMetadata",
    "PreflightError",
    "Prompts",
    "Result",
    "Review",
    "Role",
    "Ruling",
    "RunAborted",
    "RunActive",
    "RunEnded",
    "RunResult",
    "RunStarted",
    "RunState",
    "Stalled",
    "Start",
    "Usage",
    "UsageError",
    "Verdict",
    "WorkPackage",
    "Workspace",
    "WorkspaceError",
    "__version__",
    "begin",
    "build",
    "build_agents",
    "build_parts",
    "connect",
    "fold",
    "happened",
    "open_project",
    "plan",
    "read_verdict",
    "resume",
    "step",
    "to_document",
]

_HOMES = {
    "agents.function": "Done FunctionAgent Review",
    "app.build": "build build_agents build_parts connect",
    "app.project": "open_project",
    "core.documents": "EventObserver to_document",
    "core.lifecycle": "resume step",
    "core.model": """
        AgentReport Attempt Lane MissionState Outcome Phase PolicyMetadata Result Role Usage Workspace
    """,
    "core.policy": "Budget OnRateLimit Patience Policy",
    "core.prompts": "Prompts",
    "core.ranking": "Order",
    "core.run": "RunState begin fold happened",
    "core.run_events": "Entry Line RunAborted RunEnded RunStarted",
    "core.scheduler": "Finished Idle Stalled Start plan",
    "core.verdict": "Finding Ruling Verdict read_verdict",
    "core.work_package": "WorkPackage",
    "driver.engine": "Orchestrator",
    "driver.ledger": "Ledger",
    "driver.parts": "Parts",
    "driver.result": "RunResult",
    "errors": """
        ConfigError HostError HostNoReply HostRefusal InvalidTransition JournalError
        OrchestratorError PreflightError RunActive UsageError WorkspaceError
    """,
    "ports": "Observer",
}
"""The public names of each module, for whom the imports above are no more than a promise to type checkers."""


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("spec-kitty-orchestrator")
    for module, names in _HOMES.items():
        if name in names.split():
            value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
