"""What one event makes of a run, where the work package's own table does not say it all."""

from dataclasses import replace
from datetime import timedelta

from spec_kitty_orchestrator.core.events import AttemptOpened, Deferred, GateBegun, ReviewClaimed
from spec_kitty_orchestrator.core.limits import admission
from spec_kitty_orchestrator.core.model import Attempt, Lane, MissionState, Outcome, Phase, Result, Role
from spec_kitty_orchestrator.core.run import LONGEST_BACK_OFF_S, RunState, begin, happened
from spec_kitty_orchestrator.core.run_events import HandedOver, Imported, ResourcesShort, Signaled
from spec_kitty_orchestrator.core.scheduler import Finished, Start, plan
from spec_kitty_orchestrator.core.work_package import Grant, Turn, Work, WorkPackage

from .builders import BASE, GATED, HEAD, NOON, OTHER, POLICY, SPACE, after, start_at

ATTEMPT = Attempt("i1", 1, Role.IMPLEMENT, "alice", "/logs/i1")


def state_of(*wps: WorkPackage, **parts: object) -> RunState:
    known = {"began_at": NOON, "now": NOON, "idle_since": NOON} | parts
    return RunState(POLICY, {one.id: one for one in wps}, **known)  # type: ignore[arg-type]


def at_work(phase: Phase, name: str = "WP01", **parts: object) -> WorkPackage:
    turn = Turn(Grant.SLOT, "alice")
    wp = WorkPackage(name, (), Lane.IN_PROGRESS, phase, SPACE, Work(base=BASE, head=HEAD), turn=turn)
    return replace(wp, **parts)  # type: ignore[arg-type]


def test_what_others_completed_while_we_worked_on_it_is_no_success_at_the_next_start_either() -> None:
    wp = at_work(Phase.FINISHED, lane=Lane.DONE, result=Result.UNREVIEWED, turn=Turn(), note="not ours")
    mission = MissionState("demo", {"WP01": Lane.DONE}, {"WP01": ()})
    again = begin(state_of(wp), start_at(mission, after(60))).wps["WP01"]
    assert (again.result, again.note) == (Result.UNREVIEWED, "not ours")


def test_a_back_off_of_an_earlier_start_is_bounded_though_the_clock_was_set() -> None:
    wp = at_work(Phase.IMPLEMENTING, turn=Turn(waits="overloaded", until=NOON + timedelta(days=400)))
    mission = MissionState("demo", {"WP01": Lane.IN_PROGRESS}, {"WP01": ()})
    turn = begin(state_of(wp), start_at(mission, NOON)).wps["WP01"].turn
    assert turn.until == after(LONGEST_BACK_OFF_S)


def test_an_attempt_that_was_put_off_by_a_drain_before_it_began_is_not_begun_in_it() -> None:
    state, command = happened(state_of(at_work(Phase.IMPLEMENTING)), NOON, "", Signaled(2, drain=True))
    state, command = happened(state, NOON, "WP01", AttemptOpened(ATTEMPT))
    put_off = admission(state, "WP01", command, AttemptOpened(ATTEMPT), NOON)
    assert isinstance(put_off, Deferred)
    state, _ = happened(state, NOON, "WP01", put_off)
    assert isinstance(plan(state, NOON), Finished)


def test_an_attempt_of_an_earlier_start_is_taken_up_though_the_run_drains() -> None:
    wp = at_work(Phase.IMPLEMENTING, attempts=(ATTEMPT,), turn=Turn())
    state, _ = happened(state_of(wp), NOON, "", Signaled(2, drain=True))
    found = plan(state, NOON)
    assert isinstance(found, Start)
    assert (found.wp_id, found.grant) == ("WP01", Grant.SLOT)


def test_gates_that_run_when_a_drain_begins_keep_their_slot() -> None:
    state = replace(state_of(at_work(Phase.GATING)), policy=GATED)
    state, _ = happened(state, NOON, "", Signaled(2, drain=True))
    event = GateBegun("tests", HEAD)
    state, command = happened(state, NOON, "WP01", event)
    assert admission(state, "WP01", command, event, NOON) is None
    assert state.wps["WP01"].at_work


def test_who_reviews_another_commit_is_decided_anew() -> None:
    turn = Turn(Grant.SLOT, "bob", assigned=True, max_cost_usd=1.0)
    wp = at_work(Phase.REVIEWING, lane=Lane.IN_REVIEW, turn=turn)
    state, _ = happened(state_of(wp), NOON, "WP01", ReviewClaimed(BASE, OTHER))
    assert not state.wps["WP01"].turn.assigned


def test_a_shortage_that_is_told_in_other_words_is_the_same_one() -> None:
    state, _ = happened(state_of(), NOON, "", ResourcesShort("812 MB are free"))
    state, _ = happened(state, after(5), "", ResourcesShort("790 MB are free"))
    assert state.short_since == NOON


def test_a_wait_for_a_quota_is_over_when_the_quota_is_back() -> None:
    turn = Turn(waits="waits for alice", until=after(18_000), quota=True)
    wp = at_work(Phase.IMPLEMENTING, attempts=(ATTEMPT,), outcomes=(Outcome.RATE_LIMITED,), turn=turn)
    assert isinstance(plan(state_of(wp), NOON), Start)


def test_who_began_in_a_shared_workspace_keeps_it_from_one_that_was_moved_by_hand() -> None:
    moved = WorkPackage("WP01", (), Lane.CLAIMED, workspace=SPACE)
    ours = at_work(Phase.IMPLEMENTING, "WP02", turn=Turn())
    found = plan(state_of(moved, ours), NOON)
    assert isinstance(found, Start)
    assert found.wp_id == "WP02"


def test_a_run_that_goes_on_in_another_clone_knows_no_session_there_and_all_the_rest() -> None:
    wp = WorkPackage("WP01", work=Work(base=BASE, head=HEAD, sessions={"claude-code": "a-session"}))
    before = RunState(POLICY, {"WP01": wp})
    gone, _ = happened(before, NOON, "", HandedOver("1a2b", "run.pack"))
    assert (gone.handed_over, gone.wps) == (HandedOver("1a2b", "run.pack"), before.wps)
    here, _ = happened(gone, NOON, "", Imported("1a2b", "ci-7"))
    assert here.handed_over is None
    assert here.wps == {"WP01": replace(wp, work=replace(wp.work, sessions={}))}
