"""Checks an agent for its author: by the contract of agents and, on request, by a trial run."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from spec_kitty_orchestrator.agents.scripted import Scripted
from spec_kitty_orchestrator.app.build import build_agents
from spec_kitty_orchestrator.app.checks.agents import banned, missing
from spec_kitty_orchestrator.app.project import bare_project, load_agent, redactor_of, settings_around
from spec_kitty_orchestrator.config import CONFIG_FILE
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.machine.redaction import Redactor
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

    A `trial` run follows if nothing is wrong with it.

    Raises:
        UsageError: there is no such agent, it cannot be tried, or `start` is in no repository and `anywhere`
            does not allow that.
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
    alone = replace(
        bare_project(root, environ), settings=settings, redactor=redactor, agents={name: (agent, own)}
    )
    runner = build_agents(alone)
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
    tried = replace(alone, root=place, agents={name: (agent, replace(own, executable=program))})
    checks += await Trial(place, name, agent, build_agents(tried)).run()
    found = CheckedAgent(name, checks, redactor, tried=True, kept=folder)
    if found.ok:
        shutil.rmtree(folder, ignore_errors=True)
        return replace(found, kept=None)
    return found
