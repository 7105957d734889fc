"""The edges of a work package on its way to a reviewer: claimed, implemented, committed, submitted."""

import re
from collections.abc import Mapping, Sequence

from spec_kitty_orchestrator.core.causes import likeness
from spec_kitty_orchestrator.core.events import AgentExited, Claimed, CommitRefused, Committed, Event
from spec_kitty_orchestrator.core.json_text import objects, text_of
from spec_kitty_orchestrator.core.model import ImplementReport, Lane, Outcome, Phase, Result, Role
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.core.reviewing import gated, same_content
from spec_kitty_orchestrator.core.transitions import (
    Next,
    after_failure,
    changed_nothing,
    finish,
    implement,
    park,
    rework,
)
from spec_kitty_orchestrator.core.verdict import Feedback, FeedbackSource
from spec_kitty_orchestrator.core.work_package import WorkPackage, bounded, reviewed, worked

__all__ = [
    "claimed",
    "commit_message",
    "commit_refused",
    "committed",
    "implemented",
    "read_report",
    "submit_note",
    "submitted",
    "ticked",
]

UNCHANGED = (
    "Your attempt changed nothing, and your report gives no `no_change_reason`. Change what is missing, or "
    "say there why nothing is: another attempt like this is the last one."
)

STILL_RED = (
    "You handed in just what the gate {} failed on, so it was not run again. Mend what it complains of: "
    "another attempt like this is the last one."
)

_KEYS = ("subtasks_done", "summary", "no_change_reason")
_SUBTASK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
MOST_SUBTASKS = 200
MOST_NAMED = 3
"""Files in a reason, which is one line."""


def claimed(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Begin to implement what the host gave us."""
    assert isinstance(event, Claimed)
    if wp.workspace is not None and wp.workspace.path != event.workspace.path:
        # A session belongs to the worktree in which it was begun.
        wp = worked(wp, sessions={})
    wp = replace(wp, lane=Lane.IN_PROGRESS, workspace=event.workspace)
    if not wp.work.base:
        wp = worked(wp, base=event.head, before=event.before)
    wp = bounded(wp, tries=0)
    if wp.taken is not None:
        return finish(wp, Result.PARKED, wp.taken.told)
    if wp.work.by and wp.work.pending is Phase.COMMITTING:
        return replace(wp, phase=Phase.COMMITTING)
    guided = any(one.source is FeedbackSource.OPERATOR for one in wp.work.feedback)
    if wp.work.ungated == event.head and not guided:
        # Its work is committed and waits for gates that could not run: nobody is paid before they did.
        return gated(reviewed(worked(wp, ungated=""), claimed=False), Phase.SUBMITTING, policy)
    return implement(wp, wp.note, policy)


def implemented(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Commit what a finished attempt left; any other end is a failure."""
    assert isinstance(event, AgentExited)
    if event.report.outcome is not Outcome.OK:
        return after_failure(wp, event, policy)
    report = read_report(event.report.text, event.attempt_id)
    # Nobody refuses a planning artifact whose subtasks are open: its submission is forced.
    first = policy.tick_subtasks and wp.workspace is not None and wp.workspace.planning
    to_tick = report.subtasks_done if first else ()
    wp = worked(wp, report=report, ticked=False, to_tick=to_tick, pending=Phase.COMMITTING)
    return replace(wp, phase=Phase.COMMITTING)


def committed(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Let the gates look at the work and submit it, unless the attempt changed nothing and gave no reason."""
    assert isinstance(event, Committed)
    found, work = event.evidence, wp.work
    # Work that the host did not take is still to be submitted, though ticking subtasks commits nothing.
    unsent = any(one.source is FeedbackSource.HOST for one in work.feedback)
    moved = found.head != (work.head or work.base)
    changed = moved or (unsent and found.head != found.base)
    wp = worked(wp, left_out=found.left_out, notes=found.notes, tree=found.tree, pending=None)
    if not changed and not work.report.no_change_reason and not work.by:
        why = _left(found.left_out) or "its report does not say why nothing is needed"
        return changed_nothing(wp, Feedback(FeedbackSource.REPORT, UNCHANGED), why, policy)
    repeated = same_content(wp, found)
    wp = worked(wp, head=found.head)
    if repeated:
        return park(wp, repeated, blocks=True)
    red = _known_red(wp, policy)
    if red:
        feedback = Feedback(FeedbackSource.GATE, STILL_RED.format(red))
        return changed_nothing(wp, feedback, f"the gate {red} is red on {found.head}", policy)
    wp = bounded(wp, unchanged=() if moved else wp.bounds.unchanged, tries=0)
    return gated(reviewed(wp, claimed=False), Phase.SUBMITTING, policy)


def _left(left_out: Sequence[str]) -> str:
    """Say for a person what was changed and cannot be committed, "" if nothing was."""
    more = len(left_out) - MOST_NAMED
    shown = ", ".join(left_out[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"what it left is not committed: {shown}" if shown else ""


def _known_red(wp: WorkPackage, policy: Policy) -> str:
    """Return a gate that failed on just this content, "" if none did."""
    gates = {(one.name, one.command) for one in policy.gates}
    content = wp.work.tree or wp.work.head
    red = (one for on, one in wp.work.red if on == content and (one.name, one.command) in gates)
    return next((one.name for one in red), "")


def commit_refused(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Let the implementer mend what a hook or git refused."""
    assert isinstance(event, CommitRefused)
    if wp.work.by:
        # It is that person's to mend: nothing is put away, and whoever puts it back to work has it committed.
        reason = f"what {wp.work.by} handed back cannot be committed: {event.message}"
        return park(wp, reason, blocks=False)
    # Without its content, the words are all that tells whether anything was mended.
    refused = (event.tree, likeness(event.message) if event.tree else event.message)
    again = wp.work.refused == refused
    feedback = Feedback(FeedbackSource.COMMIT, event.message)
    wp = worked(wp, pending=None, refused=refused)
    if again:
        text = f"Nothing of what was refused before has changed.\n\n{event.message}"
        return changed_nothing(wp, replace(feedback, text=text), event.message, policy)
    return rework(bounded(wp, unchanged=()), feedback, policy)


def submitted(wp: WorkPackage, _event: Event, policy: Policy) -> Next:
    """Go on to the review; the host is told of it while the reviewer is at work."""
    wp = reviewed(worked(wp, feedback=(), pending=None), claimed=False)
    return gated(replace(bounded(wp, tries=0), lane=Lane.FOR_REVIEW), Phase.REVIEWING, policy)


def ticked(wp: WorkPackage, _event: Event, _policy: Policy) -> Next:
    """Submit again, now that the subtasks are ticked."""
    return worked(wp, to_tick=(), ticked=True)


def commit_message(wp: WorkPackage) -> str:
    """Name the commit by the implementer's own summary."""
    summary = wp.work.report.summary
    whose = f"work of {wp.work.by or 'the implementer'}"
    return f"{wp.id}: {summary.splitlines()[0][:60] if summary else whose}"


def submit_note(wp: WorkPackage) -> str:
    """Say on the host which commit is submitted and by whom."""
    report = wp.work.report
    by = dict.fromkeys(one.agent for one in wp.attempts if one.role is Role.IMPLEMENT)
    by |= dict.fromkeys(wp.work.people)
    parts = (
        f"{wp.work.head} by {', '.join(by) or 'an earlier run'}",
        report.no_change_reason or report.summary,
        wp.work.gates_told,
    )
    return "\n\n".join(part for part in parts if part)


def read_report(text: str, attempt_id: str) -> ImplementReport:
    """Read the last report object of this attempt; an empty report when there is none.

    Subtask ids go into a command line, so whatever does not look like one is dropped.
    """
    found = [
        one.value
        for one in objects(text)
        if one.value.get("attempt") == attempt_id and any(key in one.value for key in _KEYS)
    ]
    if not found:
        return ImplementReport()
    last = found[-1]
    return ImplementReport(
        subtasks_done=_subtasks(last),
        summary=text_of(last.get("summary"), 4_000),
        no_change_reason=text_of(last.get("no_change_reason"), 2_000),
    )


def _subtasks(report: Mapping[str, object]) -> tuple[str, ...]:
    named = report.get("subtasks_done")
    if not isinstance(named, list):
        return ()
    ids = (one for one in named if isinstance(one, str) and _SUBTASK.fullmatch(one))
    return tuple(dict.fromkeys(ids))[:MOST_SUBTASKS]
