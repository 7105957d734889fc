"""The event loop stays free: no step of a run may use it for long, however large the mission is.

The host itself cannot hold more than 99 work packages; these missions are up to ten times as large.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from blockbuster import BlockingError
from tests.driver.builders import REAL_LIMIT_S, Stage

from spec_kitty_orchestrator.core.events import Event
from spec_kitty_orchestrator.core.model import Lane, Role, WorkPackage
from spec_kitty_orchestrator.errors import HostRefusal
from spec_kitty_orchestrator.ports import AttemptRequest, Entry
from spec_kitty_orchestrator.testing.memory_journal import Watcher
from spec_kitty_orchestrator.testing.scripted_agents import Play, verdict

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)]

Make = Callable[..., Stage]

LONGEST_STEP_S = 0.1
"""What one step may take of this thread's own CPU time; what other processes take does not count."""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The CPU seconds of each step that the event loop made."""
    # What pytest and the tests before keep alive must not be searched for garbage in a step of ours.
    gc.collect()
    gc.freeze()
    found: list[float] = []
    original = asyncio.events.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        original(handle)
        found.append(time.thread_time() - began)

    monkeypatch.setattr(asyncio.events.Handle, "_run", timed)
    yield found
    gc.unfreeze()


def wide(count: int, chain: int) -> dict[str, tuple[str, ...]]:
    """Return chains of work packages, all side by side."""
    names = [f"WP{number:04d}" for number in range(1, count + 1)]
    return {name: (names[place - 1],) if place % chain else () for place, name in enumerate(names)}


def busy(request: AttemptRequest) -> Play:
    if request.role is Role.REVIEW and request.number == 2 and request.wp_id.endswith("5"):
        return Play(seconds=0.0, text=verdict(request, "changes_requested", "again"))
    return Play(seconds=0.0)


async def test_a_run_of_two_hundred_work_packages_leaves_the_loop_free(
    stage: Make, steps: list[float]
) -> None:
    mission = stage(wide(200, chain=10), busy, max_concurrent=8, limit_s=REAL_LIMIT_S)
    for _ in range(20):
        mission.host.fail_next(
            "start-implementation", HostRefusal("start-implementation", "DEPENDENCIES_NOT_SATISFIED", "no")
        )
    result = await mission.run()
    assert result.exit_code == 0
    assert len(steps) > 1000
    assert max(steps) < LONGEST_STEP_S


async def test_a_run_of_a_thousand_work_packages_and_a_hundred_agents_leaves_the_loop_free(
    stage: Make, steps: list[float]
) -> None:
    mission = stage(wide(1000, chain=10), busy, max_concurrent=100, limit_s=REAL_LIMIT_S)
    result = await mission.run()
    assert result.exit_code == 0
    assert mission.agents.most_at_once > 50
    assert max(steps) < LONGEST_STEP_S


@pytest.mark.parametrize("chain", [10, 1000])
async def test_the_start_of_a_thousand_work_packages_leaves_the_loop_free(
    stage: Make, steps: list[float], chain: int
) -> None:
    mission = stage(wide(1000, chain), busy, max_concurrent=8, limit_s=REAL_LIMIT_S)
    for name in list(mission.host.lanes)[:970]:
        mission.host.lanes[name] = Lane.DONE
    assert (await mission.run()).exit_code == 0
    assert max(steps) < LONGEST_STEP_S


async def test_going_on_from_thousands_of_lines_leaves_the_loop_free(stage: Make, steps: list[float]) -> None:
    one = stage({"WP0001": ()}, busy, limit_s=REAL_LIMIT_S)
    await one.run()
    mission = stage(wide(400, chain=10), limit_s=REAL_LIMIT_S)
    for name in mission.host.lanes:
        mission.host.lanes[name] = Lane.DONE
        mission.journal.lines += [
            replace(line, wp_id=name) for line in one.journal.lines if isinstance(line, Entry)
        ]
    assert len(mission.journal.lines) >= 3000
    steps.clear()
    assert (await mission.run()).exit_code == 0
    assert max(steps) < LONGEST_STEP_S


async def test_a_blocking_call_in_a_run_is_found(stage: Make) -> None:
    class Slow(Watcher):
        def saw(self, wp: WorkPackage, event: Event) -> None:
            time.sleep(0.001)

    mission = stage({"WP01": ()}, busy, limit_s=REAL_LIMIT_S)
    with pytest.raises(BlockingError):
        await mission.run(observer=Slow())
