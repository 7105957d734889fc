"""Attempts in the sandbox: they are stopped, re-attached and reported as others are."""

from pathlib import Path

import anyio
import pytest
from tests.conftest import skip_unless_here
from tests.machine.attempts import CONNECT, HOLD, Children, PythonAgent, agents_of, request_of, run, running

from spec_kitty_orchestrator.core.model import Outcome, Role, Workspace
from spec_kitty_orchestrator.machine.attempt_files import read_command
from spec_kitty_orchestrator.machine.sandbox import Sandbox, find
from spec_kitty_orchestrator.ports import AttemptRequest

pytestmark = pytest.mark.asyncio

_SAVES = """
import os, signal
def save(*_):
    open("saved", "w").write("yes")
    os._exit(0)
signal.signal(signal.SIGTERM, save)
"""
_DAEMON = f"""
import os, subprocess, sys
code = {CONNECT + "signal.pause()"!r}
subprocess.Popen([sys.executable, "-c", code], env={{"PORT": os.environ["PORT"]}}, start_new_session=True)
"""
_TRIES_TO_WRITE = """
import pathlib
for one in ("in", "../out"):
    try:
        pathlib.Path(one).touch()
    except OSError:
        pass
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    made.mkdir()
    return made


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    made = Sandbox(find(), tmp_path, tmp_path / "own")
    skip_unless_here(made.failure)
    return made


def asked(root: Path, attempt_id: str, tree: Path, role: Role = Role.IMPLEMENT) -> AttemptRequest:
    return request_of(root, attempt_id, role=role, workspace=Workspace(str(tree), str(tree / "WP01.md")))


async def test_a_stop_lets_a_confined_agent_save_its_work(
    tmp_path: Path, tree: Path, sandbox: Sandbox, attempt_id: str, children: Children
) -> None:
    runner = agents_of(tmp_path, PythonAgent(_SAVES + HOLD), sandbox=sandbox)
    attempt = await runner.open(asked(tmp_path, attempt_id, tree))
    async with running(runner, attempt) as report:
        await children.up()
        await runner.stop_all(60)
        await children.gone()
    assert report().outcome is Outcome.CANCELED
    assert report().leftovers == 0
    assert (tree / "saved").read_text() == "yes"


async def test_a_daemon_without_environment_ends_with_a_confined_agent(
    tmp_path: Path, tree: Path, sandbox: Sandbox, attempt_id: str, children: Children
) -> None:
    runner = agents_of(tmp_path, PythonAgent(_DAEMON + HOLD), sandbox=sandbox)
    attempt = await runner.open(asked(tmp_path, attempt_id, tree))
    async with running(runner, attempt):
        await children.up(2)
        children.release()
        await children.gone()


async def test_an_attempt_whose_sandbox_fails_is_not_tried_again_and_says_why(
    tmp_path: Path, tree: Path, attempt_id: str
) -> None:
    fails = tmp_path / "bwrap"
    fails.write_text("#!/bin/sh\necho bwrap: no room >&2; exit 1\n")
    fails.chmod(0o755)
    broken = Sandbox(str(fails), tmp_path, tmp_path / "own")
    runner = agents_of(tmp_path, PythonAgent("print('result: fine')"), sandbox=broken)
    report = await run(runner, await runner.open(asked(tmp_path, attempt_id, tree)))
    assert report.outcome is Outcome.INVALID_REQUEST
    assert report.detail.startswith("its sandbox cannot be made: bwrap: no room")


async def test_what_is_recorded_says_how_the_attempt_was_confined(
    tmp_path: Path, tree: Path, sandbox: Sandbox, attempt_id: str
) -> None:
    runner = agents_of(tmp_path, PythonAgent("print('ok')"), sandbox=sandbox)
    attempt = await runner.open(asked(tmp_path, attempt_id, tree, Role.REVIEW))
    await run(runner, attempt)
    record = read_command(Path(attempt.directory), attempt_id)
    assert record is not None
    assert record.sandbox[0] == sandbox.program
    assert record.argv[0] not in record.sandbox
    assert record.env["TMPDIR"] == "/tmp"


async def test_a_reviewer_cannot_change_the_worktree_and_an_implementer_nothing_else(
    tmp_path: Path, tree: Path, sandbox: Sandbox, attempt_id: str
) -> None:
    for role, made in ((Role.REVIEW, []), (Role.IMPLEMENT, ["in"])):
        runner = agents_of(tmp_path, PythonAgent(_TRIES_TO_WRITE), sandbox=sandbox)
        attempt = await runner.open(asked(tmp_path, f"{attempt_id}-{role.value}", tree, role))
        await run(runner, attempt)
        assert [path.name async for path in anyio.Path(tree).iterdir()] == made
    assert not await anyio.Path(tmp_path, "out").exists()
