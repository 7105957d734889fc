"""Carries the workspace of a large repository to a machine that never saw it, and back, again and again.

    python benchmarks/travel.py                  # 18,000 files, 200 MB, 300 commits
    python benchmarks/travel.py --files 2000     # shows that it works

Wanted: the first attempt costs at most 3 times a local `git clone` of the repository, each next one at most
1 s. Both sides are here, so what a network takes comes on top. Beside the wall time stands the time of the
processors, which a machine that does other work as well changes less.
"""

import argparse
import random
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import anyio
from rows import Bound, Row

from spec_kitty_orchestrator.cluster.checkouts import Checkouts
from spec_kitty_orchestrator.cluster.shipping import Shipping

NEXT = 5
"""Attempts after the first one, of which the middle one counts."""


def git(path: Path, *args: str) -> None:
    """Run git as a person."""
    who = ("-c", "user.name=bench", "-c", "user.email=bench@example.org")
    subprocess.run(["git", *who, *args], cwd=path, check=True, stdout=subprocess.DEVNULL)


def make(root: Path, files: int, commits: int) -> None:
    """Make a repository whose files are text of some kilobytes each."""
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz_", k=6)) for _ in range(6000)]

    def text(size: float) -> bytes:
        lines = (" ".join(chance.choices(words, k=8)) for _ in range(max(1, int(size / 56))))
        return "\n".join(lines).encode() + b"\n"

    tree = {
        f"d{n % 40}/s{n % 700}/f{n}.py": text(min(2e5, chance.lognormvariate(8.6, 1.2))) for n in range(files)
    }
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=main")
    with subprocess.Popen(["git", "fast-import", "--quiet"], cwd=root, stdin=subprocess.PIPE) as importing:
        assert importing.stdin is not None
        for number in range(commits):
            changed = chance.sample(sorted(tree), 12) if number else list(tree)
            who = f"b <b@example.org> {1700000000 + number} +0000"
            head = f"commit refs/heads/main\ncommitter {who}\ndata 2\nc\n\n"
            importing.stdin.write(head.encode())
            for path in changed:
                tree[path] += text(60) if number else b""
                importing.stdin.write(f"M 100644 inline {path}\ndata {len(tree[path])}\n".encode())
                importing.stdin.write(tree[path] + b"\n")
    git(root, "reset", "--quiet", "--hard")
    git(root, "repack", "-a", "-d", "--quiet")


def processors_s() -> float:
    """Return what this process and its children have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@dataclass
class Watch:
    """What passes while it is entered: seconds of wall time, and of processors."""

    wall_s: float = 0.0
    busy_s: float = 0.0
    begun: tuple[float, float] = field(default=(0.0, 0.0))

    def __enter__(self) -> Self:
        self.begun = time.perf_counter(), processors_s()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s = time.perf_counter() - self.begun[0]
        self.busy_s = processors_s() - self.begun[1]


@dataclass
class Trips:
    """Attempts of one project on one machine."""

    shipping: Shipping
    machine: Checkouts
    folder: Path
    number: int = 0

    async def attempt(self, lane: Path) -> Watch:
        """Carry a workspace there and back; the agent in between writes one file in no time."""
        self.number += 1
        name, out, back = f"a{self.number}", self.folder / "out", self.folder / "back"
        with Watch() as watch:
            shipment = await self.shipping.snapshot(lane)
            have = await self.machine.have(shipment.project)
            sent = await self.shipping.bundle(name, shipment, have, out)
            arrived = Path(shutil.copyfile(out, self.folder / "arrived")) if sent else None
            there = await self.machine.check_out(name, shipment, arrived)
            (there / "d1" / f"new-{self.number}.py").write_text("x = 1\n")
            packed = await self.machine.pack(name, shipment, back)
            applied = await self.shipping.apply(name, lane, shipment, packed.back, back)
            await self.machine.drop(name, shipment.project)
            await self.shipping.forget(name)
        if applied.kept or not (lane / "d1" / f"new-{self.number}.py").exists():
            raise SystemExit(f"the work did not come back: {applied.why}")
        await self.machine.prepare(shipment)
        return watch


async def measured(root: Path, folder: Path) -> list[Row]:
    """Return the lines of the table."""
    with Watch() as clone:
        git(folder, "clone", "--quiet", str(root), "clone")
    shutil.rmtree(folder / "clone")
    trips = Trips(Shipping(root, "bench"), Checkouts(folder / "machine"), folder)

    def lane(name: str) -> Path:
        git(root, "worktree", "add", "--quiet", "-b", name, str(folder / name))
        return folder / name

    one = lane("one")
    first = await trips.attempt(one)
    following = []
    for _ in range(NEXT):
        git(one, "add", "--all")
        git(one, "commit", "--quiet", "-m", "work")
        following.append(await trips.attempt(one))
    others = [await trips.attempt(lane(f"other-{number}")) for number in range(3)]
    rows = []
    for unit, wall in (("wall", True), ("processors", False)):
        seconds = [one.wall_s if wall else one.busy_s for one in (clone, first)]
        told = f"{seconds[1]:.1f} s, the clone {seconds[0]:.1f} s, {unit}"
        rows.append(Row("first attempt on a new machine", told, seconds[1] / seconds[0], Bound(3, "x")))
        for what, some in (
            ("next attempt of a workspace", following),
            ("first of another workspace", others),
        ):
            each = sorted(one.wall_s if wall else one.busy_s for one in some)
            told = f"{each[0]:.2f} to {each[-1]:.2f} s, {unit}"
            rows.append(Row(what, told, statistics.median(each), Bound(1, "s")))
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=18_000)
    parser.add_argument("--commits", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        make(Path(name, "repository"), options.files, options.commits)
        for row in anyio.run(measured, Path(name, "repository"), Path(name)):
            print("  ".join(cell for cell in row.cells if cell))


if __name__ == "__main__":
    main()
