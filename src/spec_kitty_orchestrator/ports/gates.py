"""Running the operator's gates, as the driver needs it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from spec_kitty_orchestrator.core.events import GateBegun, GateBroken, GateFailed, GatesPassed, GatesStopped
from spec_kitty_orchestrator.core.model import GateProgress, Workspace
from spec_kitty_orchestrator.core.records import dataclass

__all__ = ["GateReport", "Gates"]


@dataclass(frozen=True)
class GateReport:
    """What one turn of the gates came to.

    Attributes:
        event: what the journal keeps of it.
        tree: the fingerprint of the workspace when the turn began, also where it began before a crash.
    """

    event: GatesPassed | GateFailed | GateBroken | GatesStopped
    tree: str


class Gates(Protocol):
    """Runs the operator's gates as processes, one after the other, in the workspace of a work package."""

    async def settle(self, wp_id: str, head: str, turn: int, known: Sequence[GateBegun]) -> GateProgress:
        """Stop every gate that was begun and is no part of this turn, and say how far the turn is."""
        ...

    async def run(
        self,
        wp_id: str,
        workspace: Workspace,
        head: str,
        number: int,
        turn: int,
        tree: str,
        known: Sequence[GateBegun],
        moved: Callable[[], Awaitable[str]],
        begun: Callable[[GateBegun], Awaitable[None]],
    ) -> GateReport:
        """Run the gates on the commit that is checked out, up to the first that does not pass.

        Safe to call again after a crash: of those that are `known` to have begun, one that still runs is
        waited for, and one that has ended is not run again in the same turn. `number` is for the names of the
        logs, `tree` is the workspace's fingerprint, which the report gives back. `moved` says after each gate
        whether the branch was moved, in words; the gate is broken then. `begun` is told of each gate before
        it begins or is taken up again.
        """
        ...

    async def stop(self, wp_id: str, turn: int, grace_s: float) -> None:
        """Stop a turn of a work package's gates, also one that is still to be run: it is `GatesStopped`."""
        ...

    async def stop_all(self, grace_s: float) -> None:
        """Stop every running gate; each `run` then returns `GatesStopped`."""
        ...
