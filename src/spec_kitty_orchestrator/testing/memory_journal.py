"""A journal and a lock in memory, clocks, and an observer that remembers."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import anyio
import anyio.lowlevel

from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import Entry, Line, RunStarted
from spec_kitty_orchestrator.errors import RunActive
from spec_kitty_orchestrator.ports import OneLine

__all__ = ["LoopClock", "MemoryJournal", "MemoryLock", "StoppedClock", "Watcher"]


class MemoryJournal:
    """Implements the port `Journal`. `lines` may be cut by a test, as a crash would."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    async def append(self, line: OneLine) -> OneLine:
        """Add one line under the next sequence number."""
        await anyio.lowlevel.checkpoint()
        numbered = replace(line, seq=self.lines[-1].seq + 1 if self.lines else 1)
        if isinstance(numbered, RunStarted):
            number = sum(isinstance(one, RunStarted) for one in self.lines) + 1
            numbered = replace(numbered, number=number)
        self.lines.append(numbered)
        return numbered

    async def read(self) -> Sequence[Line]:
        """Return every line."""
        await anyio.lowlevel.checkpoint()
        return tuple(self.lines)


class MemoryLock:
    """Implements the port `Lock` among those who share `held`, as runs share a repository.

    Args:
        held: the missions that somebody works on.
        mission: the slug.
    """

    def __init__(self, held: set[str] | None = None, mission: str = "") -> None:
        self._held, self._mission = set() if held is None else held, mission
        self._entered = 0

    async def __aenter__(self) -> None:
        await anyio.lowlevel.checkpoint()
        if not self._entered and self._mission in self._held:
            raise RunActive(f"another run of {self._mission} is active")
        self._held.add(self._mission)
        self._entered += 1

    async def __aexit__(self, *_: object) -> None:
        self._entered -= 1
        if not self._entered:
            self._held.discard(self._mission)


class StoppedClock:
    """Implements the port `WallClock` with one moment."""

    moment: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        """Return the moment."""
        return self.moment


class LoopClock:
    """Implements the port `WallClock` with a time of day that passes as the event loop's does."""

    def __init__(self) -> None:
        self.midnight: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        """Return so long after midnight as the event loop's clock says."""
        return self.midnight + timedelta(seconds=anyio.current_time())


class Watcher:
    """Implements the port `Observer` and keeps what it was told; `state` is the last one."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.messages: list[str] = []
        self.state: RunState | None = None

    @property
    def entries(self) -> list[Entry]:
        """The events as the journal keeps them."""
        return [one for one in self.lines if isinstance(one, Entry)]

    @property
    def events(self) -> list[tuple[str, object]]:
        """The events, each with the id of its work package, "" for the run's."""
        return [(one.wp_id, one.event) for one in self.entries]

    def saw(self, state: RunState, line: Line) -> None:
        """Keep the line, and the state that it led to."""
        self.lines.append(line)
        self.state = state

    def said(self, message: str) -> None:
        """Keep the message."""
        self.messages.append(message)
