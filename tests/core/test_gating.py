"""Gates: nobody is paid to review a commit before they passed on it, and no approval goes without them."""

from dataclasses import replace

import pytest

from spec_kitty_orchestrator.core.commands import OpenAttempt, Park, Record, RunGates, Submit
from spec_kitty_orchestrator.core.events import (
    Claimed,
    Committed,
    Event,
    GateBroken,
    GateFailed,
    GatesPassed,
    GatesStopped,
    HeadMoved,
    Parked,
    Recorded,
    ReviewClaimed,
    Scheduled,
    Submitted,
)
from spec_kitty_orchestrator.core.lifecycle import step
from spec_kitty_orchestrator.core.model import Evidence, Lane, Phase, Role
from spec_kitty_orchestrator.core.operator_events import Retried
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.core.reviewing import unproven
from spec_kitty_orchestrator.core.verdict import FeedbackSource
from spec_kitty_orchestrator.core.work_package import Work

from .builders import (
    APPROVING,
    BASE,
    COMMITTING,
    GATED,
    GATES,
    HEAD,
    OTHER,
    PASSED,
    POLICY,
    REVIEW_RUNNING,
    SPACE,
    SUBMITTING,
    attempt,
    drive,
    exited,
    made,
    report_text,
    results,
    verdict_text,
)

RED = GateFailed(results(ok=False)[1], "E   assert 1 == 2")
BROKEN = GateBroken("tests", "its command was not found", "/logs/tests")
ADOPTED: tuple[Event, ...] = (Scheduled(Lane.FOR_REVIEW, SPACE), ReviewClaimed(BASE, HEAD))
REVIEW = made(attempt("r1", Role.REVIEW))


def test_the_command_names_the_commit_the_last_attempt_and_the_turn() -> None:
    wp, command = drive(SUBMITTING, GATED)
    assert command == RunGates(HEAD, 1, 1)
    _, command = step(wp, GatesStopped(), GATED)
    assert command == RunGates(HEAD, 1, 2)


def test_a_result_counts_for_its_commit_and_its_command_only() -> None:
    assert unproven(GATES, results(), HEAD) == ()
    assert unproven(GATES, results(), OTHER) == ("lint", "tests")
    assert unproven(GATES, results(ok=False), HEAD) == ("lint", "tests")
    changed = (GATES[0], replace(GATES[1], command=("true",)))
    assert unproven(changed, results(), HEAD) == ("tests",)


def test_the_host_is_told_what_the_gates_said() -> None:
    wp, command = drive((*SUBMITTING, PASSED), GATED)
    assert isinstance(command, Submit)
    assert f"- tests: passed on {HEAD} in 12 s" in command.note
    _, command = drive((Submitted(), *REVIEW), GATED, wp)
    assert isinstance(command, Record)
    assert f"- lint: passed on {HEAD}" in command.note
    assert Work().gates_told == ""


def test_the_tail_of_a_red_gate_reaches_the_implementer_and_counts_as_an_attempt() -> None:
    wp, command = drive((*SUBMITTING, RED), GATED)
    assert isinstance(command, OpenAttempt)
    (feedback,) = wp.work.feedback
    assert feedback.source is FeedbackSource.GATE
    assert f"The gate tests failed on {HEAD}" in feedback.text
    assert "E   assert 1 == 2" in feedback.text
    _, command = drive((*SUBMITTING, RED), replace(GATED, max_attempts=1))
    assert isinstance(command, Park)
    assert command.block
    assert "The gate tests failed" in command.reason


def test_an_attempt_that_changes_nothing_after_a_red_gate_is_told_so() -> None:
    wp, command = drive((*SUBMITTING, RED, *made(attempt("i2")), Committed(Evidence(BASE, HEAD))), GATED)
    assert isinstance(command, OpenAttempt)
    assert [one.source for one in wp.work.feedback] == [FeedbackSource.GATE, FeedbackSource.REPORT]


SAME = (
    *SUBMITTING,
    RED,
    *made(attempt("i2"), text=report_text("i2", no_change_reason="it is flaky")),
    Committed(Evidence(BASE, HEAD)),
)


def test_a_gate_is_not_run_again_on_content_that_it_failed_on_whatever_the_implementer_says() -> None:
    wp, command = drive(SAME, GATED)
    assert isinstance(command, OpenAttempt)
    assert "just what the gate tests failed on" in wp.work.feedback[-1].text


def test_a_gate_that_was_changed_since_has_said_nothing_of_that_content() -> None:
    wp, _ = drive(SAME[:-1], GATED)
    changed = replace(GATED, gates=tuple(replace(one, command=("make", one.name)) for one in GATES))
    _, command = drive(SAME[-1:], changed, wp)
    assert isinstance(command, RunGates)


def test_a_gate_that_cannot_run_parks_with_the_reason_and_its_log() -> None:
    _, command = drive((*SUBMITTING, BROKEN), GATED)
    assert command == Park("gate tests cannot run: its command was not found; see /logs/tests", True)
    _, command = drive((*ADOPTED, BROKEN), GATED)
    assert isinstance(command, Park)
    assert not command.block, "the host blocks work in review on a reviewer's word only"


PARKED: tuple[Event, ...] = (*SUBMITTING, BROKEN, Parked(Lane.BLOCKED))
BACK: tuple[Event, ...] = (Scheduled(Lane.IN_PROGRESS, SPACE), Claimed(SPACE, HEAD))


def test_once_a_broken_gate_is_mended_it_runs_before_anybody_is_paid() -> None:
    _, command = drive((*PARKED, Retried(), *BACK), GATED)
    assert isinstance(command, RunGates)
    wp, _ = drive((*PARKED, Retried()), GATED)
    _, command = drive(BACK, POLICY, wp)
    assert isinstance(command, Submit), "the gate was taken out of the settings"


@pytest.mark.parametrize("change", ["guidance", "another commit"])
def test_a_parked_work_package_with_something_new_goes_to_its_implementer(change: str) -> None:
    retried = Retried("use a dict" if change == "guidance" else "")
    claimed = Claimed(SPACE, HEAD if change == "guidance" else OTHER)
    _, command = drive((*PARKED, retried, BACK[0], claimed), GATED)
    assert isinstance(command, OpenAttempt)


def test_gates_that_are_stopped_again_and_again_are_given_up() -> None:
    wp, command = drive(SUBMITTING, GATED)
    for _ in range(6):
        assert isinstance(command, RunGates)
        wp, command = step(wp, GatesStopped(), GATED)
    assert isinstance(command, Park)


def test_a_branch_that_is_moved_before_every_gate_is_given_up() -> None:
    wp, command = drive(SUBMITTING, GATED)
    for number in range(6):
        assert isinstance(command, RunGates)
        wp, command = step(wp, HeadMoved(f"{number:040x}"), GATED)
        if isinstance(command, Park):
            break
        wp, command = step(wp, Committed(Evidence(BASE, f"{number:040x}")), GATED)
    assert isinstance(command, Park)


def test_results_that_leave_a_gate_out_prove_nothing() -> None:
    _, command = drive((*SUBMITTING, GatesPassed(results()[:1])), GATED)
    assert isinstance(command, Park)
    assert "gate tests gave no result" in command.reason
    _, command = drive((*SUBMITTING, GatesPassed(results(OTHER))), GATED)
    assert isinstance(command, Park)


def test_adopted_work_with_a_red_gate_goes_back_to_an_implementer_without_a_review() -> None:
    wp, command = drive((*ADOPTED, RED), GATED)
    assert isinstance(command, Record)
    assert (command.to, command.verdict.reviewer) == (Lane.IN_PROGRESS, "gate tests")
    assert "E   assert 1 == 2" in command.note
    wp, command = step(wp, Recorded(Lane.IN_PROGRESS), GATED)
    assert isinstance(command, OpenAttempt)
    assert command.role is Role.IMPLEMENT


def test_a_head_that_moved_during_the_review_meets_the_gates_again() -> None:
    events = (*SUBMITTING, PASSED, Submitted(), ReviewClaimed(BASE, OTHER))
    wp, command = drive(events, GATED)
    assert command == RunGates(OTHER, 1, 2)
    _, command = step(wp, GatesPassed(results(OTHER)), GATED)
    assert isinstance(command, OpenAttempt)
    assert command.role is Role.REVIEW


@pytest.mark.parametrize("before", [APPROVING, (*REVIEW_RUNNING,)])
def test_an_approval_given_before_there_were_gates_waits_for_them(before: tuple[Event, ...]) -> None:
    wp, _ = drive(before)
    events = [] if before is APPROVING else [exited("r1", text=verdict_text("r1"))]
    wp, command = drive((Scheduled(Lane.IN_REVIEW, SPACE), *events), GATED, wp)
    assert isinstance(command, RunGates)
    _, command = step(wp, PASSED, GATED)
    assert isinstance(command, Record)
    assert command.to is Lane.DONE
    _, command = step(wp, RED, GATED)
    assert isinstance(command, Record)
    assert command.to is Lane.IN_PROGRESS


def test_a_new_start_goes_on_with_the_gates_where_the_lane_still_fits() -> None:
    for lane in (Lane.IN_PROGRESS, Lane.FOR_REVIEW, Lane.IN_REVIEW):
        wp, command = drive((*SUBMITTING, Scheduled(lane, SPACE)), GATED)
        assert isinstance(command, RunGates)
    assert wp.lane is Lane.IN_REVIEW
    wp, _ = step(wp, PASSED, GATED)
    assert wp.phase is Phase.CLAIMING_REVIEW, "we never told the host of a review"
    _, command = drive((*SUBMITTING, Scheduled(Lane.BLOCKED, SPACE)), GATED)
    assert isinstance(command, Park)


def test_work_of_a_start_without_gates_meets_those_of_the_next_before_its_review() -> None:
    wp, command = drive(SUBMITTING)
    assert isinstance(command, Submit)
    wp, command = drive((Scheduled(Lane.IN_PROGRESS, SPACE), Submitted()), GATED, wp)
    assert isinstance(command, RunGates)
    _, command = step(wp, PASSED, GATED)
    assert isinstance(command, OpenAttempt)


def test_without_gates_nothing_changes() -> None:
    _, command = drive((*COMMITTING, Committed(Evidence(BASE, HEAD))))
    assert isinstance(command, Submit)
    assert Gate("a", ("b",)).timeout_s == 900
