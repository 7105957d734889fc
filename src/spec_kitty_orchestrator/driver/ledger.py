"""The state of a run, and the only way in which it changes: an event is decided, journaled, and then told."""

from collections.abc import Callable
from contextlib import suppress

import anyio
import anyio.lowlevel

from spec_kitty_orchestrator.core.bounds import fitted
from spec_kitty_orchestrator.core.commands import Command
from spec_kitty_orchestrator.core.limits import admission, announcements
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.run import RunState, happened, replayed
from spec_kitty_orchestrator.core.run_events import AnyEvent, Entry, Line, RunEnded, RunStarted
from spec_kitty_orchestrator.errors import JournalError
from spec_kitty_orchestrator.ports import Journal, Observer, WallClock

__all__ = ["Follow", "Ledger"]

LINES_AT_ONCE = 100
"""Lines of a journal between two looks at the event loop: about 10 ms."""

Follow = Callable[[RunState, str, AnyEvent], None]


class Ledger:
    """The state of one mission's runs: the fold of its journal, to which it adds whatever happens.

    Args:
        policy: what decisions depend on, until a start is replayed or begun.
        journal: the record of the mission's runs.
        clock: the time of day.
        observer: is told of every line.

    Attributes:
        state: of the run as it is now.
        alone: whoever holds it decides on a `state` that nobody else changes, and uses `apply`.
        follow: is called after each event with the state before it, the id of its work package ("" for the
            run's) and the event; must be quick and must not raise.
    """

    def __init__(self, policy: Policy, journal: Journal, clock: WallClock, observer: Observer) -> None:
        self._journal, self._clock, self._observer = journal, clock, observer
        self.state: RunState = RunState(policy)
        self._closed = False
        self.alone: anyio.Lock = anyio.Lock()
        self.follow: Follow = lambda _before, _wp_id, _event: None

    async def replay(self) -> None:
        """Take up what earlier starts left. Raises `JournalError`, and `InvalidTransition`."""
        for place, line in enumerate(await self._journal.read()):
            self.state = replayed(self.state, line)
            if place % LINES_AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()

    async def begin(self, started: RunStarted) -> None:
        """Open a start. Raises `JournalError`."""
        started = fitted(started)
        await self._record(replayed(self.state, started), started)

    async def end(self, exit_code: int, summary: str) -> None:
        """Close the start. Raises `JournalError`."""
        await self._record(self.state, RunEnded(self._clock.now(), exit_code, summary))

    async def happened(self, wp_id: str, event: AnyEvent, took_s: float = 0.0) -> Command:
        """Let an event happen, after those before it.

        Args:
            wp_id: the work package's, "" for an event of the run.
            event: what happened.
            took_s: seconds that the command took which led to it, for the record.

        Returns:
            What the work package does next, `Wait` or `Finish` if it gives back its turn.

        Raises:
            InvalidTransition: the event fits no edge of the work package's phase.
            JournalError: it could not be recorded, so it did not happen; or the ledger is closed.
        """
        async with self.alone:
            return await self.apply(wp_id, event, took_s)

    async def apply(self, wp_id: str, event: AnyEvent, took_s: float = 0.0) -> Command:
        """Do the same for whoever holds `alone`: the event, and those that follow from it."""
        start, follows = self.state, event
        while True:
            follows = fitted(follows)
            before, at = self.state, self._clock.now()
            after, command = happened(before, at, wp_id, follows)
            await self._record(after, Entry(at, wp_id, follows, took_s))
            if after.suspended != before.suspended:
                for told in announcements(before, after):
                    await self._record(after, Entry(at, "", told))
            instead = admission(after, wp_id, command, follows, at)
            if instead is None:
                break
            follows, took_s = instead, 0.0
        self.follow(start, wp_id, event)
        return command

    async def insist(self, wp_id: str, event: AnyEvent) -> None:
        """Let an event happen of which the journal may not be told, as it may be what is broken."""
        async with self.alone:
            before, at = self.state, self._clock.now()
            self.state, _ = happened(before, at, wp_id, event)
            with suppress(Exception):
                await self._record(self.state, Entry(at, wp_id, event))
            self.follow(before, wp_id, event)

    def close(self) -> None:
        """Let nothing happen any more: whoever closes it is about to give the mission's lock back."""
        self._closed = True

    async def _record(self, state: RunState, line: Line) -> None:
        if self._closed:
            raise JournalError("this start is over and its lock given back, so nothing of it is journaled")
        numbered = await self._journal.append(line)
        self.state = state
        self._observer.saw(state, numbered)
