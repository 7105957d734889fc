"""What every `ports.AgentRunner` promises: an attempt runs once, and its report is kept, whatever dies."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import anyio
import pytest

from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Outcome, Role
from spec_kitty_orchestrator.ports import AgentRunner, AttemptRequest
from spec_kitty_orchestrator.testing.contracts import LIMIT_S, Contract
from spec_kitty_orchestrator.testing.lane_rules import policy_error

__all__ = ["RunnerContract", "RunnerStage"]

GRACE_S = 2.0
"""How long an agent may take that is told to stop."""


class RunnerStage(Protocol):
    """What a runner is tried on, given by its author; `ProgramStage` is one for runners that start programs.

    Its agent changes something in its workspace when it begins, works until it is released, and ends with its
    prompt as its last words and the outcome `ok`.
    """

    @property
    def runner(self) -> AgentRunner:
        """The runner that is tried."""
        ...

    async def request(self, role: Role = Role.IMPLEMENT) -> AttemptRequest:
        """Return a request for a new attempt, in a workspace that no other attempt has."""
        ...

    async def begun(self, attempt_id: str) -> None:
        """Wait until the agent of an attempt works."""
        ...

    async def release(self, attempt_id: str) -> None:
        """Let the agent of an attempt end by itself, also of one that has not begun."""
        ...

    async def runs(self, attempt_id: str) -> int:
        """Return how often an agent was started for an attempt."""
        ...

    async def worked(self, request: AttemptRequest) -> bool:
        """Tell whether the work of the agent is in the workspace of the request."""
        ...

    async def crash(self) -> None:
        """Make `runner` one that the next start of a run would make, as if this process had been killed."""
        ...


class RunnerContract(Contract):
    """The suite for a `ports.AgentRunner`.

    A subclass gives the fixture `stage`.

    Attributes:
        outlives: whether an attempt goes on when the process of its runner is killed; else it is lost then.
    """

    outlives = True

    @pytest.fixture
    def stage(self) -> RunnerStage:
        """Return what the runner is tried on, with a runner that has done nothing yet."""
        raise NotImplementedError("give the class a fixture stage that returns a RunnerStage")

    async def test_what_an_agent_may_do_is_told_in_words_that_the_host_takes(
        self, stage: RunnerStage
    ) -> None:
        """Of each role."""
        request = await stage.request()
        for role in Role:
            assert not policy_error(stage.runner.policy(request.agent, role))

    async def test_opening_an_attempt_starts_nothing(self, stage: RunnerStage) -> None:
        """The attempt is journaled before its process is there."""
        request = await stage.request()
        attempt = await _open(stage, request)
        assert (attempt.id, attempt.role, attempt.agent) == (request.id, request.role, request.agent)
        assert (attempt.head, attempt.tree) == (request.head, request.tree)
        assert attempt.session in ("", request.session)
        assert await stage.runs(attempt.id) == 0

    async def test_each_attempt_has_a_directory_of_its_own(self, stage: RunnerStage) -> None:
        """No log is written over."""
        attempts = [await _open(stage, await stage.request()) for _ in range(3)]
        assert len({one.directory for one in attempts}) == 3

    async def test_an_agent_gets_its_prompt_and_its_last_words_are_in_the_report(
        self, stage: RunnerStage
    ) -> None:
        """Both whole."""
        request = await stage.request()
        attempt = await _open(stage, request)
        await stage.release(attempt.id)
        report = await _run(stage, attempt)
        assert (report.outcome, report.text) == (Outcome.OK, request.prompt)

    async def test_the_work_is_in_the_workspace_when_the_attempt_has_ended(self, stage: RunnerStage) -> None:
        """Wherever the agent ran."""
        request = await stage.request()
        attempt = await _open(stage, request)
        await stage.release(attempt.id)
        await _run(stage, attempt)
        assert await stage.worked(request)

    async def test_an_attempt_that_has_ended_is_not_run_again(self, stage: RunnerStage) -> None:
        """Neither by the same runner nor by that of the next start."""
        attempt = await _open(stage, await stage.request())
        await stage.release(attempt.id)
        first = await _run(stage, attempt)
        again = await _run(stage, attempt)
        await stage.crash()
        assert await _run(stage, attempt) == again == first
        assert await stage.runs(attempt.id) == 1

    async def test_two_calls_at_once_are_one_run(self, stage: RunnerStage) -> None:
        """Both get its report."""
        attempt = await _open(stage, await stage.request())
        async with _running(stage, attempt) as one, _running(stage, attempt) as other:
            await stage.begun(attempt.id)
            await stage.release(attempt.id)
        assert one() == other()
        assert one().outcome is Outcome.OK
        assert await stage.runs(attempt.id) == 1

    async def test_attempts_run_beside_each_other(self, stage: RunnerStage) -> None:
        """Each ends when its own agent does."""
        first, second = [await _open(stage, await stage.request()) for _ in range(2)]
        async with _running(stage, first) as early:
            async with _running(stage, second) as late:
                await stage.begun(first.id)
                await stage.begun(second.id)
                await stage.release(second.id)
            assert late().outcome is Outcome.OK
            await stage.release(first.id)
        assert early().outcome is Outcome.OK

    async def test_an_attempt_that_was_opened_before_a_crash_can_run_after_it(
        self, stage: RunnerStage
    ) -> None:
        """It had not begun."""
        attempt = await _open(stage, await stage.request())
        await stage.crash()
        await stage.release(attempt.id)
        assert (await _run(stage, attempt)).outcome is Outcome.OK
        assert await stage.runs(attempt.id) == 1

    async def test_whoever_was_canceled_and_asks_again_gets_the_one_run(self, stage: RunnerStage) -> None:
        """Cancellation is of the caller, not of the agent."""
        attempt = await _open(stage, await stage.request())
        await _cut_off(stage, attempt)
        await stage.release(attempt.id)
        await self._finds_the_one_run(stage, attempt)

    async def test_an_attempt_at_work_at_a_crash_is_waited_for_by_the_next_start(
        self, stage: RunnerStage
    ) -> None:
        """It is re-attached, and never run twice."""
        attempt = await _open(stage, await stage.request())
        await _cut_off(stage, attempt)
        await stage.crash()
        if not self.outlives:
            await stage.release(attempt.id)
            await self._finds_the_one_run(stage, attempt)
            return
        async with _running(stage, attempt) as report:
            await stage.release(attempt.id)
        assert report().outcome is Outcome.OK
        assert await stage.runs(attempt.id) == 1

    async def test_an_attempt_that_ended_while_nobody_looked_is_read(self, stage: RunnerStage) -> None:
        """Its report is the same as if somebody had waited."""
        attempt = await _open(stage, await stage.request())
        await _cut_off(stage, attempt)
        await stage.release(attempt.id)
        await stage.crash()
        await self._finds_the_one_run(stage, attempt)

    async def test_one_attempt_is_stopped_and_the_others_go_on(self, stage: RunnerStage) -> None:
        """What was stopped stays so at the next start."""
        unwanted, wanted = [await _open(stage, await stage.request()) for _ in range(2)]
        async with _running(stage, wanted) as kept:
            async with _running(stage, unwanted) as stopped:
                await stage.begun(wanted.id)
                await stage.begun(unwanted.id)
                await stage.runner.stop(unwanted, GRACE_S)
            await stage.release(wanted.id)
        assert (stopped().outcome, kept().outcome) == (Outcome.CANCELED, Outcome.OK)
        await stage.crash()
        assert await _run(stage, unwanted) == stopped()
        assert await stage.runs(unwanted.id) == 1

    async def test_an_attempt_that_was_stopped_before_it_began_never_begins(self, stage: RunnerStage) -> None:
        """An order can be quicker than a process."""
        attempt = await _open(stage, await stage.request())
        with anyio.fail_after(LIMIT_S):
            await stage.runner.stop(attempt, GRACE_S)
        assert (await _run(stage, attempt)).outcome is Outcome.CANCELED
        assert await stage.runs(attempt.id) == 0

    async def test_to_stop_what_has_ended_changes_nothing(self, stage: RunnerStage) -> None:
        """Its report is kept."""
        attempt = await _open(stage, await stage.request())
        await stage.release(attempt.id)
        report = await _run(stage, attempt)
        with anyio.fail_after(LIMIT_S):
            await stage.runner.stop(attempt, GRACE_S)
            await stage.runner.stop_all(GRACE_S)
        assert await _run(stage, attempt) == report

    async def test_stop_all_stops_what_runs_and_lets_nothing_begin_before_the_next_start(
        self, stage: RunnerStage
    ) -> None:
        """As a signal does."""
        first, second, third = [await _open(stage, await stage.request()) for _ in range(3)]
        async with _running(stage, first) as one, _running(stage, second) as other:
            await stage.begun(first.id)
            await stage.begun(second.id)
            await stage.runner.stop_all(GRACE_S)
        assert (one().outcome, other().outcome) == (Outcome.CANCELED, Outcome.CANCELED)
        assert (await _run(stage, third)).outcome is Outcome.CANCELED
        assert await stage.runs(third.id) == 0
        await stage.crash()
        await stage.release(third.id)
        assert (await _run(stage, third)).outcome is Outcome.OK

    async def _finds_the_one_run(self, stage: RunnerStage, attempt: Attempt) -> None:
        report = await _run(stage, attempt)
        if self.outlives:
            assert report.outcome is Outcome.OK
        else:
            assert report.outcome in (Outcome.LOST, Outcome.CANCELED)
        assert await _run(stage, attempt) == report
        assert await stage.runs(attempt.id) == 1


async def _open(stage: RunnerStage, request: AttemptRequest) -> Attempt:
    with anyio.fail_after(LIMIT_S):
        return await stage.runner.open(request)


async def _run(stage: RunnerStage, attempt: Attempt) -> AgentReport:
    with anyio.fail_after(LIMIT_S):
        return await stage.runner.run(attempt)


@asynccontextmanager
async def _running(stage: RunnerStage, attempt: Attempt) -> AsyncIterator[Callable[[], AgentReport]]:
    """Run an attempt beside the body; afterwards the callable gives its report."""
    reports: list[AgentReport] = []

    async def collect() -> None:
        reports.append(await stage.runner.run(attempt))

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collect)
            yield lambda: reports[0]


async def _cut_off(stage: RunnerStage, attempt: Attempt) -> None:
    """Run an attempt until its agent works, and be cancelled."""
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stage.runner.run, attempt)
            await stage.begun(attempt.id)
            tasks.cancel_scope.cancel()
