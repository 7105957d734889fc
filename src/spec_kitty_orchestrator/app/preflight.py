"""Everything that would make a run fail later, found before anything is changed and told all at once."""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from spec_kitty_orchestrator.app.chosen import chosen_agents
from spec_kitty_orchestrator.app.findings import errors
from spec_kitty_orchestrator.app.installed import missing
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.repository import (
    MissionFiles,
    branch_of,
    current_branch,
    mission_files,
    missions,
)
from spec_kitty_orchestrator.config import nearest
from spec_kitty_orchestrator.core.model import MissionState
from spec_kitty_orchestrator.errors import (
    HostError,
    HostRefusal,
    OrchestratorError,
    PreflightError,
    RunActive,
    UsageError,
)
from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.machine.runner import LocalAgents
from spec_kitty_orchestrator.ports import Host


def find_problems(project: Project, runner: LocalAgents) -> list[OrchestratorError]:
    """Check agents and policies without asking the host."""
    found = chosen_agents(project, runner)
    for name, (agent, settings) in project.agents.items():
        if runner.executable(name) is None:
            found.append(missing(name, settings.executable or agent.executable, agent))
    return errors(found)


async def examine(project: Project, host: Host, mission: str) -> MissionState:
    """Read the mission from the host and check that there is something to run.

    Raises:
        HostError: the host cannot be used.
        UsageError: there is no such mission.
        PreflightError: its tasks are not finalized, or no work package is visible.
    """
    try:
        state = await host.mission_state(mission)
    except HostRefusal as refusal:
        if refusal.code == "MISSION_NOT_FOUND":
            raise UsageError(_no_mission(project.root, mission)) from None
        if refusal.code == "TASKS_NOT_FINALIZED":
            raise PreflightError(refusal.message) from None
        raise
    if not state.lanes:
        raise PreflightError(_no_work_packages(project.root, mission_files(project.root, state.slug)))
    return state


def _no_mission(root: Path, mission: str) -> str:
    found = missions(root)
    if not found:
        return f"there is no mission {mission!r}: {root} has no missions in kitty-specs/ on {_on(root)}"
    hint = nearest(mission, found) or ";"
    return f"there is no mission {mission!r}{hint} missions here: {', '.join(found)}"


def _no_work_packages(root: Path, files: MissionFiles) -> str:
    home = files.target_branch or branch_of(root, files.slug)
    if home and current_branch(root) != home:
        return (
            f"the host sees no work packages of {files.slug}: {root} is on {_on(root)}, but the mission "
            f"lives on {home}; run: git -C {shlex.quote(str(root))} switch {shlex.quote(home)}"
        )
    if files.work_packages:
        return (
            f"the host sees no work packages of {files.slug}, although there are "
            f"{len(files.work_packages)} files in tasks/; "
            f"run: spec-kitty agent mission finalize-tasks --mission {files.slug}"
        )
    return (
        f"{files.slug} has no work packages on {_on(root)}: switch to the branch where it was planned, "
        "or plan it first (tasks.md and tasks/WP*.md)"
    )


def _on(root: Path) -> str:
    branch = current_branch(root)
    return f"the branch {branch}" if branch else "a detached HEAD"


def check_free(project: Project, mission: str) -> list[OrchestratorError]:
    """Check without taking it that nobody holds the mission's lock."""
    owner = MissionLock(project.directory(mission), mission).holder()
    if owner is None:
        return []
    return [RunActive(f"another run of {mission} is active: process {owner.pid} on {owner.host}")]


def stop_at(problems: Iterable[OrchestratorError]) -> None:
    """Raise all problems as one error with the exit code of the gravest: usage, host, lock, preflight."""
    found = sorted(problems, key=lambda problem: problem.exit_code)
    if not found:
        return
    if len(found) == 1:
        raise found[0]
    kinds: Mapping[int, type[OrchestratorError]] = {
        kind.exit_code: kind for kind in (UsageError, HostError, RunActive, PreflightError)
    }
    raise kinds[found[0].exit_code]("\n".join(str(problem) for problem in found))
