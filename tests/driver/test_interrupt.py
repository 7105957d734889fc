"""Signals: agents are stopped, nothing new begins, and the next start goes on from the journal."""

from collections.abc import Callable
from signal import SIGINT, SIGTERM

import anyio
import pytest
from tests.driver.builders import DIAMOND, Stage, scripted

from spec_kitty_orchestrator.core.model import Lane, Outcome, Role
from spec_kitty_orchestrator.core.run_events import RunEnded
from spec_kitty_orchestrator.driver.engine import Orchestrator
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.driver.shutdown import HURRIED_GRACE_S, STOP_GRACE_S
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]


async def interrupted(engine: Orchestrator, *signals: tuple[float, int]) -> RunResult:
    """Run, with these signals at these times after the start."""
    results: list[RunResult] = []

    async def run() -> None:
        results.append(await engine.run())

    with anyio.fail_after(1000):
        async with anyio.create_task_group() as tg:
            tg.start_soon(run)
            for after_s, signum in signals:
                await anyio.sleep(after_s)
                engine.interrupt(signum)
    return results[0]


@pytest.mark.parametrize(("signum", "code"), [(SIGINT, 130), (SIGTERM, 143)])
@pytest.mark.parametrize("anyio_backend", ["trio", "asyncio"], indirect=True)
async def test_a_signal_stops_the_agents_and_a_later_start_finishes(
    stage: Make, signum: int, code: int, anyio_backend: tuple[str, object]
) -> None:
    first, at_work = [True], anyio.Event()

    def script(request: AttemptRequest) -> Play:
        at_work.set()
        return Play(seconds=500.0 if first else 0.001)

    mission = stage(script=script)
    results: list[RunResult] = []
    engine = mission.orchestrator()

    async def run() -> None:
        results.append(await engine.run())

    with anyio.fail_after(1000):
        async with anyio.create_task_group() as tg:
            tg.start_soon(run)
            await at_work.wait()
            engine.interrupt(signum)
    result = results[0]
    assert (result.exit_code, result.interrupted) == (code, signum)
    assert mission.agents.running == []
    assert mission.agents.graces == [STOP_GRACE_S]
    assert isinstance(mission.journal.lines[-1], RunEnded)
    assert result.reasons.keys() == DIAMOND.keys()
    first.clear()
    assert (await mission.run()).exit_code == 0


async def test_a_second_signal_shortens_the_grace(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ()}, lambda r: Play(seconds=5000))
    mission.agents.stubborn_s = 4000
    began = anyio.current_time()
    result = await interrupted(mission.orchestrator(), (10, SIGINT), (2, SIGTERM))
    assert result.exit_code == 130
    assert mission.agents.graces == [STOP_GRACE_S, HURRIED_GRACE_S]
    assert anyio.current_time() - began == pytest.approx(10 + 2 + HURRIED_GRACE_S)


async def test_the_grace_is_bounded_without_a_second_signal(stage: Make) -> None:
    mission = stage({"WP01": ()}, lambda r: Play(seconds=5000))
    mission.agents.stubborn_s = 4000
    began = anyio.current_time()
    await interrupted(mission.orchestrator(), (10, SIGINT))
    assert anyio.current_time() - began == pytest.approx(10 + STOP_GRACE_S)


@pytest.mark.parametrize("moment", [step + 0.25 for step in range(30)])
async def test_nothing_begins_after_a_signal_and_nothing_is_lost(stage: Make, moment: float) -> None:
    mission = stage(script=lambda r: Play(seconds=3.0), latency_s=1.0)
    engine = mission.orchestrator()
    began: list[tuple[int, int, int]] = []
    original = engine.interrupt

    def so_far() -> tuple[int, int, int]:
        return len(mission.agents.runs), len(mission.agents.requests), len(mission.host.calls)

    def notes(signum: int) -> None:
        began.append(so_far())
        original(signum)

    engine.interrupt = notes  # type: ignore[method-assign]
    result = await interrupted(engine, (moment, SIGINT))
    assert result.exit_code == (0 if all(one.lane.complete for one in result.work_packages) else 130)
    assert began == [so_far()]
    finished = {one.id for one in result.work_packages if one.lane is Lane.DONE}
    assert (await mission.run()).exit_code == 0
    canceled = sum(outcome is Outcome.CANCELED for wp in result.work_packages for outcome in wp.outcomes)
    opened_without_a_process = sum(one.open_attempt is not None for one in result.work_packages)
    assert len(mission.agents.runs) <= 8 + canceled + opened_without_a_process
    assert finished <= set(DIAMOND)
    for wp in DIAMOND:
        assert mission.lanes_of(wp) == [
            Lane.CLAIMED,
            Lane.IN_PROGRESS,
            Lane.FOR_REVIEW,
            Lane.IN_REVIEW,
            Lane.DONE,
        ]


async def test_a_signal_while_everybody_rests_ends_the_run_at_once(stage: Make) -> None:
    def implement(request):  # type: ignore[no-untyped-def]
        if request.number == 1:
            return Play(outcome=Outcome.RATE_LIMITED, retry_after_s=10_000)
        return Play()

    mission = stage({"WP01": ()}, scripted(implement=implement))
    began = anyio.current_time()
    result = await interrupted(mission.orchestrator(), (10, SIGTERM))
    assert result.exit_code == 143
    assert anyio.current_time() - began == pytest.approx(10)
    assert (await mission.run()).exit_code == 0
    assert len(mission.prompts_of("WP01", Role.IMPLEMENT)) == 2


async def test_a_signal_before_the_first_claim_claims_nothing(stage: Make) -> None:
    mission = stage(latency_s=1.0)
    engine = mission.orchestrator()
    engine.interrupt(SIGINT)
    with anyio.fail_after(100):
        result = await engine.run()
    assert result.exit_code == 130
    assert (mission.host.events, mission.agents.requests) == ([], [])


async def test_an_agent_that_finishes_during_the_grace_is_not_run_again(stage: Make) -> None:
    mission = stage({"WP01": ()}, lambda r: Play(seconds=12))
    mission.agents.stubborn_s = 100
    await interrupted(mission.orchestrator(), (10, SIGINT))
    assert (await mission.run()).exit_code == 0
    assert len(mission.prompts_of("WP01", Role.IMPLEMENT)) == 1
