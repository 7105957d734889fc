"""An observer as a plug-in: says on stderr what a mission has cost, each time another dollar is spent.

Put your own in its place: a message to a chat, a line in a database, a light on your desk.
"""

import sys
from typing import Any


class SpendAlarm:
    """Adds up what attempts cost, where their agents tell."""

    def __init__(self) -> None:
        self._spent_usd = 0.0

    def saw(self, event: dict[str, Any]) -> None:
        """Take one event, as docs/events.md of spec-kitty-orchestrator describes it."""
        if event["kind"] == "agent_exited":
            before = self._spent_usd
            self._spent_usd += event["data"]["report"]["usage"]["cost_usd"] or 0.0
            if int(self._spent_usd) > int(before):
                # Standard output may be a program's.
                print(f"{event['mission']} has cost ${self._spent_usd:.2f}", file=sys.stderr)

    def close(self) -> None:
        """Take notice of the end of this start."""
