"""Checks an agent for its author: by the contract of agents and, on request, by a trial run."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from spec_kitty_orchestrator.agents.scripted import Scripted
from spec_kitty_orchestrator.agents.spec import Agent, AgentSettings
from spec_kitty_orchestrator.app.build import VERSION
from spec_kitty_orchestrator.app.checks.agents import banned, missing
from spec_kitty_orchestrator.app.project import load_agent, redactor_of, settings_around
from spec_kitty_orchestrator.config import CONFIG_FILE
from spec_kitty_orchestrator.core.model import Role
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.machine.runner import LocalAgents
from spec_kitty_orchestrator.settings import Settings
from spec_kitty_orchestrator.testing.agent_contract import Checked, check_contract
from spec_kitty_orchestrator.testing.agent_trial import Trial


@dataclass(frozen=True)
class CheckedAgent:
    """What was found out about one agent.

    Attributes:
        checks: in the order in which they were made.
        tried: whether it was run.
        kept: the folder of a trial in which something went wrong, with its logs.
        redactor: knows the secrets of our environment and of the settings.
    """

    name: str
    checks: tuple[Checked, ...]
    redactor: Redactor
    tried: bool = False
    kept: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(one.ok for one in self.checks)


async def check_agent(
    start: Path, environ: Mapping[str, str], name: str, *, anywhere: bool, trial: bool
) -> CheckedAgent:
    """Check an agent, with the settings of the repository around `start`.

    Args:
        start: any folder.
        environ: of this process; `SKO_*` are settings.
        name: of a built-in agent, one of a plug-in or one of one's own.
        anywhere: whether `start` may lie outside of any repository; then there are no settings.
        trial: whether it is run too, if nothing else is wrong with it.

    Raises:
        UsageError: there is no such agent, it cannot be tried, or `start` is in no repository and must be.
        ConfigError: a setting is wrong.
        PreflightError: the agent is that of a plug-in, which cannot be loaded.
    """
    root, settings = settings_around(start, environ, anywhere=anywhere)
    agent, own = load_agent(root, settings, name)
    if trial and isinstance(agent, Scripted):
        raise UsageError(
            f"{name} follows its scenario and not what a prompt says, so it cannot be tried; "
            "rehearse a mission with it instead"
        )
    redactor = redactor_of(environ, settings)
    checks = check_contract(agent, own)
    if not all(one.ok for one in checks):
        return CheckedAgent(name, checks, redactor)
    runner = _runner(root, name, agent, own, settings, redactor)
    program = runner.executable(name)
    if program is None:
        absent = missing(name, own.executable or agent.executable, agent)
        checks += (Checked("program", False, absent.text),)
    else:
        checks += (Checked("program", True, program),)
    checks += tuple(Checked("settings", False, one.text) for one in banned(name, runner, root / CONFIG_FILE))
    if not trial or program is None or not all(one.ok for one in checks):
        return CheckedAgent(name, checks, redactor)
    folder = Path(tempfile.mkdtemp(prefix="agent-trial-"))
    place = folder / "project"
    place.mkdir()
    # A program that is given by a path relative to the repository must be found from the trial's folder too.
    own = replace(own, executable=program)
    checks += await Trial(place, name, agent, _runner(place, name, agent, own, settings, redactor)).run()
    found = CheckedAgent(name, checks, redactor, tried=True, kept=folder)
    if found.ok:
        shutil.rmtree(folder, ignore_errors=True)
        return replace(found, kept=None)
    return found


def _runner(
    root: Path,
    name: str,
    agent: Agent,
    own: AgentSettings,
    settings: Settings,
    redactor: Redactor,
) -> LocalAgents:
    run = settings.run
    return LocalAgents(
        root,
        {name: (agent, own)},
        timeouts={Role.IMPLEMENT: run.timeout, Role.REVIEW: run.review_timeout},
        version=VERSION,
        redactor=redactor,
        stall_timeout_s=run.stall_timeout,
    )
