"""Our gates keep what all gates promise, and the suite finds those that do not."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Literal

import anyio
import pytest
from tests.contract.mutants import is_kept

from spec_kitty_orchestrator.core.events import GateBegun
from spec_kitty_orchestrator.core.model import GateProgress, Workspace
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.machine.gates import LocalGates
from spec_kitty_orchestrator.ports.gates import GateReport
from spec_kitty_orchestrator.testing import (
    Check,
    FakeWorkspaces,
    GatesContract,
    GateStage,
    ProgramGateStage,
    ScriptedGates,
)


@pytest.mark.usefixtures("never_blocks")
class TestLocalGates(GatesContract):
    @pytest.fixture
    async def stage(self, tmp_path: Path) -> GateStage:
        async def make(repository: Path, gate: Gate) -> LocalGates:
            return LocalGates(repository, "demo", (gate,))

        return await ProgramGateStage(tmp_path, make).open()


class ScriptedGateStage:
    """Gates in memory, which outlive every crash."""

    workspace = Workspace("/lane", "", "lane-1")

    def __init__(self, make: type[ScriptedGates] = ScriptedGates) -> None:
        self._released = anyio.Event()
        self._ends: Literal["passed", "failed"] = "passed"
        self.gates = make(FakeWorkspaces(), [Gate("tests", ("true",))], self._check)

    def _check(self, wp_id: str, head: str, turn: int) -> Check:
        return Check(self._ends, until=self._released)

    async def fail(self) -> None:
        self._ends = "failed"

    async def begun(self) -> None:
        while not self.gates.running:
            await anyio.lowlevel.checkpoint()

    async def release(self) -> None:
        self._released.set()

    async def runs(self) -> int:
        return self.gates.runs.total()

    async def crash(self) -> None:
        self.gates.restart()


class TestScriptedGates(GatesContract):
    @pytest.fixture
    def stage(self) -> GateStage:
        return ScriptedGateStage()


class Changed(ScriptedGates):
    """Runs turns otherwise than they were asked for."""

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
        self.forget((wp_id, head, turn))
        head, turn = self.asked(head, turn)
        report = await super().run(
            wp_id, workspace, head, number, turn, tree, known, self.looked(moved), self.told(begun)
        )
        return GateReport(report.event, self.back(report.tree, tree))

    def forget(self, key: tuple[str, str, int]) -> None:
        pass

    def asked(self, head: str, turn: int) -> tuple[str, int]:
        return head, turn

    def looked(self, moved: Callable[[], Awaitable[str]]) -> Callable[[], Awaitable[str]]:
        return moved

    def told(self, begun: Callable[[GateBegun], Awaitable[None]]) -> Callable[[GateBegun], Awaitable[None]]:
        return begun

    def back(self, first: str, now: str) -> str:
        return first


class Repeating(Changed):
    """Runs a turn for each call."""

    def forget(self, key: tuple[str, str, int]) -> None:
        self._started.pop(key, None)
        self._reports.pop(key, None)


class Once(Changed):
    """Runs the first turn, and takes its end for that of the others."""

    def asked(self, head: str, turn: int) -> tuple[str, int]:
        return head, 1


class Elsewhere(Changed):
    """Tells of another commit."""

    def asked(self, head: str, turn: int) -> tuple[str, int]:
        return "b" * 40, turn


class Blind(Changed):
    """Does not look whether the branch was moved."""

    def looked(self, moved: Callable[[], Awaitable[str]]) -> Callable[[], Awaitable[str]]:
        async def nothing() -> str:
            return ""

        return nothing


class Secretive(Changed):
    """Tells of no gate."""

    def told(self, begun: Callable[[GateBegun], Awaitable[None]]) -> Callable[[GateBegun], Awaitable[None]]:
        async def nobody(gate: GateBegun) -> None:
            pass

        return nobody


class Littered(Changed):
    """Takes what lies there after a crash for what was there before."""

    def back(self, first: str, now: str) -> str:
        return now


class Careless(ScriptedGates):
    """Leaves what runs to itself."""

    async def settle(self, wp_id: str, head: str, turn: int, known: Sequence[GateBegun]) -> GateProgress:
        return GateProgress("", False, 0)


class Late(ScriptedGates):
    """Begins what was stopped before."""

    async def stop(self, wp_id: str, turn: int, grace_s: float) -> None:
        if self.running:
            await super().stop(wp_id, turn, grace_s)


class Busy(ScriptedGates):
    """Stops nothing but what runs."""

    async def stop_all(self, grace_s: float) -> None:
        for stop in self._stops.values():
            stop.set()


class Sweeping(ScriptedGates):
    """Stops everything for one turn."""

    async def stop(self, wp_id: str, turn: int, grace_s: float) -> None:
        await self.stop_all(grace_s)


@pytest.mark.parametrize(
    ("mutant", "promise"),
    [
        (Elsewhere, "test_a_gate_that_passes_is_told_with_its_commit"),
        (Elsewhere, "test_a_gate_that_fails_is_told_with_its_commit"),
        (Secretive, "test_a_gate_is_told_of_before_it_begins"),
        (Repeating, "test_a_turn_runs_once"),
        (Once, "test_the_next_turn_runs_again"),
        (Repeating, "test_a_gate_at_work_at_a_crash_is_waited_for_by_the_next_start"),
        (Littered, "test_a_gate_at_work_at_a_crash_is_waited_for_by_the_next_start"),
        (Careless, "test_how_far_a_turn_is_can_be_asked_after_a_crash"),
        (Careless, "test_what_is_no_part_of_a_turn_is_stopped_before_it"),
        (Blind, "test_a_gate_that_moves_the_branch_is_broken"),
        (Sweeping, "test_one_turn_is_stopped_and_the_next_one_runs"),
        (Late, "test_a_turn_that_was_stopped_before_it_began_never_begins"),
        (Busy, "test_stop_all_stops_what_runs_and_lets_nothing_begin_before_the_next_start"),
    ],
)
def test_gates_that_break_a_promise_are_found(
    monkeypatch: pytest.MonkeyPatch, mutant: type[ScriptedGates], promise: str
) -> None:
    monkeypatch.setattr("spec_kitty_orchestrator.testing.contracts.gates.LIMIT_S", 0.3)
    assert not is_kept(GatesContract, promise, {"stage": lambda: ScriptedGateStage(mutant)})
