"""What every `ports.gates.Gates` promises: each turn of the gates runs once, whatever dies."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import anyio
import pytest

from spec_kitty_orchestrator.core.events import GateBegun, GateBroken, GateFailed, GatesPassed, GatesStopped
from spec_kitty_orchestrator.core.model import Workspace
from spec_kitty_orchestrator.ports.gates import GateReport, Gates
from spec_kitty_orchestrator.testing.contracts import LIMIT_S, Contract

__all__ = ["GateStage", "GatesContract"]

GRACE_S = 2.0
"""How long a gate may take that is told to stop."""

_HEAD = "a" * 40


class GateStage(Protocol):
    """What gates are tried on, given by their author; `ProgramGateStage` is one for gates that are programs.

    There is one gate. It works until it is released, once for all turns, and passes unless it is to fail.
    """

    @property
    def gates(self) -> Gates:
        """The gates that are tried."""
        ...

    @property
    def workspace(self) -> Workspace:
        """Where they run."""
        ...

    async def fail(self) -> None:
        """Let the gate fail that is begun after this."""
        ...

    async def begun(self) -> None:
        """Wait until the gate works."""
        ...

    async def release(self) -> None:
        """Let the gate end by itself, also one that has not begun."""
        ...

    async def runs(self) -> int:
        """Return how often the gate was started."""
        ...

    async def crash(self) -> None:
        """Make `gates` those of the next start of a run, as if this process had been killed."""
        ...


class _Turn:
    """Runs turns as the driver does, and keeps what the journal would."""

    def __init__(self, stage: GateStage) -> None:
        self._stage = stage
        self.told: list[GateBegun] = []
        self.moved = ""

    async def run(self, turn: int = 1, tree: str = "tree") -> GateReport:
        with anyio.fail_after(LIMIT_S):
            return await self._stage.gates.run(
                "WP01", self._stage.workspace, _HEAD, 1, turn, tree, (*self.told,), self._moved, self._begun
            )

    async def _moved(self) -> str:
        return self.moved

    async def _begun(self, gate: GateBegun) -> None:
        self.told.append(gate)

    @asynccontextmanager
    async def running(self, turn: int = 1) -> AsyncIterator[Callable[[], GateReport]]:
        """Run a turn beside the body, which begins when the gate works; afterwards the callable tells."""
        reports: list[GateReport] = []

        async def collect() -> None:
            reports.append(await self.run(turn))

        with anyio.fail_after(LIMIT_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(collect)
                await self._stage.begun()
                yield lambda: reports[0]

    async def cut_off(self) -> None:
        """Run a turn until the gate works, and be cancelled."""
        with anyio.fail_after(LIMIT_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.run)
                await self._stage.begun()
                tasks.cancel_scope.cancel()


class GatesContract(Contract):
    """The suite for a `ports.gates.Gates`.

    A subclass gives the fixture `stage`.
    """

    @pytest.fixture
    def stage(self) -> GateStage:
        """Return what the gates are tried on; none has run yet."""
        raise NotImplementedError("give the class a fixture stage that returns a GateStage")

    async def test_a_gate_that_passes_is_told_with_its_commit(self, stage: GateStage) -> None:
        """And with the fingerprint of the workspace, to put it back."""
        await stage.release()
        report = await _Turn(stage).run()
        assert isinstance(report.event, GatesPassed)
        assert [(one.ok, one.head) for one in report.event.results] == [(True, _HEAD)]
        assert report.tree == "tree"

    async def test_a_gate_that_fails_is_told_with_its_commit(self, stage: GateStage) -> None:
        """It is not broken: the work is."""
        await stage.fail()
        await stage.release()
        report = await _Turn(stage).run()
        assert isinstance(report.event, GateFailed)
        assert (report.event.result.ok, report.event.result.head) == (False, _HEAD)

    async def test_a_gate_is_told_of_before_it_begins(self, stage: GateStage) -> None:
        """The journal knows of every process."""
        turn = _Turn(stage)
        async with turn.running():
            assert [(one.head, one.turn, one.tree) for one in turn.told[:1]] == [(_HEAD, 1, "tree")]
            await stage.release()

    async def test_a_turn_runs_once(self, stage: GateStage) -> None:
        """Also where the next start asks again."""
        turn = _Turn(stage)
        await stage.fail()
        await stage.release()
        first = await turn.run()
        again = await turn.run(tree="another")
        await stage.crash()
        assert await turn.run(tree="another") == again == first
        assert await stage.runs() == 1

    async def test_the_next_turn_runs_again(self, stage: GateStage) -> None:
        """As after a person asked for that."""
        turn = _Turn(stage)
        await stage.release()
        await turn.run(1)
        assert isinstance((await turn.run(2)).event, GatesPassed)
        assert await stage.runs() == 2

    async def test_a_gate_at_work_at_a_crash_is_waited_for_by_the_next_start(self, stage: GateStage) -> None:
        """And the workspace is put back to what it was before the gate, not to what it left so far."""
        turn = _Turn(stage)
        await turn.cut_off()
        await stage.crash()
        await stage.release()
        report = await turn.run(tree="littered")
        assert isinstance(report.event, GatesPassed)
        assert report.tree == "tree"
        assert await stage.runs() == 1

    async def test_how_far_a_turn_is_can_be_asked_after_a_crash(self, stage: GateStage) -> None:
        """It has begun, and nothing else had to be stopped."""
        turn = _Turn(stage)
        await turn.cut_off()
        await stage.crash()
        with anyio.fail_after(LIMIT_S):
            found = await stage.gates.settle("WP01", _HEAD, 1, (*turn.told,))
        assert (found.tree, found.running, found.stopped) == ("tree", True, 0)
        await stage.release()
        assert isinstance((await turn.run()).event, GatesPassed)

    async def test_what_is_no_part_of_a_turn_is_stopped_before_it(self, stage: GateStage) -> None:
        """Two gates in one workspace would tell nothing."""
        turn = _Turn(stage)
        await turn.cut_off()
        await stage.crash()
        with anyio.fail_after(LIMIT_S):
            found = await stage.gates.settle("WP01", _HEAD, 2, (*turn.told,))
        assert (found.tree, found.running, found.stopped) == ("", False, 1)
        await stage.release()
        assert isinstance((await turn.run(2)).event, GatesPassed)

    async def test_a_gate_that_moves_the_branch_is_broken(self, stage: GateStage) -> None:
        """What it checked is not what would be reviewed."""
        turn = _Turn(stage)
        turn.moved = "it committed"
        await stage.release()
        report = await turn.run()
        assert isinstance(report.event, GateBroken)
        assert "it committed" in report.event.reason

    async def test_one_turn_is_stopped_and_the_next_one_runs(self, stage: GateStage) -> None:
        """A person can have seen enough of it."""
        turn = _Turn(stage)
        async with turn.running() as report:
            await stage.gates.stop("WP01", 1, GRACE_S)
        assert isinstance(report().event, GatesStopped)
        await stage.release()
        assert isinstance((await turn.run(2)).event, GatesPassed)

    async def test_a_turn_that_was_stopped_before_it_began_never_begins(self, stage: GateStage) -> None:
        """An order can be quicker than a process."""
        await stage.gates.stop("WP01", 1, GRACE_S)
        assert isinstance((await _Turn(stage).run()).event, GatesStopped)
        assert await stage.runs() == 0

    async def test_stop_all_stops_what_runs_and_lets_nothing_begin_before_the_next_start(
        self, stage: GateStage
    ) -> None:
        """As a signal does."""
        turn = _Turn(stage)
        async with turn.running() as report:
            await stage.gates.stop_all(GRACE_S)
        assert isinstance(report().event, GatesStopped)
        assert isinstance((await turn.run(2)).event, GatesStopped)
        assert await stage.runs() == 1
        await stage.crash()
        await stage.release()
        assert isinstance((await _Turn(stage).run(3)).event, GatesPassed)
