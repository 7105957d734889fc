"""Measures what an agent that floods its stdout costs in memory: one WP without the flood, then one with it.

    python benchmarks/flood.py                       # ours, 100 MiB in lines of 8 KiB; about a minute
    python benchmarks/flood.py --line-kib 102400     # the same in one line
    python benchmarks/flood.py --only both           # the reference too

Needs what `mission.py` needs. The flood comes from the stand-in for claude, as events of the real CLI's
format, so that what reads the final answer meets it too. Columns: the peak memory of the orchestrator's own
process (the kernel's high-water mark), without and with the flood, and what the flood adds, in MiB; its CPU
seconds without and with the flood; the WP's final lane in both runs.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from lab import CACHE, Lab, Result, drive, install_reference, our_command
from real_mission import make_mission, side_by_side


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("reference", "ours", "both"), default="ours")
    parser.add_argument("--flood-mib", type=int, default=100)
    parser.add_argument("--line-kib", type=int, default=8)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--host", default=shutil.which("spec-kitty"), help="the host's command")
    parser.add_argument("--ours", default=our_command(), help="our command")
    return parser.parse_args()


def row(name: str, calm: Result, flooded: Result) -> str:
    """Lay out one orchestrator's figures."""
    before, after = calm.cost, flooded.cost
    added = after.peak_root_rss_mib - before.peak_root_rss_mib
    return (
        f"{name:12}{before.peak_root_rss_mib:10.1f}{after.peak_root_rss_mib:10.1f}{added:+10.1f}"
        f"{before.root_cpu_s:10.1f}{after.root_cpu_s:10.1f}"
        f"   {', '.join(calm.lanes.values())} / {', '.join(flooded.lanes.values())}"
    )


def main() -> None:
    options = parse_options()
    commands = {} if options.only == "reference" else {"ours": options.ours}
    if options.only != "ours":
        commands["reference"] = install_reference(options.cache.resolve())
    if not options.host or not all(commands.values()):
        sys.exit("spec-kitty or spec-kitty-orchestrator is not on PATH; name them with --host and --ours")
    folder = Path(tempfile.mkdtemp(prefix="spec-kitty-flood-"))
    lab = Lab(folder, str(Path(options.host).absolute()))
    try:
        mission = make_mission(folder / "mission", lab.host, lab.env, edges=side_by_side(1), topology="lanes")
        print(f"{'':12}{'MiB':>10}{'flooded':>10}{'added':>10}{'CPU s':>10}{'flooded':>10}   lanes")
        for name, command in commands.items():
            lab.install(mission, agent_seconds=1.0)
            calm = drive(lab, mission, name, command)
            lab.install(mission, 1.0, flood_mib=options.flood_mib, line_kib=options.line_kib)
            flooded = drive(lab, mission, f"{name}-flooded", command)
            print(row(name, calm, flooded), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
