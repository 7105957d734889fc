"""Drives a whole spec-kitty mission unattended: agents implement and review, the host keeps the lanes.

What other programs import to build drivers of their own. `Orchestrator` runs a mission with parts that
implement the protocols of `spec_kitty_orchestrator.ports`; `open_project` and `build` give the default ones;
`step` and `plan` are the decisions alone; `spec_kitty_orchestrator.testing` has stand-ins.
"""

from importlib.metadata import version

from spec_kitty_orchestrator.app.build import build, build_agents, connect
from spec_kitty_orchestrator.app.project import open_project
from spec_kitty_orchestrator.core.lifecycle import resume, step
from spec_kitty_orchestrator.core.model import (
    AgentReport,
    Attempt,
    Lane,
    MissionState,
    Outcome,
    Phase,
    Policy,
    PolicyMetadata,
    Result,
    Role,
    Ruling,
    Verdict,
    WorkPackage,
    Workspace,
)
from spec_kitty_orchestrator.core.prompts import Prompts
from spec_kitty_orchestrator.core.scheduler import Finished, Idle, Snapshot, Stalled, Start, plan
from spec_kitty_orchestrator.core.verdict import read_verdict
from spec_kitty_orchestrator.driver.engine import Orchestrator
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

__version__ = version("spec-kitty-orchestrator")

__all__ = [
    "AgentReport",
    "Attempt",
    "ConfigError",
    "Finished",
    "HostError",
    "HostNoReply",
    "HostRefusal",
    "Idle",
    "InvalidTransition",
    "JournalError",
    "Lane",
    "MissionState",
    "Orchestrator",
    "OrchestratorError",
    "Outcome",
    "Phase",
    "Policy",
    "PolicyMetadata",
    "PreflightError",
    "Prompts",
    "Result",
    "Role",
    "Ruling",
    "RunActive",
    "RunResult",
    "Snapshot",
    "Stalled",
    "Start",
    "UsageError",
    "Verdict",
    "WorkPackage",
    "Workspace",
    "WorkspaceError",
    "__version__",
    "build",
    "build_agents",
    "connect",
    "open_project",
    "plan",
    "read_verdict",
    "resume",
    "step",
]
