"""A machine that loses power at one boundary between the engine and the world, before or after the call."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel
from tests.driver.builders import Stage
from trio.testing import MockClock

from spec_kitty_orchestrator.core.events import AgentExited, AttemptOpened
from spec_kitty_orchestrator.core.model import AgentReport, Attempt
from spec_kitty_orchestrator.core.run_events import Entry
from spec_kitty_orchestrator.driver.result import RunResult

BOUND_S = 10_000.0
"""Bound of one start on virtual time, far above any mission here."""


@dataclass(frozen=True)
class Cut:
    """Where one start ends.

    Attributes:
        k: the number of the boundary, from 1.
        after: whether the call itself still takes place.
        calls_land: whether calls of the host that are under way take effect, as they do when a process is
            killed alone; else they are lost with it, as when the power fails.
    """

    k: int
    after: bool
    calls_land: bool = False


class Meter:
    """Counts every boundary of one start, and ends the start at one of them."""

    def __init__(self, cut: Cut | None = None) -> None:
        self.cut = cut
        self.crossed: list[str] = []
        self.scope = anyio.CancelScope()

    async def cross(self, name: str, call: Callable[[], Any], *, host: bool = False) -> Any:
        """Let one call through, unless the power fails before it."""
        self.crossed.append(name)
        here = self.cut is not None and len(self.crossed) == self.cut.k
        if here and self.cut and not self.cut.after:
            await self._fail()
        lands = host and self.cut is not None and self.cut.calls_land
        with anyio.CancelScope(shield=lands):
            answer = await call()
        if here:
            await self._fail()
        return answer

    async def _fail(self) -> None:
        self.scope.cancel()
        await anyio.lowlevel.checkpoint()


class Wired:
    """A part of the world behind a meter; whatever is no call passes through."""

    def __init__(self, part: Any, meter: Meter, name: str) -> None:
        self._part, self._meter, self._name = part, meter, name

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        # The runner's policy is known without asking anybody.
        if not callable(found) or name == "policy":
            return found

        async def through(*args: Any, **named: Any) -> Any:
            label = f"{self._name}.{name}"
            return await self._meter.cross(label, lambda: found(*args, **named), host=self._name == "host")

        return through


async def start(mission: Stage, cut: Cut | None = None) -> tuple[Meter, RunResult | None]:
    """Start the engine once; None instead of a result if the power failed."""
    meter = Meter(cut)
    parts = {
        name: Wired(getattr(mission, name), meter, name) for name in ("host", "agents", "gates", "workspaces")
    }
    parts["journal"] = Wired(mission.journal, meter, "journal")
    result = None
    with anyio.fail_after(BOUND_S), meter.scope:
        result = await mission.orchestrator(**parts).run()
    return meter, result


def on_virtual_time(make: Callable[[], Any], cuts: tuple[Cut, ...] = ()) -> tuple[Stage, Meter, RunResult]:
    """Run a mission through power failures to its end; the last meter is of the start that got there."""

    async def main() -> tuple[Stage, Meter, RunResult]:
        mission = make()
        for cut in cuts:
            meter, result = await start(mission, cut)
            if result is not None:
                return mission, meter, result
        meter, result = await start(mission)
        assert result is not None
        return mission, meter, result

    clock = MockClock(autojump_threshold=0)
    return anyio.run(main, backend="trio", backend_options={"clock": clock})


def events(mission: Stage) -> list[tuple[str, Any]]:
    """Return the journal's events with their work packages."""
    return [(one.wp_id, one.event) for one in mission.journal.lines if isinstance(one, Entry)]


def reports(mission: Stage) -> dict[str, list[AgentReport]]:
    """Return by attempt id the reports that reached the journal."""
    found: dict[str, list[AgentReport]] = {}
    for _, event in events(mission):
        if isinstance(event, AgentExited):
            found.setdefault(event.attempt_id, []).append(event.report)
    return found


def attempts(mission: Stage) -> dict[str, list[Attempt]]:
    """Return by work package the attempts of the journal."""
    found: dict[str, list[Attempt]] = {}
    for wp, event in events(mission):
        if isinstance(event, AttemptOpened):
            found.setdefault(wp, []).append(event.attempt)
    return found


def ranges(mission: Stage, result: RunResult) -> Mapping[str, tuple[str, int, int]]:
    """Return by work package the worktree and the places in it of the first and last commit of its work.

    The stand-in numbers commits over all worktrees, so the sha of one depends on who was first.
    """
    found = {}
    for wp in result.work_packages:
        assert wp.workspace is not None
        commits = mission.workspaces.tree(wp.workspace).commits
        found[wp.id] = (wp.workspace.key, commits.index(wp.work.base), commits.index(wp.work.head))
    return found


def commits(mission: Stage) -> int:
    """Count the commits of all worktrees."""
    return sum(len(tree.commits) for tree in mission.workspaces.trees.values())
