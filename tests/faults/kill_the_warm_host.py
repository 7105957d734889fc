"""Kills the warm host at a random instant of each of many real missions, and looks for what that changed.

`python -m tests.faults.kill_the_warm_host --kills 20` runs it, from the project's root with the host on PATH.
The missions and what must never be are those of `kill_the_command`; the command itself is left alone. After
the kill it starts the host for each call, so a mission takes one kill.
"""

# ruff: noqa: T201 - it prints a line per kill

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import psutil
from tests.faults.kill_the_command import LAST_LIMIT_S, Mission, again, laboratory, options, prepare

from spec_kitty_orchestrator.host import zygote
from spec_kitty_orchestrator.machine.orphans import stop_orphans

LATEST_S = 30.0
"""Until so long after it is there, the warm host is killed."""
LOOK_S = 0.02
"""How often the warm host is looked for while the command starts, in seconds."""
WORDS = "the host is not kept warm"
MOST_RUNS = 4
"""Missions per kill that is wanted: some end before their instant."""


def warm_host(command: psutil.Process) -> psutil.Process | None:
    """Return the command's warm host, None if there is none (any more)."""
    with suppress(psutil.Error):
        for child in command.children():
            with suppress(psutil.Error):
                if zygote.__file__ in child.cmdline():
                    return child
    return None


def play(mission: Mission, moment: float) -> bool:
    """Run a mission to its end, kill its warm host `moment` seconds after that started; tell whether."""
    mission.starts += 1
    with tempfile.TemporaryFile() as output:
        command = subprocess.Popen(
            mission.argv(),
            cwd=mission.root,
            env=mission.env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        watched = psutil.Process(command.pid)
        while command.poll() is None and warm_host(watched) is None:
            time.sleep(LOOK_S)
        with suppress(subprocess.TimeoutExpired):
            command.wait(moment)
        killed, recorded = False, mission.record.stat().st_size
        victim = warm_host(watched) if command.poll() is None else None
        if victim is not None:
            victim.kill()
            mission.kills, killed = 1, True
        code = command.wait(LAST_LIMIT_S)
        output.seek(0)
        said = output.read().decode("utf-8", "replace")
    if code != 0 or "Traceback" in said:
        mission.violations.append(f"exit code {code}: {said[-1500:]}")
    heard = said.count(WORDS)
    # After the last call there is nobody left to notice.
    needed = killed and mission.record.stat().st_size > recorded
    if heard > 1 or (needed and not heard) or (heard and not killed):
        mission.violations.append(f"the fallback was said {heard} times")
    return killed


def left_over(mission: Mission, temporary: Path) -> Iterator[str]:
    """Yield what a mission left on the machine."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(mission.root):
                yield f"left running: {process}"
    yield from (f"left in the folder for temporary files: {path.name}" for path in temporary.iterdir())


def main() -> int:
    """Kill until enough is killed on each topology; return 1 if anything was ever violated."""
    asked = options("Kill the warm host in real missions.", 20, "coord")
    dice = random.Random(asked.seed)
    kills = bad = 0
    for topology in asked.topology:
        print(f"on {topology}", flush=True)
        with laboratory(asked.keep) as folder:
            for mission in rounds(folder, topology, asked, dice):
                kills += mission.kills
                bad += len(mission.violations)
    print(f"{kills} kills, {bad} violations")
    return 1 if bad or kills < asked.kills * len(asked.topology) else 0


def rounds(folder: Path, topology: str, asked: argparse.Namespace, dice: random.Random) -> Iterator[Mission]:
    """Yield each mission after its end, until enough is killed on one topology."""
    first = prepare(folder, topology, asked.host, asked.confine)
    temporary = folder / "tmp"
    temporary.mkdir()
    first.env["TMPDIR"] = str(temporary)
    kills = 0
    for number in range(1, MOST_RUNS * asked.kills + 1):
        mission = again(first, folder)
        moment, began = dice.uniform(0, LATEST_S), time.monotonic()
        try:
            kills += play(mission, moment)
            mission.check()
            mission.violations += left_over(mission, temporary)
        finally:
            anyio.run(stop_orphans, mission.logs)
        what = f"killed after {moment:4.1f} s" if mission.kills else "ended before its instant"
        took = f"{time.monotonic() - began:5.1f} s, {len(mission.violations)} violations"
        print(f"mission {number}: {what}; {took}", *mission.violations, sep="\n  ", flush=True)
        if mission.violations and asked.keep:
            shutil.move(first.root, folder / f"violated-{number}")
        yield mission
        if kills == asked.kills:
            return


if __name__ == "__main__":
    sys.exit(main())
