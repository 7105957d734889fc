"""Puts the parts together: settings and a repository become an `Orchestrator` with the default parts."""

from spec_kitty_orchestrator.app.abort import Stopped, choose_to_abort, record_abort, stop_run
from spec_kitty_orchestrator.app.agent_check import CheckedAgent, check_agent
from spec_kitty_orchestrator.app.build import (
    VERSION,
    build,
    build_agents,
    build_host,
    connect,
    journal,
    run_log,
)
from spec_kitty_orchestrator.app.by_hand import Decided, retry, skip
from spec_kitty_orchestrator.app.chosen import dependence, uncounted
from spec_kitty_orchestrator.app.cleanup import Cleared, clean_up
from spec_kitty_orchestrator.app.doctor import Diagnosis, diagnose
from spec_kitty_orchestrator.app.findings import Finding, Level
from spec_kitty_orchestrator.app.installed import Installed, LoginState, correction, look_at, unfamiliar
from spec_kitty_orchestrator.app.listing import ListedAgent, list_agents
from spec_kitty_orchestrator.app.plan import Plan, PlannedRole, PlannedWorkPackage, make_plan
from spec_kitty_orchestrator.app.preflight import check_free, examine, find_problems, stop_at
from spec_kitty_orchestrator.app.project import Project, open_project
from spec_kitty_orchestrator.app.repository import (
    LOGS,
    MissionFiles,
    find_repo_root,
    journaled,
    mission_files,
    unsaved,
)
from spec_kitty_orchestrator.app.runs import (
    KnownRun,
    archive_journal,
    choose_unfinished,
    describe,
    describe_end,
    known_run,
    known_runs,
    settings_of,
    spelled,
    strays,
)
from spec_kitty_orchestrator.app.standing import LiveAttempt, MissionStatus, Standing, mission_status

__all__ = [
    "LOGS",
    "VERSION",
    "CheckedAgent",
    "Cleared",
    "Decided",
    "Diagnosis",
    "Finding",
    "Installed",
    "KnownRun",
    "Level",
    "ListedAgent",
    "LiveAttempt",
    "LoginState",
    "MissionFiles",
    "MissionStatus",
    "Plan",
    "PlannedRole",
    "PlannedWorkPackage",
    "Project",
    "Standing",
    "Stopped",
    "archive_journal",
    "build",
    "build_agents",
    "build_host",
    "check_agent",
    "check_free",
    "choose_to_abort",
    "choose_unfinished",
    "clean_up",
    "connect",
    "correction",
    "dependence",
    "describe",
    "describe_end",
    "diagnose",
    "examine",
    "find_problems",
    "find_repo_root",
    "journal",
    "journaled",
    "known_run",
    "known_runs",
    "list_agents",
    "look_at",
    "make_plan",
    "mission_files",
    "mission_status",
    "open_project",
    "record_abort",
    "retry",
    "run_log",
    "settings_of",
    "skip",
    "spelled",
    "stop_at",
    "stop_run",
    "strays",
    "uncounted",
    "unfamiliar",
    "unsaved",
]
