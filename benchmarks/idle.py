"""What our process costs while every slot has an agent at work and nothing changes."""

import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import tree
from lab import Lab, Setup, prepare, read_agent_log
from real_mission import Mission, make_mission, side_by_side
from rows import BenchmarkFailed, Bound, Row

SLOTS = 8
WPS = 10  # more than there are slots: what waits could be polled for
AGENT_S = 3600.0  # outlives the measurement; a run that is interrupted stops its agents
WINDOW_S = 65.0  # holds whatever is done each minute or more often
WANTED_PERCENT = 0.5
START_LIMIT_S = 600.0
QUIET_S = 3
SETTLE_LIMIT_S = 60.0
STOP_LIMIT_S = 60.0
COLUMNS, LINES = 120, 40


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds up to one moment: of our process, its agents, and whatever else descends from it."""

    at: float
    own: float
    agents: float
    host: float


def measure(setup: Setup) -> list[Row]:
    """Watch a run whose output is a file, and one on a terminal."""
    window_s = 5.0 if setup.quick else WINDOW_S
    tree.adopt_orphans()
    with setup.lab() as lab:
        print(f"preparing a mission of {WPS} WPs", file=sys.stderr)
        edges = side_by_side(WPS)
        mission = make_mission(lab.folder / "mission", lab.host, lab.env, edges=edges, topology="lanes")
        lab.install(mission, AGENT_S)
        return [
            *watched(lab, mission, setup.ours, window_s, terminal=False),
            *watched(lab, mission, setup.ours, window_s, terminal=True),
        ]


def watched(lab: Lab, mission: Mission, command: str, window_s: float, *, terminal: bool) -> list[Row]:
    """Start a run, wait until all slots work and nothing else does, and look at it for a while."""
    where = "on a terminal (live view)" if terminal else "not on a terminal"
    argv = prepare(lab, mission, command, SLOTS)
    print(f"idle {where}: waiting until {SLOTS} agents are at work", file=sys.stderr)
    with running(lab, mission, argv, terminal=terminal) as root:
        agents = wait_for_agents(lab, root)
        settled = settle(root.pid, agents)
        before = spent(root.pid, agents)
        time.sleep(window_s)
        after = spent(root.pid, agents)
        if root.poll() is not None or len(started(lab)) != SLOTS:
            raise BenchmarkFailed("the run changed while it was watched")
    took = after.at - before.at
    percent = 100 * (after.own - before.own) / took
    beside = f"{100 * (after.agents - before.agents) / took:.2f} % agents, "
    beside += f"{100 * (after.host - before.host) / took:.2f} % warm host"
    measured = f"{1000 * (after.own - before.own):.1f} ms in {took:.1f} s; beside it {beside}"
    measured += "" if settled else "; did not come to rest before"
    return [Row(f"idle {where}, {SLOTS} agents at work", measured, percent, Bound(WANTED_PERCENT, "%"))]


@contextmanager
def running(
    lab: Lab, mission: Mission, argv: list[str], *, terminal: bool
) -> Iterator[subprocess.Popen[bytes]]:
    """Run our command until the context is left; then nothing that it started is left either."""
    output = lab.folder / f"idle-{'terminal' if terminal else 'plain'}.log"
    with output.open("wb") as stream:
        screen, theirs = pty.openpty() if terminal else (-1, stream.fileno())
        env = lab.env
        if terminal:
            termios.tcsetwinsize(theirs, (LINES, COLUMNS))
            env["TERM"] = "xterm-256color"
        root = subprocess.Popen(
            argv, cwd=mission.root, env=env, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
        )
        if terminal:
            os.close(theirs)
            threading.Thread(target=drain, args=(screen, output), daemon=True).start()
        try:
            yield root
        finally:
            root.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                root.wait(STOP_LIMIT_S)
            for pid in [root.pid, *tree.descendants(os.getpid())]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            root.wait()


def drain(screen: int, output: Path) -> None:
    """Keep what is painted, for a terminal that nobody reads stops its writer."""
    with suppress(OSError), output.open("ab") as stream:  # EIO: the last writer is gone
        while painted := os.read(screen, 65536):
            stream.write(painted)
            stream.flush()
    os.close(screen)


def started(lab: Lab) -> list[int]:
    """Return the processes of the agents that have begun; a start without a WP only tells the version."""
    log = read_agent_log(lab.agent_log)
    return [entry["pid"] for entry in log if entry["event"] == "start" and entry["wp"]]


def wait_for_agents(lab: Lab, root: subprocess.Popen[bytes]) -> list[int]:
    until = time.monotonic() + START_LIMIT_S
    while len(agents := started(lab)) < SLOTS:
        if root.poll() is not None or time.monotonic() > until:
            raise BenchmarkFailed(f"only {len(agents)} of {SLOTS} agents were started")
        time.sleep(0.2)
    return agents


def settle(root: int, agents: list[int]) -> bool:
    """Wait until what follows the last start is over: for some seconds the host took no CPU at all."""
    until, calm, last = time.monotonic() + SETTLE_LIMIT_S, 0, -1.0
    while calm < QUIET_S:
        if time.monotonic() > until:
            return False
        time.sleep(1.0)
        host = spent(root, agents).host
        calm, last = (calm + 1 if host == last else 0), host
    return True


def spent(root: int, agents: list[int]) -> Spent:
    """Read the CPU times of the run's processes."""
    working = others = 0.0
    for child in tree.children(root):
        cost = tree.tree_cpu_s(child)
        if {child, *tree.descendants(child)}.isdisjoint(agents):
            others += cost
        else:
            working += cost
    return Spent(time.monotonic(), tree.clock_s(root), working, others)
