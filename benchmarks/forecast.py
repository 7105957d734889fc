"""Holds forecasts against what then happened.

    python benchmarks/forecast.py                    # one mission on the real host, run three times
    python benchmarks/forecast.py --virtual 200      # 200 missions on virtual time, each run twice; no host

On the real host, each run has scripted agents with sleeps, costs and verdicts of its own, drawn anew. From
the first run's journal `plan --simulate` foresees the others: the lines show whether they were within it. At
the end it shows what all runs foretell of more and fewer slots.

On virtual time the missions, their sizes, slots, and how durations are distributed are drawn; the first run
of each is all that its forecast knows. The line of each kind says how many second runs were within the range
of duration, of cost, and of both, and how wide the ranges were: their upper end over the lower one.
"""

import argparse
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from spec_kitty_orchestrator.core.chance import Chance, History
from spec_kitty_orchestrator.core.forecast import Forecast, foreseen, simulations
from spec_kitty_orchestrator.core.model import Lane, MissionState, Role, Usage
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.run import RunState, begin
from spec_kitty_orchestrator.core.run_events import RunStarted
from spec_kitty_orchestrator.core.samples import End, Sample, Samples
from spec_kitty_orchestrator.core.simulate import Known, Simulated, simulate
from spec_kitty_orchestrator.testing.missions import diamond, make_mission, restore_mission, snapshot_mission

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DURATIONS: dict[str, Callable[[random.Random], float]] = {
    "uniform": lambda dice: dice.uniform(20, 200),
    "lognormal": lambda dice: dice.lognormvariate(4, 0.8),
    "exponential": lambda dice: 1 + dice.expovariate(0.01),
    "two kinds": lambda dice: dice.choice([20, 20, 20, 300]),
    "constant": lambda _: 60.0,
}


class Truth(Chance):
    """What really happens in a run on virtual time, and the record of it."""

    def __init__(
        self, dice: random.Random, duration: Callable[[random.Random], float], rejected: float
    ) -> None:
        super().__init__(History(Samples()), dice)
        self.dice, self.duration, self.rejected = dice, duration, rejected
        self.seen: dict[tuple[Role, str], list[Sample]] = {}

    def attempt(self, role: Role, agent: str, beyond_s: float = 0.0) -> Sample:
        """Draw an attempt, and keep it."""
        again = role is Role.REVIEW and self.dice.random() < self.rejected
        seconds = max(beyond_s, self.duration(self.dice) * (1.0 if role is Role.IMPLEMENT else 0.4))
        usage = Usage(1000, 100, self.dice.uniform(0.05, 0.5))
        made = Sample(seconds, usage, End.AGAIN if again else End.GOOD)
        self.seen.setdefault((role, agent), []).append(made)
        return made


def virtual(number: int) -> None:
    """Foresee so many second runs from first ones."""
    told: dict[str, Counter[str]] = defaultdict(Counter)
    for seed in range(number):
        dice = random.Random(seed)
        size, slots = dice.choice([1, 2, 3, 4, 6, 8]), dice.choice([1, 2, 4])
        rejected, kind = dice.choice([0.0, 0.1, 0.3]), dice.choice(list(DURATIONS))
        needs = {wp: tuple(one for one in wps(wp - 1) if dice.random() < 0.35) for wp in range(1, size + 1)}
        state = beginning({name(wp): tuple(map(name, needed)) for wp, needed in needs.items()}, slots)
        runs = [
            once(state, Truth(random.Random(1000 * seed + turn), DURATIONS[kind], rejected))
            for turn in (1, 2)
        ]
        samples = Samples({key: tuple(made) for key, made in runs[0][1].seen.items()})
        found = list(simulations(state, NOON, samples, random.Random(0), most_work=150))
        ahead = foreseen(found, samples, slots)
        assert ahead is not None
        kinds = ("all", f"{size} WPs", kind, f"{rejected:.0%} rejected")
        for one in kinds:
            note(told[one], ahead, runs[1][0])
    for kind, counts in sorted(told.items()):
        of = counts["runs"]
        within = "  ".join(f"{what} {counts[what] / of:4.0%}" for what in ("duration", "cost", "both"))
        print(f"{kind:14} {of:4.0f} runs  within: {within}  width: {math.exp(counts['width'] / of):.1f}")


def wps(last: int) -> range:
    return range(max(1, last - 3), last + 1)


def name(number: int) -> str:
    return f"WP{number:02d}"


def beginning(dependencies: dict[str, tuple[str, ...]], slots: int) -> RunState:
    policy = Policy(("ada",), ("rob",), max_concurrent=slots)
    mission = MissionState("m", dict.fromkeys(dependencies, Lane.PLANNED), dependencies)
    return begin(RunState(policy), RunStarted(NOON, mission, "me", policy, "0"))


def once(state: RunState, truth: Truth) -> tuple[Simulated, Truth]:
    return simulate(state, NOON, Known(), truth), truth


def note(counts: Counter[str], ahead: Forecast, came: Simulated) -> None:
    assert ahead.cost_usd is not None
    assert came.cost_usd is not None
    on_time, on_budget = came.seconds in ahead.seconds, came.cost_usd in ahead.cost_usd
    counts.update(runs=1, duration=on_time, cost=on_budget, both=on_time and on_budget)
    counts["width"] += math.log(ahead.seconds.high / ahead.seconds.low)  # type: ignore[assignment]


def real(options: argparse.Namespace) -> None:
    """Run one mission again and again, and foresee all but the first run."""
    folder = Path(tempfile.mkdtemp(prefix="spec-kitty-forecast-"))
    project, kept = folder / "project", folder / "kept"
    journals: list[Path] = []
    env = {
        **os.environ,
        "HOME": str(folder),
        "SPEC_KITTY_HOME": str(folder / ".kittify"),
        "SPEC_KITTY_NO_UPGRADE_CHECK": "1",
        "SPEC_KITTY_ENABLE_SAAS_SYNC": "0",
        "SKO_TRUST_SETTINGS": "1",
        "PATH": os.pathsep.join([str(Path(options.host).parent), os.environ["PATH"]]),
    }
    env.pop("SKO_TEST_HOST", None)
    ours = str(Path(sys.executable).with_name("spec-kitty-orchestrator"))
    dice = random.Random(options.seed)
    try:
        slug = make_mission(project, diamond(options.wps), options.host, env)
        snapshot_mission(project, kept)
        for turn in range(options.runs):
            restore_mission(kept, project)
            configure(project, dice, options.wps)
            mission = ("--mission", slug, "--impl-agent", "scripted", "--review-agent", "scripted")
            records = project / ".kittify" / "orchestrator" / slug
            records.mkdir(parents=True)
            if journals:
                shutil.copy(journals[0], records / "journal-first.jsonl")
                words = ("--simulate", "--json", "--max-concurrent", str(options.slots))
                (row,) = json.loads(call([ours, "plan", *mission, *words], project, env))["settings"]
            call([ours, "orchestrate", *mission, "--max-concurrent", str(options.slots)], project, env)
            journals.append(Path(shutil.copy(records / "journal.jsonl", folder / f"run-{turn}.jsonl")))
            seconds, cost = came_to(journals[-1])
            told = f"run {turn + 1}: {seconds:.0f} s, ${cost:.2f}"
            if turn:
                (low, high), (least, most) = row["duration_s"], row["cost_usd"]
                within = low <= seconds <= high and least <= cost <= most
                told += f"; foreseen: {low:.0f} to {high:.0f} s, ${least:.2f} to ${most:.2f}"
                told += f": {'within' if within else 'NOT WITHIN'}"
            print(told, flush=True)
        restore_mission(kept, project)
        configure(project, dice, options.wps)
        records.mkdir(parents=True)
        for turn, journal in enumerate(journals):
            shutil.copy(journal, records / f"journal-{turn}.jsonl")
        print(call([ours, "plan", *mission, "--simulate", "--max-concurrent", "1..4"], project, env))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def configure(project: Path, dice: random.Random, size: int) -> None:
    """Draw what the agents of one run do, and commit it."""
    lines = []
    for number in range(1, size + 1):
        rejected = dice.random() < 0.25
        for role in ("implement", "review"):
            for turn in (1, 2):
                sleep = dice.uniform(2, 12) if role == "implement" else dice.uniform(1, 6)
                cost = (
                    f"{{ input_tokens = 1000, output_tokens = 50, cost_usd = {dice.uniform(0.02, 0.2):.3f} }}"
                )
                lines += [f"[[{name(number)}.{role}]]", f"sleep = {sleep:.1f}", f"usage = {cost}"]
                if role == "review" and turn == 1 and rejected:
                    lines += ['verdict = "changes_requested"', 'summary = "Say which version it is."']
    folder = project / ".kittify"
    (folder / "scenario.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "orchestrator.toml").write_text(
        '[agents.scripted]\nscenario = ".kittify/scenario.toml"\n', encoding="utf-8"
    )
    files = (".kittify/scenario.toml", ".kittify/orchestrator.toml")
    for words in (("add", "--force", "--", *files), ("commit", "-q", "-m", "chore: rehearse")):
        subprocess.run(["git", *words], cwd=project, check=True)


def call(command: list[str], cwd: Path, env: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, text=True, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def came_to(journal: Path) -> tuple[float, float]:
    """Return how long the only run of a journal took, in seconds, and what its agents cost."""
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    times = [datetime.fromisoformat(line["at"]) for line in lines]
    reports = [
        line["event"]["report"] for line in lines if line.get("event", {}).get("kind") == "agent_exited"
    ]
    return (times[-1] - times[0]).total_seconds(), sum(one["usage"]["cost_usd"] or 0.0 for one in reports)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--virtual", type=int, metavar="N", help="so many missions on virtual time")
    parser.add_argument("--runs", type=int, default=3, help="on the real host, the first included")
    parser.add_argument("--wps", type=int, default=5)
    parser.add_argument("--slots", type=int, default=2, choices=range(1, 9))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--host", default=shutil.which("spec-kitty"), help="the host's command")
    options = parser.parse_args()
    if options.virtual:
        virtual(options.virtual)
    elif options.host:
        real(options)
    else:
        parser.error("no spec-kitty on PATH; name it with --host")


if __name__ == "__main__":
    main()
