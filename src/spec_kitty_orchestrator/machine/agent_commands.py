"""What would run for each configured agent: its argv, its environment, its prompt, and what that allows."""

import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from spec_kitty_orchestrator.agents.fit import command_misfits, permission_misfits
from spec_kitty_orchestrator.agents.function import FunctionAgent, address
from spec_kitty_orchestrator.agents.spec import (
    OWN_FOLDER,
    PROMPT_FILE,
    PROMPT_WORD,
    Agent,
    AgentCommand,
    AgentSettings,
    Assignment,
    Permissions,
)
from spec_kitty_orchestrator.core.host_rules import BANNED_FLAGS
from spec_kitty_orchestrator.core.model import Attempt, PolicyMetadata, Role
from spec_kitty_orchestrator.errors import OrchestratorError, PreflightError
from spec_kitty_orchestrator.machine.environment import environment, search_path
from spec_kitty_orchestrator.machine.files import read_whole
from spec_kitty_orchestrator.machine.sandbox import Confined, Sandbox

__all__ = ["ConfiguredAgents", "PromptTooLong", "deliver"]


class ConfiguredAgents:
    """Agents by their configured name, for one repository; `version` is ours, for the host's policy.

    They find the folders of `extra_path` before PATH, and run in `sandbox` if there is one. `others` finds an
    agent that is not chosen now, since an earlier start may have left an attempt of it, or raises why not.
    """

    def __init__(
        self,
        repo_root: Path,
        agents: Mapping[str, tuple[Agent, AgentSettings]],
        *,
        version: str,
        extra_path: Sequence[Path] = (),
        others: Callable[[str], tuple[Agent, AgentSettings]] | None = None,
        sandbox: Sandbox | None = None,
    ) -> None:
        self._root = repo_root
        self._sandbox = sandbox
        self._agents = agents
        self._others = others
        self._version = version
        self._extra_path = tuple(extra_path)

    @asynccontextmanager
    async def serving(self, mission: str) -> AsyncIterator[None]:  # noqa: ARG002 - for runners elsewhere
        """Be ready to run attempts of a mission while the context lasts; here that needs nothing."""
        yield

    def policy(self, agent: str, role: Role) -> PolicyMetadata:
        """Tell what the argv for a role really allows. Raises `PreflightError` for an unknown agent."""
        spec, settings = self.agent(agent)
        built = self._built(agent, self._assignment(role, self._root, "policy", self._root))
        reason = f"agent {agent} cannot tell what it may do to {role}"
        try:
            wrong = permission_misfits(spec.permissions(role))
            if not wrong:
                confined = self.confined and not built.function
                return policy_of(spec, settings, role, built, self._version, confined)
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
        task = self._assignment(role, seen, attempt_id, directory)
        built = self._built(agent, replace(task, session=session, max_cost_usd=max_cost_usd))
        defaults = {name: value for name, value in built.default_env.items() if name not in os.environ}
        # What the module sets says what the agent is allowed: a setting of the user's must not undo it.
        return replace(built, env={**defaults, **settings.env, **built.env})

    def _assignment(self, role: Role, workspace: Path, attempt_id: str, directory: Path) -> Assignment:
        return Assignment(role, workspace, attempt_id, directory, confined=self.confined)

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
        """Return the path of the program that the agent would run, None if there is none; reads the disk.

        Of a function it is its name.
        """
        spec, _ = self.agent(agent)
        if isinstance(spec, FunctionAgent):
            return address(spec.function)
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

    @property
    def confined(self) -> bool:
        """Whether the system confines the agents."""
        return self._sandbox is not None

    def confine(self, attempt: Attempt, cwd: Path, command: AgentCommand, env: Mapping[str, str]) -> Confined:
        """Tell how the process of an attempt is confined; makes the folder into which its CLI may write."""
        own = Path(attempt.directory) / OWN_FOLDER
        named = any(str(own) in word for word in command.argv)
        if named:
            own.mkdir(mode=0o700, exist_ok=True)
        if self._sandbox is None:
            return Confined((), env)
        return self._sandbox.around(
            command.argv,
            env,
            cwd,
            "agents",
            mission=Path(attempt.directory).parents[1].name,
            writes=attempt.role is Role.IMPLEMENT,
            agent=self.agent(attempt.agent)[0].name,
            writable=[own] if named else [],
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
        return shutil.which(program, path=search_path(env))


ORCHESTRATOR_ID = "spec-kitty-orchestrator"
CUSTOM = "custom"
"""What the policy says of modes that a person's own arguments decide."""


def policy_of(
    agent: Agent, settings: AgentSettings, role: Role, command: AgentCommand, version: str, confined: bool
) -> PolicyMetadata:
    """Tell what `command` really allows, and the system where it is `confined`; `version` is ours."""
    words = {word.partition("=")[0] for word in command.argv}
    allowed = agent.permissions(role)
    if settings.extra_args:
        # What somebody adds may loosen or tighten what the module asks for: we cannot vouch for it.
        allowed = Permissions(CUSTOM, CUSTOM, CUSTOM)
    if confined:
        allowed = replace(allowed, sandbox_mode="workspace_write" if role is Role.IMPLEMENT else "read_only")
        if role is Role.REVIEW and agent.shell_in_review == "confined":
            allowed = replace(allowed, network_mode="full")
    return PolicyMetadata(
        orchestrator_id=ORCHESTRATOR_ID,
        # Build metadata is free text, and the host refuses some words in it.
        orchestrator_version=version.partition("+")[0],
        agent_family=agent.family,
        approval_mode=allowed.approval_mode,
        sandbox_mode=allowed.sandbox_mode,
        network_mode=allowed.network_mode,
        dangerous_flags=tuple(flag for flag in BANNED_FLAGS if flag in words),
    )


LONGEST_WORD_BYTES = 128 * 1024 - 1
"""Linux takes no longer word in an argv (`MAX_ARG_STRLEN`); to stay below it everywhere costs nothing."""


class PromptTooLong(Exception):
    """The prompt does not fit into an argv; the message says by how much."""


def deliver(command: AgentCommand, directory: Path) -> tuple[AgentCommand, str]:
    """Put the prompt where the CLI looks for it.

    Returns:
        What really runs, and the file that is its standard input: a name in `directory`, or a path.

    Raises:
        PromptTooLong: the CLI takes the prompt as an argument only, and it is too long for one.
        OSError: the prompt cannot be read.
    """
    if command.prompt == "stdin":
        return command, PROMPT_FILE
    if command.prompt == "argument":
        # A process cannot be given a NUL in an argument.
        text = read_whole(directory / PROMPT_FILE).decode("utf-8", "replace").replace("\0", "\ufffd")
        argv = tuple(word.replace(PROMPT_WORD, text) for word in command.argv)
        longest = max(len(os.fsencode(word)) for word in argv)
        if longest > LONGEST_WORD_BYTES:
            raise PromptTooLong(
                f"its prompt has {longest:,} bytes, but {command.argv[0]} takes it as an argument only, and "
                f"that holds {LONGEST_WORD_BYTES:,} at most; use another agent, or a shorter work package"
            )
        command = replace(command, argv=argv)
    return command, os.devnull
