"""A machine's side: what is asked twice, too late or at the same time begins an attempt at most once."""

import re
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import pytest_asyncio
from tests.cluster.test_attempts_on_workers import git
from tests.machine.attempts import LIMIT_S, Children

from spec_kitty_orchestrator.agents.spec import AgentSettings
from spec_kitty_orchestrator.cluster.attempt_host import AttemptHost
from spec_kitty_orchestrator.cluster.machine_folder import MachineFolder
from spec_kitty_orchestrator.cluster.machine_gate import setup_of
from spec_kitty_orchestrator.cluster.records import WorkOrder, spelled
from spec_kitty_orchestrator.cluster.shipping import Shipping
from spec_kitty_orchestrator.cluster.worker_log import WorkerLog
from spec_kitty_orchestrator.core.model import Role, Workspace
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.settings.agent_section import AgentSection

pytestmark = [pytest.mark.asyncio]

BOT = """
import os, socket, sys
open(sys.argv[1], "a").write(os.environ.get("LET_THROUGH", "nothing") + "\\n")
line = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
line.sendall(b"+")
line.recv(1)
print("done")
"""

HOLDING = f"""
{sys.executable} -c 'import socket
line = socket.create_connection(("127.0.0.1", {{}}))
line.sendall(b"+")
line.recv(1)'
"""
"""A line for the shell that waits for the test."""


class Machine:
    """A host on a state folder, the order of one attempt, and the file in which each run leaves a line."""

    def __init__(self, root: Path, order: WorkOrder) -> None:
        self.root, self.order = root, order
        self.folder = MachineFolder.open(root / "state")
        self.host = AttemptHost(self.folder, version="0")

    @property
    def runs(self) -> list[str]:
        return (self.root / "runs").read_text().splitlines() if (self.root / "runs").exists() else []

    async def ask(self, method: str, **arguments: Any) -> Mapping[str, Any]:
        with anyio.fail_after(LIMIT_S):
            return await self.host.handle(method, arguments)

    async def hold(self, go_s: float = LIMIT_S) -> str:
        with anyio.fail_after(LIMIT_S):
            return await self.host.hold("one", lambda: True, go_s)

    async def begin(self) -> str:
        told = await self.ask("begin", order=spelled(self.order))
        return str(told.get("state", told))

    async def state(self) -> str:
        told = await self.ask("look", offsets={"one": {}})
        return str(told["attempts"]["one"]["state"])


@pytest.fixture
def children() -> Iterator[Children]:
    with closing(Children()) as made:
        yield made


@pytest_asyncio.fixture
async def machine(tmp_path: Path, children: Children) -> AsyncIterator[Machine]:
    project, worktree = tmp_path / "project", tmp_path / "worktree"
    project.mkdir()
    git(project, "init", "--quiet")
    (project / "a").write_text("a")
    git(project, "add", ".")
    git(project, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "--quiet", "-m", "first")
    git(project, "worktree", "add", "--quiet", "-b", "lane", str(worktree))
    shipping = Shipping(project, "m")
    shipment = await shipping.snapshot(worktree)
    command = (sys.executable, "-c", BOT, str(tmp_path / "runs"), children.port)
    declared = AgentSection(command=command).declaration("bot")
    workspace = Workspace(str(worktree), str(project / "WP01.md"))
    prompt = f"the prompt of {workspace.prompt_path} in {worktree}"
    request = AttemptRequest("one", "m", "WP01", 1, Role.IMPLEMENT, "bot", workspace, prompt)
    order = WorkOrder(
        request,
        shipment,
        AgentSettings(pass_env=("LET_THROUGH",)),
        declared,
        "",
        {Role.IMPLEMENT: 60.0, Role.REVIEW: 60.0},
        0.0,
        None,
        {"LET_THROUGH": "a value of the coordinator's"},
        task="what is to be done",
    )
    machine = Machine(tmp_path, order)
    assert await shipping.bundle("one", shipment, (), tmp_path / "bundle")
    data = (tmp_path / "bundle").read_bytes()
    with closing(machine.folder):
        await machine.ask("put", attempt_id="one", offset=0, data=data)
        yield machine
        children.release()
        await machine.ask("drop", attempt_id="one")
        await machine.host.close()


async def test_a_prompt_leads_to_the_text_of_the_work_package_and_to_the_workspace_as_they_are_here(
    machine: Machine, children: Children
) -> None:
    await machine.begin()
    await children.up()
    (prompt,) = machine.folder.path.glob("attempts/one/**/prompt.md")
    words = (await anyio.Path(prompt).read_text()).split()
    assert await anyio.Path(words[-3]).read_text() == "what is to be done"
    assert await anyio.Path(words[-1], "a").read_text() == "a"


async def test_an_attempt_that_several_ask_for_at_once_begins_once(
    machine: Machine, children: Children
) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(12):
            tasks.start_soon(machine.begin)
        await children.up()
    assert await machine.begin() == "running"
    assert len(machine.runs) == 1


async def test_an_attempt_that_was_stopped_before_it_began_never_begins(machine: Machine) -> None:
    await machine.ask("stop", attempts=["one"], grace_s=1.0)
    assert await machine.begin() == "refused"
    assert machine.runs == []


async def test_an_attempt_is_stopped_also_where_the_disk_takes_no_mark_of_that(
    machine: Machine, children: Children
) -> None:
    await machine.begin()
    await children.up()
    (machine.folder.path / "attempts" / "one" / "stop").symlink_to("/nonexistent/stop")
    assert await machine.ask("stop", attempts=["one"], grace_s=5.0) == {"states": {"one": "ended"}}
    await children.gone()


async def test_a_begin_that_comes_after_all_was_taken_over_begins_nothing(
    machine: Machine, children: Children
) -> None:
    await machine.begin()
    await children.up()
    await machine.ask("stop", attempts=["one"], grace_s=5.0)
    await machine.ask("pack", attempt_id="one")
    await machine.ask("drop", attempt_id="one")
    assert await machine.begin() == "refused"
    assert len(machine.runs) == 1


async def test_the_next_process_of_a_machine_attends_what_the_last_one_began(
    machine: Machine, children: Children
) -> None:
    await machine.begin()
    await children.up()
    await machine.host.close()
    machine.host = AttemptHost(machine.folder, version="0")
    await machine.host.adopt()
    assert await machine.begin() == "running"
    children.release()
    assert await machine.hold() == "ended"
    assert len(machine.runs) == 1


async def test_what_is_let_through_reaches_the_agent_and_no_file_of_the_machine(
    machine: Machine, children: Children
) -> None:
    await machine.begin()
    await children.up()
    assert machine.runs == ["a value of the coordinator's"]
    kept = [one for one in machine.folder.path.rglob("*") if one.is_file()]
    assert not [one for one in kept if b"a value of the coordinator" in one.read_bytes()]


async def test_a_machine_that_is_about_to_leave_begins_nothing(machine: Machine) -> None:
    machine.host.leaving = True
    assert await machine.begin() == "refused"
    machine.host.leaving = False
    assert await machine.begin() == "refused"


@pytest.mark.parametrize("how", ["stop", "drop", "leave"])
async def test_an_attempt_whose_workspace_is_still_being_made_does_not_begin_when_it_is_stopped(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    making, go_on, check_out = anyio.Event(), anyio.Event(), machine.host._checkouts.check_out

    async def slow(*asked: Any) -> Path:
        making.set()
        await go_on.wait()
        return await check_out(*asked)

    monkeypatch.setattr(machine.host._checkouts, "check_out", slow)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(machine.begin)
        await making.wait()
        if how == "stop":
            told = await machine.ask("stop", attempts=["one"], grace_s=0.0)
            assert told == {"states": {"one": "refused"}}
        elif how == "drop":
            tasks.start_soon(partial(machine.ask, "drop", attempt_id="one"))
            await anyio.wait_all_tasks_blocked()
        else:
            machine.host.leaving = True
            await machine.ask("stop", attempts=None, grace_s=0.0)
        go_on.set()
    assert await machine.begin() == "refused"
    assert await machine.state() == "refused"
    assert machine.runs == []


async def test_a_slot_is_given_back_when_nobody_wants_it(machine: Machine) -> None:
    assert await machine.hold(0.0) == "nobody came"
    assert await machine.host.hold("one", lambda: False) == "nobody came"
    async with anyio.create_task_group() as tasks:
        said: list[str] = []

        async def hold() -> None:
            said.append(await machine.hold())

        tasks.start_soon(hold)
        while "one" not in (await machine.ask("look", offsets={}))["waiting"]:
            await anyio.lowlevel.checkpoint()
        await machine.ask("dismiss", attempt_id="one")
    assert said == ["dismissed"]


def needing(machine: Machine, *commands: str) -> WorkOrder:
    """Let the attempt need a setup of these lines."""
    lines = [Gate(f"setup-{number}", ("/bin/sh", "-c", line)) for number, line in enumerate(commands, 1)]
    machine.order = replace(machine.order, setup=setup_of(lines, {"PASSED_WORD": "of the setup alone"}))
    return machine.order


async def log(machine: Machine, text: str) -> str:
    """Wait until the log of the setup holds a text, and return it whole."""
    with anyio.fail_after(LIMIT_S):
        while True:
            told = await machine.ask("look", offsets={"one": {}})
            found = told["attempts"]["one"]["logs"].get("setup.log", b"").decode()
            if text in found:
                return str(found)
            await anyio.lowlevel.checkpoint()


async def test_a_checkout_is_set_up_before_its_attempt_and_what_is_said_is_in_a_log_of_its_own(
    machine: Machine, children: Children
) -> None:
    lines = ("echo $PASSED_WORD >&2; test -e a", "pwd >a; : >made")
    needing(machine, *lines)
    await machine.begin()
    await children.up()
    said = await log(machine, "made")
    assert said.splitlines() == [
        "$ echo $PASSED_WORD >&2; test -e a",
        "of the setup alone",
        "$ pwd >a; : >made",
    ]
    checkout = next(machine.folder.path.glob("worktrees/*/*/a")).parent
    assert (await anyio.Path(checkout, "a").read_text(), (checkout / "made").exists()) == ("a", False)
    kept = [one for one in machine.folder.path.rglob("*") if one.is_file() and one.name != "stdout.log"]
    assert not [one for one in kept if b"of the setup alone" in one.read_bytes()]


async def test_a_setup_that_fails_is_told_once_and_tried_again_when_the_attempt_is_asked_for_again(
    machine: Machine, children: Children
) -> None:
    place = machine.root / "place"
    needing(machine, f"cat {place}", "echo never")
    held: list[str] = []

    async def hold() -> None:
        held.append(await machine.hold())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold)
        await machine.begin()
    assert held == ["absent"]
    told = await machine.ask("begin", order=spelled(machine.order))
    assert (told["state"], told["failed"]) == ("absent", f"`cat {place} && echo never` failed")
    assert told["tail"].splitlines()[0] == f"$ cat {place}"
    assert "No such file" in told["tail"]
    assert machine.runs == []
    place.touch()
    await machine.begin()
    await children.up()
    assert len(machine.runs) == 1


async def test_an_attempt_that_is_stopped_while_its_setup_runs_does_not_begin(
    machine: Machine, children: Children
) -> None:
    needing(machine, HOLDING.format(children.port))
    await machine.begin()
    await children.up()
    told = await machine.ask("stop", attempts=["one"], grace_s=1.0)
    await children.gone()
    assert (told["states"], machine.runs) == ({"one": "ended"}, [])
    delivery = (await machine.ask("pack", attempt_id="one"))["delivery"]
    assert b'"canceled"' in delivery


async def test_a_setup_whose_machine_has_died_is_stopped_by_the_next_process_and_done_again(
    machine: Machine, children: Children
) -> None:
    needing(machine, HOLDING.format(children.port))
    await machine.begin()
    await children.up()
    await machine.host.close()
    machine.host = AttemptHost(machine.folder, version="0")
    await machine.host.adopt()
    await children.gone()
    assert (await machine.state(), machine.runs) == ("absent", [])
    await machine.begin()
    await children.up()
    children.lines[-1].send(b"-")
    await children.up()
    assert len(machine.runs) == 1


@pytest.mark.parametrize("name", ["../one", "", "a/b", "one\0"])
async def test_an_id_that_is_no_id_names_no_file(machine: Machine, name: str) -> None:
    told = await machine.ask("drop", attempt_id=name)
    assert "is not the id of an attempt" in told["error"]


async def test_a_worker_tells_people_what_begins_and_ends_in_one_line_each_without_prompts(
    machine: Machine, children: Children
) -> None:
    said: list[str] = []
    machine.host = AttemptHost(machine.folder, version="0", say=said.append)
    request = replace(machine.order.request, wp_id="WP01\x1b[2J\nWP02", prompt="the secret prompt")
    machine.order = replace(machine.order, request=request)
    await machine.begin()
    await children.up()
    assert said == ["WP01 WP02 of m: bot implements, attempt 1 (one)"]
    await machine.host.close()
    machine.host = AttemptHost(machine.folder, version="0", say=said.append)
    await machine.host.adopt()
    assert said[1:] == ["WP01 WP02 of m: bot implements, goes on (one)"]
    children.release()
    assert await machine.hold() == "ended"
    assert re.fullmatch(r"WP01 WP02 of m: bot implements \(one\): ok after [\d.]+s", said[2])
    await machine.ask("pack", attempt_id="/")
    assert said[3:] == ["cannot pack: '/' is not the id of an attempt"]


async def test_a_worker_tells_once_of_a_run_that_is_silent_and_when_it_is_back(machine: Machine) -> None:
    said: list[str] = []
    now = 1000.0
    log = WorkerLog(said.append, lambda: now)
    log.begins(machine.order)
    said.clear()
    for _ in range(5):
        now += 20.0
        log.look()
    words = "m: bot implements (one): its run"
    assert said == [f"WP01 of {words} was last heard of 1m 00s ago; its agent goes on"]
    log.heard(["one", "another"])
    log.look()
    assert said[1:] == [f"WP01 of {words} is heard of again, after 1m 40s"]
    log.taken("one")
    now += 100.0
    log.look()
    assert len(said) == 2
    for for_s in (30.0, 60.0, 65.0):
        log.waits("two", for_s)
    assert said[2:] == ["attempt two has had a slot for 1m 00s, and its run is silent"]
