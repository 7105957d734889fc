"""How soon a run on the real host, with agents at work, answers an order, from the command's start on.

`python benchmarks/orders.py [--orders 20]`; it makes a mission of its own and prints one line of JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from spec_kitty_orchestrator.testing.missions import demo, make_mission

COMMAND = str(Path(sys.executable).with_name("spec-kitty-orchestrator"))
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


def main() -> int:
    """Measure, print and clean up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=18, help="how many are given")
    parser.add_argument("--host", default=os.environ.get("SKO_TEST_HOST", "spec-kitty"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        env = {**os.environ, "SKO_TRUST_SETTINGS": "1", "SKO_CONFINE": "off"}
        env.pop("SKO_TEST_HOST", None)
        mission = make_mission(project, demo(), options.host, env)
        scenario = Path(folder) / "scenario.toml"
        scenario.write_text(SCENARIO)
        (project / ".kittify" / "orchestrator.toml").write_text(SETTINGS.format(scenario))
        agents = ("--impl-agent", "scripted", "--review-agent", "scripted", "--output", "jsonl")
        run = subprocess.Popen(
            [COMMAND, "orchestrate", "--mission", mission, *agents],
            cwd=project,
            env=env,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert run.stdout is not None
            while '"attempt_opened"' not in run.stdout.readline():
                pass
            took = sorted(_took_s(ORDERS[n % len(ORDERS)], project, env) for n in range(options.orders))
        finally:
            run.kill()
            subprocess.run([COMMAND, "abort", "--mission", mission], cwd=project, env=env, check=False)
    print(json.dumps({"orders": len(took), "median_s": round(median(took), 3), "most_s": round(took[-1], 3)}))
    return 0 if took[-1] < 1.0 else 1


def _took_s(words: tuple[str, ...], project: Path, env: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run([COMMAND, *words], cwd=project, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
