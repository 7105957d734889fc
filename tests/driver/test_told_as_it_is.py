"""The end of a run is told as it is: its exit code, its reasons, whose turn it is, what is to be mended."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from signal import SIGINT, SIGTERM
from typing import Any

import anyio
import pytest
from tests.driver.builders import Stage, closed, longer, scripted
from tests.driver.troubles import attempts, events, wrapped

from spec_kitty_orchestrator.core.events import AgentExited
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Lane, Outcome, Role
from spec_kitty_orchestrator.core.operator_events import Retried
from spec_kitty_orchestrator.core.run_events import Entry, RunEnded
from spec_kitty_orchestrator.errors import HostCrash, HostTimeout
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play, verdict

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]


@pytest.mark.parametrize("moment", [2.5, 9.0, 14.5])
@pytest.mark.parametrize("lane", [Lane.DONE, Lane.APPROVED])
async def test_a_drained_run_that_completed_everything_ends_well(
    stage: Make, lane: Lane, moment: float
) -> None:
    mission = stage(
        {"WP01": (), "WP02": ()},
        scripted(implement=Play(seconds=1), WP01_review=Play(seconds=10), WP02_review=Play(seconds=15)),
        policy=longer(finish_lane=lane),
    )
    engine = mission.orchestrator()
    result = await closed(engine, moment, engine.drain)
    assert set(mission.host.lanes.values()) == {lane}
    assert (result.exit_code, dict(result.reasons)) == (0, {})
    last = mission.journal.lines[-1]
    assert isinstance(last, RunEnded)
    assert last.exit_code == 0


async def test_what_an_attempt_took_is_without_its_wait_for_a_worker(stage: Make) -> None:
    mission = stage({"WP01": ()}, lambda r: Play(seconds=10))

    def waits(
        run: Callable[[Attempt], Awaitable[AgentReport]],
    ) -> Callable[[Attempt], Awaitable[AgentReport]]:
        async def waited(attempt: Attempt) -> AgentReport:
            return replace(await run(attempt), waited_s=8.0)

        return waited

    wrapped(mission.agents, "run", waits)
    await mission.run()
    took = [
        one.took_s
        for one in mission.journal.lines
        if isinstance(one, Entry) and isinstance(one.event, AgentExited)
    ]
    assert took == pytest.approx([2.0, 2.0], abs=0.5)


async def test_a_drained_run_that_left_something_ends_by_its_signal(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",)}, lambda r: Play(seconds=10))
    engine = mission.orchestrator()
    assert (await closed(engine, 5, engine.drain)).exit_code == 128 + SIGINT


@pytest.mark.parametrize("signum", [SIGINT, SIGTERM])
async def test_an_interrupt_that_came_when_everything_was_complete_ends_well(
    stage: Make, signum: int
) -> None:
    """The verdict is on its way to the host when the signal comes, and the host takes it."""
    mission = stage({"WP01": ()}, latency_s=10.0)
    clean = stage({"WP01": ()}, latency_s=10.0)
    began = anyio.current_time()
    await clean.run()
    took_s = anyio.current_time() - began
    engine = mission.orchestrator()
    result = await closed(engine, took_s - 5.0, lambda _: engine.interrupt(signum))
    assert mission.host.lanes == {"WP01": Lane.DONE}
    assert result.exit_code == 0


FAILURES = [Outcome.FAILED, Outcome.CRASHED, Outcome.TIMEOUT, Outcome.OVERLOADED, Outcome.AUTH]


@pytest.mark.parametrize("outcome", FAILURES)
@pytest.mark.parametrize("drains", [False, True])
async def test_the_reason_of_what_is_left_is_no_failure_that_was_mended(
    stage: Make, drains: bool, outcome: Outcome
) -> None:
    mission = stage(
        {"WP01": (), "WP02": ("WP01",)},
        scripted(
            WP01_implement=lambda r: Play(outcome=outcome) if r.number == 1 else Play(),
            WP01_review=Play(seconds=1000),
        ),
        policy=longer(impl_agents=("ada", "eve")),
    )
    engine = mission.orchestrator()
    result = await closed(engine, 100, engine.drain if drains else engine.interrupt)
    told = result.reasons["WP02" if drains else "WP01"]
    assert outcome.value not in told
    assert "ended" not in told


async def test_the_reason_of_what_is_left_is_no_review_that_was_repeated(stage: Make) -> None:
    def review(request: AttemptRequest) -> Play:
        return Play(text="no verdict") if request.number == 2 else Play(seconds=1000)

    mission = stage({"WP01": ()}, scripted(review=review))
    engine = mission.orchestrator()
    result = await closed(engine, 50, engine.interrupt)
    assert "cannot be used" not in result.reasons["WP01"]


async def test_the_reason_of_what_is_left_is_no_refusal_that_passed(stage: Make) -> None:
    mission = stage({"WP01": ()}, scripted(implement=Play(seconds=1000)))
    mission.host.fail_next("start-implementation", HostCrash("start-implementation", "boom"))
    engine = mission.orchestrator()
    result = await closed(engine, 50, engine.interrupt)
    assert "boom" not in result.reasons["WP01"]


async def test_after_the_end_nobody_is_said_to_wait_for_what_no_run_holds(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ()}, scripted(implement=Play(seconds=100)))
    engine = mission.orchestrator(max_per_agent={"ada": 1})
    result = await closed(engine, 50, engine.interrupt)
    assert all("at most 1 at once" not in one for one in result.reasons.values())


async def test_a_rejection_that_was_mended_is_not_given_to_the_implementer_of_a_retry(stage: Make) -> None:
    """The rework was submitted, its review gave no verdict; a person retries with another reason."""

    def review(request: AttemptRequest) -> Play:
        if request.number == 2:
            return Play(text=verdict(request, "changes_requested", "rename the thing"))
        return Play(text="no verdict at all")

    mission = stage({"WP01": ()}, scripted(review=review))
    assert (await mission.run()).exit_code == 1
    assert "rename the thing" in mission.prompts_of("WP01", Role.IMPLEMENT)[1]
    await retried(mission, "")

    def rejects_another(request: AttemptRequest) -> Play:
        rejects = request.role is Role.REVIEW and len(attempts(mission, role=Role.IMPLEMENT)) == 2
        return Play(text=verdict(request, "changes_requested", "say why")) if rejects else Play()

    mission.agents.script = rejects_another
    assert (await mission.run()).exit_code == 0
    last = mission.prompts_of("WP01", Role.IMPLEMENT)[2]
    assert "say why" in last
    assert "rename the thing" not in last


async def test_a_rejection_that_parked_it_is_given_to_the_implementer_of_a_retry(stage: Make) -> None:
    def review(request: AttemptRequest) -> Play:
        return Play(text=verdict(request, "changes_requested", f"mend {chr(96 + request.number) * 4}"))

    mission = stage({"WP01": ()}, scripted(review=review), policy=longer(max_review_cycles=2))
    assert (await mission.run()).exit_code == 1
    mission.host.lanes["WP01"] = Lane.IN_PROGRESS
    await retried(mission, "look at the docs")
    mission.agents.script = scripted()
    assert (await mission.run()).exit_code == 0
    last = mission.prompts_of("WP01", Role.IMPLEMENT)[2]
    assert "mend dddd" in last
    assert "mend bbbb" not in last
    assert "look at the docs" in last


async def retried(mission: Stage, note: str) -> None:
    """Do what `retry` does to the journal."""
    await mission.journal.append(Entry(datetime(2026, 1, 2, tzinfo=UTC), "WP01", Retried(note)))


async def test_a_vote_that_became_void_passes_no_reviewer_over(stage: Make) -> None:
    """Bob and cy approved, ben is broken; the host has moved it back meanwhile: bob is asked again."""
    moved: list[bool] = []

    def script(request: AttemptRequest) -> Play:
        if request.role is Role.IMPLEMENT:
            return Play()
        if request.agent == "ben":
            return Play(outcome=Outcome.AUTH)

        def back() -> None:
            if request.agent == "cy" and not moved:
                moved.append(True)
                mission.host.lanes["WP01"] = Lane.FOR_REVIEW

        return Play(then=back)

    policy = longer(review_agents=("bob", "ben", "cy"), review_quorum=2)
    mission: Stage = stage({"WP01": ()}, script, policy=policy)
    result = await mission.run()
    reviews = attempts(mission, role=Role.REVIEW)
    assert reviews[:3] == ["bob", "ben", "cy"]
    assert reviews[3:4] in ([], ["bob"]), "whoever is asked again, the first one comes first"
    assert result.exit_code == 0


async def test_a_commit_of_somebody_elses_asks_every_reviewer_again(stage: Make) -> None:
    mission = stage({"WP01": ()}, policy=longer(review_agents=("bob", "ben"), review_quorum=2))
    where = await mission.host.where("WP01")

    def wrap(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def then_a_person_commits(*args: Any) -> Any:
            found = await original(*args)
            if attempts(mission, role=Role.REVIEW) == ["bob", "ben"]:
                mission.workspaces.commit_by_hand(where)
            return found

        return then_a_person_commits

    wrapped(mission.workspaces, "restore", wrap)
    assert (await mission.run()).exit_code == 0
    assert attempts(mission, role=Role.REVIEW) == ["bob", "ben", "bob", "ben"]


@pytest.mark.parametrize("outcome", [Outcome.OVERLOADED, Outcome.RATE_LIMITED])
@pytest.mark.parametrize(
    "error",
    [HostCrash("start-review", "boom"), HostTimeout("start-review", "120 s")],
    ids=["crash", "timeout"],
)
async def test_an_overloaded_reviewer_is_left_alone_though_the_host_lost_the_start_of_its_review(
    stage: Make, error: Exception, outcome: Outcome
) -> None:
    starts: list[float] = []

    def review(request: AttemptRequest) -> Play:
        starts.append(anyio.current_time())
        return Play(outcome=outcome) if len(starts) == 1 else Play()

    mission = stage({"WP01": ()}, scripted(review=review), policy=longer(retry_base_s=100.0))
    mission.host.fail_next("start-review", error)
    assert (await mission.run()).exit_code == 0
    assert starts[1] - starts[0] >= (60.0 if outcome is Outcome.RATE_LIMITED else 80.0)
    assert len(events(mission, AgentExited)) == 3
