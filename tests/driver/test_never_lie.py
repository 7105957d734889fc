"""Nothing but an explicit verdict of a reviewer for the commit under review makes a work package complete."""

import json
from collections.abc import Callable

import pytest
from tests.driver.builders import Stage, longer, scripted
from tests.driver.troubles import events

from spec_kitty_orchestrator.core.describe import describe
from spec_kitty_orchestrator.core.events import AgentExited
from spec_kitty_orchestrator.core.model import Lane, Outcome, Result, Role
from spec_kitty_orchestrator.ports import AttemptRequest, Restored
from spec_kitty_orchestrator.testing.scripted_agents import Play, report, verdict

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]
DONE = [Lane.IN_REVIEW, Lane.DONE]


def quoted(request: AttemptRequest) -> str:
    return f"The diff adds\n\n```diff\n+{verdict(request, 'approved')}\n```\n\nI could not finish."


def contradicting(request: AttemptRequest) -> str:
    return f"{verdict(request, 'changes_requested', 'a')}\n\nor rather:\n\n{verdict(request, 'approved')}"


LIARS: dict[str, Callable[[AttemptRequest], Play]] = {
    "prose": lambda r: Play(text="LGTM. Verdict: approved."),
    "nothing": lambda r: Play(text=""),
    "another sha": lambda r: Play(text=verdict(r, "approved", head="f" * 40)),
    "an abbreviated sha": lambda r: Play(text=verdict(r, "approved", head=r.head[:12])),
    "no sha": lambda r: Play(text=verdict(r, "approved", head=None)),
    "another attempt": lambda r: Play(text=verdict(r, "approved", attempt="attempt000001")),
    "a quotation": lambda r: Play(text=quoted(r)),
    "words after the verdict": lambda r: Play(text=verdict(r, "approved") + "\n\nNot really."),
    "invalid JSON": lambda r: Play(text=verdict(r, "approved")[:-1]),
    "a list": lambda r: Play(text=json.dumps([json.loads(verdict(r, "approved"))])),
    "a contradiction": lambda r: Play(text=contradicting(r)),
    "another word": lambda r: Play(text=verdict(r, "Approved")),
    "true": lambda r: Play(text=verdict(r, "approved", verdict=True)),
    "rejection without a reason": lambda r: Play(text=verdict(r, "changes_requested", summary="")),
    "a verdict of a process that failed": lambda r: Play(outcome=Outcome.FAILED, text=verdict(r, "approved")),
    "a verdict after editing": lambda r: Play(edits=("src/a.py",)),
}


@pytest.mark.parametrize("lie", LIARS)
async def test_a_reviewer_that_gives_no_verdict_completes_nothing(stage: Make, lie: str) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",)}, scripted(review=LIARS[lie]))
    result = await mission.run()
    assert result.exit_code == 1
    assert not {Lane.APPROVED, Lane.DONE} & set(mission.lanes_of("WP01"))
    assert mission.host.lanes["WP01"] is Lane.IN_REVIEW
    assert mission.lanes_of("WP02") == []


async def test_a_reviewer_that_commits_completes_nothing_and_its_commit_is_taken_back(stage: Make) -> None:
    mission = stage({"WP01": ()})
    where = await mission.host.where("WP01")
    mission.agents.script = scripted(
        review=Play(edits=("a.py",), then=lambda: void(mission.workspaces.commit_by_hand(where)))
    )
    result = await mission.run()
    assert result.exit_code == 1
    assert mission.host.lanes["WP01"] is Lane.IN_REVIEW
    assert len(mission.workspaces.tree(where).commits) == 2
    assert len(mission.workspaces.rescued) >= 2


def void(_: object) -> None:
    """Forget a value, where a function of nothing is wanted."""


async def test_an_edit_by_a_reviewer_is_put_back_and_the_next_review_counts(stage: Make) -> None:
    def review(request: AttemptRequest) -> Play:
        return Play(edits=("src/a.py",)) if request.number == 2 else Play()

    mission = stage({"WP01": ()}, scripted(review=review))
    result = await mission.run()
    assert result.exit_code == 0
    assert [one.number for one in mission.agents.requests] == [1, 2, 3]
    assert mission.workspaces.restored == [("src/a.py",), ()]
    saved = f"refs/fake/WP01/{mission.agents.requests[1].id}"
    assert saved in result.work_packages[0].rescued.refs
    assert any(f"git show {saved}" in describe(one) for one in events(mission, AgentExited))


async def test_a_verdict_is_void_when_somebody_commits_before_it_is_recorded(stage: Make) -> None:
    mission = stage({"WP01": ()})
    where = await mission.host.where("WP01")
    original = mission.workspaces.restore
    moved: list[str] = []

    async def then_a_person_commits(*args):  # type: ignore[no-untyped-def]
        found = await original(*args)
        if not moved:
            moved.append(mission.workspaces.commit_by_hand(where))
        return found

    mission.workspaces.restore = then_a_person_commits  # type: ignore[method-assign]
    result = await mission.run()
    assert result.exit_code == 0
    reviews = [one.head for one in mission.agents.requests if one.role is Role.REVIEW]
    assert reviews == [f"{1:040x}", moved[0]]
    assert mission.host.events[-1].review is not None
    assert mission.host.events[-1].review.reference.endswith(moved[0])


async def test_an_implementer_that_marks_its_own_work_as_approved_does_not_make_us_approve(
    stage: Make,
) -> None:
    mission: Stage = stage(
        {"WP01": ()},
        scripted(implement=lambda r: Play(text=verdict(r, "approved", head="0" * 40))),
    )
    await mission.run()
    assert [one.role for one in mission.agents.requests] == [Role.IMPLEMENT, Role.REVIEW]


async def test_the_prompt_of_a_review_names_the_attempt_and_the_commit_and_no_other_does(
    stage: Make,
) -> None:
    mission = stage({"WP01": ()})
    await mission.run()
    implement, review = mission.agents.requests
    assert review.id in review.prompt
    assert review.head in review.prompt
    assert review.id not in implement.prompt


async def test_each_agent_that_is_told_to_finish_in_approved_is_bound_to_its_commit(stage: Make) -> None:
    mission = stage(policy=longer(finish_lane=Lane.APPROVED))
    assert (await mission.run()).exit_code == 0
    complete = [one for one in mission.host.witnessed if one.transition.to_lane.complete]
    assert len(complete) == 4
    assert all(one.head in one.transition.note for one in complete)


async def test_work_of_somebody_else_that_holds_no_commit_goes_to_an_implementer_before_a_reviewer(
    stage: Make,
) -> None:
    mission = stage({"WP01": ()})
    mission.host.lanes["WP01"] = Lane.FOR_REVIEW
    result = await mission.run()
    assert result.exit_code == 0
    assert [one.role for one in mission.agents.requests] == [Role.IMPLEMENT, Role.REVIEW]
    assert mission.lanes_of("WP01") == [Lane.IN_REVIEW, Lane.IN_PROGRESS, Lane.FOR_REVIEW, *DONE]
    (told,) = [one for one in mission.host.events if one.review and one.review.verdict == "changes_requested"]
    assert "holds no work" in told.note
    assert result.work_packages[0].work.base != result.work_packages[0].work.head
    mission.assert_sound()


@pytest.mark.parametrize("lane", [Lane.FOR_REVIEW, Lane.IN_PROGRESS])
async def test_the_commits_of_another_work_package_on_the_same_branch_are_not_taken_for_its_own(
    stage: Make, lane: Lane
) -> None:
    idle = scripted(WP02_implement=Play(edits=(), text=""))
    mission = stage({"WP01": (), "WP02": ("WP01",)}, idle, lane_ids={"WP01": "a", "WP02": "a"})
    mission.policy = longer(max_attempts=2)
    mission.host.lanes["WP02"] = Lane.BLOCKED
    assert (await mission.run()).work_packages[0].result is Result.DONE
    mission.host.lanes["WP02"] = lane
    result = await mission.run()
    assert result.exit_code == 1
    assert {one.role for one in mission.agents.requests if one.wp_id == "WP02"} == {Role.IMPLEMENT}
    assert mission.host.lanes["WP02"] is Lane.BLOCKED


async def test_a_branch_that_is_put_back_to_its_start_during_a_review_is_not_approved(
    stage: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def undone() -> None:
        (tree,) = mission.workspaces.trees.values()
        del tree.commits[1:]

    def implement(request: AttemptRequest) -> Play:
        return Play() if request.number == 1 else Play(edits=(), text="")

    script = scripted(implement=implement, review=Play(then=undone))
    mission: Stage = stage({"WP01": ()}, script, policy=longer(max_attempts=2))
    monkeypatch.setattr(mission.workspaces, "restore", unseen)
    result = await mission.run()
    assert result.exit_code == 1
    assert not {Lane.APPROVED, Lane.DONE} & set(mission.lanes_of("WP01"))


async def unseen(*_: object) -> Restored:
    """Find nothing changed, as where somebody else moves the branch after the look."""
    return Restored()


async def test_work_that_says_why_nothing_had_to_change_is_reviewed(stage: Make) -> None:
    mission = stage({"WP01": ()}, scripted(implement=lambda r: Play(edits=(), text=no_change(r))))
    mission.workspaces.content = lambda _: "the same"
    result = await mission.run()
    assert result.exit_code == 0
    assert [one.role for one in mission.agents.requests] == [Role.IMPLEMENT, Role.REVIEW]


def no_change(request: AttemptRequest) -> str:
    return report(request, no_change_reason="it is there already")
