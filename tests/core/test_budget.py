"""What may be spent, and what follows for a work package that has cost too much."""

from dataclasses import replace

import pytest

from spec_kitty_orchestrator.core.budget import Budget, left, moved, nearing, over, reached, total
from spec_kitty_orchestrator.core.commands import OpenAttempt, Park
from spec_kitty_orchestrator.core.events import AttemptOpened, BudgetSpent, Event
from spec_kitty_orchestrator.core.model import Outcome, Usage

from .builders import IMPLEMENTING, REVIEWING, attempt, drive, exited

NOTHING = Usage()


def spent(cost: float | None = None, tokens: int = 0) -> Usage:
    return Usage(tokens, 0, cost)


@pytest.mark.parametrize(
    ("budget", "usage", "elapsed_s", "text"),
    [
        (Budget(max_cost_usd=5), spent(5.02), 0, "$5.02 of $5.00 are spent"),
        (Budget(max_cost_usd=5), spent(4.99), 0, ""),
        (Budget(max_cost_usd=0.3), spent(0.1 + 0.2), 0, "$0.30 of $0.30 are spent"),
        (Budget(max_cost_usd=5), spent(None), 0, ""),
        (Budget(max_tokens=100), spent(tokens=100), 0, "100 of 100 tokens are used"),
        (Budget(max_tokens=100), spent(tokens=99), 0, ""),
        (Budget(max_duration_s=3600), NOTHING, 3600, "60 of 60 minutes are over"),
        (Budget(max_duration_s=3600), NOTHING, 3599, ""),
        (Budget(), spent(1e9, 10**12), 1e9, ""),
    ],
)
def test_a_limit_is_reached_when_all_of_it_is_used(
    budget: Budget, usage: Usage, elapsed_s: float, text: str
) -> None:
    assert reached(budget, usage, elapsed_s) == text


def test_each_limit_is_near_at_four_fifths() -> None:
    budget = Budget(max_cost_usd=10, max_tokens=1000, max_duration_s=100)
    assert nearing(budget, spent(7.9, 799), 79) == {}
    assert list(nearing(budget, spent(8, 800), 80)) == ["cost", "tokens", "duration"]


def test_input_and_output_count_and_costs_that_nobody_tells_do_not() -> None:
    used = total([Usage(1, 2, None), Usage(3, 4, 0.5), Usage(5, 6, 0.25)])
    assert used == Usage(9, 12, 0.75)
    assert total([Usage(1, 2, None)]).cost_usd is None
    assert reached(Budget(max_tokens=21), used, 0)


def test_a_part_that_grew_is_counted_by_what_it_grew() -> None:
    assert moved(spent(5, 100), spent(1, 10), spent(1.5, 30)) == spent(5.5, 120)
    assert moved(spent(None, 100), spent(None, 10), spent(2, 10)) == spent(2, 100)
    assert moved(spent(5, 100), spent(None, 10), spent(None, 11)) == spent(5, 101)


def test_an_attempt_may_cost_what_is_left_of_the_smaller_budget() -> None:
    both = Budget(max_cost_usd=10, max_cost_per_wp_usd=3)
    assert left(both, spent(2), spent(1)) == 2
    assert left(both, spent(9), spent(1)) == 1
    assert left(both, spent(99), spent(1)) == 0
    assert left(Budget(max_tokens=5), spent(9), spent(1)) is None


def test_a_work_package_is_over_its_own_limit_at_the_limit() -> None:
    budget = Budget(max_cost_per_wp_usd=3)
    assert over(budget, spent(2.99)) == ""
    assert over(budget, spent(3)) == "it has cost $3.00 of $3.00, the most for one work package"
    assert over(Budget(), spent(3)) == ""


@pytest.mark.parametrize(("start", "blocks"), [(IMPLEMENTING, True), (REVIEWING, False)])
def test_a_work_package_that_may_cost_no_more_is_parked_with_the_reason(
    start: tuple[Event, ...], blocks: bool
) -> None:
    assert drive((*start, BudgetSpent("too much")))[1] == Park("too much", blocks)


def test_an_agent_that_our_own_limit_ended_has_not_failed() -> None:
    capped = replace(attempt("x"), max_cost_usd=1.0)
    wp, command = drive((*IMPLEMENTING, AttemptOpened(capped), exited("x", Outcome.BUDGET)))
    assert (wp.impl_agent, type(command)) == (0, OpenAttempt)
    wp, _ = drive((*IMPLEMENTING, AttemptOpened(attempt("x")), exited("x", Outcome.BUDGET)))
    assert wp.impl_agent == 1
