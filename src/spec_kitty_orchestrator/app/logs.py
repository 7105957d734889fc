"""What agents and gates left on disk, found by the journal: the parts of a mission's log, and reading them.

A journal can come with a clone and name any folder: only what lies below the folder of all logs is read.
"""

import json
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from spec_kitty_orchestrator.agents import BUILT_IN
from spec_kitty_orchestrator.agents.json_lines import text
from spec_kitty_orchestrator.agents.spec import Agent
from spec_kitty_orchestrator.agents.steps import Step, StepReader
from spec_kitty_orchestrator.core import events, operator_events
from spec_kitty_orchestrator.core.events import AgentExited, AttemptOpened
from spec_kitty_orchestrator.core.model import Attempt, Outcome, Role
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.report import Told
from spec_kitty_orchestrator.core.run import RunState, replayed
from spec_kitty_orchestrator.core.run_events import AnyEvent, Entry, Line, RunStarted
from spec_kitty_orchestrator.core.verdict import Ruling
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.errors import ConfigError, InvalidTransition, PreflightError, UsageError
from spec_kitty_orchestrator.machine.files import read_record
from spec_kitty_orchestrator.machine.logs import logs_root
from spec_kitty_orchestrator.machine.output import (
    STDOUT,
    Clock,
    OutputLine,
    follow,
    read_lines,
    tail_lines,
)

if TYPE_CHECKING:
    from spec_kitty_orchestrator.app.project import Project

__all__ = ["BETWEEN", "TAIL_LINES", "AttemptOutput", "MissionLog", "Part", "choose", "folder", "is_good"]

TAIL_LINES = 200
"""Read for the last steps: most lines of some CLIs are no step."""

BETWEEN = (
    AgentExited,
    events.Committed,
    events.CommitRefused,
    events.GatesPassed,
    events.GateFailed,
    events.GateBroken,
    events.Recorded,
    events.Parked,
    events.BudgetSpent,
    events.WorkspaceFailed,
    operator_events.Retried,
    operator_events.Skipped,
    operator_events.Stopped,
    operator_events.Told,
)
"""What stands between the attempts of a log."""


@dataclass
class Part:
    """One attempt of a work package, with what happened to that until the next one was opened.

    Attributes:
        at: when it was opened.
        base: for a review, the commit before the work under review.
    """

    wp: str
    attempt: Attempt
    at: datetime
    base: str = ""
    after: list[Told] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Say for people which one it is."""
        return f"{self.attempt.role} by {self.attempt.agent}, attempt {self.attempt.number}"

    @property
    def exited(self) -> AgentExited | None:
        """How it ended, None while it has not."""
        ends = (one.event for one in self.after if isinstance(one.event, AgentExited))
        return next((end for end in ends if end.attempt_id == self.attempt.id), None)

    @property
    def failed(self) -> bool:
        """Whether it ended without a result; one that was stopped with its run did not fail."""
        end = self.exited
        return end is not None and end.report.outcome not in (Outcome.OK, Outcome.CANCELED)

    @property
    def commits(self) -> tuple[str, str] | None:
        """The commits between which its work lies, or what it reviewed; None if it committed nothing."""
        if self.base:
            return self.base, self.attempt.head
        made = [one.event.evidence for one in self.after if isinstance(one.event, events.Committed)]
        before = self.attempt.head or (made[0].base if made else "")
        return (before, made[-1].head) if made and before != made[-1].head else None

    @property
    def gates(self) -> list[events.GateBegun]:
        """The gates that ran after it, each as it was begun last."""
        begun = (one.event for one in self.after if isinstance(one.event, events.GateBegun))
        return list({gate.name: gate for gate in begun}.values())


class MissionLog:
    """A mission's log so far, by the lines of its journal.

    Attributes:
        state: of its run.
        parts: of each work package, in the order of the mission.
    """

    def __init__(self, lines: Iterable[Line]) -> None:
        self.state: RunState = RunState(Policy((), ()))
        self.parts: dict[str, list[Part]] = {}
        self._bases: dict[str, str] = {}
        for line in lines:
            self.add(line)

    def add(self, line: Line) -> Told | None:
        """Take one more line of the journal; return what happened to a work package by it, if anything."""
        # What another version has journaled is told as far as it goes.
        with suppress(InvalidTransition):
            self.state = replayed(self.state, line)
        if isinstance(line, RunStarted):
            self.parts = {wp: [] for wp in line.mission.lanes} | self.parts
        if not isinstance(line, Entry) or not line.wp_id:
            return None
        parts = self.parts.setdefault(line.wp_id, [])
        wp = self.state.wps.get(line.wp_id) or WorkPackage(line.wp_id)
        attempts = wp.attempts or tuple(one.attempt for one in parts)
        told = Told(line.at, wp.id, line.event, replace(wp, attempts=attempts), line.took_s, line.seq)
        self._sort(told, parts)
        return told

    def _sort(self, told: Told, parts: list[Part]) -> None:
        match told.event:
            case AttemptOpened(attempt=attempt):
                base = self._bases.pop(told.wp_id, "") if attempt.role is Role.REVIEW else ""
                parts.append(Part(told.wp_id, attempt, told.at, base))
            case events.ReviewClaimed(base=base):
                self._bases[told.wp_id] = base
            case _ if parts:
                parts[-1].after.append(told)


def is_good(event: AnyEvent) -> bool | None:
    """Tell whether an event is good news, None if it is neither good nor bad."""
    match event:
        case AgentExited(report=report, verdict=verdict, tampered=tampered):
            rejected = verdict is not None and verdict.ruling is not Ruling.APPROVED
            return report.outcome is Outcome.OK and not rejected and not tampered
        case events.GatesPassed():
            return True
        case events.Recorded(lane=lane):
            return lane.complete or None
        case (
            events.Committed()
            | operator_events.Retried()
            | operator_events.Skipped()
            | operator_events.Told()
        ):
            return None
    return False


def folder(project: "Project", path: str) -> Path | None:
    """Return a folder of logs that the journal names, None for any other place."""
    place = Path(path)
    return place if place.is_relative_to(logs_root(project.root)) and ".." not in place.parts else None


class AttemptOutput:
    """The output of one attempt, told in steps: what it was, its last steps, or as they come.

    A time that its CLI does not tell is when its output was seen to have grown.
    """

    def __init__(self, project: "Project", attempt: Attempt) -> None:
        self._project = project
        self._attempt = attempt
        self.directory: Path = folder(project, attempt.directory) or logs_root(project.root) / "nowhere"

    @cached_property
    def _clock(self) -> Clock:
        return Clock(self.directory)

    @cached_property
    def _agent(self) -> Agent | None:
        name = self._attempt.agent
        if name in BUILT_IN:
            return BUILT_IN[name]
        # Loaded only where it is needed, because a status should be instant.
        from spec_kitty_orchestrator.app.project import find_agent

        # Whatever became of its settings, its lines are there.
        with suppress(UsageError, PreflightError, ConfigError):
            return find_agent(self._project.root, self._project.settings, name, only_load=True)[0]
        return None

    def reader(self) -> StepReader:
        """Return a reader that tells its lines in steps."""
        places = (self._worktree(), str(self._project.root))
        return StepReader(self._agent, places, self._project.redactor.text)

    def _worktree(self) -> str:
        with suppress(OSError, ValueError, RecursionError):
            record = json.loads(read_record(self.directory / "command.json"))
            return text(record, "cwd") if isinstance(record, dict) else ""
        return ""

    def steps(self) -> Iterator[Step]:
        """Yield all steps so far. Not for the event loop."""
        return self._told(read_lines(self.directory / STDOUT))

    def last(self, count: int, lines: int = TAIL_LINES) -> list[Step]:
        """Return the last steps as far as the last lines hold them. Not for the event loop."""
        found, _ = tail_lines(self.directory / STDOUT, lines)
        return list(deque(self._told(found), count))

    def _told(self, lines: Iterable[OutputLine]) -> Iterator[Step]:
        reader = self.reader()
        end = 0
        for line in lines:
            end = line.end
            for step in reader.read(line.text):
                yield self._timed(step, end)
        for step in reader.rest():
            yield self._timed(step, end)

    def _timed(self, step: Step, end: int) -> Step:
        return step if step.at else replace(step, at=self._clock.at(end))

    async def follow(
        self, wait: Callable[[], Awaitable[bool]], now: Callable[[], datetime]
    ) -> AsyncGenerator[Step, None]:
        """Yield the last steps and then those to come, see `machine.output.follow`. Raises `OSError`."""
        reader = self.reader()
        found, offset = await anyio.to_thread.run_sync(tail_lines, self.directory / STDOUT, TAIL_LINES)
        for line in found:
            for step in reader.read(line.text):
                yield self._timed(step, line.end)
        async with aclosing(follow(self.directory / STDOUT, offset, wait)) as lines:
            async for line in lines:
                for step in reader.read(line.text):
                    yield replace(step, at=step.at or now())
        for step in reader.rest():
            yield replace(step, at=step.at or now())


def choose(
    known: Mapping[str, Sequence[Part]], wp: str, number: int | None, has: Callable[[Part], bool], what: str
) -> Part:
    """Return the attempt of a work package of that number, or its last one that has what is wanted.

    Raises:
        UsageError: there is no such work package, attempt, or thing that is wanted.
    """
    if wp not in known:
        raise UsageError(f"{wp} is no work package of this mission; it has {', '.join(known)}")
    parts = known[wp]
    if not parts:
        raise UsageError(f"{wp} has no attempt yet; `status` says what it waits for")
    if number is None:
        chosen = next((one for one in reversed(parts) if has(one)), None)
        if chosen is None:
            raise UsageError(f"no attempt of {wp} has {what} yet")
        return chosen
    found = [one for one in parts if one.attempt.number == number]
    if not found:
        listed = ", ".join(f"{one.attempt.number} ({one.attempt.role})" for one in parts)
        raise UsageError(f"{wp} has no attempt {number}; there is {listed}")
    return found[-1]
