"""A start joins the host's lanes with what the journal knows."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from spec_kitty_orchestrator.core.commands import Claim, ClaimReview, OpenAttempt, RunAgent
from spec_kitty_orchestrator.core.events import (
    AgentExited,
    AttemptOpened,
    Committed,
    Event,
    Parked,
    Recorded,
    Scheduled,
    Submitted,
    WorkspaceFailed,
)
from spec_kitty_orchestrator.core.lifecycle import resume, step
from spec_kitty_orchestrator.core.model import (
    AgentReport,
    Evidence,
    Lane,
    MissionState,
    Outcome,
    Phase,
    Policy,
    Result,
    Role,
    WorkPackage,
)
from spec_kitty_orchestrator.driver.recover import fitted, fold, seen, start
from spec_kitty_orchestrator.errors import InvalidTransition
from spec_kitty_orchestrator.ports import Entry, Line, RunEnded, RunStarted

from .builders import (
    APPROVING,
    BASE,
    CLAIMING_REVIEW,
    COMMITTING,
    IMPLEMENTING,
    OTHER,
    POLICY,
    REJECTING,
    REVIEW_RUNNING,
    REVIEWING,
    RUNNING,
    SPACE,
    SUBMITTING,
    attempt,
    drive,
    exited,
    one_agent,
    report_text,
    verdict_text,
)

AT = datetime(2026, 1, 1, tzinfo=UTC)
LATER = Policy(("alice",), ("bob",))
EARLIER = Policy(POLICY.impl_agents, POLICY.review_agents)
"""What a journal of the version before holds: it names none of the rules that were added since."""


def journal(*events: Event, policy: Policy = POLICY) -> list[Line]:
    return [RunStarted(AT, "m", "me", policy, "1"), *(Entry(AT, "WP01", one) for one in events)]


def started(lane: Lane, *events: Event) -> WorkPackage:
    state = MissionState("m", {"WP01": lane}, {"WP01": ("WP00",)})
    return start(state, fold(journal(*events), POLICY), POLICY)["WP01"]


UNKNOWN = {
    Lane.PLANNED: (Phase.WAITING, None),
    Lane.CLAIMED: (Phase.WAITING, None),
    Lane.IN_PROGRESS: (Phase.WAITING, None),
    Lane.FOR_REVIEW: (Phase.WAITING, None),
    Lane.IN_REVIEW: (Phase.FINISHED, Result.FOREIGN),
    Lane.APPROVED: (Phase.FINISHED, Result.APPROVED),
    Lane.DONE: (Phase.FINISHED, Result.DONE),
    Lane.BLOCKED: (Phase.FINISHED, Result.BLOCKED),
    Lane.CANCELED: (Phase.FINISHED, Result.CANCELED),
}


@pytest.mark.parametrize("lane", Lane)
def test_without_a_journal_the_lane_alone_decides(lane: Lane) -> None:
    wp = started(lane)
    assert (wp.phase, wp.result) == UNKNOWN[lane]
    assert (wp.lane, wp.dependencies) == (lane, ("WP00",))


GOES_ON = {
    "work in progress goes on with a new attempt": (IMPLEMENTING, Lane.IN_PROGRESS, OpenAttempt),
    "an open attempt is found again": (RUNNING, Lane.IN_PROGRESS, RunAgent),
    "work that was sent for review is claimed for review": (CLAIMING_REVIEW, Lane.FOR_REVIEW, ClaimReview),
    "a review that we began goes on": (REVIEWING, Lane.IN_REVIEW, OpenAttempt),
    "an open review is found again": (REVIEW_RUNNING, Lane.IN_REVIEW, RunAgent),
    "work that somebody planned anew is claimed": (IMPLEMENTING, Lane.PLANNED, Claim),
    "a review that somebody sent back is claimed": (REVIEWING, Lane.IN_PROGRESS, Claim),
}


@pytest.mark.parametrize(("events", "lane", "command"), GOES_ON.values(), ids=GOES_ON)
def test_what_the_journal_knows_goes_on_where_it_was_left(
    events: tuple[Event, ...], lane: Lane, command: type
) -> None:
    _, following = step(started(lane, *events), Scheduled(lane, SPACE), POLICY)
    assert type(following) is command


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("events", [RUNNING, COMMITTING, SUBMITTING, APPROVING])
def test_what_is_open_unsubmitted_or_unrecorded_goes_first_whatever_the_lane(
    events: tuple[Event, ...], lane: Lane
) -> None:
    left, pending = drive(events)
    wp = started(lane, *events)
    assert wp.phase is left.phase
    assert resume(wp, POLICY) == pending


PARKED = (*REVIEWING, WorkspaceFailed("disk full"), Parked(Lane.IN_REVIEW))


def test_what_was_parked_gets_a_new_chance_at_a_new_start() -> None:
    wp = started(Lane.IN_REVIEW, *PARKED)
    assert (wp.phase, wp.result, wp.note) == (Phase.WAITING, None, "")
    _, command = step(wp, Scheduled(Lane.IN_REVIEW, SPACE), POLICY)
    assert isinstance(command, ClaimReview)


def test_what_is_blocked_on_the_host_stays_parked_with_its_reason() -> None:
    wp = started(Lane.BLOCKED, *PARKED)
    assert (wp.phase, wp.result, wp.note) == (Phase.FINISHED, Result.PARKED, "disk full")


def test_what_was_parked_and_a_person_approved_is_approved() -> None:
    wp = started(Lane.APPROVED, *PARKED)
    assert (wp.phase, wp.result) == (Phase.FINISHED, Result.APPROVED)


def test_a_result_that_the_lane_agrees_with_is_kept_with_its_reason() -> None:
    wp = started(Lane.DONE, *APPROVING, Recorded(Lane.DONE))
    assert wp.result is Result.DONE
    assert wp.note.startswith("bob approved")


def test_a_result_that_a_person_undid_is_worked_on_again() -> None:
    wp = started(Lane.PLANNED, *APPROVING, Recorded(Lane.APPROVED))
    assert (wp.phase, wp.verdict) == (Phase.WAITING, None)


def test_work_packages_that_the_mission_no_longer_has_are_left_out() -> None:
    state = MissionState("m", {"WP02": Lane.PLANNED}, {"WP02": ()})
    assert set(start(state, fold(journal(*RUNNING), POLICY), POLICY)) == {"WP02"}


def test_the_journal_is_stepped_through_under_the_policy_of_its_time() -> None:
    crashed = (*RUNNING, exited("i1", Outcome.CRASHED))
    strict = one_agent(max_attempts=1)
    assert fold(journal(*crashed, policy=strict), POLICY)["WP01"].phase is Phase.PARKING
    assert fold(journal(*crashed), strict)["WP01"].phase is Phase.IMPLEMENTING


def test_a_new_start_with_fewer_agents_begins_with_the_first_again() -> None:
    lines = [*journal(*RUNNING, exited("i1", Outcome.AUTH)), RunEnded(AT, 1, "0 of 1 complete")]
    assert fold(lines, POLICY)["WP01"].impl_agent == 1
    folded = fold([*lines, RunStarted(AT, "m", "me", LATER, "1")], POLICY)
    assert folded["WP01"].impl_agent == 0
    assert resume(folded["WP01"], LATER) == OpenAttempt(drive(IMPLEMENTING)[1].role, "alice", 2)  # type: ignore[union-attr]


def test_a_position_that_still_exists_is_kept() -> None:
    wp = WorkPackage("WP01", impl_agent=1, review_agent=1)
    assert fitted(wp, POLICY) == wp
    assert (fitted(wp, LATER).impl_agent, fitted(wp, LATER).review_agent) == (0, 0)


def test_a_journal_that_does_not_fit_the_edges_is_a_bug_told_with_its_story() -> None:
    with pytest.raises(InvalidTransition) as caught:
        fold(journal(Recorded(Lane.DONE)), POLICY)
    assert caught.value.wp_id == "WP01"


def test_a_work_package_that_waits_follows_the_lane_and_one_that_works_does_not() -> None:
    assert seen(WorkPackage("WP01"), Lane.CANCELED).result is Result.CANCELED
    working, _ = drive(IMPLEMENTING)
    followed = seen(working, Lane.CANCELED)
    assert (followed.phase, followed.lane) == (Phase.IMPLEMENTING, Lane.CANCELED)


def attempts(outcome: Outcome, count: int, agent: str = "alice", told_s: float | None = None) -> list[Event]:
    """Return implement attempts in a row that end alike."""
    events: list[Event] = []
    for number in range(count):
        name = f"{agent}{number}"
        report = AgentReport(outcome, retry_after_s=told_s)
        events += [AttemptOpened(attempt(name, agent=agent)), AgentExited(name, report)]
    return events


REJECTED_TWICE = (
    *REJECTING,
    Recorded(Lane.IN_PROGRESS),
    AttemptOpened(attempt("i2")),
    exited("i2", text=report_text("i2")),
    Committed(Evidence(BASE, OTHER)),
    Submitted(),
    AttemptOpened(attempt("r2", Role.REVIEW, head=OTHER)),
    exited("r2", text=verdict_text("r2", OTHER, "changes_requested", findings=["rename it"])),
    Recorded(Lane.IN_PROGRESS),
    AttemptOpened(attempt("i3")),
)
LIMITED = Outcome.RATE_LIMITED
ALONE = Policy(("alice",), ("bob",))
PARKED_AT_LIMITS = (*IMPLEMENTING, *attempts(LIMITED, 4), Parked(Lane.BLOCKED))
MOVED_ON = (*IMPLEMENTING, *attempts(LIMITED, 4), AttemptOpened(attempt("b", agent="ann")))
MOVED_ON_AT_ONCE = (*IMPLEMENTING, *attempts(LIMITED, 1, told_s=5000), *attempts(Outcome.AUTH, 1, "ann"))
OF_THE_VERSION_BEFORE = {
    "the same was asked for twice": (REJECTED_TWICE, EARLIER, Phase.IMPLEMENTING, 0),
    "limits were failures": (PARKED_AT_LIMITS, ALONE, Phase.FINISHED, 0),
    "limits moved the order on": (MOVED_ON, EARLIER, Phase.IMPLEMENTING, 1),
    "the second agent failed too": ((*MOVED_ON_AT_ONCE, Parked(Lane.BLOCKED)), EARLIER, Phase.FINISHED, 1),
    "an overloaded agent told a long time": (
        (
            *IMPLEMENTING,
            *attempts(Outcome.OVERLOADED, 1, told_s=5000),
            AttemptOpened(attempt("b", agent="ann")),
        ),
        EARLIER,
        Phase.IMPLEMENTING,
        1,
    ),
}


@pytest.mark.parametrize(
    ("events", "policy", "phase", "position"), OF_THE_VERSION_BEFORE.values(), ids=OF_THE_VERSION_BEFORE
)
def test_a_journal_of_the_version_before_is_read_by_its_own_rules_and_gone_on_with(
    events: tuple[Event, ...], policy: Policy, phase: Phase, position: int
) -> None:
    lines = [*journal(*events, policy=policy), RunEnded(AT, 1, "0 of 1 complete")]
    wp = fold(lines, POLICY)["WP01"]
    assert (wp.phase, wp.impl_agent) == (phase, position)
    now = replace(policy, stop_repeats=True, quota_breaker=True)
    folded = fold([*lines, RunStarted(AT, "m", "me", now, "2")], POLICY)
    state = MissionState("m", {"WP01": Lane.IN_PROGRESS}, {"WP01": ()})
    wp, command = step(start(state, folded, now)["WP01"], Scheduled(Lane.IN_PROGRESS, SPACE), now)
    if phase is Phase.FINISHED:
        assert isinstance(command, Claim)
        return
    assert isinstance(command, RunAgent)
    wp, command = step(wp, exited(command.attempt.id, LIMITED), now)
    assert isinstance(command, OpenAttempt), "a limit is no failure from now on"
    assert (wp.impl_agent, command.agent) == (position, policy.impl_agents[position])
