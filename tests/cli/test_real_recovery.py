"""Killed, resumed and aborted: the command on the real host, with agents that call the test."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from spec_kitty_orchestrator.machine.orphans import find_orphans
from spec_kitty_orchestrator.testing.missions import MissionSpec, diamond

pytestmark = pytest.mark.real_host

LIMIT_S = 300
MAIN = [sys.executable, "-m", "spec_kitty_orchestrator"]

CALL = "import socket; s = socket.create_connection(('127.0.0.1', {port})); s.recv(1)"
Mission = Any  # the class lives in conftest, which tests cannot import


@contextmanager
def telephone(root: Path) -> Iterator[socket.socket]:
    """Let the implementer of WP01 call this socket and work until it is answered."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(LIMIT_S)
        call = CALL.format(port=listening.getsockname()[1])
        (root / "scenario.toml").write_text(
            f'[WP01.implement]\nrun = [{sys.executable!r}, "-c", "{call}"]\n'
            'edits = { "src/mod01/a.py" = "A = 1\\n" }\n'
        )
        (root / ".kittify" / "orchestrator.toml").write_text(
            '[agents.scripted]\nscenario = "scenario.toml"\n'
        )
        yield listening


@contextmanager
def running(mission: Mission, env: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    args = ["--mission", mission.slug, "--impl-agent", "scripted", "--review-agent", "scripted"]
    with subprocess.Popen(
        [*MAIN, "orchestrate", *args], cwd=mission.root, env=env, stdout=subprocess.DEVNULL
    ) as run:
        try:
            yield run
        finally:
            run.kill()


def command(mission: Mission, env: dict[str, str], *args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*MAIN, *args],
        cwd=mission.root,
        env=env,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def logs(mission: Mission) -> Path:
    found: Path = mission.root / ".kittify" / "logs" / mission.slug
    return found


def test_a_run_killed_in_the_middle_is_resumed_and_no_agent_runs_twice(
    real_mission: Callable[[MissionSpec], Any], host_env: dict[str, str]
) -> None:
    mission = real_mission(diamond(2))
    with telephone(mission.root) as listening:
        with running(mission, host_env) as run:
            agent, _ = listening.accept()
            run.send_signal(signal.SIGKILL)
            assert run.wait(LIMIT_S) == -signal.SIGKILL
        with agent:
            agent.sendall(b".")
        done = command(mission, host_env, "resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "continues the run that was cut off" in done.stdout
    assert len(list(logs(mission).glob("WP01/*-implement-*"))) == 1
    assert find_orphans(logs(mission)) == []


def test_a_run_is_aborted_from_another_process_and_nothing_of_it_is_left(
    real_mission: Callable[[MissionSpec], Any], host_env: dict[str, str]
) -> None:
    mission = real_mission(diamond(2))
    with telephone(mission.root) as listening, running(mission, host_env) as run:
        agent, _ = listening.accept()
        done = command(mission, host_env, "abort", "--cleanup-worktrees")
        assert done.returncode == 0, done.stdout + done.stderr
        assert run.wait(LIMIT_S) == 128 + signal.SIGTERM
        with agent:
            agent.settimeout(LIMIT_S)
            assert agent.recv(1) == b""
    assert find_orphans(logs(mission)) == []
    assert not (mission.root / ".kittify" / "orchestrator" / mission.slug).exists()
    branches = subprocess.run(
        ["git", "branch", "--list", "kitty/*lane-a"],
        cwd=mission.root,
        env={**os.environ},
        capture_output=True,
        text=True,
        check=True,
    )
    assert branches.stdout.strip()
