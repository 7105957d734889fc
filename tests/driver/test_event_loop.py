"""The event loop stays free: no step of a run may use it for long, however large the mission is."""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from blockbuster import BlockingError
from tests.driver.builders import REAL_LIMIT_S, Stage

from spec_kitty_orchestrator.core.model import Lane, Role
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import Entry, Line
from spec_kitty_orchestrator.errors import HostRefusal
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.memory_journal import Watcher
from spec_kitty_orchestrator.testing.scripted_agents import Play, verdict

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)]

Make = Callable[..., Stage]

MOST = 99
"""The host holds no more work packages in one mission."""

NOT_YET = "DEPENDENCIES_NOT_SATISFIED"

LONGEST_STEP_S = 0.1
"""What one step may take of this thread's own CPU time; what other processes take does not count."""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The CPU seconds of each step that the event loop made."""
    # A search for garbage, also of pytest's and of the tests before, must not fall into a step of ours.
    gc.collect()
    gc.disable()
    found: list[float] = []
    original = asyncio.events.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        original(handle)
        found.append(time.thread_time() - began)

    monkeypatch.setattr(asyncio.events.Handle, "_run", timed)
    yield found
    gc.enable()


def wide(count: int, chain: int) -> dict[str, tuple[str, ...]]:
    """Return chains of work packages, all side by side."""
    names = [f"WP{number:02d}" for number in range(1, count + 1)]
    return {name: (names[place - 1],) if place % chain else () for place, name in enumerate(names)}


def busy(request: AttemptRequest) -> Play:
    if request.role is Role.REVIEW and request.number == 2 and request.wp_id.endswith("5"):
        return Play(seconds=0.0, text=verdict(request, "changes_requested", "again"))
    return Play(seconds=0.0)


async def test_a_run_of_the_largest_mission_leaves_the_loop_free(stage: Make, steps: list[float]) -> None:
    mission = stage(wide(MOST, chain=10), busy, max_concurrent=8, limit_s=REAL_LIMIT_S)
    for _ in range(20):
        mission.host.fail_next("start-implementation", HostRefusal("start-implementation", NOT_YET, "no"))
    result = await mission.run()
    assert result.exit_code == 0
    assert len(steps) > 1000
    assert max(steps) < LONGEST_STEP_S


async def test_as_many_agents_as_work_packages_leave_the_loop_free(stage: Make, steps: list[float]) -> None:
    def together(request: AttemptRequest) -> Play:
        return Play(seconds=2.0 if request.role is Role.IMPLEMENT else 0.0)

    mission = stage(wide(MOST, chain=1), together, max_concurrent=MOST, limit_s=REAL_LIMIT_S)
    result = await mission.run()
    assert result.exit_code == 0
    assert mission.agents.most_at_once > 10
    assert max(steps) < LONGEST_STEP_S


@pytest.mark.parametrize("chain", [10, MOST])
async def test_the_start_of_the_largest_mission_leaves_the_loop_free(
    stage: Make, steps: list[float], chain: int
) -> None:
    mission = stage(wide(MOST, chain), busy, max_concurrent=8, limit_s=REAL_LIMIT_S)
    for name in list(mission.host.lanes)[:90]:
        mission.host.lanes[name] = Lane.DONE
    assert (await mission.run()).exit_code == 0
    assert max(steps) < LONGEST_STEP_S


async def test_going_on_from_thousands_of_lines_leaves_the_loop_free(stage: Make, steps: list[float]) -> None:
    one = stage({"WP05": ()}, busy, limit_s=REAL_LIMIT_S)
    await one.run()
    mission = stage(wide(MOST, chain=10), limit_s=REAL_LIMIT_S)
    for name in mission.host.lanes:
        mission.host.lanes[name] = Lane.DONE
        mission.journal.lines += [
            replace(line, wp_id=name) for line in one.journal.lines if isinstance(line, Entry) and line.wp_id
        ]
    assert len(mission.journal.lines) >= 2000
    steps.clear()
    # What `Stage.run` checks of so long a journal afterwards would be a step of its own.
    assert (await mission.orchestrator().run()).exit_code == 0
    assert max(steps) < LONGEST_STEP_S


async def test_a_blocking_call_in_a_run_is_found(stage: Make) -> None:
    class Slow(Watcher):
        def saw(self, state: RunState, line: Line) -> None:
            time.sleep(0.001)

    mission = stage({"WP01": ()}, busy, limit_s=REAL_LIMIT_S)
    with pytest.raises(BlockingError):
        await mission.run(observer=Slow())
