"""Gates through a real scheduler on a real worker keep what all gates promise, and leave no trace here."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import anyio
import pytest
from anyio import to_thread
from pydantic import TypeAdapter
from tests.cluster.lab import LIMIT_S, Lab
from tests.cluster.test_attempt_host import HOLDING
from tests.machine.attempts import Children

from spec_kitty_orchestrator.agents.declared import Declared
from spec_kitty_orchestrator.agents.spec import AgentSettings
from spec_kitty_orchestrator.app.build import VERSION
from spec_kitty_orchestrator.cluster import gates as cluster_gates
from spec_kitty_orchestrator.cluster.agents import ClusterAgents
from spec_kitty_orchestrator.cluster.gates import ClusterGates
from spec_kitty_orchestrator.cluster.placement import PLACED, WANTED
from spec_kitty_orchestrator.cluster.records import Placed, Wanted, read, write
from spec_kitty_orchestrator.cluster.shipment import Shipment, Snapshot
from spec_kitty_orchestrator.core.events import Event, GateBegun, GateBroken, GatesPassed
from spec_kitty_orchestrator.core.model import Role, Workspace
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.logs import mission_logs
from spec_kitty_orchestrator.machine.process import find_marked
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.settings.agent_section import AgentSection
from spec_kitty_orchestrator.testing import GatesContract, GateStage, ProgramGateStage
from spec_kitty_orchestrator.testing.small_repository import add_worktree, make_repository

pytest.importorskip("distributed")

JOURNAL = TypeAdapter(GateBegun)
DRIVER = """
import sys
from pathlib import Path
import anyio
from tests.cluster.test_gates_on_workers import begin
anyio.run(begin, sys.argv[1], Path(sys.argv[2]), sys.argv[3])
"""


@pytest.fixture
def children() -> Iterator[Children]:
    with closing(Children()) as made:
        yield made


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
            version=VERSION,
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


async def turn(gates: ClusterGates, root: Path, told: list[GateBegun], wp_id: str = "WP01") -> Event:
    """Run a turn of gates, or go on with it, and say what it came to; what begins is told, and kept."""
    known = list(told)

    async def begun(gate: GateBegun) -> None:
        told.append(gate)
        with (root / "journal").open("ab") as journal:
            journal.write(JOURNAL.dump_json(gate) + b"\n")

    async def moved() -> str:
        return ""

    with anyio.fail_after(LIMIT_S):
        where = Workspace(str(root / "lane"), "")
        report = await gates.run(wp_id, where, "a" * 40, 1, 1, "tree", known, moved, begun)
    return report.event


async def begin(address: str, root: Path, line: str) -> None:
    """Run a turn of one gate; for a coordinator that is a process of its own."""
    gates = await Coordinator(address).gates(root / "repository", lines(held=line))
    await turn(gates, root, [])


def place_of(gate: GateBegun) -> Placed:
    found = read(Placed, Path(gate.log, PLACED))
    assert found is not None
    return found


async def worker_of(lab: Lab, gate: GateBegun) -> str:
    """Name the worker that has a gate."""
    machine = f'"{place_of(gate).machine}"'
    (found,) = [one for one in lab.root.glob("*/state/*/machine.json") if machine in one.read_text()]
    return found.relative_to(lab.root).parts[0]


async def prepared(root: Path) -> Path:
    """Make a repository with a worktree, and return it."""
    await make_repository(root / "repository")
    await add_worktree(root / "repository", root / "lane", "lane-1")
    return root / "repository"


def held(root: Path, children: Children) -> str:
    """Return a gate that leaves a line of each run, and ends when the test lets it."""
    return f"echo ran >>{root}/runs; {HOLDING.format(children.port)}"


async def is_over(root: Path, told: Sequence[GateBegun]) -> str:
    """Return how often a gate has run of which nothing is left on its machine."""
    assert all(place_of(one).done for one in told)
    assert find_marked(told[-1].marker) == []
    return await anyio.Path(root, "runs").read_text()


def made_on(machine: str, repository: Path, wp_id: str) -> None:
    """Leave what is left of an attempt that has made the work of a work package on a machine."""
    directory = mission_logs(repository, "demo") / wp_id / "01-implement-bot"
    directory.mkdir(parents=True)
    request = AttemptRequest(
        "made", "demo", wp_id, 1, Role.IMPLEMENT, "bot", Workspace(str(repository), ""), ""
    )
    write(directory / WANTED, Wanted(request))
    sent = Shipment("project", "lane", Snapshot("a" * 40, "a" * 40))
    write(directory / PLACED, Placed("made", machine, "demo", str(repository), sent, done=True))


def lines(**wanted: str) -> list[Gate]:
    return [Gate(name, ("/bin/sh", "-c", line), 60.0) for name, line in wanted.items()]


@pytest.mark.anyio
async def test_the_gates_of_a_turn_share_a_checkout_on_a_machine_and_leave_nothing_here(
    tmp_path: Path, coordinator: Coordinator
) -> None:
    told: list[GateBegun] = []
    repository = await prepared(tmp_path)
    commit = "git commit --quiet --allow-empty --message more"
    commands = lines(build="pwd; echo made >made.txt", look="cat made.txt", commit=commit)
    gates = await coordinator.gates(repository, commands)
    event = await turn(gates, tmp_path, told)
    assert isinstance(event, GateBroken)
    assert (event.name, [one.name for one in told]) == ("commit", ["build", "look", "commit"])
    assert "moved the branch" in event.reason
    built, looked = [await anyio.Path(one.log, "stdout.log").read_text() for one in told[:2]]
    assert (str(tmp_path / "lane") in built, looked) == (False, "made\n")
    assert not await anyio.Path(tmp_path, "lane", "made.txt").exists()
    assert all(place_of(one).done for one in told)


@pytest.mark.anyio
async def test_a_checkout_for_gates_is_set_up_there_once_and_a_setup_that_fails_is_tried_again(
    tmp_path: Path, coordinator: Coordinator
) -> None:
    told: list[GateBegun] = []
    repository, place = await prepared(tmp_path), tmp_path / "place"
    await anyio.Path(repository, ".git", "info", "exclude").write_text("tool\n")
    setup = lines(install=f"cat {place} && : >tool")
    gates = await coordinator.gates(repository, lines(look="ls", again="ls"), setup)
    with pytest.raises(WorkspaceError, match=r"the setup of its worktree on .* failed") as failed:
        await turn(gates, tmp_path, told)
    log = str(failed.value).partition("; see ")[2].partition(";")[0]
    assert "No such file" in await anyio.Path(log).read_text()
    assert str(failed.value).endswith(f"cat: {place}: No such file or directory")
    place.touch()
    assert isinstance(await turn(gates, tmp_path, told), GatesPassed)
    for one in told:
        assert "tool" in await anyio.Path(one.log, "stdout.log").read_text()
    assert (await anyio.Path(log).read_text()).count("$ ") == 1
    assert not await anyio.Path(told[-1].log, "setup.log").exists()
    assert not await anyio.Path(tmp_path, "lane", "tool").exists()


@pytest.mark.anyio
@pytest.mark.parametrize("back", ["it runs", "it has ended"])
async def test_a_gate_outlives_its_worker_and_counts_once(
    tmp_path: Path, coordinator: Coordinator, children: Children, lab: Lab, back: str
) -> None:
    told: list[GateBegun] = []
    gates = await coordinator.gates(await prepared(tmp_path), lines(held=held(tmp_path, children)))
    events: list[Event] = []

    async def run() -> None:
        events.append(await turn(gates, tmp_path, told))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await children.up()
        name = await worker_of(lab, told[-1])
        await to_thread.run_sync(lab.kill, name)
        if back == "it has ended":
            children.release()
            await children.gone()
        await to_thread.run_sync(lab.worker, name)
        if back == "it runs":
            children.release()
    assert isinstance(events[0], GatesPassed)
    assert await is_over(tmp_path, told) == "ran\n"


@pytest.mark.anyio
async def test_a_gate_outlives_its_coordinator_and_counts_once(
    tmp_path: Path, coordinator: Coordinator, children: Children, lab: Lab
) -> None:
    repository, line = await prepared(tmp_path), held(tmp_path, children)
    argv = [sys.executable, "-c", DRIVER, lab.address, str(tmp_path), line]
    path = [*sys.path, str(Path(__file__).parents[2])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    async with await anyio.open_process(argv, stderr=None, env=env) as driver:
        await children.up()
        driver.kill()
    kept = await anyio.Path(tmp_path, "journal").read_bytes()
    told = [JOURNAL.validate_json(one) for one in kept.splitlines()]
    gates = await coordinator.gates(repository, lines(held=line))
    assert (await gates.settle("WP01", "a" * 40, 1, told)).running
    children.release()
    assert isinstance(await turn(gates, tmp_path, told), GatesPassed)
    assert await is_over(tmp_path, told) == "ran\n"


@pytest.mark.anyio
async def test_gates_wait_for_the_machine_that_made_the_work_and_then_run_on_another(
    tmp_path: Path, coordinator: Coordinator, children: Children, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_gates, "CHOICE_S", 1.0)
    told: dict[str, list[GateBegun]] = {name: [] for name in ("WP01", "WP02", "WP03")}
    gates = await coordinator.gates(await prepared(tmp_path), lines(held=held(tmp_path, children)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn, gates, tmp_path, told["WP01"], "WP01")
        await children.up()
        machine = place_of(told["WP01"][-1]).machine
        for name in ("WP02", "WP03"):
            made_on(machine, tmp_path / "repository", name)
        for name in ("WP02", "WP03"):
            tasks.start_soon(turn, gates, tmp_path, told[name], name)
            await children.up()
        places = [place_of(told[name][-1]).machine for name in ("WP02", "WP03")]
        children.release()
    assert (places[0], places[1] != machine) == (machine, True)


@pytest.mark.anyio
async def test_gates_do_not_wait_for_a_machine_that_takes_none_any_more() -> None:
    class OtherVersion:
        """Rounds in which the machine answers and has another version now."""

        machines: ClassVar = {"m": None}
        widened: ClassVar = list[str]()

        def takes(self, machine: str) -> bool:
            return False

        async def widen(self, attempt_id: str) -> None:
            self.widened.append(attempt_id)

    gates = object.__new__(ClusterGates)
    gates._agents = SimpleNamespace(rounds=OtherVersion())  # type: ignore[assignment]
    with anyio.move_on_after(1):
        await gates._look_elsewhere("one", "m", strict=True)
    assert OtherVersion.widened == ["one"]
