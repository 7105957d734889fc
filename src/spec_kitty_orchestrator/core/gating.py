"""The edges of a work package whose gates run: no review is paid for before they passed on its very commit.

They stand before the submission, and before a review whose commit they have not seen: adopted work, a branch
that moved, gates that were added since.
"""

from dataclasses import replace

from spec_kitty_orchestrator.core.events import Event, GateBroken, GateFailed, GatesPassed, HeadMoved
from spec_kitty_orchestrator.core.gates import unproven
from spec_kitty_orchestrator.core.model import (
    Feedback,
    FeedbackSource,
    Lane,
    Phase,
    Policy,
    Ruling,
    Verdict,
    WorkPackage,
)
from spec_kitty_orchestrator.core.moves import MOST_MOVES, Next, park, rework
from spec_kitty_orchestrator.core.quorum import enough

MOST_STOPPED = 5
"""Stopped turns within one start that are followed by another: a bound, as they are not charged."""

_UNDER_REVIEW = (Lane.FOR_REVIEW, Lane.IN_REVIEW)


def gated(wp: WorkPackage, phase: Phase, policy: Policy) -> WorkPackage:
    """Go on to `phase`, unless the gates have yet to pass on the commit that it is about."""
    if unproven(policy.gates, wp.gates, wp.head):
        return replace(wp, phase=Phase.GATING)
    wp = replace(wp, phase=phase)
    return enough(wp, policy) if phase is Phase.REVIEWING else wp


def passed(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Go on to where the commit was going: to the host, to a reviewer, or to the record of its approval."""
    assert isinstance(event, GatesPassed)
    wp = _ended(wp)
    missing = unproven(policy.gates, event.results, wp.head)
    if missing:
        return _left_to_a_person(wp, f"gate {missing[0]} gave no result for {wp.head}")
    wp = replace(wp, gates=event.results, tries=0)
    if wp.verdict is not None and wp.verdict.head == wp.head:
        return replace(wp, phase=Phase.RECORDING)
    if wp.lane not in _UNDER_REVIEW:
        return replace(wp, phase=Phase.SUBMITTING)
    wp = replace(wp, feedback=(), to_tick=())
    known = wp.review_claimed or wp.lane is Lane.FOR_REVIEW
    return gated(wp, Phase.REVIEWING if known else Phase.CLAIMING_REVIEW, policy)


def failed(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    """Send the work back with the end of the gate's output; once it is under review, by a rejection."""
    assert isinstance(event, GateFailed)
    wp = _ended(wp)
    name = event.result.name
    text = f"The gate {name} failed on {wp.head}. The end of its output:\n\n{event.tail or '(none)'}"
    if wp.lane not in _UNDER_REVIEW:
        return rework(replace(wp, verdict=None), Feedback(FeedbackSource.GATE, text), policy)
    verdict = Verdict(Ruling.CHANGES_REQUESTED, wp.head, f"gate-{name}-{wp.gate_turns}", f"gate {name}", text)
    known = wp.lane is Lane.IN_REVIEW and wp.review_claimed
    return replace(wp, verdict=verdict, phase=Phase.RECORDING if known else Phase.CLAIMING_REVIEW, tries=0)


def broken(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Leave it to a person: whether the work is good is unknown, so nobody is asked to mend it."""
    assert isinstance(event, GateBroken)
    where = f"; see {event.log}" if event.log else ""
    return _left_to_a_person(_ended(wp), f"{event.who} cannot run: {event.reason}{where}")


def stopped(wp: WorkPackage, _event: Event, _policy: Policy) -> Next:
    """Run them again: whoever stopped them usually ends the run before that."""
    wp = replace(_ended(wp), tries=wp.tries + 1)
    if wp.tries > MOST_STOPPED:
        return _left_to_a_person(wp, f"the gates were stopped {wp.tries} times")
    return wp


def moved(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Follow the branch to the commit that it holds now."""
    assert isinstance(event, HeadMoved)
    wp = replace(wp, moved=wp.moved + 1)
    if wp.moved > MOST_MOVES:
        reason = f"the branch is moved by others before its gates can run, last to {event.head}"
        return _left_to_a_person(wp, reason)
    if wp.lane in _UNDER_REVIEW:
        return replace(wp, phase=Phase.CLAIMING_REVIEW, verdict=None)
    return replace(wp, phase=Phase.COMMITTING)


def _ended(wp: WorkPackage) -> WorkPackage:
    return replace(wp, gate_turns=wp.gate_turns + 1, gates=())


def _left_to_a_person(wp: WorkPackage, reason: str) -> WorkPackage:
    # The host takes `blocked` of work in review on a reviewer's word only.
    return park(replace(wp, ungated=wp.head), reason, blocks=wp.lane is not Lane.IN_REVIEW)
