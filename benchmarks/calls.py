"""What one call of the host costs in CPU, from a process of its own and from the warm host.

Two missions of one plan go through the same calls in turn, one answered by spawned processes and one by the
warm host. A call's cost is what its whole tree of processes takes, git and merge drivers included, with the
caller's own share: this process, all that it has reaped, and its living descendants and what these reaped.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from os import getpid
from pathlib import Path
from statistics import median

import anyio
import tree
from lab import Lab, Setup
from real_mission import POLICY, Mission, make_mission, names
from rows import BenchmarkFailed, Row, ratio_row

from spec_kitty_orchestrator.core.model import Lane, PolicyMetadata
from spec_kitty_orchestrator.host.client import HostClient
from spec_kitty_orchestrator.host.transport import SpawnTransport, Transport
from spec_kitty_orchestrator.host.warm import WarmTransport
from spec_kitty_orchestrator.ports import ReviewResult

TOPOLOGY = "coord"  # the one whose starts are dearest: git runs the host as a merge driver
WIDTH = (
    3  # WPs without dependencies, and as many more that need all of these: a start of one merges their lanes
)
READS_AT_ONCE = (
    10  # the kernel tells the CPU time of others in hundredths of a second; a warm read takes a few
)
WANTED_READ = 15.0
WANTED_MUTATION = 8.0
ACTOR = "benchmark"
READS = ("contract-version", "mission-state", "resolve-workspace")
METADATA = PolicyMetadata(
    **{name: value for name, value in POLICY.items() if isinstance(value, str)}, dangerous_flags=()
)

Call = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class Side:
    """One transport with its own mission.

    Attributes:
        name: as in the table.
        reads_at_once: reads of one kind that are measured together.
        costs: CPU seconds of one call, by the kind of call.
    """

    name: str
    mission: Mission
    host: HostClient
    reads_at_once: int
    costs: dict[str, list[float]] = field(default_factory=dict)

    async def measure(self, kind: str, call: Call, times: int = 1) -> object:
        """Make a call so many times, note what one took, and return the last answer."""
        before, answer = spent_s(), None
        for _ in range(times):
            answer = await call()
        self.costs.setdefault(kind, []).append((spent_s() - before) / times)
        return answer


def measure(setup: Setup) -> list[Row]:
    """Take two missions through a cycle of calls, and compare the middle cost of each kind of call."""
    tree.adopt_orphans()
    width = 1 if setup.quick else WIDTH
    edges: dict[str, list[str]] = {wp: [] for wp in names(1, width)}
    edges.update({wp: names(1, width) for wp in names(width + 1, 2 * width)})
    with setup.lab() as lab:
        print("preparing two missions", file=sys.stderr)
        folders = (lab.folder / "spawned", lab.folder / "warm")
        missions = [make_mission(one, lab.host, lab.env, edges=edges, topology=TOPOLOGY) for one in folders]
        return anyio.run(compare, lab, missions[0], missions[1])


async def compare(lab: Lab, first: Mission, second: Mission) -> list[Row]:
    """Measure the calls of both sides."""
    doubts: list[str] = []
    warm = WarmTransport(required=True, say=doubts.append)
    spawned_side = Side("spawned", first, client(lab, first, SpawnTransport()), 1)
    warm_side = Side("warm", second, client(lab, second, warm), READS_AT_ONCE)
    try:
        await spawned_side.host.check_contract()  # whatever the first call of all compiles is nobody's cost
        await warm_side.measure("start", warm_side.host.check_contract)
        await cycle((spawned_side, warm_side))
    finally:
        await warm.close()
    if doubts:
        raise BenchmarkFailed("; ".join(doubts))
    rows = [row(kind, spawned_side, warm_side) for kind in spawned_side.costs]
    return [*rows, Row("starting the warm host, CPU, once a run", f"{warm_side.costs['start'][0]:.2f} s")]


def client(lab: Lab, mission: Mission, transport: Transport) -> HostClient:
    """Make the client of one side, as a run makes it."""
    return HostClient(mission.root, executable=lab.host, transport=transport, env=lab.env)


def row(kind: str, spawned: Side, warm: Side) -> Row:
    """Compare one kind of call."""
    theirs, ours = spawned.costs[kind], warm.costs[kind]
    wanted = WANTED_READ if kind in READS else WANTED_MUTATION
    what = f"{kind}, CPU of a call (middle of {len(ours)})"
    return ratio_row(what, median(theirs), median(ours), (spawned.name, warm.name), wanted)


async def cycle(sides: tuple[Side, Side]) -> None:
    """Take every WP from planned to done; reads are measured before, between and after."""
    edges = sides[0].mission.dependencies
    free = [wp for wp in edges if not edges[wp]]
    joining = [wp for wp in edges if edges[wp]]
    joined = f"start-implementation that joins {len(free)} lanes"
    await in_turn(sides, reads)
    for wp in free:
        await in_turn(sides, partial(work_package, wp=wp, start="start-implementation, fresh"))
    await in_turn(sides, reads)
    for wp in joining:
        await in_turn(sides, partial(work_package, wp=wp, start=joined))
    await in_turn(sides, reads)


async def in_turn(sides: tuple[Side, Side], part: Callable[[Side], Awaitable[None]]) -> None:
    """Do one part with both, so that what else the machine does meets both alike."""
    for side in sides:
        await part(side)


async def reads(side: Side) -> None:
    host, slug = side.host, side.mission.slug
    calls: dict[str, Call] = {
        "contract-version": host.check_contract,
        "mission-state": lambda: host.mission_state(slug),
        "resolve-workspace": lambda: host.resolve_workspace(slug, "WP01"),
    }
    for kind in READS:
        await side.measure(kind, calls[kind], side.reads_at_once)


async def work_package(side: Side, wp: str, start: str) -> None:
    """Take one WP from planned to done, with a commit between as an agent makes it."""
    host, slug = side.host, side.mission.slug
    await side.measure(start, lambda: host.start_implementation(slug, wp, ACTOR, METADATA))
    workspace = await host.resolve_workspace(slug, wp)
    commit_module(Path(workspace.path), wp)
    await side.measure(
        "transition to for_review",
        lambda: host.transition(slug, wp, Lane.FOR_REVIEW, ACTOR, policy=METADATA, note="done"),
    )
    await side.measure("start-review", lambda: host.start_review(slug, wp, ACTOR, METADATA))
    verdict = ReviewResult(reviewer=ACTOR, verdict="approved", reference=f"{wp}-1", summary="ok")
    await side.measure(
        "transition to done",
        lambda: host.transition(slug, wp, Lane.DONE, ACTOR, policy=METADATA, note="ok", review=verdict),
    )


def commit_module(worktree: Path, wp: str) -> None:
    module = worktree / "src" / f"mod{wp[2:]}" / f"m{wp[2:]}.py"
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text('def status() -> str:\n    return "ready"\n', encoding="utf-8")
    subprocess.run(["git", "add", "-A"], cwd=worktree, check=True)
    subprocess.run(["git", "commit", "-qm", f"{wp}: add the module"], cwd=worktree, check=True)


def spent_s() -> float:
    """Return the CPU seconds of this process and of everything that it ever started."""
    reaped = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = sum(tree.tree_cpu_s(child) for child in tree.children(getpid()))
    return time.process_time() + reaped.ru_utime + reaped.ru_stime + living
