"""What people are told: one message for each cause, made of what is so now and what was told before."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from spec_kitty_orchestrator.core.events import AttemptOpened, Event, Parked, WorkspaceFailed
from spec_kitty_orchestrator.core.model import Lane, MissionState, Outcome, Role, Usage
from spec_kitty_orchestrator.core.notices import Notice, Notices, noticed, trial
from spec_kitty_orchestrator.core.operator_events import Retried, TakenOver
from spec_kitty_orchestrator.core.policy import Budget
from spec_kitty_orchestrator.core.run_events import (
    AgentBack,
    AgentSuspended,
    AnyEvent,
    BudgetNearing,
    ConflictForecast,
    Ending,
    Entry,
    Failed,
    Line,
    Notified,
    RunEnded,
)
from spec_kitty_orchestrator.core.samples import End, Sample, Samples

from .builders import IMPLEMENTING, NOON, POLICY, after, attempt, exited, start_at

NAMES = ("WP01", "WP02", "WP03")
MISSION = MissionState("034-x", dict.fromkeys(NAMES, Lane.PLANNED), {"WP03": ("WP01",)})
START = start_at(MISSION)
NOTHING = Samples()


def left(wp_id: str, why: str, at: datetime = NOON) -> list[Line]:
    return told(wp_id, *IMPLEMENTING, WorkspaceFailed(why), Parked(Lane.BLOCKED), at=at)


def told(wp_id: str, *events: AnyEvent, at: datetime = NOON) -> list[Line]:
    return [Entry(at, wp_id, one) for one in events]


def due(
    lines: Iterable[Line], at: datetime = NOON, samples: Samples = NOTHING, *, active: bool = True
) -> list[Notice]:
    return noticed(lines).due(at, samples, active=active)


def delivered(one: Notice, target: str = "slack", problem: str = "") -> Entry:
    assert one.on != "test"
    return Entry(after(60), "", Notified(one.on, one.title, (*one.about, *one.covers), target, problem))


def new(lines: list[Line], target: str = "slack", *, active: bool = True) -> list[Notice]:
    made = noticed(lines)
    return [
        one
        for one in made.due(after(3600), NOTHING, active=active)
        if made.told(target).isdisjoint(one.about)
    ]


def test_a_run_that_goes_well_has_nothing_to_tell_before_its_end() -> None:
    assert due([START]) == []
    assert due([START, *told("WP01", *IMPLEMENTING)]) == []


def test_several_work_packages_with_one_cause_are_one_message_with_one_command() -> None:
    lines = [START, *left("WP01", "no room in /a"), *left("WP02", "no room in /b")]
    (one,) = due(lines)
    assert (one.on, one.title, one.wps) == ("needs_person", "WP01 and WP02 need you", ("WP01", "WP02"))
    assert "No room in /a" in one.text
    assert one.text.endswith("WP03 cannot begin before that.")
    assert [command for _, command in one.steps] == [
        "spec-kitty-orchestrator retry --cause c1 --mission 034-x --note 'what to do differently'"
    ]


def test_what_was_told_is_not_told_again_at_that_place_also_after_a_new_start() -> None:
    lines: list[Line] = [START, *left("WP01", "no room")]
    (one,) = new(lines)
    lines += [delivered(one), replace(START, at=after(120), mission=blocked("WP01"))]
    assert new(lines) == []
    assert [again.about for again in new(lines, "bell")] == [one.about]


def test_what_could_not_be_delivered_is_still_to_be_told() -> None:
    lines: list[Line] = [START, *left("WP01", "no room")]
    (one,) = new(lines)
    assert [again.about for again in new([*lines, delivered(one, problem="no answer")])] == [one.about]


def test_a_work_package_that_joins_a_cause_that_was_told_is_no_message_of_its_own() -> None:
    lines: list[Line] = [START, *left("WP01", "no room")]
    lines += [delivered(new(lines)[0]), *left("WP02", "no room", after(90))]
    assert new(lines) == []
    assert len(due(lines)) == 1
    # Unless it is left alone with it: nobody was told of this one.
    assert [one.wps for one in new([*lines, *told("WP01", Retried(), at=after(99))])] == [("WP02",)]


def test_who_needs_a_person_again_after_a_retry_is_told_again() -> None:
    lines: list[Line] = [START, *left("WP01", "no room")]
    lines += [delivered(new(lines)[0]), *told("WP01", Retried(), at=after(99))]
    assert new(lines) == []
    lines += left("WP01", "no room", after(200))
    assert [one.at for one in new(lines)] == [after(200)]


def test_who_took_a_work_package_over_is_not_told_of_it() -> None:
    lines: list[Line] = [START, *left("WP01", "no room"), *told("WP01", TakenOver("anna"), at=after(9))]
    assert new(lines) == []


def test_the_name_of_a_message_is_that_of_its_oldest_part_however_many_joined() -> None:
    lines: list[Line] = [START, *left("WP02", "no room", after(1))]
    (first,) = due(lines)
    (both,) = due([*lines, *left("WP01", "no room", after(2))])
    assert first.about[0] == both.about[0] == f"WP02@{after(1).isoformat()}"
    assert len(both.about) == 2


def test_branches_that_conflict_are_told_once_until_they_can_be_merged_again() -> None:
    conflict = ConflictForecast("WP01", "WP02", ("a", "b"), ("f.py",))
    lines: list[Line] = [START, *told("", conflict)]
    (one,) = new(lines)
    assert (one.title, len(one.about)) == ("WP01 and WP02 cannot be merged with each other", 1)
    lines += [delivered(one), *told("", replace(conflict, files=("f.py", "g.py")), at=after(70))]
    assert new(lines) == []
    gone = told("", replace(conflict, files=()), at=after(80))
    assert len(new([*lines, *gone, *told("", conflict, at=after(90))])) == 1


def failing(outcome: Outcome, wp_id: str = "WP01") -> list[Event]:
    one = attempt(f"i-{wp_id}")
    return [*IMPLEMENTING, AttemptOpened(one), exited(one, outcome)]


def limited(retry_after_s: float) -> list[Line]:
    one = exited(attempt("i-WP01"), Outcome.RATE_LIMITED)
    one = replace(one, report=replace(one.report, retry_after_s=retry_after_s))
    until = after(retry_after_s)
    return [
        START,
        *told("WP01", *IMPLEMENTING, AttemptOpened(attempt("i-WP01")), one),
        *told("", AgentSuspended("alice", until, "its quota is used up")),
    ]


def test_a_quota_is_told_once_with_the_time_and_a_short_rest_never() -> None:
    (one,) = due(limited(3600))
    assert (one.on, one.title) == (
        "quota",
        "alice is paused: its quota is used up until 2026-05-01 13:00 UTC",
    )
    assert due(limited(60)) == []
    assert due(limited(3600), after(4000)) == []


def test_a_quota_that_is_used_up_again_is_another_cause() -> None:
    lines = limited(3600)
    (one,) = due(lines)
    lines += [delivered(one), *told("", AgentSuspended("alice", after(7200), "still"), at=after(3600))]
    assert new(lines) == []
    lines += [
        *told("", AgentBack("alice")),
        *told("", AgentSuspended("alice", after(7200), "x"), at=after(4000)),
    ]
    assert len(noticed(lines).due(after(10), NOTHING, active=True)) == 1
    assert noticed(lines).told("slack").isdisjoint(due(lines, after(10))[0].about)


def test_a_broken_agent_needs_a_person_once_and_is_no_quota() -> None:
    lines: list[Line] = [START]
    for wp_id in ("WP01", "WP02"):
        lines += told(wp_id, *failing(Outcome.AUTH, wp_id))
    lines += told("", AgentSuspended("alice", after(600), "broken"))
    found = [one for one in due(lines, after(1)) if not one.wps]
    assert [(one.on, one.title) for one in found] == [("needs_person", "alice is paused as broken")]
    assert found[0].steps[0][1] == "spec-kitty-orchestrator agents check --run alice"


def test_a_budget_is_told_once_for_each_limit_over_all_starts() -> None:
    start = replace(START, policy=replace(POLICY, budget=Budget(max_cost_usd=40.0)))
    near = told("", BudgetNearing("cost", "$32.00 of $40.00 are spent"))
    (one,) = new([start, *near])
    assert (one.on, one.text) == ("budget", "$32.00 of $40.00 are spent.")
    assert one.steps[0][1] == "spec-kitty-orchestrator set max_cost=60 --mission 034-x"
    lines = [start, *near, delivered(one), replace(start, at=after(100)), *near]
    assert new(lines) == []
    more = replace(start, at=after(100), policy=replace(POLICY, budget=Budget(max_cost_usd=60.0)))
    assert len(new([*lines, more, *near])) == 1


def test_a_run_that_ends_at_its_budget_is_told_at_once_and_again_only_as_its_end() -> None:
    start = replace(START, policy=replace(POLICY, budget=Budget(max_cost_usd=40.0)))
    lines: list[Line] = [start, *told("", Ending(7, "$40.00 of $40.00 are spent"), at=after(5))]
    (one,) = due(lines)
    assert (one.on, one.text) == ("budget", "$40.00 of $40.00 are spent.")
    assert one.steps[0][1] == "spec-kitty-orchestrator resume --mission 034-x --max-cost 60"
    lines.append(RunEnded(after(9), 7, "0 of 3 complete"))
    end, ending = due(lines, active=False)
    assert (end.on, ending.on) == ("ended", "budget")
    assert set(ending.about) <= set(end.covers)
    assert new([*lines, delivered(end)], active=False) == []


def samples(*seconds: float) -> Samples:
    known = tuple(Sample(one, Usage(), End.GOOD) for one in seconds)
    return Samples({(Role.IMPLEMENT, "alice"): known})


def test_an_attempt_is_slow_that_takes_three_times_as_long_as_usual_and_longer_than_any() -> None:
    lines = [START, *told("WP01", *IMPLEMENTING, AttemptOpened(attempt("i1")))]
    assert due(lines, after(1201), samples(400, 400, 400))[0].about == ("slow i1",)
    assert due(lines, after(1199), samples(400, 400, 400)) == []
    assert due(lines, after(1201), samples(400, 400, 1300)) == []
    assert due(lines, after(1201), samples(400, 400)) == []
    assert due(lines, after(299), samples(1, 1, 1)) == []
    (one,) = due(lines, after(1500), samples(400, 400, 400))
    assert (one.on, one.title) == ("slow", "alice takes long to implement WP01")
    assert one.text == "25m 00s until now; usual are 6m 40s."
    assert one.steps[0][1] == "spec-kitty-orchestrator logs WP01 -f --mission 034-x"


def test_the_end_tells_how_it_ended_what_needs_a_person_and_how_to_go_on() -> None:
    lines = [START, *left("WP01", "no room"), RunEnded(after(50), 1, "0 of 3 complete")]
    end, *others = due(lines, after(99), active=False)
    assert (end.on, end.at) == ("ended", after(50))
    assert end.title.startswith("0 of 3 work packages are done; WP01 needs you")
    assert "The run ended 2026-05-01 12:00:50 UTC with exit code 1: 0 of 3 complete. WP01: " in end.text
    assert "spec-kitty-orchestrator resume --mission 034-x" in [one for _, one in end.steps]
    # It tells what needs a person too, so that nobody gets two messages at once.
    assert set(others[0].about) <= set(end.covers)


def test_the_end_of_a_run_that_broke_says_what_broke() -> None:
    (end,) = due([START, *told("", Failed("the disk is full"))], active=False)
    assert end.text == "The run ended: the disk is full."


def test_the_end_tells_what_became_of_a_merge_and_how_to_ask_for_it_again() -> None:
    lines: list[Line] = [START, RunEnded(after(50), 0, "3 of 3 complete")]
    made = noticed(lines)
    made.finalized(["merged into the target branch", "accepted"], "")
    (end,) = made.due(after(60), NOTHING, active=False)
    assert end.title.endswith("; merged into the target branch")
    assert end.text.endswith("3 of 3 complete. Merged into the target branch. Accepted.")
    assert end.steps == ()
    made.finalized(["not merged: git is locked"], "--merge")
    (end,) = made.due(after(60), NOTHING, active=False)
    assert end.title.endswith("; not merged: git is locked")
    assert [one for _, one in end.steps] == ["spec-kitty-orchestrator orchestrate --mission 034-x --merge"]


def test_each_start_has_an_end_of_its_own() -> None:
    lines: list[Line] = [START, RunEnded(after(50), 130, "interrupted")]
    lines.append(delivered(due(lines, active=False)[0]))
    assert new(lines, active=False) == []
    lines += [replace(START, at=after(100)), RunEnded(after(150), 130, "interrupted")]
    assert len(new(lines, active=False)) == 1


def test_what_agents_say_has_no_effect_on_who_reads_it() -> None:
    lines = [START, *left("WP01", "\x1b[31mred\u202e\nline")]
    (one,) = due(lines)
    assert one.text.isprintable()


def test_only_what_may_be_news_is_told_as_such() -> None:
    made = Notices()
    assert made.take(START)
    assert [made.take(one) for one in left("WP01", "no room")][-1] is False
    assert any(news_of(left("WP02", "no room")))


def news_of(lines: list[Line]) -> list[bool]:
    made = noticed([START])
    return [made.take(one) for one in lines]


def test_a_test_message_says_so() -> None:
    one = trial("034-x", NOON)
    assert (one.on, one.title) == ("test", "this is a test")
    assert one.steps == (("Look where it stands", "spec-kitty-orchestrator status --mission 034-x"),)
    assert trial("", NOON).steps[0][1] == "spec-kitty-orchestrator status"


def blocked(*names: str) -> MissionState:
    return replace(MISSION, lanes={**MISSION.lanes, **dict.fromkeys(names, Lane.BLOCKED)})
