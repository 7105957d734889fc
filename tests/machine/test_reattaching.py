"""Attempts whose orchestrator was killed, or that other agents go on after: run once all the same."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from tests.machine.attempts import (
    COUNT,
    HOLD,
    LIMIT_S,
    SAY_OK,
    Children,
    PythonAgent,
    agents_of,
    killed_while_running,
    request_of,
    run,
    running,
    runs,
)

from spec_kitty_orchestrator.agents.spec import AgentSettings
from spec_kitty_orchestrator.core.model import Outcome, Role
from spec_kitty_orchestrator.machine import process
from spec_kitty_orchestrator.machine.runner import LocalAgents

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("never_blocks")]


def others(agent: PythonAgent) -> Callable[[str], tuple[PythonAgent, AgentSettings]]:
    """Find the agent for a run that does not choose it."""
    return lambda _: (agent, AgentSettings())


@pytest.mark.parametrize("recorded", [True, False], ids=["pid recorded", "pid not recorded"])
async def test_an_agent_that_outlived_a_killed_orchestrator_is_re_attached(
    tmp_path: Path, attempt_id: str, children: Children, recorded: bool
) -> None:
    code = COUNT + HOLD + SAY_OK
    attempt = await killed_while_running(tmp_path, attempt_id, code, children)
    if not recorded:
        (Path(attempt.directory) / "process.json").unlink()

    async with running(agents_of(tmp_path, PythonAgent(code)), attempt) as report:
        children.release()

    assert report().outcome is Outcome.OK
    assert report().exit_code == 0
    assert runs(tmp_path) == 1


async def test_what_an_agent_finished_after_the_orchestrator_was_killed_is_harvested(
    tmp_path: Path, attempt_id: str, children: Children
) -> None:
    code = COUNT + HOLD + SAY_OK + "sys.exit(5)"
    attempt = await killed_while_running(tmp_path, attempt_id, code, children)
    state = await process.state(Path(attempt.directory), attempt_id)
    assert isinstance(state, process.Alive)
    children.release()
    with anyio.fail_after(LIMIT_S):
        await process.wait(state.child)

    report = await run(agents_of(tmp_path, PythonAgent(code)), attempt)

    assert report.outcome is Outcome.OK
    assert report.exit_code == 5
    assert runs(tmp_path) == 1


async def test_an_attempt_of_an_agent_that_is_no_longer_chosen_is_re_attached_and_read(
    tmp_path: Path, attempt_id: str, children: Children
) -> None:
    code = COUNT + HOLD + SAY_OK
    attempt = await killed_while_running(tmp_path, attempt_id, code, children)
    timeouts = dict.fromkeys(Role, 60.0)
    now = LocalAgents(tmp_path, {}, timeouts=timeouts, version="1", others=others(PythonAgent(code)))

    async with running(now, attempt) as report:
        children.release()

    assert report().outcome is Outcome.OK
    assert runs(tmp_path) == 1


async def test_an_attempt_that_had_not_begun_is_not_begun_with_an_agent_that_is_no_longer_chosen(
    tmp_path: Path, attempt_id: str
) -> None:
    agent = PythonAgent(COUNT + SAY_OK)
    attempt = await agents_of(tmp_path, agent).open(request_of(tmp_path, attempt_id))
    timeouts = dict.fromkeys(Role, 60.0)
    now = LocalAgents(tmp_path, {}, timeouts=timeouts, version="1", others=others(agent))

    report = await run(now, attempt)

    assert (report.outcome, (tmp_path / "runs").exists()) == (Outcome.CANCELED, False)
    assert report.detail == "it had not begun, and other agents are chosen now"


@pytest.mark.parametrize(("said", "outcome"), [("", Outcome.LOST), (SAY_OK, Outcome.OK)])
async def test_an_attempt_whose_wrapper_was_killed_is_lost_unless_it_left_a_result(
    tmp_path: Path, attempt_id: str, children: Children, said: str, outcome: Outcome
) -> None:
    code = COUNT + said + HOLD
    attempt = await killed_while_running(tmp_path, attempt_id, code, children)
    state = await process.state(Path(attempt.directory), attempt_id)
    assert isinstance(state, process.Alive)
    os.kill(state.child.pid, signal.SIGKILL)
    with anyio.fail_after(LIMIT_S):
        await process.wait(state.child)

    report = await run(agents_of(tmp_path, PythonAgent(code)), attempt)

    await children.gone()
    assert report.outcome is outcome
    assert report.exit_code is None
    assert report.leftovers == 1
    assert runs(tmp_path) == 1


async def test_an_attempt_without_its_files_is_lost_and_what_runs_of_it_is_ended(
    tmp_path: Path, attempt_id: str, children: Children
) -> None:
    attempt = await killed_while_running(tmp_path, attempt_id, HOLD, children)
    await anyio.to_thread.run_sync(shutil.rmtree, attempt.directory)

    report = await run(agents_of(tmp_path, PythonAgent(HOLD)), attempt)

    await children.gone()
    assert report.outcome is Outcome.LOST
    assert attempt.directory in report.detail
