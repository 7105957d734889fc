"""Which agents there are: built-in ones, those of plug-ins, and those that the settings declare."""

from pathlib import Path

from spec_kitty_orchestrator.agent_section import AgentSection
from spec_kitty_orchestrator.agents import find, names
from spec_kitty_orchestrator.agents.declared import Declared
from spec_kitty_orchestrator.agents.spec import Agent, AgentSettings
from spec_kitty_orchestrator.settings import Settings


def all_names(settings: Settings) -> tuple[str, ...]:
    """Return the names of all agents: built-in ones, those of plug-ins, then one's own."""
    own = (name for name, section in settings.agents.items() if section.command is not None)
    return (*names(), *own)


def configured(root: Path, settings: Settings, name: str) -> tuple[Agent, AgentSettings]:
    """Return an agent with what the settings say of it; a file that they name is looked for from `root`.

    Raises:
        UsageError: there is no such agent.
        PreflightError: it is that of a plug-in, which cannot be used.
    """
    section = settings.agents.get(name, AgentSection())
    declaration = section.declaration(name)
    agent = find(name) if declaration is None else Declared(declaration)
    return agent, AgentSettings(
        executable=section.executable,
        model=section.model,
        extra_args=section.extra_args,
        env=section.env,
        scenario=root / Path(section.scenario).expanduser() if section.scenario else None,
        pass_env=(*settings.run.pass_env, *section.pass_env),
        timeout_s=section.timeout,
    )
