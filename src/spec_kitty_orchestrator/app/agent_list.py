"""All available agents, with what each may do and what is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spec_kitty_orchestrator.agents.spec import Agent, AgentSettings
from spec_kitty_orchestrator.app.build import VERSION
from spec_kitty_orchestrator.app.checks import Finding, error
from spec_kitty_orchestrator.app.checks.agent_programs import Installed, find_installed
from spec_kitty_orchestrator.app.checks.agents import banned, check_installed, refused, scenario
from spec_kitty_orchestrator.app.project import all_names, find_agent, redactor_of, settings_around
from spec_kitty_orchestrator.config import CONFIG_FILE
from spec_kitty_orchestrator.core.model import PolicyMetadata, Role
from spec_kitty_orchestrator.errors import PreflightError
from spec_kitty_orchestrator.machine.agent_commands import ConfiguredAgents
from spec_kitty_orchestrator.machine.redaction import Redactor


@dataclass(frozen=True)
class ListedAgent:
    """One agent.

    Attributes:
        agent: its module.
        installed: its CLI on this machine.
        policies: what each of its roles may do, as the host is told.
        findings: what is right and wrong with it.
    """

    name: str
    agent: Agent
    installed: Installed
    policies: Mapping[Role, PolicyMetadata]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Listing:
    """All available agents.

    Attributes:
        broken: what is wrong with plug-ins that cannot be used.
        redactor: knows the secrets of our environment and of the settings.
    """

    agents: tuple[ListedAgent, ...]
    broken: tuple[Finding, ...]
    redactor: Redactor


async def list_agents(start: Path, environ: Mapping[str, str], *, anywhere: bool) -> Listing:
    """Examine every available agent, with the settings of the repository around `start`.

    Raises:
        UsageError: `start` is in no repository, and `anywhere` does not allow that.
        ConfigError: a setting is wrong.
    """
    root, settings = settings_around(start, environ, anywhere=anywhere)
    agents: dict[str, tuple[Agent, AgentSettings]] = {}
    broken = []
    for name in all_names(settings):
        try:
            agents[name] = find_agent(root, settings, name)
        except PreflightError as problem:
            broken.append(error("agent.plugin", str(problem), about=name))
    runner = ConfiguredAgents(root, agents, version=VERSION)
    installed = await find_installed(runner, agents)
    file = root / CONFIG_FILE
    listed = []
    for name, (agent, own) in agents.items():
        policies = {role: runner.policy(name, role) for role in sorted(agent.roles)}
        found = [*scenario(name, own, file), *banned(name, runner, file)]
        for role, policy in policies.items():
            found += refused(name, role, policy, file)
        found += check_installed(name, agent, installed[name])
        listed.append(ListedAgent(name, agent, installed[name], policies, tuple(found)))
    return Listing(tuple(listed), tuple(broken), redactor_of(environ, settings))
