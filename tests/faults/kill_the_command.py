"""Kills the installed command at random instants of real missions, resumes it, and looks for what was lost.

`nox -s faults -- --kills 50` runs it; with `--cancel` a program's task that runs the mission is canceled
instead, and the command goes on at last. Each mission is a diamond of four work packages on the real host, in
which one review requests changes. Agents write a line to a file outside of every worktree each time they
run, so a run that was paid for twice shows.
"""

# ruff: noqa: T201 - it prints a line per kill, and a table

import argparse
import json
import os
import random
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
from tests.faults import cancel_a_run

from spec_kitty_orchestrator.machine.orphans import find_orphans, stop_orphans
from spec_kitty_orchestrator.machine.process import MARKER
from spec_kitty_orchestrator.testing.missions import (
    TOPOLOGIES,
    diamond,
    make_mission,
    restore_mission,
    snapshot_mission,
)

COMMAND = Path(sys.executable).with_name("spec-kitty-orchestrator")
AGENTS = ("--impl-agent", "scripted", "--review-agent", "scripted", "--max-concurrent", "3")
COUNT = 4
REJECTED = "WP02"
EARLIEST_S, LATEST_S = 1.0, 25.0
"""Between these, after its start, a run of the command is killed."""
LAST_LIMIT_S = 900.0
"""Longest wait for a run that nothing cuts off, in seconds."""
CANCEL_LIMIT_S = 60.0
"""Longest time from the cancelation of a run to the end of its program; to be killed is a violation."""
MOST_STARTS = 400
"""Starts of one mission after which it is given up."""

TELL = (
    "import os, sys; f = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600); "
    f"os.write(f, (os.environ['{MARKER}'] + '\\n').encode())"
)


@dataclass
class Mission:
    """One mission, from its restored repository to its end.

    Attributes:
        told: where agents write their attempt ids.
        kills: how often its command was killed.
        violations: what must never be.
    """

    root: Path
    slug: str
    told: Path
    env: dict[str, str]
    cancel: bool = False
    kills: int = 0
    starts: int = 0
    lost: int = 0
    agent_runs: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def logs(self) -> Path:
        """The mission's folder of attempts."""
        return self.root / ".kittify" / "logs" / self.slug

    @property
    def checkout(self) -> Path:
        """The checkout in which the host keeps the mission's status."""
        coordination = self.root / ".worktrees" / f"{self.slug}-coord"
        return coordination if coordination.is_dir() else self.root

    @property
    def record(self) -> Path:
        """The host's own record of every transition."""
        return self.checkout / "kitty-specs" / self.slug / "status.events.jsonl"

    @property
    def journal(self) -> Path:
        """The record of its runs."""
        return self.root / ".kittify" / "orchestrator" / self.slug / "journal.jsonl"

    def argv(self) -> list[str]:
        """Return the command of the next start: `resume` as soon as there is something to resume."""
        known = self.journal.exists() and self.journal.read_bytes().count(b"\n") > 0
        if known:
            return [str(COMMAND), "resume", "--mission", self.slug]
        return [str(COMMAND), "orchestrate", "--mission", self.slug, *AGENTS]

    def start(self, limit_s: float) -> tuple[int | None, str]:
        """Run the command for at most `limit_s` seconds; None for its exit code if it was killed then."""
        self.starts += 1
        argv = self.argv()
        if self.cancel and limit_s < LAST_LIMIT_S:
            argv = [sys.executable, cancel_a_run.__file__, self.slug, str(self.root), str(limit_s)]
            limit_s += CANCEL_LIMIT_S
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                argv,
                cwd=self.root,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            try:
                code: int | None = process.wait(limit_s)
                code = None if code == cancel_a_run.CANCELED else code
            except subprocess.TimeoutExpired:
                if self.cancel:
                    self.violations.append("a canceled run did not end")
                process.send_signal(signal.SIGKILL)
                process.wait()
                code = None
            output.seek(0)
            return code, output.read().decode("utf-8", "replace")

    def check(self) -> None:
        """Look at what the host, git, the journal and the process table say, and keep each violation."""
        if not self.journal.exists():
            self.violations.append("no start came as far as its journal")
            return
        self.violations += [f"left running: {one.child.pid}" for one in find_orphans(self.logs)]
        self.violations += list(self._uncommitted())
        journal = lines_of(self.journal)
        moves = [one for one in lines_of(self.record) if one.get("wp_id") and one.get("to_lane")]
        told = Counter(self.told.read_text(encoding="utf-8").split())
        self.agent_runs = sum(told.values())
        self.violations += [f"attempt {one} ran {count} times" for one, count in told.items() if count > 1]
        for wp in (f"WP{number:02d}" for number in range(1, COUNT + 1)):
            own = [one for one in moves if one["wp_id"] == wp]
            returns = Counter((one["from_lane"], one["to_lane"]) for one in own)["in_review", "in_progress"]
            self.violations += [f"{wp}: {problem}" for problem in transitions(own, returns)]
            entries = [one["event"] for one in journal if one.get("wp_id") == wp]
            self.violations += [f"{wp}: {problem}" for problem in self._runs(entries, told, returns)]

    def _runs(self, entries: Sequence[dict[str, Any]], told: Counter[str], returns: int) -> Iterator[str]:
        opened = {
            one["attempt"]["id"]: one["attempt"]["role"] for one in entries if one["kind"] == "attempt_opened"
        }
        ended = [one for one in entries if one["kind"] == "agent_exited"]
        outcomes = {one["attempt_id"]: one["report"]["outcome"] for one in ended}
        if len(outcomes) != len(ended) or set(outcomes) != set(opened):
            yield f"attempts opened {sorted(opened)}, ended {[one['attempt_id'] for one in ended]}"
        for role in ("implement", "review"):
            good = [one for one in opened if opened[one] == role and outcomes.get(one) == "ok"]
            other = [outcomes.get(one) for one in opened if opened[one] == role and one not in good]
            self.lost += other.count("lost")
            if len(good) != 1 + returns:
                yield f"{len(good)} good {role} runs for {returns} rejections"
            if set(other) - {"lost"}:
                yield f"{role} runs that ended otherwise: {other}"
            yield from (f"attempt {one} is called good but did not run" for one in good if not told[one])

    def _uncommitted(self) -> Iterator[str]:
        status = git(self.checkout, "status", "--porcelain", "--", f"kitty-specs/{self.slug}")
        yield from (f"not committed in {self.checkout.name}: {line}" for line in status.splitlines())


def transitions(moves: Sequence[dict[str, Any]], returns: int) -> Iterator[str]:
    """Yield what is wrong with one work package's record on the host."""
    lane = moves[0]["from_lane"] if moves else "nowhere"
    for one in moves:
        if one["from_lane"] != lane:
            yield f"{one['from_lane']} -> {one['to_lane']} recorded in {lane}"
        lane = one["to_lane"]
    if lane != "done":
        yield f"ended in {lane}"
    repeated = {("in_progress", "for_review"), ("for_review", "in_review")}
    pairs = Counter((one["from_lane"], one["to_lane"]) for one in moves)
    pairs.pop(("in_review", "in_progress"), None)
    for pair, count in pairs.items():
        wanted = 1 + returns if pair in repeated else 1
        if count != wanted:
            yield f"{' -> '.join(pair)} recorded {count} times, not {wanted}"
    yield from (f"forced: {one['to_lane']}" for one in moves if one.get("force"))


def lines_of(file: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]


def git(where: Path, *args: str) -> str:
    """Run git and return what it says."""
    return subprocess.run(["git", *args], cwd=where, capture_output=True, text=True, check=True).stdout


def environment(home: Path) -> dict[str, str]:
    """Return a quiet environment with homes of its own; a host new to a home writes a lot below it."""
    kept = {one: value for one, value in os.environ.items() if not one.startswith(("GIT_", "SKO_"))}
    kept["SKO_TRUST_SETTINGS"] = "1"
    home.mkdir()
    return {
        **kept,
        "HOME": str(home),
        "PYTHONUSERBASE": site.getuserbase(),
        "SPEC_KITTY_HOME": str(home / ".kittify"),
        "SPEC_KITTY_ENABLE_SAAS_SYNC": "0",
        "SPEC_KITTY_NO_UPGRADE_CHECK": "1",
        "COLUMNS": "200",
    }


def scenario(told: Path) -> str:
    """Write what the agents do: say that they run, work for two seconds; one review asks for changes."""
    run = json.dumps([sys.executable, "-I", "-S", "-c", TELL, str(told)])
    parts = [f"[defaults.{role}]\nrun = {run}\nsleep = 2.0\n" for role in ("implement", "review")]
    for number in range(1, COUNT + 1):
        path = f"src/mod{number:02d}/m{number:02d}.py"
        edit = f'{{ path = "{path}", content = "# more\\n", append = true }}'
        parts.append(f"[WP{number:02d}.implement]\nedits = [{edit}]\n")
    asks = 'verdict = "changes_requested"\nsummary = "Once more."'
    parts.append(f'[[{REJECTED}.review]]\n{asks}\n\n[[{REJECTED}.review]]\nverdict = "approved"\n')
    return "\n".join(parts)


def prepare(folder: Path, topology: str, host: str, confine: str) -> Mission:
    """Make the mission that every round starts from, and put a snapshot of it at `folder`/snapshot."""
    env = environment(folder / "home")
    env["PATH"] = os.pathsep.join((str(Path(host).parent), env.get("PATH", os.defpath)))
    env["SKO_CONFINE"] = confine
    made, told = folder / "made", folder / "told"
    slug = make_mission(made, replace(diamond(COUNT), topology=topology), host, env)
    (folder / "scenario.toml").write_text(scenario(told), encoding="utf-8")
    settings = f"[agents.scripted]\nscenario = {json.dumps(str(folder / 'scenario.toml'))}\n"
    settings += f"[confine]\nwritable = [{json.dumps(str(told))}]\n"
    (made / ".kittify" / "orchestrator.toml").write_text(settings, encoding="utf-8")
    snapshot_mission(made, folder / "snapshot")
    return Mission(folder / "project", slug, told, env)


def play(mission: Mission, number: int, kills: int, dice: random.Random) -> None:
    """Run one mission to its end, and kill its command until `kills` kills are done."""
    for _ in range(MOST_STARTS):
        moment = dice.uniform(EARLIEST_S, LATEST_S)
        last = mission.kills >= kills
        began = time.monotonic()
        code, said = mission.start(LAST_LIMIT_S if last else moment)
        if code is None and not last:
            mission.kills += 1
            alive = len(find_orphans(mission.logs))
            lanes = Counter(wp_lanes(mission).values())
            found = ", ".join(f"{count} {lane}" for lane, count in lanes.items()) or "nothing"
            print(
                f"mission {number}, kill {mission.kills}: {time.monotonic() - began:5.1f} s after "
                f"start {mission.starts}; agents left: {alive}; on the host: {found}",
                flush=True,
            )
            continue
        if "Traceback" in said:
            shown = said[max(0, said.index("Traceback") - 500) :][:3000]
            mission.violations.append(f"a traceback was shown: {shown}")
        if code == 0:
            return
        mission.violations.append(f"start {mission.starts} ended with exit code {code}: {said[-1500:]}")
        return
    mission.violations.append(f"not at its end after {MOST_STARTS} starts")


def wp_lanes(mission: Mission) -> dict[str, str]:
    """Return the lanes that the host's record tells at this instant, without a line that is being written."""
    found: dict[str, str] = {}
    for line in mission.record.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):
            one = json.loads(line)
            if one.get("wp_id") and one.get("to_lane"):
                found[one["wp_id"]] = one["to_lane"]
    return found


def options(
    words: str,
    kills: int,
    topology: str,
    add: Callable[[argparse.ArgumentParser], None] = lambda _: None,
) -> argparse.Namespace:
    """Read the command line; `add` adds options to it."""
    parser = argparse.ArgumentParser(description=words)
    parser.add_argument("--kills", type=int, default=kills, help="on each topology")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--topology", nargs="+", choices=TOPOLOGIES, default=[topology])
    parser.add_argument("--confine", choices=("require", "auto", "off"), default="auto")
    parser.add_argument("--cancel", action="store_true", help="cancel a program's task instead")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a mission that was violated")
    add(parser)
    asked = parser.parse_args()
    host = shutil.which(os.environ.get("SKO_TEST_HOST", "spec-kitty"))
    if host is None:
        parser.error("no host: put spec-kitty on PATH or name it in SKO_TEST_HOST")
    asked.host = str(Path(host).absolute())
    return asked


@contextmanager
def laboratory(keep: bool) -> Iterator[Path]:
    """Make a folder and remove it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="sko-faults-"))
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Kill until enough is killed on each topology; return 1 if anything was ever violated."""
    asked = options("Kill the command in real missions, and resume it.", 50, "lanes")
    dice = random.Random(asked.seed)
    played: list[Mission] = []
    for topology in asked.topology:
        print(f"on {topology}", flush=True)
        with laboratory(asked.keep) as folder:
            played += rounds(folder, topology, asked, dice)
    return table(played)


def rounds(folder: Path, topology: str, asked: argparse.Namespace, dice: random.Random) -> list[Mission]:
    """Kill until enough is killed on one topology; return the missions."""
    first = prepare(folder, topology, asked.host, asked.confine)
    first.cancel = asked.cancel
    played: list[Mission] = []
    while (left := asked.kills - sum(one.kills for one in played)) > 0:
        mission = again(first, folder)
        played.append(mission)
        try:
            play(mission, len(played), left, dice)
            mission.check()
        finally:
            anyio.run(stop_orphans, mission.logs)
        if mission.violations and asked.keep:
            shutil.move(first.root, folder / f"violated-{len(played)}")
    return played


def again(first: Mission, folder: Path) -> Mission:
    """Bring the mission back to how it was prepared."""
    restore_mission(folder / "snapshot", first.root)
    first.told.write_text("", encoding="utf-8")
    return Mission(first.root, first.slug, first.told, first.env, first.cancel)


def table(played: Sequence[Mission]) -> int:
    """Print one line per mission and each violation; return the exit code."""
    print("\nmission  starts  kills  agent runs  lost  violations")
    for number, one in enumerate(played, 1):
        counts = f"{one.starts:6}  {one.kills:5}  {one.agent_runs:10}  {one.lost:4}  {len(one.violations)}"
        print(f"{number:7}  {counts}")
    for number, one in enumerate(played, 1):
        for violation in one.violations:
            print(f"mission {number}: {violation}")
    kills, bad = sum(one.kills for one in played), sum(len(one.violations) for one in played)
    print(f"{kills} kills, {bad} violations")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
