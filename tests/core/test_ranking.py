"""Who goes first by a key of the caller's, and what no key changes."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from spec_kitty_orchestrator.core.limits import EXIT_BUDGET
from spec_kitty_orchestrator.core.model import Lane, Phase, Taken
from spec_kitty_orchestrator.core.run_events import Ending
from spec_kitty_orchestrator.core.run_state import RunState
from spec_kitty_orchestrator.core.scheduler import Order, Start, blockers, plan
from spec_kitty_orchestrator.core.suspension import Failures
from spec_kitty_orchestrator.core.work_package import Grant, WorkPackage
from spec_kitty_orchestrator.errors import UsageError

from .builders import NOON
from .test_scheduler import attempt_of, begun, carried_out, mission, running, starts, wp

REVERSED: Order = lambda wp, state: -ord(wp.id)  # noqa: E731 - as callers write it


def by(**places: Any) -> Order:
    return lambda wp, state: places[wp.id]


def test_the_smallest_key_goes_first() -> None:
    assert starts(mission(wp("A"), wp("B"), wp("C"), slots=2), order=by(A=3, B=2, C=1)) == "CB"


def test_a_key_stands_in_place_of_chains_and_of_what_was_begun() -> None:
    state = mission(wp("A"), wp("B", "A"), wp("C"), begun("D"), slots=1)
    assert starts(state) == "D"
    assert starts(state, order=by(A=1, C=0, D=2)) == "C"


def test_who_is_equal_by_the_key_goes_on_in_the_default_order() -> None:
    state = mission(wp("A"), wp("B"), wp("C", "B"), begun("D"), wp("E"), slots=4)
    assert starts(state) == "DBAE"
    assert starts(state, order=lambda wp, state: 0) == "DBAE"
    assert starts(state, order=by(A=2, B=2, D=2, E=1)) == "EDBA"


def test_a_key_is_asked_with_the_state_of_the_moment() -> None:
    def in_turns(wp: WorkPackage, state: RunState) -> int:
        return ord(wp.id) if state.free_slots % 2 else -ord(wp.id)

    assert starts(mission(*map(wp, "ABCD"), slots=3), order=in_turns) == "ADB"


def test_a_key_is_asked_for_nobody_who_cannot_go_on() -> None:
    asked: list[str] = []

    def note(wp: WorkPackage, state: RunState) -> int:
        asked.append(wp.id)
        return 0

    plan(mission(wp("A"), wp("B", "A"), running("C"), begun("D", space="C"), slots=2), NOON, note)
    assert asked == ["A"]


def test_workspaces_are_asked_for_in_the_order_of_the_key() -> None:
    state = mission(*(wp(one, space=None) for one in "ABC"), wp("D", "A", space=None), slots=2)
    given, _, _ = carried_out(state, order=REVERSED)
    assert given == [("C", Grant.RESOLVE), ("B", Grant.RESOLVE)]


def test_blockers_tell_the_same_order() -> None:
    state = mission(wp("A"), wp("B", "A"), wp("C"), slots=2)
    assert list(blockers(state, NOON, REVERSED)) == ["C", "A", "B"]


def test_an_attempt_that_may_still_run_comes_before_any_key() -> None:
    left = begun("B", attempts=(attempt_of("alice"),), outcomes=())
    assert starts(mission(wp("A"), left, slots=1), order=by(A=0, B=1)) == "B"


def test_who_would_try_an_agent_again_that_failed_with_it_comes_last_whatever_the_key() -> None:
    state = mission(begun("A"), wp("B"), slots=1, failing={"alice": Failures("broken", ("A",))})
    assert starts(state, order=by(A=0, B=1)) == "B"


def test_what_a_person_took_over_is_told_to_the_host_whatever_the_key() -> None:
    taken = wp("A", phase=Phase.CLAIMING, lane=Lane.IN_PROGRESS, taken=Taken("anna", NOON))
    decision = plan(mission(taken, wp("B"), slots=1), NOON, by(A=1, B=0))
    assert decision == Start("A", Grant.CLAIM_AHEAD, {"B": "waits for a slot"})


def test_one_is_claimed_ahead_though_the_key_changes_its_mind() -> None:
    state = mission(running("A"), wp("B"), wp("C"), begun("D", attempts=(), outcomes=()), slots=1)
    given, _, _ = carried_out(state, order=by(B=0, C=1, D=2))
    assert given == []


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (lambda wp, state: {"A": 1}[wp.id], "failed for B: KeyError: 'B'"),
        (by(A=1, B="x"), r"results for . and . that cannot be compared: TypeError: '<' not supported"),
        (lambda wp, state: None, r"results for . and . that cannot be compared: TypeError: '<' not"),
        (lambda wp, state: 1 / 0, "failed for A: ZeroDivisionError: division by zero"),
        (lambda wp: 1, "failed for A: TypeError: .* takes 1 positional argument but 2 were given"),
    ],
    ids=["raises", "mixed", "nothing", "always raises", "takes too little"],
)
@pytest.mark.parametrize("ask", [plan, blockers])
def test_a_broken_key_is_one_clear_error_that_names_the_work_package(
    key: Order, told: str, ask: Callable[[RunState, Any, Order], object]
) -> None:
    with pytest.raises(UsageError, match=f"^the key given as order= (gave )?{told}") as found:
        ask(mission(wp("A"), wp("B"), slots=1), NOON, key)
    assert "\n" not in str(found.value)
    assert found.value.__cause__ is not None


def test_what_a_broken_key_says_is_bounded_and_cannot_act_on_a_terminal() -> None:
    def loud(wp: WorkPackage, state: RunState) -> int:
        raise ValueError("\x1b]0;title\x07one\ntwo" + "x" * 9999)

    with pytest.raises(UsageError, match="ValueError: one two") as found:
        plan(mission(wp("A")), NOON, loud)
    assert len(str(found.value)) < 500


def test_keys_without_an_order_among_them_leave_the_default_one() -> None:
    assert starts(mission(wp("A"), wp("B"), slots=2), order=lambda wp, state: math.nan) == "AB"


def test_a_run_that_ends_asks_no_key() -> None:
    state = mission(wp("A"), ending=Ending(EXIT_BUDGET, "spent"))
    assert not isinstance(plan(state, NOON, by()), Start)
