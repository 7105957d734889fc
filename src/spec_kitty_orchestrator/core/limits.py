"""Agents that rest, places at agents and budgets: may this attempt start, with whom, and at which cost.

While an agent's last attempts failed alike and none ended well since, one attempt of it begins at a time.
"""

from collections.abc import Container, Iterable, Sequence
from datetime import datetime, timedelta

from spec_kitty_orchestrator.core import commands, events, pauses, people, run_events
from spec_kitty_orchestrator.core.describe import duration
from spec_kitty_orchestrator.core.lifecycle import begins_something
from spec_kitty_orchestrator.core.model import Outcome, Phase, Role, Usage, WaitsFor
from spec_kitty_orchestrator.core.operator_events import OperatorEvent
from spec_kitty_orchestrator.core.policy import Budget, OnRateLimit
from spec_kitty_orchestrator.core.records import dataclass
from spec_kitty_orchestrator.core.roles import next_agent, order
from spec_kitty_orchestrator.core.run import RunState, has_place
from spec_kitty_orchestrator.core.suspension import PROBE_S, Failures, Suspension
from spec_kitty_orchestrator.core.transitions import why_another
from spec_kitty_orchestrator.core.work_package import Grant, WorkPackage

__all__ = [
    "EXIT_BUDGET",
    "EXIT_QUOTA",
    "EXIT_STALLED",
    "Limits",
    "Rest",
    "admission",
    "announcements",
    "closing_reason",
    "is_suspect",
    "left",
    "limits",
    "no_money",
    "no_place",
    "nobody_left",
    "out_of_patience",
    "over",
    "resting",
    "who",
]

WARN_AT = 0.8
"""The part of a budget at which people are warned."""

LEAST_SHARE_USD = 2.0
"""Less is given to an attempt only where there is no more: it would end with half of the work."""

NO_BUDGET = Budget()

EXIT_BUDGET = 7
"""What the run may spend is spent."""

EXIT_STALLED = 6
"""Nothing can be scheduled: whoever could go on is broken."""

EXIT_QUOTA = 75
"""The run waits for quotas longer than it may, or is to end at the first one that is used up."""


@dataclass(frozen=True)
class Rest:
    """Nobody may work before `until`, when `agent` may.

    Attributes:
        until: None if only the end of another attempt tells.
        probing: whether an attempt tries the agent meanwhile.
        why: why the agent rests, or is tried.
        broken: whether it is taken for broken: no time mends it.
        paused: whether a person has paused it.
    """

    agent: str
    until: datetime | None
    why: str
    probing: bool = False
    broken: bool = False
    paused: bool = False

    @property
    def reason(self) -> str:
        """Say what is waited for."""
        return self.why if self.paused else f"waits for {self.agent}: {self.why}"

    @property
    def waits_for(self) -> WaitsFor:
        """Its kind, which is a quota, an agent that must show that it works, or a person."""
        if self.paused:
            return WaitsFor.PAUSE
        return WaitsFor.AGENT if self.broken or self.probing else WaitsFor.QUOTA


def resting(state: RunState, now: datetime) -> dict[str, Suspension]:
    """Return the agents that rest at this time, and why; who is broken rests until an attempt ends well."""
    return {agent: one for agent, one in state.suspended.items() if one.broken or now < one.until}


def announcements(before: RunState, after: RunState) -> list[run_events.RunEvent]:
    """Return what a change of the agents that rest means to people."""
    told: list[run_events.RunEvent] = []
    for agent, rest in after.suspended.items():
        known = before.suspended.get(agent)
        if known is None or known.until != rest.until:
            told.append(run_events.AgentSuspended(agent, rest.until, rest.told))
    told += [run_events.AgentBack(agent) for agent in before.suspended if agent not in after.suspended]
    return told


def _rest(state: RunState, agent: str, wp_id: str, now: datetime) -> Rest | None:
    """Return why an agent may not begin another attempt, None if it may."""
    known, failures = state.suspended.get(agent), state.failing.get(agent)
    if known is not None and (now < known.until or (known.broken and not _may_try(state, known, now))):
        return Rest(agent, known.until, known.why, broken=bool(known.broken))
    if known is not None and not known.back:
        begun = [one for one in state.begun_by(agent, wp_id) if one >= known.until]
        why = "an attempt tries whether it works again" if known.broken else _TRIES
    elif failures is not None and _is_doubtful(state, agent, failures):
        begun = state.begun_by(agent, wp_id)
        why = f"its last attempt {failures.last}; another one shows whether it works"
    else:
        return None
    watched_s = failures.watched_s if failures is not None else PROBE_S
    until = min(begun) + timedelta(seconds=watched_s) if begun else now
    if now < until:
        return Rest(agent, until, why, probing=True)
    if failures is not None and wp_id in failures.wps and not begun and _others_try(state, agent, failures):
        return Rest(agent, None, why, probing=True)
    return None


def _may_try(state: RunState, broken: Suspension, now: datetime) -> bool:
    """Tell whether a broken agent is tried again: at a start, and while the run goes on with others."""
    if state.began_at is not None and broken.until <= state.began_at:
        return True
    if any(now < one.until and not one.broken for one in state.suspended.values()):
        return True
    at_work = (one.open_attempt.agent if one.open_attempt else one.turn.agent for one in state.at_work)
    return any(agent not in state.suspended or not state.suspended[agent].broken for agent in at_work)


_TRIES = "an attempt tries whether its quota is back"


def _is_doubtful(state: RunState, agent: str, failures: Failures) -> bool:
    """Tell whether an agent must show that it works: one failure of an agent that has worked is no doubt."""
    return len(failures.wps) > 1 or not any(
        one.agent == agent and outcome is Outcome.OK
        for wp in state.wps.values()
        for one, outcome in zip(wp.attempts, wp.outcomes, strict=False)
    )


def _others_try(state: RunState, agent: str, failures: Failures) -> bool:
    """Tell whether a work package is about to try an agent with which it has not failed."""
    return any(
        one.turn.agent == agent and one.open_attempt is None and one.id not in failures.wps
        for one in state.at_work
    )


def is_suspect(state: RunState, wp: WorkPackage, agent: str) -> bool:
    """Tell whether others should try an agent first, because its last attempts failed and this one's did."""
    return agent in state.failing and wp.open_attempt is None and wp.id in state.failing[agent].wps


def _choose(
    state: RunState, agents: Sequence[str], wp_id: str, now: datetime, skipped: Container[str] = ()
) -> str | Rest:
    rests: list[Rest] = []
    for agent in agents:
        if pause := pauses.of_agent(state.pauses, agent):
            rests.append(Rest(agent, None, pause.reason, paused=True))
            continue
        if agent in skipped and not all(one.paused for one in rests):
            continue
        rest = _rest(state, agent, wp_id, now)
        if rest is None:
            return agent
        rests.append(rest)
        suspended = state.suspended.get(agent)
        about_quota = suspended is not None and not suspended.broken
        if about_quota and state.policy.patience.on_rate_limit is not OnRateLimit.FALLBACK:
            break
    # Whoever is broken or paused does not work again by itself; a pause is for people to end.
    return min(rests, key=lambda one: (one.broken or one.paused, one.broken, one.until or now))


def who(state: RunState, wp: WorkPackage, role: Role, now: datetime) -> str | Rest:
    """Return who makes the next attempt of a work package, or what is waited for."""
    agents = order(wp, role, state.policy) or (next_agent(wp, role, state.policy),)
    last = wp.attempts[-1] if wp.outcomes[-1:] == (Outcome.CANCELED,) else None
    if last is not None and last.role is role and last.agent in wp.work.sessions and last.agent in agents:
        # A person had it stopped: it goes on in its session.
        agents = (last.agent, *(one for one in agents if one != last.agent))
    return _choose(state, agents, wp.id, now, wp.bounds.skipped_fallbacks)


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
        cost, told = spent.cost_usd or 0.0, state.told.cost_usd or 0.0
        text = f"${told:.2f} of ${budget.max_cost_usd:.2f} are spent"
        parts.append(_Part("cost", (cost + 1e-9) / budget.max_cost_usd, text))
    if budget.max_tokens is not None:
        tokens = spent.tokens
        text = f"{tokens} of {budget.max_tokens} tokens are used"
        parts.append(_Part("tokens", tokens / budget.max_tokens, text))
    if budget.max_duration_s is not None and state.began_at is not None:
        elapsed_s = (now - state.began_at).total_seconds()
        text = f"{duration(elapsed_s)} of {duration(budget.max_duration_s)} are over"
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
    found = _choose(state, state.policy.impl_agents, "", now)
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
    if isinstance(command, commands.Resolve) or isinstance(event, events.GateBegun | OperatorEvent):
        # What it is about is under way.
        return None
    closes = state.signals or state.ending or state.failure
    if closes and (state.stopping or begins_something(command, event)):
        return events.Deferred(closing_reason(state))
    pause = people.held_by_pause(wp, command, state.pauses)
    if pause is not None:
        return events.Deferred(pause.reason, waits_for=WaitsFor.PAUSE)
    if wp.turn.grant is Grant.CLAIM_AHEAD and not isinstance(command, commands.Claim | commands.Park):
        return events.Deferred("is claimed ahead and waits for a slot", waits_for=WaitsFor.SLOT)
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
        return events.Deferred(found.reason, found.until, quota=True, waits_for=found.waits_for)
    if not has_place(state, found, wp):
        return events.Deferred(no_place(state, found), agent=found, waits_for=WaitsFor.AGENT)
    if isinstance(event, events.AgentExited) and is_suspect(state, wp, found) and _others_left(state, found):
        why = f"{found} {state.failing[found].last}; others try it first"
        return events.Deferred(why, waits_for=WaitsFor.AGENT)
    if short := no_money(state, wp):
        return events.Deferred(short, waits_for=WaitsFor.BUDGET)
    why = why_another(wp, command.role, found)
    return events.Assigned(command.role, found, why, share(state, wp))


def _others_left(state: RunState, agent: str) -> bool:
    failed = state.failing[agent].wps
    return any(one.phase is not Phase.FINISHED and one.id not in failed for one in state.wps.values())


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
    rests = "; ".join(f"{agent}: {one.why}" for agent, one in sorted(resting(state, now).items()))
    reason = (
        f"waiting for quotas would take longer than {max_wait_s / 3600:.3g} h ({rests or 'none is back yet'})"
    )
    return run_events.Ending(EXIT_QUOTA, reason)


def nobody_left(state: RunState) -> run_events.Ending:
    """Return how a run ends in which everybody who could go on is broken."""
    broken = [(agent, one.broken) for agent, one in state.suspended.items() if one.broken]
    said = "; ".join(f"{agent}: {why}" for agent, why in broken)
    return run_events.Ending(EXIT_STALLED, f"nobody is left to work. {said}")


def over(budget: Budget, wp: WorkPackage) -> str:
    """Say why a work package may cost no more, "" if it may."""
    limit, cost = budget.max_cost_per_wp_usd, wp.cost_usd
    if limit is None or cost + 1e-9 < limit:
        return ""
    return f"it has cost ${cost:.2f} of ${limit:.2f}, the most for one work package"


def left(budget: Budget, spent: Usage, wp: WorkPackage) -> float | None:
    """Return what is left for a work package, in US dollars, whatever others may cost; None for any sum."""
    of_each = ((budget.max_cost_usd, spent.cost_usd or 0.0), (budget.max_cost_per_wp_usd, wp.cost_usd))
    return min((max(0.0, limit - used) for limit, used in of_each if limit is not None), default=None)


def kept(state: RunState, besides: str = "") -> float:
    """Return what attempts that run, or are about to, may still cost, in US dollars."""
    return sum(_kept_for(one) for one in state.wps.values() if one.id != besides)


def _kept_for(wp: WorkPackage) -> float:
    attempt, assigned = wp.open_attempt, wp.turn.max_cost_usd or 0.0
    if attempt is None:
        return assigned if wp.turn.assigned else 0.0
    if attempt.max_cost_usd is not None:
        return attempt.max_cost_usd
    # Its CLI knows no limit: what it was meant to cost is kept all the same, unless nobody will tell.
    return assigned if attempt.tells_cost else 0.0


def share(state: RunState, wp: WorkPackage) -> float | None:
    """Return what the next attempt of a work package may cost, in US dollars; None for any sum.

    What open attempts may still cost is not given to another one, so that all of them keep to the budget. Who
    could run at the same time gets as much. 0 if it must wait until one of them has ended.
    """
    rest = left(state.policy.budget, state.spent, wp)
    if rest is None or state.policy.budget.max_cost_usd is None:
        return rest
    held = kept(state, wp.id)
    free = state.policy.budget.max_cost_usd - (state.spent.cost_usd or 0.0) - held
    least = min(_least(state, wp), rest)
    if held and free + 1e-9 < least:
        return 0.0
    return max(0.0, min(rest, max(free / _sharers(state, wp), min(free, least))))


def _least(state: RunState, wp: WorkPackage) -> float:
    """Return what an attempt needs that is not to end at its limit for nothing, in US dollars."""
    dearest = max((one.cost_usd or 0.0 for each in state.wps.values() for one in each.used), default=0.0)
    last = wp.attempts[-1].max_cost_usd if wp.outcomes and wp.outcomes[-1] is Outcome.BUDGET else None
    return max(LEAST_SHARE_USD, dearest, 2.0 * (last or 0.0))


def _sharers(state: RunState, wp: WorkPackage) -> int:
    """Count the work packages that could have an attempt at once with this one, and have none."""
    others = [one for one in state.wps.values() if one.id != wp.id and one.phase is not Phase.FINISHED]
    idle = [one for one in others if one.open_attempt is None and not one.turn.assigned]
    ready = sum(one.begun or _may_begin(state, one) for one in idle)
    return max(1, min(state.policy.max_concurrent - (len(others) - len(idle)), ready + 1))


def _may_begin(state: RunState, wp: WorkPackage) -> bool:
    return all(one in state.wps and state.wps[one].lane.complete for one in wp.dependencies)


def no_money(state: RunState, wp: WorkPackage) -> str:
    """Say that running attempts may use up the budget, "" if something is left for another one."""
    limit = state.policy.budget.max_cost_usd
    held = kept(state, wp.id) if limit is not None else 0.0
    if limit is None or not held or share(state, wp) != 0.0:
        return ""
    spent = state.spent.cost_usd or 0.0
    return (
        f"waits for money: of ${limit:.2f}, ${spent:.2f} are spent and ${held:.2f} kept for running attempts"
    )
