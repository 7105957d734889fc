"""Whoever may have left edits in the commit is an author of it, however the attempt ended."""

from collections.abc import Callable

import anyio
import pytest
from tests.driver.builders import Stage, closed, longer
from tests.driver.troubles import attempts

from spec_kitty_orchestrator.core.model import Lane, Outcome, Role
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]
FAMILIES = {"alice": "anthropic", "ann": "openai", "bob": "anthropic", "ben": "openai", "gil": "google"}
LEAVES_EDITS = [
    Outcome.TIMEOUT,
    Outcome.STALLED,
    Outcome.CRASHED,
    Outcome.FAILED,
    Outcome.LOST,
    Outcome.BUDGET,
    Outcome.OVERLOADED,
    Outcome.RATE_LIMITED,
]


def independent(*reviewers: str, **changes: object) -> Policy:
    policy = longer(
        impl_agents=("alice", "ann"), review_agents=reviewers, families=FAMILIES, independent_review=True
    )
    return longer(policy, **changes)


def given_up_by_alice(outcome: Outcome) -> Callable[[AttemptRequest], Play]:
    """Alice edits files and does not come to an end; ann finishes her work."""

    def script(request: AttemptRequest) -> Play:
        if request.role is Role.REVIEW:
            return Play()
        if request.agent == "alice":
            return Play(outcome=outcome, edits=("src/a.py",), retry_after_s=36_000.0)
        return Play(edits=("src/b.py",))

    return script


@pytest.mark.parametrize("outcome", LEAVES_EDITS)
async def test_who_left_edits_without_a_result_does_not_review_them(stage: Make, outcome: Outcome) -> None:
    mission = stage({"WP01": ()}, given_up_by_alice(outcome), policy=independent("bob", "ben"))
    result = await mission.run()
    assert attempts(mission, role=Role.IMPLEMENT)[-1] == "ann"
    assert attempts(mission, role=Role.REVIEW) == []
    assert (result.exit_code, mission.host.lanes["WP01"].complete) == (1, False)
    assert "no reviewer is of another family" in result.reasons["WP01"]


@pytest.mark.parametrize("outcome", LEAVES_EDITS)
async def test_a_reviewer_of_neither_authors_family_is_chosen(stage: Make, outcome: Outcome) -> None:
    mission = stage({"WP01": ()}, given_up_by_alice(outcome), policy=independent("bob", "ben", "gil"))
    assert (await mission.run()).exit_code == 0
    assert attempts(mission, role=Role.REVIEW) == ["gil"]


@pytest.mark.parametrize("outcome", LEAVES_EDITS)
async def test_where_independence_is_only_preferred_authors_come_last(stage: Make, outcome: Outcome) -> None:
    policy = independent("bob", "ben", "gil", independent_review=False)
    mission = stage({"WP01": ()}, given_up_by_alice(outcome), policy=policy)
    assert (await mission.run()).exit_code == 0
    assert attempts(mission, role=Role.REVIEW) == ["gil"]


@pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.STALLED, Outcome.CRASHED])
async def test_an_author_without_a_result_does_not_count_in_a_quorum(stage: Make, outcome: Outcome) -> None:
    policy = independent("bob", "gil", review_quorum=2)
    mission = stage({"WP01": ()}, given_up_by_alice(outcome), policy=policy)
    result = await mission.run()
    assert result.exit_code == 1
    assert not mission.host.lanes["WP01"].complete


async def test_an_attempt_that_a_signal_stopped_makes_an_author(stage: Make) -> None:
    mission = stage({"WP01": ()}, given_up_by_alice(Outcome.AUTH), policy=independent("bob", "ben"))
    where = await mission.host.where("WP01")

    def works(request: AttemptRequest) -> Play:
        if request.role is Role.IMPLEMENT and request.agent == "alice":
            mission.workspaces.edit(where, "src/a.py")
            return Play(seconds=100)
        return Play()

    mission.agents.script = works
    engine = mission.orchestrator()
    await closed(engine, 50, engine.interrupt)
    mission.policy = independent("bob", "ben", impl_agents=("ann",))
    result = await mission.run()
    assert attempts(mission, role=Role.IMPLEMENT) == ["alice", "ann"]
    assert attempts(mission, role=Role.REVIEW) == []
    assert result.exit_code == 1


async def test_an_author_of_an_earlier_start_is_still_one(stage: Make) -> None:
    mission = stage({"WP01": ()}, given_up_by_alice(Outcome.TIMEOUT), policy=independent("bob", "ben"))
    mission.agents.script = lambda r: (
        Play(seconds=100) if r.agent == "ann" else given_up_by_alice(Outcome.TIMEOUT)(r)
    )
    with anyio.move_on_after(50):
        await mission.orchestrator().run()
    mission.policy = independent("bob", "ben", impl_agents=("ann",))
    result = await mission.run()
    assert attempts(mission, role=Role.REVIEW) == []
    assert result.exit_code == 1


@pytest.mark.parametrize("outcome", [Outcome.AUTH, Outcome.INVALID_REQUEST])
async def test_an_attempt_that_could_do_nothing_and_left_nothing_makes_no_author(
    stage: Make, outcome: Outcome
) -> None:
    def script(request: AttemptRequest) -> Play:
        failing = request.role is Role.IMPLEMENT and request.agent == "alice"
        return Play(outcome=outcome, edits=()) if failing else Play()

    mission = stage({"WP01": ()}, script, policy=independent("bob", "ben"))
    assert (await mission.run()).exit_code == 0
    assert attempts(mission, role=Role.REVIEW) == ["bob"]
    assert mission.host.lanes["WP01"] is Lane.DONE
