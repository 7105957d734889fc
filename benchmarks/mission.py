"""Drives one real mission with the reference orchestrator and again with ours, and prints one table.

    python benchmarks/mission.py                     # both; about 6 minutes, most of it the reference's
    python benchmarks/mission.py --only ours --subtasks 1 --topology coord

It needs Linux, git, the host (`spec-kitty`) and our command on PATH or named by --host and --ours. The
reference comes from the package index into a virtual environment of its own, kept in --cache. The agents are
stand-ins (`fake_agent.py`): each sleeps --agent-seconds, then writes and commits a file or approves. The
mission is a diamond of --wps work packages, made once by the host and unpacked anew, to the same path, before
each orchestrator.

Rows of the table; the last column is the reference's figure divided by ours:

  wall s            from the start of the command to its end
  agents' bound s   the longest dependency chain of agent run times, as the agents themselves logged them: no
                    orchestrator that runs a WP's agents one after the other can be faster
  overhead s        wall minus bound: what the orchestrator and its host calls add
  CPU s             of the whole tree of processes, detached ones included; then split into the agents' own,
                    the orchestrator's own process, and the rest: host, git, helpers of the orchestrator's
  peak MiB          tree: proportional memory (PSS) summed over the tree, sampled four times a second;
                    own: resident memory of the orchestrator's process
  host API calls    `spec-kitty orchestrator-api`, and the same per WP: the reference's are counted by the
                    command on PATH, ours by its run log, for one warm host process answers many
  other host calls  the same command run by git (as a merge driver) or by an agent (to tick a subtask);
                    the reference's alone are counted

Nothing is asserted: a loaded machine shifts the seconds, much less the ratios.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from lab import CACHE, COMMAND, TRANSPORTS, Lab, Result, drive, install_reference, our_command
from real_mission import TOPOLOGIES, diamond, make_mission


def figures(result: Result) -> dict[str, float]:
    """Return the rows of the table, in order."""
    cost, calls = result.cost, sum(result.api_calls.values())
    return {
        "wall s": cost.wall_s,
        "agents' bound s": result.bound_s,
        "overhead s": result.overhead_s,
        "CPU s, whole tree": cost.cpu_s,
        "CPU s, agents": result.agents_cpu_s,
        "CPU s, orchestrator": cost.root_cpu_s,
        "CPU s, host and git": result.own_cpu_s - cost.root_cpu_s,
        "peak MiB, tree": cost.peak_tree_pss_mib,
        "peak MiB, own": cost.peak_root_rss_mib,
        "agent runs": result.agent_runs,
        "host API calls": calls,
        "host API calls/WP": calls / len(result.lanes),
        "other host calls": result.other_calls,
    }


def table(results: dict[str, Result]) -> str:
    """Lay the figures out, one column per orchestrator and the ratio last."""
    columns = {name: figures(result) for name, result in results.items()}
    lines = ["".join([f"{'':22}", *(f"{name:>12}" for name in columns), f"{'ref/ours':>10}"])]
    for row in next(iter(columns.values())):
        values = [column[row] for column in columns.values()]
        ratio = f"{values[0] / values[1]:.1f}x" if len(values) == 2 and values[1] > 0 else ""
        lines.append("".join([f"{row:22}", *(f"{value:12.1f}" for value in values), f"{ratio:>10}"]))
    for name, result in results.items():
        lanes = ", ".join(f"{n} {lane}" for lane, n in Counter(result.lanes.values()).items())
        ending = "timed out" if result.cost.timed_out else f"exit {result.cost.exit_code}"
        lines.append(f"{name}: {ending}; lanes: {lanes}; calls: {result.api_calls}")
    return "\n".join(lines)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("reference", "ours", "both"), default="both")
    parser.add_argument("--wps", type=int, default=4)
    parser.add_argument("--topology", choices=TOPOLOGIES, default="lanes_with_coord")
    parser.add_argument("--subtasks", type=int, default=0, help="per WP")
    parser.add_argument("--agent-seconds", type=float, default=3.0)
    parser.add_argument("--max-concurrent", type=int, default=4)
    parser.add_argument(
        "--limit-s", type=float, default=1200.0, help="kill an orchestrator after so many seconds"
    )
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--host", default=shutil.which("spec-kitty"), help="the host's command")
    parser.add_argument("--ours", default=our_command(), help="our command")
    parser.add_argument("--transport", choices=TRANSPORTS, default="", help="how ours calls the host")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--keep", action="store_true", help="keep the mission and the logs")
    options = parser.parse_args()
    if not options.host:
        parser.error("no spec-kitty on PATH; name it with --host")
    if not options.ours and options.only != "reference":
        parser.error(f"no {COMMAND} on PATH; name it with --ours")
    return options


def main() -> None:
    options = parse_options()
    commands = {} if options.only == "ours" else {"reference": install_reference(options.cache.resolve())}
    if options.only != "reference":
        commands["ours"] = options.ours
    folder = Path(tempfile.mkdtemp(prefix="spec-kitty-benchmark-"))
    lab = Lab(folder, str(Path(options.host).absolute()), options.transport)
    try:
        print("preparing the mission", file=sys.stderr)
        mission = make_mission(
            lab.folder / "mission",
            lab.host,
            lab.env,
            edges=diamond(options.wps),
            topology=options.topology,
            subtasks=options.subtasks,
        )
        lab.install(mission, options.agent_seconds)
        results = {
            name: drive(
                lab, mission, name, command, max_concurrent=options.max_concurrent, limit_s=options.limit_s
            )
            for name, command in commands.items()
        }
    finally:
        if options.keep:
            print(f"kept: {lab.folder}", file=sys.stderr)
        else:
            shutil.rmtree(lab.folder, ignore_errors=True)
    print(table(results))
    if options.json:
        options.json.write_text(
            json.dumps({n: asdict(r) for n, r in results.items()}, indent=2), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
