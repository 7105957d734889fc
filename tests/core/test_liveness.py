"""Whatever the world answers, a work package leaves the run, and only a usable verdict approves it."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spec_kitty_orchestrator.core.commands import Command, Finish, OpenAttempt, Record, RunAgent
from spec_kitty_orchestrator.core.events import NO_REPLY, Event, Scheduled, WorkspaceFailed
from spec_kitty_orchestrator.core.lifecycle import step, told
from spec_kitty_orchestrator.core.model import Lane, Outcome, Phase, Result, Role
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.reviewing import unproven
from spec_kitty_orchestrator.core.transitions import charged
from spec_kitty_orchestrator.core.verdict import Ruling
from spec_kitty_orchestrator.core.work_package import WorkPackage

from .builders import GATED, POLICY, REFUSAL, SPACE, one_agent
from .world import DECIDED_HERE, GATE_ENDS, GOOD, REVIEWS, Answers, World, answers, but, policies

BOUND_CONSTANT = 200
BOUND_CHANGING = 1500


def run(world: World, policy: Policy, lane: Lane, bound: int) -> tuple[list[Event], WorkPackage, Command]:
    """Drive one work package to its end and check at each step that nothing is approved without evidence."""
    wp, events = WorkPackage("WP01"), list[Event]()
    event: Event = Scheduled(lane, SPACE)
    world.lanes_shown.add(lane)
    for _ in range(bound):
        events.append(event)
        wp, command = step(wp, event, policy)
        assert wp.phase not in (Phase.PARKING, Phase.FINISHED) or wp.open_attempt is None
        if isinstance(command, Record) and command.to.complete:
            assert_approved(wp, command, world)
            assert not policy.gates or wp.work.head in world.green
            assert_agreed(wp, policy, world)
        assert not is_review(command) or not unproven(policy.gates, wp.work.gates, wp.work.head)
        if isinstance(command, Finish):
            return events, wp, command
        event = world.perform(wp, command)
    raise AssertionError("it did not end:\n" + "\n".join(told(wp)))


def assert_agreed(wp: WorkPackage, policy: Policy, world: World) -> None:
    agents = {one.agent for one in wp.attempts if world.approved.get(one.id) == wp.work.head}
    assert len(agents) >= policy.review_quorum
    if policy.independent_review and policy.families:
        made = [one for one in wp.attempts if one.role is Role.IMPLEMENT and one.id not in world.untouched]
        authors = {policy.families[one.agent] for one in made}
        assert wp.review.verdict is not None
        assert not {policy.families[one] for one in wp.review.verdict.reviewer.split(", ")} & authors


def is_review(command: Command) -> bool:
    return isinstance(command, OpenAttempt) and command.role is Role.REVIEW


def assert_approved(wp: WorkPackage, command: Record, world: World) -> None:
    verdict, last = command.verdict, wp.attempts[-1]
    assert verdict.ruling is Ruling.APPROVED
    assert (last.role, wp.outcomes[-1], last.id) == (Role.REVIEW, Outcome.OK, verdict.attempt_id)
    assert world.approved.get(verdict.attempt_id) == verdict.head == last.head == wp.work.head


def assert_the_end_is_true(wp: WorkPackage, command: Finish, world: World, policy: Policy) -> None:
    if command.result in (Result.DONE, Result.APPROVED):
        verdict = wp.review.verdict
        ours = verdict is not None and world.approved.get(verdict.attempt_id) == verdict.head
        theirs = "without a review by this run" in command.reason and wp.lane in world.lanes_shown
        assert ours or theirs
    assert charged(wp) <= policy.max_attempts
    assert len(wp.review.rejected) <= policy.max_review_cycles


ALWAYS = [
    but({name: value})
    for name in ("claim", "submit", "claim_review", "record", "park")
    for value in ("broken", *((code, "no", lane) for code in (REFUSAL, NO_REPLY) for lane in Lane))
] + [
    *(replace(GOOD, outcome=outcome) for outcome in DECIDED_HERE),
    *(replace(GOOD, review=review) for review in REVIEWS),
    *(replace(GOOD, commit=commit) for commit in ("same", "refused", "refused silently", "broken")),
    *(replace(GOOD, opened=opened) for opened in ("broken", "moved")),
    replace(GOOD, tampered=True),
    replace(GOOD, record="moved"),
    *(replace(GOOD, gates=ends) for ends in GATE_ENDS),
    replace(GOOD, review="changes_requested", record=(REFUSAL, "no", Lane.IN_PROGRESS)),
]


@pytest.mark.parametrize("always", ALWAYS, ids=repr)
@pytest.mark.parametrize("policy", [POLICY, one_agent(), GATED], ids=["fallbacks", "no fallbacks", "gates"])
def test_a_world_in_which_one_thing_always_goes_wrong_is_left_within_a_bound(
    always: Answers, policy: Policy
) -> None:
    world = World(lambda: always)
    _, wp, command = run(world, policy, Lane.PLANNED, BOUND_CONSTANT)
    assert isinstance(command, Finish)
    assert_the_end_is_true(wp, command, world, policy)


@pytest.mark.parametrize("role", Role)
def test_a_workspace_that_always_breaks_under_a_running_attempt_is_left_within_a_bound(role: Role) -> None:
    class Breaking(World):
        def perform(self, wp: WorkPackage, command: Command) -> Event:
            if isinstance(command, RunAgent) and command.attempt.role is role:
                return WorkspaceFailed("disk full")
            return super().perform(wp, command)

    _, _, command = run(Breaking(lambda: GOOD), POLICY, Lane.PLANNED, BOUND_CONSTANT)
    assert command == Finish(Result.PARKED, "disk full")


@settings(max_examples=600, deadline=None)
@given(answers(), policies(), st.sampled_from(Lane))
def test_a_world_that_always_answers_the_same_is_left_within_a_bound(
    always: Answers, policy: Policy, lane: Lane
) -> None:
    world = World(lambda: always)
    _, wp, command = run(world, policy, lane, BOUND_CONSTANT)
    assert isinstance(command, Finish)
    assert_the_end_is_true(wp, command, world, policy)


@settings(max_examples=150, deadline=None)
@given(st.lists(answers(), min_size=2, max_size=6), st.integers(), policies(), st.sampled_from(Lane))
def test_a_world_that_changes_its_mind_is_left_within_a_larger_bound(
    some: list[Answers], seed: int, policy: Policy, lane: Lane
) -> None:
    dice = random.Random(seed)
    world = World(lambda: dice.choice(some))
    _, wp, command = run(world, policy, lane, BOUND_CHANGING)
    assert isinstance(command, Finish)
    assert_the_end_is_true(wp, command, world, policy)


@settings(max_examples=40, deadline=None)
@given(st.lists(answers(), min_size=1, max_size=4), st.integers(), policies(), st.integers(0, 1500))
def test_replaying_any_part_of_a_journal_gives_the_same_state_and_the_same_command(
    some: list[Answers], seed: int, policy: Policy, cut: int
) -> None:
    dice = random.Random(seed)
    events, _, _ = run(World(lambda: dice.choice(some)), policy, Lane.PLANNED, BOUND_CHANGING)
    events = events[: 1 + cut % len(events)]

    def replay() -> tuple[WorkPackage, Command | None]:
        wp, command = WorkPackage("WP01"), None
        for event in events:
            wp, command = step(wp, event, policy)
        return wp, command

    assert replay() == replay()


@settings(max_examples=40, deadline=None)
@given(st.lists(answers(), min_size=1, max_size=4), st.integers(), policies(), st.integers(0, 1500))
def test_a_new_start_at_any_point_still_ends_and_still_tells_the_truth(
    some: list[Answers], seed: int, policy: Policy, cut: int
) -> None:
    dice = random.Random(seed)
    world = World(lambda: dice.choice(some))
    events, _, _ = run(world, policy, Lane.PLANNED, BOUND_CHANGING)
    wp = WorkPackage("WP01")
    for event in events[: 1 + cut % len(events)]:
        wp, _ = step(wp, event, policy)
    wp, command = step(wp, Scheduled(dice.choice(list(Lane)), SPACE), policy)
    for _ in range(BOUND_CHANGING):
        if isinstance(command, Record) and command.to.complete:
            assert_approved(wp, command, world)
            assert not policy.gates or wp.work.head in world.green
            assert_agreed(wp, policy, world)
        if isinstance(command, Finish):
            break
        wp, command = step(wp, world.perform(wp, command), policy)
    assert isinstance(command, Finish)
