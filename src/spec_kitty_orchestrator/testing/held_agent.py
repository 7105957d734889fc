"""An agent that works until it is released, and the stage on which it tries runners of real programs."""

import json
import sys
from collections.abc import Awaitable, Callable, Iterable
from itertools import count
from pathlib import Path
from uuid import uuid4

import anyio

from spec_kitty_orchestrator.agents.spec import (
    BOTH_ROLES,
    AgentCommand,
    AgentSettings,
    Assignment,
    Login,
    Permissions,
    ShellInReview,
)
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Workspace
from spec_kitty_orchestrator.ports import AgentRunner, AttemptRequest
from spec_kitty_orchestrator.testing.small_repository import add_worktree, make_repository

__all__ = ["HeldAgent", "ProgramStage"]

POLL_S = 0.01

_WORK = "work.txt"
_PROGRAM = f"""
import json, pathlib, sys, time
place = pathlib.Path(sys.argv[1])
place.mkdir(parents=True, exist_ok=True)
with open(place / "runs", "a") as runs:
    runs.write("x")
prompt = sys.stdin.buffer.read().decode()
if sys.argv[2] == "implement":
    pathlib.Path("{_WORK}").write_text("work")
(place / "begun").touch()
while not (place / "go").exists():
    time.sleep({POLL_S})
print(json.dumps({{"held": "ended", "prompt": prompt}}), flush=True)
"""


class HeldAgent:
    """Implements `agents.spec.Agent`: Python that works until it is released.

    It writes `work.txt` in its workspace when it implements, and its last words are its prompt.

    Args:
        folder: absolute; where it tells that it works, and looks whether it may end. Its processes must reach
            it, wherever they run.
    """

    name = "held"
    family = "held"
    executable: str = sys.executable
    environment: tuple[str, ...] = ()
    roles = BOTH_ROLES
    versions: tuple[str, ...] = ()
    install = ""
    login: Login = Login()
    shell_in_review: ShellInReview = "always"
    traces: tuple[str, ...] = ()
    resumes = False
    reports_cost = False
    caps_cost = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state: tuple[str, ...] = (f"{folder}/",)

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        """Run the program."""
        place = str(self.folder / task.attempt_id)
        own = ("-I", "-S", "-c", _PROGRAM, place, task.role.value)
        return AgentCommand((settings.executable or self.executable, *own, *settings.extra_args))

    def permissions(self, role: Role) -> Permissions:
        """Tell that nothing is confined."""
        return Permissions("auto", "none", "none")

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        """Read the one line that the program prints at its end."""
        for line in stdout:
            if line.startswith('{"held": "ended"'):
                try:
                    return AgentReport(Outcome.OK, text=str(json.loads(line)["prompt"]))
                except (ValueError, KeyError, RecursionError):
                    break
        return AgentReport(Outcome.FAILED, detail=stderr_tail)

    async def begun(self, attempt_id: str) -> None:
        """Wait until the program works for an attempt."""
        begun = anyio.Path(self.folder, attempt_id, "begun")
        while not await begun.exists():  # noqa: ASYNC110 - it is another process
            await anyio.sleep(POLL_S)

    async def release(self, attempt_id: str) -> None:
        """Let the program of an attempt end, also of one that has not begun."""
        place = anyio.Path(self.folder, attempt_id)
        await place.mkdir(parents=True, exist_ok=True)
        await (place / "go").touch()

    async def runs(self, attempt_id: str) -> int:
        """Return how often the program was started for an attempt."""
        runs = anyio.Path(self.folder, attempt_id, "runs")
        return len(await runs.read_text()) if await runs.exists() else 0


class ProgramStage:
    """Implements `contracts.runner.RunnerStage` for a runner that starts programs.

    The workspaces are worktrees of a repository in `root`; the agent is called `held`.

    Args:
        root: an empty folder.
        make: makes a runner as each start of a run does, of the agent for the repository at this path.
    """

    def __init__(self, root: Path, make: Callable[[Path, HeldAgent], Awaitable[AgentRunner]]) -> None:
        self.repository: Path = root / "repository"
        self.agent: HeldAgent = HeldAgent(root / "held")
        self._root, self._make = root, make
        self._runner: AgentRunner | None = None
        self._numbers = count(1)

    async def open(self) -> "ProgramStage":
        """Make the repository and the first runner."""
        await make_repository(self.repository)
        await anyio.Path(self.agent.folder).mkdir()
        await self.crash()
        return self

    @property
    def runner(self) -> AgentRunner:
        """The runner that is tried."""
        assert self._runner is not None
        return self._runner

    async def request(self, role: Role = Role.IMPLEMENT) -> AttemptRequest:
        """Return a request for a new attempt, in a worktree of its own."""
        number = next(self._numbers)
        branch, place = f"lane-{number}", self._root / f"lane-{number}"
        await add_worktree(self.repository, place, branch)
        workspace = Workspace(str(place), str(place / "README.md"), branch, branch, "main")
        prompt = f"Prompt {number}: ünïcode 🙂\nand a second line"
        wp_id = f"WP{number:02}"
        return AttemptRequest(uuid4().hex, "demo", wp_id, 1, role, self.agent.name, workspace, prompt)

    async def begun(self, attempt_id: str) -> None:
        """Wait until the agent of an attempt works."""
        await self.agent.begun(attempt_id)

    async def release(self, attempt_id: str) -> None:
        """Let the agent of an attempt end."""
        await self.agent.release(attempt_id)

    async def runs(self, attempt_id: str) -> int:
        """Return how often an agent was started for an attempt."""
        return await self.agent.runs(attempt_id)

    async def worked(self, request: AttemptRequest) -> bool:
        """Tell whether the work of the agent is in the workspace."""
        return await anyio.Path(request.workspace.path, _WORK).exists()

    async def crash(self) -> None:
        """Make another runner, as the next start would."""
        self._runner = await self._make(self.repository, self.agent)
