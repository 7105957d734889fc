"""Worlds in which anything may go wrong: they perform commands without doing anything."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from spec_kitty_orchestrator.core.commands import (
    Claim,
    ClaimReview,
    Command,
    Commit,
    Finish,
    OpenAttempt,
    Park,
    PrepareWorkspace,
    Record,
    Resolve,
    RunAgent,
    RunGates,
    Submit,
    TickSubtasks,
    Unblock,
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
    NothingToReview,
    Parked,
    Recorded,
    ReviewClaimed,
    Scheduled,
    SetUp,
    Submitted,
    SubtasksTicked,
    Unblocked,
    WorkspaceFailed,
    WorkspaceResolved,
)
from spec_kitty_orchestrator.core.model import Attempt, Evidence, Lane, Outcome, Role, Workspace
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.work_package import WorkPackage

from .builders import BASE, GATES, REFUSAL, SPACE, exited, report_text, results, verdict_text

CODES = (
    REFUSAL,
    "WP_ALREADY_CLAIMED",
    "DEPENDENCIES_NOT_SATISFIED",
    "LANE_ALLOCATION_FAILED",
    "SUBTASKS_NOT_FOUND",
    "POLICY_VALIDATION_FAILED",
    "WP_NOT_FOUND",
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
    untouched: bool
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
    "ok", "ok", Outcome.OK, "summary", "approved", False, False, "new", "green", "ok", "ok", "ok", "ok", "ok"
)


def but(parts: Mapping[str, Any]) -> Answers:
    """Return a world in which nothing goes wrong but this."""
    return replace(GOOD, **parts)


def answers() -> st.SearchStrategy[Answers]:
    """Return worlds in which up to three things go wrong: where all do, nothing gets far enough to loop."""
    said = st.one_of(refusals(), refusals(), st.just("broken"))
    wrong: dict[str, st.SearchStrategy[object]] = {
        "claim": said,
        "opened": st.sampled_from(["broken", "moved", "nothing"]),
        "outcome": st.sampled_from(DECIDED_HERE),
        "implement": st.sampled_from(IMPLEMENTS),
        "review": st.sampled_from(REVIEWS),
        "tampered": st.just(True),
        "untouched": st.just(True),
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
    space: Workspace = SPACE
    count: int = 0
    head: str = BASE
    approved: dict[str, str] = field(default_factory=dict)
    lanes_shown: set[Lane] = field(default_factory=set)
    green: set[str] = field(default_factory=set)
    untouched: set[str] = field(default_factory=set)

    def perform(self, wp: WorkPackage, command: Command) -> Event:
        event = self._perform(wp, command)
        if isinstance(event, HostRefused):
            self.lanes_shown.add(event.lane)
        return event

    def _perform(self, wp: WorkPackage, command: Command) -> Event:
        now = self.choose()
        match command:
            case Resolve():
                return WorkspaceResolved(self.space)
            case Claim():
                return self._told(now.claim, Claimed(self.space, self.head))
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
            case PrepareWorkspace():
                return SetUp("worktree") if now.gates != "broken" else SetUp("worktree", (), "no network")
            case Park(block=block):
                return self._told(now.park, Parked(Lane.BLOCKED if block else wp.lane))
            case Unblock(to=to):
                return self._told(now.park, Unblocked(to[-1]))
            case Wait():
                return Scheduled(wp.lane, self.space)
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
        if now.opened == "nothing" and command.role is Role.REVIEW:
            return NothingToReview(self.head)
        self.count += 1
        head = wp.work.head if command.role is Role.REVIEW else ""
        name = f"{wp.id}-{self.count}"
        one = Attempt(name, command.number, command.role, command.agent, "/logs", head, head)
        return AttemptOpened(one)

    def _refused_review(self, wp: WorkPackage, one: Attempt, now: Answers) -> HostRefused | None:
        if one.role is Role.IMPLEMENT or wp.review.claimed or not isinstance(now.claim_review, tuple):
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
            untouched = now.untouched and now.outcome is not Outcome.OK
            self.untouched |= {one.id} if untouched else set()
            return replace(exited(one, now.outcome, text), untouched=untouched)
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
        return exited(one, now.outcome, text, tampered)

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
                return Committed(Evidence(wp.work.base, self._sha()))
            case "same":
                return Committed(Evidence(wp.work.base, self.head))
            case "broken":
                return WorkspaceFailed("index.lock")
            case said:
                return CommitRefused("" if said == "refused silently" else "hook failed")
