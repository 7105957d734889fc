"""Whatever the world answers, a work package leaves the run, and only a usable verdict approves it."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spec_kitty_orchestrator.core.commands import (
    Claim,
    ClaimReview,
    Command,
    Commit,
    Finish,
    OpenAttempt,
    Park,
    Record,
    RunAgent,
    RunGates,
    Submit,
    TickSubtasks,
    Wait,
)
from spec_kitty_orchestrator.core.events import (
    NO_REPLY,
    AgentExited,
    AttemptOpened,
    Claimed,
    CommitRefused,
    Committed,
    Event,
    GateBroken,
    GateFailed,
    GatesPassed,
    GatesStopped,
    HeadMoved,
    HostRefused,
    Parked,
    Recorded,
    ReviewClaimed,
    Scheduled,
    Submitted,
    SubtasksTicked,
    TimerFired,
    WorkspaceFailed,
)
from spec_kitty_orchestrator.core.gates import unproven
from spec_kitty_orchestrator.core.lifecycle import step
from spec_kitty_orchestrator.core.model import (
    AgentReport,
    Attempt,
    Evidence,
    Lane,
    Outcome,
    Phase,
    Policy,
    Result,
    Role,
    Ruling,
    WorkPackage,
)
from spec_kitty_orchestrator.core.retry import UNCHARGED

from .builders import BASE, GATED, GATES, POLICY, SPACE, one_agent, report_text, results, verdict_text

BOUND_CONSTANT = 200
BOUND_CHANGING = 1500

REFUSED = "TRANSITION_REJECTED"
CODES = (
    REFUSED,
    "WP_ALREADY_CLAIMED",
    "DEPENDENCIES_NOT_SATISFIED",
    "LANE_ALLOCATION_FAILED",
    "SUBTASKS_NOT_FOUND",
    "POLICY_VALIDATION_FAILED",
    NO_REPLY,
)
MESSAGES = ("no", "has uncommitted changes", "requires completed subtasks", "", "\n")
REVIEWS = ("approved", "changes_requested", "prose", "other sha", "other attempt", "nothing to change")
FAMILIES = {"alice": "a", "ann": "b", "bob": "b", "ben": "c"}
GATE_ENDS = ("red", "broken", "stopped", "moved", "half", "other")
IMPLEMENTS = ("summary", "no change", "subtasks", "prose")


@dataclass(frozen=True)
class Answers:
    """What the world says to each command; "ok" or a refusal."""

    claim: str | tuple[str, str, Lane]
    opened: str
    outcome: Outcome
    implement: str
    review: str
    tampered: bool
    commit: str
    gates: str
    submit: str | tuple[str, str, Lane]
    tick: str | tuple[str, str, Lane]
    claim_review: str | tuple[str, str, Lane]
    record: str | tuple[str, str, Lane]
    park: str | tuple[str, str, Lane]


def refusals() -> st.SearchStrategy[tuple[str, str, Lane]]:
    return st.tuples(st.sampled_from(CODES), st.sampled_from(MESSAGES), st.sampled_from(Lane))


DECIDED_HERE = tuple(one for one in Outcome if one is not Outcome.RATE_LIMITED)
"""A rate limit leaves a work package as it was: how long it is waited for is the run's to bound."""

GOOD = Answers(
    "ok", "ok", Outcome.OK, "summary", "approved", False, "new", "green", "ok", "ok", "ok", "ok", "ok"
)


def but(parts: Mapping[str, Any]) -> Answers:
    """Return a world in which nothing goes wrong but this."""
    return replace(GOOD, **parts)


def answers() -> st.SearchStrategy[Answers]:
    """Return worlds in which up to three things go wrong: where all do, nothing gets far enough to loop."""
    said = st.one_of(refusals(), refusals(), st.just("broken"))
    wrong: dict[str, st.SearchStrategy[object]] = {
        "claim": said,
        "opened": st.sampled_from(["broken", "moved"]),
        "outcome": st.sampled_from(DECIDED_HERE),
        "implement": st.sampled_from(IMPLEMENTS),
        "review": st.sampled_from(REVIEWS),
        "tampered": st.just(True),
        "commit": st.sampled_from(["same", "refused", "refused silently", "broken"]),
        "gates": st.sampled_from(GATE_ENDS),
        "submit": said,
        "tick": said,
        "claim_review": said,
        "record": st.one_of(said, st.just("moved")),
        "park": said,
    }
    chosen = st.lists(st.sampled_from(sorted(wrong)), min_size=1, max_size=3, unique=True)
    return chosen.flatmap(lambda names: st.fixed_dictionaries({name: wrong[name] for name in names})).map(but)


def policies() -> st.SearchStrategy[Policy]:
    return st.builds(
        Policy,
        impl_agents=st.sampled_from([("alice",), ("alice", "ann")]),
        review_agents=st.sampled_from([("bob",), ("bob", "ben")]),
        max_attempts=st.integers(1, 6),
        max_review_cycles=st.integers(1, 3),
        max_unusable=st.integers(1, 2),
        finish_lane=st.sampled_from([Lane.DONE, Lane.APPROVED]),
        tick_subtasks=st.booleans(),
        gates=st.sampled_from([(), GATES]),
        review_quorum=st.integers(1, 2),
        independent_review=st.booleans(),
        families=st.sampled_from([{}, FAMILIES]),
    )


@dataclass
class World:
    """Performs commands without doing anything, and remembers which attempts really approved what."""

    choose: Callable[[], Answers]
    count: int = 0
    head: str = BASE
    approved: dict[str, str] = field(default_factory=dict)
    lanes_shown: set[Lane] = field(default_factory=set)
    green: set[str] = field(default_factory=set)

    def perform(self, wp: WorkPackage, command: Command) -> Event:
        event = self._perform(wp, command)
        if isinstance(event, HostRefused):
            self.lanes_shown.add(event.lane)
        return event

    def _perform(self, wp: WorkPackage, command: Command) -> Event:
        now = self.choose()
        match command:
            case Claim():
                return self._told(now.claim, Claimed(SPACE, BASE))
            case OpenAttempt():
                return self._opened(command, now, wp)
            case RunAgent(attempt=one):
                return replace(self._exited(one, now), refused=self._refused_review(wp, one, now))
            case Commit():
                return self._committed(wp, now)
            case RunGates():
                return self._gated(command, now)
            case Submit():
                return self._told(now.submit, Submitted())
            case TickSubtasks(ids=ids):
                return self._told(now.tick, SubtasksTicked(ids))
            case ClaimReview():
                return self._told(now.claim_review, ReviewClaimed(BASE, self.head))
            case Record(to=lane):
                if now.record == "moved":
                    return ReviewClaimed(BASE, self._sha())
                return self._told(now.record, Recorded(lane))
            case Park(block=block):
                return self._told(now.park, Parked(Lane.BLOCKED if block else wp.lane))
            case Wait():
                return TimerFired()
            case Finish():
                raise AssertionError("nothing follows Finish")

    def _sha(self) -> str:
        self.count += 1
        self.head = f"{self.count:040x}"
        return self.head

    def _told(self, said: str | tuple[str, str, Lane], event: Event) -> Event:
        if isinstance(said, tuple):
            return HostRefused("call", said[0], said[1], said[2])
        return event if said == "ok" else WorkspaceFailed("the disk is full")

    def _opened(self, command: OpenAttempt, now: Answers, wp: WorkPackage) -> Event:
        if now.opened == "broken":
            return WorkspaceFailed("no room for a prompt")
        if now.opened == "moved" and command.role is Role.REVIEW:
            return ReviewClaimed(BASE, self._sha())
        self.count += 1
        head = wp.head if command.role is Role.REVIEW else ""
        one = Attempt(f"id-{self.count}", command.number, command.role, command.agent, "/logs", head, head)
        return AttemptOpened(one)

    def _refused_review(self, wp: WorkPackage, one: Attempt, now: Answers) -> HostRefused | None:
        if one.role is Role.IMPLEMENT or wp.review_claimed or not isinstance(now.claim_review, tuple):
            return None
        code, message, lane = now.claim_review
        self.lanes_shown.add(lane)
        return HostRefused("start-review", code, message, lane)

    def _exited(self, one: Attempt, now: Answers) -> AgentExited:
        if one.role is Role.IMPLEMENT:
            text = {
                "summary": report_text(one.id),
                "no change": report_text(one.id, no_change_reason="nothing to do"),
                "subtasks": report_text(one.id, subtasks_done=["T001"]),
                "prose": "done",
            }[now.implement]
            return AgentExited(one.id, AgentReport(now.outcome, text))
        text = {
            "approved": verdict_text(one.id, one.head),
            "changes_requested": verdict_text(one.id, one.head, "changes_requested", summary="rename it"),
            "prose": "verdict: approved. LGTM",
            "other sha": verdict_text(one.id, "f" * 40),
            "other attempt": verdict_text("another", one.head),
            "nothing to change": verdict_text(one.id, one.head, "changes_requested"),
        }[now.review]
        tampered = ("src/a.py",) if now.tampered else ()
        if now.outcome is Outcome.OK and now.review == "approved" and not tampered:
            self.approved[one.id] = one.head
        return AgentExited(one.id, AgentReport(now.outcome, text), tampered)

    def _gated(self, command: RunGates, now: Answers) -> Event:
        every = results(command.head)
        match now.gates:
            case "green":
                self.green.add(command.head)
                return GatesPassed(every)
            case "red":
                return GateFailed(results(command.head, ok=False)[0], "1 failed")
            case "broken":
                return GateBroken("tests", "not found")
            case "stopped":
                return GatesStopped()
            case "half":
                return GatesPassed(every[:1])
            case "other":
                return GatesPassed(results("f" * 40))
            case _:
                return HeadMoved(self._sha())

    def _committed(self, wp: WorkPackage, now: Answers) -> Event:
        match now.commit:
            case "new":
                return Committed(Evidence(wp.base, self._sha()))
            case "same":
                return Committed(Evidence(wp.base, self.head))
            case "broken":
                return WorkspaceFailed("index.lock")
            case said:
                return CommitRefused("" if said == "refused silently" else "hook failed")


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
            assert not policy.gates or wp.head in world.green
            assert_agreed(wp, policy, world)
        assert not is_review(command) or not unproven(policy.gates, wp.gates, wp.head)
        if isinstance(command, Finish):
            if command.result is not Result.REQUEUED:
                return events, wp, command
            event = Scheduled(Lane.PLANNED, SPACE)
        else:
            event = world.perform(wp, command)
    raise AssertionError("it did not end:\n" + "\n".join(wp.story))


def assert_agreed(wp: WorkPackage, policy: Policy, world: World) -> None:
    agents = {one.agent for one in wp.attempts if world.approved.get(one.id) == wp.head}
    assert len(agents) >= policy.review_quorum
    if policy.independent_review and policy.families:
        ended = zip(wp.attempts, wp.outcomes, strict=False)
        authors = {
            policy.families[one.agent]
            for one, outcome in ended
            if one.role is Role.IMPLEMENT and outcome is Outcome.OK
        }
        assert wp.verdict is not None
        assert not {policy.families[one] for one in wp.verdict.reviewer.split(", ")} & authors


def is_review(command: Command) -> bool:
    return isinstance(command, OpenAttempt) and command.role is Role.REVIEW


def assert_approved(wp: WorkPackage, command: Record, world: World) -> None:
    verdict, last = command.verdict, wp.attempts[-1]
    assert verdict.ruling is Ruling.APPROVED
    assert (last.role, wp.outcomes[-1], last.id) == (Role.REVIEW, Outcome.OK, verdict.attempt_id)
    assert world.approved.get(verdict.attempt_id) == verdict.head == last.head == wp.head


def assert_the_end_is_true(wp: WorkPackage, command: Finish, world: World, policy: Policy) -> None:
    if command.result in (Result.DONE, Result.APPROVED):
        ours = wp.verdict is not None and world.approved.get(wp.verdict.attempt_id) == wp.verdict.head
        theirs = "without a review by this run" in command.reason and wp.lane in world.lanes_shown
        assert ours or theirs
    charged = sum(
        one.role is Role.IMPLEMENT and outcome not in UNCHARGED
        for one, outcome in zip(wp.attempts, wp.outcomes, strict=True)
    )
    assert charged <= policy.max_attempts
    assert len(wp.rejected) <= policy.max_review_cycles


ALWAYS = [
    but({name: value})
    for name in ("claim", "submit", "claim_review", "record", "park")
    for value in ("broken", *((code, "no", lane) for code in (REFUSED, NO_REPLY) for lane in Lane))
] + [
    *(replace(GOOD, outcome=outcome) for outcome in DECIDED_HERE),
    *(replace(GOOD, review=review) for review in REVIEWS),
    *(replace(GOOD, commit=commit) for commit in ("same", "refused", "refused silently", "broken")),
    *(replace(GOOD, opened=opened) for opened in ("broken", "moved")),
    replace(GOOD, tampered=True),
    replace(GOOD, record="moved"),
    *(replace(GOOD, gates=ends) for ends in GATE_ENDS),
    replace(GOOD, review="changes_requested", record=(REFUSED, "no", Lane.IN_PROGRESS)),
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


@settings(max_examples=1000, deadline=None)
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
            assert not policy.gates or wp.head in world.green
            assert_agreed(wp, policy, world)
        if isinstance(command, Finish):
            break
        wp, command = step(wp, world.perform(wp, command), policy)
    assert isinstance(command, Finish)
