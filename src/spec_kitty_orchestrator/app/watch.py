"""What `watch` shows: a mission's journal while it grows, whether its run is alive, and what agents print."""

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime

import anyio

from spec_kitty_orchestrator.agents.steps import Step
from spec_kitty_orchestrator.app.logs import AttemptOutput
from spec_kitty_orchestrator.app.orders import give
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.core.describe import short
from spec_kitty_orchestrator.core.model import Attempt, Evidence
from spec_kitty_orchestrator.core.orders import Order
from spec_kitty_orchestrator.core.recorder import Recorder
from spec_kitty_orchestrator.core.report import Report, WpReport
from spec_kitty_orchestrator.errors import InvalidTransition, JournalError, OrchestratorError, WorkspaceError
from spec_kitty_orchestrator.machine.diff import stat_and_changes
from spec_kitty_orchestrator.machine.git import Git
from spec_kitty_orchestrator.machine.journal import JsonlJournal, SystemClock
from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.machine.output import STDOUT, GrowingOutput, lines_before

__all__ = ["END_BYTES", "MissionWatch", "OutputLog"]

ALIVE_S = 4.0
"""Between two looks at whether the run is alive."""
END_BYTES = 64 * 1024
"""Of an attempt's output, read at first, and at once where it grows."""
EARLIER_BYTES = 512 * 1024
"""Read each time that somebody wants to see what was before."""
MOST_STEPS = 20_000
"""Kept of an attempt; `logs` shows all of them."""
MOST_LOGS = 64
"""Kept of attempts that somebody looked at."""

LONGEST_DIFF = 400_000
TAIL_LINES = 10
TAIL_STEPS = 6
MOST_TAILS = 8
"""Work packages whose failures stay in the terminal."""


class OutputLog:
    """The output of one attempt in words, see `views.watch.source.StepLog`."""

    def __init__(self, output: AttemptOutput) -> None:
        self._output = output
        self._path = output.directory / STDOUT
        self._start = 0
        self._growing: GrowingOutput | None = None
        self._reader = output.reader()
        self._over = False
        self._steps: list[Step] = []

    @property
    def steps(self) -> Sequence[Step]:
        """The steps that are known, oldest first."""
        return self._steps

    @property
    def whole(self) -> bool:
        """Whether there is nothing before the steps, or nothing that is shown here."""
        return self._growing is not None and (not self._start or len(self._steps) >= MOST_STEPS)

    def more(self) -> bool:
        """Read what is new; tell whether there was anything."""
        if self._over:
            return False
        # Asked first: what is read after the end is all that there is.
        over = (self._output.directory / "exit").exists()
        found = self._growing.look(END_BYTES) if self._growing is not None else None
        if found is None or len(self._steps) > 2 * MOST_STEPS:
            self._start, found = lines_before(self._path, None, END_BYTES)
            self._growing = GrowingOutput(self._path, found[-1].end if found else self._start)
            self._reader, self._steps = self._output.reader(), []
            found = [*found, *(self._growing.look(END_BYTES) or ())]
        assert self._growing is not None
        if over:
            found = [*found, *self._growing.finish()]
        steps = [step for line in found for step in self._reader.read(line.text)]
        if over:
            steps += self._reader.rest()
            self._over = True
        self._steps += steps
        return bool(steps)

    def earlier(self) -> bool:
        """Read what is before; tell whether there was anything."""
        if self.whole or self._growing is None:
            return False
        self._start, found = lines_before(self._path, self._start, EARLIER_BYTES)
        reader = self._output.reader()
        steps = [step for line in found for step in reader.read(line.text)]
        self._steps = [*steps, *reader.rest(), *self._steps]
        return True


class MissionWatch:
    """One mission's run, see `views.watch.source.Source`."""

    def __init__(self, project: Project, mission: str) -> None:
        self._project, self._mission = project, mission
        self._journal = JsonlJournal(project.directory(mission), project.root)
        self._lock = MissionLock(project.directory(mission), mission)
        self._clock = SystemClock()
        self._recorder = Recorder(project.policy)
        self._begun = 0
        self._asked_at: datetime | None = None
        self._active = self._deciding = False
        self._logs: OrderedDict[str, OutputLog] = OrderedDict()
        self.trouble: str = ""
        self.report: Report = self._recorder.report(self.now(), active=False)

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return self._clock.now()

    def look(self) -> bool:
        """Read what is new in the journal, and whether the run is alive; tell whether anything changed."""
        now, active, changed = self.now(), self._active, False
        # An order without a run holds the lock as a run does.
        if not self._deciding and (
            self._asked_at is None or not 0 <= (now - self._asked_at).total_seconds() < ALIVE_S
        ):
            self._active = self._lock.holder() is not None
            self._asked_at = now
        try:
            lines = self._journal.look()
            if self._journal.begun != self._begun:
                self._recorder, self.trouble = Recorder(self._project.policy), ""
                changed = bool(self._begun)
                self._begun = self._journal.begun
            for line in lines:
                self._recorder.take(line)
        except (JournalError, InvalidTransition) as damage:
            lines, changed = [], True
            # What is wrong first is why the rest cannot be told.
            self.trouble = self.trouble or f"the journal cannot be read on: {damage}"
        if not (lines or changed or active != self._active):
            return False
        self.report = self._recorder.report(now, active=self._active)
        return True

    def log(self, attempt: Attempt) -> OutputLog:
        """Return the output of an attempt, the same object each time."""
        if attempt.id not in self._logs:
            self._logs[attempt.id] = OutputLog(AttemptOutput(self._project, attempt))
        self._logs.move_to_end(attempt.id)
        while len(self._logs) > MOST_LOGS:
            self._logs.popitem(last=False)
        return self._logs[attempt.id]

    async def diff(self, evidence: Evidence) -> str:
        """Return what a range of commits changes, or why that cannot be told."""
        if evidence.base == evidence.head:
            return ""
        git = Git(self._project.root)
        try:
            summed, changes = await stat_and_changes(git, evidence.base, evidence.head, LONGEST_DIFF)
        except WorkspaceError as failure:
            return f"{short(evidence.base)}..{short(evidence.head)} cannot be shown: {failure}"
        return self._project.redactor.text(f"{summed}\n{changes}")

    async def give(self, order: Order) -> str:
        """Give an order to the run, or for its next start, and return the answer.

        Raises:
            OrchestratorError: it is refused, or nobody answers.
            OSError: the disk refuses.
        """
        said: list[str] = []
        # In a thread: what is done without a run reads and waits for much, and keys are answered meanwhile.
        try:
            await asyncio.to_thread(anyio.run, self._give, order, said.append)
        except ExceptionGroup as failures:
            known: Exception | None = failures.subgroup(OrchestratorError)
            while isinstance(known, ExceptionGroup):
                known = known.exceptions[0]
            raise (known or failures) from None
        return self._project.redactor.text(". ".join(said))

    async def _give(self, order: Order, say: Callable[[str], None]) -> None:
        root, mission = self._project.root, self._mission
        if await give(root, mission, order, say):
            return
        # What a run needs is loaded only here: the first screen does not wait for it.
        from spec_kitty_orchestrator.app.operator import without_run

        self._deciding = True
        try:
            await without_run(root, os.environ, mission, order, say)
        finally:
            self._deciding = False

    def tails(self, wps: Sequence[WpReport]) -> dict[str, Sequence[str]]:
        """Return the last lines of what failed, by the id of each work package, of the first of them."""
        return {wp.id: self._tail(wp) for wp in wps[:MOST_TAILS]}

    def _tail(self, wp: WpReport) -> Sequence[str]:
        gate = wp.gates[-1] if wp.gates else None
        last = wp.attempts[-1] if wp.attempts else None
        if gate is not None and not gate.result.ok and (last is None or gate.at >= last.began_at):
            return [one for one in gate.tail.splitlines() if one.strip()][-TAIL_LINES:]
        if last is None:
            return ()
        if last.bad == "rejected" and last.verdict is not None:
            return [f"{one.file} {one.message}".strip() for one in last.verdict.findings][:TAIL_LINES]
        steps = AttemptOutput(self._project, last.attempt).last(TAIL_STEPS)
        return [f"{one.kind} {one.text}" for one in steps]
