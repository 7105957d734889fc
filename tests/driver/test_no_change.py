"""Who hands in what was there before is told so once, then the next agent is asked, then a person."""

from collections.abc import Callable

import pytest
from tests.driver.builders import Stage, longer, scripted
from tests.driver.troubles import attempts

from spec_kitty_orchestrator.core.events import CommitRefused, GateFailed
from spec_kitty_orchestrator.core.model import Lane, Role
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.core.run_events import Entry
from spec_kitty_orchestrator.errors import HostRefusal
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play, report
from spec_kitty_orchestrator.testing.scripted_gates import Check

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]
IDLE = Play(edits=())
PAIR = longer(impl_agents=("ada", "eve"))
GATE = (Gate("tests", ("pytest",)),)


def counted(mission: Stage, kind: type) -> int:
    return sum(isinstance(one, Entry) and isinstance(one.event, kind) for one in mission.journal.lines)


def no_reason(request: AttemptRequest) -> Play:
    """Change something at first, then hand in the same with a reason."""
    if request.number == 1:
        return Play()
    return Play(edits=(), text=report(request, no_change_reason="it is flaky"))


async def test_an_implementer_that_changes_nothing_gets_two_attempts(stage: Make) -> None:
    mission = stage({"WP01": ()}, scripted(implement=IDLE))
    result = await mission.run()
    assert result.exit_code == 1
    assert attempts(mission) == ["ada", "ada"]
    assert "another attempt like this is the last" in mission.prompts_of("WP01", Role.IMPLEMENT)[1]
    reason = "2 attempts in a row changed nothing, last by ada: its report does not say why nothing is needed"
    assert result.reasons["WP01"] == reason
    assert mission.host.lanes["WP01"] is Lane.BLOCKED


async def test_then_the_next_agent_is_asked(stage: Make) -> None:
    idle = lambda request: IDLE if request.agent == "ada" else Play()  # noqa: E731
    mission = stage({"WP01": ()}, scripted(implement=idle), policy=PAIR)
    assert (await mission.run()).exit_code == 0
    assert attempts(mission, role=Role.IMPLEMENT) == ["ada", "ada", "eve"]


async def test_a_change_between_begins_the_count_anew(stage: Make) -> None:
    plays = iter((IDLE, Play(), IDLE, Play()))
    rejects = lambda request: (  # noqa: E731
        Play() if request.number > 4 else Play(text='{"verdict": "nonsense"}')
    )
    mission = stage(
        {"WP01": ()},
        scripted(implement=lambda _: next(plays), review=rejects),
        policy=longer(gates=GATE),
        checks=lambda wp, head, turn: Check("failed" if turn == 1 else "passed"),
    )
    assert (await mission.run()).exit_code == 0
    assert attempts(mission, role=Role.IMPLEMENT) == ["ada"] * 4


async def test_a_red_gate_is_not_run_again_on_the_same_content(stage: Make) -> None:
    mission = stage(
        {"WP01": ()},
        scripted(implement=no_reason),
        policy=longer(gates=GATE),
        checks=lambda wp, head, turn: Check("failed"),
    )
    result = await mission.run()
    assert result.exit_code == 1
    assert counted(mission, GateFailed) == 1
    assert attempts(mission) == ["ada"] * 3
    assert "just what the gate tests failed on" in mission.prompts_of("WP01", Role.IMPLEMENT)[2]
    assert "last by ada: the gate tests is red on 0" in result.reasons["WP01"]


async def test_a_commit_without_other_content_is_no_change_either(stage: Make) -> None:
    mission = stage({"WP01": ()}, policy=longer(gates=GATE), checks=lambda wp, head, turn: Check("failed"))
    mission.workspaces.content = lambda sha: "always the same"
    assert (await mission.run()).exit_code == 1
    assert counted(mission, GateFailed) == 1
    assert len(attempts(mission)) == 3


async def test_a_person_who_retries_has_the_gate_run_again(stage: Make) -> None:
    mended: list[bool] = []
    mission = stage(
        {"WP01": ()},
        scripted(implement=no_reason),
        policy=longer(gates=GATE),
        checks=lambda wp, head, turn: Check("passed" if mended else "failed"),
    )
    assert (await mission.run()).exit_code == 1
    mended.append(True)
    mission.host.lanes["WP01"] = Lane.IN_PROGRESS
    assert (await mission.run()).exit_code == 0


async def test_a_hook_that_refuses_the_same_content_in_the_same_words_is_not_asked_six_times(
    stage: Make,
) -> None:
    mission = stage({"WP01": ()}, scripted(implement=Play(edits=("a.py",))))
    mission.workspaces.refusals = [f"lint failed after {n} s" for n in range(9)]
    result = await mission.run()
    assert result.exit_code == 1
    assert (counted(mission, CommitRefused), len(attempts(mission))) == (3, 3)
    assert "Nothing of what was refused before has changed" in mission.prompts_of("WP01", Role.IMPLEMENT)[2]


async def test_a_hook_that_refuses_other_content_each_time_is_listened_to(stage: Make) -> None:
    mission = stage({"WP01": ()})
    mission.workspaces.refusals = ["lint failed"] * 4
    assert (await mission.run()).exit_code == 0
    assert len(attempts(mission, role=Role.IMPLEMENT)) == 5


async def test_a_host_that_refuses_the_same_work_in_the_same_words_costs_three_attempts(stage: Make) -> None:
    mission = stage({"WP01": ()}, scripted(implement=lambda one: Play() if one.number == 1 else IDLE))
    for _ in range(9):
        mission.host.fail_next(
            "transition", HostRefusal("transition", "TRANSITION_REJECTED", "no evidence"), after_effect=False
        )
    result = await mission.run()
    assert result.exit_code == 1
    assert len(attempts(mission)) == 3


async def test_a_host_that_does_not_find_what_was_ticked_costs_two_attempts_whatever_they_change(
    stage: Make,
) -> None:
    mission = stage(
        {"WP01": ()},
        scripted(implement=lambda one: Play(text=report(one, subtasks_done=["T001", "T002"]))),
        subtasks={"WP01": ("T001", "T002")},
    )
    words = "it requires completed subtasks"
    for _ in range(9):
        refusal = HostRefusal("transition", "TRANSITION_REJECTED", words)
        mission.host.fail_next("transition", refusal, after_effect=False)
    result = await mission.run()
    assert result.exit_code == 1
    assert attempts(mission) == ["ada", "ada"]
    assert words in mission.prompts_of("WP01", Role.IMPLEMENT)[1]
    told = "T001, T002 were ticked: tasks.md may have them under another work package"
    assert result.reasons["WP01"] == f"the host refused transition: {words}; {told}"
    assert mission.host.lanes["WP01"] is Lane.IN_PROGRESS


async def test_who_says_why_nothing_has_to_change_is_reviewed_also_where_a_commit_holds_nothing(
    stage: Make,
) -> None:
    mission = stage({"WP01": ()}, scripted(implement=no_reason))
    mission.workspaces.content = lambda sha: "always the same"
    assert (await mission.run()).exit_code == 0
    assert attempts(mission) == ["ada", "ada", "rob"]
