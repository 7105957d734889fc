"""Which agents there are: built-in ones, those of plug-ins, and those that the settings declare."""

from collections.abc import Mapping
from pathlib import Path

from spec_kitty_orchestrator.agents import BUILT_IN, find, names, plugins
from spec_kitty_orchestrator.agents.declared import Declared
from spec_kitty_orchestrator.agents.spec import Agent, AgentSettings
from spec_kitty_orchestrator.app.repository import find_repo_root
from spec_kitty_orchestrator.config import load
from spec_kitty_orchestrator.errors import OrchestratorError, PreflightError
from spec_kitty_orchestrator.machine.configured import ConfiguredAgents
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.machine.secret_names import secret_values
from spec_kitty_orchestrator.settings import Settings
from spec_kitty_orchestrator.settings.agent_section import AgentSection


def settings_around(start: Path, environ: Mapping[str, str], *, anywhere: bool) -> tuple[Path, Settings]:
    """Return the root of the repository around `start` and its settings.

    Args:
        start: any folder.
        environ: of this process; `SKO_*` are settings.
        anywhere: whether `start` may lie outside of any repository; then it is the root, without settings.

    Raises:
        UsageError: `start` is in no repository, and must be.
        ConfigError: a setting is wrong.
    """
    try:
        root = find_repo_root(start)
    except OrchestratorError:
        if not anywhere:
            raise
        return start, Settings()
    return root, load(root, environ, {}, names())


def all_names(settings: Settings) -> tuple[str, ...]:
    """Return the names of all agents: built-in ones, those of plug-ins, then one's own."""
    own = (name for name, section in settings.agents.items() if section.command is not None)
    return (*names(), *own)


def redactor_of(environ: Mapping[str, str], settings: Settings) -> Redactor:
    """Return what knows the secrets of our environment and of every agent's in the settings."""
    return Redactor(secret_values(environ, *(section.env for section in settings.agents.values())))


def configured(root: Path, settings: Settings, name: str) -> tuple[Agent, AgentSettings]:
    """Return an agent with what the settings say of it; a file that they name is looked for from `root`.

    Raises:
        UsageError: there is no such agent.
        PreflightError: it is that of a plug-in, which cannot be used.
    """
    agent, own = loaded(root, settings, name)
    if isinstance(agent, Declared) or name in BUILT_IN:
        return agent, own
    alone = ConfiguredAgents(root, {name: (agent, own)}, version="")
    try:
        for role in sorted(agent.roles):
            alone.policy(name, role)
    except PreflightError as problem:
        known = ", ".join(plugins.distributions(name))
        raise PreflightError(f"{problem}; mend or uninstall the distribution {known}") from problem
    return agent, own


def loaded(root: Path, settings: Settings, name: str) -> tuple[Agent, AgentSettings]:
    """Return the same, of a plug-in without asking whether its methods work.

    Raises:
        UsageError: there is no such agent.
        PreflightError: it is that of a plug-in, which cannot be loaded.
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
