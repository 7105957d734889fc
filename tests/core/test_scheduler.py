"""Which work packages run next, and why the others do not."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_kitty_orchestrator.core.board import Board
from spec_kitty_orchestrator.core.model import Attempt, Lane, Phase, Result, Role, WorkPackage, Workspace
from spec_kitty_orchestrator.core.scheduler import (
    Finished,
    Idle,
    Snapshot,
    Stalled,
    Start,
    chains,
    critical_path,
    plan,
    waves,
)

NOW = 100.0
DIAMOND = {"A": (), "B": ("A",), "C": ("A",), "D": ("B", "C")}


def wp(name: str, *needs: str, lane: Lane = Lane.PLANNED, phase: Phase = Phase.WAITING) -> WorkPackage:
    ended = {Lane.DONE: Result.DONE, Lane.APPROVED: Result.APPROVED}.get(lane)
    if ended is not None:
        return WorkPackage(name, needs, lane, Phase.FINISHED, result=ended)
    return WorkPackage(name, needs, lane, phase)


def snapshot(
    wps: Iterable[WorkPackage],
    *,
    shared: Mapping[str, str] | None = None,
    unresolved: Iterable[str] = (),
    active: Iterable[str] = (),
    resting: Mapping[str, float] | None = None,
) -> Snapshot:
    known = {one.id: one for one in wps}
    spaces = {
        name: Workspace(f"/w/{name}", f"/t/{name}.md", (shared or {}).get(name, name))
        for name in known
        if name not in set(unresolved)
    }
    needs = {one.id: one.dependencies for one in known.values()}
    return Snapshot(known, spaces, set(active), dict(resting or {}), NOW, chains(needs))


def test_independent_work_packages_start_up_to_the_limit_in_the_order_of_their_ids() -> None:
    assert plan(snapshot([wp("C"), wp("A"), wp("B")]), 2) == Start(("A", "B"))


def test_the_longest_remaining_chain_goes_first() -> None:
    assert plan(snapshot([wp("A"), wp("B"), wp("C", "B"), wp("D", "C")]), 1) == Start(("B",))


def test_what_was_begun_goes_before_what_was_not() -> None:
    begun = wp("Z", lane=Lane.IN_PROGRESS, phase=Phase.IMPLEMENTING)
    assert plan(snapshot([wp("A"), wp("B", "A"), begun]), 1) == Start(("Z",))


def test_a_rest_that_is_over_goes_before_new_work() -> None:
    rested = wp("Z", lane=Lane.IN_PROGRESS, phase=Phase.IMPLEMENTING)
    assert plan(snapshot([wp("A"), rested], resting={"Z": NOW}), 1) == Start(("Z",))


def test_slots_that_are_taken_are_not_given_twice() -> None:
    running = wp("A", phase=Phase.IMPLEMENTING)
    assert plan(snapshot([running, wp("B"), wp("C")], active=["A"]), 2) == Start(("B",))
    assert plan(snapshot([running, wp("B"), wp("C")], active=["A"]), 1) == Idle(None)


@pytest.mark.parametrize("lane", [lane for lane in Lane if not lane.complete])
def test_a_dependency_counts_only_when_it_is_approved_or_done(lane: Lane) -> None:
    needed = WorkPackage("A", (), lane, Phase.FINISHED, result=Result.PARKED)
    assert plan(snapshot([needed, wp("B", "A")]), 2) == Stalled({"B": f"waits for A ({lane})"})
    for complete in (Lane.APPROVED, Lane.DONE):
        assert plan(snapshot([wp("A", lane=complete), wp("B", "A")]), 2) == Start(("B",))


def test_one_workspace_has_one_work_package_at_a_time() -> None:
    shared = {"A": "lane", "B": "lane"}
    assert plan(snapshot([wp("A"), wp("B")], shared=shared), 2) == Start(("A",))
    running = wp("A", phase=Phase.IMPLEMENTING)
    assert plan(snapshot([running, wp("B")], shared=shared, active=["A"]), 2) == Idle(None)


@pytest.mark.parametrize("lane", [Lane.CLAIMED, Lane.IN_PROGRESS, Lane.FOR_REVIEW, Lane.IN_REVIEW])
@pytest.mark.parametrize("result", [Result.PARKED, Result.FOREIGN])
def test_a_workspace_is_held_by_what_is_parked_in_it_and_by_other_actors(lane: Lane, result: Result) -> None:
    holder = WorkPackage("A", (), lane, Phase.FINISHED, result=result)
    found = plan(snapshot([holder, wp("B")], shared={"A": "lane", "B": "lane"}), 2)
    assert found == Stalled({"B": "its workspace is held by A"})


def test_a_workspace_is_free_again_when_its_work_package_is_blocked() -> None:
    parked = WorkPackage("A", (), Lane.BLOCKED, Phase.FINISHED, result=Result.PARKED)
    assert plan(snapshot([parked, wp("B")], shared={"A": "lane", "B": "lane"}), 2) == Start(("B",))


def test_who_works_in_a_workspace_keeps_it_when_somebody_moves_another_lane_by_hand() -> None:
    moved, running = wp("A", lane=Lane.CLAIMED), wp("B", phase=Phase.IMPLEMENTING)
    found = plan(snapshot([moved, running], shared={"A": "lane", "B": "lane"}, active=["B"]), 2)
    assert found == Idle(None)


def test_new_work_waits_until_it_is_known_which_workspace_others_hold() -> None:
    held = wp("A", lane=Lane.IN_PROGRESS)
    assert plan(snapshot([held, wp("B")], unresolved=["A"]), 2) == Idle(None)
    assert plan(snapshot([held, wp("B")]), 2) == Start(("A", "B"))


def test_what_rests_is_waited_for() -> None:
    resting = wp("A", lane=Lane.IN_PROGRESS, phase=Phase.IMPLEMENTING)
    assert plan(snapshot([resting], resting={"A": NOW + 7}), 1) == Idle(NOW + 7)


def test_what_rests_keeps_its_workspace() -> None:
    resting = wp("A", lane=Lane.IN_PROGRESS, phase=Phase.IMPLEMENTING)
    found = plan(snapshot([resting, wp("B")], shared={"A": "l", "B": "l"}, resting={"A": NOW + 7}), 2)
    assert found == Idle(NOW + 7)


def test_a_rest_that_is_over_does_not_wake_the_scheduler_while_all_slots_are_taken() -> None:
    rested = wp("A", lane=Lane.IN_PROGRESS, phase=Phase.IMPLEMENTING)
    running = wp("B", phase=Phase.IMPLEMENTING)
    assert plan(snapshot([rested, running], active=["B"], resting={"A": NOW - 1}), 1) == Idle(None)


def test_a_rest_that_is_over_does_not_hide_a_stall() -> None:
    holder = WorkPackage("A", (), Lane.IN_REVIEW, Phase.FINISHED, result=Result.FOREIGN)
    rested = wp("B", lane=Lane.PLANNED)
    found = plan(snapshot([holder, rested], shared={"A": "l", "B": "l"}, resting={"B": NOW - 1}), 1)
    assert found == Stalled({"B": "its workspace is held by A"})


def test_an_unresolved_workspace_is_waited_for_only_when_something_could_start_in_it() -> None:
    assert plan(snapshot([wp("A")], unresolved=["A"]), 1) == Idle(None)
    stuck = plan(snapshot([wp("A", "missing")], unresolved=["A"]), 1)
    assert stuck == Stalled({"A": "waits for missing (not in the mission)"})


def test_everything_ended_is_finished_and_the_last_one_running_is_waited_for() -> None:
    assert plan(snapshot([wp("A", lane=Lane.DONE)]), 1) == Finished()
    assert plan(snapshot([]), 1) == Finished()
    assert plan(snapshot([wp("A", phase=Phase.REVIEWING)], active=["A"]), 1) == Idle(None)


def test_a_stall_names_each_work_package_with_its_reason() -> None:
    parked = WorkPackage("A", (), Lane.IN_REVIEW, Phase.FINISHED, result=Result.PARKED)
    wps = [parked, wp("B", "A"), wp("C"), wp("D", "E"), wp("E", "D"), wp("F", "X", "B")]
    assert plan(snapshot(wps, shared={"A": "lane", "C": "lane"}), 3) == Stalled(
        {
            "B": "waits for A (in_review)",
            "C": "its workspace is held by A",
            "D": "waits for E (planned)",
            "E": "waits for D (planned)",
            "F": "waits for X (not in the mission), B (planned)",
        }
    )


NAMES = tuple("ABCDEF")


@st.composite
def situations(draw: st.DrawFn) -> tuple[Snapshot, int]:
    wps = []
    for name in NAMES:
        needs = tuple(draw(st.sets(st.sampled_from((*NAMES, "X")), max_size=2)))
        lane, phase = draw(st.sampled_from(Lane)), draw(st.sampled_from(Phase))
        result = Result.PARKED if phase is Phase.FINISHED else None
        wps.append(WorkPackage(name, needs, lane, phase, result=result))
    limit = draw(st.integers(1, 4))
    shared = {name: draw(st.sampled_from(["lane-1", "lane-2", name])) for name in NAMES}
    active: list[str] = []
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=limit)):
        if shared[name] not in {shared[one] for one in active}:
            active.append(name)
    unresolved = draw(st.sets(st.sampled_from(NAMES), max_size=2)) - set(active)
    resting = draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from([NOW - 1, NOW, NOW + 1])))
    resting = {name: at for name, at in resting.items() if name not in active}
    return snapshot(wps, shared=shared, unresolved=unresolved, active=active, resting=resting), limit


@given(situations())
def test_no_plan_breaks_a_bound(situation: tuple[Snapshot, int]) -> None:
    seen, limit = situation
    match plan(seen, limit):
        case Start(ids=ids):
            running = [*seen.active, *ids]
            keys = [seen.workspaces[one].key for one in running]
            assert len(running) == len(set(running)) <= limit
            assert len(keys) == len(set(keys))
            for one in (seen.wps[name] for name in ids):
                assert one.phase is not Phase.FINISHED
                assert seen.resting.get(one.id, NOW) <= NOW
                if one.phase is Phase.WAITING and one.lane is Lane.PLANNED:
                    assert all(name in seen.wps and seen.wps[name].lane.complete for name in one.dependencies)
        case Idle(until=until):
            assert until is None or until > NOW
            assert seen.active or until is not None or set(seen.wps) - set(seen.workspaces)
        case Stalled(reasons=reasons):
            assert not seen.active
            left = {one.id for one in seen.wps.values() if one.phase is not Phase.FINISHED}
            assert set(reasons) == left
            assert all(reasons.values())
        case Finished():
            assert not seen.active
            assert all(one.phase is Phase.FINISHED for one in seen.wps.values())


@given(situations(), st.sampled_from(NAMES))
def test_nothing_that_can_start_is_ever_left_out_of_an_empty_plan(
    situation: tuple[Snapshot, int], name: str
) -> None:
    seen, limit = situation
    # A new work package that nothing holds back: whatever the others do, a free slot must be used.
    free = replace(
        seen,
        wps={**seen.wps, "G": WorkPackage("G")},
        workspaces={
            **{one: Workspace("/w", "/t", one) for one in NAMES},
            **seen.workspaces,
            "G": Workspace("/g", ""),
        },
    )
    if len(seen.active) < limit:
        assert isinstance(plan(free, limit), Start)


def test_an_agent_without_room_holds_up_only_those_who_need_it() -> None:
    agents = {"A": "codex", "B": "codex", "C": "claude"}
    known = replace(snapshot([wp("A"), wp("B"), wp("C")]), agents=agents, per_agent={"codex": 1})
    assert plan(known, 3) == Start(("A", "C"))
    running = replace(snapshot([wp("A", phase=Phase.IMPLEMENTING), wp("B")], active=["A"]))
    assert plan(replace(running, agents=agents, per_agent={"codex": 1}), 3) == Idle(None)


def test_who_came_first_to_an_agent_is_first_when_it_has_room() -> None:
    begun = [wp(name, lane=Lane.IN_PROGRESS, phase=Phase.IMPLEMENTING) for name in "AB"]
    known = replace(snapshot(begun), agents=dict.fromkeys("AB", "codex"), per_agent={"codex": 1})
    assert plan(replace(known, queue=("B", "A")), 2) == Start(("B",))


def test_an_attempt_that_may_still_run_counts_and_comes_first() -> None:
    attempt = Attempt("a1", 1, Role.IMPLEMENT, "codex", "/logs")
    running = replace(wp("Z", lane=Lane.IN_PROGRESS, phase=Phase.IMPLEMENTING), attempts=(attempt,))
    others = [wp("A", lane=Lane.IN_PROGRESS, phase=Phase.IMPLEMENTING), wp("B")]
    known = replace(snapshot([*others, running]), agents=dict.fromkeys("ABZ", "codex"))
    assert plan(known, 1) == Start(("Z",))
    assert plan(replace(known, per_agent={"codex": 1}), 3) == Start(("Z",))


def test_a_stall_at_an_agent_says_so() -> None:
    attempt = Attempt("a1", 1, Role.IMPLEMENT, "codex", "/logs")
    running = replace(wp("A", lane=Lane.IN_PROGRESS, phase=Phase.IMPLEMENTING), attempts=(attempt,))
    foreign = WorkPackage("Z", (), Lane.IN_PROGRESS, Phase.FINISHED, result=Result.FOREIGN)
    known = snapshot([foreign, running, wp("B")], shared={"A": "lane", "Z": "lane"})
    known = replace(known, agents=dict.fromkeys("AB", "codex"), per_agent={"codex": 1})
    # Somebody moved the lane of another one into our worktree while nobody looked.
    assert plan(known, 2) == Stalled(
        {"A": "its workspace is held by Z", "B": "waits for codex: at most 1 at once"}
    )


AGENTS = ("codex", "claude")

STANDINGS = [
    *[(Lane.PLANNED, Phase.WAITING)] * 4,
    (Lane.IN_PROGRESS, Phase.WAITING),
    (Lane.PLANNED, Phase.CLAIMING),
    *[(Lane.IN_PROGRESS, Phase.IMPLEMENTING)] * 2,
    (Lane.FOR_REVIEW, Phase.REVIEWING),
    *[(Lane.DONE, Phase.FINISHED)] * 3,
    (Lane.BLOCKED, Phase.FINISHED),
    (Lane.IN_PROGRESS, Phase.FINISHED),
]
"""Where a work package may stand, what is usual more often."""


class Life:
    """A board in a world that changes at random, beside a list of all that is known."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.needs = {name: tuple(random.sample(NAMES, random.choice([0, 1, 1, 2]))) for name in NAMES}
        self.shared = {name: random.choice(["lane-1", "lane-2", name, name]) for name in NAMES}
        self.limit = random.randint(1, 4)
        self.per_agent = {name: random.randint(1, 2) for name in random.sample(AGENTS, random.randint(0, 2))}
        self.chains = chains(self.needs)
        self.board = Board(self.chains, self.per_agent)
        self.agents: dict[str, str] = {}
        self.now = NOW

    def at_work(self) -> list[str]:
        return sorted(self.board.active)

    def change(self) -> None:
        for name in self.random.sample(NAMES, 1):
            if name not in self.board.active:
                lane, phase = self.random.choice(STANDINGS)
                ended = self.random.choice([Result.PARKED, Result.FOREIGN])
                result = ended if phase is Phase.FINISHED else None
                self.agents[name] = self.random.choice(["", *AGENTS])
                wp_now = WorkPackage(name, self.needs[name], lane, phase, result=result)
                self.board.put(wp_now, self.agents[name])

    def learn(self) -> None:
        for one in self.board.to_resolve(2, at_leisure=self.random.random() < 0.5):
            self.board.resolve(one, Workspace(f"/w/{one}", f"/t/{one}.md", self.shared[one]))

    def acknowledge(self) -> None:
        for name in self.at_work()[:1]:
            wp_now = replace(self.board.wps[name], lane=self.random.choice(list(Lane)))
            self.board.put(wp_now, self.agents[name])

    def leave_the_agent(self) -> None:
        for name in self.at_work()[-1:]:
            self.agents[name] = ""
            self.board.put(self.board.wps[name])
            self.board.vacate(name)

    def give_back(self) -> None:
        for name in self.random.sample(self.at_work(), min(1, len(self.board.active))):
            lane, phase = self.random.choice(STANDINGS)
            ended = Result.PARKED if phase is Phase.FINISHED else None
            wp_now = replace(self.board.wps[name], lane=lane, phase=phase, result=ended)
            self.board.put(wp_now, self.agents[name])
            self.board.resting.pop(name, None)
            self.board.stop(name, self.random.choice([None, None, self.now + 5, self.now + 50]))

    def go_on(self) -> None:
        self.now += self.random.choice([0, 0, 6, 60])
        before = set(self.board.active)
        could = self.board.could_start(self.limit, self.now)
        found = self.board.plan(self.limit, self.now)
        assert could == isinstance(found, Start)
        if isinstance(found, Start):
            assert self.board.active == before | set(found.ids)
            for agent, most in self.per_agent.items():
                seated = [one for one in found.ids if self.agents[one] == agent]
                at_work = [one for one in before if self.agents[one] == agent]
                assert not seated or len(seated) + len(at_work) <= most

    def compare(self) -> None:
        board = self.board
        known = Snapshot(
            dict(board.wps),
            dict(board.workspaces),
            set(board.active),
            {one: at for one, at in board.resting.items() if one not in board.active},
            self.now,
            self.chains,
            dict(self.agents),
            self.per_agent,
        )
        assert deepcopy(board).plan(self.limit, self.now) == plan(known, self.limit)


@pytest.mark.parametrize("seed", range(30))
def test_a_board_that_is_kept_up_to_date_answers_as_a_new_one_would(seed: int) -> None:
    life = Life(Random(seed))
    for _ in range(12):
        life.change()
    for _ in range(60):
        life.random.choice(
            [life.change, life.learn, life.acknowledge, life.leave_the_agent, life.give_back, life.go_on]
        )()
        life.compare()


def resolved_board(*wps: WorkPackage, shared: Mapping[str, str] | None = None) -> Board:
    board = Board()
    for one in wps:
        board.put(one)
        board.resolve(one.id, Workspace(f"/w/{one.id}", "", (shared or {}).get(one.id, one.id)))
    return board


def test_who_waits_for_an_agent_too_does_not_keep_others_from_a_worktree() -> None:
    board = Board(per_agent={"codex": 1})
    for name, agent in (("A", "claude"), ("B", "codex"), ("C", "claude"), ("Z", "codex")):
        board.put(wp(name), agent)
        board.resolve(name, Workspace(f"/w/{name}", "", "own" if name == "Z" else "shared"))
    assert board.plan(4, NOW) == Start(("A", "Z"))
    board.put(wp("A", lane=Lane.DONE))
    board.stop("A")
    assert board.plan(4, NOW) == Start(("C",))


def test_the_next_one_in_a_worktree_comes_when_the_first_no_longer_can() -> None:
    board = resolved_board(wp("A"), wp("B"), wp("C", "D"), wp("D"), shared=dict.fromkeys("ABC", "shared"))
    assert board.plan(1, NOW) == Start(("A",))
    assert board.plan(2, NOW) == Start(("D",))
    assert board.plan(3, NOW) == Idle(None)
    board.put(wp("A", lane=Lane.DONE))
    board.stop("A")
    board.put(wp("D", lane=Lane.DONE))
    board.put(WorkPackage("B", (), Lane.CANCELED, Phase.FINISHED, result=Result.CANCELED))
    assert board.plan(3, NOW) == Start(("C",))


def test_the_next_one_is_claimed_ahead_only_while_every_slot_is_taken() -> None:
    board = resolved_board(wp("A"), wp("B"), wp("C"))
    assert board.plan(1, NOW) == Start(("A",))
    assert board.claim_ahead(2) == ""
    assert board.claim_ahead(1) == "B"
    assert board.claim_ahead(1) == ""
    assert board.plan(1, NOW) == Idle(None)


def test_who_is_ahead_comes_first_of_the_new_and_after_what_was_begun() -> None:
    board = resolved_board(wp("A"), wp("B"), wp("C"))
    board.plan(1, NOW)
    assert board.claim_ahead(1) == "B"
    board.put(replace(wp("B"), lane=Lane.IN_PROGRESS, phase=Phase.IMPLEMENTING))
    board.stop("B")
    board.put(replace(wp("A"), lane=Lane.IN_PROGRESS, phase=Phase.IMPLEMENTING))
    board.stop("A", NOW + 5)
    assert board.plan(1, NOW + 5) == Start(("A",))
    assert board.plan(2, NOW + 5) == Start(("B",))
    assert board.ahead == ""


def test_a_slot_that_frees_during_the_claim_goes_to_who_is_claimed() -> None:
    board = resolved_board(wp("A"), wp("B"), wp("C"))
    board.plan(1, NOW)
    assert board.claim_ahead(1) == "B"
    board.put(wp("A", lane=Lane.DONE))
    board.stop("A")
    assert board.plan(1, NOW) == Idle(None)
    assert (board.ahead, board.active) == ("", {"B"})


def test_what_was_begun_goes_on_without_anything_new() -> None:
    begun = [wp(name, lane=Lane.IN_PROGRESS, phase=Phase.IMPLEMENTING) for name in "BC"]
    board = resolved_board(wp("A"), *begun)
    assert board.go_on(1, NOW) == ("B",)
    assert board.go_on(4, NOW) == ("C",)
    assert board.go_on(4, NOW) == ()
    assert board.could_start(4, NOW)
    assert board.plan(4, NOW) == Start(("A",))


def test_who_is_claimed_ahead_takes_no_slot_with_what_was_begun() -> None:
    board = resolved_board(wp("A"), wp("B"), wp("C"))
    board.plan(1, NOW)
    assert board.claim_ahead(1) == "B"
    assert board.go_on(2, NOW) == ()
    assert board.ahead == "B"
    board.put(replace(wp("B"), lane=Lane.IN_PROGRESS, phase=Phase.IMPLEMENTING))
    board.stop("B")
    assert board.go_on(2, NOW) == ()
    assert board.plan(2, NOW) == Start(("B",))


def test_nobody_is_claimed_ahead_into_a_worktree_that_is_held() -> None:
    board = resolved_board(wp("A"), wp("B"), wp("C"), shared={"A": "lane", "B": "lane"})
    board.plan(1, NOW)
    assert board.claim_ahead(1) == "C"


def test_nobody_is_claimed_ahead_of_what_was_begun() -> None:
    begun = wp("B", lane=Lane.IN_PROGRESS, phase=Phase.IMPLEMENTING)
    board = resolved_board(wp("A", lane=Lane.IN_PROGRESS, phase=Phase.IMPLEMENTING), begun, wp("C"))
    board.plan(1, NOW)
    assert board.claim_ahead(1) == ""


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("phase", [Phase.FINISHED, Phase.IMPLEMENTING])
def test_others_are_waited_for_only_while_a_slot_is_free_and_only_they_can_help(
    lane: Lane, phase: Phase
) -> None:
    result = Result.PARKED if phase is Phase.FINISHED else None
    board = resolved_board(WorkPackage("A", (), lane, phase, result=result), wp("B", "A"), wp("C"))
    board.plan(2 if phase is Phase.FINISHED or lane.complete else 3, NOW)
    assert board.waits_for_others(4) == (phase is Phase.FINISHED and not lane.complete)
    assert not board.waits_for_others(len(board.active))


def test_who_holds_a_worktree_outside_this_run_is_waited_for_too() -> None:
    foreign = WorkPackage("A", (), Lane.IN_PROGRESS, Phase.FINISHED, result=Result.FOREIGN)
    board = resolved_board(foreign, wp("B"), wp("C"), shared={"A": "lane", "B": "lane"})
    assert board.plan(2, NOW) == Start(("C",))
    assert board.waits_for_others(2)
    board.put(replace(foreign, lane=Lane.DONE))
    assert not board.waits_for_others(2)


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
