"""The warm process as a child of ours: how it starts, what it says first, how it ends. For worker threads."""

import json
import os
import secrets
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from spec_kitty_orchestrator.host import merge_driver, zygote
from spec_kitty_orchestrator.host.console_script import PROBE_ARGV, ConsoleScript
from spec_kitty_orchestrator.host.locate import HOST_NAME
from spec_kitty_orchestrator.machine.child import KILL_S, Reply, run_now
from spec_kitty_orchestrator.machine.children import start
from spec_kitty_orchestrator.machine.redaction import ours

__all__ = ["START_LIMIT_S", "WarmProcess"]

START_LIMIT_S = 120.0
"""How long it may take to import the host: some seconds, a minute on a machine that is busy."""
END_S = 5.0
"""How long it may take to end once its stdin is closed."""
GIT_CONFIG_S = 10.0
"""How long git may take to list its merge drivers; on a folder that does not answer it could for ever."""
LONGEST_FOLDER = 90
"""Bytes of the path of a socket's folder that every system takes."""


class WarmProcess:
    """One process that has the host imported, in a session of its own, with its socket in a private folder.

    Attributes:
        pid: of the process.
        address: path of its socket.
        token: what a request must carry.
        env: the environment of calls, with what sends git's merge drivers to it.
    """

    def __init__(
        self, script: ConsoleScript, executable: str, cwd: Path, *, memoize: bool, merge_drivers: bool
    ) -> None:
        """Start it.

        Raises:
            OSError: it cannot be started.
        """
        self._folder = _make_folder()
        self.address: str = str(self._folder / "socket")
        self.token: str = secrets.token_hex(16)
        settings = {
            "socket": self.address,
            "executable": executable,
            "script": script.script,
            "module": script.module,
            "prime": list(PROBE_ARGV),
            "memoize": memoize,
        }
        try:
            with (self._folder / "stderr").open("xb") as stderr:
                self._process = start(
                    [*script.python, zygote.__file__, json.dumps(settings)],
                    cwd=cwd,
                    env={**script.env, zygote.TOKEN_VARIABLE: self.token},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    start_new_session=True,
                )
        except OSError:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self.pid: int = self._process.pid
        self.env: dict[str, str] = dict(script.env)
        if merge_drivers:
            shim = [sys.executable, "-IS", merge_driver.__file__, executable, self.address]
            overrides = _driver_overrides(shim, cwd, self.env)
            self.env |= {**overrides, zygote.TOKEN_VARIABLE: self.token} if overrides else {}

    def first_answer(self) -> Reply | None:
        """Wait until it has the host imported, and return what the call answered by which it did that.

        Returns:
            None if it did not come about, or must not be forked.
        """
        stdout = self._process.stdout
        assert stdout is not None
        deadline = time.monotonic() + START_LIMIT_S
        data = b""
        poll = select.poll()
        poll.register(stdout, select.POLLIN)
        while (left_s := deadline - time.monotonic()) > 0 and poll.poll(left_s * 1000):
            chunk = os.read(stdout.fileno(), 65536)
            if not chunk:
                break
            data += chunk
        with suppress(ValueError, TypeError, KeyError):
            told = json.loads(data)
            # A copy of a process with threads may wait for ever for a lock that one of them held.
            if int(told["threads"]) == 1:
                return Reply(int(told["status"]), str(told["stdout"]).encode(), b"")
        return None

    def last_words(self) -> str:
        """Return the last line that it wrote to stderr, "" if it wrote none."""
        with suppress(OSError):
            lines = (self._folder / "stderr").read_text("utf-8", "replace").splitlines()
            last = next((line.strip() for line in reversed(lines) if line.strip()), "")
            return ours().head(last, 200)
        return ""

    def let_go(self) -> None:
        """Close its stdin: it takes nothing new, and ends with its last call."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def ended(self) -> bool:
        """Tell whether it has ended; then nothing of it is left in the table of processes."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """End it at once; its calls go on without it."""
        self._process.kill()

    def end(self, wait_s: float = END_S) -> None:
        """Let it go, wait for its end, and kill it if it does not come."""
        self.let_go()
        try:
            self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(KILL_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _make_folder() -> Path:
    prefix = "spec-kitty-orchestrator-"
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    if len(bytes(folder)) <= LONGEST_FOLDER:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))


def _driver_overrides(shim: list[str], cwd: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Return variables by which git runs our script wherever the repository has it run the host as a driver.

    They add to those that are there already; none if there is nothing to override.
    """
    try:
        listed = run_now(
            ["git", "config", "-z", "--get-regexp", r"^merge\..*\.driver$"],
            cwd=cwd,
            env=env,
            limit_s=GIT_CONFIG_S,
        )
    except OSError:
        return {}
    found = {}
    for entry in listed.paths:
        key, _, command = entry.partition("\n")
        program, _, rest = command.partition(" ")
        if program == HOST_NAME and rest.startswith("merge-driver-"):
            found[key] = f"{shlex.join(shim)} {rest}"
    have = env.get("GIT_CONFIG_COUNT", "0")
    # Git gives a percent sign in a driver's command a meaning of its own.
    if not found or not have.isdigit() or any("%" in word for word in shim):
        return {}
    overrides = {"GIT_CONFIG_COUNT": str(int(have) + len(found))}
    for number, (key, command) in enumerate(found.items(), int(have)):
        overrides |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": command}
    return overrides
