"""What is known of an agent's quota, and who works while it is used up."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from spec_kitty_orchestrator.core.commands import Command, OpenAttempt, Park
from spec_kitty_orchestrator.core.events import AgentExited, AttemptOpened, Event, StandIn
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Phase, Role, WorkPackage
from spec_kitty_orchestrator.core.quota import (
    FIRST_REST_S,
    LONGEST_REST_S,
    Quota,
    Rest,
    Use,
    choose,
    noted,
)

from .builders import IMPLEMENTING, POLICY, REVIEWING, attempt, drive, exited, verdict_text

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
LIMITED = AgentReport(Outcome.RATE_LIMITED)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def told(seconds: float) -> AgentReport:
    return AgentReport(Outcome.RATE_LIMITED, retry_after_s=seconds)


def known(*reports: tuple[float, AgentReport]) -> Quota | None:
    quotas: dict[str, Quota] = {}
    for at, report in reports:
        quotas = noted(quotas, "ada", report, after(at))
    return quotas.get("ada")


def test_an_agent_rests_until_the_time_that_it_tells() -> None:
    assert known((0, told(7200))) == Quota(after(7200), 1)


def test_an_agent_that_tells_no_time_rests_for_longer_each_time_it_is_limited_again() -> None:
    at, rests, reports = 0.0, [], []
    for _ in range(8):
        reports.append((at, LIMITED))
        quota = known(*reports)
        assert quota is not None
        rests.append((quota.until - after(at)).total_seconds())
        at += rests[-1]
    assert rests == [60, 120, 240, 480, 960, 1800, 1800, 1800]
    assert (rests[0], rests[-1]) == (FIRST_REST_S, LONGEST_REST_S)


def test_a_time_that_was_wrong_is_not_believed_again() -> None:
    assert known((0, told(1)), (1, told(1))) == Quota(after(121), 2)
    assert known((0, told(1)), (1, told(0))) == Quota(after(121), 2)
    assert known((0, told(1)), (1, told(5000))) == Quota(after(5001), 2)


def test_others_that_meet_the_same_limit_are_no_further_strikes() -> None:
    assert known((0, LIMITED), (10, LIMITED), (20, LIMITED)) == Quota(after(60), 1)
    assert known((0, LIMITED), (10, told(300))) == Quota(after(310), 1)
    assert known((0, told(300)), (10, told(5))) == Quota(after(300), 1)


def test_an_attempt_that_ends_well_clears_the_record_and_another_failure_does_not() -> None:
    assert known((0, LIMITED), (60, AgentReport(Outcome.OK)), (70, LIMITED)) == Quota(after(130), 1)
    assert known((0, LIMITED), (60, AgentReport(Outcome.CRASHED)), (70, LIMITED)) == Quota(after(190), 2)


def test_the_quotas_of_other_agents_are_untouched() -> None:
    assert noted({"eve": Quota(NOON, 3)}, "ada", LIMITED, NOON)["eve"] == Quota(NOON, 3)


AGENTS = ("ada", "eve", "ida")


@pytest.mark.parametrize(
    ("positions", "quotas", "tried", "expected"),
    [
        ((0, 1), {}, (), Use(0)),
        ((0, 1), {"ada": 60}, (), Use(1)),
        ((0,), {"ada": 60}, (), Rest("ada", after(60))),
        ((0, 1, 2), {"ada": 60, "eve": 30, "ida": 90}, (), Rest("eve", after(30))),
        ((0, 1), {"ada": 0}, (), Use(0)),
        ((0, 1), {"ada": -9}, ("ada",), Use(1)),
        ((0,), {"ada": -9}, ("ada",), Rest("ada", None)),
        ((0, 1), {"ada": 60, "eve": 0}, ("eve",), Rest("eve", None)),
    ],
)
def test_the_most_wanted_agent_that_may_work_is_chosen(
    positions: tuple[int, ...], quotas: dict[str, float], tried: Iterable[str], expected: Use | Rest
) -> None:
    rests = {agent: Quota(after(until), 1) for agent, until in quotas.items()}
    assert choose(AGENTS, positions, rests, NOON, set(tried)) == expected


def test_a_rest_says_until_when() -> None:
    assert Rest("ada", after(60)).reason == "waits for ada: its quota is used up until 2026-05-01 12:01 UTC"
    assert "tries whether its quota is back" in Rest("ada", None).reason


def limited(name: str, agent: str, role: Role = Role.IMPLEMENT) -> tuple[Event, ...]:
    return (
        AttemptOpened(attempt(name, role, agent)),
        AgentExited(name, AgentReport(Outcome.RATE_LIMITED, retry_after_s=60)),
    )


def next_of(found: tuple[WorkPackage, Command]) -> str:
    command = found[1]
    assert isinstance(command, OpenAttempt)
    return command.agent


@pytest.mark.parametrize("start", [IMPLEMENTING, REVIEWING], ids=["implement", "review"])
def test_a_limit_charges_nothing_and_leaves_the_order_as_it_is(start: tuple[Event, ...]) -> None:
    role = Role.IMPLEMENT if start is IMPLEMENTING else Role.REVIEW
    own = "alice" if role is Role.IMPLEMENT else "bob"
    events = [event for number in range(40) for event in limited(f"x{number}", own, role)]
    wp, command = drive((*start, *events))
    assert next_of((wp, command)) == own
    assert (wp.unusable, wp.rejected, wp.verdict) == (0, (), None)


def test_limits_between_failures_are_not_failures() -> None:
    crash = (AttemptOpened(attempt("c1")), exited("c1", Outcome.CRASHED))
    again = (AttemptOpened(attempt("c2")), exited("c2", Outcome.CRASHED))
    found = drive((*IMPLEMENTING, *crash, *limited("l1", "alice"), *again, *limited("l2", "alice")))
    assert next_of(found) == "alice"
    third = (AttemptOpened(attempt("c3")), exited("c3", Outcome.CRASHED))
    assert next_of(drive(third, wp=found[0])) == "ann"


def test_a_stand_in_makes_one_attempt_and_then_it_is_the_turn_of_the_first_again() -> None:
    events = (*IMPLEMENTING, *limited("x1", "alice"), StandIn(Role.IMPLEMENT, 1))
    found = drive(events)
    assert next_of(found) == "ann"
    found = drive((AttemptOpened(attempt("s1", agent="ann")), exited("s1", Outcome.CRASHED)), wp=found[0])
    assert next_of(found) == "alice"
    assert (found[0].impl_agent, found[0].stand_in) == (0, -1)


def test_a_stand_in_that_goes_on_failing_is_asked_no_more_and_the_order_is_kept() -> None:
    events: list[Event] = [*IMPLEMENTING]
    for number in range(2):
        events += [
            *limited(f"x{number}", "alice"),
            StandIn(Role.IMPLEMENT, 1),
            AttemptOpened(attempt(f"s{number}", agent="ann")),
            exited(f"s{number}", Outcome.FAILED),
        ]
    wp, command = drive(events)
    assert next_of((wp, command)) == "alice"
    assert (wp.impl_agent, wp.stand_in_after) == (0, 1)


def test_a_stand_in_that_ends_well_may_be_asked_again() -> None:
    crash = (StandIn(Role.IMPLEMENT, 1), AttemptOpened(attempt("s", agent="ann")), exited("s", Outcome.AUTH))
    wp, _ = drive((*IMPLEMENTING, *limited("x", "alice"), *crash))
    assert wp.stand_in_after == 1
    wp, _ = drive((AttemptOpened(attempt("i")), exited("i")), wp=wp)
    assert (wp.phase, wp.stand_in_after) == (Phase.COMMITTING, 0)


def test_a_stand_in_that_gives_no_usable_verdict_does_not_count_against_the_first_reviewer() -> None:
    stand_in = (
        StandIn(Role.REVIEW, 1),
        AttemptOpened(attempt("s", Role.REVIEW, "ben")),
        exited("s", text="LGTM"),
    )
    found = drive((*REVIEWING, *limited("x", "bob", Role.REVIEW), *stand_in))
    assert next_of(found) == "bob"
    assert (found[0].unusable, found[0].review_agent, found[0].stand_in_after) == (0, 0, 1)


def test_the_verdict_of_a_stand_in_is_its_own() -> None:
    events = (
        *REVIEWING,
        *limited("x", "bob", Role.REVIEW),
        StandIn(Role.REVIEW, 1),
        AttemptOpened(attempt("s", Role.REVIEW, "ben")),
        exited("s", text=verdict_text("s")),
    )
    wp, _ = drive(events)
    assert wp.verdict is not None
    assert wp.verdict.reviewer == "ben"
    assert wp.last_agent(Role.REVIEW, POLICY) == "ben"
    assert wp.last_agent(Role.IMPLEMENT, POLICY) == "alice"


def test_the_last_attempt_of_the_first_agent_is_followed_by_the_next_one_whoever_stood_in() -> None:
    wp, command = drive((*IMPLEMENTING, *limited("x", "alice"), StandIn(Role.IMPLEMENT, 1)))
    stood = (AttemptOpened(attempt("s", agent="ann")), exited("s", Outcome.AUTH))
    wp, _ = drive(stood, wp=wp)
    wp, command = drive((AttemptOpened(attempt("a")), exited("a", Outcome.AUTH)), wp=wp)
    assert next_of((wp, command)) == "ann"
    _, command = drive((AttemptOpened(attempt("b", agent="ann")), exited("b", Outcome.AUTH)), wp=wp)
    assert isinstance(command, Park)
