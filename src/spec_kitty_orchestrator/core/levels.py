"""Who wants to read the line of an event."""

from enum import StrEnum

from spec_kitty_orchestrator.core import events, run_events
from spec_kitty_orchestrator.core.model import Lane

__all__ = ["Level", "is_open_subtasks", "level_of"]


class Level(StrEnum):
    """Who wants to read the line of an event: a person who must act, everybody, or who looks for details."""

    NEEDS_YOU = "!"
    NORMAL = "+"
    DETAIL = "-"


_DETAILS = (
    events.Resolving,
    events.WorkspaceResolved,
    events.LaneSeen,
    events.Scheduled,
    events.Assigned,
    events.Claimed,
    events.GateBegun,
    events.GatesStopped,
    events.Submitted,
    events.SubtasksTicked,
    events.ReviewClaimed,
    run_events.Waiting,
    run_events.Notified,
)
"""Steps that always happen, or that the next line tells again."""

_NEEDS_YOU = (
    events.Parked,
    events.GateBroken,
    events.BudgetSpent,
    events.WorkspaceFailed,
    run_events.Ending,
    run_events.Failed,
)


def level_of(event: run_events.AnyEvent) -> Level:
    """Say who wants to read the line of an event."""
    if isinstance(event, _NEEDS_YOU) or (isinstance(event, events.SetUp) and event.reason):
        return Level.NEEDS_YOU
    if isinstance(event, run_events.ConflictForecast) and event.files:
        return Level.NEEDS_YOU
    back = isinstance(event, events.Recorded) and not event.lane.complete and event.lane is not Lane.BLOCKED
    return Level.DETAIL if back or isinstance(event, _DETAILS) or is_open_subtasks(event) else Level.NORMAL


def is_open_subtasks(event: run_events.AnyEvent) -> bool:
    """Tell whether the host only asks for subtasks to be ticked first."""
    if not isinstance(event, events.HostRefused):
        return False
    return event.call == "transition" and "subtask" in event.message.lower()
