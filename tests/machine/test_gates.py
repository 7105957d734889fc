"""Gates on this machine: one run each turn, whatever happens to us, and nothing left behind."""

import json
import os
import signal
import stat
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from tests.machine.conftest import git

from spec_kitty_orchestrator.core.commands import RunGates
from spec_kitty_orchestrator.core.events import (
    Event,
    GateBegun,
    GateBroken,
    GateFailed,
    GatesPassed,
    GatesStopped,
    HeadMoved,
)
from spec_kitty_orchestrator.core.model import Workspace
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.core.reviewing import unproven
from spec_kitty_orchestrator.core.work_package import Work, WorkPackage
from spec_kitty_orchestrator.driver.gates import run_gates
from spec_kitty_orchestrator.machine.gates import LocalGates
from spec_kitty_orchestrator.machine.orphans import Orphan, find_orphans, stop_orphans
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.machine.sandbox import Sandbox, find
from spec_kitty_orchestrator.ports.gates import GateReport

LIMIT_S = 20
HEAD = "a" * 40
BRANCH = "kitty/m-lane-a"

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("never_blocks")]


def shell(name: str, line: str, timeout_s: float = 60) -> Gate:
    return Gate(name, ("/bin/sh", "-c", line), timeout_s)


def home(root: Path) -> Path:
    return root / ".kittify" / "logs" / "034-demo" / "WP01"


async def nothing_moved() -> str:
    return ""


class Told(list[GateBegun]):
    """What the journal of a test holds."""

    async def begun(self, gate: GateBegun) -> None:
        self.append(gate)


@pytest.fixture
def told() -> Told:
    return Told()


async def run(
    gates: LocalGates,
    root: Path,
    head: str = HEAD,
    number: int = 3,
    turn: int = 1,
    tree: str = "tree",
    told: Told | None = None,
) -> GateReport:
    told = Told() if told is None else told
    with anyio.fail_after(LIMIT_S):
        return await gates.run(
            "WP01", Workspace(str(root), ""), head, number, turn, tree, told, nothing_moved, told.begun
        )


async def orphans(root: Path) -> list[Orphan]:
    return await anyio.to_thread.run_sync(find_orphans, home(root).parent)


def local(root: Path, *gates: Gate) -> LocalGates:
    return LocalGates(root, "034-demo", gates)


async def test_gates_that_pass_are_told_with_their_commit_and_logged_privately(tmp_path: Path) -> None:
    gates = (shell("lint", "echo fine; echo hm >&2"), Gate("words", ("test", "a b", "=", "a b")))
    report = await run(local(tmp_path, *gates), tmp_path)
    assert isinstance(report.event, GatesPassed)
    assert report.tree == "tree"
    assert unproven(gates, report.event.results, HEAD) == ()
    directory = home(tmp_path) / "03-gate-lint"
    assert report.event.results[0].log == str(directory)
    assert (directory / "stdout.log").read_text() == "fine\n"
    assert (directory / "stderr.log").read_text() == "hm\n"
    assert (directory / "exit").read_text() == "0\n"
    assert json.loads((directory / "command.json").read_text())["head"] == HEAD
    assert json.loads((directory / "result.json").read_text())["kind"] == "passed"
    assert {stat.S_IMODE(one.stat().st_mode) for one in directory.iterdir()} == {0o600}


async def test_a_red_gate_gives_the_end_of_its_output_and_those_after_it_do_not_run(tmp_path: Path) -> None:
    noisy = shell("tests", "seq 1 5000; echo E assert 1 == 2; echo boom >&2; exit 1")
    report = await run(local(tmp_path, noisy, shell("later", "touch ran")), tmp_path)
    assert isinstance(report.event, GateFailed)
    assert not report.event.result.ok
    assert "E assert 1 == 2\n\nboom" in report.event.tail
    assert report.event.tail.startswith("…")
    assert len(report.event.tail) < 13_000
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("no-such-command-anywhere", "not found"),
        ("exec ./data", "not executable"),
        ("kill -KILL $$", "SIGKILL"),
    ],
)
async def test_a_gate_that_says_nothing_of_the_work_is_broken(tmp_path: Path, line: str, reason: str) -> None:
    (tmp_path / "data").write_text("x")
    report = await run(local(tmp_path, shell("tests", line)), tmp_path)
    assert isinstance(report.event, GateBroken)
    assert reason in report.event.reason


async def test_a_command_of_words_that_does_not_exist_is_broken(tmp_path: Path) -> None:
    report = await run(local(tmp_path, Gate("tests", ("no-such-command-anywhere", "-q"))), tmp_path)
    assert isinstance(report.event, GateBroken)


async def test_a_gate_that_cannot_be_confined_or_found_in_its_sandbox_is_broken(tmp_path: Path) -> None:
    failing = tmp_path / "bwrap"
    failing.write_text("#!/bin/sh\necho bwrap: no room >&2\nexit 1\n")
    failing.chmod(0o755)
    gate = Gate("tests", ("./no-such-command-anywhere",))

    def here() -> list[Sandbox]:
        both = [
            Sandbox(str(failing), tmp_path, tmp_path / "own"),
            Sandbox(find(), tmp_path, tmp_path / "own"),
        ]
        return both[: 1 if both[1].failure else 2]

    sandboxes = await anyio.to_thread.run_sync(here)
    for number, sandbox in enumerate(sandboxes):
        gates = LocalGates(tmp_path, f"mission-{number}", (gate,), sandbox=sandbox)
        report = await run(gates, tmp_path)
        assert isinstance(report.event, GateBroken)
        assert "bwrap: " in report.event.reason


async def test_a_worktree_that_is_gone_makes_a_gate_broken(tmp_path: Path) -> None:
    gates = local(tmp_path, shell("tests", "true"))
    with anyio.fail_after(LIMIT_S):
        report = await gates.run(
            "WP01", Workspace(str(tmp_path / "gone"), ""), HEAD, 1, 1, "tree", (), nothing_moved, Told().begun
        )
    assert isinstance(report.event, GateBroken)
    assert "cannot be started" in report.event.reason


async def test_a_program_that_crashes_is_a_red_gate(tmp_path: Path) -> None:
    report = await run(local(tmp_path, shell("tests", "kill -SEGV $$")), tmp_path)
    assert isinstance(report.event, GateFailed)


async def test_a_gate_that_does_not_end_in_time_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    line = "setsid sleep 1000 & echo $! >pid; wait"
    report = await run(local(tmp_path, shell("tests", line, timeout_s=0.5)), tmp_path)
    assert isinstance(report.event, GateBroken)
    assert "did not end within 0.5 s" in report.event.reason
    assert not await orphans(tmp_path)


async def test_what_a_gate_leaves_running_is_ended_after_it(tmp_path: Path) -> None:
    report = await run(
        local(tmp_path, shell("tests", "setsid sleep 1000 >/dev/null 2>&1 & exit 0")), tmp_path
    )
    assert isinstance(report.event, GatesPassed)
    assert not await orphans(tmp_path)


@pytest.mark.parametrize("status", [1, 128, 200, 255])
async def test_an_exit_status_that_is_no_signals_is_red(tmp_path: Path, status: int) -> None:
    report = await run(local(tmp_path, shell("tests", f"exit {status}")), tmp_path)
    assert isinstance(report.event, GateFailed)


async def test_stdin_is_empty_and_only_variables_that_are_let_through_reach_a_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKO_ACTOR", "me")
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("DATABASE_URL", "postgres://here")
    monkeypatch.setenv("VENDOR_API_KEY", "of others")
    line = 'cat; echo "$SKO_ACTOR|$GIT_DIR|$DATABASE_URL|$VENDOR_API_KEY|$PWD"'
    gates = LocalGates(tmp_path, "034-demo", (shell("tests", line),), passed=("DATABASE_URL",))
    await run(gates, tmp_path)
    said = (home(tmp_path) / "03-gate-tests" / "stdout.log").read_text()
    assert said == f"||postgres://here||{tmp_path}\n"


async def test_secrets_are_neither_in_the_tail_nor_in_the_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPLOY_TOKEN", "hunter2hunter2")
    gate = shell("tests", 'echo "$DEPLOY_TOKEN"; exit 1')
    gates = LocalGates(tmp_path, "034-demo", (gate,), Redactor(["hunter2hunter2"]), ("DEPLOY_TOKEN",))
    report = await run(gates, tmp_path)
    assert isinstance(report.event, GateFailed)
    assert "hunter2" not in report.event.tail
    logs = [one.read_text() for one in (home(tmp_path) / "03-gate-tests").iterdir()]
    assert "hunter2" not in "".join(logs)


async def test_each_turn_has_a_directory_of_its_own(tmp_path: Path, told: Told) -> None:
    gates = local(tmp_path, shell("tests", "exit 1"))
    await run(gates, tmp_path, told=told)
    await run(gates, tmp_path, turn=2, told=told)
    await run(gates, tmp_path, head="b" * 40, turn=2, told=told)
    names = {one.name for one in home(tmp_path).iterdir()}
    assert names == {"03-gate-tests", "03-gate-tests-2", "03-gate-tests-3"}


async def test_a_gate_whose_command_was_changed_is_run_again(tmp_path: Path, told: Told) -> None:
    await run(local(tmp_path, shell("tests", "exit 1")), tmp_path, told=told)
    report = await run(local(tmp_path, shell("tests", "exit 0")), tmp_path, told=told)
    assert isinstance(report.event, GatesPassed)


async def wait_for(path: Path) -> None:
    with anyio.fail_after(LIMIT_S):
        while not await anyio.Path(path).exists():
            await anyio.lowlevel.checkpoint()


LONG = "echo x >>runs; touch begun; while [ ! -e go ]; do sleep 0.02; done; exit 7"


async def test_a_gate_that_ended_while_we_were_gone_is_read(tmp_path: Path, told: Told) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(run, told=told), local(tmp_path, shell("tests", LONG)), tmp_path)
        await wait_for(tmp_path / "begun")
        tasks.cancel_scope.cancel()
    (tmp_path / "go").touch()
    await wait_for(home(tmp_path) / "03-gate-tests" / "exit")
    report = await run(local(tmp_path, shell("tests", LONG)), tmp_path, told=told)
    assert isinstance(report.event, GateFailed)
    assert (tmp_path / "runs").read_text() == "x\n"


@pytest.mark.parametrize("how", ["abort", "power"])
async def test_a_gate_that_was_ended_while_we_were_gone_is_to_be_run_again(
    tmp_path: Path, told: Told, how: str
) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(run, told=told), local(tmp_path, shell("tests", LONG)), tmp_path)
        await wait_for(tmp_path / "begun")
        tasks.cancel_scope.cancel()
    if how == "abort":
        assert await stop_orphans(home(tmp_path).parent, grace_s=5)
    else:
        for one in await orphans(tmp_path):
            # The end of one can be the end of another.
            with suppress(ProcessLookupError):
                os.kill(one.child.pid, signal.SIGKILL)
        with anyio.fail_after(LIMIT_S):
            while await orphans(tmp_path):
                await anyio.lowlevel.checkpoint()
    report = await run(local(tmp_path, shell("tests", LONG)), tmp_path, told=told)
    assert isinstance(report.event, GatesStopped)


async def test_stop_all_ends_a_running_gate_with_all_that_it_started(tmp_path: Path) -> None:
    gates = local(tmp_path, shell("tests", LONG))
    reports: list[GateReport] = []

    async def collect() -> None:
        reports.append(await run(gates, tmp_path))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect)
        await wait_for(tmp_path / "begun")
        with anyio.fail_after(LIMIT_S):
            await gates.stop_all(5)
    assert [type(one.event) for one in reports] == [GatesStopped]
    assert not await orphans(tmp_path)


async def in_worktree(lane: Any, line: str, told: Told | None = None) -> tuple[Event, str]:
    """Run a gate as the driver does, after a commit; return what happened and the commit."""
    lane.write("a.py", "a = 2\n")
    head = (await lane.committed()).head
    gates = local(lane.root, shell("tests", line))
    return await as_driver(gates, lane, head, Told() if told is None else told), head


async def as_driver(gates: LocalGates, lane: Any, head: str, told: Told) -> Event:
    work = Work(base=lane.base, head=head, gates_begun=tuple(told))
    wp = WorkPackage("WP01", workspace=lane.workspace, work=work)
    with anyio.fail_after(LIMIT_S):
        return await run_gates(gates, lane.git, wp, RunGates(head, 1, 1), told.begun)


async def test_a_worktree_is_put_back_after_the_gates_and_ignored_files_stay(lane: Any) -> None:
    line = "mkdir build; echo x >build/out; echo x >cache.log; echo 'a = 3' >a.py; rm b.py"
    event, head = await in_worktree(lane, line)
    assert isinstance(event, GatesPassed)
    state = await lane.git.state(lane.workspace)
    assert (state.head, state.branch, state.dirty) == (head, BRANCH, ())
    assert not await anyio.Path(lane.path / "build").exists()
    assert await anyio.Path(lane.path / "cache.log").exists()


async def test_a_gate_that_commits_is_undone_and_no_check_of_the_commit(lane: Any) -> None:
    event, head = await in_worktree(lane, "echo 'a = 3' >a.py && git commit -qam formatted")
    assert isinstance(event, GateBroken)
    assert "moved the branch" in event.reason
    state = await lane.git.state(lane.workspace)
    assert (state.head, state.branch, state.dirty) == (head, BRANCH, ())


async def test_gates_do_not_run_on_edits_that_no_commit_holds(lane: Any, told: Told) -> None:
    head = (await lane.committed()).head
    lane.write("a.py", "a = 'mended by hand'\n")
    gates = local(lane.root, shell("tests", "true"))
    event = await as_driver(gates, lane, head, told)
    assert event == GateBroken("", "uncommitted changes: a.py")
    assert not home(lane.root).exists()


async def test_what_may_not_be_committed_and_ignored_files_hold_no_gate_up(lane: Any, told: Told) -> None:
    head = (await lane.committed()).head
    lane.write(".env", "A=1\n")
    lane.write("cache.log")
    gates = local(lane.root, shell("tests", "test -e .env"))
    event = await as_driver(gates, lane, head, told)
    assert isinstance(event, GatesPassed)
    assert (lane.path / ".env").exists()


async def crashed_while_it_runs(lane: Any, head: str, told: Told) -> None:
    gates = local(lane.root, shell("tests", "echo x >litter; touch begun; while :; do sleep 0.02; done"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(as_driver, gates, lane, head, told)
        await wait_for(lane.path / "begun")
        tasks.cancel_scope.cancel()


async def test_a_gate_whose_command_was_changed_is_stopped_and_its_litter_removed(
    lane: Any, told: Told
) -> None:
    head = (await lane.committed()).head
    await crashed_while_it_runs(lane, head, told)
    gates = LocalGates(lane.root, "034-demo", (shell("tests", "test ! -e litter"),))
    event = await as_driver(gates, lane, head, told)
    assert isinstance(event, GatesPassed)
    assert not await orphans(lane.root)


async def test_a_gate_is_stopped_when_the_branch_moved_while_we_were_gone(lane: Any, told: Told) -> None:
    head = (await lane.committed()).head
    await crashed_while_it_runs(lane, head, told)
    git(lane.path, "commit", "-q", "--allow-empty", "-m", "by hand")
    other = git(lane.path, "rev-parse", "HEAD")
    gates = local(lane.root, shell("tests", "true"))
    event = await as_driver(gates, lane, head, told)
    assert isinstance(event, HeadMoved)
    assert event.head == other
    assert not await orphans(lane.root)
    assert (await lane.git.state(lane.workspace)).dirty == ()
    [saved] = event.rescued.refs
    assert "litter" in git(lane.path, "ls-tree", "--name-only", saved).splitlines()


async def test_a_gate_that_commits_is_no_check_after_a_crash_either(lane: Any, told: Told) -> None:
    line = "echo 'a = 3' >a.py && git commit -qam formatted"
    _, head = await in_worktree(lane, line, told)
    # The branch was put back, and the journal does not know it yet.
    gates = local(lane.root, shell("tests", line))
    event = await as_driver(gates, lane, head, told)
    assert isinstance(event, GateBroken)
    assert "moved the branch" in event.reason
