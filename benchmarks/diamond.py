"""Whole missions: ours against the reference, and ours against the critical path of its agents."""

import sys

from lab import Lab, Result, Setup, drive, install_reference
from real_mission import Mission, diamond, make_mission
from rows import BenchmarkFailed, Bound, Row, ratio_row

TOPOLOGY = (
    "lanes_with_coord"  # everything that the host can do: a worktree per lane, status on a branch of its own
)
LIMIT_S = 1800.0
WANTED_OVERHEAD = 15.0
WANTED_CPU = 10.0
WANTED_PATH = 1.25
BOTH = ("reference", "ours")

Pair = tuple[Result, Result]


def against_reference(setup: Setup) -> list[Row]:
    """Drive six WPs with agents of a second, by the reference and by ours, `setup.runs` times in turn."""
    reference = install_reference(setup.cache)
    pairs: list[Pair] = []
    with setup.lab() as lab:
        mission = prepared(lab, wps=3 if setup.quick else 6, agent_s=1.0)
        for run in range(setup.runs):
            theirs = complete(lab, mission, f"reference-{run + 1}", reference, max_concurrent=4)
            ours = complete(lab, mission, f"ours-{run + 1}", setup.ours, max_concurrent=4)
            pairs.append((theirs, ours))
    plan = f"diamond of {len(mission.dependencies)}"
    theirs, ours = middle(pairs)
    beyond = (theirs.overhead_s, ours.overhead_s)
    return [
        ratio_row(f"{plan}: wall beyond the agents' bound", *beyond, BOTH, WANTED_OVERHEAD),
        ratio_row(f"{plan}: CPU beyond the agents' own", theirs.own_cpu_s, ours.own_cpu_s, BOTH, WANTED_CPU),
        Row(f"{plan}: wall, of it agents' bound", f"{wall(theirs)} / {wall(ours)}"),
        Row(f"{plan}: host", f"{calls(theirs, ours=False)} / {calls(ours, ours=True)}"),
    ]


def critical_path(setup: Setup) -> list[Row]:
    """Drive eight WPs with agents of half a minute by ours alone."""
    agent_s = 2.0 if setup.quick else 30.0
    with setup.lab() as lab:
        mission = prepared(lab, wps=8, agent_s=agent_s)
        ours = complete(lab, mission, "ours", setup.ours, max_concurrent=6)
    what = f"diamond of 8, agents of {agent_s:.0f} s: wall / critical path"
    measured = f"wall {ours.cost.wall_s:.1f} s, agents' critical path {ours.bound_s:.1f} s"
    return [Row(what, measured, ours.cost.wall_s / ours.bound_s, Bound(WANTED_PATH, "x"))]


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


def middle(pairs: list[Pair]) -> Pair:
    """Return the run whose ratio of overheads is the middle one, of two the less flattering one."""
    ranked = sorted(pairs, key=lambda pair: pair[0].overhead_s / pair[1].overhead_s)
    return ranked[(len(ranked) - 1) // 2]


def wall(result: Result) -> str:
    return (
        f"{result.cost.wall_s:.1f} s ({result.bound_s:.1f} s; first agent after {result.first_agent_s:.1f} s)"
    )


def calls(result: Result, *, ours: bool) -> str:
    """Say how often the host was asked and started; a warm host is asked without being started."""
    asked = "not in the run log" if ours and not result.logged else f"{sum(result.api_calls.values())} calls"
    return f"{asked}, its command run {result.commands} times"
