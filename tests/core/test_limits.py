"""Quotas, places at agents and budgets: may this attempt start, with whom, and at which cost."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from spec_kitty_orchestrator.core.commands import Command, OpenAttempt, Park, Wait
from spec_kitty_orchestrator.core.events import (
    AgentExited,
    Assigned,
    AttemptOpened,
    BudgetSpent,
    Deferred,
    Event,
    ReviewClaimed,
    Scheduled,
)
from spec_kitty_orchestrator.core.limits import (
    Rest,
    admission,
    announcements,
    left,
    limits,
    out_of_patience,
    over,
    who,
)
from spec_kitty_orchestrator.core.model import (
    AgentReport,
    Lane,
    MissionState,
    Outcome,
    Phase,
    Role,
    Usage,
    WaitsFor,
    total,
)
from spec_kitty_orchestrator.core.policy import Budget, OnRateLimit, Patience, Policy
from spec_kitty_orchestrator.core.roles import last_agent
from spec_kitty_orchestrator.core.run import RunState, begin, follow_agents, happened, has_place
from spec_kitty_orchestrator.core.run_events import (
    AgentBack,
    AgentSuspended,
    BudgetNearing,
    Ending,
    Failed,
    SettingsChanged,
    Signaled,
    SpentBefore,
)
from spec_kitty_orchestrator.core.suspension import FIRST_REST_S, LONGEST_REST_S, PROBE_S, Suspension
from spec_kitty_orchestrator.core.work_package import Bounds, Grant, Turn, WorkPackage, bounded

from .builders import (
    BASE,
    COMMITTING,
    HEAD,
    IMPLEMENTING,
    NOON,
    POLICY,
    REVIEW_RUNNING,
    REVIEWING,
    RUNNING,
    SPACE,
    after,
    attempt,
    drive,
    exited,
    made,
    start_at,
)

LIMITED = AgentReport(Outcome.RATE_LIMITED)
AGENTS = ("ada", "eve", "ida")
THREE = replace(POLICY, impl_agents=AGENTS)


def told(seconds: float) -> AgentReport:
    return AgentReport(Outcome.RATE_LIMITED, retry_after_s=seconds)


def known(
    *reports: tuple[float, AgentReport], rests: Mapping[str, Suspension] | None = None
) -> dict[str, Suspension]:
    """Return what is known of quotas after attempts of ada's that ended so, each at its time."""
    state = RunState(POLICY, suspended=rests or {})
    for number, (at, report) in enumerate(reports):
        one = attempt(f"i{number}", agent="ada")
        before = WorkPackage("WP01", attempts=(one,))
        state = follow_agents(state, before, AgentExited(one.id, report), after(at))
    return dict(state.suspended)


RESTS: dict[str, tuple[tuple[tuple[float, AgentReport], ...], Suspension]] = {
    "it rests until the time that it tells": (((0, told(7200)),), Suspension(after(7200), 1, 7200)),
    "a time that was wrong": (((0, told(1)), (1, told(1))), Suspension(after(121), 2, 120)),
    "no time after a wrong one": (((0, told(1)), (1, told(0))), Suspension(after(121), 2, 120)),
    "a longer time after a wrong one": (((0, told(1)), (1, told(5000))), Suspension(after(5001), 2, 5000)),
    "others that meet the same limit": (
        ((0, LIMITED), (10, LIMITED), (20, LIMITED)),
        Suspension(after(60), 1, 60),
    ),
    "a longer time that another is told": (((0, LIMITED), (10, told(300))), Suspension(after(310), 1, 300)),
    "a shorter time that another is told": (((0, told(300)), (10, told(5))), Suspension(after(300), 1, 300)),
    "an attempt between ended well": (
        ((0, LIMITED), (60, AgentReport(Outcome.OK)), (70, LIMITED)),
        Suspension(after(130), 1, 60),
    ),
    "an attempt between crashed": (
        ((0, LIMITED), (60, AgentReport(Outcome.CRASHED)), (70, LIMITED)),
        Suspension(after(190), 2, 120),
    ),
}


@pytest.mark.parametrize(("reports", "expected"), RESTS.values(), ids=RESTS)
def test_an_agent_that_met_its_limit_rests(
    reports: tuple[tuple[float, AgentReport], ...], expected: Suspension
) -> None:
    assert known(*reports) == {"ada": expected}


def test_an_agent_that_tells_no_time_rests_for_longer_each_time_it_is_limited_again() -> None:
    at, rests, reports = 0.0, [], []
    for _ in range(8):
        reports.append((at, LIMITED))
        rests.append((known(*reports)["ada"].until - after(at)).total_seconds())
        at += rests[-1]
    assert rests == [60, 120, 240, 480, 960, 1800, 1800, 1800]
    assert (rests[0], rests[-1]) == (FIRST_REST_S, LONGEST_REST_S)


def test_the_quotas_of_other_agents_and_stale_reports_change_nothing() -> None:
    assert known((0, LIMITED), rests={"eve": Suspension(NOON, 3, 60)})["eve"] == Suspension(NOON, 3, 60)
    wp, _ = drive(RUNNING)
    state = RunState(POLICY, {"WP01": wp})
    assert happened(state, NOON, "WP01", AgentExited("stale", LIMITED))[0].suspended == {}


IMPLEMENTS, _ = drive(IMPLEMENTING, THREE)


def resting(probing: str = "", **rests_s: float) -> RunState:
    """Return a run whose agents rest so long; another work package's attempt may try a quota."""
    rests = {agent: Suspension(after(rest_s), 1, 60.0) for agent, rest_s in rests_s.items()}
    tries = replace(IMPLEMENTS, id="WP02", turn=Turn(Grant.SLOT, probing, assigned=True, began_at=NOON))
    return RunState(THREE, {"WP02": tries} if probing else {}, rests)


def waits(state: RunState) -> RunState:
    """Return the run with an operator who lets no other agent work meanwhile."""
    return replace(state, policy=replace(THREE, patience=Patience(OnRateLimit.WAIT)))


def waits_for(agent: str, seconds: float) -> Rest:
    return Rest(agent, after(seconds), Suspension(after(seconds), 1, 60.0).told)


def tries(agent: str) -> Rest:
    return Rest(agent, after(PROBE_S), "an attempt tries whether its quota is back", probing=True)


CHOICES: dict[str, tuple[RunState, tuple[str, ...], str | Rest]] = {
    "nobody rests": (resting(), (), "ada"),
    "the first rests": (resting(ada=60), (), "eve"),
    "a fallback that failed is not asked": (resting(ada=60), ("eve",), "ida"),
    "only the first is left": (resting(ada=60), ("eve", "ida"), waits_for("ada", 60)),
    "all rest": (resting(ada=60, eve=30, ida=90), (), waits_for("eve", 30)),
    "a rest is over": (resting(ada=0), (), "ada"),
    "another attempt tries": (resting("ada", ada=-9), (), "eve"),
    "two of three wait for the one that tries": (
        resting("eve", ada=600, eve=0, ida=600),
        (),
        tries("eve"),
    ),
    "nobody may stand in": (waits(resting(ada=60)), (), waits_for("ada", 60)),
    "nobody may stand in for the one that tries": (
        waits(resting("ada", ada=-9)),
        (),
        tries("ada"),
    ),
}


@pytest.mark.parametrize(("state", "skipped", "expected"), CHOICES.values(), ids=CHOICES)
def test_the_most_wanted_agent_that_may_work_makes_the_next_attempt(
    state: RunState, skipped: tuple[str, ...], expected: str | Rest
) -> None:
    wp = bounded(IMPLEMENTS, skipped_fallbacks=skipped)
    assert who(state, wp, Role.IMPLEMENT, NOON) == expected
    if not skipped:
        assert limits(state, NOON).new_work == (expected if isinstance(expected, Rest) else None)


def test_a_rest_says_until_when() -> None:
    assert waits_for("ada", 60).reason == "waits for ada: its quota is used up until 2026-05-01 12:01 UTC"
    assert "tries whether its quota is back" in tries("ada").reason


def tried(*events: tuple[float, Event]) -> RunState:
    """Return a run in which WP01 tries alice's quota, which is over since noon."""
    wp = replace(IMPLEMENTS, turn=Turn(Grant.SLOT))
    state = RunState(POLICY, {"WP01": wp}, {"alice": Suspension(NOON, 1, 60.0)})
    for at, event in ((0.0, Assigned(Role.IMPLEMENT, "alice")), *events):
        state, _ = happened(state, after(at), "WP01", event)
    return state


def may_follow(state: RunState, seconds: float) -> bool:
    return who(state, replace(IMPLEMENTS, id="WP02"), Role.IMPLEMENT, after(seconds)) == "alice"


def test_one_attempt_tries_a_quota_before_the_others_follow() -> None:
    state = tried((1, AttemptOpened(attempt("i1"))))
    assert not may_follow(state, PROBE_S - 1)
    assert may_follow(state, PROBE_S), "it has run for long enough"
    ended = tried((1, AttemptOpened(attempt("i1"))), (2, exited("i1")))
    assert dict(ended.suspended) == {}
    assert may_follow(ended, 2)


def test_an_attempt_that_tried_for_long_leaves_the_quota_as_back_whatever_ends_it() -> None:
    ended = tried((1, AttemptOpened(attempt("i1"))), (PROBE_S, exited("i1", Outcome.CRASHED)))
    assert ended.suspended["alice"].back
    assert (
        not tried((1, AttemptOpened(attempt("i1"))), (2, exited("i1", Outcome.CRASHED)))
        .suspended["alice"]
        .back
    )


def test_another_attempt_tries_when_the_first_never_began_or_ended_early() -> None:
    for events in ((), made(attempt("i1"), Outcome.CANCELED)):
        state = tried(*((1.0, one) for one in events), (3.0, Deferred("the run was interrupted")))
        assert may_follow(state, 3)


def test_a_quota_that_is_not_back_begins_a_longer_rest() -> None:
    state = tried((1, AttemptOpened(attempt("i1"))), (2, AgentExited("i1", LIMITED)))
    assert state.suspended["alice"] == Suspension(after(122), 2, 120.0)


def test_people_are_told_when_an_agent_rests_and_when_it_works_again() -> None:
    before, rests = RunState(POLICY), RunState(POLICY, suspended={"ada": Suspension(after(60), 1, 60.0)})
    told_ones = announcements(before, rests)
    assert told_ones == [AgentSuspended("ada", after(60), "its quota is used up until 2026-05-01 12:01 UTC")]
    assert announcements(rests, rests) == []
    assert announcements(rests, before) == [AgentBack("ada")]


def limited(name: str, agent: str, role: Role = Role.IMPLEMENT) -> tuple[Event, ...]:
    return made(attempt(name, role, agent), Outcome.RATE_LIMITED)


def next_of(found: tuple[WorkPackage, Command]) -> str:
    command = found[1]
    assert isinstance(command, OpenAttempt)
    return command.agent


@pytest.mark.parametrize("start", [IMPLEMENTING, REVIEWING], ids=["implement", "review"])
def test_a_limit_charges_nothing_and_leaves_the_order_as_it_is(start: tuple[Event, ...]) -> None:
    role = Role.IMPLEMENT if start is IMPLEMENTING else Role.REVIEW
    own = "alice" if role is Role.IMPLEMENT else "bob"
    events = [event for number in range(40) for event in limited(f"x{number}", own, role)]
    wp, command = drive((*start, *events))
    assert next_of((wp, command)) == own
    assert (wp.bounds, wp.review.rejected, wp.review.verdict) == (Bounds(), (), None)


def test_limits_between_failures_are_not_failures() -> None:
    crash, again = (made(attempt(one), Outcome.CRASHED) for one in ("c1", "c2"))
    found = drive((*IMPLEMENTING, *crash, *limited("l1", "alice"), *again, *limited("l2", "alice")))
    assert next_of(found) == "alice"
    assert next_of(drive(made(attempt("c3"), Outcome.CRASHED), wp=found[0])) == "ann"


def test_a_fallback_makes_one_attempt_and_then_it_is_the_turn_of_the_first_again() -> None:
    found = drive((*IMPLEMENTING, *limited("x1", "alice"), Assigned(Role.IMPLEMENT, "ann")))
    assert next_of(found) == "ann"
    found = drive(made(attempt("s1", agent="ann"), Outcome.CRASHED), wp=found[0])
    assert next_of(found) == "alice"
    assert found[0].bounds.passed_over == {}


def test_a_fallback_that_goes_on_failing_is_asked_no_more_and_the_order_is_kept() -> None:
    events: list[Event] = [*IMPLEMENTING]
    for number in range(2):
        events += limited(f"x{number}", "alice")
        events += made(attempt(f"s{number}", agent="ann"), Outcome.FAILED)
    wp, command = drive(events)
    assert next_of((wp, command)) == "alice"
    assert (wp.bounds.passed_over, wp.bounds.skipped_fallbacks) == ({}, ("ann",))


def test_a_fallback_may_be_asked_again_after_an_attempt_that_ended_well() -> None:
    wp, _ = drive((*IMPLEMENTING, *limited("x", "alice"), *made(attempt("s", agent="ann"), Outcome.AUTH)))
    assert wp.bounds.skipped_fallbacks == ("ann",)
    wp, _ = drive(made(attempt("i1")), wp=wp)
    assert (wp.phase, wp.bounds.skipped_fallbacks) == (Phase.COMMITTING, ())


def test_a_fallback_that_gives_no_usable_verdict_does_not_count_against_the_first_reviewer() -> None:
    rambles = made(attempt("s", Role.REVIEW, "ben"), text="LGTM")
    wp, command = drive((*REVIEWING, *limited("x", "bob", Role.REVIEW), *rambles))
    assert next_of((wp, command)) == "bob"
    assert wp.bounds == Bounds(skipped_fallbacks=("ben",))


def test_the_verdict_of_a_fallback_is_its_own() -> None:
    wp, _ = drive((*REVIEWING, *limited("x", "bob", Role.REVIEW), *made(attempt("s", Role.REVIEW, "ben"))))
    assert wp.review.verdict is not None
    assert wp.review.verdict.reviewer == "ben"
    assert last_agent(wp, Role.REVIEW, POLICY) == "ben"
    assert last_agent(wp, Role.IMPLEMENT, POLICY) == "alice"


def test_the_last_attempt_of_the_first_agent_is_followed_by_the_next_one_whoever_was_the_fallback() -> None:
    fell_back = made(attempt("s", agent="ann"), Outcome.AUTH)
    wp, _ = drive((*IMPLEMENTING, *limited("x", "alice"), *fell_back))
    wp, command = drive(made(attempt("a"), Outcome.AUTH), wp=wp)
    assert next_of((wp, command)) == "ann"
    _, command = drive(made(attempt("b", agent="ann"), Outcome.AUTH), wp=wp)
    assert isinstance(command, Park)


ONE_PLACE = replace(POLICY, max_per_agent={"alice": 1})


def queue(*turns: Turn) -> RunState:
    """Return a run whose work packages, WP01 and so on, all want an attempt of alice's."""
    named = {f"WP{number:02}": turn for number, turn in enumerate(turns, 1)}
    wps = {one: replace(IMPLEMENTS, id=one, turn=turn) for one, turn in named.items()}
    return RunState(ONE_PLACE, wps, now=NOON)


def since(seconds: float) -> Turn:
    return Turn(queued_at=after(seconds), queued_for="alice")


PLACES: dict[str, tuple[RunState, tuple[str, ...]]] = {
    "nobody is there": (queue(Turn(), Turn()), ("WP01", "WP02")),
    "one is there": (queue(Turn(Grant.SLOT, "alice"), Turn()), ("WP01",)),
    "who waits longest is first": (queue(since(9), since(3), Turn()), ("WP02",)),
    "those who wait let nobody pass": (queue(Turn(), since(3)), ("WP02",)),
    "who waits for another agent is in nobody's way": (
        queue(Turn(), Turn(queued_at=NOON, queued_for="ann")),
        ("WP01", "WP02"),
    ),
}


@pytest.mark.parametrize(("state", "may"), PLACES.values(), ids=PLACES)
def test_an_agent_has_so_many_places_and_who_waits_longest_comes_first(
    state: RunState, may: tuple[str, ...]
) -> None:
    assert tuple(one.id for one in state.wps.values() if has_place(state, "alice", one)) == may


def test_an_attempt_that_may_still_run_takes_a_place_though_nobody_waits_for_its_end() -> None:
    state = queue(Turn(), Turn())
    state = replace(state, wps={**state.wps, "WP01": replace(drive(RUNNING)[0], id="WP01")})
    assert not has_place(state, "alice", state.wps["WP02"])


def test_a_place_is_looked_for_once_a_lane_that_others_moved_shows_who_is_needed() -> None:
    reviews = replace(drive(REVIEW_RUNNING)[0], id="WP02", turn=Turn(Grant.SLOT, "bob"))
    policy = replace(POLICY, max_per_agent={"bob": 1})
    state = RunState(policy, {"WP01": IMPLEMENTS, "WP02": reviews})
    state, _ = happened(state, NOON, "WP01", Scheduled(Lane.FOR_REVIEW, SPACE))
    claimed = ReviewClaimed(BASE, HEAD)
    state, command = happened(state, NOON, "WP01", claimed)
    waits = Deferred("waits for bob: at most 1 at once", agent="bob", waits_for=WaitsFor.AGENT)
    assert admission(state, "WP01", command, claimed, NOON) == waits


def admitted(
    state: RunState, wp: WorkPackage = IMPLEMENTS, event: Event | None = None, grant: Grant = Grant.SLOT
) -> Event | None:
    """Ask for the attempt that a work package needs next, in its slot."""
    wp = replace(wp, turn=Turn(grant))
    state = replace(state, wps={**state.wps, wp.id: wp})
    command = OpenAttempt(Role.IMPLEMENT, "alice", 1)
    return admission(state, wp.id, command, event or IMPLEMENTING[-1], NOON)


SPENT = replace(IMPLEMENTS, used=(Usage(90, 9, 4.0),))
GOES = RunState(POLICY)
ADMISSIONS: dict[str, tuple[RunState, WorkPackage, Event]] = {
    "an attempt begins": (GOES, IMPLEMENTS, Assigned(Role.IMPLEMENT, "alice")),
    "another attempt says why": (
        GOES,
        drive((*RUNNING, exited("i1", Outcome.CRASHED)))[0],
        Assigned(Role.IMPLEMENT, "alice", "again: alice crashed"),
    ),
    "a fallback says for whom": (
        replace(GOES, suspended={"alice": Suspension(after(60), 1, 60.0)}),
        drive((*RUNNING, exited("i1", Outcome.RATE_LIMITED)))[0],
        Assigned(Role.IMPLEMENT, "ann", "again: alice hit its rate limit; ann instead of alice"),
    ),
    "a quota is waited for": (
        replace(GOES, suspended={one: Suspension(after(60), 1, 60.0) for one in POLICY.impl_agents}),
        IMPLEMENTS,
        Deferred(waits_for("alice", 60).reason, after(60), quota=True, waits_for=WaitsFor.QUOTA),
    ),
    "a place at the agent is waited for": (
        replace(
            queue(since(0)), wps={"WP09": replace(IMPLEMENTS, id="WP09", turn=Turn(Grant.SLOT, "alice"))}
        ),
        IMPLEMENTS,
        Deferred("waits for alice: at most 1 at once", agent="alice", waits_for=WaitsFor.AGENT),
    ),
    "a run that is interrupted begins nothing": (
        replace(GOES, signals=(2,), draining=True),
        IMPLEMENTS,
        Deferred("the run was interrupted"),
    ),
    "a run that failed begins nothing": (
        replace(GOES, failure=Failed("no disk")),
        IMPLEMENTS,
        Deferred("the run ends: no disk"),
    ),
    "a run that ends begins nothing": (
        replace(GOES, ending=Ending(7, "spent")),
        IMPLEMENTS,
        Deferred("spent"),
    ),
    "a budget that is used up": (
        RunState(replace(POLICY, budget=Budget(max_cost_usd=4.0))),
        SPENT,
        Deferred("the budget is used up: $4.00 of $4.00 are spent; a start with a higher limit goes on"),
    ),
    "a work package that has cost too much": (
        RunState(replace(POLICY, budget=Budget(max_cost_per_wp_usd=4.0))),
        SPENT,
        BudgetSpent("it has cost $4.00 of $4.00, the most for one work package"),
    ),
    "an attempt may cost what is left": (
        RunState(replace(POLICY, budget=Budget(max_cost_usd=10.0, max_cost_per_wp_usd=5.0))),
        SPENT,
        Assigned(Role.IMPLEMENT, "alice", "", 1.0),
    ),
}


@pytest.mark.parametrize(("state", "wp", "expected"), ADMISSIONS.values(), ids=ADMISSIONS)
def test_what_happens_instead_of_an_attempt_that_may_not_begin(
    state: RunState, wp: WorkPackage, expected: Event
) -> None:
    assert admitted(state, wp) == expected


def test_who_is_claimed_ahead_waits_for_a_slot_before_the_first_attempt() -> None:
    found = admitted(GOES, grant=Grant.CLAIM_AHEAD)
    assert found == Deferred("is claimed ahead and waits for a slot", waits_for=WaitsFor.SLOT)


def test_nothing_is_asked_of_who_has_no_turn_and_of_events_of_the_run() -> None:
    state = RunState(POLICY, {"WP01": IMPLEMENTS}, signals=(2,))
    command = OpenAttempt(Role.IMPLEMENT, "alice", 1)
    assert admission(state, "WP01", command, IMPLEMENTING[-1], NOON) is None
    assert admission(state, "", Wait(), Failed("x"), NOON) is None


@pytest.mark.parametrize(
    ("signals", "ends"),
    [
        ((Signaled(2),), True),
        ((Signaled(15, drain=True),), False),
        ((Signaled(15, drain=True), Signaled(2)), True),
        ((Ending(7, "spent"),), False),
        ((Ending(7, "spent", stop=True),), True),
        ((Failed("no disk"),), True),
        ((Failed("the host is away", stop=False),), False),
        ((Failed("the host is away", stop=False), Failed("no disk")), True),
    ],
)
def test_work_is_committed_though_the_run_ends_unless_it_is_stopped(
    signals: tuple[Signaled | Ending | Failed, ...], ends: bool
) -> None:
    wp, command = drive(COMMITTING)
    state = RunState(POLICY, {"WP01": replace(wp, turn=Turn(Grant.SLOT))})
    for event in signals:
        state, _ = happened(state, NOON, "", event)
    assert state.closing
    assert state.stopping is ends
    assert isinstance(admission(state, "WP01", command, COMMITTING[-1], NOON), Deferred) is ends


def run_of(budget: Budget, cost: float | None = None, tokens: int = 0, **parts: object) -> RunState:
    wp = WorkPackage("WP01", used=(Usage(tokens, 0, cost),))
    return replace(RunState(replace(POLICY, budget=budget), {"WP01": wp}, began_at=NOON), **parts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "elapsed_s", "text"),
    [
        (run_of(Budget(max_cost_usd=5), 5.02), 0, "$5.02 of $5.00 are spent"),
        (run_of(Budget(max_cost_usd=5), 4.99), 0, ""),
        (run_of(Budget(max_cost_usd=0.3), 0.1 + 0.2), 0, "$0.30 of $0.30 are spent"),
        (run_of(Budget(max_cost_usd=5), None), 0, ""),
        (run_of(Budget(max_tokens=100), tokens=100), 0, "100 of 100 tokens are used"),
        (run_of(Budget(max_tokens=100), tokens=99), 0, ""),
        (run_of(Budget(max_duration_s=3600)), 3600, "1h 00m of 1h 00m are over"),
        (run_of(Budget(max_duration_s=3600)), 3599, ""),
        (run_of(Budget(), 1e9, 10**12), 1e9, ""),
    ],
)
def test_a_limit_is_reached_when_all_of_it_is_used(state: RunState, elapsed_s: float, text: str) -> None:
    ending = limits(state, after(elapsed_s)).ending
    assert (ending is not None) is bool(text)
    if ending is not None:
        assert (ending.exit_code, ending.stop) == (7, False)
        assert text in ending.reason


def test_a_hard_budget_stops_what_runs() -> None:
    ending = limits(run_of(Budget(max_tokens=1, hard=True), tokens=2), NOON).ending
    assert ending is not None
    assert ending.stop


def test_each_limit_is_near_at_four_fifths_and_told_once() -> None:
    budget = Budget(max_cost_usd=10, max_tokens=1000, max_duration_s=100)
    assert limits(run_of(budget, 7.9, 799), after(79)).warnings == ()
    state = run_of(budget, 8, 800)
    told_ones = limits(state, after(80)).warnings
    assert [one.name for one in told_ones] == ["cost", "tokens", "duration"]
    for one in told_ones:
        state, _ = happened(state, NOON, "", one)
    assert limits(state, after(80)).warnings == ()
    assert BudgetNearing("cost", "$8.00 of $10.00 are spent") in told_ones
    assert limits(state, NOON).looks == (after(80), after(100))
    higher = replace(state.policy, budget=replace(budget, max_cost_usd=9))
    state, _ = happened(state, NOON, "", SettingsChanged("kim", {"max_cost": "9"}, {}, higher))
    assert [one.name for one in limits(state, after(0)).warnings] == ["cost", "tokens"]


def test_input_and_output_count_and_costs_that_nobody_tells_do_not() -> None:
    used = total([Usage(1, 2, None), Usage(3, 4, 0.5), Usage(5, 6, 0.25)])
    assert used == Usage(9, 12, 0.75)
    assert total([Usage(1, 2, None)]).cost_usd is None


def test_an_attempt_may_cost_what_is_left_of_the_smaller_budget() -> None:
    both, wp = Budget(max_cost_usd=10, max_cost_per_wp_usd=3), WorkPackage("WP01", used=(Usage(0, 0, 1.0),))
    assert left(both, Usage(0, 0, 2), wp) == 2
    assert left(both, Usage(0, 0, 9), wp) == 1
    assert left(both, Usage(0, 0, 99), wp) == 0
    assert left(Budget(max_tokens=5), Usage(0, 0, 9), wp) is None


def test_a_work_package_is_over_its_own_limit_at_the_limit() -> None:
    def over_at(cost: float, capped_usd: float = 0.0, limit: float | None = 3.0) -> str:
        wp = WorkPackage("WP01", used=(Usage(0, 0, cost),), capped_usd=capped_usd)
        return over(Budget(max_cost_per_wp_usd=limit), wp)

    assert over_at(2.99) == ""
    assert over_at(3.0) == "it has cost $3.00 of $3.00, the most for one work package"
    assert over_at(2.5, capped_usd=0.5) != ""
    assert over_at(3.0, limit=None) == ""


@pytest.mark.parametrize(("start", "blocks"), [(IMPLEMENTING, True), (REVIEWING, False)])
def test_a_work_package_that_may_cost_no_more_is_parked_with_the_reason(
    start: tuple[Event, ...], blocks: bool
) -> None:
    assert drive((*start, BudgetSpent("too much")))[1] == Park("too much", blocks)


def test_an_agent_that_our_own_limit_ended_has_not_failed() -> None:
    capped = replace(attempt("x"), max_cost_usd=1.0)
    assert next_of(drive((*IMPLEMENTING, *made(capped, Outcome.BUDGET)))) == "alice"
    assert next_of(drive((*IMPLEMENTING, *made(attempt("x"), Outcome.BUDGET)))) == "ann"


def test_a_limit_that_an_agent_says_is_used_up_counts_as_far_as_that_attempt_was_allowed() -> None:
    capped = replace(attempt("x"), max_cost_usd=5.0)
    report = AgentReport(Outcome.BUDGET, usage=Usage(1, 1, 4.5))
    wp, _ = drive((*IMPLEMENTING, AttemptOpened(capped), AgentExited("x", report)))
    assert (wp.usage.cost_usd, wp.capped_usd) == (4.5, 0.5)

    def goes_on_with(limit: float) -> Event | None:
        return admitted(RunState(replace(POLICY, budget=Budget(max_cost_usd=limit))), wp)

    assert isinstance(goes_on_with(5.0), Deferred)
    assert goes_on_with(10.0) == Assigned(Role.IMPLEMENT, "alice", "again: alice reached its cost limit", 5.0)


@pytest.mark.parametrize(
    ("since_s", "waited_s", "until_s", "ends"),
    [
        (None, 0.0, 3600.0, False),
        (None, 0.0, 3601.0, True),
        (-1800.0, 0.0, 1800.0, False),
        (-1800.0, 0.0, 1801.0, True),
        (None, 3000.0, 601.0, True),
    ],
)
def test_a_run_that_waits_for_nothing_but_quotas_has_bounded_patience(
    since_s: float | None, waited_s: float, until_s: float, ends: bool
) -> None:
    patient = replace(POLICY, patience=Patience(max_wait_s=3600.0))
    began = None if since_s is None else after(since_s)
    state = RunState(patient, waits_for_quotas_since=began, waited_for_quotas_s=waited_s)
    ending = out_of_patience(state, NOON, after(until_s))
    assert (ending is not None) is ends
    assert ending is None or ending.exit_code == 75


def test_the_patience_with_quotas_begins_anew_when_an_attempt_ends_otherwise() -> None:
    state = replace(tried((1, AttemptOpened(attempt("i1")))), waited_for_quotas_s=99.0)
    limits, _ = happened(state, after(2), "WP01", AgentExited("i1", LIMITED))
    assert limits.waited_for_quotas_s == 99.0
    crashes, _ = happened(state, after(2), "WP01", exited("i1", Outcome.CRASHED))
    assert crashes.waited_for_quotas_s == 0.0


def test_what_runs_used_whose_journals_were_put_aside_counts_as_spent() -> None:
    state, _ = happened(run_of(Budget(max_cost_usd=10.0), 4.0), NOON, "", SpentBefore(Usage(1, 2, 5.0)))
    assert state.spent.cost_usd == 9.0
    assert [one.text for one in limits(state, NOON).warnings] == ["$9.00 of $10.00 are spent"]
    again = begin(state, start_at(MissionState("m", {}, {})))
    assert again.spent.cost_usd == 5.0


def test_what_a_work_package_cost_in_journals_that_were_put_aside_counts_towards_its_own_limit_once() -> None:
    before = SpentBefore(Usage(1, 2, 9.0), {"WP01": 6.0, "WP02": 3.0})
    state, _ = happened(run_of(Budget(), 0.0), NOON, "", before)
    state = begin(state, start_at(MissionState("m", {"WP01": Lane.PLANNED, "WP03": Lane.PLANNED}, {})))
    first, other = state.wps["WP01"], state.wps["WP03"]
    assert over(Budget(max_cost_per_wp_usd=5.0), first).startswith("it has cost $6.00 of $5.00")
    assert over(Budget(max_cost_per_wp_usd=7.0), first) == over(Budget(max_cost_per_wp_usd=5.0), other) == ""
    assert left(Budget(max_cost_per_wp_usd=7.0), Usage(), first) == 1.0
    assert state.spent.cost_usd == 9.0
    assert begin(state, start_at(MissionState("m", {"WP01": Lane.PLANNED}, {}))).wps["WP01"].cost_usd == 6.0


def test_a_policy_limits_nothing_of_its_own() -> None:
    policy = Policy(("a",), ("b",))
    assert (dict(policy.max_per_agent), policy.budget, policy.budget.limits_cost) == ({}, Budget(), False)
