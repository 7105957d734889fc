"""Rework in whole missions: the implementer's session goes on, and a cycle that turns in place is ended."""

from collections.abc import Callable

import pytest
from tests.driver.builders import PROMPTS, Stage, longer, scripted

from spec_kitty_orchestrator.core.model import Lane, Outcome, Role
from spec_kitty_orchestrator.core.prompts import Prompts
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play, report, verdict

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]

RESUMING = longer(resuming=("ada",))
SHORT = Prompts(PROMPTS.implement, PROMPTS.rework, "${delta}${verdict}", "short: ${feedback}${stat}${report}")


def rejects_first(request: AttemptRequest) -> Play:
    return Play(text=verdict(request, "changes_requested", "mend it")) if request.number == 2 else Play()


async def test_rework_goes_on_with_the_session_and_a_short_prompt(stage: Make) -> None:
    mission = stage({"WP01": ()}, scripted(review=rejects_first), policy=RESUMING)
    assert (await mission.run(prompts=SHORT)).exit_code == 0
    first, again = [one for one in mission.agents.requests if one.role is Role.IMPLEMENT]
    assert (first.session, again.session) == ("", first.id)
    assert again.prompt.startswith("short: From review:\n\nchanges_requested\n- [major] mend it")
    base, head = mission.workspaces.trees["lane-1"].commits[:2]
    assert f"{base}..{head}" in again.prompt


async def test_a_session_that_cannot_be_gone_on_with_costs_one_attempt(stage: Make) -> None:
    def implement(request: AttemptRequest) -> Play:
        return Play(outcome=Outcome.INVALID_REQUEST) if request.session else Play()

    mission = stage({"WP01": ()}, scripted(implement=implement, review=rejects_first), policy=RESUMING)
    assert (await mission.run(prompts=SHORT)).exit_code == 0
    sessions = [one.session for one in mission.agents.requests if one.role is Role.IMPLEMENT]
    assert sessions == ["", mission.agents.requests[0].id, ""]


async def test_a_runner_that_drops_the_session_gets_the_whole_prompt(stage: Make) -> None:
    mission = stage({"WP01": ()}, scripted(review=rejects_first), policy=RESUMING)
    opened = mission.agents.open

    async def forgetful(request: AttemptRequest):  # type: ignore[no-untyped-def]
        from dataclasses import replace

        return replace(await opened(request), session="")

    mission.agents.open = forgetful  # type: ignore[method-assign]
    assert (await mission.run(prompts=SHORT)).exit_code == 0
    assert "# the task in" in mission.prompts_of("WP01", Role.IMPLEMENT)[-1]


async def test_a_second_review_sees_what_changed_since_the_first(stage: Make) -> None:
    mission = stage({"WP01": ()}, scripted(review=rejects_first))

    async def diff(workspace: object, base: str, head: str, limit: int) -> tuple[str, str]:
        return "1 file changed", f"diff of {base}..{head}"

    mission.workspaces.diff = diff  # type: ignore[method-assign]
    assert (await mission.run(prompts=SHORT)).exit_code == 0
    first, second = mission.prompts_of("WP01", Role.REVIEW)
    _, rejected, head = mission.workspaces.trees["lane-1"].commits
    assert first.startswith("none: ")
    assert second.startswith(f"diff of {rejected}..{head}")


async def test_the_same_findings_twice_end_the_cycle_before_its_bound(stage: Make) -> None:
    mission = stage(
        {"WP01": ()},
        scripted(review=lambda r: Play(text=verdict(r, "changes_requested", "still wrong"))),
        policy=longer(max_review_cycles=9, max_attempts=9),
    )
    result = await mission.run()
    assert result.exit_code == 1
    assert mission.host.lanes["WP01"] is Lane.BLOCKED
    assert "two reviews in a row ask for the same" in result.reasons["WP01"]
    assert len(mission.agents.requests) == 4


async def test_content_that_was_rejected_is_not_reviewed_again(stage: Make) -> None:
    def implement(request: AttemptRequest) -> Play:
        if request.number == 1:
            return Play()
        return Play(edits=(), text=report(request, no_change_reason="it is right as it is"))

    mission = stage({"WP01": ()}, scripted(implement=implement, review=rejects_first))
    result = await mission.run()
    assert result.exit_code == 1
    assert mission.host.lanes["WP01"] is Lane.BLOCKED
    assert "it is right as it is" in result.reasons["WP01"]
    assert len(mission.agents.requests) == 3
