"""Measures what one WP costs the scheduler and the journal in a mission of 50 and in one of 1,000.

    python benchmarks/scale.py               # some minutes
    python benchmarks/scale.py --runs 1      # each figure once instead of the middle one of three

The host, git and the agents are the shipped stand-ins, so what is measured is this package alone; agents take
no time. Two comparisons are made: with 5 slots, where a mission of 50 keeps as many agents at work as one of
1,000 does, so that nothing but the size differs; and with 100 slots, where the larger one has 100 at work.
The journal is the real one, on disk and synced at each line, or one in memory. Chains are ten long and side
by side; diamonds are one, eight side by side and one that needs all eight, side by side too. Every run is a
process of its own. Printed are wall and CPU time per WP, their ratios, and the largest memory that any of the
processes had resident.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import anyio

from spec_kitty_orchestrator.core.model import Policy
from spec_kitty_orchestrator.core.prompts import Prompts
from spec_kitty_orchestrator.driver.engine import Orchestrator
from spec_kitty_orchestrator.machine.journal import JsonlJournal
from spec_kitty_orchestrator.testing.fake_host import FakeHost
from spec_kitty_orchestrator.testing.fake_workspaces import FakeWorkspaces
from spec_kitty_orchestrator.testing.memory_journal import MemoryJournal, StoppedClock, Watcher
from spec_kitty_orchestrator.testing.scripted_agents import Play, ScriptedAgents

FEW, MANY = 50, 1000
STEADY = 500  # WPs in one process at least: a mission of 50 alone is over before the clock says much
MOST_RATIO, MOST_MIB = 1.5, 150.0


def chains(count: int) -> dict[str, tuple[str, ...]]:
    """Return chains of ten, side by side."""
    return {f"WP{n:04d}": (f"WP{n - 1:04d}",) if n % 10 else () for n in range(count)}


def diamonds(count: int) -> dict[str, tuple[str, ...]]:
    """Return diamonds of ten, side by side."""
    needs: dict[str, tuple[str, ...]] = {}
    for n in range(count):
        first = n - n % 10
        middle = tuple(f"WP{one:04d}" for one in range(first + 1, first + 9))
        needs[f"WP{n:04d}"] = () if n == first else middle if n == first + 9 else (f"WP{first:04d}",)
    return needs


SHAPES: Mapping[str, Callable[[int], dict[str, tuple[str, ...]]]] = {"chains": chains, "diamonds": diamonds}


async def mission(needs: Mapping[str, tuple[str, ...]], slots: int, agent_s: float, folder: str) -> int:
    """Run one mission; return how many agents were at work at once."""
    workspaces = FakeWorkspaces()
    agents = ScriptedAgents(workspaces, lambda _: Play(seconds=agent_s))
    engine = Orchestrator(
        "demo",
        "benchmark",
        Policy(("ada",), ("rob",)),
        host=FakeHost(needs),
        agents=agents,
        workspaces=workspaces,
        journal=JsonlJournal(Path(folder), Path(folder)) if folder else MemoryJournal(),
        clock=StoppedClock(),
        observer=Watcher(),
        prompts=Prompts("${task}${report}", "${task}${feedback}${report}", "${task}${verdict}"),
        max_concurrent=slots,
        version="1.0.0",
    )
    result = await engine.run()
    if result.exit_code:
        raise SystemExit(f"the mission ended with {result.exit_code}: {dict(result.reasons)}")
    return agents.most_at_once


def child(shape: str, count: int, slots: int, agent_s: float, on_disk: bool) -> None:
    """Run missions in this process, one after the other, and print its figures."""
    rounds = max(1, STEADY // count)
    wall_s, cpu_s, at_once = time.monotonic(), time.process_time(), 0
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            work = partial(mission, SHAPES[shape](count), slots, agent_s, folder if on_disk else "")
            at_once = anyio.run(work)
    wps = rounds * count
    wall_s, cpu_s = (time.monotonic() - wall_s) / wps, (time.process_time() - cpu_s) / wps
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"wall": wall_s, "cpu": cpu_s, "mib": peak_mib, "at_once": at_once}))


def measured(*arguments: object) -> dict[str, float]:
    """Run missions in a process of its own; return its figures."""
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {name: float(value) for name, value in json.loads(found).items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        shape, count, slots, agent_s, on_disk = options.child
        child(shape, int(count), int(slots), float(agent_s), on_disk == "True")
        return
    print(f"{'shape':10}{'journal':10}{'slots':>6}{'of':>8}{f'{FEW} WPs':>10}{f'{MANY} WPs':>10}{'x':>7}")
    worst, peak_mib = 0.0, 0.0
    for shape in SHAPES:
        for on_disk in (True, False):
            for slots in (5, 100):
                # In turns, so that whatever else the machine does falls upon both.
                pairs = [
                    [measured(shape, size, slots, 0.0, on_disk) for size in (FEW, MANY)]
                    for _ in range(options.runs)
                ]
                peak_mib = max(peak_mib, *(one["mib"] for pair in pairs for one in pair))
                for name in ("wall", "cpu"):
                    few, many = (statistics.median(pair[place][name] for pair in pairs) for place in (0, 1))
                    ratio = statistics.median(pair[1][name] / pair[0][name] for pair in pairs)
                    worst = max(worst, ratio)
                    print(
                        f"{shape:10}{'on disk' if on_disk else 'memory':10}{slots:6}{name:>8}"
                        f"{few * 1e3:7.2f} ms{many * 1e3:7.2f} ms{ratio:7.2f}",
                        flush=True,
                    )
    busy = measured("chains", MANY, 100, 0.5, True)
    peak_mib = max(peak_mib, busy["mib"])
    print(f"agents at work at once with 100 slots: {busy['at_once']:.0f}")
    print(
        f"worst ratio: {worst:.2f} of the time per WP at {MANY} WPs to that at {FEW} (wanted: {MOST_RATIO})"
    )
    print(f"peak RSS: {peak_mib:.0f} MiB (wanted: below {MOST_MIB:.0f})")


if __name__ == "__main__":
    main()
