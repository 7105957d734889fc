"""A start joins the host's lanes with what the journal knows; a crash is a replay."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.orders import any_order

from spec_kitty_orchestrator.core.commands import (
    Claim,
    ClaimReview,
    Commit,
    OpenAttempt,
    Park,
    RunAgent,
    Submit,
)
from spec_kitty_orchestrator.core.events import (
    NO_REPLY,
    AttemptOpened,
    Deferred,
    Event,
    LaneSeen,
    Parked,
    Recorded,
    Scheduled,
    WorkspaceFailed,
)
from spec_kitty_orchestrator.core.lifecycle import resume, seen, step
from spec_kitty_orchestrator.core.limits import EXIT_QUOTA
from spec_kitty_orchestrator.core.model import Lane, MissionState, Outcome, Phase, Result, WaitsFor, Workspace
from spec_kitty_orchestrator.core.policy import Budget, OnRateLimit, Patience, Policy
from spec_kitty_orchestrator.core.refusals import MOST_TRIES
from spec_kitty_orchestrator.core.run import RunState, begin, fold, happened
from spec_kitty_orchestrator.core.run_events import (
    AgentSuspended,
    ClockJumped,
    Ending,
    Entry,
    ResourcesShort,
    RunEnded,
    RunStarted,
    Signaled,
    Waiting,
)
from spec_kitty_orchestrator.core.scheduler import Finished, Order
from spec_kitty_orchestrator.core.suspension import Suspension
from spec_kitty_orchestrator.core.work_package import Turn, WorkPackage
from spec_kitty_orchestrator.errors import InvalidTransition

from .builders import (
    APPROVING,
    CLAIMING_REVIEW,
    COMMITTING,
    IMPLEMENTING,
    NOON,
    POLICY,
    REVIEW_RUNNING,
    REVIEWING,
    RUNNING,
    SPACE,
    SUBMITTING,
    after,
    attempt,
    begun,
    drive,
    exited,
    journal,
    one_agent,
    refused,
    start_at,
    started,
)
from .loop import Loop, assert_bounds
from .world import GOOD, Answers, World, answers, policies

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
    wp = begun(lane)
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
    "work that could not be committed is committed": (
        (*COMMITTING, WorkspaceFailed("gpg failed"), Parked(Lane.IN_PROGRESS)),
        Lane.IN_PROGRESS,
        Commit,
    ),
    "work that the host would not take for a reason of ours is submitted": (
        (*SUBMITTING, refused(Lane.IN_PROGRESS, "POLICY_VALIDATION_FAILED"), Parked(Lane.IN_PROGRESS)),
        Lane.IN_PROGRESS,
        Submit,
    ),
}


@pytest.mark.parametrize(("events", "lane", "command"), GOES_ON.values(), ids=GOES_ON)
def test_what_the_journal_knows_goes_on_where_it_was_left(
    events: tuple[Event, ...], lane: Lane, command: type
) -> None:
    _, following = step(begun(lane, *events), Scheduled(lane, SPACE), POLICY)
    assert type(following) is command


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("events", [RUNNING, COMMITTING, SUBMITTING, APPROVING])
def test_what_is_open_unsubmitted_or_unrecorded_goes_first_whatever_the_lane(
    events: tuple[Event, ...], lane: Lane
) -> None:
    left, pending = drive(events)
    wp = begun(lane, *events)
    assert wp.phase is left.phase
    assert resume(wp, POLICY) == pending


PARKED = (*REVIEWING, WorkspaceFailed("disk full"), Parked(Lane.IN_REVIEW))


def test_what_was_parked_gets_a_new_chance_at_a_new_start() -> None:
    wp = begun(Lane.IN_REVIEW, *PARKED)
    assert (wp.phase, wp.result, wp.note) == (Phase.WAITING, None, "")
    _, command = step(wp, Scheduled(Lane.IN_REVIEW, SPACE), POLICY)
    assert isinstance(command, ClaimReview)


def test_a_parking_that_the_host_was_not_told_is_told_at_the_next_start_with_its_own_reason() -> None:
    lost = [refused(Lane.IN_PROGRESS, NO_REPLY)] * (MOST_TRIES + 1)
    wp = begun(
        Lane.IN_PROGRESS, *RUNNING, *[exited("i1", Outcome.CRASHED)], *lost, policy=one_agent(max_attempts=1)
    )
    assert resume(wp, POLICY) == Park("not finished in 1 attempts: alice ended crashed", block=True)


def test_what_another_actor_gave_back_is_ours_to_begin_and_what_was_canceled_is_left() -> None:
    foreign, _ = drive([Scheduled(Lane.IN_REVIEW, SPACE)])
    for lane, phase in ((Lane.PLANNED, Phase.WAITING), (Lane.IN_PROGRESS, Phase.FINISHED)):
        assert step(foreign, LaneSeen(lane, ()), POLICY)[0].phase is phase


def test_what_is_blocked_on_the_host_stays_parked_with_its_reason() -> None:
    wp = begun(Lane.BLOCKED, *PARKED)
    assert (wp.phase, wp.result, wp.note) == (Phase.FINISHED, Result.PARKED, "disk full")


def test_what_was_parked_and_a_person_approved_is_approved() -> None:
    wp = begun(Lane.APPROVED, *PARKED)
    assert (wp.phase, wp.result) == (Phase.FINISHED, Result.APPROVED)


def test_a_result_that_the_lane_agrees_with_is_kept_with_its_reason() -> None:
    wp = begun(Lane.DONE, *APPROVING, Recorded(Lane.DONE))
    assert wp.result is Result.DONE
    assert wp.note.startswith("bob approved")


def test_a_result_that_a_person_undid_is_worked_on_again() -> None:
    wp = begun(Lane.PLANNED, *APPROVING, Recorded(Lane.APPROVED))
    assert (wp.phase, wp.review.verdict) == (Phase.WAITING, None)


def test_work_packages_that_the_mission_no_longer_has_are_left_out() -> None:
    mission = MissionState("m", {"WP02": Lane.PLANNED}, {"WP02": ()})
    lines = [*journal(*RUNNING), RunStarted(NOON, mission, "me", POLICY, "1")]
    assert set(fold(lines, POLICY).wps) == {"WP02"}


def test_the_journal_is_stepped_through_under_the_policy_of_its_time() -> None:
    crashed = (*RUNNING, exited("i1", Outcome.CRASHED))
    strict = one_agent(max_attempts=1)
    assert fold(journal(*crashed, policy=strict), POLICY).wps["WP01"].phase is Phase.PARKING
    assert fold(journal(*crashed), strict).wps["WP01"].phase is Phase.IMPLEMENTING


def test_the_agents_of_the_new_start_are_asked_and_none_who_failed() -> None:
    lines = [*journal(*RUNNING, exited("i1", Outcome.AUTH)), RunEnded(NOON, 1, "0 of 1 complete")]

    def next_agent_of(*agents: str) -> str:
        policy = replace(POLICY, impl_agents=agents)
        wp = fold([*lines, started(Lane.IN_PROGRESS, policy)], policy).wps["WP01"]
        command = resume(wp, policy)
        assert isinstance(command, OpenAttempt)
        assert command.number == 2
        return command.agent

    assert next_agent_of("alice", "ann") == "ann"
    assert next_agent_of("ann", "alice", "art") == "ann"
    assert next_agent_of("art", "alice", "ann") == "art"
    assert next_agent_of("alice") == "alice"


def test_an_attempt_of_an_agent_that_is_configured_no_more_is_followed_by_one_that_is() -> None:
    now = one_agent()
    wp = fold([*journal(*IMPLEMENTING, AttemptOpened(attempt("i1", agent="ann")))], POLICY).wps["WP01"]
    for outcome in (Outcome.CRASHED, Outcome.AUTH):
        _, command = drive((exited("i1", outcome),), now, wp)
        assert isinstance(command, OpenAttempt)
        assert command.agent == "alice"


def test_a_journal_that_does_not_fit_the_edges_is_a_bug_told_with_its_story() -> None:
    with pytest.raises(InvalidTransition) as caught:
        fold(journal(Recorded(Lane.DONE)), POLICY)
    assert caught.value.wp_id == "WP01"


def test_a_work_package_that_waits_follows_the_lane_and_one_that_works_does_not() -> None:
    assert seen(WorkPackage("WP01"), Lane.CANCELED).result is Result.CANCELED
    working, _ = drive(IMPLEMENTING)
    followed = seen(working, Lane.CANCELED)
    assert (followed.phase, followed.lane) == (Phase.IMPLEMENTING, Lane.CANCELED)


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (
            Turn(waits="overloaded", until=after(9)),
            Turn(waits="overloaded", waits_for=WaitsFor.BACK_OFF, until=after(9)),
        ),
        (Turn(waits="overloaded", until=after(-9)), Turn()),
        (Turn(waits="waits for alice", until=after(9), quota=True), Turn()),
        (Turn(waits="waits for a slot", queued_at=NOON, queued_for="alice"), Turn()),
    ],
)
def test_a_back_off_outlives_its_start_and_a_place_in_a_queue_does_not(turn: Turn, expected: Turn) -> None:
    wp = replace(drive(IMPLEMENTING)[0], turn=turn)
    mission = MissionState("m", {"WP01": Lane.IN_PROGRESS}, {})
    assert begin(RunState(POLICY, {"WP01": wp}), start_at(mission, NOON)).wps["WP01"].turn == expected


@pytest.mark.parametrize(("until", "expected"), [(60, 60), (7200, 300), (-5, -5)])
def test_a_rest_is_no_longer_than_when_it_began_though_the_clock_was_set_back(
    until: float, expected: float
) -> None:
    rests = RunState(POLICY, suspended={"ada": Suspension(after(until), 2, 300.0)})
    quota = begin(rests, start_at(MissionState("m", {}, {}), NOON)).suspended["ada"]
    assert (quota.until, quota.strikes) == (after(expected), 2)


def test_signals_shortages_and_the_end_of_one_start_are_not_those_of_the_next() -> None:
    ended: list[Event] = [*IMPLEMENTING, Deferred("the run was interrupted")]
    lines = journal(*ended)
    for event in (
        ResourcesShort("no memory"),
        Signaled(2),
        Ending(EXIT_QUOTA, "x"),
        Waiting({"WP01": "no memory"}, quotas=True),
        AgentSuspended("ada", after(60), "x"),
    ):
        lines.append(Entry(NOON, "", event))
    before = fold(lines, POLICY)
    assert (before.closing, before.stopping, before.short_of) == (True, True, "no memory")
    now = fold([*lines, started(Lane.IN_PROGRESS, at=after(60))], POLICY)
    assert (now.closing, now.short_of, now.waits_for_quotas_since) == (False, "", None)
    assert (now.began_at, now.idle_since) == (after(60), after(60))


def test_a_clock_that_jumped_shortens_no_wait_but_that_for_a_quota() -> None:
    wps = {
        one.id: one
        for one in (
            WorkPackage("WP01", turn=Turn(waits="x", until=after(60))),
            WorkPackage("WP02", turn=Turn(waits="x", until=after(60), quota=True)),
            WorkPackage("WP03", turn=Turn(queued_at=NOON, queued_for="alice", began_at=NOON)),
        )
    }
    state = RunState(POLICY, wps, began_at=NOON, idle_since=NOON)
    jumped, _ = happened(state, after(3600), "", ClockJumped(3600.0))
    assert [one.turn.until for one in jumped.wps.values()] == [after(3660), after(60), None]
    third = jumped.wps["WP03"].turn
    assert (third.queued_at, third.began_at) == (after(3600), after(3600))
    assert (jumped.began_at, jumped.idle_since) == (after(3600), after(3600))


MISSION = {"WP01": (), "WP02": ("WP01",), "WP03": (), "WP04": ("WP02", "WP03"), "WP05": ("WP03",)}
SHARED = {"WP03": "lane-a", "WP05": "lane-a"}
LIMITED = replace(GOOD, outcome=Outcome.RATE_LIMITED)


def worlds(some: list[Answers], dice: Random) -> dict[str, World]:
    def world(wp_id: str) -> World:
        lane = SHARED.get(wp_id, wp_id)
        return World(lambda: dice.choice(some), Workspace(f"/w/{lane}", f"/t/{wp_id}.md", lane))

    return {one: world(one) for one in MISSION}


def limited_policies() -> st.SearchStrategy[Policy]:
    """Return policies with few slots, few places at agents, and budgets."""
    return st.builds(
        replace,
        policies(),
        max_concurrent=st.integers(1, 4),
        max_per_agent=st.sampled_from([{}, {"alice": 1}, {"alice": 1, "bob": 1}]),
        patience=st.builds(Patience, st.sampled_from(OnRateLimit), st.sampled_from([600.0, 21600.0])),
        budget=st.sampled_from([Budget(), Budget(), Budget(max_duration_s=3000.0)]),
    )


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(answers(), min_size=0, max_size=3),
    st.integers(),
    limited_policies(),
    st.integers(0, 5000),
    any_order(),
)
def test_a_crash_is_a_replay_and_the_next_start_goes_on_to_an_end(
    some: list[Answers], seed: int, policy: Policy, cut: int, order: Order | None
) -> None:
    dice = Random(seed)
    around = worlds([GOOD, GOOD, LIMITED, *some], dice)
    first = Loop(policy, MISSION, around, dice, order=order)
    end = first.run(assert_bounds)
    assert fold(first.lines, policy) == first.state
    assert set(end.reasons) == {one.id for one in first.state.left}
    assert all(end.reasons.values())
    lines = tuple(first.lines[: 1 + cut % len(first.lines)])
    second = Loop(policy, MISSION, around, dice, lines, order)
    second.run(assert_bounds)
    assert fold(second.lines, policy) == second.state


@settings(max_examples=40, deadline=None)
@given(st.integers(), any_order())
def test_a_run_in_which_nothing_goes_wrong_completes_every_work_package(
    seed: int, order: Order | None
) -> None:
    dice = Random(seed)
    policy = replace(POLICY, max_concurrent=dice.randint(1, 4), max_per_agent={"alice": 1})
    run = Loop(policy, MISSION, worlds([GOOD], dice), dice, order=order)
    assert isinstance(run.run(assert_bounds), Finished)
    assert {one.result for one in run.state.wps.values()} == {Result.DONE}
