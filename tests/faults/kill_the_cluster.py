"""Kills the command, a worker or the scheduler at random instants of real missions on a cluster.

`nox -s cluster-faults -- --kills 20` kills each of them so often. The command is resumed, a worker and the
scheduler are started again, and then it is as if nothing had been: each attempt has run once, its work is
here, and no process of it is left anywhere. The missions are those of `kill_the_command`, whose agents write
a line to a file outside of every worktree each time they run.
"""

# ruff: noqa: T201 - it prints a line per kill, and a table

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from tests.cluster.lab import Lab
from tests.faults.kill_the_command import (
    EARLIEST_S,
    LAST_LIMIT_S,
    LATEST_S,
    Mission,
    again,
    laboratory,
    options,
    play,
    prepare,
    table,
)

from spec_kitty_orchestrator.errors import PreflightError
from spec_kitty_orchestrator.machine.orphans import stop_orphans
from spec_kitty_orchestrator.machine.process import find_marked

VICTIMS = ("coordinator", "worker", "scheduler")
WORKERS = ("a", "b")


@dataclass
class Clustered(Mission):
    """A mission whose agents run on workers.

    Attributes:
        victim: one of `VICTIMS`.
        wanted: how often it is to be killed.
    """

    lab: Lab = field(kw_only=True)
    dice: random.Random = field(kw_only=True)
    victim: str = field(kw_only=True)
    wanted: int = field(kw_only=True)

    def start(self, limit_s: float) -> tuple[int | None, str]:
        """Run the command; what else is to be killed is killed meanwhile, again and again."""
        if self.victim == "coordinator":
            return super().start(limit_s)
        self.starts += 1
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                self.argv(),
                cwd=self.root,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            code = self._wait(process, limit_s)
            output.seek(0)
            said = output.read().decode("utf-8", "replace")
        if code == PreflightError.exit_code and "the cluster cannot be used" in said:
            # It began while the scheduler was away: whoever starts it tries again.
            return self.start(limit_s)
        return code, said

    def _wait(self, process: "subprocess.Popen[bytes]", limit_s: float) -> int:
        moment_s, until = limit_s, time.monotonic() + LAST_LIMIT_S
        while time.monotonic() < until:
            left = self.kills < self.wanted
            try:
                return process.wait(moment_s if left else LAST_LIMIT_S)
            except subprocess.TimeoutExpired:
                if not left:
                    break
            self._kill()
            moment_s = self.dice.uniform(EARLIEST_S, LATEST_S)
        process.kill()
        process.wait()
        self.violations.append("the run did not end")
        return 0

    def _kill(self) -> None:
        name = "scheduler" if self.victim == "scheduler" else self.dice.choice(WORKERS)
        running = sum(len(find_marked(one)) > 0 for one in self.attempts)
        self.lab.kill(name)
        # Some are away for a moment, some for longer.
        time.sleep(self.dice.choice((0.0, 1.0, 5.0)))
        begin(self.lab, name)
        self.kills += 1
        print(f"kill {self.kills}: {name}; attempts that ran: {running}", flush=True)

    @property
    def attempts(self) -> set[str]:
        """The attempts that have ever run."""
        return set(self.told.read_text(encoding="utf-8").split())

    def check(self) -> None:
        """Look at the workers, too."""
        super().check()
        for one in self.attempts:
            self.violations += [f"left running of {one}: {child.pid}" for child in find_marked(one)]
        for name in WORKERS:
            said = self.lab.said[name].decode("utf-8", "replace")
            if "Traceback" in said or "RuntimeWarning" in said:
                self.violations.append(f"worker {name} has shown: {said[-3000:]}")
        kept = self.lab.root.glob("*/state/**/attempts/*/attempt.json")
        self.violations += [f"a worker was not told to forget {one.parent.name}" for one in kept]


def begin(lab: Lab, name: str) -> None:
    """Start the scheduler or a worker."""
    if name == "scheduler":
        lab.scheduler()
    else:
        lab.worker(name, "scripted=2")


@contextmanager
def cluster(folder: Path) -> Iterator[Lab]:
    """Start a cluster and end it afterwards."""
    (folder / "cluster").mkdir()
    lab = Lab(folder / "cluster")
    try:
        for name in ("scheduler", *WORKERS):
            begin(lab, name)
        yield lab
    finally:
        lab.close()


def choose(parser: argparse.ArgumentParser) -> None:
    """Add what only this has."""
    parser.add_argument("--victim", nargs="+", choices=VICTIMS, default=list(VICTIMS))


def rounds(
    first: Mission, folder: Path, lab: Lab, victim: str, kills: int, dice: random.Random
) -> Iterator[Mission]:
    """Yield each mission after its end, until its victim was killed often enough."""
    left = kills
    while left > 0:
        own = again(first, folder)
        mission = Clustered(
            own.root, own.slug, own.told, own.env, lab=lab, dice=dice, victim=victim, wanted=left
        )
        try:
            play(mission, 1, left, dice)
            mission.check()
        finally:
            anyio.run(stop_orphans, mission.logs)
            for child in (child for one in mission.attempts for child in find_marked(one)):
                os.kill(child.pid, signal.SIGKILL)
        left -= mission.kills
        print(f"{victim}: {mission.kills} kills in a mission, {left} to come", flush=True)
        yield mission


def main() -> int:
    """Kill until enough is killed; return 1 if anything was ever violated."""
    asked = options("Kill what a mission on a cluster consists of.", 20, "lanes", choose)
    dice = random.Random(asked.seed)
    played: list[Mission] = []
    for topology in asked.topology:
        with laboratory(asked.keep) as folder:
            first = prepare(folder, topology, asked.host, asked.confine)
            with cluster(folder) as lab:
                first.env["SKO_EXECUTOR"] = lab.address.replace("tcp", "dask")
                for victim in asked.victim:
                    played += rounds(first, folder, lab, victim, asked.kills, dice)
    return table(played)


if __name__ == "__main__":
    sys.exit(main())
