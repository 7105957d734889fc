"""The mission as the host last told it.

Reads are coalesced and repeated with patience; one that lacks work packages that the run knows is no answer.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio

from spec_kitty_orchestrator.core.events import CRASHED, NO_REPLY, HostRefused, LaneSeen
from spec_kitty_orchestrator.core.model import Lane, MissionState
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.errors import HostCrash, HostError, HostMissing, HostNoReply, HostRefusal
from spec_kitty_orchestrator.ports import Host

__all__ = ["PATIENCE_S", "HostCalls", "Mission", "refusal_of"]

PATIENCE_S = (2.0, 5.0, 15.0, 40.0)
"""Waits before the mission is read again: giving up stops agents that somebody pays for."""

_LONGEST_ID = 40
_MOST_UNMET = 100


def refusal_of(error: HostRefusal | HostNoReply | HostMissing, lane: Lane) -> HostRefused:
    """Say what the host said against a call for a work package in `lane`."""
    if isinstance(error, HostMissing):
        # It may be gone for the minute that an upgrade takes.
        return HostRefused("spec-kitty", NO_REPLY, str(error), lane)
    if isinstance(error, HostNoReply):
        crashed = isinstance(error, HostCrash) and bool(error.exception)
        return HostRefused(error.call, CRASHED if crashed else NO_REPLY, error.message, lane)
    holder, unmet = error.data.get("claimed_by"), error.data.get("unsatisfied_dependencies")
    by = holder if isinstance(holder, str) else ""
    named = [one[:_LONGEST_ID] for one in unmet if isinstance(one, str)] if isinstance(unmet, list) else []
    return HostRefused(error.call, error.code, error.message, lane, by, tuple(named[:_MOST_UNMET]))


class HostCalls:
    """Lets calls to the host pass together, and what needs the primary checkout to itself between them.

    The host commits there: whoever moves its branch meanwhile mixes both commits.
    """

    def __init__(self) -> None:
        self._entry = anyio.Lock(fast_acquire=True)
        self._number = 0
        self._ended = anyio.Event()

    async def make(self, call: Awaitable[object]) -> None:
        """Await a call; it is not begun if that is canceled before its turn."""
        try:
            async with self._entry:
                self._number += 1
            try:
                await call
            finally:
                self._number -= 1
                self._ended.set()
        finally:
            if isinstance(call, Coroutine):
                call.close()

    @asynccontextmanager
    async def none(self) -> AsyncIterator[None]:
        """Be sure within this that no call is under way; each has a limit, so that this has one too."""
        async with self._entry:
            while self._number:
                self._ended = anyio.Event()
                await self._ended.wait()
            yield


class Mission:
    """The last known lanes of one mission. The host stays the authority; this is only what it last said.

    Args:
        host: the port.
        slug: the mission's.
        branch: tells which branch is checked out in the primary checkout.

    Attributes:
        state: as last read, with the lanes that were acknowledged since.
        stale: whether a lane was acknowledged since the last read.
    """

    def __init__(self, host: Host, slug: str, branch: Callable[[], Awaitable[str]]) -> None:
        self._host, self._branch = host, branch
        self._lock = anyio.Lock()
        self._asked = self._answered = 0
        self._noted: dict[str, Lane] = {}
        self._began_on = ""
        self.state: MissionState = MissionState(slug, {}, {})
        self.stale: bool = True

    async def begin(self, state: MissionState | None, known: Collection[str]) -> str:
        """Start from a state that was just read, or read it; return the branch that is checked out.

        Args:
            state: what the caller has just read, None to read it here.
            known: work packages that an earlier start knew.

        Raises:
            HostError: the mission cannot be read.
        """
        self._began_on = await self._branch()
        self.state = replace(state or self.state, lanes=dict.fromkeys(known, Lane.PLANNED), dependencies={})
        if state is None or set(known) - set(state.lanes):
            await self.refresh()
        else:
            self.state, self.stale = state, False
        return self._began_on

    async def refresh(self) -> MissionState:
        """Read the mission; whoever asks while a read is waiting to begin shares that read.

        Raises:
            HostError: it cannot be read, or lacks work packages that the run knows.
        """
        self._asked += 1
        ticket = self._asked
        async with self._lock:
            if self._answered < ticket:
                covers = self._asked
                self._noted.clear()
                found = await self._read()
                self._answered = covers
                # What was acknowledged while the read was under way may be newer than what it saw.
                lanes = {**found.lanes, **self._noted}
                self.stale = lanes != found.lanes
                self.state = replace(
                    found,
                    lanes=lanes,
                    titles=found.titles or self.state.titles,
                    subtasks=found.subtasks or self.state.subtasks,
                )
        return self.state

    async def _read(self) -> MissionState:
        for wait_s in (*PATIENCE_S, None):
            try:
                state = await self._host.mission_state(self.state.slug)
                missing = [one for one in self.state.lanes if one not in state.lanes]
                if not missing and state.lanes:
                    return state
                error = HostError(await self._lacks(missing))
            except HostError as raised:
                error = raised
            if wait_s is None:
                raise error
            await anyio.sleep(wait_s)
        raise AssertionError("the last try returns or raises")

    async def _lacks(self, missing: Collection[str]) -> str:
        """Say what a state without known work packages most likely means."""
        listed = (
            f"{', '.join(missing)} of {self.state.slug}" if missing else f"work packages of {self.state.slug}"
        )
        branch = await self._branch()
        if branch == self._began_on:
            return f"the host no longer lists {listed}; restore their files, then `resume` goes on"
        return (
            f"the host does not list {listed}: the primary checkout was switched from the branch "
            f"{self._began_on or '(none)'} to {branch or '(none)'}; `git switch {self._began_on}`, "
            "then `resume` goes on"
        )

    def news(self, wp_id: str, wp: WorkPackage | None) -> LaneSeen | None:
        """Return what was read of a work package and differs from what the run knows of it.

        Whoever is at work settles its own lane: nothing is new about it.
        """
        lane, needs = self.state.lanes[wp_id], self.state.dependencies.get(wp_id, ())
        ready = wp_id in self.state.ready and lane is Lane.PLANNED
        known = wp is not None and (wp.lane, wp.dependencies) == (lane, needs)
        if wp is not None and (wp.at_work or (known and (wp.ready is ready or lane is not Lane.PLANNED))):
            return None
        return LaneSeen(lane, needs, ready)

    def note(self, wp_id: str, lane: Lane) -> None:
        """Take notice of a lane that the host acknowledged."""
        self._noted[wp_id] = lane
        self.state = replace(self.state, lanes={**self.state.lanes, wp_id: lane})
        self.stale = True
