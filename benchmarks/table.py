"""Prints one table: each figure that must hold, what is wanted of it, and whether it is reached.

    python benchmarks/table.py                         # everything; half an hour
    python benchmarks/table.py --only calls,idle       # also diamond long-agents start look orders money hops
    python benchmarks/table.py --only diamond --runs 3 # the middle one of three
    python benchmarks/table.py --quick                 # shows in some minutes that it works, no more

What each row means and what can go wrong in measuring is told in `docs/benchmarks.md`. Needs Linux, git, the
host (`spec-kitty`) and our command, on PATH or named by --host and --ours. Nothing is asserted: the exit code
is 1 if a part could not be measured, and 0 also where a bound is missed.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import calls
import diamond
import hops
import idle
import look
import money
import start
from lab import CACHE, COMMAND, TRANSPORTS, Setup, our_command
from rows import BenchmarkFailed, Row, layout

import orders

Part = Callable[[Setup], list[Row]]


PARTS: Mapping[str, Part] = {
    "calls": calls.measure,
    "diamond": diamond.against_reference,
    "long-agents": diamond.with_long_agents,
    "idle": idle.measure,
    "start": start.measure,
    "look": look.measure,
    "orders": orders.measure,
    "money": money.measure,
    "hops": lambda _: hops.measure(),
}


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas")
    parser.add_argument("--runs", type=int, default=1, help="runs of each diamond")
    parser.add_argument(
        "--transport",
        choices=TRANSPORTS,
        default="",
        help="how ours calls the host in missions; else as it is configured by default",
    )
    parser.add_argument("--quick", action="store_true", help="only show that the benchmark works")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the reference is installed")
    parser.add_argument("--host", default=shutil.which("spec-kitty"), help="the host's command")
    parser.add_argument("--ours", default=our_command(), help="our command")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--keep", action="store_true", help="keep the missions and the logs")
    options = parser.parse_args()
    options.only = [part.strip() for part in options.only.split(",")]
    unknown = [part for part in options.only if part not in PARTS]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    if not options.host:
        parser.error("no spec-kitty on PATH; name it with --host")
    if not options.ours:
        parser.error(f"no {COMMAND} on PATH; name it with --ours")
    return options


def machine() -> str:
    """Say in one line what the figures come from."""
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, load {load:.1f} at the start, Python {platform.python_version()}"


def main() -> int:
    options = parse_options()
    setup = Setup(
        host=str(Path(options.host).absolute()),
        ours=str(Path(options.ours).absolute()),
        cache=options.cache.absolute(),
        transport=options.transport,
        runs=options.runs,
        quick=options.quick,
        keep=options.keep,
    )
    heading = machine() + ("; QUICK: the figures mean nothing" if setup.quick else "")
    rows: list[Row] = []
    failed: list[str] = []
    for part in options.only:
        print(f"-- {part}", file=sys.stderr)
        try:
            rows += PARTS[part](setup)
        except BenchmarkFailed as error:
            failed.append(f"{part} could not be measured: {error}")
        except (Exception, SystemExit):  # noqa: BLE001 - the other parts must not suffer from it
            failed.append(f"{part} could not be measured:\n{traceback.format_exc()}")
    print(heading, layout(rows), *failed, sep="\n")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2), encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
