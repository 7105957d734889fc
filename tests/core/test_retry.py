"""What follows an attempt that did not end ok."""

from dataclasses import replace

import pytest

from spec_kitty_orchestrator.core.model import Outcome
from spec_kitty_orchestrator.core.retry import RETRIES, Fallback, GiveUp, Retry, next_move

from .builders import POLICY


def test_every_outcome_but_ok_and_canceled_has_a_number_of_retries() -> None:
    assert set(RETRIES) == set(Outcome) - {Outcome.OK, Outcome.CANCELED}


@pytest.mark.parametrize("outcome", RETRIES)
def test_an_agent_is_tried_again_as_often_as_its_outcome_allows_then_the_next_then_nobody(
    outcome: Outcome,
) -> None:
    for failures in range(1, RETRIES[outcome] + 1):
        assert isinstance(next_move(outcome, failures, True, None, POLICY), Retry)
    after = RETRIES[outcome] + 1
    assert next_move(outcome, after, True, None, POLICY) == Fallback()
    gone = next_move(outcome, after, False, None, POLICY)
    assert isinstance(gone, GiveUp)
    assert outcome.value in gone.reason


def test_a_stopped_attempt_is_followed_by_another_at_once() -> None:
    assert next_move(Outcome.CANCELED, 99, False, None, POLICY) == Retry(0.0)


@pytest.mark.parametrize("outcome", [Outcome.OVERLOADED, Outcome.RATE_LIMITED])
def test_the_back_off_doubles_up_to_its_cap(outcome: Outcome) -> None:
    policy = replace(POLICY, retry_base_s=10.0, retry_cap_s=30.0)
    moves = [next_move(outcome, failures, False, None, policy) for failures in (1, 2, 3)]
    assert moves == [Retry(10.0), Retry(20.0), Retry(30.0)]


def test_a_longer_time_that_the_agent_tells_is_kept_and_a_shorter_one_is_not() -> None:
    assert next_move(Outcome.RATE_LIMITED, 1, False, 3_600.0, POLICY) == Retry(3_600.0)
    assert next_move(Outcome.RATE_LIMITED, 1, False, 1.0, POLICY) == Retry(10.0)


@pytest.mark.parametrize("outcome", [Outcome.CRASHED, Outcome.TIMEOUT, Outcome.LOST, Outcome.FAILED])
def test_an_outcome_that_time_does_not_mend_is_not_waited_for(outcome: Outcome) -> None:
    assert next_move(outcome, 1, True, 3_600.0, POLICY) == Retry(0.0)


def test_a_quota_that_is_used_up_for_hours_is_left_to_the_next_agent_if_there_is_one() -> None:
    hours = 5 * 3600.0
    assert next_move(Outcome.RATE_LIMITED, 1, True, hours, POLICY) == Fallback()
    assert next_move(Outcome.RATE_LIMITED, 1, False, hours, POLICY) == Retry(hours)
