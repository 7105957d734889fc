"""A run as the fold of its events: the one state, and the one function that changes it, live and at a replay.

A later start folds the journal and joins what comes out with the host's lanes:

=============  ====================================================================
lane           what a start does with a work package that is not finished
=============  ====================================================================
planned        waits for its dependencies, is claimed
claimed        claimed again: harmless for the same actor, refused for another
in_progress    goes on where the journal left it; else as `claimed`
for_review     is reviewed
in_review      its review goes on if we began it; otherwise it is somebody else's
approved       is left alone: dependents can start
done           is left alone
blocked        is left alone and reported
canceled       is left alone and reported
=============  ====================================================================

An attempt that is open, work that is not yet submitted and a verdict that is not yet recorded go first,
whatever the lane: the host's answer settles it. Gates go on in every lane in which they could have begun.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import reduce

from spec_kitty_orchestrator.core import commands, events, pauses, run_events, steering
from spec_kitty_orchestrator.core.approval import found_at
from spec_kitty_orchestrator.core.causes import noted
from spec_kitty_orchestrator.core.lifecycle import agent_needed, agrees, resume, seen, step
from spec_kitty_orchestrator.core.model import Outcome, Phase, Taken, WaitsFor
from spec_kitty_orchestrator.core.operator_events import OperatorEvent, TakenOver, Told
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.core.run_state import RunState, has_place
from spec_kitty_orchestrator.core.suspension import (
    at_a_start,
    failed_again,
    is_about_the_agent,
    suspended_by,
)
from spec_kitty_orchestrator.core.transitions import reopen, spared, without_sessions
from spec_kitty_orchestrator.core.work_package import Grant, Turn, WorkPackage, bounded

__all__ = [
    "LONGEST_BACK_OFF_S",
    "RunState",
    "begin",
    "fold",
    "follow_agents",
    "happened",
    "has_place",
    "replayed",
]

LONGEST_BACK_OFF_S = 600.0
"""What a later start still waits of the back-off of an earlier one, at most."""


def fold(lines: Iterable[run_events.Line], policy: Policy) -> RunState:
    """Return the state in which a journal left its mission's run; `policy` is used until its first start.

    Raises:
        InvalidTransition: the journal was written by a version with other edges.
    """
    return reduce(replayed, lines, RunState(policy))


def replayed(state: RunState, line: run_events.Line) -> RunState:
    """Return the state after one more line of a journal. Raises `InvalidTransition`."""
    if isinstance(line, run_events.RunStarted):
        return replace(begin(state, line), conflicts=state.conflicts)
    if isinstance(line, run_events.Entry):
        return happened(state, line.at, line.wp_id, line.event)[0]
    return state


def begin(state: RunState, start: run_events.RunStarted) -> RunState:
    """Join what earlier starts knew with the mission's lanes; what was parked gets a new chance."""
    wps, mission, at = {}, start.mission, start.at
    for wp_id, lane in mission.lanes.items():
        known = state.wps.get(wp_id) or WorkPackage(wp_id)
        told = (mission.dependencies.get(wp_id, ()), lane, wp_id in mission.ready)
        wp = replace(known, dependencies=told[0], lane=told[1], ready=told[2], refused_for=())
        wp = replace(wp, cost_before_usd=state.cost_before.get(wp_id, 0.0))
        if wp.phase is Phase.FINISHED and not agrees(wp):
            wp = reopen(wp)
        wp = replace(bounded(seen(wp, lane), tries=0), turn=_still_resting(wp.turn, at))
        wps[wp_id] = found_at(steering.cut_off(wp), start.tips)
    suspended = at_a_start(state.suspended, at)
    failing = {agent: one for agent, one in state.failing.items() if agent in suspended}
    kept = (suspended, failing, noted(state.causes, wps.values()), state.spent_before, state.cost_before)
    paused = pauses.among(state.pauses, wps)
    fresh = RunState(
        start.policy, wps, *kept, began_at=at, now=at, idle_since=at, pauses=paused, orders=state.orders
    )
    fresh = replace(fresh, own_order=start.own_order)
    complete = all(lane.complete for lane in mission.lanes.values())
    return replace(fresh, finalized=state.finalized) if complete else fresh


def _still_resting(turn: Turn, at: datetime) -> Turn:
    rests = turn.until is not None and at < turn.until and not turn.quota
    if not rests or turn.until is None:
        return Turn()
    # The clock may have been set meanwhile.
    return Turn(
        waits=turn.waits,
        waits_for=WaitsFor.BACK_OFF,
        until=min(turn.until, at + timedelta(seconds=LONGEST_BACK_OFF_S)),
    )


def happened(
    state: RunState, at: datetime, wp_id: str, event: run_events.AnyEvent
) -> tuple[RunState, commands.Command]:
    """Return the state after an event, and what its work package does next: nothing after one of the run.

    Raises:
        InvalidTransition: the event fits no edge of the work package's phase.
    """
    paused = pauses.following(state.pauses, wp_id, event, at)
    state = replace(state, now=at, pauses=paused, orders=_carried_out(state, event))
    if isinstance(event, run_events.RunEvent):
        return _of_run(state, event, at), commands.Wait()
    before = state.wps.get(wp_id) or WorkPackage(wp_id)
    wp, command = step(before, event, state.policy)
    state = follow_agents(state, before, event, at)
    if _is_not_to_blame(state, before, event, at):
        wp = spared(before, wp)
        command = resume(wp, state.policy)
    if isinstance(event, TakenOver):
        wp = replace(wp, taken=Taken(event.by, at))
    wp = replace(wp, turn=_turn(state, wp, event, command, at))
    state = replace(state, wps=_moved(state.wps, wp), causes=noted(state.causes, (wp,)))
    return replace(state, idle_since=None if state.at_work else state.idle_since or at), command


def _moved(wps: Mapping[str, WorkPackage], wp: WorkPackage) -> dict[str, WorkPackage]:
    """Return the work packages with `wp` as it is now; if its lane changed, nobody stays refused for it."""
    after = {**wps, wp.id: wp}
    before = wps.get(wp.id)
    if before is None or before.lane is not wp.lane:
        for one in wps.values():
            if wp.id in one.refused_for and one.id != wp.id:
                still = tuple(other for other in one.refused_for if other != wp.id)
                after[one.id] = replace(one, refused_for=still)
    return after


def _carried_out(state: RunState, event: run_events.AnyEvent) -> frozenset[str]:
    order = getattr(event, "order", "")
    return state.orders | {order} if order else state.orders


def _turn(
    state: RunState, wp: WorkPackage, event: events.Event, command: commands.Command, at: datetime
) -> Turn:
    """Return a work package's turn after `event`; the place at an agent is kept from the claim on."""
    turn = wp.turn
    if isinstance(event, Told) and turn.grant is None and not event.now:
        return turn
    if isinstance(event, OperatorEvent):
        # What is at work goes on to its end; what waits is looked at anew.
        return Turn() if turn.grant is None else turn
    if isinstance(event, events.Resolving):
        return replace(turn, grant=Grant.RESOLVE)
    if isinstance(event, events.Assigned):
        return replace(turn, began_at=at)
    if isinstance(command, commands.Finish):
        # Others may move a lane while the host is asked for the workspace; the answer is still to come.
        asked = turn.grant is Grant.RESOLVE and isinstance(event, events.LaneSeen)
        return turn if asked else Turn()
    if isinstance(event, events.Scheduled):
        grant = Grant.CLAIM_AHEAD if event.ahead else Grant.SLOT
        agent = "" if event.ahead else agent_needed(wp, state.policy)
        # Others may have moved its lane: then nobody has looked whether whom it needs now has a place.
        agent = agent if has_place(state, agent, wp) else ""
        return Turn(grant, agent, queued_at=turn.queued_at, queued_for=turn.queued_for)
    if isinstance(event, events.Deferred):
        return Turn(
            waits=event.reason,
            waits_for=event.waits_for,
            until=event.until,
            queued_at=at if event.agent else None,
            queued_for=event.agent,
            quota=event.quota,
            unspawned=wp.open_attempt is not None,
        )
    if isinstance(event, events.ReviewClaimed):
        # Another commit is under review: who makes the next attempt is decided anew.
        turn = replace(turn, assigned=False)
    if isinstance(command, commands.Wait):
        until = None if command.seconds is None else at + timedelta(seconds=command.seconds)
        return Turn(waits=command.reason, waits_for=WaitsFor.BACK_OFF, until=until)
    if not isinstance(
        command, commands.Claim | commands.ClaimReview | commands.OpenAttempt | commands.RunAgent
    ):
        return replace(turn, agent="", assigned=False)
    return turn


def _of_run(state: RunState, event: run_events.RunEvent, at: datetime) -> RunState:
    match event:
        case run_events.Waiting():
            return _waiting(state, event, at)
        case run_events.ResourcesShort(reason=reason):
            return replace(state, short_of=reason, short_since=(state.short_since or at) if reason else None)
        case run_events.BudgetNearing(name=name):
            return replace(state, nearing=state.nearing | {name})
        case run_events.ConflictForecast():
            return replace(state, conflicts=event.among(state.conflicts))
        case run_events.SpentBefore(usage=usage, cost_usd_of=cost_of):
            return replace(state, spent_before=usage, cost_before=cost_of)
        case run_events.ClockJumped(seconds=seconds):
            return _shifted(state, timedelta(seconds=seconds))
        case run_events.Signaled(number=number, drain=drain):
            return replace(state, signals=(*state.signals, number), draining=state.draining or drain)
        case run_events.Ending():
            return replace(state, ending=state.ending or event)
        case run_events.Failed(stop=stop):
            stops = state.stopped_by_failure or stop
            return replace(state, failure=state.failure or event, stopped_by_failure=stops)
        case run_events.Finalized(merged=merged, accepted=accepted):
            known = state.finalized
            both = run_events.Finalized(merged or known.merged, accepted or known.accepted)
            return replace(state, finalized=both)
        case run_events.HandedOver():
            return replace(state, handed_over=event)
        case run_events.Imported():
            return replace(state, wps=without_sessions(state.wps), handed_over=None)
        case run_events.SettingsChanged(policy=policy):
            # Of a new limit people are warned anew.
            return replace(state, policy=policy, nearing=frozenset())
        case (
            run_events.AgentSuspended()
            | run_events.AgentBack()
            | run_events.Paused()
            | run_events.Continued()
            | run_events.Notified()
        ):
            return state


def _waiting(state: RunState, event: run_events.Waiting, at: datetime) -> RunState:
    wps = dict(state.wps)
    for wp_id, reason in event.reasons.items():
        if wp_id in wps:
            kind = event.waits_for.get(wp_id, WaitsFor.RUN)
            wps[wp_id] = replace(wps[wp_id], turn=replace(wps[wp_id].turn, waits=reason, waits_for=kind))
    since, waited_s = state.waits_for_quotas_since, state.waited_for_quotas_s
    if since is not None and not event.quotas:
        waited_s += (at - since).total_seconds()
        since = None
    elif event.quotas:
        since = since or at
    return replace(state, wps=wps, waits_for_quotas_since=since, waited_for_quotas_s=waited_s)


def _shifted(state: RunState, by: timedelta) -> RunState:
    """Let no wait of this run be shorter because the clock jumped; a quota is back by the time of day."""

    def later(moment: datetime | None) -> datetime | None:
        return None if moment is None else moment + by

    wps = {
        wp.id: wp
        if wp.turn.quota
        else replace(
            wp,
            turn=replace(
                wp.turn,
                until=later(wp.turn.until),
                queued_at=later(wp.turn.queued_at),
                began_at=later(wp.turn.began_at),
            ),
        )
        for wp in state.wps.values()
    }
    return replace(
        state,
        wps=wps,
        began_at=later(state.began_at),
        idle_since=later(state.idle_since),
        short_since=later(state.short_since),
        waits_for_quotas_since=later(state.waits_for_quotas_since),
    )


def follow_agents(state: RunState, before: WorkPackage, event: events.Event, at: datetime) -> RunState:
    """Return what is known of the agents once `event` happened to the work package that was `before`."""
    attempt = before.open_attempt
    if not isinstance(event, events.AgentExited) or attempt is None or attempt.id != event.attempt_id:
        return state
    agent, outcome, began_at = attempt.agent, event.report.outcome, before.turn.began_at
    failing, failures = dict(state.failing), None
    if outcome is Outcome.OK:
        failing.pop(agent, None)
    elif is_about_the_agent(event):
        took_s = (at - began_at).total_seconds() if began_at is not None else 0.0
        failures = failing[agent] = failed_again(failing.get(agent), before.id, event.report, took_s)
    suspended = {one: rest for one, rest in state.suspended.items() if one != agent}
    rest = suspended_by(state.suspended.get(agent), failures, event, began_at, at)
    if rest is not None:
        suspended[agent] = rest
    if suspended == state.suspended:
        suspended = dict(state.suspended)
    waited_s = state.waited_for_quotas_s if outcome is Outcome.RATE_LIMITED else 0.0
    return replace(state, suspended=suspended, failing=failing, waited_for_quotas_s=waited_s)


def _is_not_to_blame(state: RunState, before: WorkPackage, event: events.Event, at: datetime) -> bool:
    """Tell whether an attempt ended as those did for which its agent is now taken for broken."""
    if not isinstance(event, events.AgentExited) or before.open_attempt is None:
        return False
    rest = state.suspended.get(before.open_attempt.agent)
    same = before.open_attempt.id == event.attempt_id and is_about_the_agent(event)
    return same and rest is not None and bool(rest.broken) and at < rest.until
