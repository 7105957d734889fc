"""Agents as processes of this machine: each attempt runs once, and survives us.

An attempt's directory says how far it got, and `run` goes on from there: it spawns, re-attaches, harvests, or
reports the attempt lost.
"""

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import time
from typing import Literal

import anyio
import anyio.to_thread

from spec_kitty_orchestrator.agents.spec import Agent, AgentCommand, AgentSettings
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Outcome, PolicyMetadata, Role
from spec_kitty_orchestrator.errors import PreflightError, WorkspaceError
from spec_kitty_orchestrator.log import get_logger
from spec_kitty_orchestrator.machine import attempt_files, logs, process
from spec_kitty_orchestrator.machine.environment import environment
from spec_kitty_orchestrator.machine.policy import policy_of
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.machine.scrub import scrub_directory
from spec_kitty_orchestrator.machine.stopping import (
    KILL_WAIT_S,
    STOP_GRACE_S,
    SWEEP_TERM_S,
    Grace,
    stop,
    sweep,
)
from spec_kitty_orchestrator.ports import AttemptRequest

# These fail every time; a full disk or process table may pass.
_LASTING_ERRORS = frozenset({errno.E2BIG, errno.ENOENT, errno.EACCES, errno.ENOEXEC})
# What an agent can still be waiting for when its time is over.
_WAITED_FOR = frozenset({Outcome.RATE_LIMITED, Outcome.OVERLOADED})
_log = get_logger()


@dataclass
class _Running:
    """One process that a `run` waits for; `grace` is set once it has to stop."""

    child: process.Child
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)
    grace: Grace | None = None

    def request_stop(self, grace_s: float) -> None:
        if self.grace is None:
            self.grace = Grace(grace_s)
            self.scope.cancel()
        else:
            self.grace.shorten(grace_s)


class LocalAgents:
    """The `AgentRunner` of this machine; attempts are kept under `.kittify/logs` of `repo_root`.

    `timeouts` are in seconds, `version` is ours (for the host's policy), agents find the folders of
    `extra_path` before PATH, and what they say is told and kept without what `redactor` finds.
    """

    def __init__(
        self,
        repo_root: Path,
        agents: Mapping[str, tuple[Agent, AgentSettings]],
        *,
        timeouts: Mapping[Role, float],
        version: str,
        extra_path: Sequence[Path] = (),
        redactor: Redactor | None = None,
    ) -> None:
        self._root = repo_root
        self._agents = agents
        self._timeouts = timeouts
        self._version = version
        self._extra_path = tuple(extra_path)
        self._redactor = redactor or Redactor()
        self._running: dict[str, _Running] = {}
        self._turns: dict[str, anyio.Lock] = {}
        self._stop_grace_s: float | None = None

    def policy(self, agent: str, role: Role) -> PolicyMetadata:
        """Tell what the argv for a role really allows. Raises `PreflightError` for an unknown agent."""
        spec, settings = self._agent(agent)
        built = spec.command(role, settings, workspace=self._root, attempt_id="policy")
        return policy_of(spec, settings, role, built, self._version)

    def command(
        self,
        agent: str,
        role: Role,
        workspace: Path,
        attempt_id: str,
        session: str = "",
        max_cost_usd: float | None = None,
    ) -> AgentCommand:
        """Build what `run` would start. Raises `PreflightError` for an unknown agent."""
        spec, settings = self._agent(agent)
        built = spec.command(
            role,
            settings,
            workspace=workspace,
            attempt_id=attempt_id,
            session=session,
            max_cost_usd=max_cost_usd,
        )
        defaults = {name: value for name, value in built.default_env.items() if name not in os.environ}
        # What the module sets says what the agent is allowed: a setting of the user's must not undo it.
        return replace(built, env={**defaults, **settings.env, **built.env})

    def executable(self, agent: str) -> str | None:
        """Return the path of the program that the agent would run, None if there is none; reads the disk."""
        command = self.command(agent, Role.IMPLEMENT, self._root, "executable")
        return self._locate(command.argv[0], self._environment(agent, command, ""))

    async def open(self, request: AttemptRequest) -> Attempt:
        """Write `prompt.md` and `command.json` into a directory of the attempt's own; nothing is spawned.

        Raises:
            WorkspaceError: the disk refuses.
            PreflightError: the agent is not configured.
        """
        spec, _ = self._agent(request.agent)
        session = request.session if spec.resumes else ""
        max_cost_usd = request.max_cost_usd if spec.caps_cost else None
        cwd = Path(request.workspace.path)
        command = self.command(request.agent, request.role, cwd, request.id, session, max_cost_usd)
        try:
            number, directory = await anyio.to_thread.run_sync(self._prepare, request, command)
        except OSError as error:
            raise WorkspaceError(f"cannot prepare an attempt of {request.wp_id}: {error}") from error
        role, agent, head, tree = request.role, request.agent, request.head, request.tree
        return Attempt(request.id, number, role, agent, str(directory), head, tree, session, max_cost_usd)

    def _prepare(self, request: AttemptRequest, command: AgentCommand) -> tuple[int, Path]:
        number, directory = logs.open_directory(
            self._root, request.mission, request.wp_id, request.number, request.role, request.agent
        )
        logs.write_private(directory / "prompt.md", request.prompt)
        cwd = Path(request.workspace.path)
        attempt_files.write_command(
            directory, request.id, request.agent, request.role, cwd, command, self._redactor
        )
        return number, directory

    async def run(self, attempt: Attempt) -> AgentReport:
        """Spawn the attempt, or re-attach to it, or harvest what it left; wait for its end.

        Cancelling leaves the process running: the next call re-attaches to it.

        Raises:
            WorkspaceError: the worktree is missing.
            PreflightError: the attempt's agent is not configured any more.
        """
        self._agent(attempt.agent)
        directory = Path(attempt.directory)
        async with self._turns.setdefault(attempt.directory, anyio.Lock()):
            saved = await anyio.to_thread.run_sync(attempt_files.read_result, directory, attempt.id)
            if saved is not None:
                await self._scrub(attempt)
                return saved
            written = await anyio.to_thread.run_sync(attempt_files.read_command, directory, attempt.id)
            if written is None:
                leftovers = await sweep(attempt.id)
                gone = f"the files of the attempt in {directory} are gone or belong to another"
                return AgentReport(Outcome.LOST, detail=gone, leftovers=leftovers)
            match await process.state(directory, attempt.id):
                case process.NeverStarted():
                    return await self._begin(attempt, Path(written.cwd))
                case process.Alive(child):
                    _log.info("attempt re-attached", attempt=attempt.id, pid=child.pid)
                    return await self._attend(attempt, child, written.stop_signal)
                case process.Finished(exit_code):
                    return await self._harvest(attempt, exit_code)
                case process.Lost():
                    pass
            detail = "the process is gone and how it ended was not recorded"
            return await self._harvest(attempt, None, otherwise=(Outcome.LOST, detail))

    async def _begin(self, attempt: Attempt, cwd: Path) -> AgentReport:
        if self._stop_grace_s is not None:
            return AgentReport(Outcome.CANCELED, detail="the run was stopped before the attempt began")
        directory = Path(attempt.directory)
        command = self.command(
            attempt.agent, attempt.role, cwd, attempt.id, attempt.session, attempt.max_cost_usd
        )
        env = self._environment(attempt.agent, command, attempt.id)
        program = await anyio.to_thread.run_sync(self._locate, command.argv[0], env)
        if program is None:
            missing = f"{command.argv[0]} is not an executable on PATH"
            return AgentReport(Outcome.INVALID_REQUEST, detail=missing)
        try:
            # The settings may have changed since the attempt was opened; the record says what really runs.
            await anyio.to_thread.run_sync(
                attempt_files.write_command,
                directory,
                attempt.id,
                attempt.agent,
                attempt.role,
                cwd,
                command,
                self._redactor,
            )
            child = await process.spawn((program, *command.argv[1:]), cwd, env, directory)
        except FileExistsError as error:
            raise WorkspaceError(f"another run has started the attempt in {directory}") from error
        except OSError as error:
            if not await anyio.Path(cwd).is_dir():
                raise WorkspaceError(f"the worktree {cwd} is missing") from error
            return await self._not_spawned(attempt, program, error)
        _log.info("attempt started", attempt=attempt.id, agent=attempt.agent, pid=child.pid)
        return await self._attend(attempt, child, command.stop_signal)

    async def _not_spawned(self, attempt: Attempt, program: str, error: OSError) -> AgentReport:
        outcome = Outcome.INVALID_REQUEST if error.errno in _LASTING_ERRORS else Outcome.CRASHED
        report = AgentReport(outcome, detail=f"cannot start {program}: {error.strerror}")
        await self._save(attempt, report)
        return report

    async def _attend(
        self, attempt: Attempt, child: process.Child, stop_signal: Literal["INT", "TERM"]
    ) -> AgentReport:
        running = self._running[attempt.directory] = _Running(child)
        try:
            if self._stop_grace_s is not None:
                running.request_stop(self._stop_grace_s)
            # The clock of the wall, because the attempt may have begun before this process did.
            left_s = self._timeouts[attempt.role] - max(0.0, time() - child.create_time)
            running.scope.deadline = anyio.current_time() + left_s
            ended = False
            with running.scope:
                await process.wait(child)
                ended = True
            # What has begun to stop is stopped in bounded time, whoever loses interest meanwhile.
            with anyio.CancelScope(shield=True):
                report = await self._conclude(attempt, running, ended, stop_signal)
        finally:
            running.ended.set()
            del self._running[attempt.directory]
        return report

    async def _conclude(
        self, attempt: Attempt, running: _Running, ended: bool, stop_signal: Literal["INT", "TERM"]
    ) -> AgentReport:
        otherwise: tuple[Outcome, str] | None = None
        leftovers = 0
        if not ended:
            if running.grace is not None:
                otherwise = (Outcome.CANCELED, "the run was stopped")
            else:
                running.grace = Grace(STOP_GRACE_S)
                otherwise = (Outcome.TIMEOUT, f"no result within {self._timeouts[attempt.role]:g} s")
            leftovers = await stop(running.child, attempt.id, running.grace, stop_signal)
        exit_code = await anyio.to_thread.run_sync(process.read_exit, Path(attempt.directory))
        return await self._harvest(attempt, exit_code, leftovers=leftovers, otherwise=otherwise)

    async def _harvest(
        self,
        attempt: Attempt,
        exit_code: int | None,
        *,
        leftovers: int = 0,
        otherwise: tuple[Outcome, str] | None = None,
    ) -> AgentReport:
        leftovers += await sweep(attempt.id)
        if leftovers:
            _log.warning("processes of the attempt outlived it", attempt=attempt.id, killed=leftovers)
        spec, _ = self._agent(attempt.agent)
        report = await anyio.to_thread.run_sync(
            attempt_files.read_report,
            Path(attempt.directory),
            spec,
            exit_code,
            # A verdict must name them, whatever a variable of ours happens to hold.
            self._redactor.sparing(attempt.id, attempt.head),
        )
        if otherwise is not None and report.outcome is not Outcome.OK:
            # A positive result was paid for and counts, even if the process had to be stopped after it.
            outcome, reason = otherwise
            detail = f"{reason}; {report.detail}" if report.detail else reason
            if outcome is not Outcome.CANCELED and report.outcome in _WAITED_FOR:
                # What it waited for when its time was over says more than that the time was over.
                outcome = report.outcome
            report = replace(report, outcome=outcome, detail=detail)
        report = replace(report, exit_code=exit_code, leftovers=leftovers)
        await self._save(attempt, report)
        await self._scrub(attempt)
        _log.info("attempt ended", attempt=attempt.id, outcome=report.outcome.value, exit_code=exit_code)
        return report

    async def _save(self, attempt: Attempt, report: AgentReport) -> None:
        # Without the record the same report is made again of the attempt's other files.
        try:
            await anyio.to_thread.run_sync(
                attempt_files.write_result, Path(attempt.directory), attempt.id, report
            )
        except OSError as error:
            _log.error("the result could not be saved", attempt=attempt.id, error=str(error))

    async def _scrub(self, attempt: Attempt) -> None:
        """Take the secrets out of the attempt's files; after the report, which it could make unreadable."""
        redactor = self._redactor.sparing(attempt.id, attempt.head)
        try:
            await anyio.to_thread.run_sync(scrub_directory, Path(attempt.directory), redactor)
        except OSError as error:
            _log.error("secrets may be left in the logs", attempt=attempt.id, error=str(error))

    async def stop_all(self, grace_s: float) -> None:
        """Stop every running attempt and return when all are gone; attempts begun later are not spawned.

        A second call, also a concurrent one, can only shorten the wait.

        Args:
            grace_s: how long agents may take after the first signal, in seconds.
        """
        self._stop_grace_s = grace_s if self._stop_grace_s is None else min(grace_s, self._stop_grace_s)
        stopping = list(self._running.values())
        for running in stopping:
            running.request_stop(grace_s)
        with anyio.move_on_after(grace_s + 2 * KILL_WAIT_S + SWEEP_TERM_S):
            for running in stopping:
                await running.ended.wait()

    def _agent(self, name: str) -> tuple[Agent, AgentSettings]:
        try:
            return self._agents[name]
        except KeyError:
            raise PreflightError(
                f"no agent {name} is configured, but an attempt of this run needs it"
            ) from None

    def _environment(self, agent: str, command: AgentCommand, marker: str) -> Mapping[str, str]:
        spec, settings = self._agent(agent)
        passed = (*spec.environment, *settings.pass_env)
        return environment(command.env, marker, self._extra_path, passed)

    def _locate(self, program: str, env: Mapping[str, str]) -> str | None:
        if os.sep in program:
            program = str(self._root / Path(program).expanduser())
        return shutil.which(program, path=env.get("PATH", os.defpath))
