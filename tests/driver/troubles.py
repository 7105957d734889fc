"""Ways in which the world of a run goes wrong, and what a test asks of a run afterwards.

Nothing here looks into the engine: a trouble is made in the stand-ins, and an answer is read from
the journal, the observer and the result.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import anyio
from tests.driver.builders import Stage, WitnessedHost

from spec_kitty_orchestrator.core.events import AgentExited, AttemptOpened, Event
from spec_kitty_orchestrator.core.model import Lane, MissionState, Result, Role
from spec_kitty_orchestrator.core.run import fold
from spec_kitty_orchestrator.core.run_events import Entry
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.driver.finalize import finalize
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.errors import HostRefusal, OrchestratorError
from spec_kitty_orchestrator.testing.memory_journal import LoopClock

Found = TypeVar("Found", bound=Event)
T = TypeVar("T")

HOUR_S = 3600.0


class SwitchedHost(WitnessedHost):
    """A host whose primary checkout can be switched to a branch that lacks work packages.

    Attributes:
        unseen: work packages that the branch lacks: reads leave them out, all else says WP_NOT_FOUND.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.unseen: frozenset[str] = frozenset()

    def switch(self, *unseen: str) -> None:
        """Check out a branch that lacks these work packages; none for the mission's own."""
        self.unseen = frozenset(unseen)
        self.workspaces.branch = "elsewhere" if unseen else "main"

    def _known(self, call: str, mission: str, wp: str | None = None) -> None:
        super()._known(call, mission, wp)
        if wp in self.unseen:
            raise HostRefusal(call, "WP_NOT_FOUND", f"Work package '{wp}' not found in {mission}")

    def _state(self, mission: str) -> MissionState:
        found = super()._state(mission)
        return MissionState(
            mission,
            {wp: lane for wp, lane in found.lanes.items() if wp not in self.unseen},
            {wp: needed for wp, needed in found.dependencies.items() if wp not in self.unseen},
        )


Answer = Callable[..., Awaitable[Any]]


def wrapped(part: object, call: str, wrap: Callable[[Answer], Answer]) -> None:
    """Put something around one call of a stand-in; a call that it does not have is left out."""
    original = getattr(part, call, None)
    if original is not None:
        setattr(part, call, wrap(original))


def gone(
    mission: Stage,
    *calls: str,
    error: Exception,
    lasts_s: float,
    begins_s: float = 0.0,
    about: Sequence[str] = (),
    takes_s: float = 1.5,
) -> None:
    """Let these calls fail from one moment to another, seen from now, each after some seconds.

    With `about`, only those that name one of these work packages fail.
    """
    began = anyio.current_time()

    def wrap(original: Answer) -> Answer:
        async def call(*args: Any, **named: Any) -> Any:
            now = anyio.current_time() - began
            concerned = not about or not set(about).isdisjoint(map(str, args))
            if concerned and begins_s <= now < begins_s + lasts_s:
                await anyio.sleep(takes_s)
                raise error
            return await original(*args, **named)

        return call

    for one in calls:
        wrapped(mission.host, one, wrap)


def refused(
    mission: Stage,
    call: str,
    code: str,
    message: str = "no",
    *,
    to: Lane | None = None,
    about: Sequence[str] = (),
) -> None:
    """Let the host refuse a call: of transitions only those to a lane, `about` only these work packages."""

    def wrap(original: Answer) -> Answer:
        async def refuse(*args: Any, **named: Any) -> Any:
            concerned = not about or not set(about).isdisjoint(map(str, args))
            if concerned and (to is None or to in args):
                raise HostRefusal(call.replace("_", "-"), code, message)
            return await original(*args, **named)

        return refuse

    wrapped(mission.host, call, wrap)


class SteppingClock(LoopClock):
    """A time of day that somebody sets by so many hours, so many seconds after its making."""

    def __init__(self, hours: float, after_s: float) -> None:
        super().__init__()
        self.hours, self.set_at = hours, anyio.current_time() + after_s

    def now(self) -> datetime:
        """Return the time of day as it was set."""
        is_set = anyio.current_time() >= self.set_at
        return super().now() + timedelta(hours=self.hours if is_set else 0.0)


async def exit_code(run: Awaitable[RunResult]) -> int:
    """Return the exit code with which the command would end, an error's included."""
    try:
        return (await run).exit_code
    except OrchestratorError as error:
        return error.exit_code


async def story_of(run: Awaitable[RunResult]) -> tuple[int, str]:
    """Return the exit code, and all that a person is told of the end."""
    try:
        result = await run
    except OrchestratorError as error:
        return error.exit_code, str(error)
    return result.exit_code, "\n".join([result.ended, *result.reasons.values()])


def events(mission: Stage, kind: type[Found], wp: str | None = None) -> list[Found]:
    """Return the events of one kind in the journal, oldest first."""
    return [
        one.event
        for one in mission.journal.lines
        if isinstance(one, Entry) and isinstance(one.event, kind) and wp in (None, one.wp_id)
    ]


def told(mission: Stage) -> list[tuple[str, object]]:
    """Return the events that the journal holds, as the observer is told of them."""
    return [(one.wp_id, one.event) for one in mission.journal.lines if isinstance(one, Entry)]


def attempts(mission: Stage, wp: str | None = None, role: Role | None = None) -> list[str]:
    """Return the agents of the attempts that were paid for, oldest first."""
    return [
        one.agent
        for one in mission.agents.requests
        if one.id in mission.agents.runs and wp in (None, one.wp_id) and role in (None, one.role)
    ]


def spent_usd(mission: Stage) -> float:
    """Return what the journal's attempts have cost, in US dollars."""
    return sum(one.report.usage.cost_usd or 0.0 for one in events(mission, AgentExited))


def open_attempts(mission: Stage) -> set[str]:
    """Return the ids of attempts that the journal knows to be opened and not to have ended."""
    opened = {one.attempt.id for one in events(mission, AttemptOpened)}
    return opened - {one.attempt_id for one in events(mission, AgentExited)}


Seen = tuple[Lane, Result | None]


def seen(wps: Iterable[WorkPackage]) -> dict[str, Seen]:
    """Return for each work package its lane, and how it left the run."""
    return {one.id: (one.lane, one.result) for one in wps}


def replayed(mission: Stage) -> dict[str, Seen]:
    """Return the same of the work packages that the journal alone gives."""
    return seen(fold(mission.journal.lines, mission.policy).wps.values())


async def merged(mission: Stage, result: RunResult) -> bool:
    """Ask for the merge at the end of a run, as `--merge` does; tell whether the host was asked."""
    well = replace(result, exit_code=0, interrupted=None)
    with suppress(OrchestratorError):
        await finalize(
            mission.host, mission.workspaces, well, "me", merge=True, accept=False, coordinated=False
        )
    return mission.host.merged


async def beside(run: Awaitable[T], *others: Callable[[], Coroutine[Any, Any, None]]) -> T:
    """Await a run while others do something."""
    async with anyio.create_task_group() as tasks:
        for one in others:
            tasks.start_soon(one)
        found = await run
        tasks.cancel_scope.cancel()
    return found


def at(after_s: float, does: Callable[[], object]) -> Callable[[], Coroutine[Any, Any, None]]:
    """Return a task that does something once so many seconds have passed."""

    async def task() -> None:
        await anyio.sleep(after_s)
        does()

    return task
