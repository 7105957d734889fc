"""Each row of the retry table, as it is documented, for a whole run and in either role."""

from collections.abc import Callable

import anyio
import pytest
from tests.driver.builders import Stage, longer

from spec_kitty_orchestrator.core.model import Lane, Outcome, Role
from spec_kitty_orchestrator.core.retry import REFUSED
from spec_kitty_orchestrator.testing.scripted_agents import Play, verdict

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]

TABLE: dict[Outcome, tuple[int, tuple[float, float]]] = {
    Outcome.OVERLOADED: (4, (0.8 * 70, 1.2 * 70)),
    Outcome.CRASHED: (3, (0.0, 0.0)),
    Outcome.STALLED: (3, (0.0, 0.0)),
    Outcome.LOST: (3, (0.0, 0.0)),
    Outcome.FAILED: (2, (0.0, 0.0)),
    Outcome.TIMEOUT: (2, (0.0, 0.0)),
    Outcome.AUTH: (1, (0.0, 0.0)),
    Outcome.INVALID_REQUEST: (1, (0.0, 0.0)),
    Outcome.BUDGET: (1, (0.0, 0.0)),
}
"""Attempts of one agent, and the least and the most seconds that are waited between them in all."""


def tries_of_the_last(outcome: Outcome) -> int:
    """Return the attempts of an agent without a successor: a refusal may be of all its work."""
    return TABLE[outcome][0] + (outcome in REFUSED)


def constantly(role: Role, outcome: Outcome, agent: str = "") -> Callable[..., Play]:
    return lambda r: Play(outcome=outcome if r.role is role and agent in ("", r.agent) else Outcome.OK)


def test_the_table_has_every_outcome_that_is_a_failure_of_one_attempt() -> None:
    elsewhere = {Outcome.OK, Outcome.CANCELED, Outcome.RATE_LIMITED}
    assert set(TABLE) == set(Outcome) - elsewhere


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("outcome", TABLE)
async def test_the_next_agent_takes_over_after_the_tries_of_the_table(
    stage: Make, outcome: Outcome, role: Role
) -> None:
    tries, (least_s, most_s) = TABLE[outcome]
    mission = stage(
        {"WP01": ()},
        constantly(role, outcome, "bad"),
        policy=longer(
            impl_agents=("bad", "good") if role is Role.IMPLEMENT else ("ada",),
            review_agents=("bad", "good") if role is Role.REVIEW else ("rob",),
        ),
    )
    began = anyio.current_time()
    assert (await mission.run()).exit_code == 0
    assert [one.agent for one in mission.agents.requests if one.role is role] == ["bad"] * tries + ["good"]
    at_work_s = tries + 2
    assert least_s <= anyio.current_time() - began - at_work_s + 1e-6 <= most_s + 1e-3


@pytest.mark.parametrize("outcome", TABLE)
async def test_an_implementer_without_a_successor_is_parked_with_the_host_told(
    stage: Make, outcome: Outcome
) -> None:
    mission = stage({"WP01": ()}, constantly(Role.IMPLEMENT, outcome))
    result = await mission.run()
    assert result.exit_code == 1
    assert len(mission.agents.requests) == tries_of_the_last(outcome)
    assert mission.host.lanes["WP01"] is Lane.BLOCKED
    assert f"ada ended {outcome}" in result.reasons["WP01"]


@pytest.mark.parametrize("outcome", TABLE)
async def test_a_reviewer_without_a_successor_leaves_the_work_in_review_and_judges_nothing(
    stage: Make, outcome: Outcome
) -> None:
    mission = stage({"WP01": ()}, constantly(Role.REVIEW, outcome))
    result = await mission.run()
    assert result.exit_code == 1
    assert len(mission.agents.requests) == 1 + tries_of_the_last(outcome)
    assert mission.host.lanes["WP01"] is Lane.IN_REVIEW
    assert result.work_packages[0].review.rejected == ()
    assert result.work_packages[0].review.verdict is None
    assert f"rob ended {outcome}" in result.reasons["WP01"]


async def test_an_unusable_verdict_is_asked_for_once_more_then_of_the_next_reviewer(stage: Make) -> None:
    mission = stage(
        {"WP01": ()},
        lambda r: Play(text="Looks good!") if r.agent == "rob" else Play(),
        policy=longer(review_agents=("rob", "ann")),
    )
    assert (await mission.run()).exit_code == 0
    assert [one.agent for one in mission.agents.requests] == ["ada", "rob", "rob", "ann"]


async def test_overloads_are_not_charged_and_other_failures_are(stage: Make) -> None:
    ends = [Outcome.OVERLOADED, Outcome.OVERLOADED, Outcome.OVERLOADED, Outcome.CRASHED, Outcome.OK]
    mission = stage({"WP01": ()}, policy=longer(max_attempts=2, impl_agents=("ada", "eve")))
    mission.agents.script = lambda r: Play(
        outcome=ends[r.number - 1] if r.role is Role.IMPLEMENT else Outcome.OK
    )
    assert (await mission.run()).exit_code == 0
    assert [one.agent for one in mission.agents.requests] == ["ada"] * 4 + ["eve", "rob"]


async def test_a_rejection_after_failures_of_the_reviewer_is_counted_once(stage: Make) -> None:
    ends = iter([Outcome.TIMEOUT, Outcome.OK, Outcome.CRASHED, Outcome.OK])

    def script(request):  # type: ignore[no-untyped-def]
        if request.role is Role.IMPLEMENT:
            return Play()
        outcome = next(ends)
        first = len(mission.prompts_of("WP01", Role.IMPLEMENT)) == 1
        return Play(outcome=outcome, text=verdict(request, "changes_requested", "more") if first else None)

    mission = stage({"WP01": ()}, script, policy=longer(max_review_cycles=2))
    result = await mission.run()
    assert result.exit_code == 0
    assert len(result.work_packages[0].review.rejected) == 1
