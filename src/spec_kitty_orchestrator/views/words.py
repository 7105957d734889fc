"""What happened, in words for people; nothing that an agent or the host wrote reaches a terminal as it is.

Their text can hold escape sequences, line breaks and rich markup, so every line passes `clean`.
"""

import re
from datetime import timedelta

from spec_kitty_orchestrator.core import events
from spec_kitty_orchestrator.core.model import Evidence, Outcome, Ruling, WorkPackage

LINE_LIMIT = 400
LONGEST_LINE = 4000
"""Characters of a line that a person asked for, or has to act on."""

SHA_LENGTH = 10

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")

_SHA = re.compile(r"\b[0-9a-f]{40}\b")


def clean(text: str, limit: int = LINE_LIMIT) -> str:
    """Make one printable line of at most `limit` characters out of anything."""
    line = _UNPRINTABLE.sub(" ", text).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def short(sha: str) -> str:
    """Shorten a commit's name for people."""
    return sha[:SHA_LENGTH]


def note(text: str) -> str:
    """Make one line of a note, with the names of commits shortened."""
    return clean(_SHA.sub(lambda found: short(found.group()), text))


def elapsed(seconds: float) -> str:
    """Write a span of time: ``12s``, ``3m 05s``, ``2h 10m``."""
    span = int(timedelta(seconds=max(seconds, 0)).total_seconds())
    minutes, rest = divmod(span, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {rest:02}s" if minutes else f"{rest}s"


def count(number: int, noun: str) -> str:
    """Write ``1 file`` or ``2 files``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def tell(wp: WorkPackage, event: events.Event) -> str:
    """Say what `event` was, after it led to `wp`."""
    return clean(_tell(wp, event))


def _tell(wp: WorkPackage, event: events.Event) -> str:
    match event:
        case events.Scheduled(lane=lane, workspace=workspace):
            return f"starts from the lane {lane} in {workspace.key}"
        case events.Claimed(head=head):
            return f"claimed on the host, workspace at {short(head)}"
        case events.AttemptOpened(attempt=one, rescued=rescued):
            kept = f"; what the last one left is saved under {rescued}" if rescued else ""
            logs = _below(one.directory)
            return f"attempt {one.number}: {one.agent} starts to {one.role}, logs in {logs}{kept}"
        case events.AgentExited():
            return _ended(wp, event)
        case events.Committed(evidence=evidence):
            return _committed(evidence)
        case events.CommitRefused(message=message):
            return f"the commit was refused, back to the implementer: {message}"
        case events.GatesPassed(results=results):
            passed = ", ".join(f"{one.name} in {elapsed(one.seconds)}" for one in results)
            return f"the gates passed: {passed}"
        case events.GateFailed(result=result):
            return (
                f"gate {result.name} failed, no reviewer is asked; logs in {_below(result.log)}; "
                f"{last_line(event.tail)}"
            )
        case events.GateBroken(who=who, reason=reason, log=log):
            return f"{who} cannot run: {reason}" + (f"; logs in {_below(log)}" if log else "")
        case events.GatesStopped():
            return "the gates were stopped"
        case events.HeadMoved(head=head):
            return f"the branch moved to {short(head)} before its gates ran"
        case events.SubtasksTicked(ids=ids):
            return f"ticked {', '.join(ids)} on the word of the implementer's report"
        case events.Submitted():
            return f"submitted for review at {short(wp.head)}"
        case events.ReviewClaimed(base=base, head=head):
            return f"in review: {short(base)}..{short(head)}"
        case events.Recorded(lane=lane):
            return f"verdict recorded, now {lane}"
        case events.Parked(rescued=rescued):
            return f"parked: {wp.note}" + (f"; uncommitted work is saved in {rescued}" if rescued else "")
        case events.HostRefused():
            return f"the host refused {event.call} ({event.code}, lane {event.lane}): {event.message}"
        case events.TimerFired():
            return "the wait is over"
        case events.Queued(reason=reason):
            return reason
        case events.StandIn(role=role):
            return f"another agent is to {role} while the first one rests"
        case events.BudgetSpent(reason=reason):
            return reason
        case events.WorkspaceFailed(message=message):
            return f"the workspace failed: {message}"
        case events.Retried(note=note):
            return f"put back to work by a person{f': {note}' if note else ''}"
        case events.Skipped(note=note):
            return f"skipped by a person{f': {note}' if note else ''}"


def last_line(text: str) -> str:
    """Return the last line that is not empty, "" if there is none."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def _below(directory: str) -> str:
    """Shorten the path of an attempt to what lies in the repository."""
    _, found, rest = directory.rpartition("/.kittify/")
    return f".kittify/{rest}" if found else directory


def _ended(wp: WorkPackage, event: events.AgentExited) -> str:
    ended = next((one for one in wp.attempts if one.id == event.attempt_id), None)
    name = f"attempt {ended.number}: {ended.agent}" if ended else "an attempt"
    words = f"{name} ended {event.report.outcome}"
    if event.tampered:
        return f"{words}, but changed the workspace, so its verdict is void: {', '.join(event.tampered)}"
    if event.report.outcome is not Outcome.OK:
        return f"{words}: {event.report.detail}" if event.report.detail else words
    verdict = wp.verdict
    if verdict is not None and verdict.attempt_id == event.attempt_id:
        words += f": {_RULINGS[verdict.ruling]} {short(verdict.head)}"
        if verdict.findings:
            words += f", {count(len(verdict.findings), 'finding')}"
        return f"{words}: {verdict.summary}" if verdict.summary else words
    return f"{words}; {wp.note}" if ended and ended.head and wp.note else words


_RULINGS = {
    Ruling.APPROVED: "approves",
    Ruling.CHANGES_REQUESTED: "requests changes of",
    Ruling.UNUSABLE: "gave no usable verdict on",
}


def _committed(evidence: Evidence) -> str:
    if evidence.base == evidence.head:
        words = "nothing was changed"
    else:
        words = f"committed {short(evidence.base)}..{short(evidence.head)}"
    return words + (f"; left out: {', '.join(evidence.left_out)}" if evidence.left_out else "")
