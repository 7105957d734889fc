"""How attempts are assigned and opened, and what follows one that did not end `ok`, in either role."""

from dataclasses import replace

from spec_kitty_orchestrator.core.commands import Wait
from spec_kitty_orchestrator.core.describe import ENDS
from spec_kitty_orchestrator.core.events import AgentExited, Assigned, AttemptOpened, BudgetSpent, Event
from spec_kitty_orchestrator.core.model import Attempt, Outcome, Phase, Role
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.retry import Fallback, Retry, next_move
from spec_kitty_orchestrator.core.transitions import Next, park, rework
from spec_kitty_orchestrator.core.work_package import Turn, WorkPackage, bounded, order, pass_over

MOST_CANCELED = 5
"""Stopped attempts within one start that are followed by another: a bound, as they are not charged."""


def assigned(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Let an agent make the next attempt."""
    assert isinstance(event, Assigned)
    turn = Turn(wp.turn.grant, event.agent, assigned=True, max_cost_usd=event.max_cost_usd)
    return replace(wp, turn=turn)


def opened(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Note that an attempt has an id and a directory."""
    assert isinstance(event, AttemptOpened)
    rescued = (*wp.rescued, event.rescued) if event.rescued else wp.rescued
    turn = replace(wp.turn, agent=event.attempt.agent, assigned=False)
    return replace(wp, attempts=(*wp.attempts, event.attempt), rescued=rescued, turn=turn)


def spent(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Leave a work package that may cost no more to a person; its work is committed or saved."""
    assert isinstance(event, BudgetSpent)
    return park(wp, event.reason, blocks=wp.phase is Phase.IMPLEMENTING)


def session_for(wp: WorkPackage, agent: str, policy: Policy) -> str:
    """Return the session that an agent's next implement attempt goes on with, "" for a new one."""
    if not policy.session_resume or agent not in policy.resuming:
        return ""
    return wp.work.sessions.get(agent, "")


def after_failure(wp: WorkPackage, event: AgentExited, policy: Policy) -> Next:
    """Decide what follows an attempt that is closed and did not end `ok`."""
    attempt, report = wp.attempts[-1], event.report
    reviewing = attempt.role is Role.REVIEW
    if report.outcome is Outcome.CANCELED:
        return _canceled(wp)
    if attempt.session and report.outcome is Outcome.INVALID_REQUEST:
        # It may be the session that is refused: the next attempt begins a new one.
        note = f"{attempt.agent} could not go on with its session: {report.detail}"
        return rework(replace(wp, note=note), None, policy)
    wp = replace(wp, note=f"{attempt.agent} ended {report.outcome}: {report.detail}".rstrip(": "))
    if report.outcome is Outcome.RATE_LIMITED:
        # Its agent rests for everybody; the work package is as ready for an attempt as before.
        return wp
    if report.outcome is Outcome.BUDGET and attempt.max_cost_usd is not None:
        # The limit was ours: the agent has not failed, and the budget says whether it goes on.
        return wp
    more = any(one != attempt.agent for one in order(wp, attempt.role, policy))
    move = next_move(report.outcome, _failures(wp), more, policy, attempt.id)
    if not isinstance(move, Retry) and is_fallback(wp, attempt, policy):
        wp, move = skip_fallback(wp, attempt), Retry(0.0)
    if not isinstance(move, Retry | Fallback):
        return park(wp, f"{wp.note}; {move.reason}", blocks=not reviewing)
    if not reviewing:
        wp = rework(wp, None, policy)
    if wp.phase is Phase.PARKING:
        return wp
    if isinstance(move, Fallback):
        return pass_over(wp, attempt.role, attempt.agent)
    return (wp, Wait(wp.note, move.after_s)) if move.after_s > 0 else wp


def is_fallback(wp: WorkPackage, attempt: Attempt, policy: Policy) -> bool:
    """Tell whether an attempt was made in the place of an agent that rests."""
    return attempt.agent in order(wp, attempt.role, policy)[1:]


def skip_fallback(wp: WorkPackage, attempt: Attempt) -> WorkPackage:
    """Use this fallback no more before an attempt ends well; the agent whose turn it is has not failed."""
    return bounded(wp, skipped_fallbacks=(*wp.bounds.skipped_fallbacks, attempt.agent))


def _canceled(wp: WorkPackage) -> WorkPackage:
    """Open another attempt: whoever stopped this one usually ends the run before that."""
    tries = wp.bounds.tries
    if tries >= MOST_CANCELED:
        return park(wp, f"{wp.attempts[-1].agent} was stopped {tries + 1} times", blocks=False)
    return bounded(wp, tries=tries + 1)


def _failures(wp: WorkPackage) -> int:
    """Count the failures of the last agent in its role since an attempt of that role ended `ok`."""
    last, count = wp.attempts[-1], 0
    for attempt, outcome in reversed(wp.ended_attempts):
        if attempt.role is not last.role or outcome is Outcome.OK:
            break
        failed = outcome not in (Outcome.CANCELED, Outcome.RATE_LIMITED)
        count += attempt.agent == last.agent and failed
    return count


def why_another(wp: WorkPackage, role: Role, agent: str) -> str:
    """Say why a work package needs another attempt, and why by this agent; "" for the first of its role."""
    made = [
        (one, outcome) for one, outcome in zip(wp.attempts, wp.outcomes, strict=False) if one.role is role
    ]
    if not made:
        return ""
    last, outcome = made[-1]
    if role is Role.IMPLEMENT and wp.work.feedback:
        reason = f"rework: {wp.work.feedback[-1].source} asks for changes"
    elif outcome is not Outcome.OK:
        reason = f"again: {last.agent} {ENDS[outcome]}"
    elif role is Role.REVIEW and last.head == wp.work.head:
        reason = "another review of the same commit"
    else:
        reason = "a new commit" if role is Role.REVIEW else "rework"
    return reason if agent == last.agent else f"{reason}; {agent} instead of {last.agent}"
