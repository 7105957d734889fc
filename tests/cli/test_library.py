"""A run as an object of a program: followed, steered, left, canceled, and quiet in the meantime."""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.cli.working import LIMIT_S, SLUG, environment, host_of_one, lane_of

from spec_kitty_orchestrator import (
    ConfigError,
    Done,
    Entry,
    Finished,
    FunctionAgent,
    JournalError,
    OrchestratorError,
    Review,
    Role,
    Run,
    RunActive,
    RunEnded,
    RunStarted,
    Start,
    UsageError,
    open_parts,
    open_run,
    plan,
)
from spec_kitty_orchestrator.core.commands import Finish, Wait
from spec_kitty_orchestrator.core.events import AgentExited
from spec_kitty_orchestrator.core.run_events import Paused, Signaled
from spec_kitty_orchestrator.machine.lock import MissionLock

Project = Any  # the class lives in conftest, which tests cannot import
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

MINE: dict[str, object] = {
    "impl_agents": ["mine"],
    "review_agents": ["mine"],
    "confine": "off",
    "min_free_memory": "0",
    "min_free_disk": "0",
    "host_transport": "spawn",
}


class Worker:
    """A function as an agent that waits in its work until it is let go."""

    def __init__(self) -> None:
        self.at_work, self.go_on = anyio.Event(), anyio.Event()
        self.runs = 0

    async def __call__(self, prompt: str, workspace: Path, role: Role) -> Done | Review:
        self.runs += 1
        if role is Role.REVIEW:
            return Review("approved", "Looked at it.")
        self.at_work.set()
        await self.go_on.wait()
        (workspace / "a.py").write_text("A = 1\n")
        return Done("Written.")

    @property
    def agents(self) -> dict[str, FunctionAgent]:
        return {"mine": FunctionAgent(self, family="acme")}


@pytest.fixture
def root(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a mission of one work package, in whose environment this process is."""
    host_of_one(project)
    for name, value in environment(project).items():
        monkeypatch.setenv(name, value)
    return Path(project.root)


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def opened(root: Path, worker: Worker) -> Callable[..., Any]:
    """Open a run whose one agent is the worker."""
    return lambda **more: open_run(SLUG, root, settings=MINE, agents=worker.agents, **more)


async def test_a_run_tells_its_events_in_order_and_is_otherwise_silent(
    opened: Callable[..., Any], worker: Worker, project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers, loggers = signal.getsignal(signal.SIGTERM), list(logging.getLogger().handlers)
    worker.go_on.set()
    with anyio.fail_after(LIMIT_S):
        async with opened() as run:
            lines = [line async for line in run.events()]
            assert signal.getsignal(signal.SIGTERM) is handlers
            result = await run.result()
    assert isinstance(lines[0], RunStarted)
    assert isinstance(lines[-1], RunEnded)
    assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
    exits = [one.event for one in lines if isinstance(one, Entry) and isinstance(one.event, AgentExited)]
    assert [one.report.outcome for one in exits] == ["ok", "ok"]
    assert (result.exit_code, lane_of(project)) == (0, "done")
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().handlers == loggers


async def test_a_reader_that_comes_late_or_reads_on_from_a_number_misses_nothing(
    opened: Callable[..., Any], worker: Worker
) -> None:
    worker.go_on.set()
    with anyio.fail_after(LIMIT_S):
        async with opened() as run:
            await run.result()
            every = [line.seq async for line in run.events()]
            assert [line.seq async for line in run.events(every[3])] == every[4:]


async def test_orders_of_the_command_line_are_methods(opened: Callable[..., Any], worker: Worker) -> None:
    with anyio.fail_after(LIMIT_S):
        async with opened() as run:
            await worker.at_work.wait()
            assert "the run is paused" in await run.pause()
            assert [type(one) for one in run.state.pauses] != []
            assert await run.continue_()
            assert "max_concurrent=3" in await run.set(max_concurrent=3)
            assert "WP01" in await run.tell("WP01", "use tabs")
            with pytest.raises(UsageError, match="WP09"):
                await run.stop("WP09")
            worker.go_on.set()
            assert (await run.result()).exit_code == 0
            with pytest.raises(UsageError, match="ended"):
                await run.pause()
            assert "ended" in await run.drain()
            events = [line.event async for line in run.events() if isinstance(line, Entry)]
            assert sum(isinstance(one, Paused) for one in events) == 1


async def test_a_run_with_nothing_to_do_is_over_at_once_and_takes_no_orders(
    opened: Callable[..., Any], project: Project
) -> None:
    host_of_one(project, lane="done")
    with anyio.fail_after(LIMIT_S):
        async with opened() as run:
            assert run.state.wps["WP01"].lane.complete
            with pytest.raises(UsageError, match="ended"):
                await run.pause()
            assert (await run.result()).exit_code == 0


async def test_a_journal_that_is_damaged_is_told_before_the_block_is_entered(
    opened: Callable[..., Any], root: Path
) -> None:
    journal = root / ".kittify/orchestrator" / SLUG / "journal.jsonl"
    journal.parent.mkdir(parents=True)
    journal.write_text("nonsense\n{}\n")
    with anyio.fail_after(LIMIT_S), pytest.raises(JournalError, match="line 1 is damaged"):
        async with opened():
            pytest.fail("it was entered")


async def test_leaving_the_block_early_stops_the_run_in_order(
    opened: Callable[..., Any], worker: Worker, root: Path
) -> None:
    with anyio.fail_after(LIMIT_S):
        async with opened() as run:
            await worker.at_work.wait()
        assert not run.active
        assert (await run.result()).exit_code == 128 + signal.SIGTERM
        lines = [line async for line in run.events()]
        assert isinstance(lines[-1], RunEnded)
        assert any(isinstance(one, Entry) and isinstance(one.event, Signaled) for one in lines)
        worker.go_on.set()
        async with opened(resume=True) as again:
            assert again.earlier == lines[-1].seq
            assert again.state.wps["WP01"].begun
            assert (await again.result()).exit_code == 0


@pytest.mark.parametrize("raised", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
async def test_what_is_raised_in_the_block_comes_out_as_it_is_after_an_orderly_stop(
    opened: Callable[..., Any], worker: Worker, raised: type[BaseException]
) -> None:
    runs = []

    async def fails() -> None:
        async with opened() as run:
            runs.append(run)
            await worker.at_work.wait()
            raise raised

    with anyio.fail_after(LIMIT_S):
        with pytest.raises(raised):
            await fails()
        assert (await runs[0].result()).exit_code == 128 + signal.SIGTERM


async def test_a_canceled_run_leaves_what_a_crash_leaves_and_goes_on_at_the_next_start(
    opened: Callable[..., Any], worker: Worker, project: Project
) -> None:
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks:

            async def runs() -> None:
                async with opened() as run:
                    await run.result()

            tasks.start_soon(runs)
            await worker.at_work.wait()
            tasks.cancel_scope.cancel()
        worker.go_on.set()
        async with opened() as run:
            assert (await run.result()).exit_code == 0
            lines = [line async for line in run.events()]
    starts = [one for one in lines if isinstance(one, RunStarted)]
    ends = [one for one in lines if isinstance(one, RunEnded)]
    exits = [one.event for one in lines if isinstance(one, Entry) and isinstance(one.event, AgentExited)]
    assert (len(starts), len(ends)) == (2, 1)
    assert [one.report.outcome for one in exits] == ["lost", "ok", "ok"]
    assert lane_of(project) == "done"


async def test_whoever_waits_for_a_run_that_is_canceled_is_told_so(
    opened: Callable[..., Any], worker: Worker
) -> None:
    told: list[str] = []

    async def waits(run: Run) -> None:
        with pytest.raises(OrchestratorError, match="was canceled") as raised:
            await run.result()
        told.append(str(raised.value))

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                async with opened() as run:
                    tasks.start_soon(waits, run)
                    await worker.at_work.wait()
                    scope.cancel()
                    await anyio.sleep_forever()
    assert len(told) == 1


async def test_a_task_that_is_canceled_while_it_takes_the_lock_leaves_it_free(
    opened: Callable[..., Any], worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    canceled = threading.Event()
    take, loop = MissionLock.acquire, asyncio.get_running_loop()

    async def runs() -> None:
        async with opened():
            pass

    def cancel() -> None:
        task.cancel()
        canceled.set()

    def taken_late(lock: MissionLock) -> None:
        loop.call_soon_threadsafe(cancel)
        assert canceled.wait(LIMIT_S)
        take(lock)

    with anyio.fail_after(LIMIT_S):
        with monkeypatch.context() as patched:
            patched.setattr(MissionLock, "acquire", taken_late)
            task = asyncio.create_task(runs())
            await asyncio.wait({task})
        assert task.cancelled()
        worker.go_on.set()
        async with opened() as run:
            assert (await run.result()).exit_code == 0


async def test_a_fresh_start_tells_its_own_events_apart_also_from_a_damaged_journal(
    opened: Callable[..., Any], worker: Worker, root: Path
) -> None:
    worker.go_on.set()
    with anyio.fail_after(LIMIT_S):
        async with opened() as run:
            await run.result()
            *_, last = [line.seq async for line in run.events()]
        journal = root / ".kittify/orchestrator" / SLUG / "journal.jsonl"
        first, *others = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join((first, b"damaged\n", *others)))
        for more in ({"fresh": True}, {}):
            async with opened(**more) as run:
                await run.result()
                assert run.earlier == last
                own = [line async for line in run.events(run.earlier)]
                assert [line.seq async for line in run.events()][-len(own) :] == [one.seq for one in own]
            assert (own[0].seq, type(own[0]), type(own[-1])) == (last + 1, RunStarted, RunEnded)
            last = own[-1].seq


async def test_a_run_is_finalized_only_under_its_lock(opened: Callable[..., Any], worker: Worker) -> None:
    with anyio.fail_after(LIMIT_S):
        async with opened() as run:
            await worker.at_work.wait()
            with pytest.raises(UsageError, match="goes on"):
                await run.finalize(merge=True)
            worker.go_on.set()
            await run.result()
        with pytest.raises(UsageError, match="left"):
            await run.finalize(merge=True)


async def test_signals_are_refused_where_python_tells_of_none(opened: Callable[..., Any]) -> None:
    async def runs() -> None:
        async with opened(signals=True):
            pass

    with pytest.raises(UsageError, match="main thread"):
        await anyio.to_thread.run_sync(asyncio.run, runs())


async def test_the_second_of_two_runs_in_one_process_is_refused(
    opened: Callable[..., Any], worker: Worker, root: Path
) -> None:
    with anyio.fail_after(LIMIT_S):
        async with opened() as run:
            await worker.at_work.wait()
            with pytest.raises(RunActive):
                async with opened():
                    pass
            with pytest.raises(RunActive):
                async with open_parts(SLUG, root, settings=MINE, agents=worker.agents):
                    pass
            worker.go_on.set()
            assert (await run.result()).exit_code == 0
    assert worker.runs == 2


@pytest.mark.parametrize("asks", [True, False])
async def test_what_broke_a_run_is_raised_once_by_whoever_asks_first(
    opened: Callable[..., Any], worker: Worker, root: Path, asks: bool
) -> None:
    async def until_it_breaks() -> None:
        async with opened() as run:
            await worker.at_work.wait()
            journal = root / ".kittify/orchestrator" / SLUG / "journal.jsonl"
            copy = journal.read_bytes()
            journal.unlink()
            journal.write_bytes(copy)
            worker.go_on.set()
            async for _ in run.events():
                pass
            assert not run.active
            if asks:
                with pytest.raises(JournalError):
                    await run.result()

    with anyio.fail_after(LIMIT_S):
        if asks:
            await until_it_breaks()
        else:
            with pytest.raises(JournalError):
                await until_it_breaks()


async def test_settings_that_do_not_exist_are_named(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"'max_concurent'.*max_concurrent"):
        async with open_run(SLUG, root, settings={"max_concurent": 3}):
            pass


async def test_a_driver_of_ones_own_takes_the_mission_to_its_end(
    root: Path, worker: Worker, project: Project
) -> None:
    worker.go_on.set()
    with anyio.fail_after(LIMIT_S):
        async with open_parts(SLUG, root, settings=MINE, agents=worker.agents) as parts:
            ledger = parts.ledger
            while not isinstance(decision := plan(ledger.state, parts.clock.now()), Finished):
                assert isinstance(decision, Start)
                wp_id = decision.wp_id
                command = await ledger.happened(wp_id, decision.event(ledger.state.wps[wp_id]))
                while not isinstance(command, Wait | Finish):
                    event = await parts.performer.perform(ledger.state.wps[wp_id], command)
                    command = await ledger.happened(wp_id, event)
            assert (await parts.conclude(decision.reasons)).exit_code == 0
    assert lane_of(project) == "done"
    with pytest.raises(JournalError, match="lock given back"):
        await ledger.happened("", Signaled(15))
