"""What a person does to a work package: take it over, hand it back, approve it."""

import pytest

from spec_kitty_orchestrator.core.commands import (
    Claim,
    ClaimReview,
    Commit,
    Finish,
    OpenAttempt,
    Park,
    Record,
    RunGates,
    Submit,
)
from spec_kitty_orchestrator.core.events import (
    NO_REPLY,
    Claimed,
    CommitRefused,
    Committed,
    Event,
    GateFailed,
    GatesPassed,
    Parked,
    Recorded,
    ReviewClaimed,
    Scheduled,
    Submitted,
    WorkspaceFailed,
)
from spec_kitty_orchestrator.core.lifecycle import agrees, step
from spec_kitty_orchestrator.core.model import Evidence, Lane, Outcome, Phase, Result, Role
from spec_kitty_orchestrator.core.operator_events import (
    ApprovedByPerson,
    HandedBack,
    Retried,
    Skipped,
    Stopped,
    TakenOver,
    Told,
)
from spec_kitty_orchestrator.core.people import (
    why_not_approved,
    why_not_handed_back,
    why_not_taken,
    why_other_commit,
)
from spec_kitty_orchestrator.core.reviewing import cycles
from spec_kitty_orchestrator.core.roles import reviewers
from spec_kitty_orchestrator.core.transitions import charged
from spec_kitty_orchestrator.core.work_package import WorkPackage

from .builders import (
    APPROVING,
    BASE,
    COMMITTING,
    GATED,
    HEAD,
    IMPLEMENTING,
    OTHER,
    POLICY,
    REJECTING,
    REVIEW_RUNNING,
    REVIEWING,
    RUNNING,
    SPACE,
    SUBMITTING,
    again,
    begun,
    drive,
    exited,
    journal,
    one_agent,
    refused,
    results,
    verdict_text,
)

ONE_REJECTION = one_agent(max_review_cycles=1)
PARKED: tuple[Event, ...] = (*REJECTING, Recorded(Lane.BLOCKED), Parked(Lane.BLOCKED))
TAKEN: tuple[Event, ...] = (*PARKED, TakenOver("anna"), Claimed(SPACE, HEAD))
HANDED: tuple[Event, ...] = (*TAKEN, HandedBack("anna", "mended the roof", ("T001",)), Claimed(SPACE, HEAD))
APPROVED = ApprovedByPerson("anna", HEAD, "I looked at it")


IN_REVIEW: tuple[Event, ...] = (*REVIEWING, WorkspaceFailed("no usable verdict"), Parked(Lane.IN_REVIEW))


def after(*events: Event, policy: object = ONE_REJECTION) -> tuple[WorkPackage, object]:
    return drive(events, policy)  # type: ignore[arg-type]


def test_a_work_package_that_is_taken_over_leaves_the_run_once_the_host_knows_it() -> None:
    wp, command = after(*PARKED, TakenOver("anna"))
    assert (command, wp.phase) == (Claim(), Phase.CLAIMING)
    assert wp.note == "taken over by anna"
    wp, command = after(*TAKEN)
    assert isinstance(command, Finish)
    assert (wp.result, wp.lane, wp.note) == (Result.PARKED, Lane.IN_PROGRESS, "taken over by anna")


@pytest.mark.parametrize(
    "lane", [Lane.PLANNED, Lane.IN_PROGRESS, Lane.FOR_REVIEW, Lane.IN_REVIEW, Lane.BLOCKED]
)
def test_a_start_after_a_kill_tells_the_host_what_the_journal_says_whatever_the_lane(lane: Lane) -> None:
    for events, told in (((*PARKED, TakenOver("anna")), "anna"), ((*HANDED[:-1],), "")):
        wp = begun(lane, *events, policy=ONE_REJECTION)
        wp, command = step(wp, Scheduled(lane, SPACE), ONE_REJECTION)
        assert command == Claim()
        assert (wp.taken.by if wp.taken else "") == told


def test_a_start_leaves_alone_what_is_taken_over_until_somebody_completes_it() -> None:
    for lane in (Lane.PLANNED, Lane.IN_PROGRESS, Lane.FOR_REVIEW, Lane.BLOCKED):
        wp = begun(lane, *TAKEN, policy=ONE_REJECTION)
        assert (wp.phase, agrees(wp), wp.taken is not None) == (Phase.FINISHED, True, True)
    wp = begun(Lane.DONE, *TAKEN, policy=ONE_REJECTION)
    assert (wp.phase, wp.result) == (Phase.FINISHED, Result.DONE)


def test_an_attempt_that_was_open_is_given_up_and_its_end_changes_nothing() -> None:
    wp, command = after(*RUNNING, TakenOver("anna"), policy=POLICY)
    assert (wp.open_attempt, wp.outcomes, command) == (None, (Outcome.LOST,), Claim())


def test_a_planned_work_package_begins_where_the_person_finds_it() -> None:
    wp, _ = after(Scheduled(Lane.PLANNED, SPACE), TakenOver("anna"), Claimed(SPACE, BASE))
    assert (wp.work.base, wp.phase) == (BASE, Phase.FINISHED)


def test_a_host_that_does_not_answer_is_told_again_and_then_a_person_must_look() -> None:
    wp, command = after(*PARKED, TakenOver("anna"), refused(Lane.BLOCKED, NO_REPLY, call="transition"))
    assert (wp.phase, wp.taken is not None) == (Phase.CLAIMING, True)
    assert not isinstance(command, Finish)


def test_what_is_handed_back_is_committed_gated_and_reviewed_and_is_no_attempt() -> None:
    wp, command = after(*TAKEN, HandedBack("anna", "mended the roof", ("T001",)))
    assert command == Claim()
    wp, command = after(*HANDED)
    assert command == Commit("WP01: mended the roof", "mended the roof")
    made = (*HANDED, Committed(Evidence(BASE, OTHER)))
    wp, command = drive(made[-1:], GATED, after(*HANDED)[0])
    assert command == RunGates(OTHER, 1, 1)
    wp, command = after(*made)
    assert isinstance(command, Submit)
    assert "alice, anna" in command.note
    wp, command = after(*made, Submitted())
    assert isinstance(command, OpenAttempt)
    assert (command.role, command.agent) == (Role.REVIEW, "bob")
    assert (charged(wp), cycles(wp)) == (0, 0)
    assert len(wp.attempts) == 2


def test_nothing_has_to_change_for_work_to_be_handed_back() -> None:
    _wp, command = after(*TAKEN, HandedBack("anna"), Claimed(SPACE, HEAD), Committed(Evidence(BASE, HEAD)))
    assert isinstance(command, Submit)


def test_what_cannot_be_committed_stays_where_it_is_until_it_is_tried_again() -> None:
    wp, command = after(*HANDED, CommitRefused("the hook says no"))
    assert "what anna handed back cannot be committed: the hook says no" in wp.note
    assert command.rescue is False  # type: ignore[attr-defined]
    parked = (*HANDED, CommitRefused("the hook says no"), Parked(Lane.IN_PROGRESS))
    wp, _ = after(*parked, Retried())
    wp, command = step(wp, Scheduled(Lane.IN_PROGRESS, SPACE), ONE_REJECTION)
    assert isinstance(command, Commit)


def test_a_red_gate_sends_work_of_a_person_to_an_agent_whose_work_it_then_is() -> None:
    red = GateFailed(results(OTHER, ok=False)[0], "E 1 == 2")
    wp, command = drive((Committed(Evidence(BASE, OTHER)), red), GATED, after(*HANDED)[0])
    assert isinstance(command, OpenAttempt)
    assert (command.role, wp.work.by) == (Role.IMPLEMENT, "")


def test_reviewers_are_as_independent_of_agents_as_before() -> None:
    policy = one_agent(families={"alice": "a", "bob": "b"}, independent_review=True, max_review_cycles=1)
    wp, _ = drive(HANDED, policy)
    assert reviewers(wp, policy) == ("bob",)
    same = one_agent(families={"alice": "a", "bob": "a"}, independent_review=True, max_review_cycles=1)
    assert reviewers(after(*HANDED)[0], same) == ()


@pytest.mark.parametrize("lane", [Lane.FOR_REVIEW, Lane.IN_REVIEW])
def test_a_person_approves_one_commit_and_the_host_is_told_of_that_review(lane: Lane) -> None:
    wp, command = after(*IN_REVIEW[:-1], Parked(lane), APPROVED)
    if isinstance(command, ClaimReview):
        wp, command = step(wp, ReviewClaimed(BASE, HEAD), POLICY)
    assert isinstance(command, Record)
    assert (command.verdict.reviewer, command.verdict.head, command.to) == ("anna", HEAD, Lane.DONE)
    assert command.verdict.by_person
    wp, command = step(wp, Recorded(Lane.DONE), POLICY)
    assert (wp.result, wp.note) == (Result.DONE, f"anna approved {HEAD}")


def test_what_is_blocked_goes_through_a_review_of_that_person() -> None:
    _, command = after(*PARKED, APPROVED)
    assert isinstance(command, Submit)
    _, command = after(*PARKED, APPROVED, Submitted())
    assert command == ClaimReview()
    _, command = after(*PARKED, APPROVED, Submitted(), ReviewClaimed(BASE, HEAD))
    assert isinstance(command, Record)
    assert command.verdict.summary == "I looked at it"


def test_an_approval_survives_a_kill_before_the_host_was_told() -> None:
    wp = begun(Lane.BLOCKED, *PARKED, APPROVED, policy=ONE_REJECTION)
    wp, command = step(wp, Scheduled(Lane.BLOCKED, SPACE), ONE_REJECTION)
    assert isinstance(command, Submit)
    wp = begun(Lane.IN_REVIEW, *PARKED, APPROVED, Submitted(), policy=ONE_REJECTION)
    wp, command = step(wp, Scheduled(Lane.IN_REVIEW, SPACE), ONE_REJECTION)
    assert command == ClaimReview()
    assert wp.approved_by == "anna"


def test_the_approval_of_one_commit_is_none_of_another() -> None:
    wp, command = after(*PARKED, APPROVED, Submitted(), ReviewClaimed(BASE, OTHER))
    assert isinstance(command, OpenAttempt)
    assert (command.role, wp.approved_by) == (Role.REVIEW, "")


def test_gates_have_the_last_word_on_what_a_person_approves_too() -> None:
    parked, _ = after(*IN_REVIEW)
    wp, command = drive((APPROVED,), GATED, parked)
    assert isinstance(command, RunGates)
    wp, command = drive((APPROVED, GatesPassed(results())), GATED, parked)
    assert isinstance(command, Record)
    assert command.verdict.by_person
    red = GateFailed(results(ok=False)[0], "E 1 == 2")
    wp, command = drive((APPROVED, red), GATED, parked)
    assert wp.approved_by == ""


def test_a_person_is_enough_where_several_reviewers_must_agree() -> None:
    policy = one_agent(review_quorum=2)
    _wp, command = drive((APPROVED,), policy, after(*IN_REVIEW)[0])
    assert isinstance(command, Record)
    assert command.verdict.reviewer == "anna"


def test_a_host_that_refuses_what_a_person_approved_leaves_it_to_a_person() -> None:
    wp, _ = after(*PARKED, APPROVED, refused(Lane.IN_PROGRESS, message="subtasks are open"))
    assert (wp.phase, wp.blocks) == (Phase.PARKING, False)
    assert "subtasks are open" in wp.note


def test_who_may_not_take_a_work_package_over_is_told_why() -> None:
    parked, _ = after(*PARKED)
    taken, _ = after(*TAKEN)
    done = begun(Lane.DONE, *PARKED)
    foreign, _ = after(*IMPLEMENTING[:1], refused(Lane.IN_PROGRESS, "WP_ALREADY_CLAIMED", call="claim"))
    assert why_not_taken(parked, (), "anna") == ""
    assert why_not_taken(parked, ("WP00",), "anna") == "WP01 cannot be begun before WP00"
    assert why_not_taken(taken, (), "anna").endswith("hand it back with `handback WP01`")
    assert why_not_taken(taken, (), "bert") == "WP01 is taken over by anna: only one can have it"
    assert "nothing left to decide" in why_not_taken(done, (), "anna")
    assert "not this run's to give away" in why_not_taken(foreign, (), "anna")


def test_only_who_took_it_over_hands_it_back() -> None:
    taken, _ = after(*TAKEN)
    assert why_not_handed_back(taken, "anna") == ""
    assert "not by bert" in why_not_handed_back(taken, "bert")
    assert "was not taken over" in why_not_handed_back(after(*PARKED)[0], "anna")
    assert "`resume` tells it" in why_not_handed_back(after(*PARKED, TakenOver("anna"))[0], "anna")


def test_who_may_not_approve_is_told_why() -> None:
    parked, _ = after(*PARKED)
    assert why_not_approved(parked, POLICY, "anna") == ""
    assert "name of an agent" in why_not_approved(parked, POLICY, "Bob")
    assert "has an attempt" in why_not_approved(after(*REVIEW_RUNNING)[0], POLICY, "anna")
    assert "nothing to review" in why_not_approved(WorkPackage("WP01"), POLICY, "anna")
    own, _ = after(*HANDED, Committed(Evidence(BASE, OTHER)), Submitted())
    assert why_not_approved(own, POLICY, "anna") == ""
    strict = one_agent(independent_review=True)
    assert "somebody else approves it" in why_not_approved(own, strict, "Anna")
    assert why_not_approved(own, strict, "bert") == ""


def test_only_the_very_commit_that_is_recorded_can_be_approved() -> None:
    wp, _ = after(*PARKED)
    assert why_other_commit(wp, HEAD, "", ()) == ""
    assert why_other_commit(wp, HEAD, HEAD[:10], ()) == ""
    assert "WP01 moved" in why_other_commit(wp, OTHER, "", ())
    assert "not at" in why_other_commit(wp, HEAD, OTHER, ())
    assert "not at aaa" in why_other_commit(wp, HEAD, "aaa", ())
    assert "cannot be read" in why_other_commit(wp, "", "", ())
    assert "cannot be approved: a.py" in why_other_commit(wp, HEAD, "", ("a.py",))


def test_when_it_was_taken_over_is_known_from_the_journal() -> None:
    wp = begun(Lane.IN_PROGRESS, *TAKEN, policy=ONE_REJECTION)
    assert wp.taken is not None
    assert wp.taken.told == "taken over by anna at 12:00 UTC"
    assert journal(*TAKEN)


AT_WORK = {
    "before an attempt": (Lane.IN_PROGRESS, IMPLEMENTING),
    "a commit": (Lane.IN_PROGRESS, COMMITTING),
    "a submission": (Lane.IN_PROGRESS, SUBMITTING),
    "a submission that the host took": (Lane.FOR_REVIEW, SUBMITTING),
    "before a review": (Lane.IN_REVIEW, REVIEWING),
    "a verdict on its way": (Lane.IN_REVIEW, APPROVING),
}


@pytest.mark.parametrize("name", AT_WORK)
def test_a_crash_before_what_was_at_work_ended_loses_no_order(name: str) -> None:
    lane, story = AT_WORK[name]
    taken, command = again(begun(lane, *story, TakenOver("anna", "order-1")))
    assert (command, taken.taken is not None, taken.halted) == (Claim(), True, False)
    left, command = again(begun(lane, *story, Skipped(Lane.IN_PROGRESS, "later", "anna", "order-1")))
    assert isinstance(command, Park)
    assert (left.note, left.leaves) == ("later", "")


def test_a_crash_loses_no_order_about_what_the_host_had_already_completed() -> None:
    wp = begun(Lane.DONE, *APPROVING, TakenOver("anna", "order-1"))
    assert (wp.taken, wp.halted) == (None, False)


@pytest.mark.parametrize(
    "order", [Stopped("kim", "order-1"), Told("use tabs", now=True, by="kim", order="order-1")], ids=str
)
def test_the_verdict_of_a_review_that_a_person_had_stopped_counts_for_nothing(order: Event) -> None:
    wp, command = drive([*REVIEW_RUNNING, order, exited("r1", text=verdict_text("r1"))])
    assert isinstance(command, OpenAttempt)
    assert (command.role, wp.review.votes, wp.review.verdict) == (Role.REVIEW, (), None)
