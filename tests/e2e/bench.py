"""A bench for the agents' real CLIs: real git and processes, a host in memory, a stand-in for the model."""

import os
import shlex
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from signal import SIGTERM

import anyio
import psutil
from tests.e2e.configuring import environments
from tests.e2e.model_api import ModelApi

from spec_kitty_orchestrator.agents import find
from spec_kitty_orchestrator.agents.spec import AgentSettings
from spec_kitty_orchestrator.core.events import AgentExited, AttemptOpened
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Workspace
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.prompts import Prompts
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import Entry, Line
from spec_kitty_orchestrator.driver.engine import Orchestrator
from spec_kitty_orchestrator.driver.parts import Parts
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.machine.process import MARKER
from spec_kitty_orchestrator.machine.runner import LocalAgents
from spec_kitty_orchestrator.machine.workspaces import GitWorkspaces
from spec_kitty_orchestrator.testing.fake_host import FakeHost
from spec_kitty_orchestrator.testing.memory_journal import MemoryJournal, MemoryLock, StoppedClock, Watcher

RUN_LIMIT_S = 240.0
LIMIT_S = 60.0
"""Of an attempt; an agent that is to hang gets less."""
TASK = """---
create_intent:
- src/m01.py
subtasks:
- T001
---

# WP01

Write the module.
"""


class Ender(Watcher):
    """Ends the run after the first attempt with one of these outcomes, which would have it wait for long."""

    def __init__(self, outcomes: frozenset[Outcome]) -> None:
        super().__init__()
        self.outcomes = outcomes
        self.orchestrator: Orchestrator | None = None

    def saw(self, state: RunState, line: Line) -> None:
        super().saw(state, line)
        event = line.event if isinstance(line, Entry) else None
        if isinstance(event, AgentExited) and event.report.outcome in self.outcomes and self.orchestrator:
            self.orchestrator.drain(SIGTERM)


@dataclass
class Bench:
    """A repository with one work package, and the CLIs set up to ask the stand-in.

    Attributes:
        env: by agent, more variables for its CLI.
        limit_s: of an attempt.
    """

    root: Path
    clis: Mapping[str, str]
    api: ModelApi
    env: dict[str, dict[str, str]] = field(default_factory=dict)
    limit_s: float = LIMIT_S

    def __post_init__(self) -> None:
        """Make the repository and the worktree, as the host would."""
        self.repo = self.root / "repo"
        self.host = FakeHost({"WP01": ()}, root=str(self.repo), subtasks={"WP01": ["T001"]})
        self.cli_env = environments(self.clis, self.api.url, self.root / "home")
        self.seen: Watcher = Watcher()
        where = self.workspace
        task = Path(where.prompt_path)
        task.parent.mkdir(parents=True)
        task.write_text(TASK)
        identity = "-c user.name=test -c user.email=test@localhost"
        for command in (
            "init --quiet --initial-branch main",
            f"{identity} add .",
            f"{identity} commit --quiet --message begin",
            "config user.name test",
            "config user.email test@localhost",
            f"branch {where.base_ref}",
            f"worktree add --quiet -b {where.branch} {shlex.quote(where.path)} {where.base_ref}",
        ):
            subprocess.run(["git", *shlex.split(command)], cwd=self.repo, check=True, timeout=LIMIT_S)

    @property
    def workspace(self) -> Workspace:
        """Where the work package is worked on."""
        lane = self.host.lane_ids["WP01"]
        return Workspace(
            str(self.repo / ".worktrees" / f"demo-{lane}"),
            str(self.repo / "kitty-specs/demo/tasks/WP01.md"),
            lane,
            f"kitty/mission-demo-{lane}",
            "kitty/mission-demo",
        )

    def agents(self) -> LocalAgents:
        """Make the runner of the real CLIs, and of the scripted agent."""
        configured = {
            name: (find(name), AgentSettings(program, env=self.cli_env[name] | self.env.get(name, {})))
            for name, program in self.clis.items()
        }
        timeouts = {Role.IMPLEMENT: self.limit_s, Role.REVIEW: self.limit_s}
        return LocalAgents(
            self.repo,
            configured | {"scripted": (find("scripted"), AgentSettings())},
            timeouts=timeouts,
            version="0.2.0",
        )

    def run(self, implementer: str, reviewer: str, ends_with: frozenset[Outcome] = frozenset()) -> RunResult:
        """Drive the mission with hardly a pause between two attempts, and leave no process behind."""
        self.seen = ender = Ender(ends_with)
        texts = resources.files("spec_kitty_orchestrator") / "prompts"
        parts = Parts(
            "demo",
            "driver",
            Policy((implementer,), (reviewer,), max_concurrent=1, retry_base_s=0.01),
            lock=MemoryLock(),
            host=self.host,
            agents=self.agents(),
            workspaces=GitWorkspaces(self.repo, "demo"),
            journal=MemoryJournal(),
            clock=StoppedClock(),
            observer=ender,
            prompts=Prompts(
                **{role: (texts / f"{role}.md").read_text() for role in ("implement", "rework", "review")}
            ),
            version="0.2.0",
        )
        ender.orchestrator = Orchestrator(parts)

        async def within_bounds(orchestrator: Orchestrator) -> RunResult:
            with anyio.fail_after(RUN_LIMIT_S):
                return await orchestrator.run()

        return anyio.run(within_bounds, ender.orchestrator)

    def reports(self, role: Role) -> list[AgentReport]:
        """Return how the attempts of a role ended, in their order."""
        roles = {
            event.attempt.id: event.attempt.role
            for _, event in self.seen.events
            if isinstance(event, AttemptOpened)
        }
        ended = (event for _, event in self.seen.events if isinstance(event, AgentExited))
        return [event.report for event in ended if roles[event.attempt_id] is role]

    def alive(self) -> list[psutil.Process]:
        """Find the processes that belong to an attempt of this bench, also of a run that was cut off."""
        mine = {str(self.root / "home" / agent) for agent in self.clis}
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                env = process.environ()
                if process.pid != os.getpid() and MARKER in env and env.get("HOME") in mine:
                    found.append(process)
        return found
