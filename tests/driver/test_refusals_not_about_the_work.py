"""Only a refusal that is about the work goes to the implementer; every other one parks with its reason."""

from collections.abc import Callable

import pytest
from tests.driver.builders import Stage
from tests.driver.troubles import attempts, refused

from spec_kitty_orchestrator.core.model import Lane, Role
from spec_kitty_orchestrator.testing.scripted_agents import Play, report, verdict

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]
NOT_ABOUT_THE_WORK = (
    "POLICY_VALIDATION_FAILED",
    "POLICY_METADATA_REQUIRED",
    "USAGE_ERROR",
    "WP_NOT_FOUND",
    "MISSION_NOT_FOUND",
    "WP_ALREADY_CLAIMED",
    "A_CODE_OF_A_LATER_HOST",
)
WORDS = "the host has its reasons"


@pytest.mark.parametrize("code", NOT_ABOUT_THE_WORK)
async def test_it_costs_no_second_attempt_when_work_is_submitted(stage: Make, code: str) -> None:
    mission = stage({"WP01": (), "WP02": ()})
    refused(mission, "transition", code, WORDS, to=Lane.FOR_REVIEW, about=("WP01",))
    result = await mission.run()
    assert attempts(mission, "WP01") == ["ada"]
    assert result.exit_code == 1
    assert WORDS in result.reasons["WP01"]
    assert mission.host.lanes["WP02"] is Lane.DONE


@pytest.mark.parametrize("code", NOT_ABOUT_THE_WORK)
@pytest.mark.parametrize("ruling", [Lane.DONE, Lane.IN_PROGRESS])
async def test_it_costs_no_further_attempt_when_a_verdict_is_recorded(
    stage: Make, ruling: Lane, code: str
) -> None:
    word = "approved" if ruling is Lane.DONE else "changes_requested"
    mission = stage(
        {"WP01": ()}, lambda r: Play(text=verdict(r, word, "mend")) if r.role is Role.REVIEW else Play()
    )
    refused(mission, "transition", code, WORDS, to=ruling)
    result = await mission.run()
    assert attempts(mission) == ["ada", "rob"]
    assert result.exit_code == 1
    assert WORDS in result.reasons["WP01"]


@pytest.mark.parametrize("code", NOT_ABOUT_THE_WORK)
async def test_it_costs_no_further_attempt_when_a_review_is_claimed(stage: Make, code: str) -> None:
    mission = stage({"WP01": ()})
    refused(mission, "start_review", code, WORDS)
    result = await mission.run()
    assert attempts(mission, role=Role.IMPLEMENT) == ["ada"]
    assert len(attempts(mission, role=Role.REVIEW)) <= 1
    assert result.exit_code == 1
    assert WORDS in result.reasons["WP01"]


@pytest.mark.parametrize("code", [one for one in NOT_ABOUT_THE_WORK if one != "WP_ALREADY_CLAIMED"])
async def test_it_costs_nothing_when_work_is_claimed(stage: Make, code: str) -> None:
    mission = stage({"WP01": ()})
    refused(mission, "start_implementation", code, WORDS)
    result = await mission.run()
    assert attempts(mission) == []
    assert result.exit_code == 1
    assert WORDS in result.reasons["WP01"]


@pytest.mark.parametrize("code", NOT_ABOUT_THE_WORK)
async def test_it_costs_no_second_attempt_when_subtasks_are_ticked(stage: Make, code: str) -> None:
    mission = stage(
        {"WP01": ()},
        lambda r: Play(text=report(r, subtasks_done=["T001"])) if r.role is Role.IMPLEMENT else Play(),
        subtasks={"WP01": ("T001",)},
    )
    refused(mission, "tick_subtasks", code, WORDS)
    result = await mission.run()
    assert attempts(mission) == ["ada"]
    assert result.exit_code == 1
    assert WORDS in result.reasons["WP01"]


async def test_the_finished_work_is_kept_and_a_later_start_submits_it(stage: Make) -> None:
    mission = stage({"WP01": ()})
    refused(mission, "transition", "POLICY_VALIDATION_FAILED", WORDS, to=Lane.FOR_REVIEW)
    assert (await mission.run()).exit_code == 1
    vars(mission.host).pop("transition")
    assert (await mission.run()).exit_code == 0
    assert attempts(mission) == ["ada", "rob"]


@pytest.mark.parametrize("why", ["no commit", "open subtasks"])
async def test_a_refusal_about_the_work_goes_to_the_implementer_with_the_hosts_words(
    stage: Make, why: str
) -> None:
    mission = stage({"WP01": ()}, subtasks={"WP01": ("T001",)} if why == "open subtasks" else None)
    if why == "no commit":
        mission.host.has_commit = lambda _: len(attempts(mission)) > 1
    else:
        mission.agents.script = lambda r: (
            Play(text=report(r, subtasks_done=["T001"]))
            if (r.role, r.number) == (Role.IMPLEMENT, 2)
            else Play()
        )
    assert (await mission.run()).exit_code == 0
    assert attempts(mission, role=Role.IMPLEMENT) == ["ada", "ada"]
    words = "no implementation commit" if why == "no commit" else "subtasks"
    assert words in mission.prompts_of("WP01", Role.IMPLEMENT)[1]
