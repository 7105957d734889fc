"""Which work packages go on next, and why the others do not."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.orders import any_order

from spec_kitty_orchestrator.core.events import Resolving, Scheduled
from spec_kitty_orchestrator.core.graph import chains, critical_path, waves
from spec_kitty_orchestrator.core.limits import EXIT_BUDGET, EXIT_QUOTA
from spec_kitty_orchestrator.core.model import (
    Attempt,
    Lane,
    Outcome,
    Phase,
    Result,
    Role,
    Usage,
    WaitsFor,
    Workspace,
)
from spec_kitty_orchestrator.core.policy import Budget, OnRateLimit, Patience
from spec_kitty_orchestrator.core.run import RunState, happened
from spec_kitty_orchestrator.core.run_events import Ending
from spec_kitty_orchestrator.core.scheduler import (
    SHORTAGE_PATIENCE_S,
    Decision,
    Finished,
    Idle,
    Order,
    Stalled,
    Start,
    plan,
    unmet,
)
from spec_kitty_orchestrator.core.suspension import Suspension
from spec_kitty_orchestrator.core.verdict import Ruling, Verdict
from spec_kitty_orchestrator.core.work_package import (
    WORKSPACE_LANES,
    Bounds,
    Grant,
    Review,
    Turn,
    WorkPackage,
)

from .builders import HEAD, NOON, POLICY, after

DIAMOND = {"A": (), "B": ("A",), "C": ("A",), "D": ("B", "C")}
ENDS = {
    Lane.DONE: Result.DONE,
    Lane.APPROVED: Result.APPROVED,
    Lane.BLOCKED: Result.BLOCKED,
    Lane.CANCELED: Result.CANCELED,
}
SLOT = Turn(Grant.SLOT)


def attempt_of(agent: str, name: str = "a1") -> Attempt:
    return Attempt(name, 1, Role.IMPLEMENT, agent, "/logs")


def wp(
    name: str, *needs: str, lane: Lane = Lane.PLANNED, space: str | None = "own", **parts: Any
) -> WorkPackage:
    """Return a work package that waits, or has ended where its lane says so; None is an unknown workspace."""
    key = name if space == "own" else space
    workspace = None if key is None else Workspace(f"/w/{key}", f"/t/{name}.md", key)
    ended = {"phase": Phase.FINISHED, "result": ENDS[lane]} if lane in ENDS else {}
    return WorkPackage(name, needs, lane, workspace=workspace, **(ended | parts))


def begun(name: str, turn: Turn | None = None, **parts: Any) -> WorkPackage:
    """Return a work package that was implemented once and is to be mended."""
    tried: dict[str, Any] = {
        "attempts": (attempt_of("alice"),),
        "outcomes": (Outcome.CRASHED,),
        "turn": turn or Turn(),
    }
    return wp(name, **({"lane": Lane.IN_PROGRESS, "phase": Phase.IMPLEMENTING} | tried | parts))


def running(name: str, agent: str = "alice", turn: Turn = SLOT, **parts: Any) -> WorkPackage:
    """Return a work package whose agent is at work."""
    return begun(name, replace(turn, agent=agent), attempts=(attempt_of(agent),), outcomes=(), **parts)


def left_in(lane: Lane, result: Result, name: str = "A", **parts: Any) -> WorkPackage:
    return wp(name, **({"lane": lane, "phase": Phase.FINISHED, "result": result} | parts))


def mission(
    *wps: WorkPackage, slots: int = 4, policy: Mapping[str, Any] | None = None, **parts: Any
) -> RunState:
    settled = replace(POLICY, max_concurrent=slots, **(policy or {}))
    known = {"began_at": NOON, "now": NOON, "idle_since": NOON} | parts
    return RunState(settled, {one.id: one for one in wps}, **known)


def granted(state: RunState, start: Start, now: datetime = NOON) -> RunState:
    """Give what a plan gives, as the driver does."""
    one = state.wps[start.wp_id]
    if start.grant is Grant.RESOLVE:
        return happened(state, now, one.id, Resolving())[0]
    assert one.workspace is not None
    event = Scheduled(one.lane, one.workspace, ahead=start.grant is Grant.CLAIM_AHEAD)
    return happened(state, now, one.id, event)[0]


def carried_out(
    state: RunState, now: datetime = NOON, order: Order | None = None
) -> tuple[list[tuple[str, Grant]], Decision, RunState]:
    """Carry out plan after plan; return who was given what, and the first answer that starts nobody."""
    given = []
    while isinstance(decision := plan(state, now, order), Start):
        given.append((decision.wp_id, decision.grant))
        state = granted(state, decision, now)
    return given, decision, state


def starts(state: RunState, now: datetime = NOON, order: Order | None = None) -> str:
    """Return who is given a slot, in this order: "AB" for A, then B."""
    return "".join(one for one, grant in carried_out(state, now, order)[0] if grant is Grant.SLOT)


def reasons(state: RunState, now: datetime = NOON) -> Mapping[str, str]:
    """Return why those wait who are given nothing."""
    decision = carried_out(state, now)[1]
    assert not isinstance(decision, Ending | Start)
    return decision.reasons


STARTS: dict[str, tuple[RunState, str]] = {
    "up to the slots, in the order of their ids": (mission(wp("C"), wp("A"), wp("B"), slots=2), "AB"),
    "the longest remaining chain first": (
        mission(wp("A"), wp("B"), wp("C", "B"), wp("D", "C"), slots=1),
        "B",
    ),
    "what was begun before what was not": (mission(wp("A"), wp("B", "A"), begun("Z"), slots=1), "Z"),
    "what was only claimed before what was not, after what was tried": (
        mission(wp("A"), begun("Y", attempts=(), outcomes=()), begun("Z"), slots=2),
        "ZY",
    ),
    "an attempt that may still run before all others": (
        mission(begun("A"), wp("B"), running("Z", turn=Turn()), slots=1),
        "Z",
    ),
    "no slot twice": (mission(begun("A", SLOT), wp("B"), wp("C"), slots=2), "B"),
    "nobody without a slot": (mission(begun("A", SLOT), wp("B"), wp("C"), slots=1), ""),
    "one in a workspace": (mission(wp("A", space="l"), wp("B", space="l"), slots=2), "A"),
    "nobody beside who works in it": (mission(begun("A", SLOT, space="l"), wp("B", space="l")), ""),
    "nobody beside who rests in it": (
        mission(begun("A", Turn(waits="x", until=after(7)), space="l"), wp("B", space="l")),
        "",
    ),
    "who works in it keeps it, though others move another lane": (
        mission(wp("A", lane=Lane.CLAIMED, space="l"), begun("B", SLOT, space="l")),
        "",
    ),
    "a workspace is free once its work package is blocked": (
        mission(left_in(Lane.BLOCKED, Result.PARKED, space="l"), wp("B", space="l")),
        "B",
    ),
    "a rest that is over": (mission(wp("A"), begun("Z", Turn(waits="x", until=NOON)), slots=1), "Z"),
    "nobody who rests": (mission(wp("A"), begun("Z", Turn(waits="x", until=after(7))), slots=1), "A"),
    "an adopted review without its dependencies": (mission(wp("A", "X", lane=Lane.FOR_REVIEW)), "A"),
    "an agent without room holds up only who needs it": (
        mission(wp("A"), wp("B"), wp("C", lane=Lane.FOR_REVIEW), policy={"max_per_agent": {"alice": 1}}),
        "AC",
    ),
    "who waits longest for an agent": (
        mission(
            begun("A", Turn(queued_at=after(-1), queued_for="alice")),
            begun("B", Turn(queued_at=after(-2), queued_for="alice")),
            policy={"max_per_agent": {"alice": 1}},
        ),
        "B",
    ),
    "an attempt that may still run takes its agent's place": (
        mission(begun("A"), wp("B"), running("Z", turn=Turn()), policy={"max_per_agent": {"alice": 1}}),
        "Z",
    ),
    "who waits for an agent keeps nobody from a worktree": (
        mission(
            wp("A", space="l"),
            wp("B", space="l"),
            wp("C", lane=Lane.FOR_REVIEW, space="l"),
            begun("Z", SLOT),
            policy={"max_per_agent": {"alice": 0}},
        ),
        "C",
    ),
    "a machine that is short begins nothing new and goes on with what was begun": (
        mission(
            wp("A"), begun("B"), begun("C", attempts=(), outcomes=()), short_of="memory", short_since=NOON
        ),
        "B",
    ),
}


@pytest.mark.parametrize(("state", "expected"), STARTS.values(), ids=STARTS)
def test_slots_are_given_to(state: RunState, expected: str) -> None:
    assert starts(state) == expected


@pytest.mark.parametrize("lane", [lane for lane in Lane if not lane.complete])
def test_a_dependency_counts_only_when_it_is_approved_or_done(lane: Lane) -> None:
    needed = left_in(lane, Result.PARKED)
    assert carried_out(mission(needed, wp("B", "A")))[1] == Stalled({"B": f"waits for A ({lane})"})
    for complete in (Lane.APPROVED, Lane.DONE):
        assert starts(mission(wp("A", lane=complete), wp("B", "A"))) == "B"


@pytest.mark.parametrize("lane", [Lane.CLAIMED, Lane.IN_PROGRESS, Lane.FOR_REVIEW, Lane.IN_REVIEW])
@pytest.mark.parametrize("result", [Result.PARKED, Result.FOREIGN])
def test_a_workspace_is_held_by_what_is_parked_in_it_and_by_other_actors(lane: Lane, result: Result) -> None:
    state = mission(left_in(lane, result, space="l"), wp("B", space="l"))
    assert carried_out(state)[1] == Stalled({"B": "its workspace is held by A"})


def test_a_workspace_passes_to_the_next_one_when_the_first_left_it() -> None:
    lane = [wp(name, space="l") for name in "AB"] + [wp("C", "D", space="l"), wp("D")]
    assert starts(mission(*lane)) == "DA"
    ended = [wp("A", lane=Lane.DONE, space="l"), wp("D", lane=Lane.DONE)]
    canceled = wp("B", lane=Lane.CANCELED, space="l")
    assert starts(mission(*ended, canceled, lane[2])) == "C"


def test_new_work_waits_until_it_is_known_which_workspace_others_hold() -> None:
    held = wp("A", lane=Lane.IN_PROGRESS, space=None)
    given, decision, _ = carried_out(mission(held, wp("B")))
    assert given == [("A", Grant.RESOLVE)]
    assert isinstance(decision, Idle)
    assert decision.reasons["B"] == "waits to learn which workspace A holds"
    assert starts(mission(replace(held, workspace=wp("A").workspace), wp("B"))) == "AB"


def test_a_workspace_of_others_that_the_host_could_not_tell_is_asked_for_again() -> None:
    rests = Turn(waits="no reply", until=after(60))
    foreign = left_in(Lane.IN_PROGRESS, Result.FOREIGN, space=None, turn=rests)
    state = mission(foreign, wp("B"))
    assert carried_out(state)[1] == Idle(
        after(60), {"B": "waits to learn which workspace A holds"}, waits_for={"B": WaitsFor.WORKSPACE}
    )
    assert carried_out(state, after(60))[0] == [("A", Grant.RESOLVE)]
    hopeless = mission(replace(foreign, bounds=Bounds(tries=6)), wp("B"))
    assert isinstance(carried_out(hopeless)[1], Stalled)


def test_workspaces_that_something_could_start_in_are_learned_first_and_several_at_once() -> None:
    unknown = [
        wp(name, *needs, space=None) for name, needs in (("A", ("B",)), ("B", ()), ("C", ()), ("D", ()))
    ]
    given, _, state = carried_out(mission(*unknown, slots=2))
    assert given == [("B", Grant.RESOLVE), ("C", Grant.RESOLVE)]
    assert reasons(state)["B"] == "its workspace is not known yet"
    later = [wp("A", "B", space=None), wp("E", "B", space=None)]
    assert carried_out(mission(*later, running("B")))[0] == [("A", Grant.RESOLVE)], "one at a time"
    assert carried_out(mission(*later, begun("B", SLOT)))[0] == [], "the host is busy"


IDLES: dict[str, tuple[RunState, datetime | None]] = {
    "for who works": (mission(running("A")), None),
    "for who rests": (mission(begun("A", Turn(waits="x", until=after(7)))), after(7)),
    "for the first of those who rest": (
        mission(*(begun(one, Turn(waits="x", until=after(s))) for one, s in (("A", 9), ("B", 7), ("C", 8)))),
        after(7),
    ),
    "for nobody's rest that is over while every slot is taken": (
        mission(begun("A", Turn(waits="x", until=after(-1))), running("B"), slots=1),
        None,
    ),
    "for a budget of time": (
        mission(running("A"), policy={"budget": Budget(max_duration_s=100.0)}),
        after(80),
    ),
    "for what the machine is short of": (
        mission(wp("A"), short_of="memory", short_since=after(-9)),
        after(SHORTAGE_PATIENCE_S),
    ),
    "for as long as somebody works, though the machine is short": (
        mission(wp("A"), running("B"), short_of="memory", short_since=after(-9999), idle_since=None),
        None,
    ),
}


@pytest.mark.parametrize(("state", "until"), IDLES.values(), ids=IDLES)
def test_a_run_waits(state: RunState, until: datetime | None) -> None:
    decision = carried_out(state)[1]
    assert isinstance(decision, Idle)
    assert (decision.until, decision.quotas) == (until, False)
    assert set(decision.reasons) == {one.id for one in state.left}


def test_everything_ended_is_finished() -> None:
    assert plan(mission(wp("A", lane=Lane.DONE)), NOON) == Finished()
    assert plan(mission(), NOON) == Finished()


def test_a_stall_names_each_work_package_with_its_reason() -> None:
    state = mission(
        left_in(Lane.IN_REVIEW, Result.PARKED, space="l"),
        wp("B", "A"),
        wp("C", space="l"),
        wp("D", "E"),
        wp("E", "D"),
        wp("F", "X", "B"),
        slots=3,
    )
    assert carried_out(state)[1] == Stalled(
        {
            "B": "waits for A (in_review)",
            "C": "its workspace is held by A",
            "D": "waits for E",
            "E": "waits for D",
            "F": "waits for X (not in the mission), B",
        }
    )


def test_a_rest_that_is_over_does_not_hide_a_stall() -> None:
    rested = wp("B", space="l", turn=Turn(waits="x", until=after(-1)))
    state = mission(left_in(Lane.IN_REVIEW, Result.FOREIGN, space="l"), rested)
    assert carried_out(state)[1] == Stalled({"B": "its workspace is held by A"})


def test_a_stall_at_an_agent_says_so() -> None:
    # Somebody moved the lane of another one into our worktree while nobody looked.
    foreign = left_in(Lane.IN_PROGRESS, Result.FOREIGN, "Z", space="l")
    found = running("A", turn=Turn(), space="l")
    state = mission(foreign, found, wp("B"), policy={"max_per_agent": {"alice": 1}})
    assert carried_out(state)[1] == Stalled(
        {"A": "its workspace is held by Z", "B": "waits for alice: at most 1 at once"}
    )


def test_a_machine_that_stays_short_while_nothing_of_ours_works_is_a_stall() -> None:
    state = mission(wp("A"), short_of="memory", short_since=NOON)
    assert carried_out(state, after(SHORTAGE_PATIENCE_S))[1] == Stalled({"A": "memory"})


def test_who_waits_in_a_queue_but_may_not_go_on_keeps_nobody_from_the_agent() -> None:
    first = begun("A", Turn(queued_at=after(-9), queued_for="alice"), attempts=(), outcomes=())
    state = mission(
        first,
        begun("B"),
        policy={"max_per_agent": {"alice": 1}},
        short_of="memory",
        short_since=NOON,
    )
    assert starts(state) == "B"


RESTING = {one: Suspension(after(3600), 1, 3600.0) for one in POLICY.impl_agents}


def at_limits(patience: Patience, *wps: WorkPackage, **parts: Any) -> Decision:
    return carried_out(mission(*wps, policy={"patience": patience}, suspended=RESTING, **parts))[1]


def test_a_run_that_waits_for_nothing_but_quotas_says_so_and_has_bounded_patience() -> None:
    found = at_limits(Patience(), wp("A"), wp("B", "A"))
    assert isinstance(found, Idle)
    assert (found.until, found.quotas) == (after(3600), True)
    assert found.reasons["A"] == "waits for alice: its quota is used up until 2026-05-01 13:00 UTC"
    works = at_limits(Patience(max_wait_s=60.0), wp("A"), running("Z"))
    assert isinstance(works, Idle)
    assert not works.quotas
    ends = at_limits(Patience(max_wait_s=60.0), wp("A"))
    assert isinstance(ends, Ending)
    assert (ends.exit_code, ends.stop) == (EXIT_QUOTA, False)


@pytest.mark.parametrize("waiting", [wp("A"), begun("A"), begun("A", Turn(quota=True, until=after(9)))])
def test_a_run_that_is_to_stop_at_limits_ends_at_the_first_that_is_waited_for(waiting: WorkPackage) -> None:
    found = at_limits(Patience(OnRateLimit.STOP), waiting, running("Z"))
    assert isinstance(found, Ending)
    assert found.exit_code == EXIT_QUOTA


def test_a_review_waits_for_its_own_agents_only() -> None:
    state = mission(wp("A"), wp("B", lane=Lane.FOR_REVIEW), suspended=RESTING)
    assert starts(state) == "B"


def test_a_budget_that_is_used_up_ends_the_run_and_lets_work_go_on_that_begins_nothing() -> None:
    costly = wp("A", used=(Usage(0, 0, 5.0),))
    found = plan(mission(costly, policy={"budget": Budget(max_cost_usd=5.0)}), NOON)
    assert isinstance(found, Ending)
    assert found.exit_code == EXIT_BUDGET


def test_a_run_that_ends_waits_for_who_is_at_work_and_takes_up_what_an_agent_may_still_do() -> None:
    ending = Ending(EXIT_BUDGET, "spent")
    state = mission(wp("A"), running("B"), running("C", turn=Turn()), slots=2, ending=ending)
    assert starts(state) == "C"
    assert isinstance(carried_out(state)[1], Idle)
    assert carried_out(mission(wp("A"), ending=ending))[1] == Finished({"A": "spent"})


def test_a_run_that_is_stopped_begins_nothing_and_waits_for_who_is_at_work() -> None:
    state = mission(running("A", turn=Turn()), begun("B", SLOT), signals=(2,))
    assert isinstance(plan(state, NOON), Idle)
    stopped = plan(mission(running("A", turn=Turn()), signals=(2,)), NOON)
    assert stopped == Finished({"A": "the run was interrupted"})


AHEAD = Turn(Grant.CLAIM_AHEAD)
CLAIMS: dict[str, tuple[RunState, str]] = {
    "the next one while every slot is taken": (mission(running("A"), wp("B"), wp("C"), slots=1), "B"),
    "nobody while a slot is free, which is given": (mission(running("A"), wp("B"), slots=2), ""),
    "one at a time": (mission(running("A"), wp("B", turn=AHEAD, phase=Phase.CLAIMING), wp("C"), slots=1), ""),
    "nobody into a worktree that is held": (
        mission(running("A", space="l"), wp("B", space="l"), wp("C"), slots=1),
        "C",
    ),
    "nobody ahead of what was begun": (mission(running("A"), begun("B"), wp("C"), slots=1), ""),
    "nobody while another one asks the host": (mission(begun("A", SLOT), wp("B"), slots=1), ""),
    "nobody whom others have claimed": (mission(running("A"), wp("B", lane=Lane.CLAIMED), slots=1), ""),
    "nobody while the machine is short": (
        mission(running("A"), wp("B"), slots=1, short_of="memory", short_since=NOON),
        "",
    ),
    "nobody whose agent has no place": (
        mission(running("A"), wp("B"), slots=1, policy={"max_per_agent": {"alice": 1}}),
        "",
    ),
}


@pytest.mark.parametrize(("state", "expected"), CLAIMS.values(), ids=CLAIMS)
def test_ahead_of_a_slot_is_claimed(state: RunState, expected: str) -> None:
    given = carried_out(state)[0]
    assert "".join(one for one, grant in given if grant is Grant.CLAIM_AHEAD) == expected


def test_who_is_claimed_ahead_comes_first_of_the_new_and_after_what_was_tried() -> None:
    claimed = begun("B", attempts=(), outcomes=())
    assert starts(mission(wp("A"), claimed, begun("Z"), slots=2)) == "ZB"


def test_the_last_slot_is_kept_for_who_is_claimed_but_not_from_what_was_begun() -> None:
    ahead = wp("B", phase=Phase.CLAIMING, turn=AHEAD)
    assert starts(mission(ahead, wp("C"), slots=1)) == ""
    assert starts(mission(ahead, wp("C"), wp("D"), slots=2)) == "C"
    assert starts(mission(ahead, begun("C"), slots=1)) == "C"


def others_can_help(state: RunState) -> bool:
    decision = plan(state, NOON)
    return isinstance(decision, Idle) and decision.others


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("ended", [True, False])
def test_others_are_waited_for_only_while_a_slot_is_free_and_only_they_can_help(
    lane: Lane, ended: bool
) -> None:
    first = left_in(lane, Result.PARKED) if ended else begun("A", SLOT, lane=lane)
    state = carried_out(mission(first, wp("B", "A"), running("C")))[2]
    assert others_can_help(state) == (ended and not lane.complete)
    full = replace(state, policy=replace(state.policy, max_concurrent=len(state.at_work)))
    assert not others_can_help(full)


def test_who_holds_a_worktree_outside_this_run_is_waited_for_too() -> None:
    foreign = left_in(Lane.IN_PROGRESS, Result.FOREIGN, space="l")
    state = mission(foreign, wp("B", space="l"), running("C"))
    assert others_can_help(state)
    moved = replace(state, wps={**state.wps, "A": replace(foreign, lane=Lane.DONE)})
    assert not others_can_help(moved)


NAMES = tuple("ABCDEF")
AGENTS = ("alice", "ann", "bob", "ben")


def anywhere(dice: Random, name: str) -> WorkPackage:
    """Return a work package anywhere in its life, without a slot."""
    phase = dice.choice(list(Phase))
    parts: dict[str, Any] = {"lane": dice.choice(list(Lane)), "phase": phase}
    unknown = [None] if phase in (Phase.WAITING, Phase.FINISHED) else []
    parts["space"] = dice.choice([*unknown, "lane-1", "lane-2", name, name])
    parts["result"] = dice.choice([Result.PARKED, Result.FOREIGN]) if phase is Phase.FINISHED else None
    if phase is Phase.RECORDING:
        parts["review"] = Review(verdict=Verdict(Ruling.APPROVED, HEAD, "r1", "bob"))
    parts["attempts"] = made = dice.choice([(), (attempt_of("alice"),)])
    is_open = phase in (Phase.IMPLEMENTING, Phase.REVIEWING) and dice.random() < 0.5
    parts["outcomes"] = () if is_open else (Outcome.CRASHED,) * len(made)
    parts["turn"] = dice.choice(
        [
            Turn(),
            Turn(),
            Turn(waits="rests", until=after(dice.choice([-1, 0, 1, 90])), quota=dice.random() < 0.3),
            Turn(waits="queues", queued_at=after(-ord(name)), queued_for=dice.choice(AGENTS)),
        ]
    )
    return wp(name, *dice.sample((*NAMES, "X"), dice.choice([0, 1, 2])), **parts)


def situation(seed: int) -> RunState:
    """Return a run in which anything may have happened."""
    dice = Random(seed)
    wps = {name: anywhere(dice, name) for name in NAMES}
    places = dice.choice([{}, {"alice": 1}, {"alice": 1, "bob": 1}])
    limit, keys = dice.randint(1, 4), set[str]()
    for one in dice.sample(list(wps.values()), 1 if places else dice.randint(0, limit)):
        key = one.workspace.key if one.workspace is not None else ""
        if key and key not in keys and one.phase not in (Phase.FINISHED, Phase.WAITING):
            agent = one.open_attempt.agent if one.open_attempt else ""
            wps[one.id] = replace(one, turn=Turn(Grant.SLOT, agent))
            keys.add(key)
    short = dice.choice(["", "", "memory"])
    return mission(
        *wps.values(),
        slots=limit,
        policy={
            "max_per_agent": places,
            "patience": Patience(dice.choice(list(OnRateLimit)), 3600.0),
            "budget": dice.choice([Budget(), Budget(), Budget(max_duration_s=100.0)]),
        },
        suspended={one: Suspension(after(dice.choice([-1, 60])), 1, 60.0) for one in dice.sample(AGENTS, 1)},
        short_of=short,
        short_since=NOON if short else None,
        idle_since=None if keys else NOON,
        ending=dice.choice([None, None, None, Ending(7, "spent"), Ending(7, "spent", stop=True)]),
    )


SEEDS = range(100)


def assert_start_is_allowed(state: RunState, start: Start) -> None:
    one = state.wps[start.wp_id]
    assert one.turn.grant is None
    if start.grant is Grant.RESOLVE:
        assert one.workspace is None
        return
    assert one.workspace is not None
    assert one.phase is not Phase.FINISHED
    assert one.workspace.key not in {other.workspace.key for other in state.at_work if other.workspace}
    assert one.turn.until is None or one.turn.until <= NOON or one.turn.quota or state.closing
    if start.grant is Grant.SLOT:
        assert state.free_slots > 0
    if one.phase is Phase.WAITING and one.lane is Lane.PLANNED:
        assert not list(unmet(state, one))


@given(st.sampled_from(SEEDS), any_order())
@settings(max_examples=300, deadline=None)
def test_no_plan_breaks_a_bound_and_whoever_waits_knows_for_what(seed: int, order: Order | None) -> None:
    state = situation(seed)
    while isinstance(decision := plan(state, NOON, order), Start):
        assert_start_is_allowed(state, decision)
        state = granted(state, decision)
        for agent, most in state.policy.max_per_agent.items():
            given = [one for one in state.at_work if one.turn.agent == agent and one.open_attempt is None]
            assert len(given) <= most
    if isinstance(decision, Ending):
        assert not state.closing
        return
    assert set(decision.reasons) == ({one.id for one in state.left})
    assert all(decision.reasons.values())
    match decision:
        case Idle(until=until):
            assert until is None or until > NOON
            asks = any(one.turn.grant is Grant.RESOLVE for one in state.wps.values())
            assert state.at_work or asks or until is not None
        case Stalled():
            assert not state.at_work
            assert state.left
        case Finished():
            assert not state.at_work
            assert state.closing or not state.left


def may_go_on(state: RunState, one: WorkPackage) -> bool:
    """Tell whether nothing at all holds up a work package, whatever the order of the others."""
    others = [other for other in state.wps.values() if other.id != one.id]
    held = {other.workspace.key for other in others if other.workspace and holds(other)}
    begun = one.begun and one.phase is not Phase.CLAIMING
    return (
        one.workspace is not None
        and one.workspace.key not in held
        and (begun or one.lane not in (Lane.PLANNED, Lane.CLAIMED) or not list(unmet(state, one)))
        and (one.turn.until is None or one.turn.until <= NOON)
    )


def holds(one: WorkPackage) -> bool:
    return one.begun or one.at_work or one.lane in WORKSPACE_LANES


@given(st.sampled_from(SEEDS), any_order())
@settings(max_examples=300, deadline=None)
def test_nothing_that_can_start_is_ever_left_out(seed: int, order: Order | None) -> None:
    state = situation(seed)
    wps = {**state.wps, "G": wp("G")}
    known = {name: replace(one, workspace=one.workspace or wp(name).workspace) for name, one in wps.items()}
    policy = replace(state.policy, max_per_agent={}, patience=Patience(), budget=Budget())
    free = replace(state, wps=known, policy=policy, suspended={}, short_of="", ending=None)
    _, decision, after_all = carried_out(free, order=order)
    assert isinstance(decision, Idle)
    assert not after_all.free_slots or not [one.id for one in after_all.left if may_go_on(after_all, one)]


def test_a_plan_of_the_largest_mission_never_fails_and_uses_every_slot() -> None:
    names = [f"WP{number:02}" for number in range(1, 100)]
    chain = [wp(name, *names[max(0, place - 1) : place]) for place, name in enumerate(names)]
    wide = [wp(name) for name in names]
    tangled = [wp(name, *names[place + 1 :: 7], names[-place]) for place, name in enumerate(names)]
    assert starts(mission(*chain, slots=99)) == "WP01"
    assert len(carried_out(mission(*wide, slots=99))[0]) == 99
    assert isinstance(carried_out(mission(*tangled, slots=99))[1], Stalled)


def test_a_chain_of_a_thousand_has_a_thousand_waves_and_is_its_own_critical_path() -> None:
    needs = {f"W{n:04}": ((f"W{n - 1:04}",) if n else ()) for n in range(1_000)}
    assert waves(needs) == tuple((one,) for one in needs)
    assert critical_path(needs) == tuple(needs)
    assert chains(needs)["W0000"] == 1_000


def test_waves_chains_and_the_critical_path_of_a_diamond() -> None:
    assert waves(DIAMOND) == (("A",), ("B", "C"), ("D",))
    assert chains(DIAMOND) == {"A": 3, "B": 2, "C": 2, "D": 1}
    assert critical_path(DIAMOND) == ("A", "B", "D")


def test_cycles_are_left_out_of_waves_and_count_as_one() -> None:
    needs = {"A": (), "B": ("C",), "C": ("B",), "D": ("C",), "E": ("A",)}
    assert waves(needs) == (("A",), ("E",))
    assert chains(needs) == {"A": 2, "B": 1, "C": 1, "D": 1, "E": 1}
    assert critical_path(needs) == ("A", "E")


def test_a_dependency_that_the_mission_does_not_have_is_no_wave_of_its_own() -> None:
    assert waves({"A": ("X",)}) == (("A",),)
    assert critical_path({}) == ()


@given(st.dictionaries(st.sampled_from(NAMES), st.sets(st.sampled_from((*NAMES, "X"))).map(tuple)))
def test_the_critical_path_follows_dependencies_and_is_as_long_as_the_longest_chain(
    needs: dict[str, tuple[str, ...]],
) -> None:
    path = critical_path(needs)
    assert all(first in needs[second] for first, second in pairwise(path))
    placed = [one for wave in waves(needs) for one in wave]
    assert len(path) == max((chains(needs)[one] for one in placed), default=0)
