"""How one call of the host is made."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from spec_kitty_orchestrator.machine.child import Reply, Spawned, conduct

__all__ = ["SpawnTransport", "Transport"]


class Transport(Protocol):
    """Makes one call of the host."""

    async def call(self, args: Sequence[str], *, cwd: Path, env: Mapping[str, str], limit_s: float) -> Reply:
        """Run `args`, whose first word is the executable, with exactly the environment `env`.

        Raises:
            TimeoutError: no exit within `limit_s` seconds; the processes were stopped.
            OSError: the executable cannot be started.
        """
        ...

    async def close(self) -> None:
        """Let go of whatever is kept between calls; a later call may take it up again."""
        ...


class SpawnTransport:
    """Starts one process per call, in a session of its own.

    On the limit or on cancellation the process group is terminated, then killed, each within a named bound.
    """

    async def call(self, args: Sequence[str], *, cwd: Path, env: Mapping[str, str], limit_s: float) -> Reply:
        """Run `args` and return what it left; see `Transport.call`."""
        return await conduct(lambda: Spawned(args, cwd, env), limit_s)

    async def close(self) -> None:
        """Do nothing: no call leaves anything behind."""
