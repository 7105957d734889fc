"""What a report says of time and attempts, also of runs that were killed, resumed or ended for good."""

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.journals import NOON, POLICY, Comes, Player

from spec_kitty_orchestrator.core import events, operator_events, run_events
from spec_kitty_orchestrator.core.model import AgentReport, Lane, Outcome, Usage, WaitsFor
from spec_kitty_orchestrator.core.recorder import record
from spec_kitty_orchestrator.core.report import Report, SpanKind

LONG = Comes(seconds=600.0)
TWO = {"WP01": (), "WP02": ()}
PLAIN = replace(POLICY, max_concurrent=2, gates=())
DAY_S = 86_400.0


def of(player: Player, *, active: bool = False) -> Report:
    return record(player.lines, player.policy).report(player.now, active=active)


def working(*, slots: int = 2) -> Player:
    """Play until both work packages have an agent at work, or one if there is one slot."""
    policy = replace(PLAIN, max_concurrent=slots)
    player = Player(TWO, {"WP01": (LONG,), "WP02": (LONG,)}, policy=policy)
    player.begin()
    while sum(one.open_attempt is not None for one in player.state.wps.values()) < slots:
        player.play(1)
    return player


def later(player: Player, seconds: float) -> None:
    """Let time pass, and tell of it."""
    player.wait(seconds)
    player.happen("", run_events.BudgetNearing("cost", "$8.00 of $10.00"))


def test_a_kill_ends_the_time_where_it_was_last_heard_of() -> None:
    player = working()
    later(player, 100.0)
    player.wait(DAY_S)
    report = of(player)
    assert 100.0 <= report.took_s < 110.0
    assert all(one.worked_s < 110.0 for one in report.wps)


def test_what_a_person_does_a_day_after_a_kill_makes_the_run_no_longer() -> None:
    player = working()
    later(player, 100.0)
    player.wait(DAY_S)
    player.happen("WP01", operator_events.Skipped(Lane.IN_PROGRESS, "not now"))
    player.happen("WP02", operator_events.Retried("try again"))
    report = of(player)
    assert report.took_s < 110.0
    assert all(one.worked_s < 110.0 for one in report.wps)
    assert report.slots[-1][0] < NOON + timedelta(seconds=110)


def test_a_run_that_is_ended_for_good_a_day_after_a_kill_took_no_day() -> None:
    player = working()
    later(player, 100.0)
    player.wait(DAY_S)
    player._append(run_events.RunAborted(player.now, "nothing was running"))
    report = of(player)
    assert report.took_s < 110.0
    assert all(one.worked_s < 110.0 for one in report.wps)
    (start,) = report.starts
    assert start.aborted
    assert start.exit_code is None
    assert start.summary == "nothing was running"


def test_an_attempt_that_is_given_up_does_not_run_for_ever() -> None:
    player = working()
    later(player, 100.0)
    player.wait(DAY_S)
    player.happen("WP01", operator_events.Skipped(Lane.IN_PROGRESS, "not now"))
    report = of(player)
    skipped = next(one for one in report.wps if one.id == "WP01")
    (attempt,) = skipped.attempts
    assert attempt.outcome is Outcome.LOST
    assert 100.0 <= attempt.took_s < 110.0
    assert [one.bad for one in skipped.spans if one.attempt] == ["lost"]


def test_the_end_of_an_attempt_that_was_given_up_is_nothing_new() -> None:
    player = working()
    player.happen("WP01", operator_events.Skipped(Lane.IN_PROGRESS, "not now"))
    attempt = player.state.wps["WP01"].attempts[0]
    ended = events.AgentExited(attempt.id, AgentReport(Outcome.OK, usage=Usage(1, 1, 5.0)))
    player.happen("WP01", ended)
    skipped = next(one for one in of(player).wps if one.id == "WP01")
    assert skipped.attempts[0].outcome is Outcome.LOST


@pytest.mark.parametrize(("waited_s", "own_s"), [(90.0, 10.0), (0.5, 100.0), (500.0, 0.0)])
def test_a_wait_for_a_worker_is_not_the_time_of_the_agent(waited_s: float, own_s: float) -> None:
    player = working()
    player.wait(100.0)
    attempt = player.state.wps["WP01"].attempts[0]
    player.happen("WP01", events.AgentExited(attempt.id, AgentReport(Outcome.OK, waited_s=waited_s)))
    wp = next(one for one in of(player).wps if one.id == "WP01")
    waits = [one.seconds(player.now) for one in wp.spans if one.waits_for is WaitsFor.SLOT]
    assert wp.attempts[0].took_s == pytest.approx(own_s, abs=5.0)
    assert waits == ([pytest.approx(100.0 - own_s, abs=5.0)] if waited_s > 1 else [])


def test_an_agent_that_is_taken_up_again_after_a_wait_for_a_slot_is_no_wait() -> None:
    player = working()
    later(player, 100.0)
    player.wait(60.0)
    player.policy = replace(PLAIN, max_concurrent=1)
    player.begin()
    player.play()
    player.end()
    for wp in of(player).wps:
        first = wp.attempts[0]
        own = [one for one in wp.spans if one.attempt == 1]
        assert sum(one.seconds(player.now) for one in own) >= 690.0, wp.id
        assert first.took_s >= 690.0
        assert all(not one.bad for one in wp.spans if one.kind is SpanKind.WAIT)


def test_time_between_two_starts_is_nobodys() -> None:
    player = working()
    later(player, 100.0)
    player.wait(DAY_S)
    player.begin()
    player.play()
    player.end()
    report = of(player)
    assert report.took_s < 1600.0
    assert all(one.worked_s < 1600.0 for one in report.wps)


def test_a_clock_that_is_set_back_makes_no_time_negative() -> None:
    player = working()
    later(player, 100.0)
    player.wait(-3600.0)
    player.play()
    player.end()
    report = of(player)
    assert report.took_s >= 0.0
    for wp in report.wps:
        assert all(one.ended_at is not None and one.ended_at >= one.began_at for one in wp.spans)
        assert all(one.took_s >= 0.0 for one in wp.attempts)
