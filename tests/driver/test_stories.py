"""Whole missions, from planned to the end, as an operator would tell them."""

from collections.abc import Callable

import anyio
import pytest
from tests.driver.builders import DIAMOND, REAL_LIMIT_S, Stage, longer, scripted

from spec_kitty_orchestrator.core.events import Deferred
from spec_kitty_orchestrator.core.model import Lane, Outcome, Phase, Result, Role
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import Failed, Line
from spec_kitty_orchestrator.core.verdict import FeedbackSource
from spec_kitty_orchestrator.errors import HostError, HostRefusal, WorkspaceError
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play, report, verdict

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]

CLEAN = [Lane.CLAIMED, Lane.IN_PROGRESS, Lane.FOR_REVIEW, Lane.IN_REVIEW, Lane.DONE]


async def test_a_diamond_takes_no_longer_than_its_critical_path(stage: Make) -> None:
    seconds = {"WP01": 10.0, "WP02": 30.0, "WP03": 50.0, "WP04": 20.0}
    mission = stage(
        script=lambda r: Play(seconds=seconds[r.wp_id] if r.role is Role.IMPLEMENT else 5.0),
    )
    began = anyio.current_time()
    result = await mission.run()
    assert result.exit_code == 0
    assert {wp.id: wp.lane for wp in result.work_packages} == dict.fromkeys(DIAMOND, Lane.DONE)
    assert anyio.current_time() - began == pytest.approx((10 + 5) + (50 + 5) + (20 + 5))
    assert mission.agents.most_at_once == 2


async def test_host_calls_of_parallel_work_packages_overlap(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": (), "WP03": ()}, latency_s=3.0)
    began = anyio.current_time()
    assert (await mission.run()).exit_code == 0
    alone = 3.0 + 1.0 + 3.0 + max(1.0, 3.0) + 3.0
    assert anyio.current_time() - began == pytest.approx(3.0 + 3.0 + alone + 3.0)


@pytest.mark.parametrize("anyio_backend", ["trio", "asyncio"], indirect=True)
async def test_a_rejected_work_package_is_reworked_and_approved(
    stage: Make, anyio_backend: tuple[str, object]
) -> None:
    tempo = 1.0 if anyio_backend[0] == "trio" else 0.001

    def review(request: AttemptRequest) -> Play:
        if request.number == 2:
            return Play(seconds=tempo, text=verdict(request, "changes_requested", "mend the loop in a.py"))
        return Play(seconds=tempo)

    mission = stage(
        script=scripted(WP02_review=review, implement=Play(seconds=tempo), review=Play(seconds=tempo)),
        limit_s=REAL_LIMIT_S,
    )
    result = await mission.run()
    assert result.exit_code == 0
    assert mission.lanes_of("WP02") == [
        *CLEAN[:4],
        Lane.IN_PROGRESS,
        Lane.FOR_REVIEW,
        Lane.IN_REVIEW,
        Lane.DONE,
    ]
    assert "mend the loop in a.py" in mission.prompts_of("WP02", Role.IMPLEMENT)[1]
    heads = [one.head for one in mission.agents.requests if (one.wp_id, one.role) == ("WP02", Role.REVIEW)]
    assert len(set(heads)) == 2
    assert mission.lanes_of("WP03") == CLEAN


async def test_the_next_implementer_takes_over_from_one_that_cannot_log_in(stage: Make) -> None:
    mission = stage(
        {"WP01": ()},
        lambda r: Play(outcome=Outcome.AUTH) if r.agent == "ada" else Play(),
        policy=longer(impl_agents=("ada", "eve")),
    )
    assert (await mission.run()).exit_code == 0
    assert [one.agent for one in mission.agents.requests] == ["ada", "eve", "rob"]


async def test_the_next_reviewer_takes_over_from_one_that_crashes(stage: Make) -> None:
    mission = stage(
        {"WP01": ()},
        lambda r: Play(outcome=Outcome.CRASHED) if r.agent == "rob" else Play(),
        policy=longer(review_agents=("rob", "ann")),
    )
    assert (await mission.run()).exit_code == 0
    assert [one.agent for one in mission.agents.requests] == ["ada", "rob", "rob", "rob", "ann"]


async def test_without_a_usable_verdict_of_any_reviewer_a_person_must_review(stage: Make) -> None:
    mission = stage(
        {"WP01": (), "WP02": ("WP01",)},
        scripted(review=Play(text="Looks good to me, approved!")),
        policy=longer(review_agents=("rob", "ann")),
    )
    result = await mission.run()
    assert result.exit_code == 1
    assert [one.agent for one in mission.agents.requests] == ["ada", "rob", "rob", "ann", "ann"]
    assert mission.host.lanes == {"WP01": Lane.IN_REVIEW, "WP02": Lane.PLANNED}
    assert "a person must review" in result.reasons["WP01"]
    assert "WP01" in result.reasons["WP02"]


async def test_subtasks_are_ticked_on_the_word_of_the_report(stage: Make) -> None:
    mission = stage(
        {"WP01": ()},
        scripted(implement=lambda r: Play(text=report(r, subtasks_done=["T001", "T002"]))),
        subtasks={"WP01": ("T001", "T002")},
    )
    assert (await mission.run()).exit_code == 0
    assert mission.host.ticked == {"T001", "T002"}
    assert len(mission.prompts_of("WP01", Role.IMPLEMENT)) == 1


async def test_a_subtask_that_no_report_names_goes_back_to_the_implementer(stage: Make) -> None:
    def implement(request: AttemptRequest) -> Play:
        done = ["T001"] if request.number == 1 else ["T001", "T002"]
        return Play(text=report(request, subtasks_done=done))

    mission = stage({"WP01": ()}, scripted(implement=implement), subtasks={"WP01": ("T001", "T002")})
    assert (await mission.run()).exit_code == 0
    prompts = mission.prompts_of("WP01", Role.IMPLEMENT)
    assert len(prompts) == 2
    assert "requires completed subtasks" in prompts[1]


async def test_subtasks_are_left_to_the_agent_where_the_policy_says_so(stage: Make) -> None:
    mission = stage(
        {"WP01": ()},
        scripted(implement=lambda r: Play(text=report(r, subtasks_done=["T001"]))),
        subtasks={"WP01": ("T001",)},
        policy=longer(tick_subtasks=False, max_attempts=2),
    )
    result = await mission.run()
    assert result.exit_code == 1
    assert mission.host.ticked == set()
    assert mission.calls()["mark-status"] == 0
    assert mission.host.lanes["WP01"] is Lane.BLOCKED
    assert "subtasks" in result.reasons["WP01"]


async def test_an_agent_that_ticks_for_itself_needs_no_call_of_ours(stage: Make) -> None:
    mission: Stage = stage(
        {"WP01": ()},
        scripted(implement=lambda r: Play(then=lambda: mission.host.ticked.add("T001"))),
        subtasks={"WP01": ("T001",)},
        policy=longer(tick_subtasks=False),
    )
    assert (await mission.run()).exit_code == 0


async def test_what_a_commit_hook_says_reaches_the_next_prompt(stage: Make) -> None:
    mission = stage({"WP01": ()})
    mission.workspaces.refusals.append("ruff: E501 line too long (a.py:3)")
    result = await mission.run()
    assert result.exit_code == 0
    assert "E501" in mission.prompts_of("WP01", Role.IMPLEMENT)[1]
    assert mission.lanes_of("WP01") == CLEAN


async def test_an_attempt_that_changes_nothing_without_a_reason_is_sent_back(stage: Make) -> None:
    def implement(request: AttemptRequest) -> Play:
        return Play(edits=()) if request.number == 1 else Play()

    mission = stage({"WP01": ()}, scripted(implement=implement))
    result = await mission.run()
    assert result.exit_code == 0
    assert "changed nothing" in mission.prompts_of("WP01", Role.IMPLEMENT)[1]


async def test_an_attempt_that_says_why_nothing_was_needed_is_reviewed(stage: Make) -> None:
    mission = stage(
        {"WP01": ()},
        scripted(implement=lambda r: Play(edits=(), text=report(r, no_change_reason="it was there"))),
    )
    assert (await mission.run()).exit_code == 0
    assert len(mission.prompts_of("WP01", Role.IMPLEMENT)) == 1


async def test_a_work_package_rejected_too_often_is_blocked_on_the_host(stage: Make) -> None:
    mission = stage(
        {"WP01": (), "WP02": ("WP01",), "WP03": ()},
        scripted(WP01_review=lambda r: Play(text=verdict(r, "changes_requested", "still wrong"))),
        policy=longer(max_review_cycles=2),
    )
    result = await mission.run()
    assert result.exit_code == 1
    assert mission.host.lanes == {"WP01": Lane.BLOCKED, "WP02": Lane.PLANNED, "WP03": Lane.DONE}
    assert mission.lanes_of("WP01").count(Lane.IN_REVIEW) == 2
    assert "WP01 (blocked)" in result.reasons["WP02"]


async def test_failures_in_a_row_block_the_work_package_and_keep_its_edits(stage: Make) -> None:
    mission = stage({"WP01": ()}, scripted(implement=Play(outcome=Outcome.FAILED, edits=("half.py",))))
    result = await mission.run()
    assert result.exit_code == 1
    assert mission.host.lanes["WP01"] is Lane.BLOCKED
    assert mission.workspaces.rescued == ["WP01/before-2", "WP01/parked-2"]
    assert result.work_packages[0].rescued.refs == ("refs/fake/WP01/before-2", "refs/fake/WP01/parked-2")


async def test_the_finish_lane_may_be_approved(stage: Make) -> None:
    mission = stage(policy=longer(finish_lane=Lane.APPROVED))
    result = await mission.run()
    assert result.exit_code == 0
    assert set(mission.host.lanes.values()) == {Lane.APPROVED}


async def test_a_broken_worktree_parks_its_work_package_only(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ()}, max_concurrent=1)
    mission.workspaces.errors.append(WorkspaceError("the disk is full"))
    result = await mission.run()
    assert result.exit_code == 1
    assert "the disk is full" in result.reasons["WP01"]
    assert mission.host.lanes["WP02"] is Lane.DONE


async def test_a_work_package_without_a_workspace_is_left_out(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",)})
    mission.host.fail_next("resolve-workspace", HostRefusal("resolve-workspace", "NO_WORKSPACE", "no lane"))
    result = await mission.run()
    assert result.exit_code == 1
    assert result.reasons["WP01"].endswith("no lane")
    assert mission.agents.requests == []


async def test_a_mission_with_nothing_left_to_do_costs_one_read(stage: Make) -> None:
    mission = stage()
    mission.host.lanes = dict.fromkeys(DIAMOND, Lane.DONE)
    result = await mission.run()
    assert (result.exit_code, mission.host.calls) == (0, ["mission-state"])


async def test_a_mission_without_work_packages_cannot_be_read(stage: Make) -> None:
    with pytest.raises(HostError, match="no longer lists work packages"):
        await stage({}).run()


PLANNED = {"WP01": (), "WP02": ("WP01",), "WP03": ()}
IN_PLANNING = {"WP01": "lane-planning", "WP03": "lane-planning"}


async def test_planning_artifacts_are_delivered_once_approved_and_before_others_build_on_them(
    stage: Make,
) -> None:
    mission = stage(
        PLANNED,
        script=scripted(
            WP01_review=lambda r: Play(
                text=verdict(r, "changes_requested", "mend it") if r.number == 2 else None
            ),
        ),
        lane_ids=IN_PLANNING,
        subtasks={"WP01": ("T001",)},
    )
    result = await mission.run()
    assert result.exit_code == 0
    mission.assert_sound()
    went = [Lane.IN_PROGRESS, Lane.FOR_REVIEW, Lane.IN_REVIEW]
    assert mission.lanes_of("WP01") == [*went, *went, Lane.DONE]
    assert mission.lanes_of("WP02") == CLEAN
    approved = {one.transition.wp: one.head for one in mission.host.witnessed if one.transition.review}
    assert dict(mission.workspaces.delivered) == {wp: approved[wp] for wp in ("WP01", "WP03")}
    code = result.work_packages[1].workspace
    assert code is not None
    assert (code.key, "refs/heads/main") in mission.workspaces.brought
    assert mission.calls()["start-implementation"] == 1


async def test_a_planning_artifact_that_its_target_cannot_take_stays_in_review_until_it_can(
    stage: Make,
) -> None:
    mission = stage(PLANNED, lane_ids=IN_PLANNING)
    mission.workspaces.undeliverable = [WorkspaceError("docs/a.md would be overwritten")]
    result = await mission.run()
    assert result.exit_code == 1
    assert "docs/a.md would be overwritten" in result.reasons["WP01"]
    assert mission.host.lanes == {"WP01": Lane.IN_REVIEW, "WP02": Lane.PLANNED, "WP03": Lane.PLANNED}
    runs = len(mission.agents.requests)
    assert (await mission.run()).exit_code == 0
    assert {one.wp_id for one in mission.agents.requests[runs:]} == {"WP02", "WP03"}


async def test_a_planning_artifact_waits_for_a_person_while_another_branch_is_checked_out(
    stage: Make,
) -> None:
    mission = stage(PLANNED, lane_ids=IN_PLANNING)
    mission.workspaces.branch = "other"
    result = await mission.run()
    assert "other is checked out" in result.reasons["WP01"]
    assert (mission.agents.requests, mission.host.events) == ([], [])
    mission.workspaces.branch = "main"
    assert (await mission.run()).exit_code == 0


async def test_a_planning_artifact_that_somebody_takes_meanwhile_is_left_to_him(
    stage: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    mission = stage({"WP01": ()}, lane_ids=IN_PLANNING)
    read = mission.workspaces.primary_branch

    async def taken() -> str:
        if "resolve-workspace" in mission.host.calls:
            mission.host.lanes["WP01"] = Lane.IN_PROGRESS
        return await read()

    monkeypatch.setattr(mission.workspaces, "primary_branch", taken)
    result = await mission.run()
    assert result.work_packages[0].result is Result.FOREIGN
    assert mission.host.events == []
    assert mission.agents.requests == []


@pytest.mark.parametrize("lane", [Lane.BLOCKED, Lane.CANCELED, Lane.APPROVED, Lane.DONE])
async def test_a_planning_artifact_that_somebody_moves_during_the_work_stays_where_he_put_it(
    stage: Make, lane: Lane
) -> None:
    def script(_: AttemptRequest) -> Play:
        mission.host.lanes["WP01"] = lane
        return Play(seconds=10)

    mission = stage({"WP01": ()}, script, lane_ids=IN_PLANNING)
    result = await mission.run()
    assert result.exit_code == 1
    assert mission.lanes_of("WP01") == [Lane.IN_PROGRESS]
    assert mission.host.lanes["WP01"] is lane
    assert mission.workspaces.delivered == []


async def test_a_planning_artifact_that_is_up_for_review_already_is_not_submitted_again(stage: Make) -> None:
    def script(request: AttemptRequest) -> Play:
        if request.role is Role.IMPLEMENT:
            mission.host.lanes["WP01"] = Lane.FOR_REVIEW
        return Play(seconds=10)

    mission = stage({"WP01": ()}, script, lane_ids=IN_PLANNING)
    assert (await mission.run()).exit_code == 0
    assert mission.lanes_of("WP01") == [Lane.IN_PROGRESS, Lane.IN_REVIEW, Lane.DONE]


async def test_a_legacy_mission_has_a_worktree_for_each_work_package(stage: Make) -> None:
    mission = stage(legacy=True)
    assert (await mission.run()).exit_code == 0
    assert len(mission.workspaces.trees) == len(DIAMOND)


async def test_the_observer_sees_each_line_of_the_journal_after_it_is_there(stage: Make) -> None:
    mission = stage({"WP01": ()})
    late: list[str] = []

    class Strict(type(mission.watcher)):  # type: ignore[misc]
        def saw(self, state: RunState, line: Line) -> None:
            super().saw(state, line)
            if mission.journal.lines[-1] is not line:
                late.append(repr(line))

    strict = Strict()
    result = await mission.run(observer=strict)
    assert (result.exit_code, late) == (0, [])
    assert result.work_packages[0].phase is Phase.FINISHED
    assert [(one.seq, one) for one in strict.lines] == [(one.seq, one) for one in mission.journal.lines]


async def test_the_whole_of_each_refusal_is_kept_as_feedback(stage: Make) -> None:
    mission = stage({"WP01": ()})
    mission.workspaces.refusals += ["first hook", "second hook"]
    await mission.run()
    third = mission.prompts_of("WP01", Role.IMPLEMENT)[2]
    assert "first hook" in third
    assert "second hook" in third
    assert FeedbackSource.COMMIT in third


async def test_the_observer_is_told_of_what_broke_the_run_as_the_journal_is(stage: Make) -> None:
    def breaks(_: AttemptRequest) -> Play:
        raise RuntimeError("no git here")

    mission = stage({"WP01": ()}, breaks)
    with pytest.raises(RuntimeError):
        await mission.orchestrator().run()
    assert mission.watcher.lines == mission.journal.lines
    assert mission.watcher.events[-2:] == [
        ("WP01", Deferred("the run ends: no git here")),
        ("", Failed("no git here")),
    ]
