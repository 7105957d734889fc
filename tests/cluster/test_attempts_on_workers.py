"""Attempts through a real scheduler on real workers that share no folder with us, whoever is killed."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import anyio.lowlevel
import pytest
from anyio import to_thread
from tests.cluster.lab import LIMIT_S, Lab
from tests.machine.attempts import Children

from spec_kitty_orchestrator.agents.declared import Declared
from spec_kitty_orchestrator.agents.spec import AgentSettings
from spec_kitty_orchestrator.app.build import VERSION
from spec_kitty_orchestrator.app.cluster import stop_left
from spec_kitty_orchestrator.app.project import Project as RunProject
from spec_kitty_orchestrator.app.project import bare_project
from spec_kitty_orchestrator.cluster import rounds
from spec_kitty_orchestrator.cluster.agents import WAIT_TOLD_S, ClusterAgents
from spec_kitty_orchestrator.cluster.placement import PLACED, WANTED
from spec_kitty_orchestrator.cluster.records import Placed, Wanted, read, spelled, understood, write
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Outcome, Role, Workspace
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine import attempt_files
from spec_kitty_orchestrator.machine.process import find_marked
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.settings.agent_section import AgentSection

distributed = pytest.importorskip("distributed")
pytestmark = [pytest.mark.asyncio]

BOT = """
import os, socket, sys
place, port, prompt = sys.argv[1:]
open(place + "/runs", "a").write(os.environ["HOME"] + "\\n")
open("made.txt", "w").write("made")
open("kept.txt", "w").write("changed")
os.remove("gone.txt")
print("begun", flush=True)
if int(port):
    line = socket.create_connection(("127.0.0.1", int(port)))
    line.sendall(b"+")
    line.recv(1)
print("the answer to", prompt)
"""


CHANGED = {"M kept.txt", "M other.txt", "D gone.txt", "?? made.txt"}


def git(path: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=path, check=True, capture_output=True, text=True, timeout=30)
    return done.stdout.strip()


class Project:
    """A repository with one worktree, and what is asked of the bot in it."""

    def __init__(self, root: Path, address: str, port: str = "0") -> None:
        self.root, self.address, self.port = root / "project", address, port
        self.worktree = root / "worktree"
        self.runs_file = root / "runs"
        self.said: list[str] = []
        if not self.root.exists():
            self.root.mkdir()
            git(self.root, "init", "--quiet")
            for name, value in (("email", "somebody@example.org"), ("name", "Somebody")):
                git(self.root, "config", f"user.{name}", value)
            for name in ("kept.txt", "gone.txt", "other.txt"):
                (self.root / name).write_text(name)
            git(self.root, "add", ".")
            git(self.root, "commit", "--quiet", "--message", "first")
            git(self.root, "worktree", "add", "--quiet", "-b", "lane", str(self.worktree))
            (self.worktree / "other.txt").write_text("not committed")

    def agents(
        self, lost_after_s: float = 60.0, setup: Sequence[Gate] = (), **settings: object
    ) -> ClusterAgents:
        from spec_kitty_orchestrator.cluster.dask import DaskTransport

        command = (sys.executable, "-c", BOT, str(self.runs_file.parent), self.port, "{prompt}")
        declared = AgentSection(command=command, prompt="argument").declaration("bot")
        assert declared is not None
        return ClusterAgents(
            self.root,
            {"bot": (Declared(declared), AgentSettings(**settings))},  # type: ignore[arg-type]
            timeouts={Role.IMPLEMENT: 60.0, Role.REVIEW: 60.0},
            version=VERSION,
            transport=lambda _: DaskTransport(self.address, None).connected(),
            lost_after_s=lost_after_s,
            say=self.said.append,
            setup=setup,
        )

    def request(self) -> AttemptRequest:
        workspace = Workspace(str(self.worktree), str(self.root / "WP01.md"))
        head = git(self.worktree, "rev-parse", "HEAD")
        name = uuid4().hex
        return AttemptRequest(
            name, "034-demo", "WP01", 1, Role.IMPLEMENT, "bot", workspace, "the prompt", head
        )

    @property
    def runs(self) -> list[str]:
        return self.runs_file.read_text().splitlines()

    def changes(self) -> set[str]:
        told = git(self.worktree, "status", "--porcelain").splitlines()
        return {line.strip() for line in told}


@pytest.fixture
def children() -> Iterator[Children]:
    made = Children()
    yield made
    made.close()


@pytest.fixture
def project(tmp_path: Path, lab: Lab, children: Children) -> Project:
    return Project(tmp_path, lab.address, children.port)


async def opened(agents: ClusterAgents, project: Project) -> Attempt:
    with anyio.fail_after(LIMIT_S):
        return await agents.open(project.request())


@asynccontextmanager
async def running(agents: ClusterAgents, attempt: Attempt) -> AsyncIterator[Callable[[], AgentReport]]:
    """Be connected, and run an attempt beside the body; afterwards the callable gives its report."""
    reports: list[AgentReport] = []

    async def collect() -> None:
        reports.append(await agents.run(attempt))

    with anyio.fail_after(LIMIT_S):
        async with agents.serving("034-demo"), anyio.create_task_group() as tasks:
            tasks.start_soon(collect)
            yield lambda: reports[0]


def is_whole(project: Project, attempt: Attempt, report: AgentReport) -> None:
    """Check that it ran once, that its work and its log are here, and that nothing of it is left."""
    assert (report.outcome, report.text) == (Outcome.OK, "begun\nthe answer to the prompt")
    assert len(project.runs) == 1
    assert project.changes() == CHANGED
    assert (Path(attempt.directory) / "stdout.log").read_text() == "begun\nthe answer to the prompt\n"
    assert find_marked(attempt.id) == []


async def drive(root: str, address: str, port: str) -> None:
    """Be the coordinator that a test kills."""
    project = Project(Path(root), address, port)
    agents = project.agents()
    async with agents.serving("034-demo"):
        attempt = await agents.open(project.request())
        (project.root.parent / "attempt.json").write_bytes(spelled(attempt))
        await agents.run(attempt)


DRIVER = """
import importlib.util, sys, anyio
spec = importlib.util.spec_from_file_location("driven", sys.argv[1])
module = sys.modules["driven"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
anyio.run(module.drive, *sys.argv[2:])
"""


async def killed(project: Project, children: Children) -> Attempt:
    """Return an attempt whose coordinator got SIGKILL after its agent had begun."""
    argv = [sys.executable, "-c", DRIVER, __file__, str(project.root.parent), project.address, project.port]
    path = [*sys.path, str(Path(__file__).parents[2])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    async with await anyio.open_process(argv, stderr=None, env=env) as driver:
        await children.up()
        driver.kill()
    return understood(Attempt, (project.root.parent / "attempt.json").read_bytes())


async def waiting(agents: ClusterAgents) -> list[str]:
    """Name the attempts that hold a slot of a worker."""
    seats = await agents.transport.workers()
    told = [await agents.transport.call(seat.address, "look", LIMIT_S, offsets={}) for seat in seats]
    return [name for one in told for name in one["waiting"]]


def machine_of(project: Project) -> str:
    """Name the worker on which the bot was started."""
    return Path(project.runs[-1]).name


async def test_workers_tell_of_slots_and_ends_so_no_attempt_waits_for_a_round(
    tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "EVERY_S", 10 * LIMIT_S)
    project = Project(tmp_path, lab.address)
    agents = project.agents()
    attempt = await opened(agents, project)
    async with running(agents, attempt) as report:
        pass
    is_whole(project, attempt, report())


async def test_an_attempt_runs_on_a_worker_and_its_work_and_its_log_come_back(
    project: Project, children: Children, lab: Lab
) -> None:
    agents = project.agents()
    attempt = await opened(agents, project)
    async with running(agents, attempt) as report:
        await children.up()
        log = Path(attempt.directory) / "stdout.log"
        while not log.exists() or log.read_text() != "begun\n":
            await anyio.lowlevel.checkpoint()
        children.release()
    is_whole(project, attempt, report())
    assert Path(project.runs[0]).parent == lab.root, "it has the home of a worker"


async def test_two_runs_share_the_slots_of_a_cluster(tmp_path: Path, lab: Lab, children: Children) -> None:
    projects, attempts, reports = [], [], list[AgentReport]()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        projects.append(Project(tmp_path / name, lab.address, children.port))
    async with AsyncExitStack() as stack:
        stack.enter_context(anyio.fail_after(LIMIT_S))
        for project in projects:
            await stack.enter_async_context((agents := project.agents()).serving("034-demo"))
            for wp in ("WP01", "WP02", "WP03"):
                worktree = project.root.parent / wp
                git(project.root, "worktree", "add", "--quiet", "-b", wp, str(worktree))
                request = replace(
                    project.request(), wp_id=wp, workspace=Workspace(str(worktree), str(worktree / "m"))
                )
                attempts.append((agents, await agents.open(request)))

        async def run(agents: ClusterAgents, attempt: Attempt) -> None:
            reports.append(await agents.run(attempt))

        async with anyio.create_task_group() as tasks:
            for agents, attempt in attempts:
                tasks.start_soon(run, agents, attempt)
            await children.up(4)
            while len([one for project in projects for one in project.said if "a free slot" in one]) < 2:
                await anyio.lowlevel.checkpoint()
            assert sum(len(one.runs) for one in projects if one.runs_file.exists()) == 4, (
                "there are four slots"
            )
            children.release()
            while children.lines:
                children.lines.pop().close()
            await children.up(2)
            children.release()
    assert [one.outcome for one in reports] == [Outcome.OK] * 6
    assert [len(one.runs) for one in projects] == [3, 3]
    assert sum(one.waited_s >= WAIT_TOLD_S for one in reports) >= 2


async def test_an_attempt_is_found_again_when_its_workers_process_was_killed(
    project: Project, children: Children, lab: Lab
) -> None:
    agents = project.agents()
    attempt = await opened(agents, project)
    async with running(agents, attempt) as report:
        await children.up()
        name = machine_of(project)
        await to_thread.run_sync(lab.kill, name)
        await to_thread.run_sync(lab.worker, name)
        children.release()
    is_whole(project, attempt, report())


async def test_the_next_coordinator_finds_the_attempt_that_runs(project: Project, children: Children) -> None:
    attempt = await killed(project, children)
    async with running(project.agents(), attempt) as report:
        children.release()
    is_whole(project, attempt, report())


async def test_an_attempt_without_a_run_is_stopped_on_its_machine_and_its_work_comes_with_the_next_one(
    project: Project, children: Children
) -> None:
    attempt = await killed(project, children)
    ours = bare_project(project.root, {})
    run = ours.settings.run.model_copy(update={"executor": project.address})
    ours = replace(ours, settings=ours.settings.model_copy(update={"run": run}))

    async def opened() -> tuple[RunProject, str]:
        return ours, "034-demo"

    with anyio.fail_after(LIMIT_S):
        (line,) = await stop_left(project.root, "034-demo", opened)
    assert line.startswith("WP01: its attempt is stopped at ")
    assert find_marked(attempt.id) == []
    async with running(project.agents(), attempt) as report:
        pass
    assert (report().outcome, report().detail) == (Outcome.LOST, "its worker was stopped")
    assert project.changes() == CHANGED
    assert await stop_left(project.root, "034-demo", opened) == []


async def test_the_next_coordinator_takes_what_ended_meanwhile(project: Project, children: Children) -> None:
    attempt = await killed(project, children)
    children.release()
    await children.gone()
    async with running(project.agents(), attempt) as report:
        pass
    is_whole(project, attempt, report())


async def test_an_attempt_outlives_the_scheduler(project: Project, children: Children, lab: Lab) -> None:
    agents = project.agents()
    attempt = await opened(agents, project)
    async with running(agents, attempt) as report:
        await children.up()
        await to_thread.run_sync(lab.kill, "scheduler")
        await to_thread.run_sync(lab.scheduler)
        children.release()
    is_whole(project, attempt, report())


async def test_a_stopped_attempt_is_gone_from_its_worker_and_its_work_is_here(
    project: Project, children: Children
) -> None:
    agents = project.agents()
    attempt = await opened(agents, project)
    async with running(agents, attempt) as report:
        await children.up()
        await agents.stop_all(5.0)
        await children.gone()
    assert report().outcome is Outcome.CANCELED
    assert project.changes() == CHANGED
    assert find_marked(attempt.id) == []


async def test_an_attempt_whose_machine_cannot_stop_it_goes_on_and_that_is_said(
    project: Project, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents = project.agents()
    attempt = await opened(agents, project)

    async def refused(*_: object) -> None:
        raise WorkspaceError("no space left")

    monkeypatch.setattr(agents, "_stop_at", refused)
    async with running(agents, attempt) as report, anyio.create_task_group() as tasks:
        await children.up()
        tasks.start_soon(agents.stop, attempt, 5.0)
        while "WP01: it cannot be stopped: no space left" not in project.said:
            await anyio.lowlevel.checkpoint()
        children.release()
    assert report().text == "begun\nthe answer to the prompt"


async def test_an_attempt_whose_workspace_is_gone_gives_its_slot_back_at_once(
    project: Project, lab: Lab
) -> None:
    agents = project.agents()
    with anyio.fail_after(LIMIT_S):
        attempt = await opened(agents, project)
        shutil.rmtree(project.worktree)
        async with agents.serving("034-demo"):
            with pytest.raises(WorkspaceError):
                await agents.run(attempt)
            assert await waiting(agents) == []


async def test_an_attempt_whose_checkout_cannot_be_set_up_is_told_as_at_home_and_leaves_nothing_there(
    project: Project, lab: Lab
) -> None:
    agents = project.agents(setup=[Gate("setup-1", ("/bin/sh", "-c", "echo no >&2; exit 1"))])
    with anyio.fail_after(LIMIT_S):
        attempt = await opened(agents, project)
        async with agents.serving("034-demo"):
            with pytest.raises(WorkspaceError, match=r"(?s)the setup of its worktree on .* failed: .*\nno$"):
                await agents.run(attempt)
            assert await waiting(agents) == []
    assert (Path(attempt.directory) / "setup.log").read_text() == "$ echo no >&2; exit 1\nno\n"
    placed = read(Placed, Path(attempt.directory) / PLACED)
    assert placed is not None
    assert placed.done
    assert not list(lab.root.glob(f"*/state/*/attempts/{attempt.id}/attempt.json"))


async def test_an_attempt_that_its_machine_cannot_begin_ends_with_its_words_and_gives_its_slot_back(
    project: Project, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents = project.agents()
    attempt = await opened(agents, project)
    order = agents._order
    # No machine knows this agent by its name.
    monkeypatch.setattr(agents, "_order", lambda *asked: replace(order(*asked), declared=None))
    async with running(agents, attempt) as report:
        pass
    assert (report().outcome, "bot" in report().detail) == (Outcome.CRASHED, True)
    assert not project.runs_file.exists()
    async with agents.serving("034-demo"):
        assert await waiting(agents) == []


@pytest.mark.parametrize("scaled_down", [False, True])
async def test_a_worker_that_leaves_hands_the_work_back_first(
    project: Project, children: Children, lab: Lab, *, scaled_down: bool
) -> None:
    agents = project.agents()
    attempt = await opened(agents, project)
    async with running(agents, attempt) as report:
        await children.up()
        name = machine_of(project)
        if scaled_down:
            # What an adaptive cluster does: its scheduler first, then whoever has the job or the pod.
            placed = read(Placed, Path(attempt.directory) / PLACED)
            assert placed is not None
            async with distributed.Client(lab.address, asynchronous=True) as client:
                assert await client.retire_workers([agents.rounds.machines[placed.machine].address])
        await to_thread.run_sync(lab.kill, name, signal.SIGTERM)
    await to_thread.run_sync(lab.worker, name)
    assert (report().outcome, report().detail) == (Outcome.LOST, "its worker was stopped")
    assert project.changes() == CHANGED
    assert len(project.runs) == 1


async def test_an_attempt_of_a_silent_machine_is_lost_and_its_work_is_kept_when_that_is_back(
    project: Project, children: Children, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents = project.agents(lost_after_s=1.0)
    attempt = await opened(agents, project)
    save = attempt_files.save

    async def saved(attempt: Attempt, report: AgentReport) -> None:
        # Who dies after this has noted it all.
        placed = read(Placed, Path(attempt.directory) / PLACED)
        assert placed is not None
        assert placed.lost
        await save(attempt, report)

    monkeypatch.setattr(attempt_files, "save", saved)
    async with running(agents, attempt) as report:
        await children.up()
        name = machine_of(project)
        await to_thread.run_sync(lab.kill, name)
    assert report().outcome is Outcome.LOST
    assert project.changes() == {"M other.txt"}, "nothing came back"

    await to_thread.run_sync(lab.worker, name)
    agents = project.agents()
    with anyio.fail_after(LIMIT_S):
        async with agents.serving("034-demo"):
            while not (found := [one for one in project.said if "is back" in one]):
                await anyio.lowlevel.checkpoint()
            await children.gone()
    ref = found[0].partition("git show ")[2].strip("`")
    assert git(project.root, "show", f"{ref}:made.txt") == "made"
    assert project.changes() == {"M other.txt"}
    assert len(project.runs) == 1


async def test_an_attempt_that_goes_on_with_a_session_waits_for_its_machine_until_that_is_lost(
    project: Project,
) -> None:
    agents = project.agents(lost_after_s=1.0)
    attempt = await opened(agents, project)
    path = Path(attempt.directory) / WANTED
    wanted = read(Wanted, path)
    assert wanted is not None
    write(path, replace(wanted, machine="gone", request=replace(wanted.request, session="s")))
    async with running(agents, attempt) as report:
        pass
    assert (report().outcome, report().machine) == (Outcome.LOST, "gone")
    assert "has not answered for 1s: its session is only there" in report().detail
    assert not project.runs_file.exists()


async def test_an_attempt_does_not_wait_behind_another_agents_that_finds_no_slot(
    tmp_path: Path, lab: Lab
) -> None:
    from spec_kitty_orchestrator.cluster.dask import DaskTransport

    await to_thread.run_sync(lab.worker, "c", "busy=1,other=1")
    wanted = {"first": "busy", "behind": "busy", "beside": "other"}
    async with DaskTransport(lab.address, None).connected() as transport:
        asks = rounds.Rounds(transport, VERSION, lost_after_s=60.0)
        with anyio.fail_after(LIMIT_S), ExitStack() as followed:
            async with rounds.beside(asks.keep_asking):
                for name, agent in wanted.items():
                    followed.enter_context(asks.following(name, agent, tmp_path))
                    if name != "behind":
                        await asks.slot(name)
                for name in wanted:
                    await asks.let_go(name)
    await to_thread.run_sync(lab.kill, "c", signal.SIGTERM)


async def test_the_next_run_lets_go_of_a_task_that_its_predecessor_had_asked_for_anew(lab: Lab) -> None:
    from spec_kitty_orchestrator.cluster.dask import DaskTransport

    with anyio.fail_after(LIMIT_S):
        async with DaskTransport(lab.address, None).connected() as killed:
            await killed.hold("one", "nobody's")
            await killed.hold("one", "nobody's", free=True)
        async with DaskTransport(lab.address, None).connected() as following:
            await following.hold("one", "nobody's")
            await following.release("one")
        async with distributed.Client(lab.address, asynchronous=True) as client:
            assert await client.list_datasets() == ()
            while await client.run_on_scheduler(  # noqa: ASYNC110 - in another process
                lambda dask_scheduler: len(dask_scheduler.tasks)
            ):
                await anyio.sleep(0.01)


async def test_a_task_that_is_let_go_while_it_is_asked_for_leaves_no_name(lab: Lab) -> None:
    from spec_kitty_orchestrator.cluster.dask import DaskTransport

    class Slow(distributed.Client):  # type: ignore[misc,name-defined]
        """A client whose names arrive at the scheduler after they were taken back, if they may."""

        asked, back = anyio.Event(), anyio.Event()

        async def publish_dataset(self, *arguments: object, **named: object) -> None:
            self.asked.set()
            with anyio.move_on_after(0.3):
                await self.back.wait()
            await super().publish_dataset(*arguments, **named)

        async def unpublish_dataset(self, name: str) -> None:
            await super().unpublish_dataset(name)
            self.back.set()

    with anyio.fail_after(LIMIT_S), pytest.MonkeyPatch.context() as patched:
        patched.setattr("spec_kitty_orchestrator.cluster.dask.Client", Slow)
        async with (
            DaskTransport(lab.address, None).connected() as transport,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(transport.hold, "one", "nobody's")
            await Slow.asked.wait()
            await transport.release("one")
        async with distributed.Client(lab.address, asynchronous=True) as client:
            assert await client.list_datasets() == ()


async def test_a_slot_that_was_given_back_is_not_held_again_when_its_worker_goes(lab: Lab) -> None:
    from spec_kitty_orchestrator.cluster.dask import DaskTransport

    def state_of(name: str, dask_scheduler: Any) -> str:
        return str(dask_scheduler.tasks[name].state)

    async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
        while not await is_so():  # noqa: ASYNC110 - in another process
            await anyio.sleep(0.01)

    await to_thread.run_sync(lab.worker, "c", "solo=1")
    with anyio.fail_after(LIMIT_S):
        async with (
            DaskTransport(lab.address, None).connected() as transport,
            distributed.Client(lab.address, asynchronous=True) as client,
        ):
            (solo,) = [one.address for one in await transport.workers() if "solo" in one.resources]
            key = "spec-kitty-orchestrator-ended"

            async def is_held() -> bool:
                return "ended" in (await transport.call(solo, "look", 5.0, offsets={}))["waiting"]

            async def has_ended() -> bool:
                return await client.run_on_scheduler(state_of, key) in ("memory", "erred")

            async def is_gone() -> bool:
                return solo not in {one.address for one in await transport.workers()}

            await transport.hold("ended", "solo")
            await until(is_held)
            await transport.call(solo, "dismiss", 5.0, attempt_id="ended")
            await until(has_ended)
            await to_thread.run_sync(lab.kill, "c")
            await until(is_gone)
            assert await client.run_on_scheduler(state_of, key) == "erred", "it is not to be done again"
            await transport.hold("ended", "solo")
            assert await client.run_on_scheduler(state_of, f"{key}-1") == "no-worker", "it is asked for anew"
            await transport.release("ended")
