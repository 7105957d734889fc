"""Everything that would make a run fail later, found before anything is changed and told all at once."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

from spec_kitty_orchestrator.app.chosen import chosen_agents
from spec_kitty_orchestrator.app.findings import Finding, error, errors, line, ok
from spec_kitty_orchestrator.app.installed import missing
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.repository import (
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
    found = await find_mission(project, host, mission)
    if isinstance(found, Finding):
        raise found.error
    return found


async def find_mission(project: Project, host: Host, mission: str) -> MissionState | Finding:
    """Read the mission from the host, or say why there is nothing to run.

    Raises:
        HostError: the host cannot be used.
    """
    try:
        state = await host.mission_state(mission)
    except HostRefusal as refusal:
        if refusal.code == "MISSION_NOT_FOUND":
            return _no_mission(project.root, mission)
        if refusal.code == "TASKS_NOT_FINALIZED":
            slug = str(refusal.data.get("mission_slug") or mission)
            return error("mission.tasks", refusal.message, _finalize(slug))
        raise
    return state if state.lanes else _no_work_packages(project.root, state.slug)


def _no_mission(root: Path, mission: str) -> Finding:
    found = missions(root)
    if not found:
        text = f"there is no mission {mission!r}: {root} has no missions in kitty-specs/ on {_on(root)}"
        return error("mission.exists", text, line("git", "-C", root, "branch", "--all"), kind=UsageError)
    hint = nearest(mission, found) or ";"
    text = f"there is no mission {mission!r}{hint} missions here: {', '.join(found)}"
    (close,) = get_close_matches(mission, found, n=1, cutoff=0) or found[:1]
    mend = line("spec-kitty-orchestrator", "doctor", "--mission", close)
    return error("mission.exists", text, mend, kind=UsageError)


def _no_work_packages(root: Path, slug: str) -> Finding:
    files = mission_files(root, slug)
    home = files.target_branch or branch_of(root, slug)
    if home and current_branch(root) != home:
        mend = line("git", "-C", root, "switch", home)
        text = (
            f"the host sees no work packages of {slug}: {root} is on {_on(root)}, but the mission "
            f"lives on {home}; run: {mend}"
        )
        return error("mission.branch", text, mend)
    if files.work_packages:
        text = (
            f"the host sees no work packages of {slug}, although there are "
            f"{len(files.work_packages)} files in tasks/; run: {_finalize(slug)}"
        )
        return error("mission.tasks", text, _finalize(slug))
    text = (
        f"{slug} has no work packages on {_on(root)}: switch to the branch where it was planned, "
        "or plan it first (tasks.md and tasks/WP*.md)"
    )
    return error("mission.tasks", text, line("git", "-C", root, "branch", "--all"))


def _finalize(slug: str) -> str:
    return line("spec-kitty", "agent", "mission", "finalize-tasks", "--mission", slug)


def _on(root: Path) -> str:
    branch = current_branch(root)
    return f"the branch {branch}" if branch else "a detached HEAD"


def check_free(project: Project, mission: str) -> list[OrchestratorError]:
    """Check without taking it that nobody holds the mission's lock."""
    return errors([check_lock(project, mission)])


def check_lock(project: Project, mission: str) -> Finding:
    """Say who holds the mission's lock, without taking it."""
    owner = MissionLock(project.directory(mission), mission).holder()
    if owner is None:
        return ok("lock", "no other run of the mission is active")
    text = f"another run of {mission} is active: process {owner.pid} on {owner.host}"
    mend = line("spec-kitty-orchestrator", "abort", "--mission", mission)
    return error("lock", text, mend, kind=RunActive)


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
