"""Rework: which session goes on, what its prompt holds, and when a cycle that turns in place is ended."""

from dataclasses import replace
from functools import partial

import pytest

from spec_kitty_orchestrator.core.commands import Finish, OpenAttempt, Park, Record, RunGates
from spec_kitty_orchestrator.core.events import (
    AgentExited,
    AttemptOpened,
    Claimed,
    Committed,
    Event,
    GateFailed,
    Parked,
    Recorded,
    Scheduled,
    Submitted,
)
from spec_kitty_orchestrator.core.lifecycle import step
from spec_kitty_orchestrator.core.model import (
    AgentReport,
    Attempt,
    Evidence,
    Lane,
    Outcome,
    Phase,
    Result,
    Role,
)
from spec_kitty_orchestrator.core.operator_events import Retried
from spec_kitty_orchestrator.core.prompts import Prompts, resumed_prompt, review_prompt

from .builders import (
    BASE,
    GATED,
    HEAD,
    IMPLEMENTING,
    OTHER,
    POLICY,
    REJECTING,
    SPACE,
    attempt,
    drive,
    made,
    report_text,
    results,
    verdict_text,
)

RESUMING = replace(POLICY, resuming=("alice",))
WITH_GATES = replace(GATED, resuming=("alice",))
TREE, TREE_2 = "7" * 40, "8" * 40


def ended(name: str, outcome: Outcome = Outcome.OK, session: str = "s1") -> AgentExited:
    return AgentExited(name, AgentReport(outcome, report_text(name), session=session))


def first(outcome: Outcome = Outcome.OK) -> tuple[Event, ...]:
    return (*IMPLEMENTING, AttemptOpened(attempt("i1")), ended("i1", outcome))


RED = (Committed(Evidence(BASE, HEAD)), GateFailed(results(ok=False)[0], "1 failed"))


def test_rework_goes_on_with_the_session_of_its_implementer() -> None:
    _, command = drive((*first(), *RED), WITH_GATES)
    assert isinstance(command, OpenAttempt)
    assert command.session == "s1"


@pytest.mark.parametrize(
    "policy", [replace(WITH_GATES, resuming=("bob",)), replace(WITH_GATES, session_resume=False)]
)
def test_a_session_is_left_where_the_agent_cannot_or_the_operator_will_not(policy: object) -> None:
    _, command = drive((*first(), *RED), policy)  # type: ignore[arg-type]
    assert isinstance(command, OpenAttempt)
    assert command.session == ""


@pytest.mark.parametrize("outcome", list(Outcome))
def test_only_an_attempt_that_ended_in_order_leaves_a_session_to_go_on_with(outcome: Outcome) -> None:
    wp, _ = drive(first(outcome), RESUMING)
    kept = outcome in (Outcome.OK, Outcome.FAILED)
    assert wp.work.sessions == ({"alice": "s1"} if kept else {})


def test_another_agent_begins_a_session_of_its_own() -> None:
    events = (*first(Outcome.FAILED), AttemptOpened(attempt("i2")), ended("i2", Outcome.AUTH))
    _, command = drive(events, replace(RESUMING, resuming=("alice", "ann")))
    assert isinstance(command, OpenAttempt)
    assert (command.agent, command.session) == ("ann", "")


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.INVALID_REQUEST, Outcome.CRASHED])
def test_a_session_that_could_not_be_gone_on_with_is_followed_by_a_new_one(outcome: Outcome) -> None:
    again = replace(attempt("i2"), session="s1")
    wp, command = drive((*first(), *RED, AttemptOpened(again), ended("i2", outcome)), WITH_GATES)
    assert isinstance(command, OpenAttempt)
    assert (command.agent, command.session) == ("alice", "")
    wp, command = step(wp, AttemptOpened(attempt("i3")), WITH_GATES)
    _, command = step(wp, ended("i3", Outcome.INVALID_REQUEST), WITH_GATES)
    assert isinstance(command, OpenAttempt)
    assert command.agent == "ann", "what is refused in a new session too is no matter of the session"


def test_a_session_belongs_to_its_worktree() -> None:
    wp, _ = drive(first(), RESUMING)
    moved = replace(SPACE, path="/elsewhere")
    wp = replace(wp, phase=Phase.CLAIMING)
    wp, _ = step(wp, Claimed(moved, HEAD), RESUMING)
    assert wp.work.sessions == {}


PROMPTS = Prompts("", "", "${delta}|${earlier}", "${feedback}|${stat}|${task_file}|${report}")


def test_the_prompt_of_a_session_that_goes_on_holds_findings_and_the_work_so_far() -> None:
    wp, _ = drive((*first(), *RED), WITH_GATES)
    text = resumed_prompt(PROMPTS, wp, mission="m", attempt_id="i2", stat="a.py | 2 +-")
    assert "1 failed" in text
    assert f"|a.py | 2 +-|{SPACE.prompt_path}|" in text
    assert '"attempt": "i2"' in text


@pytest.mark.parametrize("session", ["--yolo", "-c", "a\nb", "a b", "", "x" * 201, "../up"])
def test_a_session_that_could_be_an_option_or_a_path_is_not_gone_on_with(session: str) -> None:
    wp, _ = drive((*first()[:-1], ended("i1", session=session)), RESUMING)
    assert wp.work.sessions == {}


def test_an_attempt_without_a_result_is_asked_to_go_on() -> None:
    wp, _ = drive(first(Outcome.FAILED), RESUMING)
    text = resumed_prompt(PROMPTS, wp, mission="m", attempt_id="i2", stat="")
    assert "Your last attempt ended without a result (alice ended failed)" in text


def test_a_second_review_gets_the_delta_and_the_earlier_findings() -> None:
    wp, _ = drive((*REJECTING, Recorded(Lane.IN_PROGRESS)))
    ask = partial(review_prompt, PROMPTS, wp, mission="m", attempt_id="r2", task="", stat="", diff="")
    text = ask(delta="+renamed")
    assert text.startswith("+renamed|Of ")
    assert "- rename it" in text
    assert ask().startswith("none: no review has rejected")


def cycle(
    number: int, head: str, tree: str, finding: str, at: str = "a.py", severity: str = "major"
) -> tuple[Event, ...]:
    """Return the events of an implement attempt that is reviewed and rejected."""
    review = Attempt(f"r{number}", number, Role.REVIEW, "bob", f"/logs/r{number}", head, "tree")
    findings = [{"file": at, "line": number, "message": finding, "severity": severity}] if finding else []
    said = {"summary": "changes are needed", "findings": findings}
    return (
        *made(attempt(f"i{number}")),
        Committed(Evidence(BASE, head, tree=tree)),
        Submitted(),
        *made(review, text=verdict_text(review.id, head, "changes_requested", **said)),
    )


FIRST = (*IMPLEMENTING, *cycle(1, HEAD, TREE, "Rename `x` in line 12."), Recorded(Lane.IN_PROGRESS))


def test_the_same_findings_twice_in_a_row_park_with_both_reviews_named() -> None:
    wp, command = drive((*FIRST, *cycle(2, OTHER, TREE_2, "rename 'x', in line 14")))
    assert isinstance(command, Record)
    assert command.to is Lane.BLOCKED
    assert HEAD in command.note
    assert OTHER in command.note
    wp, command = step(wp, Recorded(Lane.BLOCKED), POLICY)
    assert isinstance(command, Park)
    assert "two reviews in a row ask for the same" in command.reason
    _, command = step(wp, Parked(Lane.BLOCKED), POLICY)
    assert isinstance(command, Finish)
    assert command.result is Result.PARKED


def ruled_after(first: str, *second: str) -> Lane:
    """Return where the second of two rejections in a row puts the work package."""
    events = (*IMPLEMENTING, *cycle(1, HEAD, TREE, first), Recorded(Lane.IN_PROGRESS))
    _, command = drive((*events, *cycle(2, OTHER, TREE_2, *second)))
    assert isinstance(command, Record)
    return command.to


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Rename `x` in line 12.", "rename 'x', in line 14"),
        ("lines 3-5 are dead", "lines 13 - 15 are dead"),
        ("a.py:12:4: E501", "a.py:14:1 E501"),
        ("a.py:12: 3 tests fail", "a.py:9: 3 tests fail"),
    ],
)
def test_findings_that_only_moved_are_the_same(first: str, second: str) -> None:
    assert ruled_after(first, second) is Lane.BLOCKED


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("rename x", ("rename `y`",)),
        ("rename x", ("rename x", "b.py")),
        ("rename x", ("rename x", "a.py", "minor")),
        ("3 of 5 tests fail", ("1 of 5 tests fail",)),
        ("ruff says E501", ("ruff says E302",)),
        ("ruff says E501", ("ruff says F401",)),
    ],
)
def test_other_findings_go_on(first: str, second: tuple[str, ...]) -> None:
    assert ruled_after(first, *second) is Lane.IN_PROGRESS


def test_a_summary_without_findings_is_never_the_same() -> None:
    assert ruled_after("", "") is Lane.IN_PROGRESS


def test_the_content_that_was_rejected_last_is_not_reviewed_again() -> None:
    text = report_text("i2", no_change_reason="x is the name that the task asks for")
    events = (
        *made(attempt("i2"), text=text),
        Committed(Evidence(BASE, OTHER, tree=TREE)),
    )
    _, command = drive((*FIRST, *events))
    assert isinstance(command, Park)
    assert command.block
    assert f"{OTHER} holds what bob rejected in {HEAD}" in command.reason
    assert "Rename `x`" in command.reason
    assert "x is the name that the task asks for" in command.reason


def test_a_person_may_have_the_same_content_reviewed_again() -> None:
    events: tuple[Event, ...] = (
        *made(attempt("i2")),
        Committed(Evidence(BASE, OTHER, tree=TREE)),
        Parked(Lane.BLOCKED),
        Retried("the reviewer is wrong"),
        Scheduled(Lane.IN_PROGRESS, SPACE),
        Claimed(SPACE, OTHER),
        *made(attempt("i3"), text=report_text("i3", no_change_reason="the reviewer is wrong")),
        Committed(Evidence(BASE, OTHER, tree=TREE)),
        Submitted(),
    )
    _, command = drive((*FIRST, *events))
    assert isinstance(command, OpenAttempt)
    assert command.role is Role.REVIEW


def test_content_that_is_new_meets_the_gates() -> None:
    events = (
        *made(attempt("i2")),
        Committed(Evidence(BASE, OTHER, tree=TREE_2)),
    )
    wp, _ = drive(FIRST)
    _, command = drive(events, GATED, wp)
    assert isinstance(command, RunGates)
