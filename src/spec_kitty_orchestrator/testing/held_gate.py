"""A gate that works until it is released, and the stage on which it tries gates that are real programs."""

import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

from spec_kitty_orchestrator.core.model import Workspace
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.ports.gates import Gates
from spec_kitty_orchestrator.testing.small_repository import add_worktree, make_repository

__all__ = ["ProgramGateStage"]

POLL_S = 0.01


class ProgramGateStage:
    """Implements `contracts.gates.GateStage` for gates that start programs.

    Args:
        root: an empty folder, which the gate's process must reach, wherever it runs.
        make: makes the gates of mission `demo` as each start of a run does, for the repository at this path.
    """

    def __init__(self, root: Path, make: Callable[[Path, Gate], Awaitable[Gates]]) -> None:
        self.repository: Path = root / "repository"
        self.workspace: Workspace = Workspace(str(root / "lane"), "", "lane-1", "lane-1", "main")
        self._held, self._make = root / "held", make
        held = shlex.quote(str(self._held))
        line = (
            f"cd {held}; echo x >>runs; touch begun; while [ ! -e go ]; do sleep {POLL_S}; done; [ ! -e red ]"
        )
        self._gate = Gate("tests", ("/bin/sh", "-c", line), 60.0)
        self._gates: Gates | None = None

    async def open(self) -> "ProgramGateStage":
        """Make the repository and the first gates."""
        await make_repository(self.repository)
        await add_worktree(self.repository, Path(self.workspace.path), "lane-1")
        await anyio.Path(self._held).mkdir()
        await self.crash()
        return self

    @property
    def gates(self) -> Gates:
        """The gates that are tried."""
        assert self._gates is not None
        return self._gates

    async def fail(self) -> None:
        """Let the gate fail."""
        await anyio.Path(self._held, "red").touch()

    async def begun(self) -> None:
        """Wait until the gate works."""
        begun = anyio.Path(self._held, "begun")
        while not await begun.exists():  # noqa: ASYNC110 - it is another process
            await anyio.sleep(POLL_S)

    async def release(self) -> None:
        """Let the gate end."""
        await anyio.Path(self._held, "go").touch()

    async def runs(self) -> int:
        """Return how often the gate was started."""
        runs = anyio.Path(self._held, "runs")
        return len((await runs.read_text()).split()) if await runs.exists() else 0

    async def crash(self) -> None:
        """Make other gates, as the next start would."""
        self._gates = await self._make(self.repository, self._gate)
