"""A resumed run decides by today's settings: votes count by today's quorum, turns are names."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from tests.driver.builders import Stage, closed, longer, scripted
from tests.driver.troubles import attempts

from spec_kitty_orchestrator.core.model import Lane, Outcome, Role
from spec_kitty_orchestrator.core.policy import Gate, Policy
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play, verdict
from spec_kitty_orchestrator.testing.scripted_gates import Check

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]
LONG = Play(seconds=1000)


def two(*reviewers: str, **changes: Any) -> Policy:
    return longer(review_agents=reviewers, **{"review_quorum": 2, **changes})


async def interrupted(mission: Stage, after_s: float) -> None:
    engine = mission.orchestrator()
    await closed(engine, after_s, engine.interrupt)


def reviews(mission: Stage) -> list[str]:
    return attempts(mission, role=Role.REVIEW)


def by(**plays: Play) -> Callable[[AttemptRequest], Play]:
    """Let each agent do its own; all others succeed."""
    return lambda request: plays.get(request.agent, Play())


async def test_an_approval_of_a_parked_work_package_is_enough_for_a_lower_quorum(stage: Make) -> None:
    mission = stage({"WP01": ()}, by(ben=Play(outcome=Outcome.AUTH)), policy=two("bob", "ben"))
    assert (await mission.run()).exit_code == 1
    mission.policy = longer(review_agents=("bob",))
    assert (await mission.run()).exit_code == 0
    assert reviews(mission) == ["bob", "ben", "ben"]
    assert mission.host.lanes["WP01"] is Lane.DONE


@pytest.mark.parametrize("left", [("bob",), ("bob", "ben"), ("ben", "bob")])
async def test_an_approval_that_waited_for_a_second_one_is_enough_for_a_lower_quorum(
    stage: Make, left: tuple[str, ...]
) -> None:
    mission = stage({"WP01": ()}, by(ben=LONG), policy=two("bob", "ben"))
    await interrupted(mission, 50)
    mission.policy = longer(review_agents=left)
    mission.agents.script = by()
    assert (await mission.run()).exit_code == 0
    # The attempt of ben's that was stopped is not made again.
    assert reviews(mission) == ["bob", "ben"]


async def test_a_lower_quorum_of_a_cut_off_run_pays_for_no_further_review(stage: Make) -> None:
    mission = stage({"WP01": ()}, policy=two("bob", "ben", "cy", review_quorum=3))
    mission.agents.script = by(cy=LONG)
    await interrupted(mission, 50)
    mission.policy = two("bob", "ben", "cy")
    assert (await mission.run()).exit_code == 0
    assert reviews(mission) == ["bob", "ben", "cy"]


async def test_a_raised_quorum_asks_only_for_what_is_missing(stage: Make) -> None:
    mission = stage({"WP01": ()}, by(ben=LONG), policy=two("bob", "ben"))
    await interrupted(mission, 50)
    mission.policy = two("bob", "ben", "cy", review_quorum=3)
    mission.agents.script = by()
    assert (await mission.run()).exit_code == 0
    assert reviews(mission) == ["bob", "ben", "ben", "cy"]


async def test_a_reviewer_that_is_asked_no_more_is_not_waited_for(stage: Make) -> None:
    mission = stage({"WP01": ()}, by(ben=LONG), policy=two("bob", "ben"))
    await interrupted(mission, 50)
    mission.policy = two("bob", "cy")
    mission.agents.script = by()
    assert (await mission.run()).exit_code == 0
    assert reviews(mission)[-1] == "cy"
    assert reviews(mission).count("bob") == 1


async def asked_in_another_order(stage: Make, role: Role, before: str, now: str) -> list[str]:
    """Interrupt a run in eve's turn, because ada failed, and go on in another order; return who was asked."""

    def order(agents: str) -> Policy:
        names = tuple(agents.split())
        return longer(impl_agents=names) if role is Role.IMPLEMENT else longer(review_agents=names)

    def script(request: AttemptRequest) -> Play:
        if request.role is not role:
            return Play()
        return Play(outcome=Outcome.AUTH) if request.agent == "ada" else LONG

    mission = stage({"WP01": ()}, script, policy=order(before))
    await interrupted(mission, 50)
    mission.policy = order(now)
    mission.agents.script = by()
    assert (await mission.run()).exit_code == 0
    return attempts(mission, role=role)


@pytest.mark.parametrize("role", Role)
async def test_the_order_given_now_is_followed(stage: Make, role: Role) -> None:
    assert await asked_in_another_order(stage, role, "ada eve", "eve ada") == ["ada", "eve", "eve"]


@pytest.mark.parametrize("role", Role)
async def test_an_agent_that_is_put_before_the_one_whose_turn_it_was_does_not_shift_the_turn(
    stage: Make, role: Role
) -> None:
    # It is never ada's again.
    assert (await asked_in_another_order(stage, role, "ada eve", "ivy ada eve"))[-1] in ("ivy", "eve")


@pytest.mark.parametrize("role", Role)
async def test_the_turn_stays_with_its_agent_when_the_one_before_it_is_removed(
    stage: Make, role: Role
) -> None:
    assert await asked_in_another_order(stage, role, "ada eve ivy", "eve ivy") == ["ada", "eve", "eve"]


async def test_a_rejection_goes_back_to_an_implementer_of_today(stage: Make) -> None:
    def script(request: AttemptRequest) -> Play:
        if request.role is Role.REVIEW and request.number == 2:
            return Play(text=verdict(request, "changes_requested", "mend it"))
        return LONG if request.number == 3 else Play()

    mission = stage({"WP01": ()}, script, policy=longer(impl_agents=("ada",)))
    await interrupted(mission, 50)
    mission.policy = longer(impl_agents=("eve",))
    mission.agents.script = scripted()
    assert (await mission.run()).exit_code == 0
    assert attempts(mission, role=Role.IMPLEMENT) == ["ada", "ada", "eve"]
    assert "mend it" in mission.prompts_of("WP01", Role.IMPLEMENT)[-1]


async def test_an_author_that_may_review_today_does_not_approve_its_own_work(stage: Make) -> None:
    """Independence is demanded only now: the vote of the author's family does not count."""
    families = {"ada": "a", "bob": "a", "ben": "b", "cy": "c"}
    mission = stage({"WP01": ()}, by(ben=LONG), policy=two("bob", "ben"))
    await interrupted(mission, 50)
    mission.policy = two("bob", "ben", "cy", families=families, independent_review=True)
    mission.agents.script = by()
    assert (await mission.run()).exit_code == 0
    assert reviews(mission)[2:] == ["ben", "cy"]


async def test_the_replay_of_an_earlier_start_is_by_its_own_settings(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",)}, by(ben=LONG, cy=LONG), policy=two("bob", "ben"))
    await interrupted(mission, 50)
    for policy in (two("ben", "bob"), two("cy", "bob"), two("bob", "ben", "cy", review_quorum=3)):
        mission.policy = policy
        await interrupted(mission, 50)
    mission.policy = two("cy", "ben")
    mission.agents.script = by()
    assert (await mission.run()).exit_code == 0
    assert set(mission.host.lanes.values()) == {Lane.DONE}


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.OK])
async def test_gates_that_were_added_come_before_an_approval_that_has_become_enough(
    stage: Make, outcome: Outcome
) -> None:
    mission = stage({"WP01": ()}, by(ben=Play(seconds=1000, outcome=outcome)), policy=two("bob", "ben"))
    with anyio.move_on_after(200):
        await mission.orchestrator().run()
    mission.policy = longer(
        review_agents=("bob", "ben"), gates=(Gate("tests", ("make", "test")),), max_attempts=1
    )
    mission.gates.gates = mission.policy.gates
    mission.gates.script = lambda *_: Check("failed")
    assert (await mission.run()).exit_code == 1
    assert mission.host.lanes["WP01"] is not Lane.DONE
