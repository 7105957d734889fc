"""How soon a run on the real host, with an agent at work, answers an order, from the command's start on."""

import os
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

from lab import Setup
from rows import Bound, Row

from spec_kitty_orchestrator.testing.missions import demo, make_mission

SCENARIO = "[defaults.implement]\nsleep = 600.0\n"
SETTINGS = '[agents.scripted]\nscenario = "{}"\n'
ORDERS = (
    ("pause",),
    ("tell", "WP01", "use tabs"),
    ("set", "max_cost=40"),
    ("continue",),
    ("pause", "--agent", "scripted"),
    ("continue", "--agent", "scripted"),
)
ROUNDS = 3
WANTED_S = 1.0


def measure(setup: Setup) -> list[Row]:
    """Give each order some times to a run whose agent works on."""
    with tempfile.TemporaryDirectory(prefix="orders-") as folder:
        project = Path(folder) / "project"
        env = {**os.environ, "SKO_TRUST_SETTINGS": "1", "SKO_CONFINE": "off"}
        mission = make_mission(project, demo(), setup.host, env)
        scenario = Path(folder) / "scenario.toml"
        scenario.write_text(SCENARIO)
        (project / ".kittify" / "orchestrator.toml").write_text(SETTINGS.format(scenario))
        agents = ("--impl-agent", "scripted", "--review-agent", "scripted", "--output", "jsonl")
        command = [setup.ours, "orchestrate", "--mission", mission, *agents]
        with subprocess.Popen(command, cwd=project, env=env, stdout=subprocess.PIPE, text=True) as run:
            try:
                assert run.stdout is not None
                while '"attempt_opened"' not in run.stdout.readline():
                    pass
                rounds = 1 if setup.quick else ROUNDS
                took = [_took_s([setup.ours, *one], project, env) for one in ORDERS * rounds]
            finally:
                run.kill()
                subprocess.run([setup.ours, "abort", "--mission", mission], cwd=project, env=env, check=False)
    measured = f"{len(took)} orders, the middle one {median(took):.2f} s"
    return [Row("an order, answered by a run at work", measured, max(took), Bound(WANTED_S, "s"))]


def _took_s(words: list[str], project: Path, env: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(words, cwd=project, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
