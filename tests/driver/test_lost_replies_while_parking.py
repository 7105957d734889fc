"""Parking is told to the host like everything else: a lost reply is settled by the lane, and repeated."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.driver.builders import Stage, scripted
from tests.driver.troubles import attempts, wrapped

from spec_kitty_orchestrator.core.model import Lane, Outcome, Usage
from spec_kitty_orchestrator.core.policy import Budget
from spec_kitty_orchestrator.errors import HostCrash, HostError, HostTimeout
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play, verdict

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]
CRASH = HostCrash("transition", "the host printed nothing")
TIMEOUT = HostTimeout("transition", "no answer within 120 s")

PARKED_FOR: dict[str, tuple[Callable[[AttemptRequest], Play], Budget]] = {
    "work that changes nothing": (scripted(implement=Play(edits=())), Budget()),
    "agents that do not work": (scripted(implement=Play(outcome=Outcome.AUTH)), Budget()),
    "what it has cost": (
        scripted(implement=Play(usage=Usage(1, 1, 3.0), outcome=Outcome.FAILED)),
        Budget(max_cost_per_wp_usd=2.0),
    ),
}


def loses_replies(
    mission: Stage, to: Lane, times: int, *, after_effect: bool, error: HostError = CRASH
) -> None:
    """Lose the host's answer to so many transitions to a lane."""
    left = [times]

    def wrap(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def transition(name: str, wp: str, lane: Lane, *args: Any, **named: Any) -> None:
            lost = lane is to and left[0] > 0
            left[0] -= lost
            if not lost or after_effect:
                await original(name, wp, lane, *args, **named)
            if lost:
                raise error

        return transition

    wrapped(mission.host, "transition", wrap)


@pytest.mark.parametrize("error", [CRASH, TIMEOUT], ids=["crash", "timeout"])
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("why", PARKED_FOR)
@pytest.mark.parametrize("after_effect", [False, True])
async def test_the_host_is_told_though_its_answers_are_lost_and_a_later_start_pays_for_nothing(
    stage: Make, why: str, times: int, after_effect: bool, error: HostError
) -> None:
    script, budget = PARKED_FOR[why]
    mission = stage({"WP01": ()}, script)
    loses_replies(mission, Lane.BLOCKED, times, after_effect=after_effect, error=error)
    first = await mission.run(budget=budget)
    assert (first.exit_code, mission.host.lanes) == (1, {"WP01": Lane.BLOCKED})
    assert mission.lanes_of("WP01").count(Lane.BLOCKED) == 1
    assert "was not told" not in first.reasons["WP01"]
    paid = len(attempts(mission))
    second = await mission.run(budget=budget)
    assert (second.exit_code, len(attempts(mission))) == (1, paid)


@pytest.mark.parametrize("after_effect", [False, True])
async def test_a_lost_reply_to_the_rejection_that_blocks_is_settled_too(
    stage: Make, after_effect: bool
) -> None:
    def review(request: AttemptRequest) -> Play:
        return Play(text=verdict(request, "changes_requested", f"mend {chr(96 + request.number) * 5}"))

    mission = stage({"WP01": ()}, scripted(review=review))
    loses_replies(mission, Lane.BLOCKED, 1, after_effect=after_effect)
    first = await mission.run()
    assert (first.exit_code, mission.host.lanes) == (1, {"WP01": Lane.BLOCKED})
    assert "was not told" not in first.reasons["WP01"]
    paid = len(attempts(mission))
    await mission.run()
    assert len(attempts(mission)) == paid


async def test_what_somebody_else_blocked_meanwhile_is_parked_as_wanted(stage: Make) -> None:
    mission = stage({"WP01": ()}, scripted(implement=Play(edits=())))

    def wrap(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def transition(name: str, wp: str, to: Lane, *args: Any, **named: Any) -> None:
            if to is Lane.BLOCKED:
                mission.host.lanes[wp] = Lane.BLOCKED
            await original(name, wp, to, *args, **named)

        return transition

    wrapped(mission.host, "transition", wrap)
    result = await mission.run()
    assert result.exit_code == 1
    assert "was not told" not in result.reasons["WP01"]
    assert "refused" not in result.reasons["WP01"]


async def test_a_host_that_never_answers_while_parking_does_not_hold_the_run(
    stage: Make,
) -> None:
    mission = stage({"WP01": (), "WP02": ()}, scripted(WP01_implement=Play(edits=())))
    loses_replies(mission, Lane.BLOCKED, 10**6, after_effect=False)
    result = await mission.run()
    assert result.exit_code == 1
    assert mission.host.lanes["WP02"] is Lane.DONE
    assert "the host printed nothing" in result.reasons["WP01"]


async def test_what_the_host_could_not_be_told_is_told_by_the_next_start(
    stage: Make,
) -> None:
    mission = stage({"WP01": ()}, scripted(implement=Play(edits=())))
    clean = stage({"WP01": ()}, scripted(implement=Play(edits=())))
    await clean.run()
    loses_replies(mission, Lane.BLOCKED, 10**6, after_effect=False, error=HostTimeout("transition", "120 s"))
    await mission.run()
    vars(mission.host).pop("transition")
    await mission.run()
    assert mission.host.lanes["WP01"] is Lane.BLOCKED
    assert len(attempts(mission)) == len(attempts(clean))
