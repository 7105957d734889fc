"""The edges of a work package whose gates run: no review is paid for before they passed on its very commit.

They stand before the submission, and before a review whose commit they have not seen: adopted work, a branch
that moved, gates that were added since.
"""

from spec_kitty_orchestrator.core.events import (
    Event,
    GateBegun,
    GateBroken,
    GateFailed,
    GatesPassed,
    HeadMoved,
    SetUp,
)
from spec_kitty_orchestrator.core.model import Lane, Phase
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.core.reviewing import gated, ready_to_record, rejected_by_us, unproven
from spec_kitty_orchestrator.core.transitions import MOST_MOVES, Next, park, rework
from spec_kitty_orchestrator.core.verdict import Feedback, FeedbackSource
from spec_kitty_orchestrator.core.work_package import WorkPackage, bounded, reviewed, worked

__all__ = ["begun", "broken", "failed", "moved", "passed", "set_up", "stopped"]

MOST_STOPPED = 5
"""Stopped turns within one start that are followed by another: a bound, as they are not charged."""

_UNDER_REVIEW = (Lane.FOR_REVIEW, Lane.IN_REVIEW)


def begun(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Remember a gate that runs: a start after a crash goes on with those and no other."""
    assert isinstance(event, GateBegun)
    others = tuple(one for one in wp.work.gates_begun if one.log != event.log)
    return worked(wp, gates_begun=(*others, event))


def passed(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Go on to where the commit was going: to the host, to a reviewer, or to the record of its approval."""
    assert isinstance(event, GatesPassed)
    wp = _ended(wp)
    missing = unproven(policy.gates, event.results, wp.work.head)
    if missing:
        return _left_to_a_person(wp, f"gate {missing[0]} gave no result for {wp.work.head}")
    wp = bounded(worked(wp, gates=event.results), tries=0)
    if wp.review.verdict is not None and wp.review.verdict.head == wp.work.head:
        return ready_to_record(wp, policy)
    if wp.lane not in _UNDER_REVIEW:
        return replace(wp, phase=Phase.SUBMITTING)
    wp = worked(wp, feedback=(), to_tick=())
    known = wp.review.claimed or wp.lane is Lane.FOR_REVIEW
    return gated(wp, Phase.REVIEWING if known else Phase.CLAIMING_REVIEW, policy)


def failed(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Send the work back with the end of the gate's output; once it is under review, by a rejection."""
    assert isinstance(event, GateFailed)
    wp = _ended(wp)
    name, head = event.result.name, wp.work.head
    wp = worked(wp, red=(*wp.work.red, (wp.work.tree or head, event.result)))
    text = f"The gate {name} failed on {head}. The end of its output:\n\n{event.tail or '(none)'}"
    if wp.lane not in _UNDER_REVIEW:
        return rework(reviewed(wp, verdict=None), Feedback(FeedbackSource.GATE, text), policy)
    return rejected_by_us(wp, f"gate-{name}-{wp.work.gate_turns}", f"gate {name}", text)


def broken(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Leave it to a person: whether the work is good is unknown, so nobody is asked to mend it."""
    assert isinstance(event, GateBroken)
    where = f"; see {event.log}" if event.log else ""
    return _left_to_a_person(_ended(wp), f"{event.who} cannot run: {event.reason}{where}")


def stopped(wp: WorkPackage, _event: Event, _policy: Policy) -> Next:
    """Run them again: whoever stopped them usually ends the run before that."""
    if wp.halted:
        return _ended(wp)
    tries = wp.bounds.tries + 1
    wp = bounded(_ended(wp), tries=tries)
    if tries > MOST_STOPPED:
        return _left_to_a_person(wp, f"the gates were stopped {tries} times")
    return wp


def moved(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Follow the branch to the commit that it holds now."""
    assert isinstance(event, HeadMoved)
    wp = bounded(worked(wp, gates_begun=()), moved=wp.bounds.moved + 1)
    if wp.bounds.moved > MOST_MOVES:
        reason = f"the branch is moved by others before its gates can run, last to {event.head}"
        return _left_to_a_person(wp, reason)
    if wp.lane in _UNDER_REVIEW:
        return replace(reviewed(wp, verdict=None), phase=Phase.CLAIMING_REVIEW)
    return replace(wp, phase=Phase.COMMITTING)


def set_up(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Go on in a worktree that has what agents and gates need; where it has not, leave it to a person."""
    assert isinstance(event, SetUp)
    begun = wp.work.gates_begun
    if event.results or event.reason:
        wp = _ended(wp)
    else:
        # It was set up before: gates of a commit may have run there since, and perhaps still do.
        wp = worked(wp, gates_begun=tuple(one for one in begun if not one.mark))
    if event.reason:
        said = f"; the end of its output:\n{event.tail}" if event.tail else ""
        # Nothing is wrong with the work: the host is not told, and the next start tries again.
        wp = worked(wp, ungated=_waiting_for_gates(wp))
        return park(wp, f"the setup of its worktree failed: {event.reason}{said}", blocks=False)
    before = wp.work.before
    before = replace(before, ignored=tuple(dict.fromkeys((*before.ignored, *event.ignored))))
    return bounded(worked(wp, set_up=event.mark, prepared=True, before=before), tries=0)


def _ended(wp: WorkPackage) -> WorkPackage:
    return worked(wp, gate_turns=wp.work.gate_turns + 1, gates=(), gates_begun=())


def _left_to_a_person(wp: WorkPackage, reason: str) -> WorkPackage:
    # The host takes `blocked` of work in review on a reviewer's word only.
    return park(worked(wp, ungated=_waiting_for_gates(wp)), reason, blocks=wp.lane is not Lane.IN_REVIEW)


def _waiting_for_gates(wp: WorkPackage) -> str:
    """Return the commit that waits for its gates, "" if an implementer is to go on first."""
    return wp.work.head if wp.phase is Phase.GATING else ""
