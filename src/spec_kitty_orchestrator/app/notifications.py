"""Tells people of a run at the places that they named: beside the run, which neither waits for it nor fails.

What is to be told is computed anew whenever there may be news, so there is no queue; what was told is in the
journal. A place that hangs costs its own coroutine, and one line for as long as it does not answer.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import anyio

from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.core.describe import describe
from spec_kitty_orchestrator.core.notices import Notice, Notices
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import Line, Notified, RunEnded, RunStarted
from spec_kitty_orchestrator.core.samples import Samples
from spec_kitty_orchestrator.log import get_logger
from spec_kitty_orchestrator.machine import delivery
from spec_kitty_orchestrator.machine.journal import SystemClock
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.ports import Observer, WallClock
from spec_kitty_orchestrator.settings.notify_section import NotifySection, check_url, filled, names
from spec_kitty_orchestrator.views.messages import as_json, cloudevent, posted

__all__ = ["BELL", "FINISH_S", "Notifier", "Place", "Ring", "places"]

TOGETHER_S = 2.0
"""What happens within this time is told together, as where one cause stops several work packages."""
LOOK_S = 30.0
"""Between two looks at the clock, for attempts that take long."""
FINISH_S = 5.0
"""For what is still to be told once the run has ended, at all places together."""

BELL = "the terminal"

Ring = Callable[[], None]
Send = Callable[[Notice], Awaitable[str]]


@dataclass(frozen=True)
class Place:
    """Where people are told.

    Attributes:
        name: for people and the journal.
        on: the occasions.
        where: what it is, without secrets.
        send: delivers a message; returns why it could not, "" if it did.
        problem: why it cannot be used, "" if it can.
    """

    name: str
    on: tuple[str, ...]
    where: str
    send: Send
    problem: str = ""


def places(project: Project, mission: str, environ: Mapping[str, str], ring: Ring | None) -> list[Place]:
    """Return the places of the settings; `ring` rings the terminal, None if there is none."""
    sections = project.settings.notify
    return [
        _place(one, name, project, mission, environ, ring)
        for one, name in zip(sections, names(sections), strict=True)
    ]


def _place(
    one: NotifySection,
    name: str,
    project: Project,
    mission: str,
    environ: Mapping[str, str],
    ring: Ring | None,
) -> Place:
    if one.bell:
        return Place(name, one.on, BELL, partial(_rung, ring), "" if ring else "there is no terminal")
    if one.command is not None:
        program = delivery.program_of(one.command, project.root)
        problem = "" if program else f"there is no program {one.command[0]}"
        run = partial(_run, one.command, mission, project.root, project.redactor)
        return Place(name, one.on, f"the command {one.command[0]}", run, problem)
    assert one.url is not None
    url = token = problem = ""
    try:
        url, token = filled(one.url, environ), filled(one.token or "", environ)
        check_url(url, allow_http=one.allow_http)
    except ValueError as error:
        problem = str(error)
    # An address in the file may be a secret too.
    where = f"{one.format} at {one.url if '${' in one.url else urlsplit(one.url).hostname}"
    send = partial(_post, one.format, url, token, mission, project.root, project.redactor)
    return Place(name, one.on, where, send, problem)


async def _rung(ring: Ring | None, notice: Notice) -> str:
    del notice
    if ring is None:
        return "there is no terminal"
    ring()
    return ""


async def _run(words: tuple[str, ...], mission: str, root: Path, redactor: Redactor, notice: Notice) -> str:
    document = cloudevent(_discreet(notice, redactor), mission)
    return redactor.text(await delivery.run(words, as_json(document), root))


async def _post(
    kind: str, url: str, token: str, mission: str, root: Path, redactor: Redactor, notice: Notice
) -> str:
    to, headers, document = posted(_discreet(notice, redactor), mission, kind, url, token)
    return redactor.text(await delivery.post(to, headers, as_json(document), root))


def _discreet(notice: Notice, redactor: Redactor) -> Notice:
    steps = tuple((redactor.text(what), redactor.text(command)) for what, command in notice.steps)
    return replace(notice, title=redactor.text(notice.title), text=redactor.text(notice.text), steps=steps)


class Notifier:
    """An observer that passes everything on to another one, and tells people what they are to know.

    Args:
        observer: the other one.
        places: where people are told.
        notices: have taken the lines of the journal before this start.
        samples: returns what is known of attempts like those that run.
        clock: the time of day.
    """

    def __init__(
        self,
        observer: Observer,
        places: Iterable[Place],
        notices: Notices,
        samples: Callable[[], Samples],
        clock: WallClock | None = None,
    ) -> None:
        self._observer, self._notices, self._samples = observer, notices, samples
        self._places = [one for one in places if not one.problem]
        self._tried: dict[str, set[str]] = {one.name: set() for one in self._places}
        self._silent: set[str] = set()
        self._serving = set(self._tried)
        self._clock = clock or SystemClock()
        self._begun, self._waits = False, True
        self._changed, self._ending = anyio.Event(), anyio.Event()

    def saw(self, state: RunState, line: Line) -> None:
        """Take notice of a line."""
        self._observer.saw(state, line)
        self._begun = self._begun or isinstance(line, RunStarted)
        # What was so after the last start may be so no more, and the end tells of its causes itself.
        self._waits = isinstance(line, RunEnded) or (self._waits and not isinstance(line, RunStarted))
        if self._places and self._notices.take(line, state):
            self._wake()

    def said(self, message: str) -> None:
        """Pass on what concerns the whole run."""
        self._observer.said(message)

    @asynccontextmanager
    async def telling(self, journal: Callable[[Notified], Awaitable[None]]) -> AsyncIterator[None]:
        """Tell whatever is news while a run goes on and is finalized, then its end, for a bounded time.

        The next start tells what could not be told.

        Args:
            journal: keeps what became of a message.
        """
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            for one in self._places:
                tasks.start_soon(self._serve, one, journal)
            try:
                yield
            except Exception as error:  # noqa: BLE001 - it is raised as it is, in no group
                failure = error
            finally:
                await self._finish()
                tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def finalized(self, lines: Sequence[str], again: str) -> None:
        """Take what became of the merge and the acceptance, if they were asked for: the end tells it.

        Args:
            lines: for people, about each step.
            again: the option that asks for it again once its reason is settled, "" if that is not needed.
        """
        self._notices.finalized(lines, again)

    async def _finish(self) -> None:
        self._ending.set()
        self._wake()
        with anyio.move_on_after(FINISH_S, shield=True):
            while self._serving:
                await self._changed.wait()
        if late := ", ".join(sorted(self._serving - self._silent)):
            self.said(f"warning: {late} did not take all messages within {FINISH_S:g} s after the run")

    def _wake(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def _serve(self, place: Place, journal: Callable[[Notified], Awaitable[None]]) -> None:
        try:
            while True:
                changed = self._changed
                notice = self._next(place)
                if notice is not None:
                    await self._tell(place, notice, journal)
                elif self._ending.is_set():
                    return
                else:
                    with anyio.move_on_after(LOOK_S if "slow" in place.on else None):
                        await changed.wait()
                    with anyio.move_on_after(TOGETHER_S):
                        await self._ending.wait()
        except Exception:  # noqa: BLE001 - no reason to end a run that is paid for
            get_logger().exception("nobody is told any more", place=place.name)
            self.said(f"warning: {place.name} is told nothing more of this run; the log says why")
        finally:
            self._serving.discard(place.name)
            self._wake()

    def _next(self, place: Place) -> Notice | None:
        """Return what is to be told next, None if nothing is."""
        if self._waits and not (self._begun and self._ending.is_set()):
            return None
        known = self._tried[place.name] | self._notices.told(place.name)
        now, active = self._clock.now(), not self._ending.is_set()
        found = self._notices.due(now, self._samples(), active=active)
        return next((one for one in found if one.on in place.on and known.isdisjoint(one.about)), None)

    async def _tell(
        self, place: Place, notice: Notice, journal: Callable[[Notified], Awaitable[None]]
    ) -> None:
        assert notice.on != "test"
        problem = await place.send(notice)
        about = (*notice.about, *notice.covers)
        self._tried[place.name].update(about)
        event = Notified(notice.on, notice.title, about, place.name, problem)
        await journal(event)
        if problem and place.name not in self._silent:
            self.said(f"warning: {describe(event)}")
        # One line for as long as it does not answer.
        (self._silent.add if problem else self._silent.discard)(place.name)
