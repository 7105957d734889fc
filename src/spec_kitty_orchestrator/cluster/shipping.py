"""The coordinator's side: what a workspace holds is sent to a machine, and what comes back is applied.

What comes back was made by an agent on another machine. It is taken up as objects that git has checked, is
compared with what was sent, and moves the branch only forward; what does not fit stays under a ref.
"""

from collections.abc import Sequence
from pathlib import Path

from spec_kitty_orchestrator.cluster.shipment import Applied, Shipment, Snapshot
from spec_kitty_orchestrator.machine.commit_rules import CommitRules

__all__ = ["MOST_BUNDLE_BYTES", "Shipping"]

MOST_BUNDLE_BYTES = 2 * 1024**3
"""Of what comes back; more is not fetched."""


class Shipping:
    """The workspaces of one mission on their way; one call at a time per workspace.

    Args:
        root: the primary checkout.
        mission: its slug.
        rules: say what is not sent: what tools can make again, what is too large, what may hold secrets.
    """

    def __init__(self, root: Path, mission: str, rules: CommitRules | None = None) -> None:
        self._root = root
        self._mission = mission
        self._rules = rules if rules is not None else CommitRules()

    async def snapshot(self, workspace: Path) -> Shipment:
        """Read what a worktree holds; nothing in it is changed. Raises `WorkspaceError`."""
        raise NotImplementedError

    async def bundle(self, attempt: str, shipment: Shipment, have: Sequence[str], file: Path) -> bool:
        """Write a bundle of what a machine lacks of a shipment; False, and no file, if it lacks nothing.

        Args:
            attempt: a ref of its own keeps what is sent until `forget`.
            shipment: from `snapshot`.
            have: commits that the machine has; those that are not known here do not count.
            file: is replaced.

        Raises:
            WorkspaceError: objects are missing here, as in a partial clone, or git is broken.
        """
        raise NotImplementedError

    async def apply(
        self, attempt: str, workspace: Path, shipment: Shipment, back: Snapshot, file: Path | None
    ) -> Applied:
        """Bring what came back into the workspace it was sent from; what is ignored there stays.

        Harmless to repeat, also after a crash in the middle and after it was applied.

        Args:
            attempt: names the refs.
            workspace: the worktree that `shipment` is of.
            shipment: what was sent.
            back: what the machine says that there is now.
            file: the bundle of what is new, None if there is none.

        Raises:
            WorkspaceError: what came back is damaged or no work of an agent's, or git is broken.
        """
        raise NotImplementedError

    async def forget(self, attempt: str) -> None:
        """Remove the ref that kept what was sent; what `apply` has kept stays. Raises `WorkspaceError`."""
        raise NotImplementedError
