"""Gates through a real scheduler on a real worker keep what all gates promise, and leave no trace here."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import anyio
import pytest
from tests.cluster.lab import LIMIT_S, Lab

from spec_kitty_orchestrator.agents.declared import Declared
from spec_kitty_orchestrator.agents.spec import AgentSettings
from spec_kitty_orchestrator.cluster.agents import ClusterAgents
from spec_kitty_orchestrator.cluster.gates import ClusterGates
from spec_kitty_orchestrator.cluster.placement import PLACED
from spec_kitty_orchestrator.cluster.records import Placed, read
from spec_kitty_orchestrator.core.events import GateBegun, GateBroken, GatesPassed
from spec_kitty_orchestrator.core.model import Workspace
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.ports.gates import GateReport
from spec_kitty_orchestrator.settings.agent_section import AgentSection
from spec_kitty_orchestrator.testing import GatesContract, GateStage, ProgramGateStage
from spec_kitty_orchestrator.testing.small_repository import add_worktree, make_repository

pytest.importorskip("distributed")


class Coordinator:
    """One coordinator at a time; each has a task of its own, as it may be left within a test's scopes."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._task: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()

    async def gates(self, root: Path, gates: Sequence[Gate], setup: Sequence[Gate] = ()) -> ClusterGates:
        """Make the gates of the next start."""
        from spec_kitty_orchestrator.cluster.dask import DaskTransport

        await self.close()
        declared = AgentSection(command=("true",), prompt="argument").declaration("bot")
        assert declared is not None
        agents = ClusterAgents(
            root,
            {"bot": (Declared(declared), AgentSettings())},
            timeouts={},
            version="0",
            transport=lambda _: DaskTransport(self._address, None).connected(),
            setup=setup,
        )
        ready, self._leave = asyncio.Event(), asyncio.Event()

        async def serve() -> None:
            async with agents.serving("demo"):
                ready.set()
                await self._leave.wait()

        self._task = asyncio.create_task(serve())
        with anyio.fail_after(LIMIT_S):
            await ready.wait()
        return ClusterGates(agents, root, "demo", gates)

    async def close(self) -> None:
        """End the last start."""
        if self._task is not None:
            self._leave.set()
            with anyio.fail_after(LIMIT_S):
                await self._task


@pytest.fixture
async def coordinator(lab: Lab) -> AsyncIterator[Coordinator]:
    coordinator = Coordinator(lab.address)
    yield coordinator
    await coordinator.close()


class TestClusterGates(GatesContract):
    @pytest.fixture
    async def stage(self, tmp_path: Path, coordinator: Coordinator) -> GateStage:
        async def make(repository: Path, gate: Gate) -> ClusterGates:
            return await coordinator.gates(repository, (gate,))

        return await ProgramGateStage(tmp_path, make).open()


async def turn(
    gates: ClusterGates, lane: Path, number: int = 1, told: Sequence[GateBegun] = ()
) -> tuple[GateReport, list[GateBegun]]:
    """Run a turn of gates, or go on with it; return the report and the gates that were begun."""
    found = list(told)

    async def begun(gate: GateBegun) -> None:
        found.append(gate)

    async def moved() -> str:
        return ""

    with anyio.fail_after(LIMIT_S):
        report = await gates.run(
            "WP01", Workspace(str(lane), ""), "a" * 40, number, number, "tree", told, moved, begun
        )
    return report, found


def lines(**wanted: str) -> list[Gate]:
    return [Gate(name, ("/bin/sh", "-c", line), 60.0) for name, line in wanted.items()]


@pytest.mark.anyio
async def test_the_gates_of_a_turn_share_a_checkout_on_a_machine_and_leave_nothing_here(
    tmp_path: Path, coordinator: Coordinator
) -> None:
    repository, lane = tmp_path / "repository", tmp_path / "lane"
    await make_repository(repository)
    await add_worktree(repository, lane, "lane-1")
    commit = "git commit --quiet --allow-empty --message more"
    commands = lines(build="pwd; echo made >made.txt", look="cat made.txt", commit=commit)
    gates = await coordinator.gates(repository, commands)
    report, told = await turn(gates, lane)
    assert isinstance(report.event, GateBroken)
    assert (report.event.name, [one.name for one in told]) == ("commit", ["build", "look", "commit"])
    assert "moved the branch" in report.event.reason
    built, looked = [await anyio.Path(one.log, "stdout.log").read_text() for one in told[:2]]
    assert (str(lane) in built, looked) == (False, "made\n")
    assert not await anyio.Path(lane, "made.txt").exists()
    places = [read(Placed, Path(one.log, PLACED)) for one in told]
    assert all(place is not None and place.done for place in places)


@pytest.mark.anyio
async def test_a_checkout_for_gates_is_set_up_there_once_and_a_setup_that_fails_is_tried_again(
    tmp_path: Path, coordinator: Coordinator
) -> None:
    repository, lane, place = tmp_path / "repository", tmp_path / "lane", tmp_path / "place"
    await make_repository(repository)
    await add_worktree(repository, lane, "lane-1")
    await anyio.Path(repository, ".git", "info", "exclude").write_text("tool\n")
    setup = lines(install=f"cat {place} && : >tool")
    gates = await coordinator.gates(repository, lines(look="ls", again="ls"), setup)
    with pytest.raises(WorkspaceError, match=r"the setup of its worktree on .* failed") as failed:
        await turn(gates, lane)
    log = str(failed.value).partition("; see ")[2].partition(";")[0]
    assert "No such file" in await anyio.Path(log).read_text()
    assert str(failed.value).endswith(f"cat: {place}: No such file or directory")
    place.touch()
    (known,) = [GateBegun("look", "a" * 40, str(Path(log).parent), ("/bin/sh", "-c", "ls"), turn=1)]
    report, told = await turn(gates, lane, told=[known])
    assert isinstance(report.event, GatesPassed)
    for one in told:
        assert "tool" in await anyio.Path(one.log, "stdout.log").read_text()
    assert (await anyio.Path(log).read_text()).count("$ ") == 1
    assert not await anyio.Path(told[-1].log, "setup.log").exists()
    assert not await anyio.Path(lane, "tool").exists()
