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


EIGHT: dict[str, tuple[str, ...]] = {f"WP{number:02d}": () for number in range(1, 9)}


class Purse:
    """Agents that cost all that they may, and what those at work may cost together at each start."""

    def __init__(self, caps: bool = True) -> None:
        self.caps, self.open, self.most_usd = caps, dict[str, float](), 0.0

    def __call__(self, request: AttemptRequest) -> Play:
        assert request.max_cost_usd is not None
        self.open[request.id] = request.max_cost_usd
        self.most_usd = max(self.most_usd, sum(self.open.values()))
        ended = Outcome.BUDGET if self.caps else Outcome.OK
        cost = request.max_cost_usd if self.caps else 0.5

        def then() -> None:
            self.open.pop(request.id)

        return Play(seconds=60, outcome=ended, usage=Usage(1, 1, cost), then=then)


async def test_what_open_attempts_may_cost_together_never_exceeds_the_budget(stage: Make) -> None:
    purse = Purse()
    mission = stage(EIGHT, purse, max_concurrent=8)
    result = await mission.run(budget=Budget(max_cost_usd=4))
    assert result.exit_code == 7
    assert purse.most_usd <= 4 + 1e-6
    assert sum(one.usage.cost_usd or 0.0 for one in result.work_packages) == pytest.approx(4)


async def test_who_finds_the_rest_kept_for_others_waits_for_one_of_them_and_says_so(stage: Make) -> None:
    purse = Purse(caps=False)
    mission = stage(EIGHT, purse, max_concurrent=8)
    with anyio.move_on_after(30):
        await mission.orchestrator(budget=Budget(max_cost_usd=4)).run()
    assert len(purse.open) == 2
    state = mission.watcher.state
    assert state is not None
    waits = [one.turn.waits for one in state.wps.values() if one.turn.grant is None]
    assert set(waits) == {"waits for money: of $4.00, $0.00 are spent and $4.00 kept for running attempts"}


async def test_those_who_could_run_at_once_get_as_much_each(stage: Make) -> None:
    purse = Purse(caps=False)
    mission = stage(EIGHT, purse, max_concurrent=4)
    with anyio.move_on_after(30):
        await mission.orchestrator(budget=Budget(max_cost_usd=40)).run()
    assert list(purse.open.values()) == [10.0] * 4


async def test_who_runs_alone_may_cost_all_that_is_left(stage: Make) -> None:
    purse = Purse(caps=False)
    mission = stage({"WP01": (), "WP02": ("WP01",), "WP03": ("WP02",)}, purse)
    assert (await mission.run(budget=Budget(max_cost_usd=10))).exit_code == 0
    asked = [one.max_cost_usd for one in mission.agents.requests]
    assert asked == [10.0, 9.5, 9.0, 8.5, 8.0, 7.5]
