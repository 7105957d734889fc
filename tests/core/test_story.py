"""One bounded line per event."""

from typing import get_args

import pytest

from spec_kitty_orchestrator.core.events import (
    BudgetSpent,
    CommitRefused,
    Committed,
    Event,
    GateBroken,
    GateFailed,
    GatesStopped,
    HeadMoved,
    HostRefused,
    Parked,
    Queued,
    Recorded,
    Retried,
    ReviewClaimed,
    Scheduled,
    Skipped,
    StandIn,
    Submitted,
    SubtasksTicked,
    TimerFired,
    WorkspaceFailed,
)
from spec_kitty_orchestrator.core.lifecycle import LONGEST_STORY
from spec_kitty_orchestrator.core.model import Evidence, Lane, Outcome, Phase, Role
from spec_kitty_orchestrator.core.story import LONGEST_LINE, describe, tell

from .builders import (
    BASE,
    CLAIMING,
    HEAD,
    IMPLEMENTING,
    PASSED,
    RUNNING,
    SPACE,
    drive,
    exited,
    refused,
    results,
)

LINES: dict[str, Event] = {
    "scheduled, found planned": Scheduled(Lane.PLANNED, SPACE),
    "claimed at bbbbbbbbbbbb": IMPLEMENTING[-1],
    "attempt 1: alice to implement": RUNNING[-1],
    "agent ended crashed": exited("i1", Outcome.CRASHED),
    "agent ended ok, changed 2 things it must not": exited("r1", tampered=("a", "b")),
    "work is at aaaaaaaaaaaa": Committed(Evidence(BASE, HEAD)),
    "no commits": Committed(Evidence(BASE, BASE)),
    "not committed: hook failed": CommitRefused("hook\nfailed"),
    "gates passed: lint, tests": PASSED,
    "gate tests failed": GateFailed(results(ok=False)[1], "1 failed"),
    "gate tests cannot run: no pytest": GateBroken("tests", "no pytest"),
    "gates were stopped": GatesStopped(),
    "the branch moved to aaaaaaaaaaaa before its gates": HeadMoved(HEAD),
    "submitted for review": Submitted(),
    "ticked T001, T002 on the implementer's word": SubtasksTicked(("T001", "T002")),
    "review of aaaaaaaaaaaa claimed": ReviewClaimed(BASE, HEAD),
    "verdict recorded, now done": Recorded(Lane.DONE),
    "parked in blocked": Parked(Lane.BLOCKED),
    "parked in blocked, saved under refs/x": Parked(Lane.BLOCKED, "refs/x"),
    "host refused transition (TRANSITION_REJECTED), lane is done: no": refused(Lane.DONE),
    "wait is over": TimerFired(),
    "waits for codex": Queued("waits for codex"),
    "the agent at 1 of the order is to review next": StandIn(Role.REVIEW, 1),
    "it has cost too much": BudgetSpent("it has cost too much"),
    "workspace failed: disk full": WorkspaceFailed("disk full"),
    "put back to work by a person": Retried(),
    "put back to work by a person: use a dict": Retried("use a dict"),
    "skipped by a person in planned": Skipped(Lane.PLANNED),
    "skipped by a person in planned: later": Skipped(Lane.PLANNED, "later"),
}


@pytest.mark.parametrize(("line", "event"), LINES.items(), ids=LINES)
def test_an_event_is_told_in_one_line(line: str, event: Event) -> None:
    assert describe(event) == line


def test_the_table_above_has_every_kind_of_event() -> None:
    assert {type(event) for event in LINES.values()} == set(get_args(Event))


def test_a_line_is_bounded_whatever_the_host_says() -> None:
    assert len(describe(HostRefused("c", "X", "long " * 500, Lane.DONE))) <= LONGEST_LINE


def test_a_line_of_a_story_begins_with_the_phase_that_the_event_met() -> None:
    assert tell(Phase.REVIEWING, TimerFired()) == "reviewing: wait is over"


def test_a_story_keeps_its_last_lines() -> None:
    wp, _ = drive((*CLAIMING, *[TimerFired()] * 200))
    assert wp.story == ("claiming: wait is over",) * LONGEST_STORY
