"""What follows an attempt that did not end ok."""

from dataclasses import replace

import pytest

from spec_kitty_orchestrator.core.model import Outcome
from spec_kitty_orchestrator.core.retry import JITTER, REFUSED, RETRIES, Fallback, GiveUp, Retry, next_move

from .builders import POLICY

ID = "attempt-1"


def test_every_outcome_that_says_something_about_one_attempt_has_a_number_of_retries() -> None:
    assert set(RETRIES) == set(Outcome) - {Outcome.OK, Outcome.CANCELED, Outcome.RATE_LIMITED}


@pytest.mark.parametrize("outcome", RETRIES)
def test_an_agent_is_tried_again_as_often_as_its_outcome_allows_then_the_next_then_nobody(
    outcome: Outcome,
) -> None:
    for failures in range(1, RETRIES[outcome] + 1):
        assert isinstance(next_move(outcome, failures, True, POLICY, ID), Retry)
    after = RETRIES[outcome] + 1
    assert next_move(outcome, after, True, POLICY, ID) == Fallback()
    gone = next_move(outcome, after + (outcome in REFUSED), False, POLICY, ID)
    assert isinstance(gone, GiveUp)
    assert outcome.value in gone.reason


@pytest.mark.parametrize("outcome", sorted(REFUSED))
def test_the_last_agent_is_tried_once_more_after_a_refusal_that_may_be_of_all_its_work(
    outcome: Outcome,
) -> None:
    assert next_move(outcome, 1, False, POLICY, ID) == Retry(0.0)
    assert next_move(outcome, 1, True, POLICY, ID) == Fallback()


def waits(attempt_id: str, base_s: float, cap_s: float) -> list[float]:
    policy = replace(POLICY, retry_base_s=base_s, retry_cap_s=cap_s)
    moves = [
        next_move(Outcome.OVERLOADED, failures, False, policy, attempt_id)
        for failures in range(1, RETRIES[Outcome.OVERLOADED] + 1)
    ]
    return [move.after_s for move in moves if isinstance(move, Retry)]


@pytest.mark.parametrize("attempt_id", ["a", "b", "c" * 32, "\udc80"])
def test_the_back_off_doubles_around_its_base_and_is_the_same_at_each_replay(attempt_id: str) -> None:
    found = waits(attempt_id, 10.0, 300.0)
    assert found == waits(attempt_id, 10.0, 300.0)
    assert found == pytest.approx([found[0], 2 * found[0], 4 * found[0]])
    assert 10.0 * (1 - JITTER) <= found[0] <= 10.0 * (1 + JITTER)


def test_the_back_off_of_attempts_that_failed_together_differs() -> None:
    firsts = {waits(f"attempt{number}", 10.0, 300.0)[0] for number in range(50)}
    assert len(firsts) == 50
    assert min(firsts) < 9.0
    assert max(firsts) > 11.0


def test_the_back_off_is_never_longer_than_its_cap() -> None:
    assert waits(ID, 100.0, 50.0) == [50.0, 50.0, 50.0]


@pytest.mark.parametrize("outcome", [Outcome.CRASHED, Outcome.TIMEOUT, Outcome.LOST, Outcome.FAILED])
def test_an_outcome_that_time_does_not_mend_is_not_waited_for(outcome: Outcome) -> None:
    assert next_move(outcome, 1, True, POLICY, ID) == Retry(0.0)
