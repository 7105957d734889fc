"""How attempts open and end, and what follows one that did not end `ok`, in either role."""

from dataclasses import replace

from spec_kitty_orchestrator.core.commands import Wait
from spec_kitty_orchestrator.core.events import AgentExited, AttemptOpened, BudgetSpent, Event, StandIn
from spec_kitty_orchestrator.core.model import Attempt, Outcome, Phase, Policy, Role, Usage, WorkPackage
from spec_kitty_orchestrator.core.moves import Next, park, rework
from spec_kitty_orchestrator.core.quorum import enough
from spec_kitty_orchestrator.core.retry import Fallback, Retry, next_move
from spec_kitty_orchestrator.core.sessions import remember

MOST_CANCELED = 5
"""Stopped attempts within one start that are followed by another: a bound, as they are not charged."""


def opened(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Note that an attempt has an id and a directory."""
    assert isinstance(event, AttemptOpened)
    rescued = (*wp.rescued, event.rescued) if event.rescued else wp.rescued
    return replace(wp, attempts=(*wp.attempts, event.attempt), rescued=rescued, stand_in=-1)


def chosen(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Let another agent of the order make the next attempt, or the one whose turn it is after all."""
    assert isinstance(event, StandIn)
    return replace(wp, stand_in=event.position)


def spent(wp: WorkPackage, event: Event, _policy: Policy) -> Next:
    """Leave a work package that may cost no more to a person; its work is committed or saved."""
    assert isinstance(event, BudgetSpent)
    return park(wp, event.reason, blocks=wp.phase is Phase.IMPLEMENTING)


def close(wp: WorkPackage, event: AgentExited) -> tuple[WorkPackage, Attempt]:
    """Note how the open attempt ended and what it used."""
    report, attempt = event.report, wp.attempts[-1]
    used, told = report.usage, wp.told_usage
    if report.usage_is_cumulative and report.session and used != Usage():
        told = {**told, report.session: used}
        if report.session in wp.told_usage:
            used = _since(wp.told_usage[report.session], used)
    cost = (
        None
        if wp.usage.cost_usd is used.cost_usd is None
        else (wp.usage.cost_usd or 0.0) + (used.cost_usd or 0.0)
    )
    total = Usage(
        wp.usage.input_tokens + used.input_tokens, wp.usage.output_tokens + used.output_tokens, cost
    )
    wp = replace(wp, outcomes=(*wp.outcomes, report.outcome), usage=total, told_usage=told)
    wp = replace(wp, stand_in_after=0) if report.outcome is Outcome.OK else wp
    return remember(wp, attempt, report), attempt


def _since(before: Usage, now: Usage) -> Usage:
    """Tell what was used between two readings of one counter; one that went back has begun anew."""
    if now.input_tokens < before.input_tokens or now.output_tokens < before.output_tokens:
        return now
    cost = None if now.cost_usd is None else max(0.0, now.cost_usd - (before.cost_usd or 0.0))
    return Usage(now.input_tokens - before.input_tokens, now.output_tokens - before.output_tokens, cost)


def after_failure(wp: WorkPackage, event: AgentExited, policy: Policy) -> Next:
    """Decide what follows an attempt that is closed and did not end `ok`."""
    attempt, report = wp.attempts[-1], event.report
    reviewing = attempt.role is Role.REVIEW
    position, agents = wp.order(attempt.role, policy)
    if report.outcome is Outcome.CANCELED:
        return _canceled(wp)
    if attempt.session and report.outcome is Outcome.INVALID_REQUEST:
        # It may be the session that is refused: the next attempt begins a new one.
        note = f"{attempt.agent} could not go on with its session: {report.detail}"
        return rework(replace(wp, note=note), None, policy)
    wp = replace(wp, note=f"{attempt.agent} ended {report.outcome}: {report.detail}".rstrip(": "))
    if report.outcome is Outcome.RATE_LIMITED and policy.quota_breaker:
        # Its agent rests for everybody; the work package is as ready for an attempt as before.
        return wp
    if report.outcome is Outcome.BUDGET and attempt.max_cost_usd is not None:
        # The limit was ours: the agent has not failed, and who keeps the budget says whether it goes on.
        return wp
    more, told_s = position + 1 < len(agents), report.retry_after_s
    move = next_move(report.outcome, _failures(wp, policy), more, policy, attempt.id, told_s)
    if not isinstance(move, Retry) and stood_in(wp, attempt, policy):
        wp, move = without_stand_in(wp, attempt, policy), Retry(0.0)
    if not isinstance(move, Retry | Fallback):
        return park(wp, f"{wp.note}; {move.reason}", blocks=not reviewing)
    if not reviewing:
        wp = rework(wp, None, policy)
    if wp.phase is Phase.PARKING:
        return wp
    if isinstance(move, Fallback):
        wp = replace(wp, stand_in_after=0)
        if reviewing:
            return enough(replace(wp, review_agent=position + 1, unusable=0), policy)
        return replace(wp, impl_agent=position + 1)
    return (wp, Wait(move.after_s, wp.note)) if move.after_s > 0 else wp


def stood_in(wp: WorkPackage, attempt: Attempt, policy: Policy) -> bool:
    """Tell whether an attempt was made in the place of an agent that rests."""
    position, agents = wp.order(attempt.role, policy)
    return policy.quota_breaker and attempt.agent in agents[position + 1 :]


def without_stand_in(wp: WorkPackage, attempt: Attempt, policy: Policy) -> WorkPackage:
    """Ask this stand-in no more, and keep the order: whose turn it is has not failed."""
    _, agents = wp.order(attempt.role, policy)
    return replace(wp, stand_in_after=agents.index(attempt.agent))


def _canceled(wp: WorkPackage) -> WorkPackage:
    """Open another attempt: whoever stopped this one usually ends the run before that."""
    if wp.tries >= MOST_CANCELED:
        return park(wp, f"{wp.attempts[-1].agent} was stopped {wp.tries + 1} times", blocks=False)
    return replace(wp, tries=wp.tries + 1)


def _failures(wp: WorkPackage, policy: Policy) -> int:
    """Count the failures of the last agent in its role since an attempt of that role ended `ok`.

    Only where agents rest is another one's attempt between them a stand-in's, and a limit no failure.
    """
    no_failure = {Outcome.CANCELED, Outcome.RATE_LIMITED} if policy.quota_breaker else {Outcome.CANCELED}
    last, count = wp.attempts[-1], 0
    ended = list(zip(wp.attempts, wp.outcomes, strict=False))[wp.counted_from :]
    for attempt, outcome in reversed(ended):
        if attempt.role is not last.role or outcome is Outcome.OK:
            break
        if attempt.agent != last.agent and not policy.quota_breaker:
            break
        count += attempt.agent == last.agent and outcome not in no_failure
    return count
