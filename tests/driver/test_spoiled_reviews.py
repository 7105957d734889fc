"""A review whose worktree cannot be compared afterwards gives no verdict; what it cost and told is kept."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from tests.driver.builders import Stage, longer, scripted
from tests.driver.troubles import HOUR_S, attempts, events, open_attempts, spent_usd, wrapped

from spec_kitty_orchestrator.core.events import AgentExited
from spec_kitty_orchestrator.core.model import Lane, Outcome, Role, Usage
from spec_kitty_orchestrator.core.policy import Budget
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play, verdict

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]
WORDS = {
    "a lock": "fatal: Unable to create '/m/.git/index.lock': File exists.",
    "a full disk": "No space left on device",
    "no worktree": "fatal: not a git repository",
}
DEAR = Usage(10, 10, 5.0)


def cannot_be_compared(mission: Stage, words: str = WORDS["a lock"], times: float = 1e9) -> None:
    """Let the comparison after a review fail so many times."""
    left = [times]

    def wrap(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def restore(*args: Any) -> Any:
            if left[0] <= 0:
                return await original(*args)
            left[0] -= 1
            raise WorkspaceError(words)

        return restore

    wrapped(mission.workspaces, "restore", wrap)


@pytest.mark.parametrize("why", WORDS)
async def test_what_the_review_cost_is_counted(stage: Make, why: str) -> None:
    mission = stage({"WP01": ()}, scripted(review=Play(usage=DEAR)))
    cannot_be_compared(mission, WORDS[why])
    await mission.run()
    paid = 5.0 * len(attempts(mission, role=Role.REVIEW))
    assert paid >= 5.0
    assert spent_usd(mission) == paid
    result = await mission.run(budget=Budget(max_cost_usd=paid - 1.0))
    assert (result.exit_code, len(attempts(mission, role=Role.REVIEW))) == (7, paid / 5.0)


@pytest.mark.parametrize(
    "budget", [Budget(max_cost_usd=6.0), Budget(max_tokens=25)], ids=["dollars", "tokens"]
)
async def test_the_limit_of_the_run_holds_for_such_reviews(stage: Make, budget: Budget) -> None:
    wps = {f"WP{number:02d}": () for number in range(1, 6)}
    mission = stage(wps, scripted(review=Play(usage=DEAR)), max_concurrent=1)
    cannot_be_compared(mission)
    result = await mission.run(budget=budget)
    assert len(attempts(mission, role=Role.REVIEW)) == 2
    assert result.exit_code == 7
    assert "budget" in result.ended


async def test_the_limit_of_a_work_package_holds_for_such_reviews(stage: Make) -> None:
    mission = stage({"WP01": ()}, scripted(review=Play(usage=DEAR)), policy=longer(max_unusable=9))
    cannot_be_compared(mission)
    budget = Budget(max_cost_per_wp_usd=6.0)
    for _ in range(4):
        await mission.run(budget=budget)
    assert len(attempts(mission, role=Role.REVIEW)) <= 2


async def test_the_report_of_the_review_is_in_the_journal_and_told(stage: Make) -> None:
    mission = stage({"WP01": ()}, scripted(review=lambda r: Play(text=verdict(r, "approved"), usage=DEAR)))
    cannot_be_compared(mission)
    await mission.run()
    reviews = [one.id for one in mission.agents.requests if one.role is Role.REVIEW]
    reports = {one.attempt_id: one.report for one in events(mission, AgentExited)}
    assert reports.keys() >= set(reviews)
    assert all('"approved"' in reports[one].text for one in reviews)
    told = {one.attempt_id for _, one in mission.watcher.events if isinstance(one, AgentExited)}
    assert told >= set(reviews)
    assert open_attempts(mission) == set()


@pytest.mark.parametrize("ruling", ["approved", "changes_requested"])
async def test_its_verdict_is_void_whatever_it_says(stage: Make, ruling: str) -> None:
    mission = stage({"WP01": ()}, scripted(review=lambda r: Play(text=verdict(r, ruling, "mend this"))))
    cannot_be_compared(mission)
    result = await mission.run()
    assert result.exit_code == 1
    assert mission.lanes_of("WP01")[-1] is Lane.IN_REVIEW
    assert "index.lock" in result.reasons["WP01"]


@pytest.mark.parametrize("told_s", [None, HOUR_S])
async def test_a_limit_that_the_review_met_holds_for_all(stage: Make, told_s: float | None) -> None:
    starts: list[float] = []

    def review(request: AttemptRequest) -> Play:
        starts.append(anyio.current_time())
        limited = Play(outcome=Outcome.RATE_LIMITED, retry_after_s=told_s)
        return limited if len(starts) == 1 else Play()

    mission = stage(
        {"WP01": (), "WP02": ()}, scripted(review=review, WP02_implement=Play(seconds=10)), max_concurrent=2
    )
    cannot_be_compared(mission, times=1)
    await mission.run()
    assert starts[1] - starts[0] >= (told_s or 60.0)


async def test_the_run_that_only_such_a_limit_holds_up_ends_with_75_where_it_may_not_wait(
    stage: Make,
) -> None:
    limited = Play(outcome=Outcome.RATE_LIMITED, retry_after_s=10 * HOUR_S)
    mission = stage({"WP01": (), "WP02": ()}, scripted(review=limited, WP02_implement=Play(seconds=10)))
    cannot_be_compared(mission)
    result = await mission.run()
    assert result.exit_code == 75
    assert "rob" in result.resting
