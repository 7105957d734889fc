"""What `--help` and `--version` take, beside a Python that does no more than import what parses them.

And what the import of the package takes, beside a Python that does nothing.
"""

import subprocess
import time
from pathlib import Path
from statistics import median

from lab import Setup
from rows import Bound, Row

ROUNDS = 15
MOST = {"--help": 1.5, "--version": 1.5, "import": 3.0}


def measure(setup: Setup) -> list[Row]:
    """Run each in turn, so that whatever else the machine does falls upon all."""
    python = str(Path(setup.ours).with_name("python"))
    commands = {
        "pass": [python, "-c", "pass"],
        "import": [python, "-c", "import spec_kitty_orchestrator"],
        "import typer": [python, "-c", "import typer"],
        "--help": [setup.ours, "--help"],
        "--version": [setup.ours, "--version"],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(3 if setup.quick else ROUNDS):
        for name, command in commands.items():
            begun = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            taken[name].append(time.perf_counter() - begun)
    pairs = [("import", "pass"), ("--help", "import typer"), ("--version", "import typer")]
    return [
        Row(
            f"{name} / {base}",
            f"the middle of {len(taken[name])}: "
            f"{median(taken[name]) * 1e3:.0f} ms / {median(taken[base]) * 1e3:.0f} ms",
            median(one / other for one, other in zip(taken[name], taken[base], strict=True)),
            Bound(MOST[name], "x"),
        )
        for name, base in pairs
    ]
