"""A mission's run as an object of a program: opened, followed, steered and awaited.

`open_run` gives the run of the command line without its screen: the same checks, lock, warm host, journal
and orders; nothing is printed, logged or installed. `open_parts` gives the parts alone, for a driver of
one's own.
"""

import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.agents.spec import Agent
from spec_kitty_orchestrator.app import people
from spec_kitty_orchestrator.app.build import build, build_agents, journal
from spec_kitty_orchestrator.app.mission import open_mission
from spec_kitty_orchestrator.app.mission_events import MissionEvents
from spec_kitty_orchestrator.app.orders import give
from spec_kitty_orchestrator.app.project import open_project
from spec_kitty_orchestrator.app.repository import find_repo_root
from spec_kitty_orchestrator.app.runs import find_unfinished
from spec_kitty_orchestrator.app.start import Start, apart, open_start
from spec_kitty_orchestrator.core import orders
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import Line, RunStarted
from spec_kitty_orchestrator.core.scheduler import Order
from spec_kitty_orchestrator.driver.engine import Orchestrator
from spec_kitty_orchestrator.driver.finalize import Finalized
from spec_kitty_orchestrator.driver.parts import Parts
from spec_kitty_orchestrator.driver.result import RunResult, first_error
from spec_kitty_orchestrator.errors import OrchestratorError, RunActive, UsageError
from spec_kitty_orchestrator.ports import Observer

__all__ = ["Run", "open_parts", "open_run"]

Say = Callable[[str], None]


class _Told:
    """An observer that passes everything on to a program's, and wakes those who wait for a line."""

    def __init__(self, observer: Observer | None, say: Say | None) -> None:
        self._observer, self._say = observer, say
        self.news: anyio.Event = anyio.Event()
        self.begun: anyio.Event = anyio.Event()

    def saw(self, state: RunState, line: Line) -> None:
        if self._observer is not None:
            self._observer.saw(state, line)
        if isinstance(line, RunStarted):
            self.begun.set()
        self.wake()

    def said(self, message: str) -> None:
        if self._observer is not None:
            self._observer.said(message)
        if self._say is not None:
            self._say(message)

    def wake(self) -> None:
        news, self.news = self.news, anyio.Event()
        news.set()


class Run:
    """One start of a mission, driven in the background while the block of `open_run` goes on.

    Attributes:
        mission: its slug.
        root: the repository, absolute.
        earlier: the number of the last line of earlier starts, 0 if there is none: `events(run.earlier)` are
            those of this start alone.
    """

    def __init__(self, start: Start, orchestrator: Orchestrator, told: _Told, earlier: int) -> None:
        self._start, self._orchestrator, self._told = start, orchestrator, told
        self.mission: str = start.mission.state.slug
        self.root: Path = start.project.root
        self.earlier = earlier
        self._ended = anyio.Event()
        self._left = False
        self._result: RunResult | None = None
        self._error: Exception = OrchestratorError(
            f"the run of {self.mission} was canceled before its end; a later start goes on"
        )
        self._told_error = False

    @property
    def state(self) -> RunState:
        """The state of the run as it is now, the fold of all events so far."""
        return self._start.parts.ledger.state

    @property
    def active(self) -> bool:
        """Whether it goes on."""
        return not self._ended.is_set()

    async def events(self, since: int = 0) -> AsyncIterator[Line]:
        """Yield the lines of the mission's journal, each once, until the run has ended.

        A slow reader costs no memory and misses nothing: lines are read from the journal.

        Args:
            since: only lines with a greater `seq`; 0 for all, with those of earlier starts.

        Raises:
            JournalError: the journal is damaged.
        """
        source = MissionEvents(self.root, self.mission, since)
        while True:
            news, active = self._told.news, self.active
            for line in await to_thread.run_sync(source.news):
                yield line
            if not active:
                return
            await news.wait()

    async def result(self) -> RunResult:
        """Wait for the end of the run and return what it came to.

        Raises:
            OrchestratorError: the host, the journal or the machine is broken, or the run was canceled; a
                later start goes on.
        """
        await self._ended.wait()
        if self._result is None:
            self._told_error = True
            raise self._error
        return self._result

    async def finalize(self, *, merge: bool = False, accept: bool = False) -> Finalized:
        """Merge and accept the mission, if all of it is approved or done and as it was approved.

        Raises:
            UsageError: the run goes on, or its block was left, and so its lock.
            HostError: the host cannot; repeating it is harmless.
        """
        if self.active or self._left:
            why = "its block was left" if self._left else "it goes on"
            raise UsageError(f"the run of {self.mission} is finalized after its end, in its block: {why}")
        told = await self._start.finalize(await self.result(), self._told.said, merge=merge, accept=accept)
        return told.finalized

    def interrupt(self) -> None:
        """Stop the agents, save their work and end the run, as SIGTERM does; a second call hurries."""
        self._orchestrator.interrupt(signal.SIGTERM)

    async def drain(self) -> str:
        """Start nothing more, and end the run when running attempts have ended; harmless if it has ended.

        All orders return the same, and others raise also if the run has ended.

        Returns:
            The answer of the run, one sentence for people.

        Raises:
            UsageError: the run refuses the order.
        """
        try:
            return await self._order(orders.Drain())
        except OrchestratorError:
            if self.active:
                raise
            return f"the run of {self.mission} has ended"

    async def pause(self, *, agent: str = "", wp: str = "") -> str:
        """Let nothing new begin: of an agent, of a work package, or else of the whole run."""
        return await self._order(orders.Pause(agent, wp))

    async def continue_(self, *, agent: str = "", wp: str = "") -> str:
        """End a pause, or let a stopped work package go on."""
        return await self._order(orders.Continue(agent, wp))

    async def stop(self, wp: str) -> str:
        """Stop what is at work on a work package and pause it; its work is kept."""
        return await self._order(orders.Stop(wp))

    async def tell(self, wp: str, note: str, *, now: bool = False) -> str:
        """Put a note into the next prompt of a work package; `now` stops who is at work, to begin it."""
        return await self._order(orders.Tell(wp, note, now))

    async def retry(self, wp: str, note: str = "") -> str:
        """Put a parked, blocked or stopped work package back to work; its implementer gets the note."""
        return await self._order(orders.Retry(wp, note))

    async def skip(self, wp: str, note: str = "") -> str:
        """Leave a work package out; what is at work on it is stopped first."""
        return await self._order(orders.Skip(wp, note))

    async def set(self, **changes: object) -> str:
        """Change settings that may change while a run goes on, for example `max_concurrent=2`."""
        return await self._order(orders.Set({name: str(value) for name, value in changes.items()}))

    async def take_over(self, wp: str, by: str) -> str:
        """Give a work package to the person of this name; what is at work on it is stopped first."""
        return await self._by_person(partial(people.take_over_in_run, self.root, self.mission, wp, by))

    async def hand_back(self, wp: str, by: str, note: str = "") -> str:
        """Put a work package that a person took over back into the run, with what they committed."""
        return await self._by_person(partial(people.hand_back_in_run, self.root, self.mission, wp, by, note))

    async def approve(self, wp: str, by: str, note: str, head: str = "") -> str:
        """Record a person's approval of a commit: `head`, or the one that the worktree is at."""
        args = (self._start.project, self.mission, wp, by, note, head)
        return await self._by_person(partial(people.approve_in_run, *args))

    async def _order(self, order: orders.Order) -> str:
        return await self._by_person(partial(give, self.root, self.mission, order))

    async def _by_person(self, order: Callable[[Say], Awaitable[bool]]) -> str:
        answers: list[str] = []
        given = False
        try:
            given = self.active and await order(answers.append)
        except RunActive:
            # Not taken up: the run has its lock until the block is left.
            if self.active:
                raise
        if not given:
            raise UsageError(f"the run of {self.mission} has ended, so it takes no orders")
        return answers[-1]

    async def _drive(self) -> None:
        try:
            self._result = await self._orchestrator.run(self._start.mission.state)
        except Exception as error:  # noqa: BLE001 - `result` raises it
            self._error = first_error(error)
        finally:
            self._ended.set()
            self._told.begun.set()
            self._told.wake()

    async def _listen(self) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                self._orchestrator.interrupt(number)


@asynccontextmanager
async def open_run(
    mission: str,
    repo: Path | str = ".",
    *,
    settings: Mapping[str, object] | None = None,
    agents: Mapping[str, Agent] | None = None,
    order: Order | None = None,
    observer: Observer | None = None,
    say: Say | None = None,
    resume: bool = False,
    fresh: bool = False,
    signals: bool = False,
) -> AsyncIterator[Run]:
    """Check and lock a mission, and drive it in the background while the block goes on.

    The block is entered when the run has begun: what earlier starts left is in `Run.state` then.

    Leaving the block before the run has ended, also by an exception, stops the agents and saves their work,
    as SIGTERM does. Canceling it leaves what a crash leaves: agents go on, and the next start, by a program
    or by `spec-kitty-orchestrator resume`, finds them again. It needs an event loop of asyncio.

    Args:
        mission: its slug, or a part of it that the host knows.
        repo: any directory of the repository.
        settings: by the names of `[run]`, with those of `[host]` as `host_…`; they win over the file and over
            `SKO_*` variables.
        agents: those of this program, such as a `FunctionAgent`, by names that settings can select.
        order: who goes first among those that can go on; None for the default order.
        observer: is told of each line at once; must be quick and must not raise.
        say: gets lines for people, about what was found and mended.
        resume: whether the settings of the run that goes on count, as with the command `resume`.
        fresh: whether the journal of an earlier run is put aside.
        signals: whether SIGINT and SIGTERM stop the run, a second one faster; in the main thread alone. Else
            nothing is installed.

    Raises:
        RunActive: another run of the mission is active, by whatever program.
        ConfigError: a setting is wrong.
        UsageError: there is no such mission, repository or agent, nothing to resume, or no signal to hear.
        PreflightError: an agent cannot be used.
        HostError: the host is missing, or cannot be used.
        JournalError: the journal of earlier starts is damaged, or cannot be written.
        WorkspaceError: git or the disk is broken.
    """
    if signals and threading.current_thread() is not threading.main_thread():
        raise UsageError("signals=True is for the main thread: Python tells no other one of signals")
    told = _Told(observer, say)
    given = (mission, repo, settings or {}, agents or {}, told)
    async with apart(_driven(_opened(*given, resume=resume, fresh=fresh), told, order, signals)) as run:
        yield run


@asynccontextmanager
async def open_parts(
    mission: str,
    repo: Path | str = ".",
    *,
    settings: Mapping[str, object] | None = None,
    agents: Mapping[str, Agent] | None = None,
    observer: Observer | None = None,
    say: Say | None = None,
    resume: bool = False,
    fresh: bool = False,
) -> AsyncIterator[Parts]:
    """Check and lock a mission, and open a start of it for a driver of one's own: the loop is the caller's.

    Arguments and errors are those of `open_run`. The driver asks `plan` who goes on, lets happen what that
    means (`Parts.ledger`), performs commands (`Parts.performer`), and ends with `Parts.conclude`.
    """
    given = (mission, repo, settings or {}, agents or {}, _Told(observer, say))
    async with apart(_begun(_opened(*given, resume=resume, fresh=fresh))) as parts:
        yield parts


@asynccontextmanager
async def _driven(
    opening: AbstractAsyncContextManager[Start], told: _Told, order: Order | None, signals: bool
) -> AsyncIterator[Run]:
    async with opening as start:
        slug = start.mission.state.slug
        earlier = await to_thread.run_sync(journal(start.project, slug).last)
        run = Run(start, build(start.project, slug, start.parts, order), told, earlier)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run._drive)
            if signals:
                tasks.start_soon(run._listen)
            # From then on its state is that of all events so far, and a failure before that is no run.
            await told.begun.wait()
            if run._result is not None or run.active:
                yield run
            run._left = True
            if run.active:
                run.interrupt()
            await run._ended.wait()
            tasks.cancel_scope.cancel()
        if not run._told_error:
            await run.result()


@asynccontextmanager
async def _begun(opening: AbstractAsyncContextManager[Start]) -> AsyncIterator[Parts]:
    async with opening as start, start.parts.started(start.mission.state):
        yield start.parts


@asynccontextmanager
async def _opened(
    mission: str,
    repo: Path | str,
    settings: Mapping[str, object],
    agents: Mapping[str, Agent],
    told: _Told,
    *,
    resume: bool,
    fresh: bool,
) -> AsyncIterator[Start]:
    recorded = None
    root = await to_thread.run_sync(find_repo_root, Path(repo))
    if resume:
        earlier = await find_unfinished(root, mission)
        mission, recorded = earlier.mission, earlier.started.settings if earlier.started else {}
    project = await to_thread.run_sync(partial(open_project, root, os.environ, settings, recorded, agents))
    runner = build_agents(project, told.said)
    opening = open_mission(project, mission, runner, told.said, lambda _: None, fresh=fresh)
    async with opening as opened, open_start(project, opened, runner, told) as start:
        yield start
