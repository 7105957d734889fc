"""The edges of what people do to a work package, and what becomes of one whose work they had stopped.

What is at work when an order comes goes on to its end, which may be that it is stopped: so no answer of the
world is ever without an edge.
"""

from spec_kitty_orchestrator.core import people
from spec_kitty_orchestrator.core.commands import Command, Wait
from spec_kitty_orchestrator.core.events import (
    Assigned,
    AttemptOpened,
    Deferred,
    Event,
    GateBegun,
    LaneSeen,
    Resolving,
    Scheduled,
    Unblocked,
    WorkspaceResolved,
)
from spec_kitty_orchestrator.core.model import Lane, Phase
from spec_kitty_orchestrator.core.operator_events import OperatorEvent, Retried, Skipped, Told
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.core.transitions import Next, park, reopen
from spec_kitty_orchestrator.core.verdict import Feedback, FeedbackSource, feedback_text
from spec_kitty_orchestrator.core.work_package import WorkPackage, bounded, worked

__all__ = ["cut_off", "retried", "settled", "skipped", "stopped", "to_unblock", "told", "unblocked"]

MAY_BE_BLOCKED = (Lane.PLANNED, Lane.CLAIMED, Lane.IN_PROGRESS, Lane.FOR_REVIEW)
"""Lanes from which the host takes `blocked` on anybody's word; in review it wants a reviewer's."""

MOST_TOLD = 10
"""Notes of people that are kept for the prompts of one work package; the oldest go first."""

_IN_BETWEEN = (
    OperatorEvent,
    Assigned,
    AttemptOpened,
    GateBegun,
    LaneSeen,
    Scheduled,
    Resolving,
    WorkspaceResolved,
)
"""Events after which what was at work still is."""


def retried(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Put it back to work with fresh bounds; the host is told where it has it blocked."""
    assert isinstance(event, Retried)
    rejected, feedback = wp.review.rejected, wp.work.feedback
    left = wp.phase in (Phase.FINISHED, Phase.PARKING)
    # The rejection that parked it was never given to an implementer.
    unheard = left and rejected and rejected[-1].head == wp.work.head
    if left:
        wp = reopen(replace(wp, untold=False))
    if event.note and wp.work.pending is Phase.SUBMITTING:
        # Guidance is for the implementer.
        wp = replace(worked(wp, pending=None), phase=Phase.WAITING)
    if unheard and not feedback:
        feedback = (Feedback(FeedbackSource.REVIEW, feedback_text(rejected[-1])),)
    said = Feedback(FeedbackSource.OPERATOR, event.note)
    wp = worked(wp, feedback=(*feedback, said) if event.note and said not in feedback else feedback)
    blocked = wp.lane is Lane.BLOCKED
    return replace(wp, unblocks=(event.note or "put back to work by a person") if blocked else "")


def unblocked(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Let it wait for its turn where the host has it now."""
    assert isinstance(event, Unblocked)
    return replace(bounded(wp, tries=0), lane=event.lane, unblocks=""), Wait()


def to_unblock(wp: WorkPackage) -> tuple[Lane, ...]:
    """Return the lanes through which the host is to take it back to work, () for none."""
    if not wp.unblocks or wp.lane not in (Lane.BLOCKED, Lane.IN_PROGRESS):
        return ()
    # What nobody began here has no worktree, and its dependencies are to be checked.
    begun = bool(wp.work.base)
    before = (Lane.IN_PROGRESS,) if wp.lane is Lane.BLOCKED else ()
    return before if begun else (*before, Lane.PLANNED)


def skipped(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Take it out of the run, once what is at work on it has been stopped."""
    assert isinstance(event, Skipped)
    note = event.note or "skipped by a person"
    wp = replace(wp, lane=event.lane, skipped=True)
    if event.order and _at_work(wp):
        return replace(wp, leaves=note, halted=True)
    return _leave(wp, note)


def _leave(wp: WorkPackage, note: str) -> WorkPackage:
    wp = replace(worked(wp, pending=None), leaves="")
    return park(wp, note, blocks=wp.lane in MAY_BE_BLOCKED)


def stopped(wp: WorkPackage, _event: Event, _policy: Policy) -> Next:
    """Let what is at work on it be stopped; the pause that keeps it so is the run's."""
    return replace(wp, halted=_at_work(wp))


def told(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Keep a note for the prompts; a review is worth as little as an implementation that does not know it."""
    assert isinstance(event, Told)
    wp = worked(wp, told=(*wp.work.told, event.note)[-MOST_TOLD:])
    attempt = wp.open_attempt is not None or wp.turn.assigned
    return replace(wp, halted=wp.halted or (event.now and attempt))


def _at_work(wp: WorkPackage) -> bool:
    """Tell whether anything goes on that can be stopped, or is about to: also what a crash has left."""
    return wp.at_work or wp.open_attempt is not None or bool(wp.work.gates_begun)


def settled(wp: WorkPackage, event: Event, command: Command) -> tuple[WorkPackage, Command | None]:
    """Follow up on an order once what was at work has ended, by itself or because it was stopped.

    Returns:
        The work package, and the command that follows; None for what its state calls for.
    """
    if isinstance(event, _IN_BETWEEN) or not (wp.halted or wp.leaves):
        return wp, command
    after = _followed_up(wp)
    goes_on = isinstance(event, Deferred) or after.phase is wp.phase
    return after, command if goes_on else None


def cut_off(wp: WorkPackage) -> WorkPackage:
    """Follow up on an order whose run was cut off, unless something is left to be stopped."""
    if wp.open_attempt is not None or wp.work.gates_begun or not (wp.halted or wp.leaves):
        return wp
    if wp.lane.complete or wp.lane is Lane.CANCELED:
        # What was at work completed it.
        return replace(wp, halted=False, leaves="", taken=None)
    return _followed_up(wp)


def _followed_up(wp: WorkPackage) -> WorkPackage:
    wp = replace(wp, halted=False)
    if wp.open_attempt is not None:
        return wp
    if wp.taken is not None:
        return people.reached(replace(wp, leaves=""))
    if wp.leaves and wp.phase not in (Phase.FINISHED, Phase.PARKING):
        wp = _leave(wp, wp.leaves)
    return replace(wp, leaves="")
