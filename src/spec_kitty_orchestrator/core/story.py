"""One short line per event: for the story that a bug is reported with, and for people who watch."""

from spec_kitty_orchestrator.core.events import (
    AgentExited,
    AttemptOpened,
    BudgetSpent,
    Claimed,
    CommitRefused,
    Committed,
    Event,
    GateBroken,
    GateFailed,
    GatesPassed,
    GatesStopped,
    HeadMoved,
    HostRefused,
    Parked,
    Queued,
    Recorded,
    Retried,
    ReviewClaimed,
    Scheduled,
    Skipped,
    StandIn,
    Submitted,
    SubtasksTicked,
    TimerFired,
    WorkspaceFailed,
)
from spec_kitty_orchestrator.core.model import Phase

LONGEST_LINE = 240


def tell(phase: Phase, event: Event) -> str:
    """Return `event` with the phase it met, for a story."""
    return f"{phase}: {describe(event)}"


def describe(event: Event) -> str:
    """Say in one bounded line what happened."""
    return " ".join(_words(event).split())[:LONGEST_LINE]


def _words(event: Event) -> str:
    match event:
        case Scheduled(lane=lane):
            return f"scheduled, found {lane}"
        case Claimed(head=head):
            return f"claimed at {head[:12]}"
        case AttemptOpened(attempt=one, rescued=rescued):
            kept = f", what was left is saved under {rescued}" if rescued else ""
            return f"attempt {one.number}: {one.agent} to {one.role}{kept}"
        case AgentExited(report=report, tampered=tampered):
            changed = f", changed {len(tampered)} things it must not" if tampered else ""
            return f"agent ended {report.outcome}{changed} {report.detail}"
        case Committed(evidence=found):
            return f"work is at {found.head[:12]}" if found.head != found.base else "no commits"
        case CommitRefused(message=message):
            return f"not committed: {message}"
        case GatesPassed(results=results):
            return f"gates passed: {', '.join(one.name for one in results)}"
        case GateFailed(result=result):
            return f"gate {result.name} failed"
        case GateBroken(who=who, reason=reason):
            return f"{who} cannot run: {reason}"
        case GatesStopped():
            return "gates were stopped"
        case HeadMoved(head=head):
            return f"the branch moved to {head[:12]} before its gates"
        case Submitted():
            return "submitted for review"
        case SubtasksTicked(ids=ids):
            return f"ticked {', '.join(ids)} on the implementer's word"
        case ReviewClaimed(head=head):
            return f"review of {head[:12]} claimed"
        case Recorded(lane=lane, rescued=rescued):
            return f"verdict recorded, now {lane}" + (
                f", left-out files saved under {rescued}" if rescued else ""
            )
        case Parked(lane=lane, rescued=rescued):
            return f"parked in {lane}" + (f", saved under {rescued}" if rescued else "")
        case HostRefused(call=call, code=code, message=message, lane=lane):
            return f"host refused {call} ({code}), lane is {lane}: {message}"
        case TimerFired():
            return "wait is over"
        case Queued(reason=reason):
            return reason
        case StandIn(role=role, position=position):
            return f"the agent at {position} of the order is to {role} next"
        case BudgetSpent(reason=reason):
            return reason
        case WorkspaceFailed(message=message):
            return f"workspace failed: {message}"
        case Retried(note=note):
            return "put back to work by a person" + (f": {note}" if note else "")
        case Skipped(lane=lane, note=note):
            return f"skipped by a person in {lane}" + (f": {note}" if note else "")
