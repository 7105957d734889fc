"""What 6,000 events cost: to keep them in the journal, to print them as JSON lines, to read them back."""

import io
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import anyio

from spec_kitty_orchestrator.core import events
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Evidence, Lane, Outcome, Role, Workspace
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import Entry
from spec_kitty_orchestrator.machine.journal import JsonlJournal
from spec_kitty_orchestrator.machine.redaction import ours
from spec_kitty_orchestrator.views.console import SteadyConsole
from spec_kitty_orchestrator.views.json_lines import JsonLines

COUNT = 6_000
ROOT = Path("/repository")
WORDS = "The module says its version, and a test of it passes. " * 20


def lines() -> list[Entry]:
    """Make lines as those of a work package, over and over."""
    place = Workspace(f"{ROOT}/.worktrees/x-lane-a", f"{ROOT}/kitty-specs/x/tasks/WP01.md", "lane-a", "b")
    attempt = Attempt("0123456789abcdef", 1, Role.IMPLEMENT, "codex", f"{ROOT}/.kittify/logs/x/WP01/01")
    story = (
        events.Scheduled(Lane.PLANNED, place),
        events.Claimed(place, "a" * 40),
        events.AttemptOpened(attempt),
        events.AgentExited(attempt.id, AgentReport(Outcome.OK, WORDS)),
        events.Committed(Evidence("a" * 40, "b" * 40, " one.py | 20 +++\n" * 10)),
        events.Submitted(),
    )
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return [Entry(at, f"WP{number % 90:02}", story[number % len(story)], 0.5) for number in range(COUNT)]


@contextmanager
def measured(what: str) -> Iterator[None]:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    yield
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    print(f"{what:<34} {cpu_s:6.2f} s CPU {wall_s:6.2f} s wall {cpu_s / COUNT * 1e6:6.0f} us CPU each")


def main() -> None:
    redactor, story = ours(), lines()
    output = io.StringIO()
    view = JsonLines(output, SteadyConsole(redactor=redactor), str(ROOT), redactor)
    with tempfile.TemporaryDirectory() as folder:
        journal = JsonlJournal(Path(folder, "x"), ROOT, clean=redactor.text)

        async def append() -> list[Entry]:
            return [await journal.append(line) for line in story]

        with measured("kept in the journal (with fsync)"):
            numbered = anyio.run(append)
        with measured("printed as JSON lines"):
            for line in numbered:
                view.saw(RunState(Policy((), ())), line)
        with measured("read back from the journal"):
            JsonlJournal(Path(folder, "x"), ROOT).look()
    print(f"{len(output.getvalue()) / COUNT:.0f} bytes each")


if __name__ == "__main__":
    main()
