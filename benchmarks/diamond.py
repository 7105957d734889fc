"""Whole missions: ours against the reference, and beside the critical path of its agents and a host call."""

import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import TypeVar

from lab import Lab, Result, Setup, drive, install_reference
from real_mission import Mission, diamond, make_mission
from rows import BenchmarkFailed, Bound, Row, ratio_row

TOPOLOGY = (
    "lanes_with_coord"  # everything that the host can do: a worktree per lane, status on a branch of its own
)
LIMIT_S = 1800.0
WANTED_OVERHEAD = 23.0
WANTED_CPU = 16.0
WANTED_BEYOND = 3.5
WANTED_FIRST = 1.8
WANTED_PATH = 1.04
CALLS = 5
BOTH = ("reference", "ours")

Other = TypeVar("Other", Result, float)


def against_reference(setup: Setup) -> list[Row]:
    """Drive six WPs with agents of a second, by the reference and by ours, `setup.runs` times in turn."""
    reference = install_reference(setup.cache)
    pairs: list[tuple[Result, Result]] = []
    with setup.lab() as lab:
        mission = prepared(lab, wps=3 if setup.quick else 6, agent_s=1.0)
        for run in range(setup.runs):
            theirs = complete(lab, mission, f"reference-{run + 1}", reference, max_concurrent=4)
            ours = complete(lab, mission, f"ours-{run + 1}", setup.ours, max_concurrent=4)
            pairs.append((theirs, ours))
    plan = f"diamond of {len(mission.dependencies)}"
    theirs, ours = middle(pairs, lambda theirs, ours: theirs.overhead_s / ours.overhead_s)
    beyond = (theirs.overhead_s, ours.overhead_s)
    return [
        ratio_row(f"{plan}: wall beyond the agents' bound", *beyond, BOTH, WANTED_OVERHEAD),
        ratio_row(f"{plan}: CPU beyond the agents' own", theirs.own_cpu_s, ours.own_cpu_s, BOTH, WANTED_CPU),
        Row(f"{plan}: wall, of it agents' bound", f"{wall(theirs)} / {wall(ours)}"),
        Row(f"{plan}: host", f"{calls(theirs, ours=False)} / {calls(ours, ours=True)}"),
    ]


def with_long_agents(setup: Setup) -> list[Row]:
    """Drive six WPs by ours alone, with agents of ten seconds and of thirty, beside calls of the host."""
    short_s, long_s = (1.0, 2.0) if setup.quick else (10.0, 30.0)
    with setup.lab() as lab:
        mission = prepared(lab, wps=6, agent_s=short_s)
        short = [beside_a_call(lab, mission, setup, f"ours-{run + 1}") for run in range(setup.runs)]
        lab.install(mission, long_s)
        long = [beside_a_call(lab, mission, setup, f"ours-long-{run + 1}") for run in range(setup.runs)]
    beyond, beyond_call_s = middle(short, lambda ours, call_s: ours.overhead_s / call_s)
    first, first_call_s = middle(short + long, lambda ours, call_s: ours.first_agent_s / call_s)
    path, _ = middle(long, lambda ours, _: ours.cost.wall_s / ours.bound_s)
    call = "one spawned contract-version"
    return [
        Row(
            f"diamond of 6, agents of {short_s:.0f} s: wall beyond the agents' bound / {call}",
            f"{beyond.overhead_s:.2f} s / {beyond_call_s:.2f} s",
            beyond.overhead_s / beyond_call_s,
            Bound(WANTED_BEYOND, "x"),
        ),
        Row(
            f"diamond of 6: first agent / {call}",
            f"{first.first_agent_s:.2f} s / {first_call_s:.2f} s",
            first.first_agent_s / first_call_s,
            Bound(WANTED_FIRST, "x"),
        ),
        Row(
            f"diamond of 6, agents of {long_s:.0f} s: wall / agents' bound",
            f"{path.cost.wall_s:.1f} s / {path.bound_s:.1f} s",
            path.cost.wall_s / path.bound_s,
            Bound(WANTED_PATH, "x"),
        ),
    ]


def beside_a_call(lab: Lab, mission: Mission, setup: Setup, name: str) -> tuple[Result, float]:
    """Drive the mission by ours; return also the seconds of one call of the host, before and after."""
    before = spawned_call_s(lab, mission)
    ours = complete(lab, mission, name, setup.ours, max_concurrent=4)
    return ours, median(before + spawned_call_s(lab, mission))


def spawned_call_s(lab: Lab, mission: Mission) -> list[float]:
    """Return what some calls of `contract-version` took, each by a process of its own."""
    taken = []
    for _ in range(CALLS):
        begun = time.monotonic()
        command = [lab.host, "orchestrator-api", "contract-version"]
        subprocess.run(command, cwd=mission.root, env=lab.env, check=True, capture_output=True)
        taken.append(time.monotonic() - begun)
    return taken


def prepared(lab: Lab, *, wps: int, agent_s: float) -> Mission:
    """Make a diamond and the agents that work on it."""
    print(f"preparing a mission of {wps} WPs", file=sys.stderr)
    mission = make_mission(lab.folder / "mission", lab.host, lab.env, edges=diamond(wps), topology=TOPOLOGY)
    lab.install(mission, agent_s)
    return mission


def complete(lab: Lab, mission: Mission, name: str, command: str, *, max_concurrent: int) -> Result:
    """Drive the mission; one that was not completed tells nothing of speed."""
    result = drive(lab, mission, name, command, max_concurrent=max_concurrent, limit_s=LIMIT_S)
    if not result.complete:
        end = "timed out" if result.cost.timed_out else f"exit {result.cost.exit_code}"
        log = (lab.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        raise BenchmarkFailed(f"{name}: {end}, lanes {result.lanes}; its output ends:\n{log[-1000:]}")
    return result


def middle(
    runs: list[tuple[Result, Other]], figure: Callable[[Result, Other], float]
) -> tuple[Result, Other]:
    """Return the run whose figure is the middle one, of two the lower."""
    return sorted(runs, key=lambda run: figure(*run))[(len(runs) - 1) // 2]


def wall(result: Result) -> str:
    return (
        f"{result.cost.wall_s:.1f} s ({result.bound_s:.1f} s; first agent after {result.first_agent_s:.1f} s)"
    )


def calls(result: Result, *, ours: bool) -> str:
    """Say how often the host was asked and started; a warm host is asked without being started."""
    if ours:
        return f"{sum(result.api_calls.values())} calls" if result.logged else "not in the run log"
    return f"{sum(result.api_calls.values())} calls, its command run {result.commands} times"
