"""The table of a mission's work packages, as a run and `status` show it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from spec_kitty_orchestrator.core.describe import clean, note
from spec_kitty_orchestrator.core.model import Lane
from spec_kitty_orchestrator.core.work_package import WorkPackage

LANE_STYLES: Mapping[Lane, str] = {
    Lane.DONE: "green",
    Lane.APPROVED: "green",
    Lane.IN_REVIEW: "cyan",
    Lane.FOR_REVIEW: "cyan",
    Lane.IN_PROGRESS: "yellow",
    Lane.CLAIMED: "yellow",
    Lane.BLOCKED: "red",
    Lane.CANCELED: "red",
}


def counted(lanes: Iterable[Lane]) -> str:
    """Write how many work packages are in each lane."""
    counts = Counter(lanes)
    return ", ".join(f"{counts[lane]} {lane}" for lane in Lane if counts[lane])


def columns(time: str, last: Mapping[str, Any], **options: Any) -> Table:
    """Make an empty table; `last` are rich's options of the column of notes."""
    table = Table(box=None, **options)
    for heading in ("WP", "lane", "phase", "attempt", "agent", time):
        table.add_column(heading, no_wrap=True)
    table.add_column("note", **last)
    return table


def row(wp: WorkPackage, time: str, told: str) -> tuple[Text, ...]:
    """Make the cells of a work package."""
    return (
        Text(wp.id, style="bold"),
        Text(wp.lane, style=LANE_STYLES.get(wp.lane, "")),
        Text(wp.phase),
        Text(str(len(wp.attempts) or "")),
        Text(clean(wp.open_attempt.agent) if wp.open_attempt else ""),
        Text(time),
        Text(note(told)),
    )
