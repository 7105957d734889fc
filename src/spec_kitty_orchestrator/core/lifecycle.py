"""The life of a work package as one table of edges; `step` is the only place that decides.

Every edge is a small function of frozen data. The command that follows is a function of the new state
(`resume`), so a crash is a replay and a wait is nothing but the same state taken up later.
"""

from collections.abc import Callable
from dataclasses import replace

from spec_kitty_orchestrator.core.commands import (
    Claim,
    ClaimReview,
    Command,
    Commit,
    Finish,
    OpenAttempt,
    Park,
    Record,
    RunAgent,
    Submit,
    TickSubtasks,
    Wait,
)
from spec_kitty_orchestrator.core.events import (
    AgentExited,
    AttemptOpened,
    Claimed,
    CommitRefused,
    Committed,
    Event,
    HostRefused,
    Parked,
    Recorded,
    ReviewClaimed,
    Scheduled,
    Submitted,
    SubtasksTicked,
    TimerFired,
    WorkspaceFailed,
)
from spec_kitty_orchestrator.core.model import (
    Attempt,
    Feedback,
    FeedbackSource,
    Lane,
    Outcome,
    Phase,
    Policy,
    Result,
    Role,
    Ruling,
    Usage,
    WorkPackage,
)
from spec_kitty_orchestrator.core.moves import conclude, enter, finish, park, reopen, rework
from spec_kitty_orchestrator.core.refusals import Next, answer
from spec_kitty_orchestrator.core.report import read_report
from spec_kitty_orchestrator.core.retry import Fallback, Retry, next_move
from spec_kitty_orchestrator.core.story import tell
from spec_kitty_orchestrator.core.verdict import feedback_text, read_verdict
from spec_kitty_orchestrator.errors import InvalidTransition

LONGEST_STORY = 60
"""Lines of a story that are kept: enough for every bug, and a bound for the journal's replay."""

Edge = Callable[[WorkPackage, Event, Policy], Next]


def step(wp: WorkPackage, event: Event, policy: Policy) -> tuple[WorkPackage, Command]:
    """Return the work package after `event` and what to do next.

    Raises:
        InvalidTransition: the event fits no edge of the present phase.
    """
    wp = replace(wp, story=(*wp.story, tell(wp.phase, event))[-LONGEST_STORY:])
    if isinstance(event, AgentExited) and (wp.open_attempt is None or wp.open_attempt.id != event.attempt_id):
        return wp, resume(wp, policy)
    edge = EDGES.get((wp.phase, type(event))) or ANYWHERE.get(type(event))
    if edge is None:
        raise InvalidTransition(wp.id, f"{type(event).__name__} does not fit the phase {wp.phase}", wp.story)
    following = edge(wp, event, policy)
    if isinstance(following, tuple):
        return following
    return following, resume(following, policy)


def resume(wp: WorkPackage, policy: Policy) -> Command:
    """Return the command that the present state calls for."""
    if wp.open_attempt is not None:
        return RunAgent(wp.open_attempt)
    match wp.phase:
        case Phase.WAITING | Phase.CLAIMING:
            return Claim()
        case Phase.IMPLEMENTING:
            return OpenAttempt(Role.IMPLEMENT, policy.impl_agents[wp.impl_agent], len(wp.attempts) + 1)
        case Phase.COMMITTING:
            return Commit(_commit_message(wp), wp.report.no_change_reason)
        case Phase.SUBMITTING:
            return TickSubtasks(wp.to_tick) if wp.to_tick else Submit(_submit_note(wp))
        case Phase.CLAIMING_REVIEW:
            return ClaimReview()
        case Phase.REVIEWING:
            return OpenAttempt(Role.REVIEW, policy.review_agents[wp.review_agent], len(wp.attempts) + 1)
        case Phase.RECORDING:
            return _record(wp, policy)
        case Phase.PARKING:
            return Park(wp.note, wp.blocks)
        case Phase.FINISHED:
            return Finish(wp.result or Result.PARKED, wp.note)


ANSWERED_LATER = (Phase.COMMITTING, Phase.SUBMITTING, Phase.RECORDING, Phase.PARKING)
"""Phases that hold something to save or to tell: they go on, and the host's answer settles the lane."""


def _commit_message(wp: WorkPackage) -> str:
    subject = wp.report.summary.splitlines()[0][:60] if wp.report.summary else "work of the implementer"
    return f"{wp.id}: {subject}"


def _submit_note(wp: WorkPackage) -> str:
    said = wp.report.no_change_reason or wp.report.summary
    return f"{wp.head} by {_agents(wp, Role.IMPLEMENT)}" + (f"\n\n{said}" if said else "")


def _agents(wp: WorkPackage, role: Role) -> str:
    return ", ".join(dict.fromkeys(one.agent for one in wp.attempts if one.role is role)) or "an earlier run"


def _record(wp: WorkPackage, policy: Policy) -> Record:
    assert wp.verdict is not None
    verdict = wp.verdict
    if verdict.ruling is Ruling.APPROVED:
        return Record(verdict, policy.finish_lane, f"{verdict.reviewer} approved {verdict.head}")
    used_up = len(wp.rejected) + 1 >= policy.max_review_cycles
    note = f"{verdict.reviewer} requests changes of {verdict.head}\n\n{feedback_text(verdict)}"
    if used_up:
        note = f"parked after {policy.max_review_cycles} rejections\n\n{note}"
    return Record(verdict, Lane.BLOCKED if used_up else Lane.IN_PROGRESS, note)


def _scheduled(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    assert isinstance(event, Scheduled)
    if wp.phase is Phase.FINISHED:
        wp = reopen(wp)
    wp = replace(wp, lane=event.lane, workspace=event.workspace)
    if wp.open_attempt is not None or wp.phase in ANSWERED_LATER:
        return wp
    if (wp.phase, wp.lane) in ((Phase.IMPLEMENTING, Lane.IN_PROGRESS), (Phase.REVIEWING, Lane.IN_REVIEW)):
        return wp
    return enter(wp)


def _claimed(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    assert isinstance(event, Claimed)
    return replace(
        wp,
        phase=Phase.IMPLEMENTING,
        lane=Lane.IN_PROGRESS,
        workspace=event.workspace,
        base=wp.base or event.head,
        tries=0,
    )


def _opened(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    assert isinstance(event, AttemptOpened)
    return replace(wp, attempts=(*wp.attempts, event.attempt))


def _close(wp: WorkPackage, event: AgentExited) -> tuple[WorkPackage, Attempt]:
    used = event.report.usage
    cost = (
        None
        if wp.usage.cost_usd is used.cost_usd is None
        else (wp.usage.cost_usd or 0.0) + (used.cost_usd or 0.0)
    )
    total = Usage(
        wp.usage.input_tokens + used.input_tokens, wp.usage.output_tokens + used.output_tokens, cost
    )
    return replace(wp, outcomes=(*wp.outcomes, event.report.outcome), usage=total), wp.attempts[-1]


def _implemented(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    assert isinstance(event, AgentExited)
    wp, attempt = _close(wp, event)
    if event.report.outcome is not Outcome.OK:
        return _after_failure(wp, event, policy)
    report = read_report(event.report.text, attempt.id)
    return replace(wp, phase=Phase.COMMITTING, report=report, ticked=False, to_tick=())


def _reviewed(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    assert isinstance(event, AgentExited)
    wp, attempt = _close(wp, event)
    if event.report.outcome is Outcome.CANCELED:
        return wp
    if event.tampered:
        return _unusable(wp, "the reviewer changed " + ", ".join(event.tampered[:5]), policy)
    if event.report.outcome is not Outcome.OK:
        return _after_failure(wp, event, policy)
    verdict = read_verdict(
        event.report.text, attempt_id=attempt.id, head=attempt.head, reviewer=attempt.agent
    )
    if verdict.ruling is Ruling.UNUSABLE:
        return _unusable(wp, f"{attempt.agent}'s verdict cannot be used: {verdict.summary}", policy)
    return replace(wp, phase=Phase.RECORDING, verdict=verdict, unusable=0, tries=0)


def _unusable(wp: WorkPackage, reason: str, policy: Policy) -> Next:
    wp = replace(wp, unusable=wp.unusable + 1, note=reason)
    if wp.unusable < policy.max_unusable:
        return wp
    if wp.review_agent + 1 < len(policy.review_agents):
        return replace(wp, review_agent=wp.review_agent + 1, unusable=0)
    return park(wp, f"no usable verdict for {wp.head}; a person must review it ({reason})", blocks=False)


def _after_failure(wp: WorkPackage, event: AgentExited, policy: Policy) -> Next:
    attempt, report = wp.attempts[-1], event.report
    reviewing = attempt.role is Role.REVIEW
    position = wp.review_agent if reviewing else wp.impl_agent
    agents = policy.review_agents if reviewing else policy.impl_agents
    move = next_move(report.outcome, _failures(wp), position + 1 < len(agents), report.retry_after_s, policy)
    wp = replace(wp, note=f"{attempt.agent} ended {report.outcome}: {report.detail}".rstrip(": "))
    if not isinstance(move, Retry | Fallback):
        return park(wp, f"{wp.note}; {move.reason}", blocks=not reviewing)
    if not reviewing and report.outcome is not Outcome.CANCELED:
        wp = rework(wp, None, policy)
    if wp.phase is Phase.PARKING:
        return wp
    if isinstance(move, Fallback):
        if reviewing:
            return replace(wp, review_agent=position + 1, unusable=0)
        return replace(wp, impl_agent=position + 1)
    return (wp, Wait(move.after_s, wp.note)) if move.after_s > 0 else wp


def _failures(wp: WorkPackage) -> int:
    """Count the attempts at the end that one agent ended in one role without `ok`."""
    last, count = wp.attempts[-1], 0
    ended = list(zip(wp.attempts, wp.outcomes, strict=False))[wp.counted_from :]
    for attempt, outcome in reversed(ended):
        if (attempt.role, attempt.agent) != (last.role, last.agent) or outcome is Outcome.OK:
            break
        count += outcome is not Outcome.CANCELED
    return count


def _committed(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    assert isinstance(event, Committed)
    found = event.evidence
    changed = found.head != (wp.head or wp.base)
    wp = replace(wp, left_out=found.left_out)
    if not changed and not wp.report.no_change_reason:
        text = "Your attempt changed nothing, and your report gives no `no_change_reason`."
        return rework(wp, Feedback(FeedbackSource.REPORT, text), policy)
    return replace(wp, phase=Phase.SUBMITTING, head=found.head, tries=0)


def _commit_refused(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    assert isinstance(event, CommitRefused)
    return rework(wp, Feedback(FeedbackSource.COMMIT, event.message), policy)


def _submitted(wp: WorkPackage, _event: Event, _policy: Policy) -> Next:
    return replace(wp, phase=Phase.CLAIMING_REVIEW, lane=Lane.FOR_REVIEW, feedback=(), tries=0)


def _ticked(wp: WorkPackage, _event: Event, _policy: Policy) -> Next:
    return replace(wp, to_tick=(), ticked=True)


def _review_claimed(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    assert isinstance(event, ReviewClaimed)
    return replace(wp, phase=Phase.REVIEWING, lane=Lane.IN_REVIEW, base=event.base, head=event.head, tries=0)


def _head_moved(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    assert isinstance(event, ReviewClaimed)
    reason = f"the branch moved from {wp.head} to {event.head} during the review"
    return _unusable(replace(wp, phase=Phase.REVIEWING, head=event.head, verdict=None), reason, policy)


def _recorded(wp: WorkPackage, event: Event, policy: Policy) -> Next:
    assert isinstance(event, Recorded)
    return conclude(replace(wp, lane=event.lane, tries=0), policy)


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


def _again(wp: WorkPackage, _event: Event, _policy: Policy) -> Next:
    return wp


EDGES: dict[tuple[Phase, type[Event]], Edge] = {
    (Phase.CLAIMING, Claimed): _claimed,
    (Phase.IMPLEMENTING, AttemptOpened): _opened,
    (Phase.IMPLEMENTING, AgentExited): _implemented,
    (Phase.COMMITTING, Committed): _committed,
    (Phase.COMMITTING, CommitRefused): _commit_refused,
    (Phase.SUBMITTING, Submitted): _submitted,
    (Phase.SUBMITTING, SubtasksTicked): _ticked,
    (Phase.CLAIMING_REVIEW, ReviewClaimed): _review_claimed,
    (Phase.REVIEWING, ReviewClaimed): _head_moved,
    (Phase.RECORDING, ReviewClaimed): _head_moved,
    (Phase.REVIEWING, AttemptOpened): _opened,
    (Phase.REVIEWING, AgentExited): _reviewed,
    (Phase.RECORDING, Recorded): _recorded,
    (Phase.PARKING, Parked): _parked,
}
"""What each event does in each phase."""

ANYWHERE: dict[type[Event], Edge] = {
    Scheduled: _scheduled,
    HostRefused: _refused,
    TimerFired: _again,
    WorkspaceFailed: _workspace_failed,
}
"""Events whose edge looks at the phase itself."""
