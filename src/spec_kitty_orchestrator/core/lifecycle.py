"""The life of a work package as one table of edges; `step` is the only place that decides.

Every edge is a small function of frozen data. The command that follows is a function of the new state
(`resume`), so a crash is a replay and a wait is nothing but the same state taken up later.
"""

from collections.abc import Callable
from dataclasses import replace

from spec_kitty_orchestrator.core import gating, implementing, reviewing
from spec_kitty_orchestrator.core.attempts import chosen, opened, spent
from spec_kitty_orchestrator.core.commands import (
    Claim,
    ClaimReview,
    Command,
    Commit,
    Finish,
    OpenAttempt,
    Park,
    RunAgent,
    RunGates,
    Submit,
    TickSubtasks,
    Wait,
)
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
from spec_kitty_orchestrator.core.gating import gated
from spec_kitty_orchestrator.core.model import (
    Feedback,
    FeedbackSource,
    Lane,
    Phase,
    Policy,
    Result,
    Role,
    WorkPackage,
)
from spec_kitty_orchestrator.core.moves import SETTLED, Next, enter, finish, park, reopen
from spec_kitty_orchestrator.core.refusals import answer
from spec_kitty_orchestrator.core.sessions import session_for
from spec_kitty_orchestrator.core.story import tell
from spec_kitty_orchestrator.core.verdict import feedback_text
from spec_kitty_orchestrator.errors import InvalidTransition

LONGEST_STORY = 60
"""Lines of a story that are kept: enough for every bug, and a bound for the journal's replay."""

Edge = Callable[[WorkPackage, Event, Policy], Next]


def step(wp: WorkPackage, event: Event, policy: Policy) -> tuple[WorkPackage, Command]:
    """Return the work package after `event` and what to do next.

    Raises:
        InvalidTransition: the event fits no edge of the present phase.
    """
    wp = replace(wp, rests="", story=(*wp.story, tell(wp.phase, event))[-LONGEST_STORY:])
    if isinstance(event, AgentExited) and (wp.open_attempt is None or wp.open_attempt.id != event.attempt_id):
        return wp, resume(wp, policy)
    edge = EDGES.get((wp.phase, type(event))) or ANYWHERE.get(type(event))
    if edge is None:
        raise InvalidTransition(wp.id, f"{type(event).__name__} does not fit the phase {wp.phase}", wp.story)
    following = edge(wp, event, policy)
    if isinstance(following, tuple):
        wp, command = following
        if isinstance(command, Wait):
            wp = replace(wp, rests=f"rests for {command.seconds:.0f} s: {command.reason}")
        return wp, command
    return following, resume(following, policy)


def resume(wp: WorkPackage, policy: Policy) -> Command:
    """Return the command that the present state calls for."""
    if wp.open_attempt is not None:
        return RunAgent(wp.open_attempt)
    match wp.phase:
        case Phase.WAITING | Phase.CLAIMING:
            return Claim()
        case Phase.IMPLEMENTING:
            agent = wp.agent(Role.IMPLEMENT, policy)
            session = session_for(wp, agent, policy)
            return OpenAttempt(Role.IMPLEMENT, agent, len(wp.attempts) + 1, session)
        case Phase.COMMITTING:
            return Commit(implementing.commit_message(wp), wp.report.no_change_reason)
        case Phase.GATING:
            return RunGates(wp.head, wp.attempts[-1].number if wp.attempts else 0, wp.gate_turns + 1)
        case Phase.SUBMITTING:
            return TickSubtasks(wp.to_tick) if wp.to_tick else Submit(implementing.submit_note(wp))
        case Phase.CLAIMING_REVIEW:
            return ClaimReview()
        case Phase.REVIEWING:
            return OpenAttempt(Role.REVIEW, wp.agent(Role.REVIEW, policy), len(wp.attempts) + 1)
        case Phase.RECORDING:
            return reviewing.record(wp, policy)
        case Phase.PARKING:
            # A person may have settled it meanwhile: what is approved must not be blocked.
            return Park(wp.note, wp.blocks and wp.lane not in SETTLED)
        case Phase.FINISHED:
            return Finish(wp.result or Result.PARKED, wp.note)


ANSWERED_LATER = (Phase.COMMITTING, Phase.SUBMITTING, Phase.RECORDING, Phase.PARKING)
"""Phases that hold something to save or to tell: they go on, and the host's answer settles the lane."""


GOES_ON = (
    (Phase.IMPLEMENTING, Lane.IN_PROGRESS),
    (Phase.GATING, Lane.IN_PROGRESS),
    (Phase.GATING, Lane.FOR_REVIEW),
    (Phase.GATING, Lane.IN_REVIEW),
    (Phase.REVIEWING, Lane.IN_REVIEW),
)
"""Where a new start goes on as it was, because the lane still is what the phase needs."""

MAY_BE_BLOCKED = (Lane.PLANNED, Lane.CLAIMED, Lane.IN_PROGRESS, Lane.FOR_REVIEW)
"""Lanes from which the host takes `blocked` on anybody's word; in review it wants a reviewer's."""


def _scheduled(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    assert isinstance(event, Scheduled)
    if wp.phase is Phase.FINISHED:
        wp = reopen(wp)
    # A new start has fresh patience; only a claim that waits for others goes on counting.
    tries = wp.tries if wp.phase is Phase.WAITING else 0
    ours = wp.ours or event.lane is Lane.PLANNED
    wp = replace(wp, lane=event.lane, workspace=event.workspace, tries=tries, ours=ours)
    if wp.phase is Phase.WAITING and wp.lane is not Lane.IN_REVIEW:
        # A verdict that was never recorded serves only the review that it was given in.
        wp = replace(wp, verdict=None, votes=())
    if wp.open_attempt is None and wp.phase is Phase.RECORDING:
        # Gates may have been added since the verdict.
        return reviewing.ready_to_record(wp, policy)
    if wp.open_attempt is not None or wp.phase in ANSWERED_LATER:
        return wp
    if (wp.phase, wp.lane) in GOES_ON:
        return gated(wp, wp.phase, policy) if wp.phase is Phase.REVIEWING else wp
    entered = enter(wp)
    if entered.phase is Phase.FINISHED and wp.base and not wp.lane.complete:
        # It was taken from us in the middle of the work: what is not committed is saved first.
        return park(wp, entered.note, blocks=False)
    return entered


def _parked(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    assert isinstance(event, Parked)
    rescued = (*wp.rescued, event.rescued) if event.rescued else wp.rescued
    return finish(replace(wp, lane=event.lane, rescued=rescued), Result.PARKED, wp.note)


def _refused(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    assert isinstance(event, HostRefused)
    return answer(replace(wp, lane=event.lane), event, policy)


def _workspace_failed(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    assert isinstance(event, WorkspaceFailed)
    if wp.phase is Phase.PARKING:
        return finish(wp, Result.PARKED, f"{wp.note}; {event.message}")
    return park(wp, event.message, blocks=False)


def _retried(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    assert isinstance(event, Retried)
    if wp.phase in (Phase.FINISHED, Phase.PARKING):
        wp = reopen(wp)
    feedback = wp.feedback
    if wp.rejected and not feedback:
        # The rejection that parked it was never given to an implementer.
        feedback = (Feedback(FeedbackSource.REVIEW, feedback_text(wp.rejected[-1])),)
    said = Feedback(FeedbackSource.OPERATOR, event.note)
    return replace(wp, feedback=(*feedback, said) if event.note and said not in feedback else feedback)


def _skipped(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    assert isinstance(event, Skipped)
    wp = replace(wp, lane=event.lane, skipped=True)
    return park(wp, event.note or "skipped by a person", blocks=event.lane in MAY_BE_BLOCKED)


def _queued(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    assert isinstance(event, Queued)
    return replace(wp, rests=event.reason)


def _again(wp: WorkPackage, _event: Event, _policy: Policy) -> Next:
    return wp


EDGES: dict[tuple[Phase, type[Event]], Edge] = {
    (Phase.CLAIMING, Claimed): implementing.claimed,
    (Phase.IMPLEMENTING, StandIn): chosen,
    (Phase.IMPLEMENTING, BudgetSpent): spent,
    (Phase.IMPLEMENTING, AttemptOpened): opened,
    (Phase.IMPLEMENTING, AgentExited): implementing.implemented,
    (Phase.COMMITTING, Committed): implementing.committed,
    (Phase.COMMITTING, CommitRefused): implementing.commit_refused,
    (Phase.GATING, GatesPassed): gating.passed,
    (Phase.GATING, GateFailed): gating.failed,
    (Phase.GATING, GateBroken): gating.broken,
    (Phase.GATING, GatesStopped): gating.stopped,
    (Phase.GATING, HeadMoved): gating.moved,
    (Phase.SUBMITTING, Submitted): implementing.submitted,
    (Phase.SUBMITTING, SubtasksTicked): implementing.ticked,
    (Phase.CLAIMING_REVIEW, ReviewClaimed): reviewing.review_claimed,
    (Phase.REVIEWING, ReviewClaimed): reviewing.head_moved,
    (Phase.RECORDING, ReviewClaimed): reviewing.head_moved,
    (Phase.REVIEWING, StandIn): chosen,
    (Phase.REVIEWING, BudgetSpent): spent,
    (Phase.REVIEWING, AttemptOpened): opened,
    (Phase.REVIEWING, AgentExited): reviewing.reviewed,
    (Phase.RECORDING, Recorded): reviewing.recorded,
    (Phase.PARKING, Parked): _parked,
}
"""What each event does in each phase."""

ANYWHERE: dict[type[Event], Edge] = {
    Scheduled: _scheduled,
    HostRefused: _refused,
    TimerFired: _again,
    Queued: _queued,
    WorkspaceFailed: _workspace_failed,
    Retried: _retried,
    Skipped: _skipped,
}
"""Events whose edge looks at the phase itself."""
