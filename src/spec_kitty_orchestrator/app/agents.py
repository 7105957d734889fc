"""What `agents` shows: all available agents with what each may do, and one that its author has checked."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from spec_kitty_orchestrator.agents.scripted import Scripted
from spec_kitty_orchestrator.agents.spec import Agent, AgentSettings
from spec_kitty_orchestrator.app import project
from spec_kitty_orchestrator.app.build import VERSION, build_agents
from spec_kitty_orchestrator.app.checks import Finding, error
from spec_kitty_orchestrator.app.checks.agents import Installed, check_agent, find_installed, missing
from spec_kitty_orchestrator.core.model import PolicyMetadata, Role
from spec_kitty_orchestrator.errors import PreflightError, UsageError
from spec_kitty_orchestrator.machine.agent_commands import ConfiguredAgents
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.testing.agent_contract import Checked, check_contract
from spec_kitty_orchestrator.testing.agent_trial import Trial

__all__ = ["ListedAgent", "list_agents", "try_agent"]


@dataclass(frozen=True)
class ListedAgent:
    """One agent: its module, its CLI on this machine, what each of its roles may do, and what is wrong."""

    name: str
    agent: Agent
    installed: Installed
    policies: Mapping[Role, PolicyMetadata]
    findings: tuple[Finding, ...]


async def list_agents(
    start: Path, environ: Mapping[str, str], *, anywhere: bool
) -> tuple[list[ListedAgent], list[Finding], Redactor]:
    """Examine every available agent, with the settings of the repository around `start`.

    Returns:
        The agents, what is wrong with plug-ins that cannot be used, and a redactor that knows the settings.
    """
    root, settings = project.settings_around(start, environ, anywhere=anywhere)
    agents: dict[str, tuple[Agent, AgentSettings]] = {}
    broken = []
    for name in project.all_names(settings):
        try:
            agents[name] = project.find_agent(root, settings, name)
        except PreflightError as problem:
            broken.append(error("agent.plugin", str(problem), about=name))
    runner = ConfiguredAgents(root, agents, version=VERSION)
    listed = []
    for name, installed in (await find_installed(runner, agents)).items():
        agent, _ = agents[name]
        policies = {role: runner.policy(name, role) for role in sorted(agent.roles)}
        found = (*check_agent(name, runner, root, agent.roles), *installed.findings)
        listed.append(ListedAgent(name, agent, installed, policies, found))
    return listed, broken, project.redactor_of(environ, settings)


@dataclass(frozen=True)
class CheckedAgent:
    """What was found out about one agent.

    Attributes:
        checks: in the order in which they were made.
        redactor: knows the secrets of our environment and of the settings.
        tried: whether it was run.
        kept: the folder of a trial in which something went wrong, with its logs.
    """

    checks: tuple[Checked, ...]
    redactor: Redactor
    tried: bool = False
    kept: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(one.ok for one in self.checks)


async def try_agent(
    start: Path, environ: Mapping[str, str], name: str, *, anywhere: bool, trial: bool
) -> CheckedAgent:
    """Check an agent by the contract of agents, with the settings around `start`; then by a `trial` run."""
    root, settings = project.settings_around(start, environ, anywhere=anywhere)
    agent, own = project.find_agent(root, settings, name, only_load=True)
    if trial and isinstance(agent, Scripted):
        raise UsageError(
            f"{name} follows its scenario and not what a prompt says, so it cannot be tried; "
            "rehearse a mission with it instead"
        )
    found = CheckedAgent(check_contract(agent, own), project.redactor_of(environ, settings))
    if not found.ok:
        return found
    alone = replace(
        project.bare_project(root, environ),
        settings=settings,
        redactor=found.redactor,
        agents={name: (agent, own)},
    )
    runner = build_agents(alone)
    program = runner.executable(name)
    told = Checked("program", program is not None, program or missing(name, runner).text)
    wrong = check_agent(name, runner, root, agent.roles)
    more = (told, *(Checked("settings", False, one.text) for one in wrong))
    found = replace(found, checks=found.checks + more)
    if not trial or not found.ok:
        return found
    folder = Path(tempfile.mkdtemp(prefix="agent-trial-"))
    place = folder / "project"
    place.mkdir()
    # A program that is given by a path relative to the repository must be found from the trial's folder too.
    tried = replace(alone, root=place, agents={name: (agent, replace(own, executable=program))})
    ran = await Trial(place, name, agent, build_agents(tried)).run()
    found = replace(found, checks=found.checks + ran, tried=True, kept=folder)
    if found.ok:
        shutil.rmtree(folder, ignore_errors=True)
        return replace(found, kept=None)
    return found
