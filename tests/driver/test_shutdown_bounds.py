"""However the host behaves, a signal ends a run: one bounded read after the first, none after the second."""

from collections.abc import Awaitable, Callable
from signal import SIGINT, SIGTERM
from typing import Any

import anyio
import pytest
from tests.driver.builders import Stage
from tests.driver.troubles import events, wrapped

from spec_kitty_orchestrator.core.events import AgentExited
from spec_kitty_orchestrator.core.model import Lane, Outcome
from spec_kitty_orchestrator.core.run_events import RunEnded
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.errors import HostTimeout
from spec_kitty_orchestrator.testing.scripted_agents import Play

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]
CALLS = ("mission_state", "resolve_workspace", "start_implementation", "start_review", "transition")
ANSWER_LIMIT_S = 120.0
"""How long the real client waits for one answer."""

ONCE_S = 2 * ANSWER_LIMIT_S + 10.0
"""After one signal: the call under way and one read may use up their limits, the agents their grace."""

HURRIED_S = 10.0
"""After a second signal nobody waits for the host any more."""

HUNG_AT = {
    "a claim": 0.7,
    "the end of the implementation": 99.3,
    "the beginning of the review": 101.7,
    "the verdict": 199.3,
}


def hangs(mission: Stage, after_s: float) -> list[int]:
    """Let the host answer nothing from a moment on; give the calls that have begun since the last signal."""
    began, since = anyio.current_time(), [0]

    def wrap(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **named: Any) -> Any:
            if anyio.current_time() - began < after_s:
                return await original(*args, **named)
            since[0] += 1
            await anyio.sleep(ANSWER_LIMIT_S)
            raise HostTimeout("any", "no answer within 120 s")

        return call

    for one in CALLS:
        wrapped(mission.host, one, wrap)
    return since


def a_mission(stage: Make) -> Stage:
    return stage({"WP01": (), "WP02": ()}, lambda r: Play(seconds=100), latency_s=1.0)


async def signaled(mission: Stage, since: list[int], *moments_s: float) -> tuple[RunResult, float, int]:
    """Run and send a signal at each moment; return the result, the time since the last, and calls since."""
    engine, results, last = mission.orchestrator(), [], 0.0
    began = anyio.current_time()

    async def run() -> None:
        results.append(await engine.run())

    with anyio.fail_after(100_000):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            for moment in moments_s:
                await anyio.sleep(began + moment - anyio.current_time())
                last, since[0] = anyio.current_time(), 0
                engine.interrupt(SIGINT if len(moments_s) == 1 else SIGTERM)
    return results[0], anyio.current_time() - last, since[0]


@pytest.mark.parametrize("hung", HUNG_AT)
@pytest.mark.parametrize("later_s", [1.0, 15.0, 60.0, 200.0])
async def test_one_signal_ends_a_run_in_bounded_time_though_the_host_hangs(
    stage: Make, hung: str, later_s: float
) -> None:
    mission = a_mission(stage)
    result, took_s, calls = await signaled(mission, hangs(mission, HUNG_AT[hung]), HUNG_AT[hung] + later_s)
    assert result.exit_code == 130
    assert took_s <= ONCE_S
    assert calls <= 1
    assert mission.agents.running == []
    assert isinstance(mission.journal.lines[-1], RunEnded)


@pytest.mark.parametrize("hung", HUNG_AT)
@pytest.mark.parametrize("later_s", [1.0, 15.0, 60.0, 200.0])
async def test_a_second_signal_ends_a_run_at_once_though_the_host_hangs(
    stage: Make, hung: str, later_s: float
) -> None:
    mission = a_mission(stage)
    first = HUNG_AT[hung] + later_s
    result, took_s, calls = await signaled(mission, hangs(mission, HUNG_AT[hung]), first, first + 1)
    assert result.exit_code == 143
    assert took_s <= HURRIED_S
    assert calls == 0
    assert mission.agents.running == []
    assert isinstance(mission.journal.lines[-1], RunEnded)


@pytest.mark.parametrize("hung", HUNG_AT)
async def test_the_next_start_finds_out_what_came_of_the_call_and_pays_for_nothing_twice(
    stage: Make, hung: str
) -> None:
    mission = a_mission(stage)
    healthy = {one: getattr(mission.host, one) for one in CALLS}
    since = hangs(mission, HUNG_AT[hung])
    await signaled(mission, since, HUNG_AT[hung] + 15, HUNG_AT[hung] + 16)
    for name, call in healthy.items():
        setattr(mission.host, name, call)
    assert (await mission.run()).exit_code == 0
    assert set(mission.host.lanes.values()) == {Lane.DONE}
    assert set(mission.agents.runs.values()) == {1}
    good = [one for one in events(mission, AgentExited) if one.report.outcome is Outcome.OK]
    assert len(good) == 4, "only attempts that the signal stopped are made again"


@pytest.mark.parametrize("twice", [False, True])
async def test_what_is_not_known_of_a_lane_is_said_to_be_unknown(stage: Make, twice: bool) -> None:
    mission = a_mission(stage)
    moments = (110.0, 111.0) if twice else (110.0,)
    result, _, _ = await signaled(mission, hangs(mission, 99.3), *moments)
    assert result.reasons.keys() == {"WP01", "WP02"}
    assert all("unknown" in one or "not known" in one for one in result.reasons.values())
