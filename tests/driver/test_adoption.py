"""What a start finds on the host is taken up where it stands; what others did or hold is left alone."""

from collections.abc import Callable

import pytest
from tests.driver.builders import Stage, scripted

from spec_kitty_orchestrator.core.model import Lane, Role
from spec_kitty_orchestrator.errors import HostTimeout, WorkspaceMissing
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play, verdict

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]


async def test_work_that_waits_for_review_is_reviewed_without_another_implementation(stage: Make) -> None:
    mission = stage({"WP01": ()})
    mission.host.lanes["WP01"] = Lane.FOR_REVIEW
    tree = mission.workspaces.tree(await mission.host.where("WP01"))
    tree.dirty.add("a.py")
    head = mission.workspaces.commit_by_hand(await mission.host.where("WP01"))
    result = await mission.run()
    assert result.exit_code == 0
    assert [(one.role, one.head) for one in mission.agents.requests] == [(Role.REVIEW, head)]
    assert result.work_packages[0].work.base == tree.commits[0]


async def test_no_lane_is_moved_for_a_review_whose_branch_is_gone(
    stage: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object) -> None:
        raise WorkspaceMissing("the worktree and its branch are both missing")

    mission = stage({"WP01": ()})
    mission.host.lanes["WP01"] = Lane.FOR_REVIEW
    monkeypatch.setattr(mission.workspaces, "ensure", gone)
    result = await mission.run()
    assert (result.exit_code, mission.host.lanes["WP01"]) == (1, Lane.FOR_REVIEW)
    assert result.reasons["WP01"] == "the worktree and its branch are both missing"
    assert mission.host.events == []


async def test_adopted_work_that_is_rejected_is_reworked(stage: Make) -> None:
    def review(request: AttemptRequest) -> Play:
        rejects = request.number == 1
        return Play(text=verdict(request, "changes_requested", "again")) if rejects else Play()

    mission = stage({"WP01": ()}, scripted(review=review))
    mission.host.lanes["WP01"] = Lane.FOR_REVIEW
    mission.workspaces.commit_by_hand(await mission.host.where("WP01"))
    assert (await mission.run()).exit_code == 0
    assert [one.role for one in mission.agents.requests] == [Role.REVIEW, Role.IMPLEMENT, Role.REVIEW]


@pytest.mark.parametrize("lane", [Lane.CLAIMED, Lane.IN_PROGRESS])
async def test_work_in_progress_goes_on_from_where_its_branch_began(stage: Make, lane: Lane) -> None:
    mission = stage({"WP01": ()})
    mission.host.lanes["WP01"] = lane
    tree = mission.workspaces.tree(await mission.host.where("WP01"))
    mission.workspaces.commit_by_hand(await mission.host.where("WP01"))
    result = await mission.run()
    assert result.exit_code == 0
    assert result.work_packages[0].work.base == tree.commits[0]


@pytest.mark.parametrize("lane", [Lane.APPROVED, Lane.DONE])
async def test_complete_work_is_left_alone_and_its_dependents_start(stage: Make, lane: Lane) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",)})
    mission.host.lanes["WP01"] = lane
    assert (await mission.run()).exit_code == 0
    assert {one.wp_id for one in mission.agents.requests} == {"WP02"}
    assert mission.lanes_of("WP01") == []


@pytest.mark.parametrize("lane", [Lane.BLOCKED, Lane.CANCELED])
async def test_what_a_person_stopped_is_left_alone_and_reported(stage: Make, lane: Lane) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",), "WP03": ()})
    mission.host.lanes["WP01"] = lane
    result = await mission.run()
    assert result.exit_code == 1
    assert lane in result.reasons["WP01"]
    assert result.reasons["WP02"] == f"waits for WP01 ({lane})"
    assert {one.wp_id for one in mission.agents.requests} == {"WP03"}


async def test_a_review_of_somebody_elses_is_never_taken_over(stage: Make) -> None:
    mission = stage({"WP01": ()})
    mission.host.lanes["WP01"] = Lane.IN_REVIEW
    result = await mission.run()
    assert result.exit_code == 6
    assert "somebody else" in result.reasons["WP01"]
    assert (mission.host.events, mission.agents.requests) == ([], [])


async def test_an_agent_that_moves_its_own_lane_is_met_there(stage: Make) -> None:
    def submits_itself() -> None:
        mission.host.lanes["WP01"] = Lane.FOR_REVIEW

    mission: Stage = stage({"WP01": ()}, scripted(implement=Play(then=submits_itself)))
    assert (await mission.run()).exit_code == 0
    assert mission.lanes_of("WP01")[-2:] == [Lane.IN_REVIEW, Lane.DONE]
    assert len(mission.agents.requests) == 2


async def test_what_a_person_cancels_during_the_work_is_not_brought_back(stage: Make) -> None:
    def is_canceled() -> None:
        mission.host.lanes["WP01"] = Lane.CANCELED

    mission: Stage = stage({"WP01": (), "WP02": ()}, scripted(WP01_implement=Play(then=is_canceled)))
    result = await mission.run()
    assert result.exit_code == 1
    assert mission.host.lanes == {"WP01": Lane.CANCELED, "WP02": Lane.DONE}


async def test_an_approval_by_somebody_else_during_the_review_is_not_ours_and_is_not_doubled(
    stage: Make,
) -> None:
    def is_approved() -> None:
        mission.host.lanes["WP01"] = Lane.APPROVED

    mission: Stage = stage(
        {"WP01": ()},
        scripted(review=lambda r: Play(text=verdict(r, "changes_requested", "no"), then=is_approved)),
    )
    result = await mission.run()
    assert result.exit_code == 1
    assert "no review of ours approved it" in result.reasons["WP01"]
    assert mission.host.lanes["WP01"] is Lane.APPROVED
    assert len(mission.agents.requests) == 2


async def test_dependents_start_when_a_person_unblocks_what_they_wait_for(stage: Make) -> None:
    def approves() -> None:
        mission.host.lanes["WP01"] = Lane.DONE

    mission: Stage = stage(
        {"WP01": (), "WP02": ("WP01",), "WP03": ()}, scripted(WP03_implement=Play(then=approves))
    )
    mission.host.lanes["WP01"] = Lane.BLOCKED
    result = await mission.run()
    assert result.exit_code == 0
    assert set(mission.host.lanes.values()) == {Lane.DONE}


async def test_a_work_package_that_appears_during_the_run_is_driven_too(stage: Make) -> None:
    def adds() -> None:
        mission.host.dependencies["WP02"] = ()
        mission.host.subtasks["WP02"] = ()
        mission.host.lane_ids["WP02"] = "lane-2"
        mission.host.lanes["WP02"] = Lane.PLANNED

    mission: Stage = stage({"WP01": ()}, scripted(WP01_implement=Play(then=adds)))
    result = await mission.run()
    assert result.exit_code == 0
    assert mission.host.lanes == {"WP01": Lane.DONE, "WP02": Lane.DONE}


async def test_what_is_moved_back_after_it_was_done_is_not_reported_as_done(stage: Make) -> None:
    def moved_back() -> None:
        mission.host.lanes["WP01"] = Lane.IN_PROGRESS

    mission: Stage = stage({"WP01": (), "WP02": ("WP01",)}, scripted(WP02_review=Play(then=moved_back)))
    result = await mission.run()
    assert result.exit_code == 6
    assert result.state.lanes["WP01"] is Lane.IN_PROGRESS
    assert result.reasons["WP01"] == "somebody else moved it to in_progress after it was done"


async def test_what_the_last_refusal_brought_to_light_is_taken_into_account(stage: Make) -> None:
    def meanwhile() -> None:
        mission.host.lanes["WP01"] = Lane.CANCELED
        mission.host.dependencies["WP03"] = ()
        mission.host.subtasks["WP03"] = ()
        mission.host.lane_ids["WP03"] = "lane-3"
        mission.host.lanes["WP03"] = Lane.PLANNED
        mission.host.fail_next("transition", HostTimeout("transition", "120 s"), after_effect=True)

    mission: Stage = stage({"WP01": (), "WP02": ("WP01",)}, scripted(WP02_review=Play(then=meanwhile)))
    result = await mission.run()
    assert result.exit_code == 6
    assert result.state.lanes == {"WP01": Lane.CANCELED, "WP02": Lane.DONE, "WP03": Lane.DONE}
