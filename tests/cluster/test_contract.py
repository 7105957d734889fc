"""Agents on real workers keep what every runner promises."""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.cluster.lab import Lab

from spec_kitty_orchestrator.agents.declared import Declared
from spec_kitty_orchestrator.agents.spec import AgentSettings
from spec_kitty_orchestrator.app.build import VERSION
from spec_kitty_orchestrator.cluster.agents import ClusterAgents
from spec_kitty_orchestrator.core.model import Role
from spec_kitty_orchestrator.machine.process import MARKER
from spec_kitty_orchestrator.settings.agent_section import AgentSection
from spec_kitty_orchestrator.testing import HeldAgent, ProgramStage, RunnerContract, RunnerStage

pytest.importorskip("distributed")

BOT = f"""
import os, pathlib, sys, time
place = pathlib.Path(sys.argv[1], os.environ["{MARKER}"])
place.mkdir(exist_ok=True)
with open(place / "runs", "a") as runs:
    runs.write("x")
prompt = sys.stdin.buffer.read()
if sys.argv[2] == "implement":
    pathlib.Path("work.txt").write_text("work")
(place / "begun").touch()
while not (place / "go").exists():
    time.sleep(0.01)
sys.stdout.buffer.write(prompt)
"""
"""As the program of `HeldAgent`, which no worker has."""


class TestClusterAgents(RunnerContract):
    @pytest.fixture
    async def stage(self, tmp_path: Path, lab: Lab) -> AsyncIterator[RunnerStage]:
        from spec_kitty_orchestrator.cluster.dask import DaskTransport

        served = AsyncExitStack()

        async def make(repository: Path, agent: HeldAgent) -> ClusterAgents:
            command = (sys.executable, "-I", "-S", "-c", BOT, str(agent.folder))
            section = AgentSection(command=command, implement_args=("implement",), review_args=("review",))
            declared = section.declaration("bot")
            assert declared is not None
            runner = ClusterAgents(
                repository,
                {"bot": (Declared(declared), AgentSettings())},
                timeouts=dict.fromkeys(Role, 60.0),
                version=VERSION,
                transport=lambda _: DaskTransport(lab.address, None).connected(),
            )
            await served.aclose()
            await served.enter_async_context(runner.serving("demo"))
            return runner

        stage = ProgramStage(tmp_path, make)
        stage.agent.name = "bot"
        yield await stage.open()
        await served.aclose()
