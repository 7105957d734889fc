"""Runs all checks before a run, and changes nothing."""

import platform
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.app.build import VERSION, build_agents, build_host
from spec_kitty_orchestrator.app.checks import Finding, Level, edit, error, line, noted, ok, warning
from spec_kitty_orchestrator.app.checks.agents import check_agents, find_installed
from spec_kitty_orchestrator.app.checks.git import check_repository
from spec_kitty_orchestrator.app.checks.host import check_policies, check_project, fix_of_host
from spec_kitty_orchestrator.app.checks.machine import check_machine
from spec_kitty_orchestrator.app.checks.mission import check_mission, place_of_first
from spec_kitty_orchestrator.app.checks.notify import check_places
from spec_kitty_orchestrator.app.checks.task_files import told_by_the_host
from spec_kitty_orchestrator.app.cluster import check_executor, look_at_cluster
from spec_kitty_orchestrator.app.mission import find_mission
from spec_kitty_orchestrator.app.project import Project, bare_project, check_prompts, open_project
from spec_kitty_orchestrator.app.repository import distrusted, find_repo_root
from spec_kitty_orchestrator.app.trust import COMMAND
from spec_kitty_orchestrator.config import CONFIG_FILE
from spec_kitty_orchestrator.core.model import MissionState, Workspace
from spec_kitty_orchestrator.errors import OrchestratorError, PreflightError, UsageError, WorkspaceError
from spec_kitty_orchestrator.host.client import HostClient

__all__ = ["diagnose"]


@dataclass
class Diagnosis:
    """What was found.

    Attributes:
        mission: its slug as the host spells it; as given if the host does not know it.
        project: None without a repository; with defaults and without agents if its settings are wrong.
    """

    findings: list[Finding]
    mission: str | None
    project: Project | None = None


async def diagnose(
    start: Path, environ: Mapping[str, str], flags: Mapping[str, object], mission: str | None
) -> Diagnosis:
    """Check what a run of the mission needs, or of each if it is None; flags are as of `open_project`."""
    version = f"spec-kitty-orchestrator {VERSION} on Python {platform.python_version()}"
    found = Diagnosis([ok("program", version)], mission)
    try:
        root = await to_thread.run_sync(find_repo_root, start)
    except OrchestratorError as failure:
        found.findings.append(_no_repository(start, failure))
        return found
    found.project = project = _open(found.findings, root, environ, flags)
    # Whether it works is asked once, and not on the event loop.
    await to_thread.run_sync(lambda: project.unconfined)
    found.findings += [*check_places(project), *check_executor(project)]
    checks = [check_repository(project.root), check_machine(project), look_at_cluster(project, VERSION)]
    if project.named.trusted:
        checks = [_agents(project), _host(found, project), *checks]
    else:
        for one in project.named.programs:
            text = f"not run, as the repository names it and nobody trusts it: {one}"
            found.findings.append(error("trust", text, COMMAND))
    parts: list[list[Finding]] = [[] for _ in checks]

    async def perform(check: Awaitable[list[Finding]], told: list[Finding]) -> None:
        with noted(told, "doctor"):
            told += await check

    async with anyio.create_task_group() as tasks:
        for check, told in zip(checks, parts, strict=True):
            tasks.start_soon(perform, check, told)
    # If the host itself has refused an agent, our own knowledge of its rules adds nothing.
    everything = [one for told in parts for one in told]
    refused = {one.about for one in everything if one.id == "host.policy" and one.level is Level.ERROR}
    found.findings += [one for one in everything if one.id != "agent.policy" or one.about not in refused]
    return found


def _no_repository(start: Path, failure: OrchestratorError) -> Finding:
    text, _, fix = str(failure).partition("\n")
    if not isinstance(failure, WorkspaceError) and distrusted(start):
        fix = line("git", "config", "--global", "--add", "safe.directory", start.absolute())
    return error("git.repository", text, fix)


def _open(
    told: list[Finding], root: Path, environ: Mapping[str, str], flags: Mapping[str, object]
) -> Project:
    """Open the project, with defaults and without agents if its settings are wrong."""
    wrong = check_prompts(root)
    try:
        project = open_project(root, environ, flags)
    except OrchestratorError as failure:
        project = bare_project(root, environ)
        if isinstance(failure, PreflightError):
            told.append(error("agent.plugin", str(failure), "spec-kitty-orchestrator agents"))
        else:
            wrong += [one for one in str(failure).splitlines() if one not in wrong]
    told += [error("config", one, _where(root, one)) for one in wrong]
    if not wrong:
        told.append(ok("config", "settings and prompts are valid"))
    return project


def _where(root: Path, problem: str) -> str:
    """Return the command that fixes a setting, according to the place that the message names."""
    if problem.startswith("environment variable "):
        return line("unset", problem.split(" ")[2].rstrip(":"))
    file, _, _ = problem.partition(": ")
    named = Path(file.rpartition(":")[0] if file.rpartition(":")[2].isdigit() else file)
    if named.is_absolute():
        return edit(named)
    return "spec-kitty-orchestrator agents" if "unknown agent" in problem else edit(root / CONFIG_FILE)


async def _agents(project: Project) -> list[Finding]:
    if not project.agents:
        return []
    runner = build_agents(project)
    here = () if project.settings.run.elsewhere else project.agents
    installed = await find_installed(runner, here)
    return [*check_agents(project, runner), *(one for cli in installed.values() for one in cli.findings)]


async def _host(found: Diagnosis, project: Project) -> list[Finding]:
    told: list[Finding] = []
    limit_s = project.settings.host.call_timeout
    with noted(told, "host", fix=partial(fix_of_host, project)):
        async with build_host(project, lambda said: told.append(warning("host.warm", said))) as host:
            with anyio.fail_after(limit_s):
                spoken = await host.check_contract()
            # Each answer takes a while where there are many missions.
            changes: list[Finding] = []
            about: list[Finding] = []
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_changes, project, host, changes)
                tasks.start_soon(_mission, found, project, host, about)
                with noted(told, "host", fix=partial(fix_of_host, project)), anyio.fail_after(limit_s):
                    version = await host.version() or "the host"
                    told.append(ok("host", f"{version} at {host.executable} speaks contract {spoken}"))
            if any(one.level is Level.ERROR and one.id == "host.project" for one in changes):
                # What such a host says of a mission is mended with it, as for a start.
                about = [one for one in about if one.level is not Level.ERROR or one.kind is UsageError]
            told += [*changes, *about]
    return told


async def _changes(project: Project, host: HostClient, told: list[Finding]) -> None:
    """Check that the host makes changes in this project, for each agent."""
    limit_s = project.settings.host.call_timeout
    with noted(told, "host.project", fix=partial(fix_of_host, project)), anyio.fail_after(limit_s):
        await check_project(project, host)
        told.append(ok("host.project", "the host makes changes in this project"))
    if project.agents and told[0].level is Level.OK:
        with noted(told, "host", fix=partial(fix_of_host, project)), anyio.fail_after(limit_s):
            told += await check_policies(project, build_agents(project), host)


async def _mission(found: Diagnosis, project: Project, host: HostClient, told: list[Finding]) -> None:
    """Check the mission, if one is asked for."""
    mission, fix = found.mission, partial(fix_of_host, project)
    if mission is None:
        return
    state: MissionState | Finding | None = None
    known: list[Workspace | None] = []

    async def look() -> None:
        known.append(await place_of_first(project.root, host, mission))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        with noted(told, "host", fix=fix), anyio.fail_after(project.settings.host.call_timeout):
            state = await find_mission(project, host, mission)
        if not isinstance(state, MissionState):
            tasks.cancel_scope.cancel()
    if isinstance(state, Finding):
        told.append(state)
    elif state is not None:
        found.mission = state.slug
        told.append(ok("mission.exists", f"the host knows {state.slug}: {len(state.lanes)} work packages"))
        with noted(told, "host", fix=fix):
            await check_mission(project, host, state, known[0], told)
            told[:] = await told_by_the_host(project.root, state.slug, host, told)
