"""One gate on a machine, told there as an attempt is; and what a checkout needs, which is run as a gate."""

import shlex
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from anyio import to_thread

from spec_kitty_orchestrator.cluster.attempt_folder import SETUP_LOG
from spec_kitty_orchestrator.cluster.checkouts import Checkouts
from spec_kitty_orchestrator.cluster.records import (
    BegunGate,
    GateOrder,
    Placed,
    Setup,
    WorkOrder,
    read,
    write,
)
from spec_kitty_orchestrator.core.events import GateBegun, GateBroken, GateFailed, GatesPassed
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Outcome, Workspace
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine import gate_files
from spec_kitty_orchestrator.machine.files import make_private_folder
from spec_kitty_orchestrator.machine.gate_files import BROKEN, FAILED, PASSED, STOPPED, Ending
from spec_kitty_orchestrator.machine.gates import LocalGates
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.machine.sandbox import Sandbox
from spec_kitty_orchestrator.ports import AttemptRequest

__all__ = ["MachineGate", "MachineSetup", "SetupFailed", "ending_of", "failure_of", "marker_of", "setup_of"]

LAST_LINES = 10
"""Of the output of a setup that failed, for people."""

_OUTCOMES = {
    PASSED: Outcome.OK,
    FAILED: Outcome.FAILED,
    BROKEN: Outcome.INVALID_REQUEST,
    STOPPED: Outcome.CANCELED,
}


class MachineGate:
    """Runs a gate as homes do; how it ended is told as a report.

    Args:
        order: of the gate.
        ordered: the gate.
        folder: of the attempt, for its files.
        redactor: as for `LocalGates`.
        sandbox: as for `LocalGates`.
    """

    def __init__(
        self, order: WorkOrder, ordered: GateOrder, folder: Path, redactor: Redactor, sandbox: Sandbox | None
    ) -> None:
        self._gate = ordered.gate
        self._request = order.request
        self._record = folder / "gate.json"
        self._directory = folder / "gate"
        mission = order.request.mission
        self._gates = LocalGates(folder, mission, (self._gate,), redactor, (), sandbox, order.env)

    async def open(self, request: AttemptRequest) -> Attempt:
        """Write what runs; nothing is spawned. Raises `OSError`."""
        gate, log = self._gate, str(self._directory)
        begun = GateBegun(gate.name, request.head, log, gate.command, turn=1, marker=request.id)

        def prepare() -> None:
            make_private_folder(self._directory)
            gate_files.write_command(begun, Path(request.workspace.path))
            write(self._record, BegunGate(begun, request.workspace))

        await to_thread.run_sync(prepare)
        return Attempt(request.id, request.number, request.role, request.agent, log, request.head)

    async def run(self, attempt: Attempt) -> AgentReport:  # noqa: ARG002 - there is one
        """Spawn the gate, or find it again, and wait for its end. Raises `WorkspaceError`."""
        found = await to_thread.run_sync(read, BegunGate, self._record)
        if found is None:
            raise WorkspaceError(f"the record of gate {self._gate.name} is gone")
        known = found.begun

        async def begins(begun: GateBegun) -> None:
            nonlocal known
            known = begun
            await to_thread.run_sync(write, self._record, replace(found, begun=begun))

        async def moved() -> str:
            # The commit that is handed back says it.
            return ""

        wp_id, number = self._request.wp_id, self._request.number
        await self._gates.run(
            wp_id, found.workspace, known.head, number, known.turn, "", (known,), moved, begins
        )
        ending = await to_thread.run_sync(gate_files.read_ending, known)
        return _report_of(ending or Ending(STOPPED, "it was stopped before it began"))

    async def stop(self, attempt: Attempt, grace_s: float) -> None:  # noqa: ARG002 - there is one
        """Stop the gate and return when it is gone."""
        await self._gates.stop_all(grace_s)


def _report_of(ending: Ending) -> AgentReport:
    """Tell how a gate ended as of an attempt: its seconds are the text."""
    return AgentReport(_OUTCOMES[ending.kind], text=str(ending.seconds), detail=ending.reason)


def ending_of(report: AgentReport) -> Ending:
    """Read how a gate ended; what was lost, or began nowhere, is to be run again."""
    try:
        seconds = float(report.text)
    except ValueError:
        seconds = 0.0
    match report.outcome:
        case Outcome.OK:
            return Ending(PASSED, report.detail, seconds)
        case Outcome.FAILED:
            return Ending(FAILED, report.detail, seconds)
        case Outcome.INVALID_REQUEST | Outcome.CRASHED:
            # A machine that cannot do what is asked of it says so as of a crash.
            return Ending(BROKEN, report.detail, seconds)
        case _:
            return Ending(STOPPED, report.detail, seconds)


class SetupFailed(WorkspaceError):
    """A checkout could not be made what agents and gates need.

    Attributes:
        tail: the end of what was said.
    """

    def __init__(self, reason: str, tail: str = "") -> None:
        super().__init__(reason)
        self.tail: str = "\n".join(tail.strip().splitlines()[-LAST_LINES:])


def setup_of(commands: Sequence[Gate], env: Mapping[str, str]) -> Setup | None:
    """Make one setup of the operator's commands, each of which is shown and has to succeed."""
    if not commands:
        return None
    shown = ((shlex.quote(f"$ {one.line}"), shlex.join(one.command)) for one in commands)
    lines = (f"printf '%s\\n' {line}; {command} || exit" for line, command in shown)
    script = "\n".join(("exec 2>&1", *lines))
    gate = Gate("setup", ("/bin/sh", "-c", script), sum(one.timeout_s for one in commands))
    return Setup(gate, " && ".join(one.line for one in commands), env)


def failure_of(told: Mapping[str, Any], placed: Placed, attempt: Attempt) -> str:
    """Say as of one at home why the setup of a machine has failed, as it told that."""
    log = Path(attempt.directory) / SETUP_LOG
    end = f"; the end of its output:\n{told['tail']}" if told["tail"] else ""
    return f"the setup of its worktree on {placed.machine} failed: {told['failed']}; see {log}{end}"


class MachineSetup:
    """Runs a setup in a checkout, as gates are run.

    Args:
        order: of the attempt that needs it.
        setup: what runs.
        folder: of the attempt.
        redactor: as for `LocalGates`.
        sandbox: as for `LocalGates`.
    """

    def __init__(
        self, order: WorkOrder, setup: Setup, folder: Path, redactor: Redactor, sandbox: Sandbox | None
    ) -> None:
        self._setup = setup
        self._order = order
        mission = order.request.mission
        self._gates = LocalGates(folder, mission, (setup.gate,), redactor, (), sandbox, setup.env)

    async def run(self, checkouts: Checkouts, directory: Path) -> None:
        """Run it in the order's checkout, unless it ran there, with its output in a directory of its own.

        Raises:
            SetupFailed: the commands failed, or cannot run.
            WorkspaceError: git or the disk refuses.
        """
        run = partial(self._run, directory)
        await checkouts.set_up(self._order.holder, self._order.shipment, self._setup.mark, run)

    async def _run(self, directory: Path, tree: Path, moved: Callable[[], Awaitable[str]]) -> bool:
        gate, request = self._setup.gate, self._order.request
        record = GateBegun(
            gate.name, request.head, str(directory), gate.command, turn=1, marker=marker_of(request.id)
        )

        def prepare() -> None:
            # Of an earlier one, which failed or was cut off.
            shutil.rmtree(directory, ignore_errors=True)
            make_private_folder(directory)
            gate_files.write_command(record, tree)

        async def begins(_: GateBegun) -> None:
            pass

        await to_thread.run_sync(prepare)
        where = Workspace(str(tree), "")
        report = await self._gates.run(request.wp_id, where, request.head, 0, 1, "", (record,), moved, begins)
        match report.event:
            case GateFailed(tail=tail):
                raise SetupFailed(f"`{self._setup.line}` failed", tail)
            case GateBroken(reason=why):
                raise SetupFailed(f"`{self._setup.line}` cannot run: {why}")
            case event:
                return isinstance(event, GatesPassed)

    async def stop(self, grace_s: float) -> None:
        """Stop it and return when it is gone; one that is still to be run is not begun."""
        await self._gates.stop_all(grace_s)


def marker_of(attempt_id: str) -> str:
    """Return what the processes of an attempt's setup carry, so that they are found."""
    return f"setup-{attempt_id}"
