"""What a run knows of its work packages while it goes on, and who is woken when that changes."""

from collections.abc import Mapping

from spec_kitty_orchestrator.core.board import Board
from spec_kitty_orchestrator.core.model import Phase, Policy, WorkPackage
from spec_kitty_orchestrator.core.scheduler import chains, next_agent
from spec_kitty_orchestrator.driver.bell import Bell
from spec_kitty_orchestrator.driver.mission import MissionView
from spec_kitty_orchestrator.driver.recover import in_steps, seen


class Progress:
    """The board of one run, joined with the lanes that the host tells.

    Attributes:
        board: who works and who waits.
        closing: whether nothing may begin any more.
        to_slots: wakes who gives out slots.
        to_resolver: wakes who learns workspaces.
        to_lookout: wakes who looks out for changes by others.
    """

    def __init__(self, view: MissionView, policy: Policy, limit: int, per_agent: Mapping[str, int]) -> None:
        self._view, self._policy, self._per_agent = view, policy, per_agent
        self.limit = limit
        self.board = Board()
        self.closing = False
        self.to_slots, self.to_resolver, self.to_lookout = Bell(), Bell(), Bell()
        self._at_host: set[str] = set()

    async def begin(self, wps: Mapping[str, WorkPackage]) -> None:
        """Start from these, in the mission's order."""
        self.board = Board(chains(self._view.dependencies), self._per_agent)
        self.board.workspaces.update({wp.id: wp.workspace for wp in wps.values() if wp.workspace})
        async for wp in in_steps(wps.values()):
            self.put(wp)

    def put(self, wp: WorkPackage) -> None:
        """Take a new state of a work package."""
        self.board.put(wp, next_agent(wp, self._policy) if self._per_agent else "")
        if wp.id in self.board.active:
            self._note_host(wp.id, waits=_waits(wp))
        self.tell()

    def started(self, wp_id: str) -> None:
        """Note that a work package is driven from now on; the host is what it needs first."""
        self._note_host(wp_id, waits=_waits(self.board.wps[wp_id]))

    def stopped(self, wp_id: str, rests_until: float | None = None) -> None:
        """Note that a work package is no longer driven, and when it may go on if it rests."""
        self.board.stop(wp_id, rests_until)
        self._note_host(wp_id, waits=False)
        self.tell()

    @property
    def lull(self) -> bool:
        """Whether no work package waits for the host: its calls compete for the same cores."""
        return not self._at_host

    def adopt(self) -> bool:
        """Take over the lanes last read, and tell whether any differs; whoever is at work settles its own."""
        changed = False
        for wp_id, lane in self._view.lanes.items():
            if wp_id in self.board.active:
                continue
            known = self.board.wps.get(wp_id)
            wp = seen(known or WorkPackage(wp_id, self._view.dependencies[wp_id]), lane)
            if wp is not known:
                self.put(wp)
                changed = True
        return changed

    def close(self) -> None:
        """Let nothing begin any more."""
        self.closing = True
        self.wake()

    def tell(self) -> None:
        """Wake who may have something to do now, if there is anybody."""
        if self.board.stirred:
            self.board.stirred = False
            self.wake()

    def wake(self) -> None:
        """Wake everybody."""
        self.to_slots.ring()
        self.to_resolver.ring()
        self.to_lookout.ring()

    def _note_host(self, wp_id: str, *, waits: bool) -> None:
        if waits:
            self._at_host.add(wp_id)
        elif wp_id in self._at_host:
            self._at_host.discard(wp_id)
            if not self._at_host:
                self.wake()


def _waits(wp: WorkPackage) -> bool:
    """Whether it is the host that a work package at work needs, and no agent or gate of it runs."""
    return wp.open_attempt is None and wp.phase is not Phase.GATING
