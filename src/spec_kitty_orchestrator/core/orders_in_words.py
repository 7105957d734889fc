"""What people ordered -> one line of English, as `core.describe` does it for all else."""

from spec_kitty_orchestrator.core.operator_events import (
    ApprovedByPerson,
    HandedBack,
    OperatorEvent,
    Retried,
    Skipped,
    Stopped,
    TakenOver,
    Told,
)
from spec_kitty_orchestrator.core.run_events import Continued, Paused, SettingsChanged

__all__ = ["of_order"]


def of_order(event: OperatorEvent | Paused | Continued | SettingsChanged) -> str:
    """Say what a person ordered; the text may hold anything, and is still to be cleaned."""
    by = event.by or "a person"
    match event:
        case Retried(note=note):
            return f"put back to work by {by}{f': {note}' if note else ''}"
        case Skipped(note=note):
            return f"left out by {by}{f': {note}' if note else ''}"
        case Stopped():
            return f"stopped by {by}, until `continue` or `retry`"
        case Told(note=note, now=now):
            return f"{by} says{', at once' if now else ''}: {note}"
        case TakenOver():
            return f"taken over by {by}"
        case HandedBack(note=note):
            return f"handed back by {by}{f': {note}' if note else ''}"
        case ApprovedByPerson(head=head, note=note):
            return f"{by}, a person, approved {head}: {note}"
        case Paused(agent=agent, wp=wp):
            return f"{agent or wp or 'the run'} is paused by {by}: nothing new begins"
        case Continued(agent=agent, wp=wp):
            return f"{agent or wp or 'the run'} goes on, says {by}"
        case SettingsChanged(changed=changed):
            return f"{by} sets {', '.join(f'{name}={value}' for name, value in changed.items())}"
