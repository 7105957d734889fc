"""What follows each refusal of the host: the lane read after it decides, then the error code."""

from dataclasses import replace

import pytest

from spec_kitty_orchestrator.core.commands import (
    Claim,
    ClaimReview,
    Command,
    Finish,
    OpenAttempt,
    Park,
    Record,
    Submit,
    TickSubtasks,
    Wait,
)
from spec_kitty_orchestrator.core.events import (
    CRASHED,
    NO_REPLY,
    AttemptOpened,
    Claimed,
    Committed,
    Event,
    HostRefused,
    Resolving,
    ReviewClaimed,
    Scheduled,
    Submitted,
    SubtasksTicked,
    WorkspaceFailed,
    WorkspaceResolved,
)
from spec_kitty_orchestrator.core.lifecycle import step
from spec_kitty_orchestrator.core.model import Evidence, Lane, Phase, Result, Role
from spec_kitty_orchestrator.core.operator_events import Skipped
from spec_kitty_orchestrator.core.refusals import MOST_TRIES
from spec_kitty_orchestrator.core.transitions import MOST_MOVES
from spec_kitty_orchestrator.core.verdict import FeedbackSource

from .builders import (
    APPROVING,
    BASE,
    CLAIMING,
    CLAIMING_REVIEW,
    HEAD,
    IMPLEMENTING,
    POLICY,
    REJECTING,
    RUNNING,
    SPACE,
    SUBMITTED,
    SUBMITTING,
    again,
    attempt,
    drive,
    exited,
    made,
    refused,
    report_text,
    verdict_text,
)

DEPENDENCIES = "DEPENDENCIES_NOT_SATISFIED"
ALLOCATION = "LANE_ALLOCATION_FAILED"
OPEN = "Transition in_progress -> for_review requires completed subtasks or force with reason"
NAMED = (
    *RUNNING,
    exited("i1", text=report_text("i1", subtasks_done=["T001", "T002"])),
    Committed(Evidence(BASE, HEAD)),
)
SKIPPED = (*RUNNING, Skipped(Lane.IN_PROGRESS, "not now"))

Row = tuple[tuple[Event, ...], HostRefused, "type[Command] | Result"]
ROWS: dict[str, Row] = {
    "a claim before its dependencies waits": (
        CLAIMING,
        refused(Lane.PLANNED, DEPENDENCIES),
        Wait,
    ),
    "a claim while another branch is checked out is repeated": (
        CLAIMING,
        refused(Lane.PLANNED, "WP_NOT_FOUND"),
        Wait,
    ),
    "a claim of somebody else's is left to them": (
        CLAIMING,
        HostRefused("start-implementation", "WP_ALREADY_CLAIMED", "no", Lane.IN_PROGRESS, "eve"),
        Result.FOREIGN,
    ),
    "a racing lane allocation is repeated": (CLAIMING, refused(Lane.PLANNED, ALLOCATION, "try again"), Wait),
    "a dirty worktree is left to a person": (
        CLAIMING,
        refused(Lane.PLANNED, ALLOCATION, "worktree has uncommitted changes"),
        Park,
    ),
    "a conflict with a dependency is left to a person": (
        CLAIMING,
        refused(Lane.PLANNED, ALLOCATION, "cannot auto-merge dependency lane"),
        Park,
    ),
    "a rejected claim is repeated": (CLAIMING, refused(Lane.PLANNED), Wait),
    "a claim whose reply was lost is repeated": (CLAIMING, refused(Lane.PLANNED, NO_REPLY), Wait),
    "a claim whose reply was lost after its effect is repeated": (
        CLAIMING,
        refused(Lane.IN_PROGRESS, NO_REPLY),
        Wait,
    ),
    "a claim for a policy that the host refuses is left to a person": (
        CLAIMING,
        refused(Lane.PLANNED, "POLICY_VALIDATION_FAILED"),
        Park,
    ),
    "a claim that finds it submitted is followed by a review": (
        CLAIMING,
        refused(Lane.FOR_REVIEW),
        ClaimReview,
    ),
    "a claim that finds it in somebody's review is left to them": (
        CLAIMING,
        refused(Lane.IN_REVIEW),
        Result.FOREIGN,
    ),
    "a claim that finds it approved ends it": (CLAIMING, refused(Lane.APPROVED), Result.APPROVED),
    "a claim that finds it done ends it": (CLAIMING, refused(Lane.DONE), Result.DONE),
    "a claim that finds it blocked ends it": (CLAIMING, refused(Lane.BLOCKED), Result.BLOCKED),
    "a claim that finds it canceled ends it": (CLAIMING, refused(Lane.CANCELED), Result.CANCELED),
    "a submit without a commit goes back": (
        SUBMITTING,
        refused(Lane.IN_PROGRESS, message="no commits beyond the base"),
        OpenAttempt,
    ),
    "a submit with open subtasks that no report names goes back": (
        SUBMITTING,
        refused(Lane.IN_PROGRESS, message=OPEN),
        OpenAttempt,
    ),
    "a submit with open subtasks that the report names ticks them": (
        NAMED,
        refused(Lane.IN_PROGRESS, message=OPEN),
        TickSubtasks,
    ),
    "a submit whose reply was lost before its effect is repeated": (
        SUBMITTING,
        refused(Lane.IN_PROGRESS, NO_REPLY),
        Wait,
    ),
    "a submit whose reply was lost after its effect is done": (
        SUBMITTING,
        refused(Lane.FOR_REVIEW, NO_REPLY),
        ClaimReview,
    ),
    "a submit that the agent made itself is done": (SUBMITTING, refused(Lane.FOR_REVIEW), ClaimReview),
    "a submit that finds it in review goes on with the review": (
        SUBMITTING,
        refused(Lane.IN_REVIEW),
        ClaimReview,
    ),
    "a submit that finds it planned again claims it": (SUBMITTING, refused(Lane.PLANNED), Claim),
    "a submit that finds it claimed claims it": (SUBMITTING, refused(Lane.CLAIMED), Claim),
    "a claim whose worktree lacks the planning commit is left to a person": (
        CLAIMING,
        refused(Lane.PLANNED, "ANCESTRY_NOT_ESTABLISHED"),
        Park,
    ),
    "a submit that finds it approved ends it": (SUBMITTING, refused(Lane.APPROVED), Result.UNREVIEWED),
    "a submit that finds it done ends it": (SUBMITTING, refused(Lane.DONE), Result.UNREVIEWED),
    "a submit that finds it blocked ends it": (SUBMITTING, refused(Lane.BLOCKED), Result.BLOCKED),
    "a submit that finds it canceled ends it": (SUBMITTING, refused(Lane.CANCELED), Result.CANCELED),
    "a review claim that is refused is repeated": (CLAIMING_REVIEW, refused(Lane.FOR_REVIEW), Wait),
    "a review claim whose reply was lost is repeated": (
        CLAIMING_REVIEW,
        refused(Lane.IN_REVIEW, NO_REPLY),
        Wait,
    ),
    "a review claim that finds it sent back claims it": (CLAIMING_REVIEW, refused(Lane.IN_PROGRESS), Claim),
    "a review claim that finds it done ends it": (CLAIMING_REVIEW, refused(Lane.DONE), Result.UNREVIEWED),
    "an approval whose reply was lost before its effect is repeated": (
        APPROVING,
        refused(Lane.IN_REVIEW, NO_REPLY),
        Wait,
    ),
    "an approval whose reply was lost after its effect is done": (
        APPROVING,
        refused(Lane.DONE, NO_REPLY),
        Result.DONE,
    ),
    "an approval that somebody else recorded is approved": (
        APPROVING,
        refused(Lane.APPROVED),
        Result.APPROVED,
    ),
    "an approval that finds it sent back claims it": (APPROVING, refused(Lane.IN_PROGRESS), Claim),
    "an approval that finds it blocked ends it": (APPROVING, refused(Lane.BLOCKED), Result.BLOCKED),
    "an approval that finds it canceled ends it": (APPROVING, refused(Lane.CANCELED), Result.CANCELED),
    "a rejection whose reply was lost before its effect is repeated": (
        REJECTING,
        refused(Lane.IN_REVIEW, NO_REPLY),
        Wait,
    ),
    "a rejection whose reply was lost after its effect leads to rework": (
        REJECTING,
        refused(Lane.IN_PROGRESS, NO_REPLY),
        OpenAttempt,
    ),
    "a rejection that finds it planned claims it": (REJECTING, refused(Lane.PLANNED), Claim),
    "a rejection that finds it approved by a person ends it": (
        REJECTING,
        refused(Lane.APPROVED),
        Result.UNREVIEWED,
    ),
    "a submit while another branch is checked out is repeated": (
        SUBMITTING,
        refused(Lane.IN_PROGRESS, "WP_NOT_FOUND"),
        Wait,
    ),
    "a submit for a policy that the host refuses is no matter of the implementer": (
        SUBMITTING,
        refused(Lane.IN_PROGRESS, "POLICY_VALIDATION_FAILED"),
        Park,
    ),
    "a submit that is called in the wrong way is left to a person": (
        SUBMITTING,
        refused(Lane.IN_PROGRESS, "USAGE_ERROR"),
        Park,
    ),
    "a parking whose reply was lost before its effect is repeated": (
        SKIPPED,
        refused(Lane.IN_PROGRESS, NO_REPLY),
        Wait,
    ),
    "a parking whose reply was lost after its effect is done": (
        SKIPPED,
        refused(Lane.BLOCKED, NO_REPLY),
        Result.PARKED,
    ),
    "a parking that the host does not take ends all the same": (
        (*IMPLEMENTING, WorkspaceFailed("disk full")),
        refused(Lane.IN_PROGRESS),
        Result.PARKED,
    ),
}


@pytest.mark.parametrize(("events", "refusal", "expected"), ROWS.values(), ids=ROWS)
def test_each_refusal_is_answered(
    events: tuple[Event, ...], refusal: HostRefused, expected: "type[Command] | Result"
) -> None:
    wp, command = drive((*events, refusal))
    assert (command.result if isinstance(command, Finish) else type(command)) == expected
    assert wp.lane is refusal.lane


def test_a_foreign_claim_is_reported_with_its_actor() -> None:
    wp, _ = drive((*CLAIMING, HostRefused("c", "WP_ALREADY_CLAIMED", "no", Lane.CLAIMED, "eve")))
    assert wp.note == "claimed by eve"


def test_what_somebody_else_approved_is_said_not_to_be_our_review() -> None:
    wp, _ = drive((*SUBMITTING, refused(Lane.APPROVED)))
    assert wp.review.verdict is None
    assert wp.note.endswith("no review of ours approved it")


def test_a_refused_submit_goes_back_with_the_hosts_own_words() -> None:
    wp, _ = drive((*SUBMITTING, refused(Lane.IN_PROGRESS, message="no commits beyond the base")))
    assert wp.work.feedback[0].source is FeedbackSource.HOST
    assert "no commits beyond the base" in wp.work.feedback[0].text


def test_a_submit_that_is_refused_for_ever_is_bounded_by_the_attempts_and_blocks() -> None:
    policy = replace(POLICY, max_attempts=3)
    wp, command = drive(IMPLEMENTING, policy)
    for number in range(3):
        assert isinstance(command, OpenAttempt)
        work = (*made(attempt(f"x{number}")), Committed(Evidence(BASE, f"{number:040x}")))
        wp, command = drive((*work, refused(Lane.IN_PROGRESS)), policy, wp)
    assert isinstance(command, Park)
    assert command.block


def test_exactly_the_named_subtasks_are_ticked_and_only_once() -> None:
    refusal = refused(Lane.IN_PROGRESS, message=OPEN)
    wp, command = drive((*NAMED, refusal))
    assert command == TickSubtasks(("T001", "T002"))
    wp, command = step(wp, SubtasksTicked(("T001", "T002")), POLICY)
    assert isinstance(command, Submit)
    wp, command = step(wp, refusal, POLICY)
    assert isinstance(command, OpenAttempt)
    assert OPEN in wp.work.feedback[-1].text


def test_nothing_is_ticked_where_only_the_agent_may() -> None:
    refusal = refused(Lane.IN_PROGRESS, message=OPEN)
    _, command = drive((*NAMED, refusal), replace(POLICY, tick_subtasks=False))
    assert isinstance(command, OpenAttempt)


def test_nothing_is_ticked_after_another_refusal() -> None:
    _, command = drive((*NAMED, refused(Lane.IN_PROGRESS, message="no commits beyond the base")))
    assert isinstance(command, OpenAttempt)


def test_a_tick_that_is_refused_goes_back_with_its_message() -> None:
    tick = refused(Lane.IN_PROGRESS, "SUBTASKS_NOT_FOUND", "no T002 in tasks.md", "mark-status")
    wp, command = drive((*NAMED, refused(Lane.IN_PROGRESS, message=OPEN), tick))
    assert isinstance(command, OpenAttempt)
    assert "no T002 in tasks.md" in wp.work.feedback[-1].text
    assert wp.work.to_tick == ()


def test_a_tick_whose_reply_was_lost_is_repeated() -> None:
    lost = refused(Lane.IN_PROGRESS, NO_REPLY)
    wp, command = drive((*NAMED, refused(Lane.IN_PROGRESS, message=OPEN), lost))
    assert isinstance(command, Wait)
    assert again(wp)[1] == TickSubtasks(("T001", "T002"))


SETTINGS = "error: could not lock config file .git/config: File exists"
RACE = "cannot lock ref 'refs/heads/b': reference already exists"
REPEATED = {
    "a claim": (CLAIMING, refused(Lane.PLANNED, ALLOCATION, RACE), False),
    "a claim beside another one": (CLAIMING, refused(Lane.PLANNED, ALLOCATION, SETTINGS), False),
    "a claim that crashes over a lock": (CLAIMING, refused(Lane.PLANNED, CRASHED, "LockTimeout"), False),
    "a claim before its dependencies": (CLAIMING, refused(Lane.PLANNED, DEPENDENCIES), False),
    "a claim of what the host does not find": (CLAIMING, refused(Lane.PLANNED, "WP_NOT_FOUND"), False),
    "a submit": (SUBMITTING, refused(Lane.IN_PROGRESS, NO_REPLY), True),
    "a review claim": (CLAIMING_REVIEW, refused(Lane.FOR_REVIEW, NO_REPLY), False),
    "a verdict": (APPROVING, refused(Lane.IN_REVIEW, NO_REPLY), False),
}
FOR_GOOD = {
    "a claim": (CLAIMING, refused(Lane.PLANNED), False),
    "an allocation": (CLAIMING, refused(Lane.PLANNED, ALLOCATION, "not a valid object name: 'b'"), False),
    "a claim that crashes": (CLAIMING, refused(Lane.PLANNED, CRASHED, "KeyError: 'WP01'"), False),
    "a submit that crashes": (SUBMITTING, refused(Lane.IN_PROGRESS, CRASHED, "KeyError: 'WP01'"), True),
    "a review claim": (CLAIMING_REVIEW, refused(Lane.FOR_REVIEW), False),
    "a verdict": (APPROVING, refused(Lane.IN_REVIEW), False),
}


@pytest.mark.parametrize(("events", "refusal", "blocks"), FOR_GOOD.values(), ids=FOR_GOOD)
def test_what_the_host_says_twice_in_the_same_words_is_final(
    events: tuple[Event, ...], refusal: HostRefused, blocks: bool
) -> None:
    wp, pending = drive(events)
    wp, command = step(wp, refusal, POLICY)
    assert isinstance(command, Wait)
    wp, command = again(wp)
    assert command == pending
    # Other words are another matter.
    wp, command = step(wp, replace(refusal, message=f"{refusal.message}, still"), POLICY)
    assert isinstance(command, Wait)
    wp, _ = again(wp)
    wp, command = step(wp, replace(refusal, message=f"{refusal.message}, still"), POLICY)
    assert isinstance(command, Park)
    assert (command.block, "failed 3 times" in wp.note) == (blocks, True)
    assert f"{refusal.message}, still" in wp.note


def test_a_parking_over_which_the_host_crashes_ends_at_its_second_crash() -> None:
    crash = refused(Lane.IN_PROGRESS, CRASHED, "KeyError: 'WP01'")
    wp, _ = drive(SKIPPED)
    wp, command = step(wp, crash, POLICY)
    assert isinstance(command, Wait)
    wp, command = again(wp)
    assert command == Park("not now", block=True)
    _, command = step(wp, crash, POLICY)
    assert command == Finish(Result.PARKED, "not now; the host was not told: KeyError: 'WP01'")


@pytest.mark.parametrize(("events", "refusal", "blocks"), REPEATED.values(), ids=REPEATED)
def test_a_call_is_repeated_after_growing_waits_and_then_parked(
    events: tuple[Event, ...], refusal: HostRefused, blocks: bool
) -> None:
    wp, pending = drive(events)
    waits = []
    for _ in range(MOST_TRIES):
        wp, command = step(wp, refusal, POLICY)
        assert isinstance(command, Wait)
        waits.append(command.seconds)
        wp, command = again(wp)
        assert command == pending
    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0]
    _, command = step(wp, refusal, POLICY)
    assert isinstance(command, Park)
    assert command.block is blocks


def test_who_is_claimed_before_its_dependencies_waits_for_them_again() -> None:
    wp, command = drive((*CLAIMING, refused(Lane.PLANNED, DEPENDENCIES, "needs WP00")))
    assert (wp.phase, command) == (Phase.WAITING, Wait("transition: needs WP00", 2.0))


def test_a_parking_that_is_never_answered_ends_with_what_the_host_was_not_told() -> None:
    wp, command = drive(SKIPPED)
    for _ in range(MOST_TRIES):
        wp, _ = step(wp, refused(Lane.IN_PROGRESS, NO_REPLY), POLICY)
        wp, command = again(wp)
        assert command == Park("not now", block=True)
    _, command = step(wp, refused(Lane.IN_PROGRESS, NO_REPLY), POLICY)
    assert command == Finish(Result.PARKED, "not now; the host was not told: no")


@pytest.mark.parametrize(
    ("code", "waits"), [(NO_REPLY, True), ("WP_NOT_FOUND", True), ("USAGE_ERROR", False)]
)
def test_a_workspace_that_the_host_does_not_tell_is_asked_for_with_patience(code: str, waits: bool) -> None:
    refusal = refused(Lane.PLANNED, code, call="resolve-workspace")
    wp, command = drive((Resolving(), refusal))
    assert isinstance(command, Wait) is waits
    wp, command = drive((Resolving(), refusal) * MOST_TRIES, wp=wp) if waits else (wp, command)
    assert isinstance(command, Finish)
    assert command.result is Result.PARKED


def test_calls_that_were_repeated_before_the_workspace_was_known_are_not_counted_later() -> None:
    lost = refused(Lane.PLANNED, NO_REPLY, call="resolve-workspace")
    wp, _ = drive((*(Resolving(), lost) * 3, Resolving(), WorkspaceResolved(SPACE)))
    assert wp.bounds.tries == 0


def test_a_worktree_of_others_that_the_host_does_not_tell_is_asked_for_again() -> None:
    wp, _ = drive([Scheduled(Lane.IN_REVIEW, SPACE)])
    _, command = drive((Resolving(), refused(Lane.IN_REVIEW, NO_REPLY)), wp=wp)
    assert isinstance(command, Wait)
    assert command.seconds == 60.0


def test_a_review_that_somebody_keeps_voiding_is_not_paid_for_without_end() -> None:
    wp, command = drive(APPROVING)
    for number in range(MOST_MOVES):
        assert isinstance(command, Record)
        wp, command = step(wp, refused(Lane.FOR_REVIEW), POLICY)
        assert isinstance(command, ClaimReview)
        events = (ReviewClaimed(BASE, HEAD), *made(attempt(f"r{number}", Role.REVIEW)))
        wp, command = drive(events, wp=wp)
    _, command = step(wp, refused(Lane.FOR_REVIEW), POLICY)
    assert isinstance(command, Park)
    assert not command.block


def test_a_work_package_that_is_planned_anew_after_each_attempt_has_no_more_than_its_attempts() -> None:
    policy = replace(POLICY, max_attempts=1)
    events = (*SUBMITTING, refused(Lane.PLANNED), Claimed(SPACE, BASE))
    _, command = drive(events, policy)
    assert isinstance(command, Park)
    assert command.block


def test_a_review_that_we_began_is_taken_up_again_but_not_one_of_others() -> None:
    _, ours = drive((*CLAIMING_REVIEW, Scheduled(Lane.IN_REVIEW, SPACE)))
    assert isinstance(ours, ClaimReview)
    _, theirs = drive([Scheduled(Lane.IN_REVIEW, SPACE)])
    assert isinstance(theirs, Finish)
    assert theirs.result is Result.FOREIGN


def test_a_review_found_by_nobody_is_reviewed_from_its_fork_point() -> None:
    wp, command = drive([Scheduled(Lane.FOR_REVIEW, SPACE), ReviewClaimed(BASE, HEAD)])
    assert isinstance(command, OpenAttempt)
    assert (command.role, wp.work.base, wp.work.head) == (Role.REVIEW, BASE, HEAD)


def test_submitting_again_after_feedback_clears_it() -> None:
    wp, _ = drive((*SUBMITTING, refused(Lane.IN_PROGRESS)))
    wp, _ = drive((*made(attempt("i2")), Committed(Evidence(BASE, "d" * 40)), Submitted()), wp=wp)
    assert wp.work.feedback == ()


REFUSED_REVIEW: dict[str, tuple[Lane, type[Command] | Result]] = {
    "in for_review the claim is repeated": (Lane.FOR_REVIEW, Wait),
    "in review the verdict is recorded": (Lane.IN_REVIEW, Record),
    "sent back it is claimed again": (Lane.IN_PROGRESS, Claim),
    "done by somebody else it ends": (Lane.DONE, Result.UNREVIEWED),
    "canceled it ends": (Lane.CANCELED, Result.CANCELED),
}


@pytest.mark.parametrize(("lane", "expected"), REFUSED_REVIEW.values(), ids=REFUSED_REVIEW)
def test_an_approval_of_a_review_that_the_host_refused_waits_for_the_claim(
    lane: Lane, expected: type[Command] | Result
) -> None:
    opened = (*SUBMITTED, AttemptOpened(attempt("r1", Role.REVIEW)))
    report = replace(exited("r1", text=verdict_text("r1")), refused=refused(lane, NO_REPLY))
    wp, command = drive((*opened, report))
    assert (command.result if isinstance(command, Finish) else type(command)) == expected
    if lane is Lane.FOR_REVIEW:
        wp, command = drive((Scheduled(lane, SPACE), ReviewClaimed(BASE, HEAD)), wp=wp)
        assert isinstance(command, Record), "a paid review is not repeated"
    elif lane is not Lane.IN_REVIEW:
        assert wp.review.verdict is None


def test_a_conflict_of_dependencies_is_not_told_with_the_advice_that_only_puts_it_off() -> None:
    message = (
        "cannot auto-merge dependency lane 'lane-b' (x) into lane 'lane-c': the merge conflicts. "
        "merge 'x' into lane 'lane-c' manually, resolve the conflicts, commit, then re-run."
    )
    wp, _ = drive((*CLAIMING, refused(Lane.PLANNED, ALLOCATION, message)), POLICY)
    assert wp.note == (
        "cannot auto-merge dependency lane 'lane-b' (x) into lane 'lane-c': the merge conflicts with what "
        "else it needs: merge one of the two branches into the other, not into this one, and have it "
        "reviewed again"
    )


def test_a_conflict_with_the_plan_is_told_with_the_hosts_own_advice() -> None:
    message = (
        "cannot auto-merge the recorded planning commit '9b7e' into lane 'lane-a': the merge conflicts. "
        "merge '9b7e' into the lane 'lane-a' worktree manually, resolve the conflicts, commit."
    )
    wp, _ = drive((*CLAIMING, refused(Lane.PLANNED, ALLOCATION, message)), POLICY)
    assert wp.note == message


def test_who_has_no_file_is_parked_in_words_that_name_it() -> None:
    wp, _ = drive((Resolving(), refused(Lane.PLANNED, "WP_NOT_FOUND")) * (MOST_TRIES + 1))
    assert wp.result is Result.PARKED
    assert wp.note.startswith("the host finds no file tasks/WP01*.md: ")
