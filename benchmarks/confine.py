"""What confinement costs an attempt: one of a program that does nothing, confined and not, by turns.

`python benchmarks/confine.py [--runs 20]` prints the median wall time of both, in ms, and how they differ.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

import anyio

from spec_kitty_orchestrator.agents import BUILT_IN
from spec_kitty_orchestrator.agents.declared import Declared
from spec_kitty_orchestrator.agents.spec import AgentSettings
from spec_kitty_orchestrator.core.model import Role, Workspace
from spec_kitty_orchestrator.machine.runner import LocalAgents
from spec_kitty_orchestrator.machine.sandbox import Sandbox, find
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.settings.declaration import Declaration

AGENT = "idle"


async def attempt_ms(root: Path, tree: Path, number: int, sandbox: Sandbox | None) -> float:
    """Run one attempt from the start of its process to its report, in milliseconds."""
    idle = Declared(Declaration(AGENT, AGENT, ("/bin/true",)))
    runner = LocalAgents(
        root,
        {AGENT: (idle, AgentSettings())},
        timeouts=dict.fromkeys(Role, 60.0),
        version="0",
        sandbox=sandbox,
    )
    workspace = Workspace(str(tree), str(tree / "task.md"))
    asked = AttemptRequest(
        uuid4().hex, "bench", "WP01", number, Role.IMPLEMENT, AGENT, workspace, "x", "", ""
    )
    attempt = await runner.open(asked)
    begun = time.perf_counter()
    await runner.run(attempt)
    return (time.perf_counter() - begun) * 1000


async def measured(runs: int) -> Iterable[tuple[float, float]]:
    """Return the pairs: without and with the sandbox."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "repo")
        tree = root / "tree"
        tree.mkdir(parents=True)
        states = {name: agent.state for name, agent in BUILT_IN.items()}
        sandbox = Sandbox(find(), root, root / ".sandbox", states=states)
        if sandbox.failure:
            raise SystemExit(sandbox.failure)
        pairs = []
        for number in range(runs + 1):
            plain = await attempt_ms(root, tree, 2 * number + 1, None)
            pairs.append((plain, await attempt_ms(root, tree, 2 * number + 2, sandbox)))
        # The first of each reads files for the first time.
        return pairs[1:]


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    pairs = list(anyio.run(measured, parser.parse_args().runs))
    plain, confined = (statistics.median(column) for column in zip(*pairs, strict=True))
    more = statistics.median(one - other for other, one in pairs)
    print(f"{len(pairs)} pairs, median: not confined {plain:.0f} ms, confined {confined:.0f} ms")
    print(f"confinement adds {more:.0f} ms ({confined / plain:.2f} times)")


if __name__ == "__main__":
    main()
