"""What one event makes of a run: the only way in which its state changes, live and at a replay."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from spec_kitty_orchestrator.core import commands, events, limits, run_events
from spec_kitty_orchestrator.core.lifecycle import agent_needed, agrees, seen, step
from spec_kitty_orchestrator.core.model import MissionState, Phase
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.run_state import Quota, RunState
from spec_kitty_orchestrator.core.transitions import reopen
from spec_kitty_orchestrator.core.work_package import Grant, Turn, WorkPackage, bounded

LONGEST_BACK_OFF_S = 600.0
"""What a later start still waits of the back-off of an earlier one, at most."""


def begin(state: RunState, policy: Policy, mission: MissionState, at: datetime) -> RunState:
    """Join what earlier starts knew with the mission's lanes; what was parked gets a new chance."""
    wps = {}
    for wp_id, lane in mission.lanes.items():
        known = state.wps.get(wp_id) or WorkPackage(wp_id)
        wp = replace(known, dependencies=mission.dependencies.get(wp_id, ()), lane=lane)
        if wp.phase is Phase.FINISHED and not agrees(wp):
            wp = reopen(wp)
        wps[wp_id] = replace(bounded(seen(wp, lane), tries=0), turn=_still_resting(wp.turn, at))
    return RunState(policy, wps, _bounded_rests(state.quotas, at), began_at=at, now=at, idle_since=at)


def _still_resting(turn: Turn, at: datetime) -> Turn:
    rests = turn.until is not None and at < turn.until and not turn.quota
    if not rests or turn.until is None:
        return Turn()
    # The clock may have been set meanwhile.
    return Turn(waits=turn.waits, until=min(turn.until, at + timedelta(seconds=LONGEST_BACK_OFF_S)))


def _bounded_rests(quotas: Mapping[str, Quota], at: datetime) -> dict[str, Quota]:
    """Let no rest be longer than it was when it began: the clock may have been set meanwhile."""
    return {
        agent: replace(one, until=min(one.until, at + timedelta(seconds=one.rest_s)))
        for agent, one in quotas.items()
    }


def happened(
    state: RunState, at: datetime, wp_id: str, event: run_events.AnyEvent
) -> tuple[RunState, commands.Command]:
    """Return the state after an event, and what its work package does next: nothing after one of the run.

    Raises:
        InvalidTransition: the event fits no edge of the work package's phase.
    """
    state = replace(state, now=at)
    if isinstance(event, run_events.RunEvent):
        return _of_run(state, event, at), commands.Wait()
    before = state.wps.get(wp_id) or WorkPackage(wp_id)
    wp, command = step(before, event, state.policy)
    wp = replace(wp, turn=_turn(state, wp, event, command, at))
    state = replace(state, wps={**state.wps, wp_id: wp})
    if not state.at_work:
        state = replace(state, idle_since=state.idle_since or at)
    else:
        state = replace(state, idle_since=None)
    return limits.follow(state, before, wp, event, at), command


def _turn(
    state: RunState, wp: WorkPackage, event: events.Event, command: commands.Command, at: datetime
) -> Turn:
    """Return a work package's turn after `event`; the place at an agent is kept from the claim on."""
    turn = wp.turn
    if isinstance(event, events.Resolving):
        return replace(turn, grant=Grant.RESOLVE)
    if isinstance(command, commands.Finish):
        # Others may move a lane while the host is asked for the workspace; the answer is still to come.
        asked = turn.grant is Grant.RESOLVE and isinstance(event, events.LaneSeen)
        return turn if asked else Turn()
    if isinstance(event, events.Scheduled):
        grant = Grant.CLAIM_AHEAD if event.ahead else Grant.SLOT
        agent = "" if event.ahead else agent_needed(wp, state.policy)
        # Others may have moved its lane: then nobody has looked whether whom it needs now has a place.
        agent = agent if limits.has_place(state, agent, wp) else ""
        return Turn(grant, agent, queued_at=turn.queued_at, queued_for=turn.queued_for)
    if isinstance(event, events.Deferred):
        queued_at = at if event.agent else None
        return Turn(
            waits=event.reason,
            until=event.until,
            queued_at=queued_at,
            queued_for=event.agent,
            quota=event.quota,
            unspawned=wp.open_attempt is not None,
        )
    if isinstance(event, events.ReviewClaimed):
        # Another commit is under review: who makes the next attempt is decided anew.
        turn = replace(turn, assigned=False)
    if isinstance(command, commands.Wait):
        until = None if command.seconds is None else at + timedelta(seconds=command.seconds)
        return Turn(waits=command.reason, until=until)
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
        case run_events.ClockJumped(seconds=seconds):
            return _shifted(state, timedelta(seconds=seconds))
        case run_events.Signaled(number=number, drain=drain):
            return replace(state, signals=(*state.signals, number), draining=state.draining or drain)
        case run_events.Ending():
            return replace(state, ending=state.ending or event)
        case run_events.Failed(stop=stop):
            stops = state.stopped_by_failure or stop
            return replace(state, failure=state.failure or event, stopped_by_failure=stops)
        case run_events.AgentSuspended() | run_events.AgentBack():
            return state


def _waiting(state: RunState, event: run_events.Waiting, at: datetime) -> RunState:
    wps = dict(state.wps)
    for wp_id, reason in event.reasons.items():
        if wp_id in wps:
            wps[wp_id] = replace(wps[wp_id], turn=replace(wps[wp_id].turn, waits=reason))
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
            wp, turn=replace(wp.turn, until=later(wp.turn.until), queued_at=later(wp.turn.queued_at))
        )
        for wp in state.wps.values()
    }
    return replace(
        state,
        wps=wps,
        probes={agent: replace(one, ends=one.ends + by) for agent, one in state.probes.items()},
        began_at=later(state.began_at),
        idle_since=later(state.idle_since),
        short_since=later(state.short_since),
        waits_for_quotas_since=later(state.waits_for_quotas_since),
    )


def announcements(before: RunState, after: RunState) -> list[run_events.RunEvent]:
    """Return what a change of the quotas means to people."""
    told: list[run_events.RunEvent] = []
    for agent, quota in after.quotas.items():
        known = before.quotas.get(agent)
        if known is None or known.until != quota.until:
            told.append(run_events.AgentSuspended(agent, quota.until, limits.used_up(quota.until)))
    told += [run_events.AgentBack(agent) for agent in before.quotas if agent not in after.quotas]
    return told
