"""Quotas, places at agents and budgets, as folds: may this attempt start, with whom, and at which cost.

A quota that is used up says nothing about the work, so it charges no attempt: its agent rests for everybody,
then one attempt tries it before the others do.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from spec_kitty_orchestrator.core import commands, events, run_events
from spec_kitty_orchestrator.core.lifecycle import begins_something
from spec_kitty_orchestrator.core.model import Role, Usage, total
from spec_kitty_orchestrator.core.policy import Budget, OnRateLimit
from spec_kitty_orchestrator.core.run import RunState, has_place
from spec_kitty_orchestrator.core.transitions import why_another
from spec_kitty_orchestrator.core.work_package import Grant, WorkPackage, next_agent, order

WARN_AT = 0.8
"""The part of a budget at which people are warned."""

NO_BUDGET = Budget()

EXIT_BUDGET = 7
"""What the run may spend is spent."""

EXIT_QUOTA = 75
"""The run waits for quotas longer than it may, or is to end at the first one that is used up."""


@dataclass(frozen=True)
class Rest:
    """Nobody may work before `until`, when `agent` may; `probing` if an attempt tries its quota then."""

    agent: str
    until: datetime
    probing: bool = False

    @property
    def reason(self) -> str:
        """Say what is waited for."""
        if self.probing:
            return f"waits for {self.agent}: an attempt tries whether its quota is back"
        return f"waits for {self.agent}: {used_up(self.until)}"


def used_up(until: datetime) -> str:
    """Say until when a quota is used up."""
    return f"its quota is used up until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def resting(state: RunState, now: datetime) -> dict[str, datetime]:
    """Return the agents that rest at this time, and until when."""
    return {agent: one.until for agent, one in state.quotas.items() if now < one.until}


def announcements(before: RunState, after: RunState) -> list[run_events.RunEvent]:
    """Return what a change of the quotas means to people."""
    told: list[run_events.RunEvent] = []
    for agent, quota in after.quotas.items():
        known = before.quotas.get(agent)
        if known is None or known.until != quota.until:
            told.append(run_events.AgentSuspended(agent, quota.until, used_up(quota.until)))
    told += [run_events.AgentBack(agent) for agent in before.quotas if agent not in after.quotas]
    return told


def _rest(state: RunState, agent: str, wp_id: str, now: datetime) -> Rest | None:
    quota, probe = state.quotas.get(agent), state.probes.get(agent)
    if quota is None or quota.back:
        return None
    if now < quota.until:
        return Rest(agent, quota.until)
    if probe is not None and probe.wp_id != wp_id and now < probe.ends:
        return Rest(agent, probe.ends, probing=True)
    return None


def _choose(state: RunState, agents: Iterable[str], wp_id: str, now: datetime) -> str | Rest:
    rests: list[Rest] = []
    for agent in agents:
        rest = _rest(state, agent, wp_id, now)
        if rest is None:
            return agent
        rests.append(rest)
    return min(rests, key=lambda one: one.until)


def who(state: RunState, wp: WorkPackage, role: Role, now: datetime) -> str | Rest:
    """Return who makes the next attempt of a work package, or what is waited for."""
    agents = order(wp, role, state.policy) or (next_agent(wp, role, state.policy),)
    if state.policy.patience.on_rate_limit is not OnRateLimit.FALLBACK:
        agents = agents[:1]
    usable = [one for one in agents if one == agents[0] or one not in wp.bounds.skipped_fallbacks]
    return _choose(state, usable, wp.id, now)


def no_place(state: RunState, agent: str) -> str:
    """Say that an agent has no place for another attempt."""
    return f"waits for {agent}: at most {state.policy.max_per_agent[agent]} at once"


@dataclass(frozen=True)
class _Part:
    name: str
    share: float
    text: str


def _parts(state: RunState, now: datetime) -> list[_Part]:
    budget, parts = state.policy.budget, []
    if budget == NO_BUDGET:
        return []
    spent = state.spent
    if budget.max_cost_usd is not None:
        cost, told = spent.cost_usd or 0.0, total(one.usage for one in state.wps.values()).cost_usd or 0.0
        text = f"${told:.2f} of ${budget.max_cost_usd:.2f} are spent"
        parts.append(_Part("cost", (cost + 1e-9) / budget.max_cost_usd, text))
    if budget.max_tokens is not None:
        tokens = spent.input_tokens + spent.output_tokens
        text = f"{tokens} of {budget.max_tokens} tokens are used"
        parts.append(_Part("tokens", tokens / budget.max_tokens, text))
    if budget.max_duration_s is not None and state.began_at is not None:
        elapsed_s = (now - state.began_at).total_seconds()
        text = f"{elapsed_s / 60:.0f} of {budget.max_duration_s / 60:.0f} minutes are over"
        parts.append(_Part("duration", (elapsed_s + 1e-6) / budget.max_duration_s, text))
    return parts


@dataclass(frozen=True)
class Limits:
    """How a run stands to its limits at a moment.

    Attributes:
        ending: how it ends because of its budget, None if it goes on.
        warnings: limits of the budget that are nearly used up and of which nobody was warned.
        looks: when its time is worth a look: near its end, and at its end.
        new_work: what a work package that nobody has begun waits for, None if somebody may implement it.
    """

    ending: run_events.Ending | None
    warnings: tuple[run_events.BudgetNearing, ...]
    looks: tuple[datetime, ...]
    new_work: Rest | None


def limits(state: RunState, now: datetime) -> Limits:
    """Hold a run against its budget and its agents' quotas."""
    agents, fallback = state.policy.impl_agents, state.policy.patience.on_rate_limit is OnRateLimit.FALLBACK
    found = _choose(state, agents if fallback else agents[:1], "", now) if state.quotas else None
    near = [one for one in _parts(state, now) if one.share >= WARN_AT]
    limit_s = state.policy.budget.max_duration_s
    looks: tuple[datetime, ...] = ()
    if limit_s is not None and state.began_at is not None:
        looks = tuple(state.began_at + timedelta(seconds=limit_s * part) for part in (WARN_AT, 1.0))
    return Limits(
        _ending(state, near),
        tuple(run_events.BudgetNearing(one.name, one.text) for one in near if one.name not in state.nearing),
        looks,
        found if isinstance(found, Rest) else None,
    )


def _ending(state: RunState, near: Iterable[_Part]) -> run_events.Ending | None:
    for part in near:
        if part.share >= 1.0:
            reason = f"the budget is used up: {part.text}; a start with a higher limit goes on"
            return run_events.Ending(EXIT_BUDGET, reason, state.policy.budget.hard)
    return None


def admission(
    state: RunState, wp_id: str, command: commands.Command, event: run_events.AnyEvent, now: datetime
) -> events.Event | None:
    """Return what happens instead of `command`, which follows `event`; None if it may be performed."""
    wp = state.wps.get(wp_id)
    if wp is None or wp.turn.grant is None or isinstance(event, run_events.RunEvent):
        return None
    if isinstance(command, commands.Resolve) or isinstance(event, events.GateBegun):
        # What it is about is under way.
        return None
    closes = state.signals or state.ending or state.failure
    if closes and (state.stopping or begins_something(command, event)):
        return events.Deferred(closing_reason(state))
    if wp.turn.grant is Grant.CLAIM_AHEAD and not isinstance(command, commands.Claim | commands.Park):
        return events.Deferred("is claimed ahead and waits for a slot")
    if not isinstance(command, commands.OpenAttempt) or wp.turn.assigned:
        return None
    ending = _ending(state, _parts(state, now))
    if ending is not None:
        return events.Deferred(ending.reason)
    too_much = over(state.policy.budget, wp)
    if too_much:
        return events.BudgetSpent(too_much)
    found = who(state, wp, command.role, now)
    if isinstance(found, Rest):
        return events.Deferred(found.reason, found.until, quota=True)
    if not has_place(state, found, wp):
        return events.Deferred(no_place(state, found), agent=found)
    cap = left(state.policy.budget, state.spent, wp)
    return events.Assigned(command.role, found, why_another(wp, command.role, found), cap)


def closing_reason(state: RunState) -> str:
    """Say why nothing new begins."""
    if state.failure is not None:
        return f"the run ends: {state.failure.message}"
    return state.ending.reason if state.ending is not None else "the run was interrupted"


def out_of_patience(state: RunState, now: datetime, until: datetime) -> run_events.Ending | None:
    """Return how a run ends that waits for nothing but quotas, None if it may wait until then."""
    max_wait_s = state.policy.patience.max_wait_s
    since = state.waits_for_quotas_since or now
    if state.waited_for_quotas_s + (until - since).total_seconds() <= max_wait_s:
        return None
    rests = "; ".join(f"{agent}: {used_up(one)}" for agent, one in sorted(resting(state, now).items()))
    reason = (
        f"waiting for quotas would take longer than {max_wait_s / 3600:.3g} h ({rests or 'none is back yet'})"
    )
    return run_events.Ending(EXIT_QUOTA, reason)


def over(budget: Budget, wp: WorkPackage) -> str:
    """Say why a work package may cost no more, "" if it may."""
    limit, cost = budget.max_cost_per_wp_usd, (wp.usage.cost_usd or 0.0) + wp.capped_usd
    if limit is None or cost + 1e-9 < limit:
        return ""
    return f"it has cost ${cost:.2f} of ${limit:.2f}, the most for one work package"


def left(budget: Budget, spent: Usage, wp: WorkPackage) -> float | None:
    """Return what the next attempt of a work package may cost, in US dollars; None for any sum."""
    of_wp = (wp.usage.cost_usd or 0.0) + wp.capped_usd
    of_each = ((budget.max_cost_usd, spent.cost_usd or 0.0), (budget.max_cost_per_wp_usd, of_wp))
    return min((max(0.0, limit - used) for limit, used in of_each if limit is not None), default=None)
