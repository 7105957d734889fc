"""What the large part of the screen shows, and reading as much for it as can be seen."""

import asyncio

from spec_kitty_orchestrator.core.report import WpReport
from spec_kitty_orchestrator.views.watch import charts, details
from spec_kitty_orchestrator.views.watch.arrangement import Mode
from spec_kitty_orchestrator.views.watch.source import Source
from spec_kitty_orchestrator.views.watch.spans import Line

__all__ = ["Pane"]

ENOUGH_STEPS = 300
"""Earlier attempts are read as well until there are so many."""


class Pane:
    """Knows which logs and diffs were read; reading is done beside the keys."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._read: set[str] = set()
        self._diffs: dict[tuple[str, ...], str] = {}

    def lines(self, wp: WpReport | None, mode: Mode, tab: str, cells: int) -> list[Line]:
        """Return what is known of the mission or of the chosen work package."""
        report = self._source.report
        match mode:
            case Mode.TIMELINE:
                return charts.timeline(report, self._source.now(), cells)
            case Mode.GRAPH:
                return charts.graph(report, cells)
            case Mode.HELP:
                return charts.keys_help(cells)
        if wp is None:
            return []
        told = [one for one in report.lines if one.wp_id == wp.id]
        match tab:
            case "events":
                return details.events(wp, told, cells)
            case "verdict":
                return details.verdicts(wp, cells)
            case "diff":
                if (range_ := _range(wp)) and range_ not in self._diffs:
                    return [((" …", "muted"),)]
                return details.changes(self._diffs.get(range_, ""), cells)
        logs = [
            self._source.log(one.attempt) if one.attempt.id in self._read else None for one in wp.attempts
        ]
        return [*details.card(wp, report, cells), *details.story(wp, told, logs, cells)]

    async def load(self, wp: WpReport, tab: str) -> None:
        """Read the changes, or the last attempts."""
        if tab == "diff" and wp.committed is not None and _range(wp) not in self._diffs:
            self._diffs[_range(wp)] = await self._source.diff(wp.committed)
        steps = 0
        for record in reversed(wp.attempts):
            log = self._source.log(record.attempt)
            await asyncio.to_thread(log.more)
            self._read.add(record.attempt.id)
            steps += len(log.steps)
            if steps >= ENOUGH_STEPS or not log.whole:
                break

    async def load_earlier(self, wp: WpReport) -> None:
        """Read what is before the log that is known: more of its first attempt, or the one before that."""
        unread = None
        for record in wp.attempts:
            log = self._source.log(record.attempt)
            if record.attempt.id in self._read:
                if not log.whole:
                    await asyncio.to_thread(log.earlier)
                    return
                break
            unread = record.attempt
        if unread is not None:
            await asyncio.to_thread(self._source.log(unread).more)
            self._read.add(unread.id)


def _range(wp: WpReport) -> tuple[str, ...]:
    """Return the commits between which its work lies, () if there is none."""
    return (wp.committed.base, wp.committed.head) if wp.committed is not None else ()
