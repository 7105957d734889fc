"""Several reviewers in whole missions."""

from collections.abc import Callable

import pytest
from tests.driver.builders import Stage, longer, scripted

from spec_kitty_orchestrator.core.model import Lane, Outcome, Role, Workspace
from spec_kitty_orchestrator.core.prompts import Prompts
from spec_kitty_orchestrator.driver.attempts import DIFF_LIMIT, DIFF_LIMIT_WITHOUT_SHELL
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play, verdict

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]

BOTH = longer(review_agents=("rob", "ann"), review_quorum=2)


async def test_every_reviewer_of_a_quorum_sees_the_same_commit(stage: Make) -> None:
    mission = stage({"WP01": ()}, policy=BOTH)
    assert (await mission.run()).exit_code == 0
    asked = [one for one in mission.agents.requests if one.role is Role.REVIEW]
    assert [one.agent for one in asked] == ["rob", "ann"]
    assert len({one.head for one in asked}) == 1
    recorded = mission.host.events[-1]
    assert recorded.review is not None
    assert (recorded.to_lane, recorded.review.reviewer) == (Lane.DONE, "rob, ann")
    assert mission.calls()["start-review"] == 1


async def test_a_reviewer_without_a_shell_gets_more_of_the_changes(
    stage: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = longer(review_agents=("rob", "ann"), without_shell=("ann",), review_quorum=2)
    mission = stage({"WP01": ()}, policy=policy)
    asked: list[int] = []

    async def diff(workspace: Workspace, base: str, head: str, limit: int) -> tuple[str, str]:
        asked.append(limit)
        return "1 file changed", ""

    monkeypatch.setattr(mission.workspaces, "diff", diff)
    assert (await mission.run(prompts=Prompts("${task}${report}", "", "${look}${verdict}"))).exit_code == 0
    assert asked == [DIFF_LIMIT, DIFF_LIMIT_WITHOUT_SHELL]
    assert ["You have no shell" in one for one in mission.prompts_of("WP01", Role.REVIEW)] == [False, True]


async def test_a_veto_sends_it_back_and_both_are_asked_about_the_new_commit(stage: Make) -> None:
    def review(request: AttemptRequest) -> Play:
        if (request.agent, request.number) == ("ann", 3):
            return Play(text=verdict(request, "changes_requested", "mend it"))
        return Play()

    mission = stage({"WP01": ()}, scripted(review=review), policy=BOTH)
    assert (await mission.run()).exit_code == 0
    assert [one.agent for one in mission.agents.requests] == ["ada", "rob", "ann", "ada", "rob", "ann"]


async def test_a_quorum_that_cannot_be_reached_ends_with_a_person(stage: Make) -> None:
    failing = scripted(review=lambda r: Play(outcome=Outcome.AUTH) if r.agent == "ann" else Play())
    mission = stage({"WP01": ()}, failing, policy=BOTH)
    result = await mission.run()
    assert result.exit_code == 1
    assert mission.host.lanes["WP01"] is Lane.IN_REVIEW
    assert "a person must" in result.reasons["WP01"] or "ann ended auth" in result.reasons["WP01"]


async def test_the_reviewer_of_another_family_is_chosen_by_who_implemented(stage: Make) -> None:
    policy = longer(
        impl_agents=("ada", "eve"),
        review_agents=("eve", "ada"),
        families={"ada": "a", "eve": "e"},
        independent_review=True,
    )
    mission = stage(
        {"WP01": (), "WP02": ()},
        lambda r: Play(
            outcome=Outcome.AUTH
            if (r.wp_id, r.agent) == ("WP02", "ada") and r.role is Role.IMPLEMENT
            else Outcome.OK
        ),
        policy=policy,
    )
    assert (await mission.run()).exit_code == 0
    reviews = {one.wp_id: one.agent for one in mission.agents.requests if one.role is Role.REVIEW}
    assert reviews == {"WP01": "eve", "WP02": "ada"}
