"""Runs one orchestrator over one prepared mission with stand-in agents, and gathers what the run cost.

Nothing of the user's takes part: neither host nor agents see the real home folder or settings of ours.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tree
from real_mission import Mission

CACHE = Path(tempfile.gettempdir()) / "spec-kitty-benchmark-cache"
REFERENCE = "spec-kitty-orchestrator==0.1.2"
TRANSPORTS = ("auto", "spawn", "warm")
COMMAND = "spec-kitty-orchestrator"
HERE = Path(__file__).resolve().parent
QUIET_HOST = {"SPEC_KITTY_NO_UPGRADE_CHECK": "1", "SPEC_KITTY_ENABLE_SAAS_SYNC": "0"}


@dataclass(frozen=True, slots=True)
class AgentRun:
    """One agent process that ran to its end."""

    wp: str
    seconds: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """One orchestrator's run over the mission.

    Attributes:
        first_agent_s: from the start of the command to that of the first agent.
        api_calls: of the host, by name: as our run log tells them, else as the command on PATH counted them.
        logged: whether the run log told them.
        commands: how often the command on PATH was run, by the orchestrator, git and agents; 0 for ours.
        other_calls: of these, those that were no calls of the API.
    """

    cost: tree.TreeCost
    lanes: dict[str, str]
    bound_s: float
    agents_cpu_s: float
    agent_runs: int
    first_agent_s: float
    api_calls: dict[str, int]
    logged: bool
    commands: int
    other_calls: int

    @property
    def overhead_s(self) -> float:
        """What the run took beyond the agents' own bound."""
        return self.cost.wall_s - self.bound_s

    @property
    def own_cpu_s(self) -> float:
        """What the whole tree took beyond the agents: orchestrator, host and git."""
        return self.cost.cpu_s - self.agents_cpu_s

    @property
    def complete(self) -> bool:
        """Whether the orchestrator took every WP to its end."""
        return self.cost.exit_code == 0 and set(self.lanes.values()) <= {"approved", "done"}


@dataclass(frozen=True, slots=True)
class Lab:
    """The folder of one benchmark run, and what stands on PATH in it.

    Attributes:
        folder: where everything of the run is kept.
        host: the real host's command.
        transport: how ours calls the host (one of `TRANSPORTS`); empty for its own choice.
    """

    folder: Path
    host: str
    transport: str = ""

    @property
    def bin(self) -> Path:
        """The folder that comes first on PATH."""
        return self.folder / "bin"

    @property
    def agent_log(self) -> Path:
        """What the agents log: see `fake_agent.py`."""
        return self.folder / "agents.jsonl"

    @property
    def host_log(self) -> Path:
        """One line per call of the host: its first two arguments."""
        return self.folder / "host-calls.txt"

    @property
    def env(self) -> dict[str, str]:
        """The environment that both orchestrators get."""
        # With a new SPEC_KITTY_HOME the host rewrites the skill folders of agents below HOME.
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        path = [str(self.bin), str(Path(self.host).parent), os.environ.get("PATH", os.defpath)]
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SKO_", "SPEC_KITTY_", "XDG_"))
        }
        return {
            **kept,
            **QUIET_HOST,
            **({"SKO_HOST_TRANSPORT": self.transport} if self.transport else {}),
            "HOME": str(home),
            "SKO_TRUST_SETTINGS": "1",
            # The agents commit and log themselves, as the reference needs it.
            "SKO_CONFINE": "off",
            "SPEC_KITTY_HOME": str(home / "spec-kitty"),
            "PATH": os.pathsep.join(path),
        }

    def install(
        self,
        mission: Mission,
        agent_seconds: float,
        flood_mib: int = 0,
        line_kib: int = 8,
        play: str = "work",
    ) -> None:
        """Put the stand-in agents on PATH; what they can play is told in `fake_agent.py`."""
        python = Path(sys.executable).resolve()
        source = (HERE / "fake_agent.py").read_text(encoding="utf-8")
        for name in ("claude", "codex"):
            executable(self.bin / name, f"#!{python} -IS\n{source}")
        settings = {
            "seconds": agent_seconds,
            "flood_mib": flood_mib,
            "line_kib": line_kib,
            "play": play,
            "log": str(self.agent_log),
            "mission": mission.slug,
            "subtasks": mission.subtasks,
        }
        (self.bin / "fake_agent.json").write_text(json.dumps(settings), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Setup:
    """What all parts of the table are measured with.

    Attributes:
        host: the host's command.
        ours: our command.
        cache: where the reference is installed.
        transport: how ours calls the host; empty for its own choice.
        runs: how often a mission is driven by both; the table shows the middle one.
        quick: measure as little as shows that the benchmark works.
        keep: leave the missions and the logs.
    """

    host: str
    ours: str
    cache: Path
    transport: str = ""
    runs: int = 1
    quick: bool = False
    keep: bool = False

    @contextmanager
    def lab(self) -> Iterator[Lab]:
        """Make the folder of one part and remove it in the end."""
        lab = Lab(Path(tempfile.mkdtemp(prefix="spec-kitty-benchmark-")), self.host, self.transport)
        try:
            yield lab
        finally:
            if self.keep:
                print(f"kept: {lab.folder}", file=sys.stderr)
            else:
                shutil.rmtree(lab.folder, ignore_errors=True)


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def install_reference(cache: Path) -> str:
    """Return the reference's command, installed into a virtual environment in `cache` on first use."""
    command = cache / REFERENCE / "bin" / COMMAND
    if not command.exists():
        print(f"installing {REFERENCE} into {cache}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", cache / REFERENCE], check=True)
        subprocess.run([command.with_name("pip"), "install", "--quiet", REFERENCE], check=True)
    return str(command)


def drive(
    lab: Lab,
    mission: Mission,
    name: str,
    command: str,
    *,
    options: Sequence[str] = (),
    max_concurrent: int = 4,
    limit_s: float = 1200.0,
) -> Result:
    """Reset the mission, run one orchestrator over it, and gather what the run cost."""
    argv = [*prepare(lab, mission, command, max_concurrent), *options]
    output = lab.folder / f"{name}.log"
    print(f"{name}: running (output in {output})", file=sys.stderr)
    begun = time.time()
    cost = tree.run(argv, cwd=mission.root, env=lab.env, output=output, limit_s=limit_s)
    calls = Counter(lab.host_log.read_text(encoding="utf-8").splitlines())
    api = {call.split()[1]: n for call, n in calls.items() if call.startswith("orchestrator-api ")}
    logged = logged_calls(mission)
    runs = agent_runs(lab.agent_log)
    return Result(
        cost=cost,
        lanes=mission.lanes(lab.host, lab.env),
        bound_s=longest_chain(runs, mission.dependencies),
        agents_cpu_s=sum(run.cpu_s for run in runs),
        agent_runs=len(runs),
        first_agent_s=min((entry["at"] for entry in read_agent_log(lab.agent_log)), default=begun) - begun,
        api_calls=logged or api,
        logged=bool(logged),
        commands=sum(calls.values()),
        other_calls=sum(calls.values()) - sum(api.values()),
    )


def prepare(lab: Lab, mission: Mission, command: str, max_concurrent: int) -> list[str]:
    """Reset the mission and the logs, and return the command line of one run."""
    mission.reset()
    for log in (lab.agent_log, lab.host_log):
        log.write_text("", encoding="utf-8")
    counting = lab.bin / "spec-kitty"
    counting.unlink(missing_ok=True)
    if REFERENCE not in command:
        # Ours tells its calls itself, and meets the host as users have it.
        counting.symlink_to(lab.host)
    else:
        count = f"printf '%s %s\\n' \"$1\" \"$2\" >> '{lab.host_log}'"
        executable(counting, f"#!/bin/sh\n{count}\nexec '{lab.host}' \"$@\"\n")
    argv = [command, "orchestrate", "--mission", mission.slug, "--impl-agent", "claude-code"]
    return [*argv, "--review-agent", "codex", "--max-concurrent", str(max_concurrent)]


def logged_calls(mission: Mission) -> dict[str, int]:
    """Return the calls of the host that our run log tells of; one warm process may have answered them all."""
    log = mission.root / ".kittify" / "logs" / mission.slug / "orchestrator.log"
    calls: dict[str, int] = {}
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        entry = json.loads(line)
        if entry["event"] == "host calls":
            calls = entry["calls"]
    return calls


def read_agent_log(log: Path) -> list[dict[str, Any]]:
    """Read what the agents logged so far."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def agent_runs(log: Path) -> list[AgentRun]:
    """Pair the starts and ends that the agents logged; a run that was killed has no end and is left out."""
    started: dict[int, float] = {}
    runs = []
    for entry in read_agent_log(log):
        if entry["event"] == "start":
            started[entry["pid"]] = entry["at"]
        else:
            runs.append(AgentRun(entry["wp"], entry["at"] - started.pop(entry["pid"]), entry["cpu"]))
    return runs


def longest_chain(runs: list[AgentRun], dependencies: dict[str, list[str]]) -> float:
    """Return the seconds of the dependency chain whose agent runs add up to most."""
    ends: dict[str, float] = {}
    for wp, needs in dependencies.items():  # in the order of the numbers, so what a WP needs stands before it
        own = sum(run.seconds for run in runs if run.wp == wp)
        ends[wp] = own + max((ends[need] for need in needs), default=0.0)
    return max(ends.values())


def our_command() -> str | None:
    """Prefer the command of the environment that runs this script to whatever is on PATH."""
    beside = Path(sys.executable).parent / COMMAND
    return str(beside) if beside.exists() else shutil.which(COMMAND)
