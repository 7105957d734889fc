"""Our runners keep what every runner promises, and the suite finds those that do not."""

from collections import defaultdict
from dataclasses import replace
from itertools import count
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from tests.contract.mutants import is_kept

from spec_kitty_orchestrator.agents.function import FunctionAgent
from spec_kitty_orchestrator.agents.spec import Agent, AgentSettings
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Outcome, PolicyMetadata, Role, Workspace
from spec_kitty_orchestrator.machine.runner import LocalAgents
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing import (
    AgentContract,
    FakeWorkspaces,
    HeldAgent,
    Play,
    ProgramStage,
    RunnerContract,
    RunnerStage,
    ScriptedAgents,
)


@pytest.mark.usefixtures("never_blocks")
class TestLocalAgents(RunnerContract):
    @pytest.fixture
    async def stage(self, tmp_path: Path) -> RunnerStage:
        async def make(repository: Path, agent: HeldAgent) -> LocalAgents:
            agents = {agent.name: (agent, AgentSettings())}
            return LocalAgents(repository, agents, timeouts=dict.fromkeys(Role, 60.0), version="1")

        return await ProgramStage(tmp_path, make).open()


class FunctionStage:
    """Functions of this process, which end with it; each attempt is known by its worktree."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._requests: dict[Path, AttemptRequest] = {}
        self._called: list[str] = []
        self._begun: dict[str, anyio.Event] = defaultdict(anyio.Event)
        self._released: dict[str, anyio.Event] = defaultdict(anyio.Event)
        self.runner = self._made()

    def _made(self) -> LocalAgents:
        agents = {"mine": (FunctionAgent(self._work).named("mine"), AgentSettings())}
        return LocalAgents(self._root, agents, timeouts=dict.fromkeys(Role, 60.0), version="1")

    async def _work(self, prompt: str, workspace: Path, role: Role) -> str:
        attempt_id = self._requests[workspace].id
        self._called.append(attempt_id)
        await anyio.Path(workspace, "made").touch()
        self._begun[attempt_id].set()
        await self._released[attempt_id].wait()
        return prompt

    async def request(self, role: Role = Role.IMPLEMENT) -> AttemptRequest:
        number = len(self._requests) + 1
        place = self._root / f"lane-{number}"
        await anyio.Path(place).mkdir()
        workspace = Workspace(str(place), "", f"lane-{number}")
        self._requests[place] = AttemptRequest(
            f"id-{number}", "demo", f"WP{number:02}", 1, role, "mine", workspace, f"do {number}"
        )
        return self._requests[place]

    async def begun(self, attempt_id: str) -> None:
        await self._begun[attempt_id].wait()

    async def release(self, attempt_id: str) -> None:
        self._released[attempt_id].set()

    async def runs(self, attempt_id: str) -> int:
        return self._called.count(attempt_id)

    async def worked(self, request: AttemptRequest) -> bool:
        return await anyio.Path(request.workspace.path, "made").exists()

    async def crash(self) -> None:
        self.runner = self._made()


@pytest.mark.usefixtures("never_blocks")
class TestFunctions(RunnerContract):
    outlives = False

    @pytest.fixture
    async def stage(self, tmp_path: Path) -> RunnerStage:
        return FunctionStage(tmp_path)


class ScriptedStage:
    """Agents in memory, which outlive every crash."""

    def __init__(self, runner: ScriptedAgents) -> None:
        self.runner = runner
        self._released: dict[str, anyio.Event] = {}
        self._numbers = count(1)
        runner.script = lambda request: Play(text=request.prompt, until=self._end(request.id))

    def _end(self, attempt_id: str) -> anyio.Event:
        return self._released.setdefault(attempt_id, anyio.Event())

    async def request(self, role: Role = Role.IMPLEMENT) -> AttemptRequest:
        number = next(self._numbers)
        workspace = Workspace(f"/lane-{number}", "", f"lane-{number}")
        return AttemptRequest(f"id-{number}", "demo", f"WP{number:02}", 1, role, "bot", workspace, "do it")

    async def begun(self, attempt_id: str) -> None:
        while attempt_id not in self.runner.running:
            await anyio.lowlevel.checkpoint()

    async def release(self, attempt_id: str) -> None:
        self._end(attempt_id).set()

    async def runs(self, attempt_id: str) -> int:
        return self.runner.runs.get(attempt_id, 0)

    async def worked(self, request: AttemptRequest) -> bool:
        return bool(self.runner.workspaces.tree(request.workspace).dirty)

    async def crash(self) -> None:
        self.runner.restart()


class TestScriptedAgents(RunnerContract):
    @pytest.fixture
    def stage(self) -> RunnerStage:
        return ScriptedStage(ScriptedAgents(FakeWorkspaces()))


class TestHeldAgent(AgentContract):
    @pytest.fixture
    def agent(self, tmp_path: Path) -> Agent:
        return HeldAgent(tmp_path)


class Loose(ScriptedAgents):
    """Allows what the host bans."""

    def policy(self, agent: str, role: Role) -> PolicyMetadata:
        return replace(super().policy(agent, role), dangerous_flags=("--yolo",))


class Eager(ScriptedAgents):
    """Starts what is opened."""

    async def open(self, request: AttemptRequest) -> Attempt:
        attempt = await super().open(request)
        self._start(attempt)
        return attempt


class Untidy(ScriptedAgents):
    """Writes the logs of all attempts into one directory."""

    async def open(self, request: AttemptRequest) -> Attempt:
        return replace(await super().open(request), directory="/logs")


class Forgetful(ScriptedAgents):
    """Does not know after a crash what it ran."""

    def restart(self) -> None:
        super().restart()
        self._started.clear()
        self._reports.clear()


class Repeating(ScriptedAgents):
    """Runs an attempt for each call."""

    async def run(self, attempt: Attempt) -> AgentReport:
        self._reports.pop(attempt.id, None)
        self._started.pop(attempt.id, None)
        return await super().run(attempt)


class Serial(ScriptedAgents):
    """Runs one attempt at a time."""

    def __init__(self, workspaces: FakeWorkspaces) -> None:
        super().__init__(workspaces)
        self._turn = anyio.Lock()

    async def run(self, attempt: Attempt) -> AgentReport:
        async with self._turn:
            return await super().run(attempt)


class Clingy(ScriptedAgents):
    """Takes an agent for stopped whose caller was cancelled."""

    async def run(self, attempt: Attempt) -> AgentReport:
        try:
            return await super().run(attempt)
        except anyio.get_cancelled_exc_class():
            self._reports[attempt.id] = AgentReport(Outcome.CANCELED)
            raise


class Sweeping(ScriptedAgents):
    """Stops all for one."""

    async def stop(self, attempt: Attempt, grace_s: float) -> None:
        await self.stop_all(grace_s)


class Late(ScriptedAgents):
    """Begins what was stopped before."""

    async def stop(self, attempt: Attempt, grace_s: float) -> None:
        if attempt.id in self._started:
            await super().stop(attempt, grace_s)


class Busy(ScriptedAgents):
    """Goes on with new attempts after all were stopped."""

    async def stop_all(self, grace_s: float) -> None:
        for attempt_id in self.running:
            self._stops[attempt_id].set()


class Idle(ScriptedAgents):
    """Leaves the work elsewhere."""

    def _end(self, request: AttemptRequest, play: Play) -> AgentReport:
        return super()._end(request, replace(play, edits=()))


@pytest.mark.parametrize(
    ("mutant", "promise"),
    [
        (Loose, "test_what_an_agent_may_do_is_told_in_words_that_the_host_takes"),
        (Eager, "test_opening_an_attempt_starts_nothing"),
        (Untidy, "test_each_attempt_has_a_directory_of_its_own"),
        (Idle, "test_the_work_is_in_the_workspace_when_the_attempt_has_ended"),
        (Forgetful, "test_an_attempt_at_work_at_a_crash_is_waited_for_by_the_next_start"),
        (Repeating, "test_an_attempt_that_has_ended_is_not_run_again"),
        (Serial, "test_attempts_run_beside_each_other"),
        (Clingy, "test_whoever_was_canceled_and_asks_again_gets_the_one_run"),
        (Sweeping, "test_one_attempt_is_stopped_and_the_others_go_on"),
        (Late, "test_an_attempt_that_was_stopped_before_it_began_never_begins"),
        (Busy, "test_stop_all_stops_what_runs_and_lets_nothing_begin_before_the_next_start"),
    ],
)
def test_a_runner_that_breaks_a_promise_is_found(
    monkeypatch: pytest.MonkeyPatch, mutant: type[ScriptedAgents], promise: str
) -> None:
    monkeypatch.setattr("spec_kitty_orchestrator.testing.contracts.runner.LIMIT_S", 0.3)
    fixtures = {"stage": lambda: ScriptedStage(mutant(FakeWorkspaces()))}
    assert not is_kept(RunnerContract, promise, fixtures)
