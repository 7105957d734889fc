"""The edges of a work package on its way to a reviewer: claimed, implemented, committed, submitted."""

from dataclasses import replace

from spec_kitty_orchestrator.core.attempts import after_failure, close
from spec_kitty_orchestrator.core.events import AgentExited, Claimed, CommitRefused, Committed, Event
from spec_kitty_orchestrator.core.gates import told
from spec_kitty_orchestrator.core.gating import gated
from spec_kitty_orchestrator.core.model import (
    Feedback,
    FeedbackSource,
    Lane,
    Outcome,
    Phase,
    Policy,
    Role,
    WorkPackage,
)
from spec_kitty_orchestrator.core.moves import Next, implement, park, rework
from spec_kitty_orchestrator.core.report import read_report
from spec_kitty_orchestrator.core.reviewers import reviewers
from spec_kitty_orchestrator.core.stuck import same_content


def claimed(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Begin to implement what the host gave us."""
    assert isinstance(event, Claimed)
    if wp.workspace is not None and wp.workspace.path != event.workspace.path:
        # A session belongs to the worktree in which it was begun.
        wp = replace(wp, sessions={})
    wp = replace(wp, lane=Lane.IN_PROGRESS, workspace=event.workspace, base=wp.base or event.head)
    guided = any(one.source is FeedbackSource.OPERATOR for one in wp.feedback)
    if wp.ungated == event.head and not guided:
        # Its work is committed and waits for gates that could not run: nobody is paid before they did.
        return gated(replace(wp, ungated="", review_claimed=False, tries=0), Phase.SUBMITTING, policy)
    return implement(wp, wp.note, policy)


def implemented(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Commit what a finished attempt left; any other end is a failure."""
    assert isinstance(event, AgentExited)
    order = reviewers(wp, policy)
    wp, attempt = close(wp, event)
    if event.report.outcome is not Outcome.OK:
        return after_failure(wp, event, policy)
    report = read_report(event.report.text, attempt.id)
    if reviewers(wp, policy) != order:
        # Another family has a hand in it now, so others are independent.
        wp = replace(wp, review_agent=0)
    return replace(wp, phase=Phase.COMMITTING, report=report, ticked=False, to_tick=())


def committed(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Let the gates look at the work and submit it, unless the attempt changed nothing and gave no reason."""
    assert isinstance(event, Committed)
    found = event.evidence
    # Work that the host did not take is still to be submitted, though ticking subtasks commits nothing.
    unsent = any(one.source is FeedbackSource.HOST for one in wp.feedback)
    changed = found.head != (wp.head or wp.base) or (unsent and found.head != found.base)
    wp = replace(wp, left_out=found.left_out, tree=found.tree)
    if not changed and not wp.report.no_change_reason:
        text = "Your attempt changed nothing, and your report gives no `no_change_reason`."
        return rework(wp, Feedback(FeedbackSource.REPORT, text), policy)
    repeated = same_content(wp, found, policy)
    if repeated:
        return park(replace(wp, head=found.head), repeated, blocks=True)
    return gated(replace(wp, head=found.head, review_claimed=False, tries=0), Phase.SUBMITTING, policy)


def commit_refused(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Let the implementer mend what a hook or git refused."""
    assert isinstance(event, CommitRefused)
    return rework(wp, Feedback(FeedbackSource.COMMIT, event.message), policy)


def submitted(wp: WorkPackage, _event: Event, policy: Policy) -> Next:
    """Go on to the review; the host is told of it while the reviewer is at work."""
    wp = replace(wp, lane=Lane.FOR_REVIEW, feedback=(), tries=0, review_claimed=False)
    return gated(wp, Phase.REVIEWING, policy)


def ticked(wp: WorkPackage, _event: Event, _policy: Policy) -> Next:
    """Submit again, now that the subtasks are ticked."""
    return replace(wp, to_tick=(), ticked=True)


def commit_message(wp: WorkPackage) -> str:
    """Name the commit by the implementer's own summary."""
    subject = wp.report.summary.splitlines()[0][:60] if wp.report.summary else "work of the implementer"
    return f"{wp.id}: {subject}"


def submit_note(wp: WorkPackage) -> str:
    """Say on the host which commit is submitted and by whom."""
    said = wp.report.no_change_reason or wp.report.summary
    parts = (f"{wp.head} by {_agents(wp, Role.IMPLEMENT)}", said, told(wp.gates))
    return "\n\n".join(part for part in parts if part)


def _agents(wp: WorkPackage, role: Role) -> str:
    return ", ".join(dict.fromkeys(one.agent for one in wp.attempts if one.role is role)) or "an earlier run"
