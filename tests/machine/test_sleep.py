"""The inhibitor of idle sleep lives as long as the run, however that ends."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from spec_kitty_orchestrator.machine.sleep import kept_awake

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in is one of systemd's tool")

LIMIT_S = 20

INHIBITOR = """#!{python}
import os, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect({socket!r})
line.sendall((" ".join(sys.argv[1:]) + "\\n").encode())
os.set_inheritable(line.fileno(), True)
os.execvp(sys.argv[-1], sys.argv[-1:])
"""

RUN = """
from spec_kitty_orchestrator.machine.sleep import kept_awake
with kept_awake():
    input()
"""


@pytest.fixture
def inhibitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """Put a stand-in first on PATH; it calls this socket and holds the line as long as it lives."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "s"))
    listening.listen()
    listening.settimeout(LIMIT_S)
    program = tmp_path / "systemd-inhibit"
    program.write_text(INHIBITOR.format(python=sys.executable, socket=str(tmp_path / "s")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return listening


def ended(line: socket.socket) -> bool:
    """Wait until nobody holds the other end of the line."""
    line.settimeout(LIMIT_S)
    return line.recv(1) == b""


def test_the_inhibitor_is_held_during_the_run_and_ends_with_it(inhibitor: socket.socket) -> None:
    with inhibitor, kept_awake():
        line, _ = inhibitor.accept()
        with line.makefile() as words:
            assert "--what=idle:sleep" in words.readline()
        line.setblocking(False)
        with pytest.raises(BlockingIOError):
            line.recv(1)
    with line:
        assert ended(line)


def test_the_inhibitor_does_not_outlive_a_run_that_is_killed(inhibitor: socket.socket) -> None:
    with inhibitor, subprocess.Popen([sys.executable, "-c", RUN], stdin=subprocess.PIPE) as run:
        line, _ = inhibitor.accept()
        with line, line.makefile() as words:
            words.readline()
            run.kill()
            assert ended(line)


def test_a_system_without_such_a_tool_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with kept_awake():
        pass


def test_a_tool_that_refuses_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "systemd-inhibit"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with kept_awake():
        pass
