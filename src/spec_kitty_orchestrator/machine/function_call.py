"""One attempt of an agent that is a function of this program: called once, kept like any other attempt.

It is a task of its own, so that one that ignores its cancellation holds nobody who waits for a run's end.
`stdout.log` is there once it may have begun; without `result.json` beside it, its end was never seen.
"""

import asyncio
import inspect
import os
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import anyio.to_thread

from spec_kitty_orchestrator.agents.function import Done, Function, FunctionAgent, Review, report_of
from spec_kitty_orchestrator.agents.spec import PROMPT_FILE
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Outcome, Role
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.log import get_logger
from spec_kitty_orchestrator.machine.attempt_files import keep, scrub
from spec_kitty_orchestrator.machine.files import read_whole, write_private
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.machine.stopping import KILL_WAIT_S, STOP_GRACE_S, Grace, Running
from spec_kitty_orchestrator.quantities import spelled

__all__ = ["Bounds", "call", "lost", "until_left"]

LOOK_S = 1.0
"""How often we look whether the run ends, while we wait for a function that does not."""

# The event loop keeps no task alive. Each has its worktree.
_tasks: dict["asyncio.Task[object]", Path] = {}


@dataclass(frozen=True)
class Bounds:
    """What ends a call.

    Attributes:
        running: how somebody stops it.
        longest_s: how long it may take, in seconds.
        who_stopped: says so, once somebody has.
        run_ends: tells whether nobody may wait any longer for one that does not end.
    """

    running: Running
    longest_s: float
    who_stopped: Callable[[], str]
    run_ends: Callable[[], bool]


async def call(
    agent: FunctionAgent,
    attempt: Attempt,
    workspace: Path,
    bounds: Bounds,
    redactor: Redactor,
    say: Callable[[str], None],
) -> AgentReport:
    """Call the function for an attempt that was never begun, and wait for its end within bounds.

    The report and the files do not hold what `redactor` finds; `say` gets a line about a function that does
    not end. Cancelling ends the function too; its attempt is lost then.

    Raises:
        WorkspaceError: the worktree is missing, or another run has begun the attempt.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        detail = "functions are called on the event loop of asyncio only, and this run has another one"
        return AgentReport(Outcome.INVALID_REQUEST, detail=detail)
    running = bounds.running
    prompt = await anyio.to_thread.run_sync(_begin, Path(attempt.directory), workspace)
    get_logger().info("function called", attempt=attempt.id, agent=attempt.agent)
    running.scope.deadline = anyio.current_time() + bounds.longest_s
    task = asyncio.ensure_future(_answer(agent.function, prompt, workspace, attempt.role))
    _tasks[task] = workspace
    task.add_done_callback(_forget)
    otherwise: tuple[Outcome, str] | None = None
    try:
        with running.scope:
            await asyncio.wait({task})
        if not task.done():
            otherwise = Outcome.CANCELED, bounds.who_stopped()
            if running.grace is None:
                running.grace = Grace(STOP_GRACE_S)
                otherwise = Outcome.TIMEOUT, f"no result within {spelled(bounds.longest_s)}"
            await _cancel(task, running.grace)
            if not task.done() and not bounds.run_ends():
                # Nobody else may work where it still does.
                wp = Path(attempt.directory).parent.name
                say(f"{wp}: {attempt.agent} was cancelled and does not end; {wp} waits for it")
            while not task.done() and not bounds.run_ends():
                await asyncio.wait({task}, timeout=LOOK_S)
        with anyio.CancelScope(shield=True):
            report = await _conclude(attempt, task, workspace, redactor, otherwise)
    finally:
        if not task.done() and otherwise is None:
            await _cancel(task, Grace(STOP_GRACE_S))
    return report


async def until_left(workspace: Path, enough: Callable[[], object], say: Callable[[str], None]) -> None:
    """Wait until no function works in a worktree that ignored the end of its run, or until it is `enough`."""
    told = False
    while not enough() and any(
        place == workspace and not task.get_loop().is_closed() for task, place in list(_tasks.items())
    ):
        if not told:
            say(f"a function of an earlier run does not end, and still works in {workspace}: waiting for it")
        told = True
        await anyio.sleep(LOOK_S)


async def lost(attempt: Attempt, redactor: Redactor) -> AgentReport:
    """Report an attempt whose function began under a program that is gone, or did not wait for its end."""
    detail = "the program that called the function ended, or left the run, before it returned"
    return await keep(attempt, AgentReport(Outcome.LOST, detail=detail), redactor)


def _begin(directory: Path, workspace: Path) -> str:
    """Note that the attempt begins, and return its prompt."""
    if not workspace.is_dir():
        raise WorkspaceError(f"the worktree {workspace} is missing")
    try:
        prompt = read_whole(directory / PROMPT_FILE).decode("utf-8", "replace")
        _make(directory / "stderr.log", 0)
        # Exclusive: whoever else believes that this attempt was never begun fails here.
        _make(directory / "stdout.log", os.O_EXCL)
    except FileExistsError as error:
        raise WorkspaceError(f"another run has started the attempt in {directory}") from error
    except OSError as error:
        raise WorkspaceError(f"cannot begin the attempt in {directory}: {error}") from error
    return prompt


def _make(path: Path, how: int) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | how, 0o600))


async def _answer(function: Function, prompt: str, workspace: Path, role: Role) -> object:
    try:
        answer = function(prompt, workspace, role)
        if not inspect.isawaitable(answer):
            detail = "the function is not async: it returned without having been awaited"
            return AgentReport(Outcome.INVALID_REQUEST, detail=detail)
        return await answer
    except SystemExit as error:
        # It would end the event loop, and with it the run.
        raise RuntimeError(f"it wanted to end the program: {error!r}") from error


def _forget(task: "asyncio.Task[object]") -> None:
    _tasks.pop(task, None)
    if not task.cancelled():
        task.exception()  # of one that nobody waits for any more, asyncio would complain


async def _cancel(task: "asyncio.Task[object]", grace: Grace) -> None:
    """Cancel it once, and again when the grace is over; every wait is bounded."""
    with anyio.CancelScope(shield=True):
        task.cancel()
        if not await grace.outlasts(asyncio.wait({task}), 1.0):
            task.cancel()
            with anyio.move_on_after(KILL_WAIT_S):
                await asyncio.wait({task})


async def _conclude(
    attempt: Attempt,
    task: "asyncio.Task[object]",
    workspace: Path,
    redactor: Redactor,
    otherwise: tuple[Outcome, str] | None,
) -> AgentReport:
    said, trace = "", ""
    if not task.done():
        report = AgentReport(
            Outcome.CRASHED, detail=f"it did not end when it was cancelled, and may still work in {workspace}"
        )
    elif task.cancelled():
        report = AgentReport(
            Outcome.CRASHED, detail="" if otherwise else "it was cancelled by its own program"
        )
    elif (raised := task.exception()) is not None:
        report, trace = await _failure(raised)
    else:
        try:
            answer = task.result()
            report = report_of(answer, attempt)
            said = "\n".join(filter(None, (_summary(answer), report.text)))
        except Exception as error:  # noqa: BLE001 - what a function returns can hold anything
            report, trace = await _failure(error)
            report = replace(report, detail=f"what it returned cannot be read: {report.detail}")
    # A reviewer that was cancelled may have approved only to end.
    if otherwise and (report.outcome is not Outcome.OK or attempt.role is Role.REVIEW):
        outcome, reason = otherwise
        report = replace(
            report, outcome=outcome, detail=f"{reason}; {report.detail}" if report.detail else reason
        )
    report = await keep(attempt, replace(report, exit_code=None, leftovers=0), redactor)
    told = {"stdout.log": said, "stderr.log": trace or report.detail}
    # After the report: who is killed in between has paid for a result, and misses its logs.
    await anyio.to_thread.run_sync(_log, Path(attempt.directory), told, report)
    await scrub(attempt, redactor)
    return report


def _log(directory: Path, told: Mapping[str, str], report: AgentReport) -> None:
    try:
        for name, text in told.items():
            descriptor = os.open(directory / name, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "wb") as file:
                file.write(f"{text}\n".encode("utf-8", "replace") if text else b"")
        # For whoever follows the logs: nothing more comes.
        write_private(directory / "exit", f"{int(report.outcome is not Outcome.OK)}\n")
    except OSError as error:
        get_logger().error("the logs could not be written", directory=str(directory), error=str(error))


def _summary(answer: object) -> str:
    # The object that the text is says nothing to people.
    return answer.summary if isinstance(answer, Done | Review) else ""


async def _failure(error: BaseException) -> tuple[AgentReport, str]:
    """Return the report of an exception, and its traceback, for which files are read."""
    said = "".join(traceback.format_exception_only(error)).strip()
    lines = await anyio.to_thread.run_sync(lambda: traceback.format_exception(error))
    return AgentReport(Outcome.CRASHED, detail=said), "".join(lines)
