"""The operator's gates as processes of this machine; like attempts they survive us, and run once a turn.

Each has a directory in an attempt's style, which says how far it got: a turn goes on from there. What gates
run is the agents' code: only what the journal tells of was begun, and only what we sealed has ended.
"""

import os
import re
import secrets
import shlex
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from spec_kitty_orchestrator.core.events import GateBegun, GateBroken, GateFailed, GatesPassed, GatesStopped
from spec_kitty_orchestrator.core.model import GateProgress, GateResult, Workspace
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.errors import RunActive, WorkspaceError
from spec_kitty_orchestrator.log import get_logger
from spec_kitty_orchestrator.machine import gate_files, process
from spec_kitty_orchestrator.machine.environment import environment
from spec_kitty_orchestrator.machine.gate_files import BROKEN, FAILED, PASSED, STOPPED, Ending
from spec_kitty_orchestrator.machine.logs import path_part
from spec_kitty_orchestrator.machine.patience import patiently
from spec_kitty_orchestrator.machine.process_id import Child
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.machine.sandbox import Confined, Sandbox, refusal
from spec_kitty_orchestrator.machine.scrub import scrub_directory
from spec_kitty_orchestrator.machine.stopping import STOP_GRACE_S, Grace, Running, stop, stop_running, sweep
from spec_kitty_orchestrator.ports.gates import GateReport

__all__ = ["LocalGates", "missing_program", "of_shell"]

NOT_EXECUTABLE, NOT_FOUND = 126, 127
"""What a shell exits with when it cannot run a command."""

_CRASHES = frozenset({"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP"})


class LocalGates:
    """The port `Gates` of this machine; logs are kept beside those of the attempts.

    Args:
        repo_root: the primary checkout.
        mission: its slug.
        gates: in the order in which they run.
        redactor: finds the secrets that are taken out of what they say.
        passed: variables that reach them besides the usual ones, as those of agents.
        sandbox: in which they run, None for none.
        env: variables that they get besides, which no record holds.
    """

    def __init__(
        self,
        repo_root: Path,
        mission: str,
        gates: Sequence[Gate],
        redactor: Redactor | None = None,
        passed: Sequence[str] = (),
        sandbox: Sandbox | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._root = repo_root
        self._mission = mission
        self._gates = tuple(gates)
        self._redactor = redactor or Redactor()
        self._passed = tuple(passed)
        self._sandbox = sandbox
        self._env = dict(env or {})
        self._running: dict[str, Running] = {}
        self._stop_grace_s: float | None = None
        self._unwanted: set[tuple[str, int]] = set()

    async def settle(self, wp_id: str, head: str, turn: int, known: Sequence[GateBegun]) -> GateProgress:
        """Stop every gate that was begun and is no part of this turn, and say how far the turn is."""
        tree, running, stopped = "", False, 0
        for gate in known:
            ours = (gate.head, gate.turn) == (head, turn)
            tree = tree or (gate.tree if ours else "")
            if await anyio.to_thread.run_sync(gate_files.read_ending, gate) is not None:
                continue
            if ours and any((gate.name, gate.command) == (one.name, one.command) for one in self._gates):
                running = running or await self._is_running(gate)
                continue
            get_logger().warning("gate stopped: nobody wants it any more", directory=gate.log)
            await self._abandon(wp_id, gate)
            await self._record(gate, Ending(STOPPED, "it was no longer wanted"), "")
            stopped += 1
        return GateProgress(tree, running, stopped)

    async def _is_running(self, gate: GateBegun) -> bool:
        return isinstance(await process.state(Path(gate.log), gate.marker), process.Alive)

    async def _abandon(self, wp_id: str, gate: GateBegun) -> None:
        """Stop a gate whose end nobody waits for. Raises `RunActive`."""
        state = await process.state(Path(gate.log), gate.marker)
        if isinstance(state, process.Alive):
            await stop(state.child, gate.marker, Grace(STOP_GRACE_S))
        elif isinstance(state, process.Elsewhere):
            raise RunActive(process.out_of_reach(f"gate {gate.name} of {wp_id}", Path(gate.log)))
        else:
            await sweep(gate.marker)

    async def run(
        self,
        wp_id: str,
        workspace: Workspace,
        head: str,
        number: int,
        turn: int,
        tree: str,
        known: Sequence[GateBegun],
        moved: Callable[[], Awaitable[str]],
        begun: Callable[[GateBegun], Awaitable[None]],
    ) -> GateReport:
        """Run the gates up to the first that does not pass, or go on with them after a crash.

        Cancelling leaves the process running: the next call waits for it.

        Raises:
            WorkspaceError: the disk refuses.
            RunActive: a gate runs where we can neither wait for it nor stop it.
        """
        results: list[GateResult] = []
        cwd = Path(workspace.path)
        told = {(one.name, one.command): one for one in known if (one.head, one.turn) == (head, turn)}
        tree = next((one.tree for one in told.values()), tree)
        for gate in self._gates:
            record = told.get((gate.name, gate.command))
            if record is None:
                record = await self._prepare(
                    wp_id, number, cwd, gate, GateBegun(gate.name, head, turn=turn, tree=tree)
                )
            ending = await anyio.to_thread.run_sync(gate_files.read_ending, record)
            if ending is None:
                ending = await self._one(gate, record, cwd, moved, begun)
            log = record.log
            result = GateResult(gate.name, gate.command, head, ending.kind == PASSED, ending.seconds, log)
            if ending.kind == STOPPED:
                return GateReport(GatesStopped(), tree)
            if ending.kind == BROKEN:
                return GateReport(GateBroken(gate.name, ending.reason, log), tree)
            if ending.kind == FAILED:
                tail = await anyio.to_thread.run_sync(gate_files.output_tail, Path(log), self._redactor)
                return GateReport(GateFailed(result, tail), tree)
            results.append(result)
        return GateReport(GatesPassed(tuple(results)), tree)

    async def _prepare(self, wp_id: str, number: int, cwd: Path, gate: Gate, wanted: GateBegun) -> GateBegun:
        """Make a directory for a gate that was not begun yet. Raises `WorkspaceError`."""

        def prepare() -> GateBegun:
            directory = gate_files.make_directory(self._root, self._mission, wp_id, number, gate.name)
            marker = f"gate-{secrets.token_hex(8)}"
            record = replace(wanted, command=gate.command, log=str(directory), marker=marker)
            gate_files.write_command(record, cwd)
            return record

        try:
            return await patiently(lambda: anyio.to_thread.run_sync(prepare))
        except OSError as error:
            raise WorkspaceError(f"cannot prepare gate {gate.name} of {wp_id}: {error}") from error

    async def _one(
        self,
        gate: Gate,
        record: GateBegun,
        cwd: Path,
        moved: Callable[[], Awaitable[str]],
        begun: Callable[[GateBegun], Awaitable[None]],
    ) -> Ending:
        state = await process.state(Path(record.log), record.marker)
        unwanted = self._stop_grace_s is not None or self._is_unwanted(record)
        if isinstance(state, process.NeverStarted) and unwanted:
            return Ending(STOPPED, "it was stopped before it began")
        if isinstance(state, process.Elsewhere):
            raise RunActive(process.out_of_reach(f"gate {gate.name}", Path(record.log)))
        # Nobody else can know the word before it is on disk, where it is worth nothing any more.
        word, seal = gate_files.new_seal()
        record = replace(record, seal=seal)
        await begun(record)
        match state:
            case process.Alive(child):
                get_logger().info("gate re-attached", gate=gate.name, directory=record.log, pid=child.pid)
                ending = await self._attend(gate, record, child)
            case process.Finished(exit_code):
                refused = await anyio.to_thread.run_sync(refusal, Path(record.log), exit_code)
                ending = _judge(exit_code, refused, attended=False)
            case process.Lost():
                ending = Ending(STOPPED, "how it ended was not recorded")
            case _:
                ending = await self._begin(gate, record, cwd)
        _tell(await sweep(record.marker), gate.name)
        if ending.kind != STOPPED and (reason := await moved()):
            # Recorded before the branch is put back: after a crash nothing else would show it.
            ending = Ending(BROKEN, reason)
        return await self._record(record, ending, word)

    async def _record(self, record: GateBegun, ending: Ending, word: str) -> Ending:
        directory = Path(record.log)
        redactor = self._redactor.sparing(record.marker, record.head)
        try:
            await anyio.to_thread.run_sync(scrub_directory, directory, redactor)
        except OSError as error:
            get_logger().error("secrets may be left in the logs", directory=str(directory), error=str(error))
        return await anyio.to_thread.run_sync(gate_files.write_ending, directory, ending, word)

    async def _begin(self, gate: Gate, record: GateBegun, cwd: Path) -> Ending:
        env = environment(self._env, record.marker, passed=self._passed)
        directory, confined = Path(record.log), Confined((), env)
        try:
            if self._sandbox is not None:
                around = partial(self._sandbox.around, gate.command, env, cwd, "gates")
                confined = await anyio.to_thread.run_sync(partial(around, mission=self._mission, writes=True))
            argv, contained = (*confined.wrapper, *gate.command), bool(confined.wrapper)
            child = await process.spawn(
                argv, cwd, confined.env, directory, stdin=os.devnull, contained=contained
            )
        except FileExistsError as error:
            raise WorkspaceError(f"another run has started the gate in {directory}") from error
        except OSError as error:
            return Ending(BROKEN, f"it cannot be started: {error.strerror or error}")
        get_logger().info("gate started", gate=gate.name, directory=str(directory), pid=child.pid)
        return await self._attend(gate, record, child)

    async def _attend(self, gate: Gate, record: GateBegun, child: Child) -> Ending:
        running = self._running[record.log] = Running()
        try:
            if self._stop_grace_s is not None or self._is_unwanted(record):
                running.request_stop(STOP_GRACE_S if self._stop_grace_s is None else self._stop_grace_s)
            # It may have begun before this process did.
            left_s = gate.timeout_s - child.age_s
            running.scope.deadline = anyio.current_time() + left_s
            ended = False
            with running.scope:
                await process.wait(child)
                ended = True
            # What has begun to stop is stopped in bounded time, whoever loses interest meanwhile.
            with anyio.CancelScope(shield=True):
                ending = await self._conclude(gate, record, child, ended)
        finally:
            running.ended.set()
            del self._running[record.log]
        return ending

    async def _conclude(self, gate: Gate, record: GateBegun, child: Child, ended: bool) -> Ending:
        if ended:
            exit_code, leftovers = await anyio.to_thread.run_sync(process.read_end, child, Path(record.log))
            if exit_code is None:
                leftovers += await sweep(record.marker, killed=child)
            _tell(leftovers, gate.name)
            refused = await anyio.to_thread.run_sync(refusal, Path(record.log), exit_code)
            return _judge(exit_code, refused, attended=True)
        running = self._running[record.log]
        timed_out = running.grace is None
        running.grace = running.grace or Grace(STOP_GRACE_S)
        await stop(child, record.marker, running.grace)
        if timed_out:
            return Ending(BROKEN, f"it did not end within {gate.timeout_s:g} s")
        return Ending(STOPPED, "it was stopped")

    def _is_unwanted(self, record: GateBegun) -> bool:
        return (Path(record.log).parent.name, record.turn) in self._unwanted

    async def stop(self, wp_id: str, turn: int, grace_s: float) -> None:
        """Stop a turn of a work package's gates; gates of it that come later are not started."""
        place = path_part(wp_id)
        self._unwanted.add((place, turn))
        running = [one for log, one in self._running.items() if Path(log).parent.name == place]
        await stop_running(running, grace_s)

    async def stop_all(self, grace_s: float) -> None:
        """Stop every running gate and return when all are gone; gates that come later are not started.

        Args:
            grace_s: how long they may take after the first signal, in seconds.
        """
        self._stop_grace_s = grace_s if self._stop_grace_s is None else min(grace_s, self._stop_grace_s)
        await stop_running(self._running.values(), grace_s)


def _tell(leftovers: int, gate: str) -> None:
    if leftovers:
        get_logger().warning("processes of a gate outlived it", gate=gate, killed=leftovers)


def _judge(exit_code: int | None, refused: str, *, attended: bool) -> Ending:
    """Say what an exit status means; who stopped a gate that we did not wait for is unknown."""
    if refused:
        return Ending(BROKEN, f"it cannot be confined, or its command cannot be run: {refused}")
    if exit_code == 0:
        return Ending(PASSED)
    if exit_code is None:
        return Ending(STOPPED, "how it ended was not recorded")
    if exit_code == NOT_FOUND:
        return Ending(BROKEN, "its command was not found (exit status 127)")
    if exit_code == NOT_EXECUTABLE:
        return Ending(BROKEN, "its command is not executable (exit status 126)")
    name = process.signal_name(exit_code)
    if not name or name in _CRASHES:
        # Programs give numbers such as 255 a meaning of their own.
        return Ending(FAILED, f"exit status {exit_code}")
    return Ending(BROKEN if attended else STOPPED, f"it was ended by signal {name}")


_SHELL = ("/bin/sh", "-c")
_UNSURE = re.compile(r"\bPATH\s*=|\|\||\(\s*\)")
"""What makes a line of shell find a program elsewhere, do without one, or define one itself."""
_PLAIN = re.compile(r"[A-Za-z0-9_./+@%~-]+")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=\S*")
_NO_PROGRAMS = frozenset(
    """
    . : ! [ alias bg break case cd command continue do echo eval exec exit export false fg for function
    getopts hash if kill printf pwd read readonly return set shift test time times trap true type ulimit umask
    unalias unset until wait while {
    """.split()  # noqa: SIM905 - a list would be a page long
)
"""Words at the beginning of a line that the shell itself understands."""


def of_shell(command: Sequence[str]) -> bool:
    """Tell whether a gate's command is a line for the shell, of which only the shell knows what it does."""
    return tuple(command[:2]) == _SHELL and len(command) > 2


def missing_program(command: Sequence[str], root: Path, env: Mapping[str, str]) -> str | None:
    """Return the program that a gate cannot run, None if it is there or the line does not show it.

    Args:
        command: an argv; a line for the shell is `/bin/sh -c LINE`.
        root: a checkout like that in which the gate runs.
        env: the gate's environment.
    """
    program = _first_word(command[2]) if of_shell(command) else command[0]
    if program is None:
        return None
    if os.sep in program:
        try:
            place = root / Path(program).expanduser()
        except RuntimeError:
            # There is no such user.
            return program
        return None if place.is_file() and os.access(place, os.X_OK) else program
    return None if shutil.which(program, path=env.get("PATH", os.defpath)) else program


def _first_word(text: str) -> str | None:
    """Return the program that a line for the shell begins with, None where only a shell could tell."""
    if _UNSURE.search(text):
        return None
    lexer = shlex.shlex(text, posix=False, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        for word in lexer:
            if _ASSIGNMENT.fullmatch(word):
                continue
            return word if _PLAIN.fullmatch(word) and word not in _NO_PROGRAMS else None
    except ValueError:
        return None
    return None
