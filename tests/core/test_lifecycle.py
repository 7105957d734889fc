"""The edges of a work package's life, each as: these events lead to that phase and that command."""

from dataclasses import replace
from math import log2

import pytest

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
    Wait,
)
from spec_kitty_orchestrator.core.events import (
    AgentExited,
    Assigned,
    AttemptOpened,
    BudgetSpent,
    Claimed,
    CommitRefused,
    Committed,
    Deferred,
    Event,
    GateBegun,
    GateBroken,
    GateFailed,
    GatesStopped,
    HeadMoved,
    LaneSeen,
    NothingToReview,
    Parked,
    Recorded,
    Resolving,
    ReviewClaimed,
    Scheduled,
    SetUp,
    Submitted,
    SubtasksTicked,
    Unblocked,
    WorkspaceFailed,
    WorkspaceResolved,
)
from spec_kitty_orchestrator.core.lifecycle import ANYWHERE, EDGES, step
from spec_kitty_orchestrator.core.model import (
    PLANNING_LANE,
    AgentReport,
    Evidence,
    Lane,
    MissionState,
    Outcome,
    Phase,
    Rescue,
    Result,
    Role,
    Usage,
    Workspace,
)
from spec_kitty_orchestrator.core.operator_events import (
    ApprovedByPerson,
    HandedBack,
    Retried,
    Skipped,
    Stopped,
    TakenOver,
    Told,
)
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.core.run import RunState, begin
from spec_kitty_orchestrator.core.transitions import charged, reopen, why_by_hand
from spec_kitty_orchestrator.core.verdict import FeedbackSource
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.errors import InvalidTransition

from .builders import (
    APPROVING,
    BASE,
    CLAIMING,
    CLAIMING_REVIEW,
    COMMITTING,
    GATED,
    HEAD,
    IMPLEMENTING,
    NOON,
    OTHER,
    PASSED,
    POLICY,
    REJECTING,
    REVIEW_RUNNING,
    REVIEWING,
    RUNNING,
    SPACE,
    SUBMITTED,
    SUBMITTING,
    again,
    attempt,
    drive,
    exited,
    made,
    one_agent,
    refused,
    report_text,
    results,
    start_at,
    verdict_text,
)

NAMED = (
    *RUNNING,
    exited("i1", text=report_text("i1", subtasks_done=["T001"])),
    Committed(Evidence(BASE, HEAD)),
)
TICKING = (*NAMED, refused(Lane.IN_PROGRESS, message="requires completed subtasks"))
PARKING = (*IMPLEMENTING, WorkspaceFailed("index.lock"))

ORDINARY: dict[str, tuple[tuple[Event, ...], Phase, type[Command]]] = {
    "a slot leads to the claim": (CLAIMING, Phase.CLAIMING, Claim),
    "a claim leads to an attempt": (IMPLEMENTING, Phase.IMPLEMENTING, OpenAttempt),
    "an opened attempt is run": (RUNNING, Phase.IMPLEMENTING, RunAgent),
    "a finished attempt is committed": (COMMITTING, Phase.COMMITTING, Commit),
    "committed work is submitted": (SUBMITTING, Phase.SUBMITTING, Submit),
    "open subtasks that the report names are ticked": (TICKING, Phase.SUBMITTING, TickSubtasks),
    "ticked subtasks lead to another submit": (
        (*TICKING, SubtasksTicked(("T001",))),
        Phase.SUBMITTING,
        Submit,
    ),
    "submitted work is reviewed at once": (SUBMITTED, Phase.REVIEWING, OpenAttempt),
    "work found for review is claimed for review": (
        CLAIMING_REVIEW,
        Phase.CLAIMING_REVIEW,
        ClaimReview,
    ),
    "a branch without work is rejected without a review": (
        (*REVIEWING, NothingToReview(HEAD)),
        Phase.RECORDING,
        Record,
    ),
    "the host is told of such a review first": (
        (*SUBMITTED, NothingToReview(HEAD)),
        Phase.CLAIMING_REVIEW,
        ClaimReview,
    ),
    "a claimed review leads to an attempt": (REVIEWING, Phase.REVIEWING, OpenAttempt),
    "an opened review is run": (REVIEW_RUNNING, Phase.REVIEWING, RunAgent),
    "an approval is recorded": (APPROVING, Phase.RECORDING, Record),
    "a recorded approval ends it": ((*APPROVING, Recorded(Lane.DONE)), Phase.FINISHED, Finish),
    "a rejection is recorded": (REJECTING, Phase.RECORDING, Record),
    "a recorded rejection leads to rework": (
        (*REJECTING, Recorded(Lane.IN_PROGRESS)),
        Phase.IMPLEMENTING,
        OpenAttempt,
    ),
    "a rejection that the host plans anew is claimed again": (
        (*REJECTING, Recorded(Lane.PLANNED)),
        Phase.CLAIMING,
        Claim,
    ),
    "a commit hook's refusal leads to rework": (
        (*COMMITTING, CommitRefused("hook failed")),
        Phase.IMPLEMENTING,
        OpenAttempt,
    ),
    "a head that moved during the review voids it": (
        (*REVIEWING, ReviewClaimed(BASE, OTHER)),
        Phase.REVIEWING,
        OpenAttempt,
    ),
    "a head that moved under the verdict voids it": (
        (*APPROVING, ReviewClaimed(BASE, OTHER)),
        Phase.REVIEWING,
        OpenAttempt,
    ),
    "nobody knows yet where it is worked on": ((Resolving(),), Phase.WAITING, Resolve),
    "it waits for a slot once that is known": ((WorkspaceResolved(SPACE),), Phase.WAITING, Wait),
    "a lane that others moved is followed": ((LaneSeen(Lane.DONE, ()),), Phase.FINISHED, Finish),
    "another slot takes the phase up again": (
        (*SUBMITTING, Scheduled(Lane.IN_PROGRESS, SPACE)),
        Phase.SUBMITTING,
        Submit,
    ),
    "who gives the slot back stays where it is": (
        (*IMPLEMENTING, Deferred("waits for codex")),
        Phase.IMPLEMENTING,
        Wait,
    ),
    "an agent that is assigned opens an attempt": (
        (*IMPLEMENTING, Assigned(Role.IMPLEMENT, "ann")),
        Phase.IMPLEMENTING,
        OpenAttempt,
    ),
    "one that has cost too much parks": ((*IMPLEMENTING, BudgetSpent("$9")), Phase.PARKING, Park),
    "one whose review would cost too much parks": ((*REVIEWING, BudgetSpent("$9")), Phase.PARKING, Park),
    "a reviewer that is assigned opens a review": (
        (*REVIEWING, Assigned(Role.REVIEW, "ben")),
        Phase.REVIEWING,
        OpenAttempt,
    ),
    "a broken workspace parks": (PARKING, Phase.PARKING, Park),
    "a parked one leaves": ((*PARKING, Parked(Lane.IN_PROGRESS)), Phase.FINISHED, Finish),
    "a person's retry takes a parked one up again": (
        (*PARKING, Parked(Lane.IN_PROGRESS), Retried()),
        Phase.WAITING,
        Claim,
    ),
    "a person's skip parks": ((*RUNNING, Skipped(Lane.IN_PROGRESS)), Phase.PARKING, Park),
    "a person's note changes nothing of what goes on": (
        (*RUNNING, Told("use tabs")),
        Phase.IMPLEMENTING,
        RunAgent,
    ),
    "a person's stop is for the next attempt once this one has ended": (
        (*RUNNING, Stopped("kim", "order-1"), exited("i1", Outcome.CANCELED)),
        Phase.IMPLEMENTING,
        OpenAttempt,
    ),
    "a person takes a parked one over": (
        (*PARKING, Parked(Lane.IN_PROGRESS), TakenOver("kim")),
        Phase.CLAIMING,
        Claim,
    ),
    "what a person hands back is claimed, and then committed": (
        (*PARKING, Parked(Lane.IN_PROGRESS), TakenOver("kim"), Claimed(SPACE, BASE), HandedBack("kim")),
        Phase.CLAIMING,
        Claim,
    ),
    "a person's approval is recorded": (
        (*REVIEWING, ApprovedByPerson("kim", HEAD, "I looked")),
        Phase.RECORDING,
        Record,
    ),
    "the host lets a blocked one go on": (
        (*PARKING, Parked(Lane.BLOCKED), Retried(), Unblocked(Lane.IN_PROGRESS)),
        Phase.WAITING,
        Wait,
    ),
    "a refusal where none is expected parks": (
        (*IMPLEMENTING, refused(Lane.IN_PROGRESS)),
        Phase.PARKING,
        Park,
    ),
}


FAILED = GateFailed(results(ok=False)[1], "E   assert 1 == 2")
CANNOT = GateBroken("tests", "its command was not found", "/logs/tests")
ADOPTED = (Scheduled(Lane.FOR_REVIEW, SPACE), ReviewClaimed(BASE, HEAD))

WITH_GATES: dict[str, tuple[tuple[Event, ...], Phase, type[Command]]] = {
    "committed work meets the gates first": (SUBMITTING, Phase.GATING, RunGates),
    "a gate that begins is waited for": ((*SUBMITTING, GateBegun("lint", HEAD)), Phase.GATING, RunGates),
    "work whose gates pass is submitted": ((*SUBMITTING, PASSED), Phase.SUBMITTING, Submit),
    "a red gate leads to rework": ((*SUBMITTING, FAILED), Phase.IMPLEMENTING, OpenAttempt),
    "a gate that cannot run parks": ((*SUBMITTING, CANNOT), Phase.PARKING, Park),
    "stopped gates are run again": ((*SUBMITTING, GatesStopped()), Phase.GATING, RunGates),
    "a branch that moved is committed again": ((*SUBMITTING, HeadMoved(OTHER)), Phase.COMMITTING, Commit),
    "submitted work whose gates passed is reviewed": (
        (*SUBMITTING, PASSED, Submitted()),
        Phase.REVIEWING,
        OpenAttempt,
    ),
    "adopted work meets the gates before a reviewer": (ADOPTED, Phase.GATING, RunGates),
    "adopted work whose gates pass is reviewed": ((*ADOPTED, PASSED), Phase.REVIEWING, OpenAttempt),
    "adopted work with a red gate is rejected": ((*ADOPTED, FAILED), Phase.RECORDING, Record),
    "adopted work that moved is claimed for review again": (
        (*ADOPTED, HeadMoved(OTHER)),
        Phase.CLAIMING_REVIEW,
        ClaimReview,
    ),
    "a gate that cannot run under review parks": ((*ADOPTED, CANNOT), Phase.PARKING, Park),
}


PREPARED = replace(GATED, setup=(Gate("setup-1", ("npm", "ci")),))
SET_UP = SetUp("worktree")

WITH_SETUP: dict[str, tuple[tuple[Event, ...], Phase, type[Command]]] = {
    "a claimed worktree is set up first": (IMPLEMENTING, Phase.IMPLEMENTING, PrepareWorkspace),
    "a setup that begins is waited for": (
        (*IMPLEMENTING, GateBegun("setup-1", HEAD)),
        Phase.IMPLEMENTING,
        PrepareWorkspace,
    ),
    "a stopped setup runs again": (
        (*IMPLEMENTING, GatesStopped()),
        Phase.IMPLEMENTING,
        PrepareWorkspace,
    ),
    "an attempt follows the setup": ((*IMPLEMENTING, SET_UP), Phase.IMPLEMENTING, OpenAttempt),
    "a setup that fails parks": (
        (*IMPLEMENTING, SetUp("worktree", (), "`npm ci` failed", "404")),
        Phase.PARKING,
        Park,
    ),
    "another turn asks whether the worktree is the same": (
        (*IMPLEMENTING, SET_UP, Scheduled(Lane.IN_PROGRESS, SPACE)),
        Phase.IMPLEMENTING,
        PrepareWorkspace,
    ),
    "gates need the setup too": (ADOPTED, Phase.GATING, PrepareWorkspace),
    "gates follow the setup": ((*ADOPTED, SET_UP), Phase.GATING, RunGates),
}


@pytest.mark.parametrize(("events", "phase", "command"), WITH_SETUP.values(), ids=WITH_SETUP)
def test_each_edge_leads_where_it_should_with_a_setup(
    events: tuple[Event, ...], phase: Phase, command: type[Command]
) -> None:
    wp, following = drive(events, PREPARED)
    assert (wp.phase, type(following)) == (phase, command)


@pytest.mark.parametrize(("events", "phase", "command"), WITH_GATES.values(), ids=WITH_GATES)
def test_each_edge_leads_where_it_should_with_gates(
    events: tuple[Event, ...], phase: Phase, command: type[Command]
) -> None:
    wp, following = drive(events, GATED)
    assert (wp.phase, type(following)) == (phase, command)


@pytest.mark.parametrize(("events", "phase", "command"), ORDINARY.values(), ids=ORDINARY)
def test_each_edge_leads_where_it_should(
    events: tuple[Event, ...], phase: Phase, command: type[Command]
) -> None:
    wp, following = drive(events)
    assert (wp.phase, type(following)) == (phase, command)


def test_the_table_above_passes_over_every_edge() -> None:
    passed: set[object] = set()
    for table, policy in ((ORDINARY, POLICY), (WITH_GATES, GATED), (WITH_SETUP, PREPARED)):
        for events, _, _ in table.values():
            wp = WorkPackage("WP01")
            for event in events:
                passed |= {(wp.phase, type(event)), type(event)}
                wp, _ = step(wp, event, policy)
    assert set(EDGES) | set(ANYWHERE) <= passed


def test_an_event_that_fits_no_edge_is_a_bug_told_with_the_whole_story() -> None:
    with pytest.raises(InvalidTransition, match="WP01: Submitted does not fit the phase claiming") as caught:
        drive((*CLAIMING, Submitted()))
    assert caught.value.story == (
        "waiting: has a slot, in lane-a",
        "claiming: handed over for review",
    )


def test_a_report_with_a_stale_attempt_id_changes_nothing_but_the_story() -> None:
    before, pending = drive(RUNNING)
    after, command = step(before, exited("stale", text=report_text("stale")), POLICY)
    assert (replace(after, story=before.story), command) == (before, pending)


def test_a_second_report_of_a_closed_attempt_is_ignored() -> None:
    before, pending = drive(APPROVING)
    after, command = step(before, exited("r1", text=verdict_text("r1", verdict="changes_requested")), POLICY)
    assert (replace(after, story=before.story), command) == (before, pending)


def test_the_approval_names_the_commit_and_the_lane_that_the_policy_wants() -> None:
    _, command = drive(APPROVING, replace(POLICY, finish_lane=Lane.APPROVED))
    assert isinstance(command, Record)
    assert (command.to, command.verdict.head, command.note) == (Lane.APPROVED, HEAD, f"bob approved {HEAD}")


@pytest.mark.parametrize("text", ["", "LGTM, approved", verdict_text("r1", OTHER), verdict_text("other")])
def test_a_review_without_a_usable_verdict_is_repeated_then_given_to_the_next_then_to_a_person(
    text: str,
) -> None:
    wp, command = drive(REVIEWING)
    asked = []
    for number in range(4):
        assert isinstance(command, OpenAttempt)
        asked.append(command.agent)
        one = attempt(f"r{number}x", Role.REVIEW, command.agent)
        wp, command = drive(made(one, text=text), wp=wp)
    assert asked == ["bob", "bob", "ben", "ben"]
    assert isinstance(command, Park)
    assert not command.block
    assert "a person must review it" in command.reason


@pytest.mark.parametrize("other", ["attempt", "commit", "none"])
def test_a_verdict_of_another_attempt_or_commit_approves_nothing(other: str) -> None:
    given = exited("r1", text=verdict_text("r1")).verdict
    assert given is not None
    foreign = {"attempt": replace(given, attempt_id="r0"), "commit": replace(given, head=OTHER)}
    wp, command = drive((*REVIEW_RUNNING, replace(exited("r1"), verdict=foreign.get(other))))
    assert (wp.review.verdict, wp.review.votes, wp.bounds.unusable) == (None, (), 1)
    assert isinstance(command, OpenAttempt)


def test_an_approval_by_a_reviewer_that_changed_the_tree_is_void() -> None:
    wp, command = drive(
        (*REVIEW_RUNNING, exited("r1", text=verdict_text("r1"), tampered=("it changed a.py",)))
    )
    assert (wp.phase, wp.review.verdict, wp.bounds.unusable) == (Phase.REVIEWING, None, 1)
    assert isinstance(command, OpenAttempt)
    assert wp.note == "the review is void: it changed a.py"


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.OK])
def test_an_approval_in_an_attempt_that_did_not_end_ok_is_none(outcome: Outcome) -> None:
    wp, command = drive((*REVIEW_RUNNING, exited("r1", outcome, verdict_text("r1"))))
    assert wp.review.verdict is None
    assert not isinstance(command, Record)


def test_a_branch_that_moves_under_every_verdict_ends_with_a_person() -> None:
    policy = one_agent()
    events = (*APPROVING, ReviewClaimed(BASE, OTHER), *made(attempt("r2", Role.REVIEW, head=OTHER)))
    wp, command = drive(events, policy)
    assert isinstance(command, Record)
    wp, command = step(wp, ReviewClaimed(BASE, "d" * 40), policy)
    assert isinstance(command, Park)
    assert not command.block


def test_rejections_end_in_blocked_on_the_host_when_the_cycles_are_used_up() -> None:
    policy = replace(POLICY, max_review_cycles=1)
    wp, command = drive(REJECTING, policy)
    assert isinstance(command, Record)
    assert command.to is Lane.BLOCKED
    assert "- rename it" in command.note
    wp, command = step(wp, Recorded(Lane.BLOCKED), policy)
    assert isinstance(command, Park)
    assert not command.block, "the host knows already"
    wp, command = step(wp, Parked(Lane.BLOCKED), policy)
    assert isinstance(command, Finish)
    assert command.result is Result.PARKED


def test_a_reviewer_that_moves_the_lane_itself_does_not_get_around_the_cycles() -> None:
    _, command = drive((*REJECTING, refused(Lane.IN_PROGRESS)), replace(POLICY, max_review_cycles=1))
    assert isinstance(command, Park)
    assert command.block


def test_a_reopened_work_package_has_all_its_cycles_and_attempts_again() -> None:
    policy = replace(POLICY, max_review_cycles=1, max_attempts=1)
    parked = (*REJECTING, Recorded(Lane.BLOCKED), Parked(Lane.BLOCKED), Scheduled(Lane.IN_PROGRESS, SPACE))
    wp, command = drive((*parked, Claimed(SPACE, BASE)), policy)
    assert isinstance(command, OpenAttempt)
    assert len(wp.review.rejected) == 1, "what was asked for is still shown"
    assert charged(wp) == 0


def test_feedback_of_a_review_reaches_the_implementer_until_work_is_submitted_again() -> None:
    wp, _ = drive((*REJECTING, Recorded(Lane.IN_PROGRESS)))
    assert [(one.source, one.text) for one in wp.work.feedback] == [(FeedbackSource.REVIEW, "- rename it")]
    wp, _ = drive((*made(attempt("i2")), Committed(Evidence(BASE, OTHER)), Submitted()), wp=wp)
    assert (wp.work.feedback, wp.work.head) == ((), OTHER)


def test_an_attempt_that_changed_nothing_and_gives_no_reason_is_sent_back() -> None:
    wp, command = drive((*COMMITTING, Committed(Evidence(BASE, BASE))))
    assert isinstance(command, OpenAttempt)
    assert wp.work.feedback[0].source is FeedbackSource.REPORT


def test_an_attempt_that_changed_nothing_for_a_reason_is_submitted_with_it() -> None:
    text = report_text("i1", no_change_reason="it was there")
    wp, command = drive((*RUNNING, exited("i1", text=text)))
    assert command == Commit("WP01: did it", "it was there")
    _, command = step(wp, Committed(Evidence(BASE, BASE)), POLICY)
    assert isinstance(command, Submit)
    assert "it was there" in command.note


def test_work_that_the_host_did_not_take_is_submitted_again_though_ticking_commits_nothing() -> None:
    events = (
        *SUBMITTING,
        refused(Lane.IN_PROGRESS, message="requires completed subtasks"),
        *made(attempt("i2")),
        Committed(Evidence(BASE, HEAD)),
    )
    _, command = drive(events)
    assert isinstance(command, Submit)


def test_attempts_that_were_stopped_or_met_a_limit_are_not_charged() -> None:
    ends = (Outcome.CANCELED, Outcome.RATE_LIMITED, Outcome.CRASHED)
    events = [event for number, end in enumerate(ends) for event in made(attempt(f"i{number}"), end)]
    wp, _ = drive((*IMPLEMENTING, *events))
    assert charged(wp) == 1


def test_an_attempt_that_is_stopped_again_and_again_is_given_up() -> None:
    wp, command = drive(IMPLEMENTING)
    for number in range(6):
        assert isinstance(command, OpenAttempt)
        wp, command = drive(made(attempt(f"x{number}"), Outcome.CANCELED), wp=wp)
    assert isinstance(command, Park)
    assert not command.block


def test_a_new_start_has_fresh_patience_with_stopped_attempts() -> None:
    mission = MissionState("m", {"WP01": Lane.IN_PROGRESS}, {})
    wp, command = drive(IMPLEMENTING)
    for number in range(9):
        wp, command = drive(made(attempt(f"x{number}"), Outcome.CANCELED), wp=wp)
        wp = begin(RunState(POLICY, {"WP01": wp}), start_at(mission, NOON)).wps["WP01"]
    assert isinstance(command, OpenAttempt)


def test_a_limit_waits_with_a_growing_back_off_then_the_next_agent_works_then_nobody() -> None:
    policy = replace(POLICY, retry_base_s=1.0)
    wp, command = drive(IMPLEMENTING, policy)
    seen: list[object] = []
    for number in range(8):
        assert isinstance(command, OpenAttempt)
        one = attempt(f"x{number}", agent=command.agent)
        wp, command = drive(made(one, Outcome.OVERLOADED), policy, wp)
        # The jitter is a fifth, so the nearest power of two tells which back-off it was.
        wait_s = command.seconds if isinstance(command, Wait) else None
        seen.append((one.agent, round(log2(wait_s)) if wait_s else type(command)))
        if isinstance(command, Wait):
            wp, command = again(wp, policy)
    assert seen == [
        *(("alice", doublings) for doublings in (0, 1, 2)),
        ("alice", OpenAttempt),
        *(("ann", doublings) for doublings in (0, 1, 2)),
        ("ann", Park),
    ]


def test_failed_attempts_end_in_blocked_when_they_are_used_up() -> None:
    policy = replace(POLICY, max_attempts=2)
    failed = (exited("i1", Outcome.CRASHED), *made(attempt("i2"), Outcome.CRASHED))
    _, command = drive((*RUNNING, *failed), policy)
    assert isinstance(command, Park)
    assert command.block
    assert command.reason == "not finished in 2 attempts: alice ended crashed"


def test_an_empty_refusal_of_the_last_attempts_commit_still_parks_with_a_reason() -> None:
    _, command = drive((*COMMITTING, CommitRefused("")), replace(POLICY, max_attempts=1))
    assert command == Park("not finished in 1 attempts: ", True)


def test_a_reviewer_that_cannot_log_in_is_followed_by_the_next_and_at_last_parks_in_review() -> None:
    events: list[Event] = [exited("r1", Outcome.AUTH)]
    for one in ("r2", "r3"):
        events += made(attempt(one, Role.REVIEW, "ben"), Outcome.AUTH)
    wp, command = drive((*REVIEW_RUNNING, *events))
    assert isinstance(command, Park)
    assert not command.block
    assert wp.lane is Lane.IN_REVIEW


@pytest.mark.parametrize("running", [RUNNING, REVIEW_RUNNING])
def test_a_workspace_that_breaks_under_a_running_attempt_parks_without_running_it_again(
    running: tuple[Event, ...],
) -> None:
    wp, command = drive((*running, WorkspaceFailed("disk full")))
    assert isinstance(command, Park)
    assert (wp.outcomes[-1], wp.open_attempt) == (Outcome.LOST, None)
    _, command = step(wp, WorkspaceFailed("still full"), POLICY)
    assert command == Finish(Result.PARKED, "disk full; still full")


PLANNING = replace(SPACE, lane_id=PLANNING_LANE, branch="m-planning", base_ref="main", target="main")


def test_a_planning_artifact_is_claimed_like_other_work() -> None:
    _, command = drive([Scheduled(Lane.PLANNED, PLANNING)])
    assert command == Claim()


@pytest.mark.parametrize(
    ("lane", "space", "words"),
    [
        (Lane.PLANNED, replace(PLANNING, target=""), "meta.json does not name the branch"),
        (Lane.IN_PROGRESS, PLANNING, "somebody else has in_progress"),
        (Lane.FOR_REVIEW, PLANNING, "somebody else has for_review"),
        (Lane.IN_REVIEW, PLANNING, "somebody else has in_review"),
    ],
)
def test_a_planning_artifact_whose_commits_nobody_can_tell_is_left_to_a_person(
    lane: Lane, space: Workspace, words: str
) -> None:
    wp, command = drive([Scheduled(lane, space)])
    assert isinstance(command, Finish)
    assert command.result is Result.PARKED
    assert words in command.reason
    assert command.reason == why_by_hand(space, lane)
    assert reopen(wp).workspace == (space if space.target else None)


def test_a_planning_artifact_is_begun_only_while_its_target_is_checked_out() -> None:
    assert why_by_hand(PLANNING, Lane.PLANNED, here="main") == ""
    assert "but other is checked out" in why_by_hand(PLANNING, Lane.PLANNED, here="other")
    assert "but no branch is checked out" in why_by_hand(PLANNING, Lane.PLANNED, here="")
    assert why_by_hand(SPACE, Lane.PLANNED, here="other") == ""


def test_the_subtasks_of_a_planning_artifact_are_ticked_before_it_is_submitted_by_force() -> None:
    one = attempt("a1")
    done = made(one, text=report_text("a1", subtasks_done=["T001"]))
    for space, first in ((PLANNING, TickSubtasks), (SPACE, Submit)):
        begun_ = (Scheduled(Lane.PLANNED, space), Claimed(space, BASE))
        wp, command = drive((*begun_, *done, Committed(Evidence(BASE, HEAD))))
        assert isinstance(command, first)
    assert wp.lane is Lane.IN_PROGRESS


def test_a_planning_artifact_that_is_done_is_done() -> None:
    _, command = drive([Scheduled(Lane.DONE, PLANNING)])
    assert isinstance(command, Finish)
    assert command.result is Result.DONE


FOUND = {
    Lane.PLANNED: Claim,
    Lane.CLAIMED: Claim,
    Lane.IN_PROGRESS: Claim,
    Lane.FOR_REVIEW: ClaimReview,
    Lane.IN_REVIEW: Result.FOREIGN,
    Lane.APPROVED: Result.APPROVED,
    Lane.DONE: Result.DONE,
    Lane.BLOCKED: Result.BLOCKED,
    Lane.CANCELED: Result.CANCELED,
}


@pytest.mark.parametrize("lane", Lane)
def test_a_work_package_that_we_know_nothing_of_is_taken_up_where_its_lane_says(lane: Lane) -> None:
    _, command = drive([Scheduled(lane, SPACE)])
    assert (command.result if isinstance(command, Finish) else type(command)) == FOUND[lane]


SAVED = {
    "a running attempt": (RUNNING, RunAgent),
    "work to commit": (COMMITTING, Commit),
    "work to submit": (SUBMITTING, Submit),
    "a verdict to record": (APPROVING, Record),
    "a parking to tell": (PARKING, Park),
}


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize(("events", "command"), SAVED.values(), ids=SAVED)
def test_what_holds_something_to_save_goes_on_at_a_new_start_whatever_the_lane(
    events: tuple[Event, ...], command: type[Command], lane: Lane
) -> None:
    _, following = drive((*events, Scheduled(lane, SPACE)))
    assert type(following) is command


@pytest.mark.parametrize("lane", [Lane.APPROVED, Lane.DONE, Lane.BLOCKED, Lane.CANCELED])
def test_what_a_person_settled_meanwhile_is_not_blocked_by_our_parking(lane: Lane) -> None:
    events = (*RUNNING, exited("i1", Outcome.CRASHED))
    policy = replace(POLICY, max_attempts=1)
    _, told = drive(events, policy)
    assert isinstance(told, Park)
    assert told.block
    _, later = drive((*events, Scheduled(lane, SPACE)), policy)
    assert isinstance(later, Park)
    assert not later.block


def test_tokens_and_money_add_up_and_unknown_money_stays_unknown() -> None:
    def spent(name: str, cost: float | None) -> AgentExited:
        return AgentExited(name, AgentReport(Outcome.CRASHED, usage=Usage(10, 1, cost)))

    wp, _ = drive((*RUNNING, spent("i1", None)))
    assert wp.usage == Usage(10, 1, None)
    wp, _ = drive((AttemptOpened(attempt("i2")), spent("i2", 0.5)), wp=wp)
    assert wp.usage == Usage(20, 2, 0.5)


def test_a_person_is_told_what_an_attempt_left_that_is_not_committed_and_changed_nothing_else() -> None:
    left = tuple(f"{name}.md: not its own" for name in "abcd")
    nothing = Committed(Evidence(BASE, BASE, left_out=left))
    again = (AttemptOpened(attempt("i2")), exited("i2", text=report_text("i2")), nothing)
    wp, _ = drive((*COMMITTING, nothing, *again), replace(POLICY, impl_agents=("alice",)))
    told = "what it left is not committed: a.md: not its own, b.md: not its own, c.md: not its own and 1 more"
    assert wp.note.endswith(told)


def test_what_parking_saved_and_what_a_commit_left_out_is_remembered() -> None:
    wp, _ = drive((*COMMITTING, Committed(Evidence(BASE, HEAD, left_out=(".env: a secret",)))))
    assert wp.work.left_out == (".env: a secret",)
    wp, _ = drive((*PARKING, Parked(Lane.IN_PROGRESS, Rescue(("refs/rescue/1",)))))
    assert wp.rescued == Rescue(("refs/rescue/1",))
