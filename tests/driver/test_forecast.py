"""What is foreseen from the journal of a mission's first run, held against its second run."""

from collections.abc import Callable
from random import Random

import pytest
from tests.driver.builders import POLICY, Stage, longer

from spec_kitty_orchestrator.core.forecast import Forecast, foreseen, simulations
from spec_kitty_orchestrator.core.model import MissionState, Role, Usage
from spec_kitty_orchestrator.core.run import RunState, begin
from spec_kitty_orchestrator.core.run_events import RunEnded, RunStarted
from spec_kitty_orchestrator.core.samples import Samples, gather
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.memory_journal import LoopClock
from spec_kitty_orchestrator.testing.scripted_agents import Play, verdict

pytestmark = pytest.mark.anyio

MISSIONS = range(20)
SLOTS = (1, 2, 3)


def drawn(dice: Random) -> Callable[[AttemptRequest], Play]:
    """Return agents whose durations, costs and verdicts are drawn anew for each attempt."""
    slow = dice.choice((60.0, 600.0))

    def script(request: AttemptRequest) -> Play:
        implements = request.role is Role.IMPLEMENT
        seconds = dice.lognormvariate(0.0, 0.5) * (slow if implements else slow / 3)
        usage = Usage(1000, 100, dice.uniform(0.1, 0.6))
        if not implements and dice.random() < 0.15:
            return Play(seconds, text=verdict(request, "changes_requested", request.id), usage=usage)
        return Play(seconds, usage=usage)

    return script


def needs(dice: Random) -> dict[str, tuple[str, ...]]:
    names = [f"WP{number:02d}" for number in range(1, dice.choice((4, 6, 8)))]
    return {
        one: tuple(other for other in names[:place] if dice.random() < 0.4) for place, one in enumerate(names)
    }


async def run(stage: Stage) -> tuple[Samples, float, float]:
    """Run a mission; return what its journal tells, how long it took, and what it cost."""
    result = await stage.run()
    (started, *_, ended) = stage.journal.lines
    assert isinstance(started, RunStarted)
    assert isinstance(ended, RunEnded)
    cost = sum(wp.usage.cost_usd or 0.0 for wp in result.work_packages)
    return gather(stage.journal.lines), (ended.at - started.at).total_seconds(), cost


def ahead(dependencies: dict[str, tuple[str, ...]], samples: Samples, stage: Stage) -> Forecast:
    policy = longer(max_concurrent=stage.max_concurrent)
    mission = MissionState("demo", dict(stage.host.lanes), dependencies)
    began = begin(RunState(policy), RunStarted(LoopClock().midnight, mission, "driver", policy, "1"))
    found = list(simulations(began, LoopClock().midnight, samples, Random(0), most_work=100))
    forecast = foreseen(found, samples, policy.max_concurrent)
    assert forecast is not None
    return forecast


async def test_nine_of_ten_second_runs_are_within_what_the_first_one_foretold(
    stage: Callable[..., Stage],
) -> None:
    within = []
    for seed in MISSIONS:
        dice = Random(seed)
        dependencies, slots = needs(dice), dice.choice(SLOTS)
        script, settings = drawn(dice), {"policy": POLICY, "max_concurrent": slots, "latency_s": 1.0}
        first, second = (stage(dependencies, script, **settings) for _ in range(2))
        forecast = ahead(dependencies, (await run(first))[0], second)
        _, seconds, cost = await run(second)
        assert forecast.cost_usd is not None
        within.append(seconds in forecast.seconds and cost in forecast.cost_usd)
    assert sum(within) >= 0.9 * len(within)
