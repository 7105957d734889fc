"""Agents as processes of this machine: each attempt runs once, and survives us.

An attempt's directory says how far it got, and `run` goes on from there: it spawns, re-attaches, harvests, or
reports the attempt lost.
"""

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread

from spec_kitty_orchestrator.agents.function import FunctionAgent
from spec_kitty_orchestrator.agents.spec import PROMPT_FILE, Agent, AgentSettings
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Outcome, Role
from spec_kitty_orchestrator.errors import RunActive, WorkspaceError
from spec_kitty_orchestrator.log import get_logger
from spec_kitty_orchestrator.machine import attempt_files, files, function_call, logs, process
from spec_kitty_orchestrator.machine.agent_commands import ConfiguredAgents, PromptTooLong, deliver
from spec_kitty_orchestrator.machine.attempt_files import (
    harvest,
    has_result,
    is_result,
    report_now,
    save,
    scrub,
)
from spec_kitty_orchestrator.machine.attempt_lock import holders
from spec_kitty_orchestrator.machine.patience import patiently
from spec_kitty_orchestrator.machine.process_id import Child
from spec_kitty_orchestrator.machine.process_tree import ProcessTree
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.machine.sandbox import Sandbox, refusal
from spec_kitty_orchestrator.machine.stopping import STOP_GRACE_S, Grace, Running, stop, stop_running, sweep
from spec_kitty_orchestrator.machine.watchdog import RESULT_GRACE_S, Signs, Tables, watch
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.quantities import spelled

__all__ = ["LocalAgents"]

# These fail every time; a full disk or process table may pass.
_LASTING_ERRORS = frozenset({errno.E2BIG, errno.ENOENT, errno.EACCES, errno.ENOEXEC})


@dataclass(kw_only=True)
class _Running(Running):
    """One attempt that a `run` waits for."""

    child: Child
    signs: Signs
    stalled: bool = False
    finished: bool = False

    def stall(self) -> None:
        self.stalled = True
        self.scope.cancel()

    def finish(self) -> None:
        self.finished = True
        self.scope.cancel()


class LocalAgents(ConfiguredAgents):
    """The `AgentRunner` of this machine; attempts are kept under `.kittify/logs` of `repo_root`.

    `timeouts` are in seconds, for agents without one of their own, and what agents say is told and kept
    without what `redactor` finds. An agent that does not move for `stall_timeout_s` (0: for as long as it
    likes) is stopped; `say` is told at half.

    Attributes:
        versions: of the agents' CLIs, by the agents' names, as far as somebody has looked.
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
        stall_timeout_s: float = 0.0,
        say: Callable[[str], None] = lambda _: None,
        others: Callable[[str], tuple[Agent, AgentSettings]] | None = None,
        sandbox: Sandbox | None = None,
    ) -> None:
        super().__init__(
            repo_root, agents, version=version, extra_path=extra_path, others=others, sandbox=sandbox
        )
        self._timeouts = timeouts
        self._redactor = redactor or Redactor()
        self._stall_timeout_s = stall_timeout_s
        self._say = say
        self._tables = Tables()
        self._running: dict[str, Running] = {}
        self._turns: dict[str, anyio.Lock] = {}
        self.versions: dict[str, str] = {}
        self._stop_grace_s: float | None = None
        self._unwanted: set[str] = set()

    async def open(self, request: AttemptRequest) -> Attempt:
        """Write `prompt.md` and `command.json` into a directory of the attempt's own; nothing is spawned.

        Raises:
            WorkspaceError: the disk refuses.
            PreflightError: the agent is not configured.
        """
        spec, settings = self.agent(request.agent)
        for place in (self._root, Path(request.workspace.path)):
            if not files.is_text(place):
                raise WorkspaceError(f"{str(place)!a} is no UTF-8, so no record can hold it: rename it")
        session = request.session if spec.resumes else ""
        max_cost_usd = request.max_cost_usd if spec.caps_cost else None
        try:
            number, directory = await patiently(
                lambda: anyio.to_thread.run_sync(self._prepare, request, session, max_cost_usd)
            )
        except OSError as error:
            raise WorkspaceError(f"cannot prepare an attempt of {request.wp_id}: {error}") from error
        return Attempt(
            request.id,
            number,
            request.role,
            request.agent,
            str(directory),
            request.head,
            request.tree,
            session,
            max_cost_usd,
            settings.model or "",
            self.versions.get(request.agent, ""),
            spec.reports_cost,
        )

    def _prepare(self, request: AttemptRequest, session: str, max_cost_usd: float | None) -> tuple[int, Path]:
        number, directory = logs.open_directory(
            self._root, request.mission, request.wp_id, request.number, request.role, request.agent
        )
        files.write_private(directory / PROMPT_FILE, request.prompt)
        cwd = Path(request.workspace.path)
        command = self.command(request.agent, request.role, cwd, request.id, directory, session, max_cost_usd)
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
            RunActive: it runs where we can neither wait for it nor stop it.
        """
        directory = Path(attempt.directory)
        async with self._turns.setdefault(attempt.directory, anyio.Lock()):
            saved = await anyio.to_thread.run_sync(attempt_files.read_result, directory, attempt.id)
            if saved is not None:
                await scrub(attempt, self._redactor)
                return saved
            written = await anyio.to_thread.run_sync(attempt_files.read_command, directory, attempt.id)
            if written is None:
                leftovers = await sweep(attempt.id)
                gone = f"the files of the attempt in {directory} are gone or belong to another"
                return AgentReport(Outcome.LOST, detail=gone, leftovers=leftovers)
            if written.function:
                return await self._call(attempt, Path(written.cwd))
            self.agent(attempt.agent)
            match await process.state(directory, attempt.id):
                case process.NeverStarted():
                    return await self._begin(attempt, Path(written.cwd))
                case process.Alive(child):
                    get_logger().info("attempt re-attached", attempt=attempt.id, pid=child.pid)
                    return await self._attend(attempt, child, Path(written.cwd), written.stop_signal)
                case process.Elsewhere():
                    raise RunActive(
                        process.out_of_reach(f"{attempt.agent} for {directory.parent.name}", directory)
                    )
                case process.Finished(exit_code, leftovers):
                    return await self._harvest(attempt, exit_code, leftovers=leftovers)
                case process.Lost():
                    pass
            detail = "the process is gone and how it ended was not recorded"
            if held := await anyio.to_thread.run_sync(holders, directory):
                detail += f"; its lock is held by process {held[0]}, which it may have left"
            return await self._harvest(attempt, None, otherwise=(Outcome.LOST, detail))

    def _not_to_begin(self, attempt: Attempt) -> str:
        if self._stop_grace_s is not None or attempt.id in self._unwanted:
            return f"{self._who_stopped(attempt)} before it began"
        return "" if self.is_chosen(attempt.agent) else "it had not begun, and other agents are chosen now"

    async def _call(self, attempt: Attempt, cwd: Path) -> AgentReport:
        """Call the function that the agent is, unless it was called before."""
        if await anyio.to_thread.run_sync(logs.was_started, Path(attempt.directory)):
            return await function_call.lost(attempt, self._redactor)
        await function_call.until_left(cwd, partial(self._not_to_begin, attempt), self._say)
        if why := self._not_to_begin(attempt):
            return AgentReport(Outcome.CANCELED, detail=why)
        spec, _ = self.agent(attempt.agent)
        if not isinstance(spec, FunctionAgent):
            return AgentReport(Outcome.INVALID_REQUEST, detail=f"{attempt.agent} is no function any more")
        running = self._running[attempt.directory] = Running()
        longest_s, who_stopped = self._longest_s(attempt), partial(self._who_stopped, attempt)
        bounds = function_call.Bounds(running, longest_s, who_stopped, lambda: self._stop_grace_s is not None)
        try:
            return await function_call.call(spec, attempt, cwd, bounds, self._redactor, self._say)
        finally:
            running.ended.set()
            del self._running[attempt.directory]

    async def _begin(self, attempt: Attempt, cwd: Path) -> AgentReport:
        await function_call.until_left(cwd, partial(self._not_to_begin, attempt), self._say)
        if why := self._not_to_begin(attempt):
            return AgentReport(Outcome.CANCELED, detail=why)
        directory = Path(attempt.directory)
        named = (attempt.agent, attempt.role, cwd, attempt.id, directory, attempt.session)
        command = await anyio.to_thread.run_sync(self.command, *named, attempt.max_cost_usd)
        env = self.environment(attempt.agent, command, attempt.id)
        program = await anyio.to_thread.run_sync(self.locate, command.argv[0], env)
        if program is None:
            missing = f"{command.argv[0]} is not an executable on PATH"
            return AgentReport(Outcome.INVALID_REQUEST, detail=missing)
        try:
            command, stdin = await anyio.to_thread.run_sync(
                deliver, replace(command, argv=(program, *command.argv[1:])), directory
            )
            confined = await anyio.to_thread.run_sync(self.confine, attempt, cwd, command, env)
            command = replace(command, env={**command.env, **confined.added})
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
                confined.wrapper,
            )
            argv = (*confined.wrapper, *command.argv)
            contained = bool(confined.wrapper)
            child = await process.spawn(argv, cwd, confined.env, directory, stdin, contained=contained)
        except PromptTooLong as error:
            report = AgentReport(Outcome.INVALID_REQUEST, detail=str(error))
            await save(attempt, report)
            return report
        except FileExistsError as error:
            raise WorkspaceError(f"another run has started the attempt in {directory}") from error
        except OSError as error:
            if not await anyio.Path(cwd).is_dir():
                raise WorkspaceError(f"the worktree {cwd} is missing") from error
            return await self._not_spawned(attempt, program, error)
        get_logger().info("attempt started", attempt=attempt.id, agent=attempt.agent, pid=child.pid)
        return await self._attend(attempt, child, cwd, command.stop_signal)

    async def _not_spawned(self, attempt: Attempt, program: str, error: OSError) -> AgentReport:
        outcome = Outcome.INVALID_REQUEST if error.errno in _LASTING_ERRORS else Outcome.CRASHED
        report = AgentReport(outcome, detail=f"cannot start {program}: {error.strerror}")
        await save(attempt, report)
        return report

    async def _attend(
        self, attempt: Attempt, child: Child, cwd: Path, stop_signal: Literal["INT", "TERM"]
    ) -> AgentReport:
        directory = Path(attempt.directory)
        told = partial(has_result, directory, self.agent(attempt.agent)[0])
        signs = Signs(child, attempt.id, directory, cwd, told)
        self._running[attempt.directory] = running = _Running(child=child, signs=signs)
        try:
            if self._stop_grace_s is not None or attempt.id in self._unwanted:
                running.request_stop(STOP_GRACE_S if self._stop_grace_s is None else self._stop_grace_s)
            # The attempt may have begun before this process did.
            left_s = self._longest_s(attempt) - child.age_s
            running.scope.deadline = anyio.current_time() + left_s
            ended = False
            with running.scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._watch, attempt, running)
                    await process.wait(child)
                    ended = True
                    tasks.cancel_scope.cancel()
            # What has begun to stop is stopped in bounded time, whoever loses interest meanwhile.
            with anyio.CancelScope(shield=True):
                report = await self._conclude(attempt, running, ended, stop_signal)
        finally:
            running.ended.set()
            del self._running[attempt.directory]
        return report

    async def _watch(self, attempt: Attempt, running: _Running) -> None:
        def warn(still_s: float) -> None:
            wp, limit = Path(attempt.directory).parent.name, spelled(self._stall_timeout_s)
            get_logger().warning("the agent does not move", attempt=attempt.id, still_s=still_s)
            self._say(
                f"{wp}: {attempt.agent} has not moved for {spelled(still_s)}: no output, no processor time, "
                f"no change of files; it is stopped at {limit}"
            )

        def finished() -> None:
            wp, after = Path(attempt.directory).parent.name, spelled(RESULT_GRACE_S)
            self._say(f"{wp}: {attempt.agent} told its result {after} ago and did not end; it is stopped")
            running.finish()

        await watch(running.signs, self._tables, self._stall_timeout_s, warn, running.stall, finished)

    async def _conclude(
        self, attempt: Attempt, running: _Running, ended: bool, stop_signal: Literal["INT", "TERM"]
    ) -> AgentReport:
        otherwise: tuple[Outcome, str] | None = None
        told: AgentReport | None = None
        leftovers = 0
        tree = running.signs.tree
        if not ended:
            told = await self._told(attempt, running)
            if running.grace is not None:
                otherwise = (Outcome.CANCELED, self._who_stopped(attempt))
            else:
                running.grace = Grace(STOP_GRACE_S)
                otherwise = self._too_long(attempt, running)
            leftovers = await stop(running.child, attempt.id, running.grace, stop_signal, tree)
        exit_code, swept = await anyio.to_thread.run_sync(
            process.read_end, running.child, Path(attempt.directory)
        )
        if exit_code is None:
            swept += await sweep(attempt.id, tree, running.child)
        return await self._harvest(
            attempt, exit_code, tree=tree, leftovers=leftovers + swept, otherwise=otherwise, told=told
        )

    async def _told(self, attempt: Attempt, running: _Running) -> AgentReport | None:
        """Return the result of a process that is to be stopped; some say then that they were interrupted."""
        if not running.signs.told:
            return None
        report = await report_now(attempt, self.agent(attempt.agent)[0], self._redactor, None)
        return report if is_result(report) else None

    def _too_long(self, attempt: Attempt, running: _Running) -> tuple[Outcome, str]:
        if running.finished:
            return Outcome.STALLED, f"it did not end within {spelled(RESULT_GRACE_S)} of its result"
        if running.stalled:
            return Outcome.STALLED, f"nothing moved for {spelled(self._stall_timeout_s)}"
        return Outcome.TIMEOUT, f"no result within {spelled(self._longest_s(attempt))}"

    def _longest_s(self, attempt: Attempt) -> float:
        return self.agent(attempt.agent)[1].timeout_s or self._timeouts[attempt.role]

    async def _harvest(
        self,
        attempt: Attempt,
        exit_code: int | None,
        *,
        tree: ProcessTree | None = None,
        leftovers: int = 0,
        otherwise: tuple[Outcome, str] | None = None,
        told: AgentReport | None = None,
    ) -> AgentReport:
        leftovers += await sweep(attempt.id, tree)
        if leftovers:
            get_logger().warning("processes of the attempt outlived it", attempt=attempt.id, killed=leftovers)
        refused = await anyio.to_thread.run_sync(refusal, Path(attempt.directory), exit_code)
        if refused:
            # To try again with the same agent is pointless, and costs nothing that would count.
            otherwise = (Outcome.INVALID_REQUEST, f"its sandbox cannot be made: {refused}")
        spec, _ = self.agent(attempt.agent)
        return await harvest(
            attempt, spec, self._redactor, exit_code, leftovers=leftovers, otherwise=otherwise, told=told
        )

    def _who_stopped(self, attempt: Attempt) -> str:
        return "a person stopped it" if attempt.id in self._unwanted else "the run was stopped"

    async def stop(self, attempt: Attempt, grace_s: float) -> None:
        """Stop one attempt and return when it is gone; one that is still to be run is not spawned."""
        self._unwanted.add(attempt.id)
        running = self._running.get(attempt.directory)
        await stop_running([running] if running is not None else [], grace_s)

    async def stop_all(self, grace_s: float) -> None:
        """Stop every running attempt and return when all are gone; attempts begun later are not spawned.

        A second call, also a concurrent one, can only shorten the wait.

        Args:
            grace_s: how long agents may take after the first signal, in seconds.
        """
        self._stop_grace_s = grace_s if self._stop_grace_s is None else min(grace_s, self._stop_grace_s)
        await stop_running(self._running.values(), grace_s)
