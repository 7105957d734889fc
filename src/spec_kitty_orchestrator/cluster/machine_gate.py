"""One gate on a machine, run and told there as an attempt is."""

from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.cluster.records import BegunGate, GateOrder, WorkOrder, read, write
from spec_kitty_orchestrator.core.events import GateBegun
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Outcome
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine import gate_files
from spec_kitty_orchestrator.machine.files import make_private_folder
from spec_kitty_orchestrator.machine.gate_files import BROKEN, FAILED, PASSED, STOPPED, Ending
from spec_kitty_orchestrator.machine.gates import LocalGates
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.machine.sandbox import Sandbox
from spec_kitty_orchestrator.ports import AttemptRequest

__all__ = ["MachineGate", "ending_of"]

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
