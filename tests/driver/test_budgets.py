"""Budgets: what a run does at four fifths of one, at its end, and with a work package that costs too much."""

from collections.abc import Callable

import anyio
import pytest
from tests.driver.builders import Stage, closed, longer, scripted

from spec_kitty_orchestrator.core.model import Lane, Outcome, Role, Usage
from spec_kitty_orchestrator.core.policy import Budget
from spec_kitty_orchestrator.core.run_events import BudgetNearing, RunEnded, RunStarted
from spec_kitty_orchestrator.driver.shutdown import STOP_GRACE_S
from spec_kitty_orchestrator.testing.scripted_agents import Play, verdict

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]
DOLLAR = Play(usage=Usage(600, 400, 1.0))
CHAIN = {"WP01": (), "WP02": ("WP01",), "WP03": ("WP02",)}


@pytest.mark.parametrize(
    "budget",
    [Budget(max_cost_usd=3), Budget(max_tokens=3000), Budget(max_duration_s=3.5)],
    ids=["cost", "tokens", "duration"],
)
async def test_at_the_limit_nothing_starts_and_a_start_with_more_goes_on(stage: Make, budget: Budget) -> None:
    mission = stage(CHAIN, lambda r: Play(seconds=1, usage=DOLLAR.usage))
    result = await mission.run(budget=budget)
    assert result.exit_code == 7
    assert "the budget is used up" in result.ended
    assert mission.host.lanes["WP01"] is Lane.DONE
    assert mission.host.lanes["WP03"] is Lane.PLANNED
    assert mission.host.lanes["WP02"] in (Lane.FOR_REVIEW, Lane.DONE)
    assert all(result.reasons[one] for one in ("WP02", "WP03") if one in result.reasons)
    assert isinstance(mission.journal.lines[-1], RunEnded)
    assert "the budget is used up" in mission.journal.lines[-1].summary
    assert (await mission.run()).exit_code == 0
    assert len(mission.agents.requests) == 6


async def test_running_attempts_end_and_their_work_is_submitted(stage: Make) -> None:
    mission = stage(
        {"WP01": (), "WP02": ()},
        scripted(WP01_implement=Play(seconds=5, usage=Usage(0, 0, 9.0)), WP02_implement=Play(seconds=50)),
    )
    result = await mission.run(budget=Budget(max_cost_usd=9))
    assert result.exit_code == 7
    assert mission.host.lanes == {"WP01": Lane.FOR_REVIEW, "WP02": Lane.FOR_REVIEW}
    assert mission.agents.graces == []


async def test_a_hard_budget_stops_running_attempts_and_the_next_start_finishes_their_work(
    stage: Make,
) -> None:
    mission = stage(
        {"WP01": (), "WP02": ()},
        scripted(WP01_implement=Play(seconds=5, usage=Usage(0, 0, 9.0)), WP02_implement=Play(seconds=50)),
    )
    began = anyio.current_time()
    result = await mission.run(budget=Budget(max_cost_usd=9, hard=True))
    assert result.exit_code == 7
    assert mission.agents.graces == [STOP_GRACE_S]
    assert mission.agents.running == []
    assert anyio.current_time() - began < 20
    assert (await mission.run()).exit_code == 0


async def test_the_time_of_a_run_stops_attempts_only_if_the_budget_is_hard(stage: Make) -> None:
    soft, hard = (stage({"WP01": ()}, lambda r: Play(seconds=500)) for _ in range(2))
    began = anyio.current_time()
    assert (await soft.run(budget=Budget(max_duration_s=100))).exit_code == 7
    assert anyio.current_time() - began == pytest.approx(500, abs=1)
    began = anyio.current_time()
    assert (await hard.run(budget=Budget(max_duration_s=100, hard=True))).exit_code == 7
    assert anyio.current_time() - began == pytest.approx(100, abs=1)


async def test_each_limit_is_warned_of_once(stage: Make) -> None:
    mission = stage(CHAIN, lambda r: DOLLAR)
    budget = Budget(max_cost_usd=6.5, max_tokens=6500, max_duration_s=7)
    assert (await mission.run(budget=budget)).exit_code == 0
    said = [one.text for _, one in mission.watcher.events if isinstance(one, BudgetNearing)]
    assert len(said) == 3
    assert [sum(word in one for one in said) for word in ("$", "tokens", " over")] == [1, 1, 1]


async def test_money_of_earlier_starts_counts_and_their_time_does_not(stage: Make) -> None:
    mission = stage(CHAIN, lambda r: DOLLAR)
    assert (await mission.run(budget=Budget(max_cost_usd=2))).exit_code == 7
    before = len(mission.agents.requests)
    calls = mission.calls()["start-implementation"]
    assert (await mission.run(budget=Budget(max_cost_usd=2))).exit_code == 7
    assert len(mission.agents.requests) == before
    assert mission.calls()["start-implementation"] == calls
    assert (await mission.run(budget=Budget(max_duration_s=100))).exit_code == 0


async def test_a_mission_that_is_done_with_its_last_dollar_ended_well(stage: Make) -> None:
    mission = stage({"WP01": ()}, lambda r: DOLLAR)
    result = await mission.run(budget=Budget(max_cost_usd=2))
    assert (result.exit_code, result.ended) == (0, "")


async def test_a_work_package_that_costs_too_much_is_parked_and_the_others_go_on(stage: Make) -> None:
    mission = stage(
        {"WP01": (), "WP02": ()},
        scripted(
            WP01_implement=DOLLAR,
            WP01_review=lambda r: Play(
                text=verdict(r, "changes_requested", f"mend {chr(96 + r.number) * 5}"), usage=DOLLAR.usage
            ),
        ),
        policy=longer(max_review_cycles=9),
    )
    result = await mission.run(budget=Budget(max_cost_per_wp_usd=4))
    assert result.exit_code == 1
    assert result.reasons == {"WP01": "it has cost $4.00 of $4.00, the most for one work package"}
    assert mission.host.lanes == {"WP01": Lane.BLOCKED, "WP02": Lane.DONE}
    assert len([one for one in mission.agents.requests if one.wp_id == "WP01"]) == 4


async def test_a_work_package_whose_review_would_cost_too_much_is_left_for_review(stage: Make) -> None:
    mission = stage({"WP01": ()}, scripted(implement=DOLLAR))
    result = await mission.run(budget=Budget(max_cost_per_wp_usd=1))
    assert result.exit_code == 1
    assert mission.host.lanes == {"WP01": Lane.FOR_REVIEW}
    assert "it has cost $1.00" in result.reasons["WP01"]


def capped(mission: Stage, cost: float | None) -> Stage:
    """Let implementers end by themselves when they have cost what they may."""
    ends = Play(outcome=Outcome.BUDGET, usage=Usage(0, 0, cost))
    mission.agents.script = lambda r: Play() if r.max_cost_usd is None or r.role is Role.REVIEW else ends
    return mission


async def test_an_agent_is_told_what_is_left_of_the_smaller_budget(stage: Make) -> None:
    mission = stage({"WP01": ()}, lambda r: DOLLAR)
    await mission.run(budget=Budget(max_cost_usd=10, max_cost_per_wp_usd=4))
    assert [one.max_cost_usd for one in mission.agents.requests] == [4.0, 3.0]
    other = stage({"WP01": ()}, lambda r: DOLLAR)
    await other.run(budget=Budget(max_tokens=10**6))
    assert [one.max_cost_usd for one in other.agents.requests] == [None, None]


@pytest.mark.parametrize("cost", [5.0, 4.7, None])
async def test_an_agent_that_ends_at_the_limit_of_the_run_ends_the_run_and_blocks_nothing(
    stage: Make, cost: float | None
) -> None:
    mission = capped(stage({"WP01": ()}), cost)
    result = await mission.run(budget=Budget(max_cost_usd=5))
    assert result.exit_code == 7
    assert len(mission.agents.requests) == 1
    assert mission.host.lanes == {"WP01": Lane.IN_PROGRESS}
    assert (await mission.run()).exit_code == 0


@pytest.mark.parametrize("cost", [5.0, 4.7, None])
async def test_an_agent_that_ends_at_the_limit_of_its_work_package_parks_it(
    stage: Make, cost: float | None
) -> None:
    mission = capped(stage({"WP01": ()}), cost)
    result = await mission.run(budget=Budget(max_cost_usd=50, max_cost_per_wp_usd=5))
    assert result.exit_code == 1
    assert len(mission.agents.requests) == 1
    assert mission.host.lanes == {"WP01": Lane.BLOCKED}
    assert "of $5.00, the most for one work package" in result.reasons["WP01"]


async def test_the_budget_of_a_start_is_in_its_journal(stage: Make) -> None:
    budget = Budget(max_cost_usd=5, max_tokens=7, hard=True)
    mission = stage({"WP01": ()})
    await mission.run(budget=budget)
    assert [one.policy.budget for one in mission.journal.lines if isinstance(one, RunStarted)] == [budget]


async def test_who_drains_is_warned_too(stage: Make) -> None:
    dear = Usage(1, 1, 4.5)
    mission = stage(
        {"WP01": (), "WP02": ()},
        scripted(WP01_implement=Play(seconds=10, usage=dear), WP02_implement=Play(seconds=100)),
        policy=longer(budget=Budget(max_cost_usd=5)),
    )
    engine = mission.orchestrator()
    await closed(engine, 5, engine.drain)
    assert [one.event for one in mission.watcher.entries if isinstance(one.event, BudgetNearing)]
