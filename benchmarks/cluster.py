"""Runs attempts on workers of a Dask cluster: what each costs, a flood, a large tree, and more workers.

    python benchmarks/cluster.py      # 48 WPs, agents of 10 s, 1 to 3 workers; 18,000 files; 7 minutes
    python benchmarks/cluster.py --wps 6 --seconds 1 --workers 2 --files 2000   # shows that it works
    python benchmarks/cluster.py --only alone,flood

Scheduler and workers are processes of this machine with four slots each, so they share its cores. The
agents' runner is driven as the orchestrator drives it, in a git worktree per WP, but without host, reviews
and commits, which a cluster does not change and which would take most of the time here.
"""

import argparse
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import anyio
from rows import Bound, Row, layout
from tree import peak_rss_mib

from spec_kitty_orchestrator.agents.declared import Declared
from spec_kitty_orchestrator.agents.spec import AgentSettings
from spec_kitty_orchestrator.app.build import VERSION
from spec_kitty_orchestrator.cluster.agents import ClusterAgents
from spec_kitty_orchestrator.cluster.dask import DaskTransport
from spec_kitty_orchestrator.core.model import Outcome, Role, Workspace
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.settings.agent_section import AgentSection

SLOTS = 4
"""Of each worker."""
ALONE = 7
"""Attempts one after the other, of which the middle one counts; the first is left out."""
READY_S = 10.0
"""While an agent works for so long, its worker makes the worktree of the next workspace ready."""
FLOODING = 8
"""Agents that write at once."""
BOT = """
import os, sys, time
begun = time.time()
times, seconds, mib = sys.argv[1:4]
line = b"x" * 1023 + b"\\n"
for _ in range(int(float(mib) * 1024)):
    sys.stdout.buffer.write(line)
time.sleep(float(seconds))
open("made.txt", "a").write("made\\n")
with open(times, "a") as file:
    file.write(f"{time.time() - begun}\\n")
print("done")
"""
"""Writes lines, waits, changes a file, and leaves in a file outside of all how long that took."""


@dataclass
class Lab:
    """A scheduler and workers in a folder, the repository of a project, and its worktrees."""

    folder: Path
    address: str
    scheduler: "subprocess.Popen[bytes]"

    @property
    def times(self) -> Path:
        """A line per agent that ran: how many seconds it worked."""
        return self.folder / "times"

    def worktree(self, name: str) -> Path:
        """Make a worktree."""
        path = self.folder / "worktrees" / name
        git(self.folder / "project", "worktree", "add", "--quiet", "-b", name, str(path))
        return path

    def agents(self, seconds: float, mib: float) -> ClusterAgents:
        """Make a runner of agents that work for so long and write so much."""
        command = (sys.executable, "-S", "-c", BOT, str(self.times), str(seconds), str(mib))
        declared = AgentSection(command=command).declaration("bot")
        assert declared is not None
        return ClusterAgents(
            self.folder / "project",
            {"bot": (Declared(declared), AgentSettings())},
            timeouts={Role.IMPLEMENT: 600.0, Role.REVIEW: 600.0},
            version=VERSION,
            transport=lambda _: DaskTransport(self.address, None).connected(),
        )


def git(path: Path, *args: str) -> str:
    """Run git as a person."""
    who = ("-c", "user.name=bench", "-c", "user.email=bench@example.org")
    done = subprocess.run(["git", *who, *args], cwd=path, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def start(folder: Path, name: str, argv: Sequence[str], ready: bytes) -> "subprocess.Popen[bytes]":
    """Start a process with a home of its own and wait until it says that it is ready."""
    home = folder / name
    home.mkdir()
    env = {**os.environ, "HOME": str(home), "PYTHONUNBUFFERED": "1"}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home, env=env
        )
    until = time.monotonic() + 60
    while ready not in (home / "log").read_bytes():
        if process.poll() is not None or time.monotonic() > until:
            raise SystemExit(f"{name} did not start: {(home / 'log').read_text()}")
        time.sleep(0.05)
    return process


def small_project(root: Path) -> None:
    """Make a repository of one file."""
    git(root, "init", "--quiet")
    (root / "made.txt").write_text("")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "first")


def large_project(root: Path, files: int) -> None:
    """Make a repository of many files, text of some kilobytes each, with 300 commits."""
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz_", k=6)) for _ in range(6000)]

    def text(size: float) -> bytes:
        lines = (" ".join(chance.choices(words, k=8)) for _ in range(max(1, int(size / 56))))
        return "\n".join(lines).encode() + b"\n"

    tree = {
        f"d{n % 40}/s{n % 700}/f{n}.py": text(min(2e5, chance.lognormvariate(8.6, 1.2))) for n in range(files)
    } | {"made.txt": b""}
    git(root, "init", "--quiet", "--initial-branch=main")
    with subprocess.Popen(["git", "fast-import", "--quiet"], cwd=root, stdin=subprocess.PIPE) as importing:
        assert importing.stdin is not None
        for number in range(300):
            who = f"b <b@example.org> {1700000000 + number} +0000"
            head = f"commit refs/heads/main\ncommitter {who}\ndata 2\nc\n\n"
            importing.stdin.write(head.encode())
            for path in chance.sample(sorted(tree), 12) if number else list(tree):
                tree[path] += text(60) if number else b""
                importing.stdin.write(f"M 100644 inline {path}\ndata {len(tree[path])}\n".encode())
                importing.stdin.write(tree[path] + b"\n")
    git(root, "reset", "--quiet", "--hard")
    git(root, "repack", "-a", "-d", "--quiet")


@contextmanager
def laboratory(workers: int, make: Callable[[Path], None] = small_project) -> Iterator[Lab]:
    """Start a cluster and make a project; end and remove both afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="spec-kitty-cluster-"))
    processes = []
    try:
        project = folder / "project"
        project.mkdir()
        make(project)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        address = f"tcp://127.0.0.1:{port}"
        words = [
            "distributed.cli.dask_scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--no-dashboard",
        ]
        processes.append(start(folder, "scheduler", [*words, "--no-show"], b"Scheduler at"))
        for number in range(1, workers + 1):
            name = f"worker-{number}"
            state = str(folder / name / "state")
            words = ["spec_kitty_orchestrator", "worker", address, "--resources", f"bot={SLOTS}"]
            processes.append(start(folder, name, [*words, "--state-folder", state], b"worker of"))
        yield Lab(folder, address, processes[0])
    finally:
        for process in reversed(processes):
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(15)
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def connected(lab: Lab, seconds: float, mib: float = 0.0) -> AsyncIterator[ClusterAgents]:
    """Be connected with the cluster."""
    agents = lab.agents(seconds, mib)
    async with agents.serving("bench"):
        yield agents


async def attempt(agents: ClusterAgents, path: Path) -> float:
    """Run one attempt in a worktree; return how long that took, in seconds."""
    begun = time.perf_counter()
    head = await anyio.to_thread.run_sync(partial(git, path, "rev-parse", "HEAD"))
    workspace = Workspace(str(path), "")
    name = uuid4().hex[:16]
    request = AttemptRequest(name, "bench", path.name, 1, Role.IMPLEMENT, "bot", workspace, "work", head)
    report = await agents.run(await agents.open(request))
    if report.outcome is not Outcome.OK or not await anyio.Path(path / "made.txt").read_text():
        raise SystemExit(f"an attempt has failed: {report.outcome.value}: {report.detail}")
    return time.perf_counter() - begun


async def side_by_side(agents: ClusterAgents, paths: Sequence[Path], slots: int) -> tuple[float, list[float]]:
    """Run an attempt in each worktree, at most so many at once; return the time of all, and of each."""
    took: list[float] = []
    limiter = anyio.CapacityLimiter(slots)

    async def one(path: Path) -> None:
        async with limiter:
            took.append(await attempt(agents, path))

    begun = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for path in paths:
            tasks.start_soon(one, path)
    return time.perf_counter() - begun, took


async def throughput(workers: int, wps: int, seconds: float) -> tuple[float, float]:
    """Return the seconds that all attempts took with so many workers, and what one cost beyond its agent."""
    with laboratory(workers) as lab:
        paths = [lab.worktree(f"wp{number:02d}") for number in range(1, wps + 1)]
        async with connected(lab, seconds) as agents:
            wall_s, took = await side_by_side(agents, paths, SLOTS * workers)
        worked = [float(line) for line in lab.times.read_text().split()]
        if len(worked) != wps:
            raise SystemExit(f"{len(worked)} agents ran for {wps} attempts")
        return wall_s, statistics.mean(took) - statistics.mean(worked)


async def scaled(most: int, wps: int, seconds: float) -> list[Row]:
    """Run the same attempts with more and more workers."""
    rows, first_s = [], 0.0
    for workers in range(1, most + 1):
        wall_s, beyond_s = await throughput(workers, wps, seconds)
        first_s = first_s or wall_s
        ideal_s = -(-wps // (SLOTS * workers)) * seconds
        told = f"{wall_s:.1f} s for {wps} attempts of {seconds:g} s (ideal {ideal_s:g} s), "
        told += f"each {beyond_s:.2f} s beyond its agent"
        bound = Bound(2.6, "x", at_least=True) if workers == 3 else None
        rows.append(Row(f"throughput, {workers} workers of {SLOTS}", told, first_s / wall_s, bound))
    return rows


async def one_by_one(lab: Lab, agents: ClusterAgents, paths: Sequence[Path]) -> list[float]:
    """Run an attempt in each worktree, one after the other; return what each took beyond its agent."""
    before = len(lab.times.read_text().split()) if lab.times.exists() else 0
    took = []
    for path in paths:
        took.append(await attempt(agents, path))
        # As the orchestrator does, on its own time.
        git(path, "add", "--all")
        git(path, "commit", "--quiet", "--message", "work")
    worked = [float(line) for line in lab.times.read_text().split()[before:]]
    return [all_s - agent_s for all_s, agent_s in zip(took, worked, strict=True)]


def middle(what: str, each: Sequence[float]) -> Row:
    """Return the line of attempts that may cost a second each."""
    told = f"{min(each):.2f} to {max(each):.2f} s"
    return Row(f"{what}, beyond its agent", told, statistics.median(each), Bound(1, "s"))


async def alone() -> list[Row]:
    """Run attempts one after the other."""
    with laboratory(1) as lab:
        path = lab.worktree("alone")
        async with connected(lab, 1.0) as agents:
            beyond = await one_by_one(lab, agents, [path] * (ALONE + 1))
    return [middle("one attempt alone", beyond[1:])]


async def large(files: int) -> list[Row]:
    """Run attempts of a large repository on a machine that never saw it."""
    with laboratory(1, partial(large_project, files=files)) as lab:
        begun = time.perf_counter()
        git(lab.folder, "clone", "--quiet", "project", "clone")
        clone_s = time.perf_counter() - begun
        shutil.rmtree(lab.folder / "clone")
        paths = [lab.worktree(f"wp{number}") for number in range(4)]
        async with connected(lab, READY_S) as agents:
            first, *following = await one_by_one(lab, agents, [paths[0]] * (ALONE - 1))
            others = await one_by_one(lab, agents, paths[1:])
    told = f"{first:.1f} s, the clone {clone_s:.1f} s"
    return [
        Row(f"first attempt of {files:,} files on a new worker", told, first / clone_s, Bound(3, "x")),
        middle("next attempt of the workspace", following),
        middle("first attempt of another workspace", others),
    ]


async def flooded(mib: float) -> list[Row]:
    """Let agents write at once, after the same agents have written nothing."""
    with laboratory(2) as lab:
        paths = [lab.worktree(f"wp{number}") for number in range(FLOODING)]
        peaks, wall_s = [], 0.0
        for each_mib in (0.0, mib / FLOODING):
            async with connected(lab, 1.0, each_mib) as agents:
                wall_s, _ = await side_by_side(agents, paths, FLOODING)
            peaks.append([peak_rss_mib(pid) for pid in (os.getpid(), lab.scheduler.pid)])
        logs = sum(one.stat().st_size for one in (lab.folder / "project").rglob("stdout.log")) / 1024**2
    if logs < mib:
        raise SystemExit(f"only {logs:.0f} MiB of {mib:.0f} have arrived")
    rows = []
    for who, before, after in zip(("coordinator", "scheduler"), *peaks, strict=True):
        told = f"{before:.0f} MiB, with {mib:g} MiB of output of {FLOODING} agents {after:.0f} MiB"
        told += f" ({wall_s:.0f} s)"
        rows.append(Row(f"peak memory of the {who}", told, after - before, Bound(50, "MiB")))
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="alone,flood,large,throughput", help="parts, with commas")
    parser.add_argument("--wps", type=int, default=48)
    parser.add_argument("--seconds", type=float, default=10.0, help="that each agent works")
    parser.add_argument("--workers", type=int, default=3, help="at most")
    parser.add_argument("--flood-mib", type=float, default=100.0, help="of all agents together")
    parser.add_argument("--files", type=int, default=18_000, help="of the large repository")
    options = parser.parse_args()
    parts: dict[str, Callable[[], Awaitable[list[Row]]]] = {
        "alone": alone,
        "flood": partial(flooded, options.flood_mib),
        "large": partial(large, options.files),
        "throughput": partial(scaled, options.workers, options.wps, options.seconds),
    }
    rows: list[Row] = []
    for part in options.only.split(","):
        rows += anyio.run(parts[part])
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", layout(rows), sep="\n")


if __name__ == "__main__":
    main()
