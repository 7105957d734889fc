"""A real mission in a repository of its own, the installed command, and agents that wait for the test."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import psutil
from tests.cli.working import default_signals

from spec_kitty_orchestrator.machine.process import MARKER
from spec_kitty_orchestrator.testing.missions import MissionSpec, WorkPackageSpec

COMMAND = Path(sys.executable).with_name("spec-kitty-orchestrator")
LIMIT_S = 420.0
"""Longest wait for a whole run of the command, in seconds: the host's calls take long on a busy machine."""
AGENT_LIMIT_S = 180.0
"""Longest wait for an agent to arrive or to be gone, in seconds."""
AGENTS = ("--impl-agent", "scripted", "--review-agent", "scripted")

_WAIT = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1]))).recv(1)"


def work_package(
    number: int, owned: str, dependencies: tuple[str, ...] = (), subtasks: tuple[str, ...] = ()
) -> WorkPackageSpec:
    """Plan a work package that creates one module in the folder that it owns."""
    return WorkPackageSpec(
        id=f"WP{number:02d}",
        title=f"Part {number}",
        dependencies=dependencies,
        owned_files=f"{owned}/**",
        create_intent=f"{owned}/m{number:02d}.py",
        subtasks=subtasks,
        text=f"Create `{owned}/m{number:02d}.py`.\n",
    )


SOLO = MissionSpec((work_package(1, "src/one"),), topology="single_branch")
PAIR = MissionSpec(
    (work_package(1, "src/one", subtasks=("T001", "T002")), work_package(2, "src/two", ("WP01",)))
)
FAN = MissionSpec(tuple(work_package(n, f"src/part{n}") for n in (1, 2, 3)), topology="lanes")
JOINED = MissionSpec(
    (
        work_package(1, "src/one"),
        work_package(2, "src/two"),
        work_package(3, "src/three", ("WP01", "WP02")),
    )
)
SHARED = MissionSpec(
    (
        work_package(1, "src"),
        work_package(2, "src/left", ("WP01",)),
        work_package(3, "src/right", ("WP01",)),
    )
)
"""WP02 and WP03 do not depend on each other, but both lie in what WP01 owns: one worktree for all three."""


class Project:
    """A user's repository with one mission, whose agents are confined where a test is about that."""

    def __init__(self, root: Path, slug: str, env: Mapping[str, str], confine: str = "off") -> None:
        self.root = root
        self.slug = slug
        self.env = {name: value for name, value in env.items() if not name.startswith("SKO_")}
        self.env["SKO_CONFINE"] = confine
        self.env["SKO_TRUST_SETTINGS"] = "1"
        self.env["COLUMNS"] = "200"
        self._scenario = root.parent / "scenario.toml"

    def follow(self, scenario: str, more: str = "") -> None:
        """Decide what the scripted agents do from now on; `more` are further settings."""
        self._scenario.write_text(scenario)
        settings = self.root / ".kittify" / "orchestrator.toml"
        settings.write_text(f"[agents.scripted]\nscenario = {json.dumps(str(self._scenario))}\n{more}")

    def run(self, *args: str, **env: str) -> "subprocess.CompletedProcess[str]":
        """Run the installed command; it must never show a traceback."""
        done = subprocess.run(
            [COMMAND, *args],
            cwd=self.root,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def orchestrate(self, *args: str) -> "subprocess.CompletedProcess[str]":
        """Run the mission with scripted agents."""
        return self.run("orchestrate", "--mission", self.slug, *AGENTS, *args)

    def start(self, *args: str) -> "Run":
        """Begin to run the mission."""
        argv = [str(COMMAND), "orchestrate", "--mission", self.slug, *AGENTS, *args]
        return Run(argv, self.root, self.env)

    def git(self, *args: str, cwd: Path | None = None) -> str:
        """Run git in the repository."""
        done = subprocess.run(
            ["git", *args], cwd=cwd or self.root, env=self.env, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def host(self, *args: str) -> None:
        """Run the host as a person does."""
        done = subprocess.run(
            ["spec-kitty", *args],
            cwd=self.root,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def status(self) -> Any:
        """Ask the command where the mission stands."""
        done = self.run("status", "--host", "--mission", self.slug, "--format", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def lanes(self) -> dict[str, str]:
        """Return the lanes by the host's own record; asking the host itself takes seconds."""
        return {str(one["wp_id"]): str(one["to_lane"]) for one in self._moves()}

    def ask_lanes(self) -> dict[str, str]:
        """Ask the host alone for the lanes."""
        done = subprocess.run(
            ["spec-kitty", "orchestrator-api", "mission-state", "--mission", self.slug],
            cwd=self.root,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=True,
        )
        packages = json.loads(done.stdout.splitlines()[-1])["data"]["work_packages"]
        return {package["wp_id"]: package["lane"] for package in packages}

    @property
    def specs(self) -> Path:
        """The mission's folder where the host keeps its status."""
        coordination = self.root / ".worktrees" / f"{self.slug}-coord"
        top = coordination if coordination.is_dir() else self.root
        return top / "kitty-specs" / self.slug

    def moves(self, wp: str) -> list[dict[str, Any]]:
        """Return the host's own record of a work package's transitions."""
        return [one for one in self._moves() if one["wp_id"] == wp]

    def _moves(self) -> list[dict[str, Any]]:
        lines = (self.specs / "status.events.jsonl").read_text(encoding="utf-8").splitlines()
        return [one for one in map(json.loads, lines) if one.get("wp_id") and one.get("to_lane")]

    def approved(self, wp: str) -> str:
        """Return the commit that the host's record of the last approval names."""
        reviews = [one["review_result"] for one in self.moves(wp) if one.get("review_result")]
        assert reviews[-1]["verdict"] == "approved"
        return str(reviews[-1]["reference"]).partition("@")[2]

    def _entries(self, wp: str, kind: str) -> list[dict[str, Any]]:
        file = self.root / ".kittify" / "orchestrator" / self.slug / "journal.jsonl"
        lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
        return [one for one in lines if one.get("wp_id") == wp and one["event"]["kind"] == kind]

    def journal(self, wp: str, kind: str) -> list[dict[str, Any]]:
        """Return the journal's events of one kind."""
        return [one["event"] for one in self._entries(wp, kind)]

    def times(self, wp: str, kind: str) -> list[datetime]:
        """Return when events of one kind happened."""
        return [datetime.fromisoformat(one["at"]) for one in self._entries(wp, kind)]

    def attempts(self, wp: str) -> list[Path]:
        """Return the directories of a work package's attempts, in order."""
        return sorted((self.root / ".kittify" / "logs" / self.slug / wp).glob("*"))

    def worktrees(self) -> list[Path]:
        """Return the worktrees in which agents work."""
        return sorted((self.root / ".worktrees").glob("*-lane-*"))

    def strays(self) -> list[psutil.Process]:
        """Find processes that belong to an attempt of this mission."""
        known = {
            json.loads(file.read_text())["attempt"]
            for file in (self.root / ".kittify" / "logs").rglob("command.json")
        }
        return [one for one in psutil.process_iter() if _marker(one) in known]

    def changes(self) -> list[str]:
        """Return what git says is not committed in the primary checkout."""
        return self.git("status", "--porcelain").splitlines()


def _marker(process: psutil.Process) -> str:
    try:
        return str(process.environ().get(MARKER, ""))
    except psutil.Error:
        return ""


class Run:
    """A run of the command that goes on; a context manager that ends it at the latest when the test does."""

    def __init__(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A run heeds no signal that whoever runs the tests ignores, as `nohup` and `&` do.
            preexec_fn=default_signals,
        )
        self.pid = self._process.pid
        self.heard = ""

    def fileno(self) -> int:
        """Return where its output can be waited for."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def hear(self) -> None:
        """Wait for more output; the run must not have ended."""
        assert select.select([self], [], [], AGENT_LIMIT_S)[0], f"it is silent:\n{self.heard}"
        more = os.read(self.fileno(), 65_536)
        assert more, f"it ended:\n{self.heard}"
        self.heard += more.decode()

    def hear_of(self, words: str) -> None:
        """Wait until it has said these words."""
        while words not in self.heard:
            self.hear()

    def interrupt(self) -> int:
        """Interrupt it as Ctrl-C does, and return its exit code."""
        self._process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> int:
        """Wait until it ends by itself, and return its exit code."""
        self.heard += self._process.communicate(timeout=LIMIT_S)[0].decode()
        return self._process.returncode

    def kill(self) -> None:
        """End it as a power failure does."""
        self._process.kill()
        self._process.wait(AGENT_LIMIT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()


class Gate:
    """Stops agents at a point of their work until the test lets them go on.

    Each arrival is one connection: it closes when the agent's process is gone.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(AGENT_LIMIT_S)
        port = str(self._listener.getsockname()[1])
        self.step = f"run = {json.dumps([sys.executable, '-I', '-S', '-c', _WAIT, port])}"
        """What a scenario needs for its agent to wait here."""
        self.arrived: list[socket.socket] = []

    def wait(self, run: Run) -> socket.socket:
        """Return the next agent that arrives; `run` must be going on."""
        awaited: list[Any] = [self._listener, run]
        while self._listener not in select.select(awaited, [], [], AGENT_LIMIT_S)[0]:
            run.hear()
        agent, _ = self._listener.accept()
        agent.settimeout(AGENT_LIMIT_S)
        self.arrived.append(agent)
        return agent

    def nobody_waits(self) -> bool:
        """Tell whether every agent that ever came was returned by `wait`."""
        self._listener.setblocking(False)
        try:
            self.arrived.append(self._listener.accept()[0])
        except BlockingIOError:
            return True
        finally:
            self._listener.settimeout(AGENT_LIMIT_S)
        return False

    def close(self) -> None:
        """Let everybody go."""
        for one in (*self.arrived, self._listener):
            one.close()


def is_gone(agent: socket.socket) -> bool:
    """Wait until the process at the other end has ended."""
    try:
        return agent.recv(1) == b""
    except ConnectionResetError:
        return True
