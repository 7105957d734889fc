"""What is foreseen of a run: from which samples, by which plan, and in which words."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from random import Random

import pytest

from spec_kitty_orchestrator.core.chance import Chance, History
from spec_kitty_orchestrator.core.events import (
    AgentExited,
    Assigned,
    AttemptOpened,
    Claimed,
    CommitRefused,
    Committed,
    Event,
    HostRefused,
    Scheduled,
    Submitted,
    SubtasksTicked,
    WorkspaceResolved,
)
from spec_kitty_orchestrator.core.forecast import Forecast, Range, foreseen, simulations, spelled_time
from spec_kitty_orchestrator.core.model import (
    AgentReport,
    Evidence,
    Lane,
    MissionState,
    Outcome,
    Role,
    Usage,
    Workspace,
)
from spec_kitty_orchestrator.core.policy import Budget, Gate, Policy
from spec_kitty_orchestrator.core.run import RunState, begin, happened
from spec_kitty_orchestrator.core.run_events import Entry, Line, RunEnded, RunStarted
from spec_kitty_orchestrator.core.samples import End, Sample, Samples, gather
from spec_kitty_orchestrator.core.simulate import Known, Simulated, simulate

from .builders import BASE, HEAD, NOON, SPACE, after, attempt, exited, started, verdict_text

POLICY = Policy(impl_agents=("ada",), review_agents=("rob",), max_concurrent=4)
DIAMOND = {"WP01": (), "WP02": ("WP01",), "WP03": ("WP01",), "WP04": ("WP02", "WP03")}
SIDE_BY_SIDE: Mapping[str, tuple[str, ...]] = dict.fromkeys(("WP01", "WP02", "WP03", "WP04"), ())


def told(*moments: tuple[float, Event, float]) -> list[Line]:
    """Return a journal of WP01: when each event happened, and how long what led to it took."""
    return [started(Lane.PLANNED), *(Entry(after(at), "WP01", one, took) for at, one, took in moments)]


def implement(number: int, at: float, seconds: float, **report: object) -> list[tuple[float, Event, float]]:
    """Return an implement attempt from its opening to its end."""
    one = attempt(f"i{number}", agent="ada")
    end = AgentExited(one.id, replace(AgentReport(Outcome.OK), **report))  # type: ignore[arg-type]
    return [(at, AttemptOpened(one), 2.0), (at + seconds, end, seconds)]


def review(number: int, at: float, verdict: str) -> list[tuple[float, Event, float]]:
    one = attempt(f"r{number}", Role.REVIEW, "rob")
    end = exited(one, text=verdict_text(one.id, one.head, verdict, summary="so it is"))
    return [(at, AttemptOpened(one), 3.0), (at + 10, end, 10.0)]


def ends(lines: list[Line]) -> list[tuple[Role, End]]:
    return [(role, one.end) for (role, _), found in gather(lines).attempts.items() for one in found]


class Certain(Chance):
    """A chance that leaves nothing open: each attempt takes as long as its role does."""

    def __init__(self, *rejected: int, seconds: Mapping[Role, float] | None = None) -> None:
        super().__init__(History(Samples()), Random(0))
        self.seconds = seconds or {Role.IMPLEMENT: 60.0, Role.REVIEW: 30.0}
        self.rejected = set(rejected)
        self.reviews = 0

    def attempt(self, role: Role, agent: str, beyond_s: float = 0.0) -> Sample:
        self.reviews += role is Role.REVIEW
        end = End.AGAIN if role is Role.REVIEW and self.reviews in self.rejected else End.GOOD
        return Sample(max(self.seconds[role], beyond_s), Usage(1000, 100, 0.5), end)


def beginning(dependencies: Mapping[str, tuple[str, ...]], policy: Policy = POLICY) -> RunState:
    mission = MissionState("m", dict.fromkeys(dependencies, Lane.PLANNED), dependencies)
    return begin(RunState(policy), RunStarted(NOON, mission, "me", policy, "1"))


def came_to(
    dependencies: Mapping[str, tuple[str, ...]], chance: Certain | None = None, **policy: object
) -> Simulated:
    state = beginning(dependencies, replace(POLICY, **policy))  # type: ignore[arg-type]
    return simulate(state, NOON, Known(), chance or Certain())


def seen(
    dependencies: Mapping[str, tuple[str, ...]],
    samples: Samples,
    **policy: object,
) -> Forecast | None:
    state = beginning(dependencies, replace(POLICY, **policy))  # type: ignore[arg-type]
    found = list(simulations(state, NOON, samples, Random(1), most_work=100))
    return foreseen(found, samples, state.policy.max_concurrent)


def alike(number: int, cost_usd: float | None = 0.5) -> Samples:
    """Return so many attempts of each role, each of them of a minute."""
    one = Sample(60.0, Usage(1000, 100, cost_usd), End.GOOD)
    return Samples({(Role.IMPLEMENT, "ada"): (one,) * number, (Role.REVIEW, "rob"): (one,) * number})


def test_an_attempt_is_sampled_with_its_duration_and_its_cost() -> None:
    lines = told(*implement(1, 0, 50, usage=Usage(7, 3, 0.25)))
    assert gather(lines).attempts == {(Role.IMPLEMENT, "ada"): (Sample(50.0, Usage(7, 3, 0.25), End.GOOD),)}


def test_an_attempt_whose_work_was_sent_back_before_a_review_meant_another_round() -> None:
    refused = (60.0, CommitRefused("the hook failed"), 1.0)
    lines = told(*implement(1, 0, 50), refused, *implement(2, 61, 50), *review(1, 200, "approved"))
    assert ends(lines) == [
        (Role.IMPLEMENT, End.AGAIN),
        (Role.IMPLEMENT, End.GOOD),
        (Role.REVIEW, End.GOOD),
    ]


@pytest.mark.parametrize(
    ("verdict", "end"),
    [("approved", End.GOOD), ("changes_requested", End.AGAIN), ("perhaps", End.FAILED)],
)
def test_a_review_is_sampled_by_what_it_led_to(verdict: str, end: End) -> None:
    assert ends(told(*review(1, 0, verdict))) == [(Role.REVIEW, end)]


@pytest.mark.parametrize(
    ("outcome", "counts"),
    [
        (Outcome.FAILED, True),
        (Outcome.TIMEOUT, True),
        (Outcome.RATE_LIMITED, False),
        (Outcome.CANCELED, False),
    ],
)
def test_only_ends_that_say_something_of_the_next_attempt_count(outcome: Outcome, counts: bool) -> None:
    found = gather(told(*implement(1, 0, 50, outcome=outcome)))
    assert found.count == counts


def test_an_attempt_that_a_later_start_took_over_is_no_sample() -> None:
    opened, end = implement(1, 0, 50)
    lines = [*told(opened), started(Lane.IN_PROGRESS), *told(end)[1:]]
    assert gather(lines).count == 0


def test_refusals_and_ticked_subtasks_are_a_part_of_the_step_that_follows() -> None:
    lines = told(
        (1, Committed(Evidence(BASE, HEAD)), 4.0),
        (2, HostRefused("transition", "TRANSITION_REJECTED", "subtasks", Lane.IN_PROGRESS), 1.0),
        (3, SubtasksTicked(("T001",)), 2.0),
        (4, Submitted(), 1.5),
    )
    assert gather(lines).steps == {"commit": (4.0,), "submit": (4.5,)}


def test_what_a_run_needs_to_end_is_a_step() -> None:
    lines = [*told((1, Claimed(SPACE, BASE), 3.0)), RunEnded(after(9), 0, "done")]
    assert gather(lines).steps == {"claim": (3.0,), "end": (8.0,)}


def test_samples_of_several_journals_are_joined_and_the_newest_are_kept() -> None:
    both = alike(150) + Samples({(Role.REVIEW, "rob"): (Sample(9.0, Usage(), End.GOOD),) * 60})
    assert both.count == 350
    assert both.attempts[Role.REVIEW, "rob"][-60:] == (Sample(9.0, Usage(), End.GOOD),) * 60


def test_a_simulation_follows_the_dependencies() -> None:
    found = came_to(DIAMOND)
    assert (found.seconds, found.cost_usd, found.complete) == (270.0, 4.0, True)
    assert found.path in (("WP01", "WP02", "WP04"), ("WP01", "WP03", "WP04"))


def test_a_simulation_has_no_more_slots_than_the_run() -> None:
    assert [came_to(SIDE_BY_SIDE, max_concurrent=one).seconds for one in (1, 2, 4, 8)] == [
        360.0,
        180.0,
        90.0,
        90.0,
    ]


def test_a_rejection_costs_another_round() -> None:
    found = came_to({"WP01": ()}, Certain(1))
    assert (found.seconds, found.cost_usd) == (180.0, 2.0)


def test_a_simulation_holds_to_the_limit_of_an_agent() -> None:
    found = came_to(SIDE_BY_SIDE, max_per_agent={"ada": 1})
    assert found.seconds == 4 * 60.0 + 30.0


def test_work_packages_of_one_worktree_take_turns() -> None:
    shared = Workspace("/w", "/p", "lane-a")
    known = Known(dict.fromkeys(SIDE_BY_SIDE, shared))
    found = simulate(beginning(SIDE_BY_SIDE), NOON, known, Certain())
    assert found.seconds == 360.0
    assert len(found.path) == 4


def test_a_simulation_ends_where_the_budget_does() -> None:
    found = came_to(SIDE_BY_SIDE, max_concurrent=1, budget=Budget(max_cost_usd=1.9))
    assert (found.seconds, found.cost_usd, found.complete) == (180.0, 2.0, False)
    assert found.ending.startswith("the budget is used up")


def test_gates_are_a_step_of_a_simulation() -> None:
    assert came_to(DIAMOND, gates=(Gate("tests", ("pytest",)),)).complete


def test_so_is_what_a_new_worktree_needs() -> None:
    assert came_to(DIAMOND, setup=(Gate("setup-1", ("npm", "ci")),)).complete


def test_of_an_attempt_at_work_only_the_rest_is_foreseen() -> None:
    state, now = half_way(40)
    found = simulate(state, now, Known(opened={"WP01": NOON}), Certain())
    assert found.seconds == 20.0 + 30.0


def half_way(seconds: float) -> tuple[RunState, datetime]:
    """Return a run whose only work package has been implemented for so long."""
    state = beginning({"WP01": ()})
    one = attempt("i1", agent="ada")
    for event in (
        WorkspaceResolved(SPACE),
        Scheduled(Lane.PLANNED, SPACE),
        Claimed(SPACE, BASE),
        Assigned(Role.IMPLEMENT, "ada"),
        AttemptOpened(one),
    ):
        state, _ = happened(state, NOON, "WP01", event)
    return state, after(seconds)


def test_without_samples_nothing_is_foreseen() -> None:
    assert seen(DIAMOND, Samples()) is None


def test_the_same_records_give_the_same_forecast() -> None:
    assert seen(DIAMOND, alike(4)) == seen(DIAMOND, alike(4))


def test_the_more_samples_there_are_the_narrower_is_the_range() -> None:
    found = [seen(DIAMOND, alike(one)) for one in (1, 5, 50)]
    widths = [one.seconds.high / one.seconds.low for one in found if one is not None]
    assert widths[0] > widths[1] > widths[2]
    assert all(one is not None and 360.0 in one.seconds for one in found)


def test_an_agent_without_samples_is_taken_for_the_others_of_its_role() -> None:
    other = seen(DIAMOND, alike(20), impl_agents=("new",))
    assert other is not None
    assert 360.0 in other.seconds


def test_a_cost_that_nobody_tells_is_not_made_up() -> None:
    found = seen(DIAMOND, alike(5, cost_usd=None))
    assert found is not None
    assert found.cost_usd is None
    assert "$" not in str(found)


@pytest.mark.parametrize(
    ("dependencies", "policy", "bound"),
    [
        (SIDE_BY_SIDE, {"max_concurrent": 1}, "its only slot"),
        (SIDE_BY_SIDE, {"max_concurrent": 2}, "the 2 slots"),
        (SIDE_BY_SIDE, {"max_per_agent": {"rob": 1}}, "rob: at most 1 at once"),
        ({"WP01": (), "WP02": ("WP01",), "WP03": ()}, {}, "the chain WP01 -> WP02"),
        (SIDE_BY_SIDE, {"budget": Budget(max_cost_usd=0.6)}, "the budget is used up"),
    ],
)
def test_a_forecast_says_what_bounds_the_run(
    dependencies: Mapping[str, tuple[str, ...]], policy: dict[str, object], bound: str
) -> None:
    found = seen(dependencies, alike(40), **policy)
    assert found is not None
    assert found.bound == bound


def test_a_forecast_is_one_line_with_both_ranges_and_the_number_of_samples() -> None:
    found = Forecast(Range(2400, 4210), Range(3.1, 5.2), 34, "the chain WP01 -> WP04", 1.0)
    assert str(found) == (
        "about 40 min to 1 h 10 min, $3.10 to $5.20 "
        "(from 34 attempts in this repository; bounded by the chain WP01 -> WP04)"
    )
    assert "in 3 of 10 cases not everything is approved" in str(replace(found, complete=0.7))


def test_what_is_left_shrinks_as_time_passes() -> None:
    found = Forecast(Range(600, 1200), Range(1, 2), 34, "", 1.0)
    assert found.left(0) == "about 10 min to 20 min left, $1.00 to $2.00 more"
    assert found.left(900) == "at most 5 min left, $1.00 to $2.00 more"
    assert found.left(1300) == ""


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.2, 3.4, "1 s to 3 s"),
        (61, 64, "1 min to 1 min 5 s"),
        (130, 130, "2 min"),
        (3600, 7300, "1 h to 2 h"),
        (9000, 90000, "2 h 30 min to 25 h"),
    ],
)
def test_a_range_is_no_more_exact_than_it_is(low: float, high: float, words: str) -> None:
    assert spelled_time(Range(low, high)) == words
