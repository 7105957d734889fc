"""What an order means in a state of the run, or why it is refused."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spec_kitty_orchestrator.core.model import Attempt, Lane, Phase, Result, Role, WaitsFor
from spec_kitty_orchestrator.core.operator_events import Retried, Skipped, Stopped, Told
from spec_kitty_orchestrator.core.orders import (
    Changed,
    Continue,
    Drain,
    Given,
    Meant,
    Order,
    Pause,
    Refused,
    Retry,
    Set,
    Skip,
    Stop,
    Tell,
    meaning,
)
from spec_kitty_orchestrator.core.pauses import Pause as Known
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.run import happened
from spec_kitty_orchestrator.core.run_events import AnyEvent, Continued, Paused, SettingsChanged, Signaled
from spec_kitty_orchestrator.core.run_state import RunState
from spec_kitty_orchestrator.core.work_package import Grant, Turn, WorkPackage

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
POLICY = Policy(("ada",), ("rob",))


def attempt(role: Role) -> Attempt:
    return Attempt("a1", 1, role, "ada", "/logs", "f" * 40)


def at_work(wp: str, role: Role = Role.IMPLEMENT) -> WorkPackage:
    phase = Phase.IMPLEMENTING if role is Role.IMPLEMENT else Phase.REVIEWING
    return WorkPackage(wp, phase=phase, attempts=(attempt(role),), turn=Turn(Grant.SLOT, "ada"))


WPS = {
    "WP01": WorkPackage("WP01"),
    "WP02": at_work("WP02"),
    "WP03": WorkPackage("WP03", lane=Lane.DONE, phase=Phase.FINISHED, result=Result.DONE),
    "WP04": WorkPackage("WP04", lane=Lane.BLOCKED, phase=Phase.FINISHED, result=Result.PARKED),
    "WP05": at_work("WP05", Role.REVIEW),
    "WP06": replace(at_work("WP06"), phase=Phase.PARKING, attempts=()),
}
STATE = RunState(POLICY, WPS, began_at=NOON, now=NOON)


def ordered(order: Order, state: RunState = STATE, **changed: Any) -> Meant | Refused:
    return meaning(state, Given(order, "kim", "o1"), **changed)


MEANT: dict[str, tuple[Order, AnyEvent, str]] = {
    "pause": (Pause(), Paused("kim", order="o1"), "WP02, WP05"),
    "pause an agent": (Pause("ada"), Paused("kim", "ada", order="o1"), "`continue --agent ada`"),
    "pause one": (Pause("", "WP01"), Paused("kim", "", "WP01", "o1"), "`continue WP01` goes on"),
    "stop": (Stop("WP02"), Stopped("kim", "o1"), "ada is stopped on WP02"),
    "stop one that waits": (Stop("WP01"), Stopped("kim", "o1"), "nothing is at work on it"),
    "retry": (Retry("WP04", "x"), Retried("x", "kim", "o1"), "WP04 is back to work"),
    "skip": (Skip("WP02"), Skipped(Lane.PLANNED, "", "kim", "o1"), "once ada has been stopped"),
    "tell": (Tell("WP02", "x"), Told("x", by="kim", order="o1"), "its reviewer's at the latest"),
    "tell at once": (Tell("WP02", "x", now=True), Told("x", True, "kim", "o1"), "told at once"),
    "tell in review": (Tell("WP05", "x"), Told("x", by="kim", order="o1"), "if its review asks for changes"),
    "drain": (Drain(), Signaled(15, True, "kim", "o1"), "nothing new begins"),
}


@pytest.mark.parametrize("case", MEANT)
def test_an_order_means_one_event_and_says_what_it_does(case: str) -> None:
    order, event, words = MEANT[case]
    found = ordered(order)
    assert isinstance(found, Meant)
    assert found.event == event
    assert words in found.answer


REFUSED: dict[str, Order] = {
    "nothing is paused": Continue(),
    "no agent eve is of this run; it has ada, rob": Pause("eve"),
    "no work package WP09 is known of this mission": Stop("WP09"),
    "WP03 is done: nothing is left to tell": Tell("WP03", "x"),
    "WP03 is done: nothing is left to stop": Stop("WP03"),
    "WP03 is done: nothing is left to decide about it": Skip("WP03"),
    "WP04 waits for a person, so nothing follows": Tell("WP04", "x"),
    "WP04 has left the run": Stop("WP04"),
    "WP01 is neither parked nor blocked": Retry("WP01"),
    "WP02 is at work: `tell WP02`": Retry("WP02"),
    "WP06 is being left to a person; try again": Retry("WP06"),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_makes_no_sense_is_refused_in_words(words: str) -> None:
    found = ordered(REFUSED[words])
    assert isinstance(found, Refused)
    assert words in found.answer


def test_a_pause_is_not_paused_twice_and_continue_ends_only_what_it_names() -> None:
    state = replace(STATE, pauses=(Known("kim", NOON), Known("ann", NOON, wp="WP01", stopped=True)))
    assert ordered(Pause(), state) == Refused(
        "the run is paused by you at 12:00 UTC: nothing new begins anyway"
    )
    found = ordered(Continue(), state)
    assert isinstance(found, Meant)
    assert found.event == Continued("kim", order="o1")
    assert found.answer == "the run goes on; WP01 is still paused (`continue WP01`)"
    assert isinstance(ordered(Retry("WP01"), state), Meant)


def test_changed_settings_are_kept_with_what_was_written() -> None:
    changed = Changed({"max_cost": 40.0}, POLICY)
    found = ordered(Set({"max_cost": "40"}), changed=changed)
    assert isinstance(found, Meant)
    assert found.event == SettingsChanged("kim", {"max_cost": "40"}, {"max_cost": 40.0}, POLICY, "o1")


def test_what_was_carried_out_is_not_carried_out_again() -> None:
    found = ordered(Pause(), replace(STATE, orders=frozenset({"o1"})))
    assert isinstance(found, Meant)
    assert found.event is None


def test_a_run_that_ends_takes_no_orders() -> None:
    assert ordered(Pause(), replace(STATE, signals=(2,))) == Refused("the run ends: the run was interrupted")


def test_who_is_told_something_while_it_waits_waits_no_longer_and_no_shorter_for_it() -> None:
    turn = Turn(waits="the agent crashed", waits_for=WaitsFor.BACK_OFF, until=NOON + timedelta(minutes=5))
    wp = replace(WPS["WP01"], phase=Phase.IMPLEMENTING, turn=turn)
    state, _ = happened(replace(STATE, wps={"WP01": wp}), NOON, "WP01", Told("use tabs"))
    assert state.wps["WP01"].turn == turn
    state, _ = happened(state, NOON, "WP01", Told("at once", now=True))
    assert state.wps["WP01"].turn == Turn()
