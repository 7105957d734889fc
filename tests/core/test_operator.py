"""What a person decides about a work package between runs."""

import pytest

from spec_kitty_orchestrator.core.commands import (
    Claim,
    ClaimReview,
    Command,
    Finish,
    OpenAttempt,
    Park,
    Submit,
    Unblock,
)
from spec_kitty_orchestrator.core.events import (
    NO_REPLY,
    Claimed,
    Event,
    Parked,
    Recorded,
    Scheduled,
)
from spec_kitty_orchestrator.core.lifecycle import step
from spec_kitty_orchestrator.core.model import Lane, Phase, Rescue, Result
from spec_kitty_orchestrator.core.operator_events import Retried, Skipped
from spec_kitty_orchestrator.core.reviewing import cycles
from spec_kitty_orchestrator.core.transitions import charged
from spec_kitty_orchestrator.core.verdict import Feedback, FeedbackSource
from spec_kitty_orchestrator.core.work_package import WorkPackage

from .builders import (
    HEAD,
    IMPLEMENTING,
    REJECTING,
    RUNNING,
    SPACE,
    SUBMITTING,
    begun,
    drive,
    one_agent,
    refused,
)

ONE_REJECTION = one_agent(max_review_cycles=1)
PARKED: tuple[Event, ...] = (*REJECTING, Recorded(Lane.BLOCKED), Parked(Lane.BLOCKED, Rescue(("refs/x",))))
ADVICE = Feedback(FeedbackSource.OPERATOR, "use a dict")


def taken_up(lane: Lane, *events: Event) -> WorkPackage:
    """Begin a start on a journal with these events, which rejects but once."""
    return begun(lane, *events, policy=ONE_REJECTION)


def test_a_retried_work_package_is_claimed_again_with_fresh_bounds() -> None:
    wp = taken_up(Lane.IN_PROGRESS, *PARKED, Retried())
    assert (wp.phase, wp.result) == (Phase.WAITING, None)
    assert (charged(wp), cycles(wp)) == (0, 0)
    _, command = step(wp, Scheduled(Lane.IN_PROGRESS, SPACE), ONE_REJECTION)
    assert command == Claim()


def test_its_implementer_is_told_of_the_last_rejection_and_of_the_note() -> None:
    wp = taken_up(Lane.IN_PROGRESS, *PARKED, Retried("use a dict"))
    assert [one.source for one in wp.work.feedback] == [FeedbackSource.REVIEW, FeedbackSource.OPERATOR]
    assert wp.work.feedback[0].text == "- rename it"
    assert wp.work.feedback[1] == ADVICE


def test_the_same_note_twice_is_told_once() -> None:
    wp = taken_up(Lane.BLOCKED, *PARKED, Retried("use a dict"), Retried("use a dict"))
    assert wp.work.feedback.count(ADVICE) == 1


def test_a_retry_that_the_host_never_heard_of_is_told_to_it_by_the_next_start() -> None:
    wp = taken_up(Lane.BLOCKED, *PARKED, Retried())
    assert (wp.phase, wp.result) == (Phase.WAITING, None)
    _, command = step(wp, Scheduled(Lane.BLOCKED, SPACE), ONE_REJECTION)
    assert isinstance(command, Unblock)


def test_what_was_parked_in_review_is_reviewed_again() -> None:
    wp = taken_up(Lane.IN_REVIEW, *PARKED, Retried())
    _, command = step(wp, Scheduled(Lane.IN_REVIEW, SPACE), ONE_REJECTION)
    assert command == ClaimReview()


def test_work_that_somebody_else_blocked_goes_on_where_it_was() -> None:
    wp = taken_up(Lane.IN_PROGRESS, *IMPLEMENTING, Retried("use a dict"))
    assert (wp.phase, wp.work.feedback) == (Phase.IMPLEMENTING, (ADVICE,))
    _, command = step(wp, Scheduled(Lane.IN_PROGRESS, SPACE), ONE_REJECTION)
    assert isinstance(command, OpenAttempt)


@pytest.mark.parametrize(("note", "expected"), [("", Submit), ("use a dict", OpenAttempt)])
def test_guidance_for_work_that_waits_to_be_submitted_goes_to_its_implementer(
    note: str, expected: type[Command]
) -> None:
    parked = (*SUBMITTING, refused(Lane.IN_PROGRESS, "USAGE_ERROR"), Parked(Lane.IN_PROGRESS), Retried(note))
    wp, command = drive((Scheduled(Lane.IN_PROGRESS, SPACE),), wp=taken_up(Lane.IN_PROGRESS, *parked))
    if isinstance(command, Claim):
        wp, command = drive((Claimed(SPACE, HEAD),), wp=wp)
    assert type(command) is expected


@pytest.mark.parametrize("lane", [Lane.PLANNED, Lane.CLAIMED, Lane.IN_PROGRESS, Lane.FOR_REVIEW])
def test_skipping_parks_and_tells_the_host(lane: Lane) -> None:
    wp, command = drive((*RUNNING, Skipped(lane, "not now")))
    assert command == Park("not now", block=True)
    assert wp.open_attempt is None
    wp, command = drive((Parked(Lane.BLOCKED),), wp=wp)
    assert isinstance(command, Finish)
    assert (wp.result, wp.lane) == (Result.PARKED, Lane.BLOCKED)


@pytest.mark.parametrize("lane", [Lane.IN_REVIEW, Lane.BLOCKED])
def test_skipping_does_not_tell_the_host_what_only_a_reviewer_may_or_what_it_knows(lane: Lane) -> None:
    _, command = drive((*IMPLEMENTING, Skipped(lane)))
    assert command == Park("skipped by a person", block=False)


def test_a_skipped_work_package_stays_out_of_later_runs_until_it_is_retried() -> None:
    skipped = (*IMPLEMENTING, Skipped(Lane.IN_REVIEW), Parked(Lane.IN_REVIEW))
    assert taken_up(Lane.IN_REVIEW, *skipped).result is Result.PARKED
    assert taken_up(Lane.IN_REVIEW, *skipped, Retried()).phase is Phase.WAITING


def test_a_skip_that_the_host_may_not_have_heard_of_is_told_at_the_next_start() -> None:
    lost = refused(Lane.IN_PROGRESS, NO_REPLY)
    wp = taken_up(Lane.IN_PROGRESS, *IMPLEMENTING, Skipped(Lane.IN_PROGRESS, "not now"), *[lost] * 6)
    assert wp.phase is Phase.PARKING
    wp, command = drive((Scheduled(Lane.IN_PROGRESS, SPACE),), wp=wp)
    assert command == Park("not now", block=True)
    wp, _ = drive((Parked(Lane.BLOCKED),), wp=wp)
    assert (wp.result, wp.skipped) == (Result.PARKED, True)


def test_a_skipped_work_package_that_somebody_finished_is_done() -> None:
    assert taken_up(Lane.DONE, Skipped(Lane.PLANNED), Parked(Lane.BLOCKED)).result is Result.DONE


def test_an_unknown_work_package_can_be_skipped() -> None:
    _, command = drive((Skipped(Lane.PLANNED),))
    assert command == Park("skipped by a person", block=True)
