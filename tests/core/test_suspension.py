"""Which ends of attempts are alike, and when they show that an agent is broken."""

from datetime import timedelta

import pytest
from tests.core.builders import NOON, exited

from spec_kitty_orchestrator.core.causes import likeness
from spec_kitty_orchestrator.core.events import AgentExited
from spec_kitty_orchestrator.core.model import AgentReport, Outcome
from spec_kitty_orchestrator.core.suspension import Failures, Suspension, failed_again, suspended_by

ALIKE = [
    ("boom in /work/a/WP01 after 3.2 s", "Boom in /work/b/lane-c after 12 s"),
    ("API Error: 401 request req_011CSHoEeqs5C35K2", "API error: 401, request req_9zz1"),
    ("2026-01-02T03:04:05Z no such model gpt-7", "2026-11-28T01:00:00Z no such model gpt-7.1"),
    ("WP01, WP02: lost", "WP03: lost"),
    ("", "   "),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_reasons_are_alike_that_differ_in_numbers_paths_ids_and_times(one: str, other: str) -> None:
    assert likeness(one) == likeness(other)


def test_reasons_in_other_words_are_not_alike() -> None:
    assert likeness("no such model") != likeness("not logged in")


def failures(outcome: Outcome, *wps: str, detail: str = "boom") -> Failures:
    known = None
    for wp in wps:
        known = failed_again(known, wp, AgentReport(outcome, detail=detail), 9.0)
    assert known is not None
    return known


@pytest.mark.parametrize(
    ("outcome", "wps", "shown"),
    [
        (Outcome.FAILED, ("WP01", "WP02"), False),
        (Outcome.FAILED, ("WP01", "WP01", "WP02"), True),
        (Outcome.FAILED, ("WP01", "WP01", "WP01"), False),
        (Outcome.AUTH, ("WP01", "WP02"), True),
        (Outcome.AUTH, ("WP01", "WP01"), False),
    ],
)
def test_three_attempts_on_two_work_packages_show_that_an_agent_is_broken_and_two_refused_logins(
    outcome: Outcome, wps: tuple[str, ...], shown: bool
) -> None:
    assert failures(outcome, *wps).show(outcome) is shown


def test_another_reason_or_another_kind_of_end_begins_the_count_anew() -> None:
    known = failures(Outcome.FAILED, "WP01", "WP02")
    assert failed_again(known, "WP03", AgentReport(Outcome.FAILED, detail="no model"), 1.0).wps == ("WP03",)
    assert failed_again(known, "WP03", AgentReport(Outcome.CRASHED, detail="boom"), 1.0).wps == ("WP03",)


def test_a_broken_agent_rests_longer_each_time_that_an_attempt_shows_it_up_to_half_an_hour() -> None:
    known: Suspension | None = None
    at, rests = NOON, list[float]()
    found = failures(Outcome.FAILED, "WP01", "WP02", "WP03")
    for _ in range(4):
        known = suspended_by(known, found, exited("i1", Outcome.FAILED), at, at + timedelta(seconds=9))
        assert known is not None
        rests.append(known.rest_s)
        at = known.until
    assert rests == [600.0, 1200.0, 1800.0, 1800.0]
    assert known is not None
    assert "tried again in 30 min" in known.told
    # A quota says nothing about how often it was broken before.
    limited = AgentExited("i1", AgentReport(Outcome.RATE_LIMITED))
    after_it = suspended_by(known, None, limited, at, at + timedelta(seconds=9))
    assert after_it is not None
    assert after_it.rest_s == 60.0
