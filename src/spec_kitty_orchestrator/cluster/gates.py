"""The operator's gates on the machines of a cluster: each is placed, begun and taken back as an attempt is.

All gates of a turn run in one checkout of one machine, and leave no trace in the worktree here. That machine
is by choice the one that made the work, where what its build has left is still in the checkout.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.cluster.agents import ClusterAgents
from spec_kitty_orchestrator.cluster.machine_gate import ending_of
from spec_kitty_orchestrator.cluster.placement import PLACED, WANTED
from spec_kitty_orchestrator.cluster.records import GateOrder, Placed, Wanted, read, write
from spec_kitty_orchestrator.cluster.rounds import beside
from spec_kitty_orchestrator.core.events import GateBegun
from spec_kitty_orchestrator.core.model import Attempt, GateProgress, Role, Workspace
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine import gate_files, logs
from spec_kitty_orchestrator.machine.gate_files import BROKEN, STOPPED, Ending
from spec_kitty_orchestrator.machine.gates import LocalGates
from spec_kitty_orchestrator.machine.stopping import STOP_GRACE_S
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.ports.gates import GateReport

__all__ = ["ClusterGates"]

CHOICE_S = 10.0
"""How long a turn waits for the machine that made the work before it runs anywhere."""
LOOK_S = 0.5


class ClusterGates(LocalGates):
    """The `Gates` of the cluster that `agents` lead to; those of earlier starts without it run here.

    A gate takes a slot of the agent that made the work. What else there is is as for `LocalGates`.
    """

    def __init__(self, agents: ClusterAgents, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._agents = agents
        self._turns: dict[str, list[GateBegun]] = {}
        self._away: dict[str, tuple[GateBegun, Attempt]] = {}

    async def settle(self, wp_id: str, head: str, turn: int, known: Sequence[GateBegun]) -> GateProgress:
        """Stop every gate that was begun and is no part of this turn, and say how far the turn is."""
        found = await super().settle(wp_id, head, turn, known)
        await self._leave(one for one in known if (one.head, one.turn) != (head, turn))
        return found

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

        Cancelling leaves the gate running: the next call finds it again. Raises `WorkspaceError`.
        """
        ours = self._turns[logs.path_part(wp_id)] = [
            one for one in known if (one.head, one.turn) == (head, turn)
        ]

        async def begins(gate: GateBegun) -> None:
            ours.append(gate)
            await begun(gate)

        report = await super().run(wp_id, workspace, head, number, turn, tree, known, moved, begins)
        await self._leave(ours)
        return report

    async def _one(
        self,
        gate: Gate,
        record: GateBegun,
        cwd: Path,
        moved: Callable[[], Awaitable[str]],
        begun: Callable[[GateBegun], Awaitable[None]],
    ) -> Ending:
        directory = Path(record.log)
        wanted = await to_thread.run_sync(read, Wanted, directory / WANTED)
        if wanted is None and await to_thread.run_sync(logs.was_started, directory):
            return await super()._one(gate, record, cwd, moved, begun)
        unwanted = self._stop_grace_s is not None or self._is_unwanted(record)
        if unwanted and not (directory / PLACED).exists():
            return Ending(STOPPED, "it was stopped before it began")
        word, seal = gate_files.new_seal()
        record = replace(record, seal=seal)
        await begun(record)
        earlier = await to_thread.run_sync(self._of_turn, directory)
        if wanted is None:
            wanted = await to_thread.run_sync(self._wanted, gate, record, cwd, earlier)
        attempt = _attempt(record.log, wanted)
        if unwanted:
            await self._agents.stop(attempt, STOP_GRACE_S)
        self._away[record.log] = record, attempt
        try:
            async with beside(self._look_elsewhere, attempt.id, wanted.machine, earlier is not None):
                ending = ending_of(await self._agents.run(attempt))
        finally:
            del self._away[record.log]
        if ending.kind != STOPPED and (reason := await moved()):
            ending = Ending(BROKEN, reason, ending.seconds)
        return await self._record(record, ending, word)

    def _of_turn(self, directory: Path) -> tuple[str, str] | None:
        """Return the checkout and the machine of the earlier gates of a turn, None if there is none."""
        for one in self._turns.get(directory.parent.name, ()):
            wanted, placed = _placed(Path(one.log))
            if placed is not None and not placed.lost and wanted is not None and wanted.gate is not None:
                return wanted.gate.checkout, placed.machine
        return None

    def _wanted(self, gate: Gate, record: GateBegun, cwd: Path, earlier: tuple[str, str] | None) -> Wanted:
        """Write down what is to be placed. Raises `WorkspaceError`."""
        directory = Path(record.log)
        agent, machine = self._maker(directory.parent)
        checkout, machine = earlier or (record.marker, machine)
        machine = machine if self._agents.rounds.takes(machine) else ""
        wp_id, workspace = directory.parent.name, Workspace(str(cwd), "")
        request = AttemptRequest(
            record.marker, self._mission, wp_id, 0, Role.IMPLEMENT, agent, workspace, "", record.head
        )
        wanted = Wanted(request, machine, GateOrder(gate, checkout, self._passed))
        try:
            write(directory / WANTED, wanted)
        except OSError as error:
            raise WorkspaceError(f"cannot prepare gate {gate.name} of {wp_id}: {error}") from error
        return wanted

    def _maker(self, home: Path) -> tuple[str, str]:
        """Return the agent that made the work of a work package, and the machine, "" for this one."""
        for directory in sorted(home.glob("*"), reverse=True):
            wanted, placed = _placed(directory)
            if wanted is None or wanted.gate is not None or wanted.request.role is not Role.IMPLEMENT:
                continue
            if self._agents.is_chosen(wanted.request.agent):
                return wanted.request.agent, placed.machine if placed is not None else ""
        return self._agents.first, ""

    async def _look_elsewhere(self, attempt_id: str, machine: str, strict: bool) -> None:
        """Let a gate have any machine when its choice is gone, or, unless `strict`, is busy for too long."""
        if machine:
            with anyio.move_on_after(float("inf") if strict else CHOICE_S):
                while self._agents.rounds.takes(machine):  # noqa: ASYNC110 - rounds find it
                    await anyio.sleep(LOOK_S)
            await self._agents.rounds.widen(attempt_id)

    async def _is_running(self, gate: GateBegun) -> bool:
        if (Path(gate.log) / WANTED).exists():
            return (Path(gate.log) / PLACED).exists()
        return await super()._is_running(gate)

    async def _abandon(self, wp_id: str, gate: GateBegun) -> None:
        """Stop a gate whose end nobody waits for. Raises `RunActive`."""
        wanted = await to_thread.run_sync(read, Wanted, Path(gate.log) / WANTED)
        if wanted is None:
            await super()._abandon(wp_id, gate)
        else:
            attempt = _attempt(gate.log, wanted)
            await self._agents.stop(attempt, STOP_GRACE_S)
            await self._agents.run(attempt)

    async def _leave(self, gates: Iterable[GateBegun]) -> None:
        """Let machines forget gates that are over."""
        for log in dict.fromkeys(one.log for one in gates):
            wanted, placed = await to_thread.run_sync(_placed, Path(log))
            over = placed is not None and (placed.done or placed.lost)
            away = placed is not None and placed.machine not in self._agents.rounds.machines
            if wanted is not None and not over and not away:
                await self._agents.drop(_attempt(log, wanted))

    async def stop(self, wp_id: str, turn: int, grace_s: float) -> None:
        """Stop a turn of a work package's gates; gates of it that come later are not started."""
        await super().stop(wp_id, turn, grace_s)
        place = logs.path_part(wp_id)
        for record, attempt in list(self._away.values()):
            if (Path(record.log).parent.name, record.turn) == (place, turn):
                await self._agents.stop(attempt, grace_s)

    async def stop_all(self, grace_s: float) -> None:
        """Stop every running gate and return when all are gone; gates that come later are not started."""
        await super().stop_all(grace_s)
        async with anyio.create_task_group() as tasks:
            for _, attempt in list(self._away.values()):
                tasks.start_soon(self._agents.stop, attempt, grace_s)


def _attempt(log: str, wanted: Wanted) -> Attempt:
    asked = wanted.request
    return Attempt(asked.id, asked.number, asked.role, asked.agent, log, asked.head)


def _placed(directory: Path) -> tuple[Wanted | None, Placed | None]:
    return read(Wanted, directory / WANTED), read(Placed, directory / PLACED)
