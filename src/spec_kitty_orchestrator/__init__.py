"""Drives a whole spec-kitty mission unattended: agents implement and review, the host keeps the lanes.

Other programs import it to run missions and to build agents and drivers of their own. What is called stands
here, `from spec_kitty_orchestrator import plan`; what comes in families is read better with the name of its
module, `from spec_kitty_orchestrator.core import events`. All that is public:

=====================================  ===================================================================
this package                           to run missions, decide, and name what signatures name
`agents.spec`                          what an agent's plug-in is made of
`core.model`                           what a mission, an attempt and a report are
`core.events`, `core.operator_events`  what happens to a work package, and what people make happen to it
`core.run_events`                      what happens to a run, and the lines of a journal
`core.commands`                        what a work package does next
`core.orders`                          the orders of people to a run
`errors`                               every error that is raised on purpose
`ports`, `ports.gates`, `ports.orders` what a driver needs from the world, as protocols
`testing`                              stand-ins for those, and suites for parts of one's own
=====================================  ===================================================================

Of each module that is what its `__all__` lists; the reference describes those, and what they consist of.
Everything else may change in any version.

Each name is loaded when it is first asked for, so that importing this costs nothing.
"""

TYPE_CHECKING = False
"""True for type checkers; `typing` itself would take longer than all else that is imported here."""

if TYPE_CHECKING:
    from spec_kitty_orchestrator.agents.function import Done, Function, FunctionAgent, Review
    from spec_kitty_orchestrator.agents.spec import Agent, AgentSettings
    from spec_kitty_orchestrator.app.build import build, build_agents, build_parts, build_workspaces, connect
    from spec_kitty_orchestrator.app.library import Run, open_parts, open_run
    from spec_kitty_orchestrator.app.project import open_project
    from spec_kitty_orchestrator.core.describe import describe
    from spec_kitty_orchestrator.core.documents import EventObserver, to_document
    from spec_kitty_orchestrator.core.lifecycle import pending, resume, step
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
    from spec_kitty_orchestrator.core.policy import Budget, Gate, OnRateLimit, Patience, Policy
    from spec_kitty_orchestrator.core.prompts import Prompts
    from spec_kitty_orchestrator.core.ranking import Order
    from spec_kitty_orchestrator.core.run import RunState, begin, fold, happened, replayed
    from spec_kitty_orchestrator.core.run_events import Entry, Line, RunAborted, RunEnded, RunStarted
    from spec_kitty_orchestrator.core.scheduler import (
        Blocker,
        Decision,
        Finished,
        Idle,
        Stalled,
        Start,
        blockers,
        plan,
    )
    from spec_kitty_orchestrator.core.verdict import Finding, Ruling, Verdict, read_verdict
    from spec_kitty_orchestrator.core.work_package import Grant, WorkPackage
    from spec_kitty_orchestrator.driver.engine import Orchestrator
    from spec_kitty_orchestrator.driver.ledger import Ledger
    from spec_kitty_orchestrator.driver.parts import Parts
    from spec_kitty_orchestrator.driver.perform import Performer
    from spec_kitty_orchestrator.driver.result import RunResult
    from spec_kitty_orchestrator.errors import (
        ConfigError,
        HostCrash,
        HostError,
        HostIncompatible,
        HostMissing,
        HostNoReply,
        HostRefusal,
        HostTimeout,
        InvalidTransition,
        JournalError,
        OrchestratorError,
        PreflightError,
        ProjectIncompatible,
        RunActive,
        UsageError,
        WorkspaceError,
        WorkspaceMissing,
    )
    from spec_kitty_orchestrator.ports import Observer

    __version__: str

__all__ = [
    "Agent",
    "AgentReport",
    "AgentSettings",
    "Attempt",
    "Blocker",
    "Budget",
    "ConfigError",
    "Decision",
    "Done",
    "Entry",
    "EventObserver",
    "Finding",
    "Finished",
    "Function",
    "FunctionAgent",
    "Gate",
    "Grant",
    "HostCrash",
    "HostError",
    "HostIncompatible",
    "HostMissing",
    "HostNoReply",
    "HostRefusal",
    "HostTimeout",
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
    "Performer",
    "Phase",
    "Policy",
    "PolicyMetadata",
    "PreflightError",
    "ProjectIncompatible",
    "Prompts",
    "Result",
    "Review",
    "Role",
    "Ruling",
    "Run",
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
    "WorkspaceMissing",
    "__version__",
    "begin",
    "blockers",
    "build",
    "build_agents",
    "build_parts",
    "build_workspaces",
    "connect",
    "describe",
    "fold",
    "happened",
    "open_parts",
    "open_project",
    "open_run",
    "pending",
    "plan",
    "read_verdict",
    "replayed",
    "resume",
    "step",
    "to_document",
]

_HOMES = {
    "agents.function": "Done Function FunctionAgent Review",
    "agents.spec": "Agent AgentSettings",
    "app.build": "build build_agents build_parts build_workspaces connect",
    "app.library": "Run open_parts open_run",
    "app.project": "open_project",
    "core.describe": "describe",
    "core.documents": "EventObserver to_document",
    "core.lifecycle": "pending resume step",
    "core.model": """
        AgentReport Attempt Lane MissionState Outcome Phase PolicyMetadata Result Role Usage
        Workspace
    """,
    "core.policy": "Budget Gate OnRateLimit Patience Policy",
    "core.prompts": "Prompts",
    "core.ranking": "Order",
    "core.run": "RunState begin fold happened replayed",
    "core.run_events": "Entry Line RunAborted RunEnded RunStarted",
    "core.scheduler": "Blocker Decision Finished Idle Stalled Start blockers plan",
    "core.verdict": "Finding Ruling Verdict read_verdict",
    "core.work_package": "Grant WorkPackage",
    "driver.engine": "Orchestrator",
    "driver.ledger": "Ledger",
    "driver.parts": "Parts",
    "driver.perform": "Performer",
    "driver.result": "RunResult",
    "errors": """
        ConfigError HostCrash HostError HostIncompatible HostMissing HostNoReply HostRefusal
        HostTimeout InvalidTransition JournalError OrchestratorError PreflightError
        ProjectIncompatible RunActive UsageError WorkspaceError WorkspaceMissing
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
            from importlib import import_module

            value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
