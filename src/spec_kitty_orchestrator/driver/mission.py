"""What we know of the host's lanes: reads are coalesced, and an acknowledged transition counts at once."""

import anyio

from spec_kitty_orchestrator.core.model import Lane, MissionState
from spec_kitty_orchestrator.errors import HostNoReply
from spec_kitty_orchestrator.ports import Host

PATIENCE_S = (2.0, 5.0, 15.0, 40.0)
"""Waits before the mission is read again: giving up stops agents that somebody pays for."""


class MissionView:
    """The last known lanes of one mission. The host stays the authority; this is only what it last said."""

    def __init__(self, host: Host, mission: str) -> None:
        self._host = host
        self._mission = mission
        self._lock = anyio.Lock()
        self._asked = 0
        self._answered = 0
        self._noted: dict[str, Lane] = {}
        self.lanes: dict[str, Lane] = {}
        self.dependencies: dict[str, tuple[str, ...]] = {}
        self.stale = True

    async def begin(self, state: MissionState | None) -> None:
        """Start from a state that was just read, or read it. Raises `HostError`."""
        if state is None:
            await self.refresh()
        else:
            self.lanes, self.dependencies = dict(state.lanes), dict(state.dependencies)
            self.stale = False

    async def refresh(self) -> None:
        """Read the mission's state; whoever asks while a read is waiting to begin shares that read.

        Raises:
            HostError: the host cannot be asked.
        """
        self._asked += 1
        ticket = self._asked
        async with self._lock:
            if self._answered >= ticket:
                return
            covers = self._asked
            self._noted.clear()
            state = await self._read()
            self._answered = covers
            # What was acknowledged while the read was under way may be newer than what it saw.
            self.lanes = {
                **state.lanes,
                **{one: self._noted[one] for one in self._noted if one in state.lanes},
            }
            self.dependencies = dict(state.dependencies)
            self.stale = self.lanes != state.lanes

    async def _read(self) -> MissionState:
        for wait_s in PATIENCE_S:
            try:
                return await self._host.mission_state(self._mission)
            except HostNoReply:
                await anyio.sleep(wait_s)
        return await self._host.mission_state(self._mission)

    def note(self, wp: str, lane: Lane) -> None:
        """Take notice of a lane that the host acknowledged."""
        self._noted[wp] = lane
        self.lanes[wp] = lane
        self.stale = True

    def state(self) -> MissionState:
        """Return what is known, as the host's answer would be."""
        return MissionState(self._mission, dict(self.lanes), dict(self.dependencies))
