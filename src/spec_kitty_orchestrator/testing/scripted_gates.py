"""Gates in memory that follow a script; as real ones they outlive a canceled `run`, and run once a turn."""

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import anyio
import anyio.lowlevel

from spec_kitty_orchestrator.core.events import GateBegun, GateBroken, GateFailed, GatesPassed, GatesStopped
from spec_kitty_orchestrator.core.model import GateProgress, GateResult, Workspace
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.ports.gates import GateReport
from spec_kitty_orchestrator.testing.fake_workspaces import FakeWorkspaces
from spec_kitty_orchestrator.testing.scripted_agents import first_of

__all__ = ["Check", "Checks", "ScriptedGates", "always_pass"]


@dataclass(frozen=True)
class Check:
    """What one turn does.

    Attributes:
        ends: how its first gate ends; if it passes, so do the others.
        seconds: how long the turn takes, on the event loop's clock.
        says: the end of the output of a gate that fails, or why one is broken.
        leaves: paths that it leaves in the workspace.
        commits: whether it commits them, which no gate may.
        until: ends it when it is set, in place of `seconds`.
    """

    ends: Literal["passed", "failed", "broken"] = "passed"
    seconds: float = 1.0
    says: str = "1 failed, 12 passed"
    leaves: tuple[str, ...] = ()
    commits: bool = False
    until: anyio.Event | None = None


Checks = Callable[[str, str, int], Check]
"""Takes the work package's id, the commit and the turn, and returns what happens."""


def always_pass(wp_id: str, head: str, turn: int) -> Check:
    """Pass in a second."""
    return Check()


class ScriptedGates:
    """Implements the port `Gates`.

    Attributes:
        gates: those of the policy; change them as the settings change between starts.
        runs: how often each turn was started, by work package, commit and turn.
        green: by work package, the commits on which every gate passed.
        running: work packages whose gates run.
    """

    def __init__(
        self, workspaces: FakeWorkspaces, gates: Sequence[Gate], script: Checks = always_pass
    ) -> None:
        self.workspaces = workspaces
        self.gates: tuple[Gate, ...] = tuple(gates)
        self.script = script
        self.runs: Counter[tuple[str, str, int]] = Counter()
        self.green: set[tuple[str, str, str]] = set()
        self.running: list[str] = []
        self._started: dict[tuple[str, str, int], tuple[float, Check, str]] = {}
        self._reports: dict[tuple[str, str, int], GateReport] = {}
        self._stop = anyio.Event()
        self._stops: dict[tuple[str, int], anyio.Event] = {}

    async def settle(self, wp_id: str, head: str, turn: int, known: Sequence[GateBegun]) -> GateProgress:
        """Say how far the turn is, and give up the others of the work package."""
        await anyio.lowlevel.checkpoint()
        key = (wp_id, head, turn)
        stale = [one for one in self._started if one[0] == wp_id and one != key and one not in self._reports]
        for one in stale:
            self._report(one, GateReport(GatesStopped(), self._started[one][2]))
        tree = self._started[key][2] if key in self._started else ""
        return GateProgress(tree, bool(tree) and key not in self._reports, len(stale))

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
        """Start the turn, or wait for it if it was started before."""
        await anyio.lowlevel.checkpoint()
        key = (wp_id, head, turn)
        if key in self._reports:
            return self._reports[key]
        stop = self._stops.setdefault((wp_id, turn), anyio.Event())
        if (self._stop.is_set() or stop.is_set()) and key not in self._started:
            return GateReport(GatesStopped(), tree)
        if key not in self._started:
            if self.gates:
                await begun(GateBegun(self.gates[0].name, head, f"/logs/{wp_id}", turn=turn, tree=tree))
            self.runs[key] += 1
            self.running.append(wp_id)
            self._started[key] = (anyio.current_time(), self.script(*key), tree)
        began, check, tree = self._started[key]
        ends = math.inf if check.until else began + check.seconds
        with anyio.move_on_after(max(0.0, ends - anyio.current_time())):
            await first_of(stop, self._stop, *((check.until,) if check.until else ()))
            if not (check.until and check.until.is_set()):
                return self._report(key, GateReport(GatesStopped(), tree))
        for path in check.leaves:
            self.workspaces.edit(workspace, path)
        if check.commits:
            self.workspaces.commit_by_hand(workspace)
        reason = await moved()
        if reason:
            return self._report(key, GateReport(GateBroken(self.gates[0].name, reason), tree))
        return self._report(key, GateReport(self._event(wp_id, head, check), tree))

    def _report(self, key: tuple[str, str, int], report: GateReport) -> GateReport:
        self.running.remove(key[0])
        self._reports[key] = report
        return report

    def _event(self, wp_id: str, head: str, check: Check) -> GatesPassed | GateFailed | GateBroken:
        results = tuple(
            GateResult(one.name, one.command, head, check.ends == "passed", check.seconds, f"/logs/{wp_id}")
            for one in self.gates
        )
        if check.ends == "passed" or not results:
            self.green |= {(wp_id, head, one.name) for one in results}
            return GatesPassed(results)
        if check.ends == "failed":
            return GateFailed(results[0], check.says)
        return GateBroken(results[0].name, check.says, results[0].log)

    async def stop(self, wp_id: str, turn: int, grace_s: float) -> None:
        """Stop one turn, also one that is still to be run."""
        await anyio.lowlevel.checkpoint()
        self._stops.setdefault((wp_id, turn), anyio.Event()).set()

    async def stop_all(self, grace_s: float) -> None:
        """Stop every running gate; `grace_s` is not used up."""
        await anyio.lowlevel.checkpoint()
        self._stop.set()

    def restart(self) -> None:
        """Forget an earlier stop, as the next start of the command would."""
        self._stop = anyio.Event()
