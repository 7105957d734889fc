"""Attempts of agents that are functions of this program: called once, bounded, kept, and lost with it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from tests.machine.attempts import LIMIT_S, request_of, run, running, texts

from spec_kitty_orchestrator.agents.function import Done, FunctionAgent, Review
from spec_kitty_orchestrator.agents.spec import AgentSettings
from spec_kitty_orchestrator.core.implementing import read_report
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Usage
from spec_kitty_orchestrator.core.verdict import Finding, Ruling, read_verdict
from spec_kitty_orchestrator.errors import PreflightError, UsageError, WorkspaceError
from spec_kitty_orchestrator.machine import function_call
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.machine.runner import LocalAgents

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("never_blocks")]


class Calls:
    """A function that counts how often it was called, waits for the test if told so, and answers."""

    def __init__(self, answer: object = "fine", *, waits: bool = False, deaf: bool = False) -> None:
        self.answer, self.deaf = answer, deaf
        self.given: list[tuple[str, Path, Role]] = []
        self.called, self.go_on, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.cancelled = 0
        if not waits:
            self.go_on.set()

    async def __call__(self, prompt: str, workspace: Path, role: Role) -> Any:
        self.given.append((prompt, workspace, role))
        self.called.set()
        try:
            while not self.go_on.is_set():
                try:
                    await self.go_on.wait()
                except asyncio.CancelledError:
                    self.cancelled += 1
                    if not self.deaf:
                        raise
        finally:
            self.ended.set()
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def runner_of(root: Path, function: Any, s: float = 60, **more: Any) -> LocalAgents:
    agents = {"py": (FunctionAgent(function).named("py"), AgentSettings())}
    timeouts = {Role.IMPLEMENT: s, Role.REVIEW: s}
    return LocalAgents(root, agents, timeouts=timeouts, version="0.2.0", **more)


async def answered(root: Path, attempt_id: str, role: Role, answer: object) -> AgentReport:
    runner = runner_of(root, Calls(answer))
    return await run(runner, await runner.open(request_of(root, attempt_id, role=role)))


async def test_opening_names_the_function_and_calls_nothing(tmp_path: Path, attempt_id: str) -> None:
    function = Calls()
    attempt = await runner_of(tmp_path, function).open(request_of(tmp_path, attempt_id, session="s"))
    record = json.loads((Path(attempt.directory) / "command.json").read_text())
    assert (record["function"], record["argv"]) == (True, ["tests.machine.test_function_agents:Calls"])
    assert (attempt.session, attempt.tells_cost, function.given) == ("", False, [])
    assert sorted(texts(Path(attempt.directory))) == ["command.json", "prompt.md"]


async def test_it_gets_the_prompt_the_worktree_and_the_role_and_what_it_says_is_kept(
    tmp_path: Path, attempt_id: str
) -> None:
    function = Calls("It is\ndone.")
    runner = runner_of(tmp_path, function)
    attempt = await runner.open(request_of(tmp_path, attempt_id))

    report = await run(runner, attempt)
    again = await run(runner_of(tmp_path, function), attempt)

    assert report == again == AgentReport(Outcome.OK, "It is\ndone.")
    assert function.given == [("the prompt", tmp_path, Role.IMPLEMENT)]
    kept = texts(Path(attempt.directory))
    assert sorted(kept) == ["command.json", "exit", "prompt.md", "result.json", "stderr.log", "stdout.log"]
    assert (kept["stdout.log"], kept["stderr.log"], kept["exit"]) == ("It is\ndone.\n", "", "0\n")


async def test_a_review_is_bound_to_the_attempt_and_the_commit_that_it_was_given(
    tmp_path: Path, attempt_id: str
) -> None:
    answer = Review(
        "changes_requested", "No test.", [Finding("high", "Test it", "a.py", 3)], Usage(1, 2, 0.5)
    )
    report = await answered(tmp_path, attempt_id, Role.REVIEW, answer)
    verdict = read_verdict(report.text, attempt_id=attempt_id, head="abc", reviewer="py")
    assert (verdict.ruling, verdict.summary) == (Ruling.CHANGES_REQUESTED, "No test.")
    assert verdict.findings == (Finding("high", "Test it", "a.py", 3),)
    assert report.usage == Usage(1, 2, 0.5)
    kept = texts(tmp_path / ".kittify/logs/034-demo/WP01/01-review-py")
    assert kept["review.md"] == report.text
    assert kept["stdout.log"] == f"No test.\n{report.text}\n"


@pytest.mark.parametrize("answer", [Review("changes_requested"), Review("fine"), "All is well."])  # type: ignore[arg-type]
async def test_what_is_no_verdict_is_none(tmp_path: Path, attempt_id: str, answer: object) -> None:
    report = await answered(tmp_path, attempt_id, Role.REVIEW, answer)
    verdict = read_verdict(report.text, attempt_id=attempt_id, head="abc", reviewer="py")
    assert verdict.ruling is Ruling.UNUSABLE


async def test_an_implementer_tells_what_is_ticked_and_why_nothing_had_to_change(
    tmp_path: Path, attempt_id: str
) -> None:
    answer = Done("Looked.", ["T001"], "It was there.", Usage(3, 4))
    report = await answered(tmp_path, attempt_id, Role.IMPLEMENT, answer)
    told = read_report(report.text, attempt_id)
    assert (told.summary, told.subtasks_done, told.no_change_reason) == (
        "Looked.",
        ("T001",),
        "It was there.",
    )
    assert (report.outcome, report.usage) == (Outcome.OK, Usage(3, 4))


QUOTA = AgentReport(Outcome.RATE_LIMITED, detail="used up", retry_after_s=60.0)


@pytest.mark.parametrize(
    ("role", "answer", "outcome", "detail"),
    [
        (Role.IMPLEMENT, QUOTA, Outcome.RATE_LIMITED, "used up"),
        (Role.REVIEW, AgentReport(Outcome.LOST), Outcome.CRASHED, "it returned a report of lost, which only"),
        (Role.IMPLEMENT, " \n", Outcome.FAILED, "it returned an empty text"),
        (
            Role.IMPLEMENT,
            None,
            Outcome.INVALID_REQUEST,
            "it returned NoneType: to implement, a function returns",
        ),
        (Role.IMPLEMENT, Review("approved"), Outcome.INVALID_REQUEST, "it returned Review: to implement"),
        (Role.REVIEW, Done("x"), Outcome.INVALID_REQUEST, "it returned Done: to review"),
        (Role.IMPLEMENT, Done(object()), Outcome.CRASHED, "what it returned cannot be read: TypeError"),  # type: ignore[arg-type]
        (Role.IMPLEMENT, Done(usage=Usage(-1)), Outcome.CRASHED, "its tokens and cost must be finite"),
        (Role.REVIEW, AgentReport("ok"), Outcome.CRASHED, "its outcome is not an Outcome: 'ok'"),  # type: ignore[arg-type]
        (Role.IMPLEMENT, ValueError("no key"), Outcome.CRASHED, "ValueError: no key"),
        (Role.IMPLEMENT, SystemExit(3), Outcome.CRASHED, "RuntimeError: it wanted to end the program"),
        (Role.IMPLEMENT, asyncio.CancelledError(), Outcome.CRASHED, "it was cancelled by its own program"),
    ],
)
async def test_what_is_no_result_is_a_report_that_says_why(
    tmp_path: Path, attempt_id: str, role: Role, answer: object, outcome: Outcome, detail: str
) -> None:
    report = await answered(tmp_path, attempt_id, role, answer)
    assert (report.outcome, report.text) == (outcome, "")
    assert report.detail.startswith(detail)
    log = next((tmp_path / ".kittify/logs/034-demo/WP01").glob("*/stderr.log")).read_text()
    assert detail.rpartition("read: ")[2] in log
    assert ("Traceback" in log) == (
        report.detail.partition(":")[0] in ("ValueError", "RuntimeError") or "TypeE" in detail
    )


async def test_a_function_that_is_not_async_is_told_so(tmp_path: Path, attempt_id: str) -> None:
    runner = runner_of(tmp_path, lambda *_: "done")
    report = await run(runner, await runner.open(request_of(tmp_path, attempt_id)))
    assert (report.outcome, report.detail.partition(":")[0]) == (
        Outcome.INVALID_REQUEST,
        "the function is not async",
    )


async def test_on_another_event_loop_no_function_is_called(tmp_path: Path, attempt_id: str) -> None:
    function = Calls()

    async def call() -> AgentReport:
        runner = runner_of(tmp_path, function)
        return await run(runner, await runner.open(request_of(tmp_path, attempt_id)))

    report = await anyio.to_thread.run_sync(partial(anyio.run, call, backend="trio"))
    assert (report.outcome, function.given) == (Outcome.INVALID_REQUEST, [])
    assert "asyncio only" in report.detail


@pytest.mark.parametrize("says", ["Key: hunter22-secret.", ValueError("no hunter22-secret")])
async def test_no_secret_leaves_in_what_a_function_says(
    tmp_path: Path, attempt_id: str, says: object
) -> None:
    runner = runner_of(tmp_path, Calls(says), redactor=Redactor(("hunter22-secret",)))
    attempt = await runner.open(request_of(tmp_path, attempt_id, prompt="x"))
    report = await run(runner, attempt)
    kept = texts(Path(attempt.directory))
    assert "hunter22" not in repr(report) + "".join(kept.values())
    assert "[redacted]" in kept["stdout.log"] + kept["stderr.log"]


async def test_at_its_limit_of_time_it_is_cancelled(tmp_path: Path, attempt_id: str) -> None:
    function = Calls(waits=True)
    runner = runner_of(tmp_path, function, s=0.01)
    report = await run(runner, await runner.open(request_of(tmp_path, attempt_id)))
    assert (report.outcome, report.detail) == (Outcome.TIMEOUT, "no result within 0.01s")
    assert (function.cancelled, function.ended.is_set()) == (1, True)


async def test_stopping_ends_every_attempt_and_begins_no_other(tmp_path: Path, attempt_id: str) -> None:
    function = Calls(waits=True)
    runner = runner_of(tmp_path, function)
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    later = await runner.open(request_of(tmp_path, f"{attempt_id}2", wp_id="WP02"))
    async with running(runner, attempt) as report:
        await function.called.wait()
        await runner.stop_all(5.0)
    assert (report().outcome, report().detail) == (Outcome.CANCELED, "the run was stopped")
    assert (await run(runner, later)).detail == "the run was stopped before it began"
    assert function.ended.is_set()


@pytest.mark.parametrize(("role", "outcome"), [(Role.IMPLEMENT, Outcome.OK), (Role.REVIEW, Outcome.CANCELED)])
async def test_what_a_function_says_when_it_is_cancelled_counts_as_work_and_never_as_a_verdict(
    tmp_path: Path, attempt_id: str, role: Role, outcome: Outcome
) -> None:
    function = Calls(waits=True)

    async def stubborn(prompt: str, workspace: Path, role: Role) -> str:
        try:
            await function(prompt, workspace, role)
        except asyncio.CancelledError:
            return "saved"
        return "never"

    runner = runner_of(tmp_path, stubborn)
    attempt = await runner.open(request_of(tmp_path, attempt_id, role=role))
    async with running(runner, attempt) as report:
        await function.called.wait()
        await runner.stop_all(5.0)
    assert report().outcome is outcome


async def test_one_that_does_not_end_holds_the_end_of_a_run_no_longer_than_the_grace(
    tmp_path: Path, attempt_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(function_call, "KILL_WAIT_S", 0.01)
    function = Calls(waits=True, deaf=True)
    runner = runner_of(tmp_path, function)
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    async with running(runner, attempt) as report:
        await function.called.wait()
        await runner.stop_all(0.01)
    assert (report().outcome, function.cancelled) == (Outcome.CANCELED, 2)
    assert report().detail == (
        f"the run was stopped; it did not end when it was cancelled, and may still work in {tmp_path}"
    )
    function.go_on.set()
    with anyio.fail_after(LIMIT_S):
        await function.ended.wait()


async def test_one_that_does_not_end_at_its_limit_keeps_its_worktree_until_it_does(
    tmp_path: Path, attempt_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STOP_GRACE_S", "KILL_WAIT_S", "LOOK_S"):
        monkeypatch.setattr(function_call, name, 0.01)
    function, said = Calls(waits=True, deaf=True), list[str]()

    def say(line: str) -> None:
        said.append(line)
        asyncio.get_running_loop().call_later(0.05, function.go_on.set)

    runner = runner_of(tmp_path, function, s=0.01, say=say)
    report = await run(runner, await runner.open(request_of(tmp_path, attempt_id, role=Role.REVIEW)))
    assert said == ["WP01: py was cancelled and does not end; WP01 waits for it"]
    assert (report.outcome, function.ended.is_set()) == (Outcome.TIMEOUT, True)


async def test_the_next_run_waits_for_one_that_ignored_the_end_of_its_run_and_works_there(
    tmp_path: Path, attempt_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KILL_WAIT_S", "LOOK_S"):
        monkeypatch.setattr(function_call, name, 0.01)
    deaf, function, said = Calls(waits=True, deaf=True), Calls(), list[str]()
    runner = runner_of(tmp_path, deaf)
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    async with running(runner, attempt):
        await deaf.called.wait()
        await runner.stop_all(0.01)

    def say(line: str) -> None:
        said.append(line)
        assert not function.given
        asyncio.get_running_loop().call_soon(deaf.go_on.set)

    following = runner_of(tmp_path, function, say=say)
    report = await run(following, await following.open(request_of(tmp_path, f"{attempt_id}2")))
    assert (report.outcome, deaf.ended.is_set(), len(function.given)) == (Outcome.OK, True, 1)
    assert [f"still works in {tmp_path}" in line for line in said] == [True]


async def test_who_leaves_a_run_ends_its_function_and_the_attempt_is_lost_and_never_called_again(
    tmp_path: Path, attempt_id: str
) -> None:
    function = Calls(waits=True)
    runner = runner_of(tmp_path, function)
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runner.run, attempt)
            await function.called.wait()
            tasks.cancel_scope.cancel()
    assert function.ended.is_set()
    assert "result.json" not in texts(Path(attempt.directory))

    # The next start may not know the agent.
    other = LocalAgents(tmp_path, {}, timeouts={}, version="0.2.0")
    report = await run(other, attempt)
    assert (report.outcome, len(function.given)) == (Outcome.LOST, 1)
    assert report.detail == "the program that called the function ended, or left the run, before it returned"
    assert await run(runner_of(tmp_path, function), attempt) == report


async def test_a_result_outlives_its_program_and_its_agent(tmp_path: Path, attempt_id: str) -> None:
    runner = runner_of(tmp_path, Calls())
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    report = await run(runner, attempt)
    assert await run(LocalAgents(tmp_path, {}, timeouts={}, version="0.2.0"), attempt) == report


async def test_an_attempt_that_was_never_called_waits_for_its_function(
    tmp_path: Path, attempt_id: str
) -> None:
    function = Calls()
    attempt = await runner_of(tmp_path, function).open(request_of(tmp_path, attempt_id))
    other = LocalAgents(tmp_path, {}, timeouts={}, version="0.2.0")
    report = await run(other, attempt)
    assert (report.outcome, report.detail) == (
        Outcome.CANCELED,
        "it had not begun, and other agents are chosen now",
    )
    assert (await run(runner_of(tmp_path, function), attempt)).outcome is Outcome.OK


async def test_a_missing_worktree_is_an_error_and_the_attempt_can_be_called_later(
    tmp_path: Path, attempt_id: str
) -> None:
    function = Calls()
    runner = runner_of(tmp_path, function)
    place = tmp_path / "lane"
    workspace = request_of(tmp_path, attempt_id).workspace
    workspace = type(workspace)(str(place), workspace.prompt_path)
    attempt = await runner.open(request_of(tmp_path, attempt_id, workspace=workspace))
    with pytest.raises(WorkspaceError, match="lane is missing"):
        await run(runner, attempt)
    place.mkdir()
    assert (await run(runner, attempt)).outcome is Outcome.OK


async def test_the_host_is_told_that_nothing_confines_it(tmp_path: Path) -> None:
    runner = runner_of(tmp_path, Calls())
    runner._sandbox = object()  # type: ignore[assignment]
    told = runner.policy("py", Role.REVIEW)
    assert (told.agent_family, told.sandbox_mode, told.network_mode) == ("py", "none", "full")
    assert runner.executable("py") == "tests.machine.test_function_agents:Calls"


async def test_an_agent_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="agent py"):
        LocalAgents(tmp_path, {}, timeouts={}, version="0.2.0").agent("py")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: FunctionAgent(3), "3 cannot be called"),  # type: ignore[arg-type]
        (lambda: FunctionAgent(Calls(), roles=()), "it needs a role"),
        (lambda: FunctionAgent(Calls(), roles={"reviewer"}), "'reviewer' is not a valid Role"),  # type: ignore[arg-type]
        (lambda: FunctionAgent(Calls(), timeout_s=0), "timeout_s must be more than 0, not 0"),
    ],
)
async def test_what_can_be_no_agent_is_refused_in_a_line(make: Callable[[], object], says: str) -> None:
    with pytest.raises(UsageError, match=f"FunctionAgent: {says}"):
        make()


async def test_a_part_of_a_function_has_the_name_of_the_function(tmp_path: Path) -> None:
    async def ask(key: str, prompt: str, workspace: Path, role: Role) -> str:
        return key + prompt

    asked: Callable[[str, Path, Role], Awaitable[str]] = partial(ask, "key")
    assert str(runner_of(tmp_path, asked).executable("py")).endswith(
        ":test_a_part_of_a_function_has_the_name_of_the_function.<locals>.ask"
    )
