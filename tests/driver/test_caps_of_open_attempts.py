"""An attempt is judged by the cap that it was opened with, whatever may be spent when it ends."""

from collections.abc import Callable

import anyio
import pytest
from tests.driver.builders import Stage
from tests.driver.troubles import attempts

from spec_kitty_orchestrator.core.model import Lane, Outcome, Role, Usage
from spec_kitty_orchestrator.core.policy import Budget
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]
RAISED = {
    "of the run": (Budget(max_cost_usd=5.0), Budget(max_cost_usd=10.0)),
    "of a work package": (Budget(max_cost_per_wp_usd=2.0), Budget(max_cost_per_wp_usd=20.0)),
    "of the run, now per work package": (Budget(max_cost_usd=5.0), Budget(max_cost_per_wp_usd=20.0)),
    "of a work package, now of the run": (Budget(max_cost_per_wp_usd=2.0), Budget(max_cost_usd=20.0)),
    "lifted": (Budget(max_cost_usd=5.0), Budget()),
    "both, the smaller one raised": (
        Budget(max_cost_usd=50.0, max_cost_per_wp_usd=2.0),
        Budget(max_cost_usd=50.0, max_cost_per_wp_usd=20.0),
    ),
}


def ends_at_its_cap(role: Role) -> Callable[[AttemptRequest], Play]:
    def script(request: AttemptRequest) -> Play:
        first = request.role is role and request.number == (1 if role is Role.IMPLEMENT else 2)
        if first:
            cap = request.max_cost_usd or 0.0
            return Play(seconds=100, outcome=Outcome.BUDGET, usage=Usage(1, 1, cap - 0.01))
        return Play(usage=Usage(1, 1, 0.1))

    return script


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("raised", RAISED)
async def test_an_attempt_that_ends_at_an_earlier_cap_does_not_use_up_a_raised_one(
    stage: Make, raised: str, role: Role
) -> None:
    before, now = RAISED[raised]
    mission = stage({"WP01": ()}, ends_at_its_cap(role))
    with anyio.move_on_after(50):
        await mission.orchestrator(budget=before).run()
    result = await mission.run(budget=now)
    assert (result.exit_code, result.ended, dict(result.reasons)) == (0, "", {})
    assert len(attempts(mission)) == 3


async def test_an_attempt_that_ends_at_an_earlier_higher_cap_is_over_a_lowered_one(stage: Make) -> None:
    mission = stage({"WP01": ()}, ends_at_its_cap(Role.IMPLEMENT))
    with anyio.move_on_after(50):
        await mission.orchestrator(budget=Budget(max_cost_usd=10.0)).run()
    result = await mission.run(budget=Budget(max_cost_usd=5.0))
    assert result.exit_code == 7
    assert "$9.99 of $5.00" in result.ended
    assert len(attempts(mission)) == 1


async def test_an_attempt_that_ends_at_the_cap_of_this_start_uses_it_up_as_before(stage: Make) -> None:
    mission = stage({"WP01": ()}, ends_at_its_cap(Role.IMPLEMENT))
    with anyio.move_on_after(50):
        await mission.orchestrator(budget=Budget(max_cost_usd=5.0)).run()
    result = await mission.run(budget=Budget(max_cost_usd=5.0))
    assert result.exit_code == 7
    assert mission.host.lanes == {"WP01": Lane.IN_PROGRESS}
    assert len(attempts(mission)) == 1


async def test_a_cap_that_was_reached_once_does_not_hold_a_later_start_with_a_higher_one(stage: Make) -> None:
    mission = stage({"WP01": ()}, ends_at_its_cap(Role.IMPLEMENT))
    assert (await mission.run(budget=Budget(max_cost_usd=5.0))).exit_code == 7
    assert (await mission.run(budget=Budget(max_cost_usd=10.0))).exit_code == 0
