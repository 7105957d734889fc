"""A run shown as lines, for logs and pipes: one for each event, and each minute one that says it is alive."""

from collections.abc import Callable
from datetime import UTC, datetime

import anyio
from rich.console import Console

from spec_kitty_orchestrator.cli import words
from spec_kitty_orchestrator.core.events import AgentExited, AttemptOpened, Event
from spec_kitty_orchestrator.core.model import WorkPackage

HEARTBEAT_S = 60.0


def _now() -> datetime:
    return datetime.now(UTC)


class PlainView:
    """An observer that prints lines beginning with the time in UTC and the work package."""

    def __init__(self, console: Console, now: Callable[[], datetime] = _now) -> None:
        self._console = console
        self._now = now
        self._running: dict[str, tuple[str, datetime]] = {}

    def saw(self, wp: WorkPackage, event: Event) -> None:
        """Print one line for the event."""
        if isinstance(event, AttemptOpened):
            self._running[wp.id] = (f"{event.attempt.agent} ({event.attempt.role})", self._now())
        elif isinstance(event, AgentExited):
            self._running.pop(wp.id, None)
        self._print(wp.id, words.tell(wp, event))

    def said(self, message: str) -> None:
        """Print one line that concerns the whole run."""
        self._print("run", words.clean(message))

    async def keep_showing(self) -> None:
        """Print a heartbeat each minute until canceled."""
        while True:
            await anyio.sleep(HEARTBEAT_S)
            self.beat()

    def beat(self) -> None:
        """Print which agents run, and for how long."""
        now = self._now()
        agents = [
            f"{wp} {agent} for {words.elapsed((now - since).total_seconds())}"
            for wp, (agent, since) in sorted(self._running.items())
        ]
        self._print("run", "running: " + ", ".join(agents) if agents else "no agent runs at the moment")

    def _print(self, who: str, line: str) -> None:
        stamp = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        # `out` neither wraps lines nor interprets markup, and flushes each one.
        self._console.out(f"{stamp} {who:<5} {line}", highlight=False)
