"""Follows the log of a run: its journal says which attempts begin and end, their output what they do."""

from collections.abc import Callable
from contextlib import aclosing, suppress
from datetime import UTC, datetime

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from spec_kitty_orchestrator.app.log_pages import LogPages, Page
from spec_kitty_orchestrator.app.logs import TAIL_LINES, AttemptOutput, MissionLog, Part
from spec_kitty_orchestrator.core.events import AgentExited, AttemptOpened
from spec_kitty_orchestrator.core.model import Attempt
from spec_kitty_orchestrator.core.run_events import Entry, Line
from spec_kitty_orchestrator.machine.journal import JsonlJournal
from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.machine.logs import mission_logs
from spec_kitty_orchestrator.machine.orphans import find_orphans
from spec_kitty_orchestrator.machine.output import STDOUT, follow, tail_lines

__all__ = ["LogFollower"]

POLL_S = 1.0
"""Between two looks at whether something was written."""
ALIVE_S = 2.0
"""Between two looks at whether the run and its agents are alive."""


class _Attempt:
    """One that is followed."""

    def __init__(self) -> None:
        self.ended = anyio.Event()
        self.told = anyio.Event()


class LogFollower:
    """Shows what attempts do until the run and all of its attempts have ended.

    Args:
        pages: show it.
        log: so far.
        mission: its slug.
        wanted: whether a work package is shown.
        page: words, tools or the raw output.
        named: whether lines begin with the id of the work package.
    """

    def __init__(
        self,
        pages: LogPages,
        log: MissionLog,
        mission: str,
        wanted: Callable[[str], bool],
        page: Page,
        *,
        named: bool,
    ) -> None:
        self._pages = pages
        self._project = pages.project
        self._log = log
        self._mission = mission
        self._wanted = wanted
        self._page = page
        self._named = named
        self._followed: dict[str, _Attempt] = {}
        self._looked_at = float("-inf")
        self._alive = True

    async def run(self, known: int) -> None:
        """Follow what is open in the log, and then what comes after the first `known` lines.

        Raises `OSError`.
        """
        journal = JsonlJournal(self._project.directory(self._mission), self._project.root)
        async with anyio.create_task_group() as tasks:
            for wp, parts in self._log.parts.items():
                if parts and not parts[-1].exited:
                    self._begin(tasks, wp, parts[-1])
            async with aclosing(follow(journal.path, 0, self._more)) as lines:
                number = 0
                async for line in lines:
                    number += 1
                    if number > known:
                        # What is torn or damaged is told of by whoever reads the whole.
                        with suppress(ValueError, RecursionError):
                            await self._happened(tasks, journal.decode(line.text))
            for one in self._followed.values():
                one.ended.set()

    async def _more(self) -> bool:
        await anyio.sleep(POLL_S)
        if self._pages.view.over:
            return False
        if anyio.current_time() - self._looked_at >= ALIVE_S:
            self._alive = await anyio.to_thread.run_sync(self._is_alive)
            self._looked_at = anyio.current_time()
        return self._alive

    def _is_alive(self) -> bool:
        if MissionLock(self._project.directory(self._mission), self._mission).holder() is not None:
            return True
        # Agents go on without the run that began them.
        return bool(find_orphans(mission_logs(self._project.root, self._mission)))

    async def _happened(self, tasks: TaskGroup, line: Line) -> None:
        happened = self._log.add(line)
        if happened is None or not isinstance(line, Entry) or not self._wanted(line.wp_id):
            return
        match line.event:
            case AttemptOpened():
                self._begin(tasks, line.wp_id, self._log.parts[line.wp_id][-1])
            case AgentExited(attempt_id=attempt_id) if attempt_id in self._followed:
                followed = self._followed.pop(attempt_id)
                followed.ended.set()
                await followed.told.wait()
        if self._page is not Page.RAW:
            self._pages.results((happened,), self._who(line.wp_id))

    def _who(self, wp: str) -> str:
        return wp if self._named else ""

    def _begin(self, tasks: TaskGroup, wp: str, part: Part) -> None:
        if self._wanted(wp):
            followed = self._followed[part.attempt.id] = _Attempt()
            self._pages.view.rule(part.title, part.at, self._who(wp))
            tasks.start_soon(self._follow, wp, part.attempt, followed)

    async def _follow(self, wp: str, attempt: Attempt, followed: _Attempt) -> None:
        async def wait() -> bool:
            with anyio.move_on_after(POLL_S):
                await followed.ended.wait()
            return not followed.ended.is_set() and not self._pages.view.over

        output, who = AttemptOutput(self._project, attempt), self._who(wp)
        try:
            if self._page is Page.RAW:
                log = output.directory / STDOUT
                found, offset = await anyio.to_thread.run_sync(tail_lines, log, TAIL_LINES)
                for line in found:
                    self._pages.view.text(line.text, who)
                async with aclosing(follow(log, offset, wait)) as lines:
                    async for line in lines:
                        self._pages.view.text(line.text, who)
                return
            async with aclosing(output.follow(wait, lambda: datetime.now(UTC))) as steps:
                async for step in steps:
                    self._pages.step(step, self._page, who)
        finally:
            followed.told.set()
