"""Several reviewers and independent ones: whose approvals count, who is asked next, and what ends it."""

from dataclasses import replace

import pytest

from spec_kitty_orchestrator.core.commands import OpenAttempt, Park, Record
from spec_kitty_orchestrator.core.events import (
    AttemptOpened,
    Event,
    Parked,
    Recorded,
    ReviewClaimed,
    Scheduled,
)
from spec_kitty_orchestrator.core.lifecycle import step
from spec_kitty_orchestrator.core.model import Attempt, Lane, Outcome, Role
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.roles import order, reviewers
from spec_kitty_orchestrator.core.work_package import Work, WorkPackage, worked

from .builders import (
    BASE,
    HEAD,
    IMPLEMENTING,
    OTHER,
    POLICY,
    REVIEWING,
    SPACE,
    attempt,
    drive,
    exited,
    made,
    verdict_text,
)

THREE = replace(POLICY, review_agents=("bob", "ben", "bea"))
TWO_OF_THREE = replace(THREE, review_quorum=2)
ALL = replace(THREE, review_quorum=3)


def review(
    name: str, number: int, text: str | None = None, outcome: Outcome = Outcome.OK, head: str = HEAD
) -> tuple[Event, ...]:
    one = Attempt(f"r{number}", number, Role.REVIEW, name, f"/logs/r{number}", head, "tree")
    return made(one, outcome, verdict_text(one.id, head, summary=f"{name} agrees") if text is None else text)


def rejection(number: int) -> str:
    return verdict_text(f"r{number}", HEAD, "changes_requested", summary="rename it")


def test_a_quorum_asks_one_after_the_other_and_names_all_that_approved() -> None:
    wp, command = drive((*REVIEWING, *review("bob", 1)), TWO_OF_THREE)
    assert isinstance(command, OpenAttempt)
    assert (command.role, command.agent) == (Role.REVIEW, "ben")
    wp, command = drive(review("ben", 2), TWO_OF_THREE, wp)
    assert isinstance(command, Record)
    assert command.to is Lane.DONE
    assert (command.verdict.reviewer, command.verdict.attempt_id) == ("bob, ben", "r2")
    assert command.note == f"bob, ben approved {HEAD}"
    assert command.verdict.summary == "bob: bob agrees\n\nben: ben agrees"


def test_one_rejection_vetoes_at_once() -> None:
    wp, command = drive((*REVIEWING, *review("bob", 1), *review("ben", 2, rejection(2))), ALL)
    assert isinstance(command, Record)
    assert (command.to, command.verdict.reviewer) == (Lane.IN_PROGRESS, "ben")
    wp, _ = step(wp, Recorded(Lane.IN_PROGRESS), ALL)
    assert (wp.review.votes, order(wp, Role.REVIEW, ALL)) == ((), ALL.review_agents)


@pytest.mark.parametrize("outcome", [Outcome.AUTH, Outcome.OK])
def test_a_reviewer_that_fails_or_rambles_has_no_vote(outcome: Outcome) -> None:
    times = 1 if outcome is Outcome.AUTH else 2
    bad = [event for n in range(times) for event in review("ben", 2 + n, "LGTM", outcome)]
    wp, command = drive((*REVIEWING, *review("bob", 1), *bad), TWO_OF_THREE)
    assert isinstance(command, OpenAttempt)
    assert command.agent == "bea"
    _, command = drive(review("bea", 9), TWO_OF_THREE, wp)
    assert isinstance(command, Record)
    assert command.verdict.reviewer == "bob, bea"


def test_nobody_is_paid_for_a_quorum_that_cannot_be_reached_any_more() -> None:
    # A second try costs nothing, and others may show meanwhile that its reviewer is to blame.
    refused = (review("bob", number, "", Outcome.AUTH) for number in (1, 2))
    _, command = drive((*REVIEWING, *(event for each in refused for event in each)), ALL)
    assert isinstance(command, Park)
    assert not command.block
    assert "bob ended auth; the agent ended 2 times in a row" in command.reason


def test_a_vote_is_for_one_commit() -> None:
    wp, command = drive((*REVIEWING, *review("bob", 1), ReviewClaimed(BASE, OTHER)), TWO_OF_THREE)
    assert isinstance(command, OpenAttempt)
    assert command.agent == "bob"
    wp, command = drive(review("bob", 2, head=OTHER), TWO_OF_THREE, wp)
    assert isinstance(command, OpenAttempt), "one approval of the new commit"


def test_a_branch_that_moves_under_every_vote_ends_with_a_person() -> None:
    wp, command = drive((*REVIEWING,), TWO_OF_THREE)
    head = HEAD
    for number in range(1, 30):
        if isinstance(command, Park):
            break
        assert isinstance(command, OpenAttempt)
        wp, command = drive(review(command.agent, number, head=head), TWO_OF_THREE, wp)
        head = f"{number:040x}"
        wp, command = step(wp, ReviewClaimed(BASE, head), TWO_OF_THREE)
    assert isinstance(command, Park)


def test_a_quorum_that_was_raised_since_the_approval_is_asked_for() -> None:
    wp, command = drive((*REVIEWING, *review("bob", 1)), THREE)
    assert isinstance(command, Record)
    _, command = step(wp, Scheduled(Lane.IN_REVIEW, SPACE), TWO_OF_THREE)
    assert isinstance(command, OpenAttempt)
    assert command.agent == "ben"


FAMILIES = {"alice": "x", "ann": "y", "bob": "x", "ben": "y", "bea": "z"}
KNOWN = replace(THREE, families=FAMILIES)
STRICT = replace(KNOWN, independent_review=True)


def written_by(*agents: str, outcome: Outcome = Outcome.OK) -> WorkPackage:
    attempts = tuple(attempt(f"i{n}", agent=one) for n, one in enumerate(agents))
    return WorkPackage("WP01", attempts=attempts, outcomes=(outcome,) * len(agents), work=Work(head=HEAD))


def test_reviewers_of_another_family_are_asked_first() -> None:
    assert reviewers(written_by("alice"), KNOWN) == ("ben", "bea", "bob")
    assert reviewers(written_by("alice", "ann"), KNOWN) == ("bea", "bob", "ben")
    assert reviewers(written_by("alice"), STRICT) == ("ben", "bea")
    assert reviewers(written_by("alice"), THREE) == THREE.review_agents, "nobody knows the families"


@pytest.mark.parametrize("outcome", list(Outcome))
def test_who_may_have_left_edits_is_an_author_however_the_attempt_ended(outcome: Outcome) -> None:
    wp = written_by("alice", outcome=outcome)
    assert reviewers(wp, STRICT) == ("ben", "bea")
    assert reviewers(worked(wp, untouched=("i0",)), STRICT) == THREE.review_agents


def test_an_attempt_that_left_the_workspace_untouched_makes_no_author() -> None:
    crashed = (AttemptOpened(attempt("i1")), replace(exited("i1", Outcome.CRASHED), untouched=True))
    wp, _ = drive((*IMPLEMENTING, *crashed, *made(attempt("i2", agent="ann"))), STRICT)
    assert reviewers(wp, STRICT) == ("bob", "bea")


def test_a_reviewer_of_the_same_family_is_the_last_resort_without_the_demand() -> None:
    policy = replace(KNOWN, review_agents=("bob", "ben"))
    wp, command = drive(REVIEWING, policy)
    assert isinstance(command, OpenAttempt)
    assert command.agent == "ben"
    _, command = drive((*review("ben", 1, "", Outcome.AUTH), *review("ben", 2, "", Outcome.AUTH)), policy, wp)
    assert isinstance(command, OpenAttempt)
    assert command.agent == "bob"


def test_a_reviewer_of_the_same_family_is_never_used_where_independence_is_demanded() -> None:
    policy = replace(STRICT, review_agents=("bob", "ben"))
    wp, command = drive(REVIEWING, policy)
    assert isinstance(command, OpenAttempt)
    assert command.agent == "ben"
    _, command = drive((*review("ben", 1, "", Outcome.AUTH), *review("ben", 2, "", Outcome.AUTH)), policy, wp)
    assert isinstance(command, Park)
    assert not command.block
    wp, command = drive(REVIEWING, replace(policy, review_agents=("bob",)))
    assert isinstance(command, Park)
    assert "no reviewer is of another family" in command.reason


def test_an_approval_that_was_given_before_independence_was_demanded_does_not_count() -> None:
    old = replace(POLICY, review_agents=("bob", "ben"))
    wp, command = drive((*REVIEWING, *review("bob", 1)), old)
    assert isinstance(command, Record)
    strict = replace(old, families=FAMILIES, independent_review=True)
    _, command = step(wp, Scheduled(Lane.IN_REVIEW, SPACE), strict)
    assert isinstance(command, OpenAttempt)
    assert command.agent == "ben"


def test_who_is_independent_is_asked_anew_when_another_family_lends_a_hand() -> None:
    wp, _ = drive((*REVIEWING, *review("ben", 1, rejection(1)), Recorded(Lane.IN_PROGRESS)), KNOWN)
    wp, _ = drive(made(attempt("i9", agent="ann")), KNOWN, wp)
    assert order(wp, Role.REVIEW, KNOWN) == ("bea", "bob", "ben")


def test_a_lower_quorum_and_another_order_of_the_next_start_are_followed() -> None:
    wp, command = drive((*REVIEWING, *review("bob", 1), *review("ben", 2, "", Outcome.AUTH)), TWO_OF_THREE)
    assert order(wp, Role.REVIEW, TWO_OF_THREE) == ("bea",)
    _, command = step(wp, Scheduled(Lane.IN_REVIEW, SPACE), replace(POLICY, review_agents=("bea", "bob")))
    assert isinstance(command, Record)
    turned = replace(TWO_OF_THREE, review_agents=("ann", "bea", "ben", "bob"))
    _, command = step(wp, Scheduled(Lane.IN_REVIEW, SPACE), turned)
    assert isinstance(command, OpenAttempt)
    assert command.agent == "ann"


def test_a_quorum_that_parked_is_reached_with_the_lower_one_of_the_next_start() -> None:
    fails = (*review("ben", 2, "", Outcome.AUTH), *review("ben", 3, "", Outcome.AUTH))
    parked = (*REVIEWING, *review("bob", 1), *fails, Parked(Lane.IN_REVIEW))
    two = replace(POLICY, review_quorum=2)
    wp, _ = drive(parked, two)
    _, command = drive((Scheduled(Lane.IN_REVIEW, SPACE), ReviewClaimed(BASE, HEAD)), POLICY, wp)
    assert isinstance(command, Record)


@pytest.mark.parametrize("quorum", [1, 2])
def test_a_vote_that_is_void_passes_nobody_over(quorum: int) -> None:
    policy = replace(THREE, review_quorum=quorum)
    wp, command = drive((*REVIEWING, *review("bob", 1), ReviewClaimed(BASE, OTHER)), policy)
    assert isinstance(command, OpenAttempt)
    assert command.agent == "bob"
    assert order(wp, Role.REVIEW, policy) == THREE.review_agents


def test_a_policy_needs_one_approval_of_anybody_by_default() -> None:
    policy = Policy(("a",), ("b",))
    assert (policy.review_quorum, policy.independent_review, dict(policy.families)) == (1, False, {})
