"""Runs all checks before a run, and changes nothing."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.app.build import build_agents, build_host
from spec_kitty_orchestrator.app.checks import Finding, Level, edit, error, line, ok, warning
from spec_kitty_orchestrator.app.checks.agent_programs import find_installed
from spec_kitty_orchestrator.app.checks.agents import check_agents, check_installed
from spec_kitty_orchestrator.app.checks.git import check_repository, check_worktrees
from spec_kitty_orchestrator.app.checks.host import check_contract, check_policies, host_finding
from spec_kitty_orchestrator.app.checks.machine import (
    check_gates,
    check_program,
    check_records,
    check_resources,
)
from spec_kitty_orchestrator.app.checks.mission import (
    check_branch,
    check_dependencies,
    check_earlier_run,
    check_fates,
    check_lock,
    check_saved,
)
from spec_kitty_orchestrator.app.mission import find_mission
from spec_kitty_orchestrator.app.plan import plan_work_packages
from spec_kitty_orchestrator.app.project import Project, bare_project, check_prompts, open_project
from spec_kitty_orchestrator.app.repository import MISSIONS, distrusted, find_repo_root
from spec_kitty_orchestrator.app.runs import begun_here
from spec_kitty_orchestrator.config import CONFIG_FILE
from spec_kitty_orchestrator.errors import (
    ConfigError,
    HostError,
    OrchestratorError,
    PreflightError,
    WorkspaceError,
)
from spec_kitty_orchestrator.host.client import HostClient

WOULD_FAIL = 5
"""The exit code if a run would fail."""
SLOWEST_CALL_S = 10.0
"""Of a cold host on a busy machine, to resolve one workspace."""


@dataclass
class Diagnosis:
    """What was found.

    Attributes:
        root: the repository, None if there is none.
        mission: its slug as the host spells it; as given if the host does not know it.
        seconds: how long it took.
    """

    findings: list[Finding] = field(default_factory=list)
    root: Path | None = None
    mission: str | None = None
    seconds: float = 0.0
    project: Project | None = None

    @property
    def exit_code(self) -> int:
        """0 if a run can begin."""
        return WOULD_FAIL if any(one.level is Level.ERROR for one in self.findings) else 0


async def diagnose(
    start: Path, environ: Mapping[str, str], flags: Mapping[str, object], mission: str | None
) -> Diagnosis:
    """Check everything that a run needs, as far as possible.

    Args:
        start: any folder of the repository.
        environ: of this process.
        flags: as of `open_project`.
        mission: its slug; None to check what every mission needs.
    """
    began = monotonic()
    found = Diagnosis(mission=mission)
    found.findings.append(check_program())
    try:
        found.root = await to_thread.run_sync(find_repo_root, start)
    except OrchestratorError as failure:
        found.findings.append(_no_repository(start, failure))
    else:
        found.project, configured = _open(found, found.root, environ, flags)
        await _look(found, found.project, mission, configured=configured)
    found.seconds = monotonic() - began
    return found


def _no_repository(start: Path, failure: OrchestratorError) -> Finding:
    fix = line("git", "config", "--global", "--add", "safe.directory", start.absolute())
    unsafe = not isinstance(failure, WorkspaceError) and distrusted(start)
    return error("git.repository", str(failure), fix if unsafe else "", kind=type(failure))


def _open(
    found: Diagnosis, root: Path, environ: Mapping[str, str], flags: Mapping[str, object]
) -> tuple[Project, bool]:
    """Open the project, with defaults if its settings are wrong; return whether they are right."""
    prompts = check_prompts(root)
    wrong = [*map(str, prompts)]
    try:
        project = open_project(root, environ, flags)
    except PreflightError as failure:
        found.findings.append(error("agent.plugin", str(failure), "spec-kitty-orchestrator agents"))
        project = bare_project(root, environ)
    except OrchestratorError as failure:
        wrong += [one for one in str(failure).splitlines() if one not in wrong]
        project = bare_project(root, environ)
    found.findings += [error("config", one, _where(root, one), kind=ConfigError) for one in wrong]
    if not wrong:
        found.findings.append(ok("config", "settings and prompts are valid"))
    return project, bool(project.agents)


def _where(root: Path, problem: str) -> str:
    """Return the command that fixes a setting, according to the place that the message names."""
    if problem.startswith("environment variable "):
        return line("unset", problem.split(" ")[2].rstrip(":"))
    file, _, _ = problem.partition(": ")
    named = Path(file.rpartition(":")[0] if file.rpartition(":")[2].isdigit() else file)
    if named.is_absolute():
        return edit(named)
    return "spec-kitty-orchestrator agents" if "unknown agent" in problem else edit(root / CONFIG_FILE)


async def _look(found: Diagnosis, project: Project, mission: str | None, *, configured: bool) -> None:
    """Run all checks concurrently, and report them in a fixed order."""
    parts: dict[int, Sequence[Finding]] = {}

    async def part(place: int, check: Callable[[], Awaitable[Sequence[Finding]]]) -> None:
        try:
            parts[place] = await check()
        except OrchestratorError as failure:
            parts[place] = [error("doctor", str(failure).replace("\n", "; "), kind=type(failure))]

    async def agents() -> Sequence[Finding]:
        return await _agents(project) if configured else ()

    async def machine() -> Sequence[Finding]:
        told = [*await check_resources(project), *check_records(project.root)]
        return told + await check_gates(project)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(part, 0, agents)
        tasks.start_soon(part, 1, lambda: _host(found, project, mission, configured=configured))
        tasks.start_soon(part, 2, lambda: check_repository(project.root))
        tasks.start_soon(part, 3, machine)
    told = [one for place in sorted(parts) for one in parts[place]]
    # If the host itself has refused an agent, our own knowledge of its rules adds nothing.
    refused = {
        one.about for one in told if one.id == "host.policy" and one.level is Level.ERROR and one.about
    }
    found.findings += [one for one in told if not (one.id == "agent.policy" and one.about in refused)]


async def _agents(project: Project) -> list[Finding]:
    runner = build_agents(project)
    installed = await find_installed(runner, project.agents)
    found = check_agents(project, runner)
    for name, one in installed.items():
        found += check_installed(name, project.agents[name][0], one)
    return found


async def _host(
    found: Diagnosis, project: Project, mission: str | None, *, configured: bool
) -> Sequence[Finding]:
    told: list[Finding] = []

    def say(message: str) -> None:
        told.append(warning("host.warm", message))

    try:
        host = build_host(project, say)
    except HostError as failure:
        return [host_finding(failure, project)]
    limit_s = project.settings.host.call_timeout
    try:
        async with host:
            with anyio.fail_after(limit_s):
                told += await check_contract(project, host)
            if any(one.level is Level.ERROR for one in told):
                return told
            if configured:
                with anyio.fail_after(limit_s):
                    told += await check_policies(project, build_agents(project), host)
            if mission is not None:
                await _mission(told, found, project, host, mission)
    except* OrchestratorError as failures:
        told.append(_finding(failures, project))
    except* TimeoutError:
        shown = line(host.executable, "orchestrator-api", "contract-version")
        told.append(error("host", "the host did not answer in time", shown))
    return told


def _finding(failures: ExceptionGroup[OrchestratorError], project: Project) -> Finding:
    """Report one of several failures: concurrent calls seldom fail for different reasons."""
    one: Exception = failures
    while isinstance(one, ExceptionGroup):
        one = one.exceptions[0]
    if isinstance(one, HostError):
        return host_finding(one, project)
    return error("git.works", str(one).replace("\n", "; "))


async def _mission(
    told: list[Finding], found: Diagnosis, project: Project, host: HostClient, mission: str
) -> None:
    """Add findings about the mission to `told`, as far as the host answers."""
    limit_s = project.settings.host.call_timeout
    with anyio.fail_after(limit_s):
        state = await find_mission(project, host, mission)
    if isinstance(state, Finding):
        told.append(state)
        return
    root, found.mission = project.root, state.slug
    told.append(ok("mission.exists", f"the host knows {state.slug}: {len(state.lanes)} work packages"))
    told += await to_thread.run_sync(check_branch, root, state.slug)
    lock = check_lock(project, state.slug)
    told.append(lock)
    told += await check_earlier_run(root, state.slug)
    told += check_dependencies(state)
    if not (root / MISSIONS / state.slug).is_dir():
        return  # it is on another branch, as reported, and the host cannot resolve its workspaces
    with anyio.fail_after(limit_s + SLOWEST_CALL_S * len(state.lanes)):
        planned = await plan_work_packages(project, host, state)
    told += check_fates(state, planned)
    if lock.level is not Level.OK:
        return  # an active run has uncommitted work of its own
    told += await to_thread.run_sync(check_saved, root, state.slug)
    told += await check_worktrees(planned, await begun_here(root, state.slug))
