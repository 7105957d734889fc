"""A machine's side: a bare repository for each project, and worktrees of it in which attempts work.

A workspace has the same folder for each of its attempts on a machine, so that an agent's program, which
knows its sessions by the folder, finds an earlier one, and what is ignored there, such as installed packages,
is still there. A folder in which an earlier attempt has not been dropped is not used again.
"""

from collections.abc import Sequence
from pathlib import Path

from spec_kitty_orchestrator.cluster.shipment import Packed, Shipment

__all__ = ["Checkouts"]


class Checkouts:
    """The repositories and worktrees of one machine; several processes may use them at once.

    Args:
        folder: the machine's; it need not hold any yet.
    """

    def __init__(self, folder: Path) -> None:
        self._repositories = folder / "repositories"
        self._worktrees = folder / "worktrees"

    async def have(self, project: str, clone: str = "") -> Sequence[str]:
        """Return commits that the machine has of a project, the newest first.

        Args:
            project: see `Shipment`.
            clone: where a repository that is not there yet is cloned from, with what the machine's user may
                read; where that fails, it begins empty.

        Raises:
            WorkspaceError: git or the disk is broken.
        """
        raise NotImplementedError

    async def check_out(self, attempt: str, shipment: Shipment, bundle: Path | None) -> Path:
        """Make the workspace of an attempt; return its folder, the same one when asked again.

        HEAD is detached, and what was uncommitted is uncommitted.

        Raises:
            WorkspaceError: the bundle is damaged or does not fit, or git or the disk is broken.
        """
        raise NotImplementedError

    async def pack(self, attempt: str, shipment: Shipment, file: Path) -> Packed:
        """Read what an attempt has made of its workspace; nothing there is changed.

        No process of the attempt may be left.

        Args:
            attempt: that was checked out here.
            shipment: what was sent for it.
            file: becomes a bundle of what is new; is not there if nothing is.

        Raises:
            WorkspaceError: there is no such worktree, or git or the disk is broken.
        """
        raise NotImplementedError

    async def drop(self, attempt: str, project: str) -> None:
        """Give the folder of an attempt free for the next one; repeating it is harmless."""
        raise NotImplementedError

    async def tidy(self) -> None:
        """Remove what is old, and repack: for when no attempt runs. Raises `WorkspaceError`."""
        raise NotImplementedError
