"""Where work packages stand, in every state in which a run can leave them: true, and with a reason."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from tests.journals import NOON, POLICY, Comes, Player, large, rejected

from spec_kitty_orchestrator.core import events, operator_events, run_events
from spec_kitty_orchestrator.core.advice import go_on, needs, next_commands
from spec_kitty_orchestrator.core.lifecycle import step
from spec_kitty_orchestrator.core.model import Lane, Phase
from spec_kitty_orchestrator.core.recorder import Recorder, record
from spec_kitty_orchestrator.core.report import Report
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.situation import Status, situations
from spec_kitty_orchestrator.core.work_package import WorkPackage

ALONE = {"WP01": ()}
CHAIN = {"WP01": (), "WP02": ("WP01",), "WP03": ("WP02",)}
ONE_SLOT = replace(POLICY, max_concurrent=1, gates=())
TWO_REVIEWS = replace(ONE_SLOT, max_review_cycles=2)
TWICE_REJECTED = (Comes(), rejected(1), Comes(), rejected(2))


def of(player: Player, *, active: bool = False) -> Report:
    return record(player.lines, player.policy).report(player.now, active=active)


def told(report: Report) -> dict[str, tuple[str, str]]:
    return {one.id: (str(one.situation.status), one.situation.why) for one in report.wps}


def until(player: Player, phase: Phase, wp_id: str = "WP01") -> Player:
    """Play until a work package is in a phase, and at work."""
    if not player.lines:
        player.begin()
    while player.state.wps[wp_id].phase is not phase:
        assert not player.play(1)
    return player


def parked(dependencies: Mapping[str, tuple[str, ...]]) -> Player:
    """Play a run to its end in which the first work package is rejected until a person must look."""
    player = Player(dependencies, {"WP01": TWICE_REJECTED}, policy=TWO_REVIEWS)
    player.begin()
    player.play()
    player.end()
    return player


def instead(player: Player, event: events.Event, wp_id: str = "WP01") -> None:
    """Let something else happen than what was to come."""
    player._coming[:] = [one for one in player._coming if one[2] != wp_id]
    player.happen(wp_id, event)


def seen(player: Player, lane: Lane, wp_id: str = "WP01") -> None:
    player.happen(wp_id, events.LaneSeen(lane, player.dependencies[wp_id]))


def test_what_was_parked_holds_up_all_that_come_after_it() -> None:
    report = of(parked(CHAIN))
    assert told(report) == {
        "WP01": ("needs you", "rejected 2 times, last by codex"),
        "WP02": ("held up", "after WP01"),
        "WP03": ("held up", "after WP02"),
    }
    assert report.headline == ("0 of 3 work packages are done; WP01 needs you; WP02 and WP03 wait for it")


def test_who_put_it_back_to_work_is_needed_no_more() -> None:
    player = parked(CHAIN)
    player.happen("WP01", operator_events.Retried("try it with a lock"))
    report = of(player)
    assert told(report)["WP01"] == ("waiting", "put back to work by a person; the next start takes it up")
    assert told(report)["WP02"] == ("waiting", "after WP01")
    assert report.headline == "0 of 3 work packages are done; WP01, WP02 and WP03 are left to do"


def test_what_a_person_left_out_is_named_by_those_that_wait_for_it() -> None:
    player = parked({**CHAIN, "WP04": ()})
    player.happen("WP02", operator_events.Skipped(Lane.PLANNED, "not now"))
    report = of(player)
    assert told(report)["WP02"] == ("left out", "not now")
    assert told(report)["WP03"][0] == "held up"
    assert "WP03 waits for WP02" in report.headline


@pytest.mark.parametrize("lane", [Lane.PLANNED, Lane.IN_PROGRESS, Lane.FOR_REVIEW])
def test_what_was_parked_and_somebody_moved_on_needs_nobody(lane: Lane) -> None:
    player = parked(ALONE)
    seen(player, lane)
    why = f"somebody else moved it to {lane} after it was parked; the next start takes it up"
    assert told(of(player, active=True))["WP01"] == ("waiting", why)


def test_what_was_approved_and_is_undone_does_not_say_that_it_was_approved() -> None:
    player = Player(ALONE, policy=ONE_SLOT)
    player.begin()
    player.play()
    seen(player, Lane.PLANNED)
    why = "somebody else moved it to planned after it was done; the next start takes it up"
    assert told(of(player, active=True))["WP01"] == ("waiting", why)


def test_what_was_parked_and_is_canceled_is_left_out_because_of_that() -> None:
    player = parked(ALONE)
    seen(player, Lane.CANCELED)
    assert told(of(player))["WP01"] == ("left out", "canceled on the host")


def test_what_somebody_else_completed_is_not_told_as_reviewed() -> None:
    player = until(Player(ALONE, policy=ONE_SLOT), Phase.SUBMITTING)
    player.happen("WP01", events.HostRefused("transition", "TRANSITION_REJECTED", "it is done", Lane.DONE))
    report = of(player)
    assert told(report)["WP01"][0] == "needs you"
    assert "no review of ours approved it" in told(report)["WP01"][1]
    assert report.headline == "0 of 1 work package is done; WP01 needs you"
    (need,) = needs(report)
    assert [command.split()[:4] for _, command in need.steps] == [
        ["spec-kitty", "agent", "tasks", "move-task"]
    ]
    assert next_commands(report) == {"WP01": need.steps[0][1]}
    assert go_on(report)[-1][1].split()[1] == "resume"


def test_who_was_rejected_is_put_back_alone_however_like_the_words_are() -> None:
    both: dict[str, tuple[str, ...]] = {"WP01": (), "WP02": ()}
    player = Player(both, dict.fromkeys(both, TWICE_REJECTED), policy=TWO_REVIEWS)
    player.begin()
    player.play()
    found = next_commands(of(player))
    assert [found[one].split()[1:3] for one in both] == [["retry", "WP01"], ["retry", "WP02"]]


def test_what_was_done_before_is_done_and_says_that_nobody_here_reviewed_it() -> None:
    player = Player(ALONE, policy=ONE_SLOT)
    player.begin()
    seen(player, Lane.DONE)
    assert told(of(player))["WP01"] == ("done", "done without a review by this run")


def test_what_another_actor_holds_waits_for_that_one() -> None:
    player = until(Player(CHAIN, policy=ONE_SLOT), Phase.CLAIMING)
    refused = events.HostRefused("start", "WP_ALREADY_CLAIMED", "no", Lane.CLAIMED, claimed_by="bob")
    player.happen("WP01", refused)
    report = of(player)
    assert told(report)["WP01"] == ("waiting", "claimed by bob")
    assert report.headline == "0 of 3 work packages are done; WP01, WP02 and WP03 are left to do"


def test_what_somebody_blocked_on_the_host_does_not_tell_an_old_reason() -> None:
    noted = WorkPackage("WP01", note="claude-code ended rate_limited: come back at noon")
    wp, _ = step(noted, events.LaneSeen(Lane.BLOCKED, ()), POLICY)
    situation = situations(RunState(POLICY, {"WP01": wp}), NOON, active=True)["WP01"]
    assert (situation.status, situation.why) == (Status.NEEDS_YOU, "blocked on the host")


def test_what_ran_when_the_power_failed_says_what_it_did() -> None:
    player = until(Player(CHAIN, policy=ONE_SLOT), Phase.REVIEWING)
    while (attempt := player.state.wps["WP01"].open_attempt) is None or attempt.number == 1:
        player.play(1)
    report = of(player)
    assert told(report)["WP01"] == ("cut off", "was reviewing by codex (attempt 2) when the run stopped")
    assert told(report)["WP02"] == ("waiting", "after WP01")
    assert report.headline == (
        "0 of 3 work packages are done; WP01 was cut off; WP02 and WP03 are left to do"
    )


def test_who_waited_for_a_slot_when_the_power_failed_waits_for_none() -> None:
    player = until(Player({"WP01": (), "WP02": ()}, policy=ONE_SLOT), Phase.REVIEWING)
    assert told(of(player, active=True))["WP02"] == ("waiting", "waits for a slot, next")
    assert told(of(player))["WP02"] == ("waiting", "was not begun when the run stopped")


def test_nobody_is_told_a_place_in_a_queue_that_only_the_driving_program_knows() -> None:
    player = until(Player({"WP01": (), "WP02": ()}, policy=ONE_SLOT), Phase.REVIEWING)
    started = player.lines[0]
    assert isinstance(started, run_events.RunStarted)
    player.lines[0] = replace(started, own_order=True)
    assert told(of(player, active=True))["WP02"] == ("waiting", "waits for a slot")


def test_nobody_waits_for_a_slot_while_a_run_ends() -> None:
    player = until(Player({"WP01": (), "WP02": ()}, policy=ONE_SLOT), Phase.REVIEWING)
    player.happen("", run_events.Ending(7, "the budget is used up: $1.00 of $1.00"))
    for active in (True, False):
        assert told(of(player, active=active))["WP02"][1] == "the budget is used up: $1.00 of $1.00"


def test_an_attempt_that_is_to_be_taken_up_again_is_told_of() -> None:
    two = replace(POLICY, max_concurrent=2, gates=())
    player = until(Player({"WP01": (), "WP02": ()}, policy=two), Phase.IMPLEMENTING, "WP02")
    while player.state.wps["WP01"].open_attempt is None or player.state.wps["WP02"].open_attempt is None:
        player.play(1)
    player.policy = ONE_SLOT
    player.begin()
    player.play(2)
    why = "waits for a slot, next, to go on with attempt 1 by claude-code"
    assert ("waiting", why) in told(of(player, active=True)).values()


def test_a_reviewer_does_not_wait_for_dependencies() -> None:
    """What was claimed goes on, even where what it needed was put back."""
    player = until(Player({"WP01": (), "WP02": ("WP01",)}, policy=ONE_SLOT), Phase.REVIEWING, "WP02")
    player.happen("WP02", events.Deferred("waits for codex: at most 1 at once", agent="codex"))
    seen(player, Lane.BLOCKED, "WP01")
    assert told(of(player, active=True))["WP02"] == ("waiting", "waits for a slot, next")


def test_whose_worktree_is_held_by_what_needs_a_person_is_held_up() -> None:
    player = until(Player({"WP01": (), "WP02": ()}, policy=ONE_SLOT), Phase.CLAIMING)
    space = player.state.wps["WP01"].workspace
    assert space is not None
    instead(player, events.WorkspaceResolved(space), "WP02")
    until(player, Phase.SUBMITTING)
    assert told(of(player, active=True))["WP02"] == ("waiting", "its workspace is held by WP01")
    instead(player, events.HostRefused("transition", "ODD", "no", Lane.IN_PROGRESS))
    player.play()
    for active in (True, False):
        report = of(player, active=active)
        assert told(report)["WP01"][0] == "needs you"
        assert told(report)["WP02"] == ("held up", "its workspace is held by WP01")
        assert report.wps[0].situation.holds_up == ("WP02",)


def test_branches_that_conflict_need_a_person_before_all_is_merged() -> None:
    player = Player({"WP01": (), "WP02": ()}, policy=ONE_SLOT)
    player.begin()
    player.play()
    player.happen("", run_events.ConflictForecast("WP01", "WP02", ("a", "b"), ("app.py",)))
    player.end()
    report = of(player)
    assert report.headline == "2 of 2 work packages are done; 1 pair of branches cannot be merged"
    (need,) = needs(report)
    assert need.reason.startswith("WP01 and WP02 will conflict in app.py")
    assert any("git" in command and "merge" in command for _, command in need.steps)
    assert "Once that is mended" in go_on(report)[0][0]


def test_who_is_left_out_is_not_told_to_need_a_person() -> None:
    player = parked(ALONE)
    player.happen("WP01", operator_events.Skipped(Lane.BLOCKED, "not now"))
    player.happen("WP01", events.Parked(Lane.BLOCKED, reason="not now"))
    assert of(player).lines[-1].text == "is left out: not now"


def test_what_is_not_in_the_mission_is_named_by_those_that_wait_for_it() -> None:
    player = Player({"WP01": (), "WP02": ("WP09",)}, policy=ONE_SLOT)
    player.begin()
    player.play()
    player.end()
    report = of(player)
    assert told(report)["WP02"] == ("held up", "after WP09 (not in the mission)")
    assert report.headline == "1 of 2 work packages are done; WP02 waits for WP09"


def test_an_attempt_whose_agent_never_began_was_not_at_work() -> None:
    player = Player(ALONE, policy=ONE_SLOT)
    player.begin()
    while player.state.wps["WP01"].open_attempt is None:
        player.play(1)
    player.happen("", run_events.Signaled(15))
    instead(player, events.Deferred("the run was interrupted"))
    why = "was to go on with implementing by claude-code (attempt 1): the run was interrupted"
    assert told(of(player))["WP01"] == ("cut off", why)


def test_every_wait_of_a_long_mission_has_a_reason_at_every_moment() -> None:
    lines = large(6)
    recorder = Recorder(POLICY)
    for line in lines:
        recorder.take(line)
        for active in (True, False):
            for one in recorder.report(line.at, active=active).wps:
                quiet = one.situation.status in (Status.RUNNING, Status.DONE)
                assert quiet or one.situation.why, (line, one.id, active)


@pytest.mark.parametrize(("active", "expected"), [(True, "runs"), (False, "■ cut off")])
def test_an_attempt_that_was_cut_off_is_not_told_to_run(active: bool, expected: str) -> None:
    player = Player(ALONE, policy=ONE_SLOT)
    player.begin()
    while player.state.wps["WP01"].open_attempt is None:
        player.play(1)
    (attempt,) = of(player, active=active).attempts
    assert attempt.came_to(active=active) == expected
