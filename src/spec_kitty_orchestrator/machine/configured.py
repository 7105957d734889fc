"""The agents of the configuration: what would run for each, in which environment, and what that allows."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from spec_kitty_orchestrator.agents.fit import command_misfits, permission_misfits
from spec_kitty_orchestrator.agents.spec import Agent, AgentCommand, AgentSettings, Assignment
from spec_kitty_orchestrator.core.model import PolicyMetadata, Role
from spec_kitty_orchestrator.errors import OrchestratorError, PreflightError
from spec_kitty_orchestrator.machine.environment import environment
from spec_kitty_orchestrator.machine.policy import policy_of


class ConfiguredAgents:
    """Agents by their configured name, for one repository; `version` is ours, for the host's policy.

    They find the folders of `extra_path` before PATH. `others` finds an agent that is not chosen now, since
    an earlier start may have left an attempt of it; it raises why there is none.
    """

    def __init__(
        self,
        repo_root: Path,
        agents: Mapping[str, tuple[Agent, AgentSettings]],
        *,
        version: str,
        extra_path: Sequence[Path] = (),
        others: Callable[[str], tuple[Agent, AgentSettings]] | None = None,
    ) -> None:
        self._root = repo_root
        self._agents = agents
        self._others = others
        self._version = version
        self._extra_path = tuple(extra_path)

    def policy(self, agent: str, role: Role) -> PolicyMetadata:
        """Tell what the argv for a role really allows. Raises `PreflightError` for an unknown agent."""
        spec, settings = self.agent(agent)
        built = self._built(agent, Assignment(role, self._root, "policy", self._root))
        reason = f"agent {agent} cannot tell what it may do to {role}"
        try:
            wrong = permission_misfits(spec.permissions(role))
            if not wrong:
                return policy_of(spec, settings, role, built, self._version)
        except Exception as error:
            raise PreflightError(f"{reason}: {error!r}") from error
        raise PreflightError(f"{reason}: {'; '.join(wrong)}")

    def command(
        self,
        agent: str,
        role: Role,
        workspace: Path,
        attempt_id: str,
        directory: Path,
        session: str = "",
        max_cost_usd: float | None = None,
    ) -> AgentCommand:
        """Build what `run` would start; reads the disk. Raises `PreflightError` for an unknown agent."""
        _, settings = self.agent(agent)
        # A CLI that compares the path with that of its own directory sees no symbolic links there.
        seen = Path(os.path.realpath(workspace))
        built = self._built(agent, Assignment(role, seen, attempt_id, directory, session, max_cost_usd))
        defaults = {name: value for name, value in built.default_env.items() if name not in os.environ}
        # What the module sets says what the agent is allowed: a setting of the user's must not undo it.
        return replace(built, env={**defaults, **settings.env, **built.env})

    def _built(self, name: str, task: Assignment) -> AgentCommand:
        spec, settings = self.agent(name)
        # Agents can be plug-ins; their bugs are not ours.
        reason = f"agent {name} cannot build its command to {task.role}"
        try:
            built = spec.command(task, settings)
            wrong = command_misfits(built)
        except Exception as error:
            raise PreflightError(f"{reason}: {error!r}") from error
        if wrong:
            raise PreflightError(f"{reason}: {'; '.join(wrong)}")
        return built

    def executable(self, agent: str) -> str | None:
        """Return the path of the program that the agent would run, None if there is none; reads the disk."""
        spec, _ = self.agent(agent)
        command = self.command(agent, min(spec.roles), self._root, "executable", self._root)
        return self.locate(command.argv[0], self.environment(agent, command, ""))

    def agent(self, name: str) -> tuple[Agent, AgentSettings]:
        """Return the module and the settings of an agent. Raises `PreflightError` for an unknown one."""
        found = self._agents.get(name)
        if found is not None:
            return found
        try:
            if self._others is not None:
                return self._others(name)
            reason = "it is not configured"
        except OrchestratorError as error:
            reason = str(error)
        raise PreflightError(
            f"an attempt of this run is one of agent {name}, and only that can read it: {reason}; "
            "bring it back, or put the journal aside with `orchestrate --fresh`"
        )

    def is_chosen(self, name: str) -> bool:
        """Tell whether new attempts may be an agent's."""
        return name in self._agents

    def environment(self, agent: str, command: AgentCommand, marker: str) -> Mapping[str, str]:
        """Build the whole environment in which a command of the agent runs."""
        spec, settings = self.agent(agent)
        passed = (*spec.environment, *settings.pass_env)
        return environment(command.env, marker, self._extra_path, passed)

    def locate(self, program: str, env: Mapping[str, str]) -> str | None:
        """Return the path of a program as this environment finds it, None if there is none."""
        if os.sep in program:
            try:
                program = str(self._root / Path(program).expanduser())
            except RuntimeError:
                # There is no such user.
                return None
        return shutil.which(program, path=env.get("PATH", os.defpath))
