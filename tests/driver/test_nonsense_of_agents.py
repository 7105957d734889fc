"""A number that an agent's module made up is bounded before it is kept: no later start fails of it."""

import math
from collections.abc import Callable

import pytest
from tests.driver.builders import Stage, longer
from tests.driver.troubles import HOUR_S, events, exit_code

from spec_kitty_orchestrator.core.events import AgentExited
from spec_kitty_orchestrator.core.model import Outcome, Role, Usage
from spec_kitty_orchestrator.core.policy import Budget, Patience
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]
NONSENSE = [1e12, 1e300, math.inf, -math.inf, math.nan, -1.0, -1e12]
MOST_S = 366 * 24 * HOUR_S
"""No quota rests longer than this, whatever an agent says."""


@pytest.mark.parametrize("told_s", NONSENSE)
@pytest.mark.parametrize("outcome", [Outcome.RATE_LIMITED, Outcome.OVERLOADED, Outcome.OK, Outcome.FAILED])
@pytest.mark.parametrize("role", Role)
async def test_no_start_fails_of_the_end_of_a_limit_that_an_agent_made_up(
    stage: Make, role: Role, outcome: Outcome, told_s: float
) -> None:
    def script(request: AttemptRequest) -> Play:
        if request.role is role and len(mission.agents.requests) == (1 if role is Role.IMPLEMENT else 2):
            return Play(outcome=outcome, retry_after_s=told_s)
        return Play()

    mission: Stage = stage({"WP01": ()}, script)
    for _ in range(3):
        assert await exit_code(mission.run(patience=Patience(max_wait_s=HOUR_S))) in (0, 75)


@pytest.mark.parametrize("told_s", NONSENSE)
async def test_what_the_journal_keeps_of_it_is_a_number_that_can_be_a_time(
    stage: Make, told_s: float
) -> None:
    mission = stage({"WP01": ()}, lambda r: Play(outcome=Outcome.RATE_LIMITED, retry_after_s=told_s))
    await exit_code(mission.run())
    kept = [one.report.retry_after_s for one in events(mission, AgentExited)]
    assert kept
    assert all(one is None or 0.0 <= one <= MOST_S for one in kept)


async def test_a_made_up_limit_of_one_agent_keeps_no_other_from_working(stage: Make) -> None:
    mission = stage(
        {"WP01": (), "WP02": ()},
        lambda r: Play(outcome=Outcome.RATE_LIMITED, retry_after_s=1e12) if r.agent == "ada" else Play(),
        policy=longer(impl_agents=("ada", "eve")),
    )
    assert await exit_code(mission.run()) == 0
    assert await exit_code(mission.run()) == 0


@pytest.mark.parametrize("cost", [math.inf, math.nan, -5.0])
async def test_a_cost_that_an_agent_made_up_neither_lifts_nor_uses_up_a_budget(
    stage: Make, cost: float
) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",)}, lambda r: Play(usage=Usage(1, 1, cost)))
    for _ in range(2):
        assert await exit_code(mission.run(budget=Budget(max_cost_usd=5.0))) in (0, 7)
    kept = [one.report.usage.cost_usd for one in events(mission, AgentExited)]
    assert all(one is None or (math.isfinite(one) and one >= 0.0) for one in kept)
