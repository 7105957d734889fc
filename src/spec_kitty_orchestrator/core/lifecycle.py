"""The life of a work package as one table of edges; `step` is the only place that decides.

Every edge is a small function of frozen data. The command that follows is a function of the new state
(`resume`), so a crash is a replay and a wait is nothing but the same state taken up later.
"""

import re
from collections.abc import Callable

from spec_kitty_orchestrator.core import (
    commands,
    events,
    gating,
    implementing,
    operator_events,
    people,
    reviewing,
    steering,
    transitions,
)
from spec_kitty_orchestrator.core.describe import describe, last_line
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Lane, Outcome, Phase, Result, Role, Usage
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.core.refusals import answer
from spec_kitty_orchestrator.core.reviewing import gated
from spec_kitty_orchestrator.core.roles import next_agent
from spec_kitty_orchestrator.core.transitions import NOT_OURS, SETTLED, Next, enter, finish, park, reopen
from spec_kitty_orchestrator.core.work_package import Grant, WorkPackage, bounded, reviewed, unvoted, worked
from spec_kitty_orchestrator.errors import InvalidTransition

__all__ = [
    "ANYWHERE",
    "EDGES",
    "GOES_ON",
    "LONGEST_STORY",
    "agent_needed",
    "agrees",
    "begins_something",
    "pending",
    "resume",
    "seen",
    "step",
    "told",
]

LONGEST_STORY = 60
"""Lines of a story that are kept: enough for every bug, and a bound for the journal's replay."""

_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}")
"""It comes from an agent's output and goes into an argv, where it must never be taken for an option."""

Edge = Callable[[WorkPackage, events.Event, Policy], Next]


def step(wp: WorkPackage, event: events.Event, policy: Policy) -> tuple[WorkPackage, commands.Command]:
    """Return the work package after `event` and what to do next.

    Raises:
        InvalidTransition: the event fits no edge of the present phase.
    """
    wp = replace(wp, story=(*wp.story, (wp.phase, len(wp.attempts), _bare(event)))[-LONGEST_STORY:])
    attempt = wp.open_attempt
    if isinstance(event, events.AgentExited) and (attempt is None or attempt.id != event.attempt_id):
        return wp, resume(wp, policy)
    edge = EDGES.get((wp.phase, type(event))) or ANYWHERE.get(type(event))
    if edge is None:
        reason = f"{type(event).__name__} does not fit the phase {wp.phase}"
        raise InvalidTransition(wp.id, reason, told(wp))
    if isinstance(event, events.AgentExited):
        wp = _closed(wp, event)
    if rescued := getattr(event, "rescued", None):
        wp = replace(wp, rescued=wp.rescued + rescued)
    following = edge(wp, event, policy)
    wp, command = following if isinstance(following, tuple) else (following, resume(following, policy))
    after, follows = steering.settled(wp, event, command)
    return after, follows or resume(after, policy)


def told(wp: WorkPackage) -> tuple[str, ...]:
    """Return the story of a work package as short lines, oldest first, each with the phase it was in."""
    return tuple(
        f"{phase}: {describe(event, replace(wp, attempts=wp.attempts[:made]))}"
        for phase, made, event in wp.story
    )


def _bare(event: events.Event) -> events.Event:
    """Return an event without the long texts that no story needs."""
    if isinstance(event, events.AgentExited) and event.report.text:
        return replace(event, report=replace(event.report, text=""))
    if isinstance(event, events.GateFailed | events.SetUp):
        return replace(event, tail=last_line(event.tail))
    return event


def resume(wp: WorkPackage, policy: Policy) -> commands.Command:
    """Return the command that the present state calls for."""
    if wp.open_attempt is not None:
        return commands.RunAgent(wp.open_attempt)
    if lanes := steering.to_unblock(wp):
        return commands.Unblock(lanes, wp.unblocks)
    match wp.phase:
        case Phase.IMPLEMENTING | Phase.GATING if policy.setup and not wp.work.prepared:
            return commands.PrepareWorkspace(_last_number(wp), wp.work.gate_turns + 1)
        case Phase.WAITING:
            return commands.Resolve() if wp.workspace is None else commands.Claim()
        case Phase.CLAIMING:
            return commands.Claim()
        case Phase.IMPLEMENTING:
            return _next_attempt(wp, Role.IMPLEMENT, policy)
        case Phase.COMMITTING:
            return commands.Commit(implementing.commit_message(wp), wp.work.report.no_change_reason)
        case Phase.GATING:
            return commands.RunGates(wp.work.head, _last_number(wp), wp.work.gate_turns + 1)
        case Phase.SUBMITTING:
            to_tick = wp.work.to_tick
            return (
                commands.TickSubtasks(to_tick) if to_tick else commands.Submit(implementing.submit_note(wp))
            )
        case Phase.CLAIMING_REVIEW:
            return commands.ClaimReview()
        case Phase.REVIEWING:
            return _next_attempt(wp, Role.REVIEW, policy)
        case Phase.RECORDING:
            return reviewing.record(wp, policy)
        case Phase.PARKING:
            # A person may have settled it meanwhile: what is approved must not be blocked.
            return commands.Park(
                wp.note, wp.blocks and wp.lane not in SETTLED, wp.work.pending is not Phase.COMMITTING
            )
        case Phase.FINISHED:
            return commands.Finish(wp.result or Result.PARKED, wp.note)


def _last_number(wp: WorkPackage) -> int:
    return wp.attempts[-1].number if wp.attempts else 0


def pending(wp: WorkPackage, policy: Policy) -> commands.Command:
    """Return the command of a work package's turn."""
    return commands.Resolve() if wp.turn.grant is Grant.RESOLVE else resume(wp, policy)


def _closed(wp: WorkPackage, event: events.AgentExited) -> WorkPackage:
    """Note how the open attempt ended and what it used."""
    report, attempt = event.report, wp.attempts[-1]
    used, told = report.usage, wp.told_usage
    if report.usage_is_cumulative and report.session and used != Usage():
        told = {**told, report.session: used}
        if report.session in wp.told_usage:
            used = _since(wp.told_usage[report.session], used)
    wp = replace(wp, outcomes=(*wp.outcomes, report.outcome), used=(*wp.used, used), told_usage=told)
    if report.outcome is Outcome.BUDGET and attempt.max_cost_usd is not None:
        # Its own agent says that the limit it was given is used up, whatever it told of the cost.
        wp = replace(wp, capped_usd=wp.capped_usd + max(0.0, attempt.max_cost_usd - (used.cost_usd or 0.0)))
    if report.outcome is Outcome.OK:
        wp = replace(bounded(wp, skipped_fallbacks=()), note="")
    if event.untouched:
        wp = worked(wp, untouched=(*wp.work.untouched, attempt.id))
    return _remember_session(wp, attempt, report)


def _since(before: Usage, now: Usage) -> Usage:
    """Tell what was used between two readings of one counter; one that went back has begun anew."""
    if now.input_tokens < before.input_tokens or now.output_tokens < before.output_tokens:
        return now
    cost = None if now.cost_usd is None else max(0.0, now.cost_usd - (before.cost_usd or 0.0))
    return Usage(now.input_tokens - before.input_tokens, now.output_tokens - before.output_tokens, cost)


def _remember_session(wp: WorkPackage, attempt: Attempt, report: AgentReport) -> WorkPackage:
    """Keep the session of an implementer that ended in order; any other end makes the next one begin anew."""
    if attempt.role is not Role.IMPLEMENT:
        return wp
    sessions = {agent: one for agent, one in wp.work.sessions.items() if agent != attempt.agent}
    # A session that was taken up again and failed is not taken up a second time.
    sound = report.outcome is Outcome.OK or (report.outcome is Outcome.FAILED and not attempt.session)
    # One that a person had stopped goes on where it was.
    sound = sound or (report.outcome is Outcome.CANCELED and wp.halted)
    if sound and report.session and _SESSION.fullmatch(report.session):
        sessions[attempt.agent] = report.session
    return worked(wp, sessions=sessions)


def _next_attempt(wp: WorkPackage, role: Role, policy: Policy) -> commands.OpenAttempt:
    agent = wp.turn.agent if wp.turn.assigned else next_agent(wp, role, policy)
    session = transitions.session_for(wp, agent, policy) if role is Role.IMPLEMENT else ""
    return commands.OpenAttempt(role, agent, len(wp.attempts) + 1, session, wp.turn.max_cost_usd)


def agent_needed(wp: WorkPackage, policy: Policy) -> str:
    """Return the agent whose attempt a work package runs or needs next; "" if it is far from one."""
    match resume(wp, policy):
        case commands.RunAgent(attempt=attempt):
            return attempt.agent
        case commands.OpenAttempt(agent=agent):
            return agent
        case commands.PrepareWorkspace() if wp.phase is Phase.IMPLEMENTING:
            return next_agent(wp, Role.IMPLEMENT, policy)
        case commands.Claim() if wp.lane not in (Lane.FOR_REVIEW, Lane.IN_REVIEW):
            return next_agent(wp, Role.IMPLEMENT, policy)
        case commands.Claim() | commands.ClaimReview():
            return next_agent(wp, Role.REVIEW, policy)
        case _:
            return ""


def begins_something(command: commands.Command, event: events.Event) -> bool:
    """Tell whether a run that only waits for its agents must leave this command to the next start."""
    begun = commands.Claim | commands.ClaimReview | commands.OpenAttempt | commands.RunGates
    begun |= commands.PrepareWorkspace
    return isinstance(event, events.AttemptOpened) or isinstance(command, begun)


def seen(wp: WorkPackage, lane: Lane) -> WorkPackage:
    """Bring a work package that is not at work into line with the lane that the host tells."""
    wp = wp if wp.lane is lane else replace(wp, lane=lane)
    if wp.phase is Phase.WAITING and (lane in SETTLED or (lane is Lane.IN_REVIEW and not wp.work.base)):
        return enter(wp)
    if wp.phase is Phase.FINISHED and lane.complete and not agrees(wp):
        return enter(wp)
    return wp


def agrees(wp: WorkPackage) -> bool:
    """Tell whether how a work package left the run is what its lane says."""
    if wp.result is Result.PARKED and wp.taken is not None:
        return wp.lane not in SETTLED or wp.lane is Lane.BLOCKED
    if wp.result is Result.PARKED:
        return wp.lane is Lane.BLOCKED or (wp.skipped and not wp.untold and not wp.lane.complete)
    if wp.result in (Result.DONE, Result.APPROVED, Result.UNREVIEWED):
        return wp.lane.complete
    return wp.result is not None and wp.result.value == wp.lane.value


ANSWERED_LATER = (Phase.COMMITTING, Phase.SUBMITTING, Phase.RECORDING, Phase.PARKING)
"""Phases that hold something to save or to tell: they go on, and the host's answer settles the lane."""

GOES_ON = (
    (Phase.IMPLEMENTING, Lane.IN_PROGRESS),
    (Phase.GATING, Lane.IN_PROGRESS),
    (Phase.GATING, Lane.FOR_REVIEW),
    (Phase.GATING, Lane.IN_REVIEW),
    (Phase.REVIEWING, Lane.IN_REVIEW),
    # The host is told of a review while the reviewer is at work.
    (Phase.REVIEWING, Lane.FOR_REVIEW),
)
"""Where it goes on as it was, because the lane still is what the phase needs."""


def _resolving(wp: WorkPackage, _event: events.Event, _policy: Policy) -> Next:
    return wp, commands.Resolve()


def _resolved(wp: WorkPackage, event: events.Event, _policy: Policy) -> Next:
    assert isinstance(event, events.WorkspaceResolved)
    return replace(bounded(wp, tries=0), workspace=event.workspace), commands.Wait()


def _lane_seen(wp: WorkPackage, event: events.Event, _policy: Policy) -> Next:
    assert isinstance(event, events.LaneSeen)
    if wp.result is Result.FOREIGN and event.lane is Lane.PLANNED:
        # Whoever held it gave it back.
        wp = reopen(wp)
    return seen(replace(wp, dependencies=event.dependencies, ready=event.ready), event.lane)


def _scheduled(wp: WorkPackage, event: events.Event, policy: Policy) -> Next:
    assert isinstance(event, events.Scheduled)
    if wp.phase is Phase.FINISHED:
        wp = reopen(wp)
    wp = replace(wp, lane=event.lane, workspace=event.workspace)
    if people.tells_host(wp):
        return wp
    # Meanwhile the worktree may have been made anew.
    wp = worked(wp, ours=wp.work.ours or event.lane is Lane.PLANNED, prepared=False)
    if wp.phase is Phase.WAITING and wp.lane is not Lane.IN_REVIEW:
        # A verdict that was never recorded serves only the review that it was given in, but for a person's.
        wp = reviewed(unvoted(wp), votes=tuple(one for one in wp.review.votes if one.by_person))
    if wp.open_attempt is None and wp.phase is Phase.RECORDING:
        # Gates may have been added since the verdict.
        return reviewing.ready_to_record(wp, policy)
    if wp.open_attempt is not None or wp.phase in ANSWERED_LATER:
        return wp
    if (wp.phase, wp.lane) in GOES_ON:
        return gated(wp, wp.phase, policy) if wp.phase is Phase.REVIEWING else wp
    entered = enter(wp)
    if entered.phase is Phase.FINISHED and wp.work.base and (wp.attempts or not wp.lane.complete):
        # It was taken from us in the middle of the work: what is not committed is saved first.
        return park(wp, NOT_OURS.format(wp.lane) if wp.lane.complete else entered.note, blocks=False)
    return entered


def _deferred(wp: WorkPackage, event: events.Event, _policy: Policy) -> Next:
    assert isinstance(event, events.Deferred)
    return wp, commands.Wait(event.reason)


def _parked(wp: WorkPackage, event: events.Event, _policy: Policy) -> Next:
    assert isinstance(event, events.Parked)
    result = Result.UNREVIEWED if event.lane.complete else Result.PARKED
    return finish(replace(wp, lane=event.lane), result, wp.note)


def _refused(wp: WorkPackage, event: events.Event, policy: Policy) -> Next:
    assert isinstance(event, events.HostRefused)
    return answer(replace(wp, lane=event.lane), event, policy)


def _workspace_failed(wp: WorkPackage, event: events.Event, _policy: Policy) -> Next:
    assert isinstance(event, events.WorkspaceFailed)
    if wp.phase is Phase.PARKING:
        return finish(wp, Result.PARKED, f"{wp.note}; {event.message}")
    if event.missing and wp.work.pending is Phase.COMMITTING:
        # There is nothing left to commit: the next start has the work done again.
        wp = worked(wp, pending=None)
    return park(wp, event.message, blocks=False)


def _judged(wp: WorkPackage, event: events.Event, policy: Policy) -> Next:
    """Take the verdict of a finished review; it waits where the host refused to be told of the review."""
    assert isinstance(event, events.AgentExited)
    if wp.halted:
        # A person had it stopped: a verdict that came all the same counts for nothing.
        event = replace(event, report=replace(event.report, outcome=Outcome.CANCELED), verdict=None)
    refused = event.refused
    if refused is None or refused.lane is Lane.IN_REVIEW:
        wp = replace(reviewed(wp, claimed=True), lane=Lane.IN_REVIEW)
        return reviewing.review_ended(wp, event, policy)
    following = reviewing.review_ended(replace(wp, lane=refused.lane), event, policy)
    wp = following[0] if isinstance(following, tuple) else following
    if wp.phase is Phase.PARKING:
        return wp
    answered = answer(replace(wp, phase=Phase.CLAIMING_REVIEW), refused, policy)
    waits = [
        one[1]
        for one in (following, answered)
        if isinstance(one, tuple) and isinstance(one[1], commands.Wait)
    ]
    if not waits:
        return answered
    longest = max(waits, key=lambda one: one.seconds or 0.0)
    return (answered[0] if isinstance(answered, tuple) else answered), longest


EDGES: dict[tuple[Phase, type[events.Event]], Edge] = {
    (Phase.CLAIMING, events.Claimed): implementing.claimed,
    (Phase.IMPLEMENTING, events.GateBegun): gating.begun,
    (Phase.IMPLEMENTING, events.GatesStopped): gating.stopped,
    (Phase.IMPLEMENTING, events.SetUp): gating.set_up,
    (Phase.IMPLEMENTING, events.Assigned): transitions.assigned,
    (Phase.IMPLEMENTING, events.BudgetSpent): transitions.spent,
    (Phase.IMPLEMENTING, events.AttemptOpened): transitions.opened,
    (Phase.IMPLEMENTING, events.AgentExited): implementing.implemented,
    (Phase.COMMITTING, events.Committed): implementing.committed,
    (Phase.COMMITTING, events.CommitRefused): implementing.commit_refused,
    (Phase.GATING, events.GateBegun): gating.begun,
    (Phase.GATING, events.GatesPassed): gating.passed,
    (Phase.GATING, events.GateFailed): gating.failed,
    (Phase.GATING, events.GateBroken): gating.broken,
    (Phase.GATING, events.GatesStopped): gating.stopped,
    (Phase.GATING, events.HeadMoved): gating.moved,
    (Phase.GATING, events.SetUp): gating.set_up,
    (Phase.SUBMITTING, events.Submitted): implementing.submitted,
    (Phase.SUBMITTING, events.SubtasksTicked): implementing.ticked,
    (Phase.CLAIMING_REVIEW, events.ReviewClaimed): reviewing.review_claimed,
    (Phase.REVIEWING, events.ReviewClaimed): reviewing.head_moved,
    (Phase.RECORDING, events.ReviewClaimed): reviewing.head_moved,
    (Phase.REVIEWING, events.Assigned): transitions.assigned,
    (Phase.REVIEWING, events.BudgetSpent): transitions.spent,
    (Phase.REVIEWING, events.AttemptOpened): transitions.opened,
    (Phase.REVIEWING, events.NothingToReview): reviewing.nothing_to_review,
    (Phase.REVIEWING, events.AgentExited): _judged,
    (Phase.RECORDING, events.Recorded): reviewing.recorded,
    (Phase.PARKING, events.Parked): _parked,
}
"""What each event does in each phase."""

ANYWHERE: dict[type[events.Event], Edge] = {
    events.Resolving: _resolving,
    events.WorkspaceResolved: _resolved,
    events.LaneSeen: _lane_seen,
    events.Scheduled: _scheduled,
    events.Deferred: _deferred,
    events.HostRefused: _refused,
    events.WorkspaceFailed: _workspace_failed,
    events.Unblocked: steering.unblocked,
    operator_events.Retried: steering.retried,
    operator_events.Skipped: steering.skipped,
    operator_events.Stopped: steering.stopped,
    operator_events.Told: steering.told,
    operator_events.TakenOver: people.taken_over,
    operator_events.HandedBack: people.handed_back,
    operator_events.ApprovedByPerson: people.approved_by_person,
}
"""Events whose edge looks at the phase itself."""
