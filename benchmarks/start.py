"""What `--help` and `--version` take, beside a Python that does no more than import what parses them."""

import subprocess
import time
from pathlib import Path
from statistics import median

from lab import Setup
from rows import Bound, Row

ROUNDS = 15
WANTED = 1.5


def measure(setup: Setup) -> list[Row]:
    """Run each in turn, so that whatever else the machine does falls upon all."""
    python = str(Path(setup.ours).with_name("python"))
    commands = {
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
    (base, least), *ours = taken.items()
    return [
        Row(
            f"{name} / {base}",
            f"the middle of {len(seconds)}: {median(seconds) * 1e3:.0f} ms / {median(least) * 1e3:.0f} ms",
            median(one / other for one, other in zip(seconds, least, strict=True)),
            Bound(WANTED, "x"),
        )
        for name, seconds in ours
    ]
