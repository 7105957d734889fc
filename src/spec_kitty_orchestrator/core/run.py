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

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property, reduce

from spec_kitty_orchestrator.core import commands, events, run_events
from spec_kitty_orchestrator.core.approval import found_at
from spec_kitty_orchestrator.core.lifecycle import agent_needed, agrees, seen, step
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Phase, Usage, total
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.transitions import reopen
from spec_kitty_orchestrator.core.work_package import AT_WORK, Grant, Turn, WorkPackage, bounded

LONGEST_BACK_OFF_S = 600.0
"""What a later start still waits of the back-off of an earlier one, at most."""

FIRST_REST_S = 60.0
"""How long an agent rests that does not tell when its limit ends; it doubles with every limit in a row."""
LONGEST_REST_S = 1800.0

PROBE_S = 120.0
"""How long an attempt must run without meeting the limit before others of its agent follow."""


@dataclass(frozen=True)
class Quota:
    """One agent's limit.

    Attributes:
        until: it rests until then; after that one attempt tries it before the others do.
        strikes: limits in a row, each met after the rest before it.
        rest_s: how long that rest is, in seconds.
        back: whether an attempt after the rest ran for long enough that others may follow.
    """

    until: datetime
    strikes: int
    rest_s: float
    back: bool = False


@dataclass(frozen=True)
class Probe:
    """An attempt that tries whether an agent's quota is back; others of the agent follow at `ends`."""

    wp_id: str
    ends: datetime


@dataclass(frozen=True)
class RunState:
    """One mission's run.

    Attributes:
        policy: of the present start.
        wps: every work package of the mission, in its order.
        quotas: by agent, the limits that were met; an attempt that ends well removes one.
        probes: by agent, the attempt that tries its quota.
        began_at: when this start began, None before the first.
        now: when the last event happened.
        idle_since: since when nothing is at work, None while something is.
        short_of: what the machine is short of, "" if it has enough.
        short_since: since when.
        waits_for_quotas_since: since when the run waits for nothing but quotas, None while it does not.
        waited_for_quotas_s: how long it waited for them before that, in seconds, since an agent worked.
        nearing: limits of the budget of which people were warned.
        signals: those that came, oldest first.
        draining: whether the first one lets agents end by themselves.
        ending: why the run ends before nothing is left to do, besides a signal.
        failure: what broke first, None if nothing did.
        stopped_by_failure: whether something broke without which no attempt can go on.
    """

    policy: Policy
    wps: Mapping[str, WorkPackage] = field(default_factory=dict)
    quotas: Mapping[str, Quota] = field(default_factory=dict)
    probes: Mapping[str, Probe] = field(default_factory=dict)
    began_at: datetime | None = None
    now: datetime | None = None
    idle_since: datetime | None = None
    short_of: str = ""
    short_since: datetime | None = None
    waits_for_quotas_since: datetime | None = None
    waited_for_quotas_s: float = 0.0
    nearing: frozenset[str] = frozenset()
    signals: tuple[int, ...] = ()
    draining: bool = False
    ending: run_events.Ending | None = None
    failure: run_events.Failed | None = None
    stopped_by_failure: bool = False

    @property
    def closing(self) -> bool:
        """Whether nothing new may begin any more."""
        return bool(self.signals or self.ending or self.failure)

    @property
    def stopping(self) -> bool:
        """Whether agents at work are stopped, too."""
        stopped = bool(self.signals) and not (self.draining and len(self.signals) == 1)
        return stopped or self.stopped_by_failure or (self.ending is not None and self.ending.stop)

    @cached_property
    def spent(self) -> Usage:
        """What all attempts of all runs used, counting a limit that an agent says is used up as used up."""
        used = total(one.usage for one in self.wps.values())
        capped = sum(one.capped_usd for one in self.wps.values())
        return replace(used, cost_usd=(used.cost_usd or 0.0) + capped) if capped else used

    @cached_property
    def at_work(self) -> tuple[WorkPackage, ...]:
        """The work packages that go on at present, in a slot or ahead of one."""
        return tuple(one for one in self.wps.values() if one.turn.grant in AT_WORK)

    @cached_property
    def free_slots(self) -> int:
        """How many more work packages may be given a slot."""
        return self.policy.max_concurrent - sum(one.turn.grant is Grant.SLOT for one in self.wps.values())

    @cached_property
    def left(self) -> tuple[WorkPackage, ...]:
        """The work packages that are not at work and have not left the run."""
        return tuple(
            one
            for one in self.wps.values()
            if one.phase is not Phase.FINISHED and one.turn.grant not in AT_WORK
        )

    def places_taken(self, agent: str, besides: str = "") -> int:
        """Count the work packages, besides this one, that have an attempt of an agent or are about to."""
        return sum(self._has_place(one, agent) for one in self.wps.values() if one.id != besides)

    @staticmethod
    def _has_place(wp: WorkPackage, agent: str) -> bool:
        if wp.open_attempt is not None and wp.phase is not Phase.FINISHED:
            return wp.open_attempt.agent == agent
        return wp.turn.grant in AT_WORK and wp.turn.agent == agent

    def unmet(self, wp: WorkPackage) -> Iterator[str]:
        """Yield the dependencies of a work package that are not complete, also those that do not exist."""
        for one in wp.dependencies:
            if one not in self.wps or not self.wps[one].lane.complete:
                yield one


def fold(lines: Iterable[run_events.Line], policy: Policy) -> RunState:
    """Return the state in which a journal left its mission's run; `policy` is used until its first start.

    Raises:
        InvalidTransition: the journal was written by a version with other edges.
    """
    return reduce(replayed, lines, RunState(policy))


def replayed(state: RunState, line: run_events.Line) -> RunState:
    """Return the state after one more line of a journal. Raises `InvalidTransition`."""
    if isinstance(line, run_events.RunStarted):
        return begin(state, line)
    if isinstance(line, run_events.Entry):
        return happened(state, line.at, line.wp_id, line.event)[0]
    return state


def begin(state: RunState, start: run_events.RunStarted) -> RunState:
    """Join what earlier starts knew with the mission's lanes; what was parked gets a new chance."""
    wps, mission, at = {}, start.mission, start.at
    for wp_id, lane in mission.lanes.items():
        known = state.wps.get(wp_id) or WorkPackage(wp_id)
        wp = replace(known, dependencies=mission.dependencies.get(wp_id, ()), lane=lane)
        if wp.phase is Phase.FINISHED and not agrees(wp):
            wp = reopen(wp)
        wp = replace(bounded(seen(wp, lane), tries=0), turn=_still_resting(wp.turn, at))
        wps[wp_id] = found_at(wp, start.tips)
    return RunState(start.policy, wps, _bounded_rests(state.quotas, at), began_at=at, now=at, idle_since=at)


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
    state = replace(state, idle_since=None if state.at_work else state.idle_since or at)
    return follow_quotas(state, before, wp, event, at), command


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
        agent = agent if has_place(state, agent, wp) else ""
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


def follow_quotas(
    state: RunState, before: WorkPackage, wp: WorkPackage, event: events.Event, at: datetime
) -> RunState:
    """Return what is known of the quotas once `event` made `wp` of the work package that was `before`."""
    quotas, probes = dict(state.quotas), dict(state.probes)
    waited_s = state.waited_for_quotas_s
    if isinstance(event, events.Assigned) and event.agent in quotas and not quotas[event.agent].back:
        probes.setdefault(event.agent, Probe(wp.id, at + timedelta(seconds=PROBE_S)))
    attempt = before.open_attempt
    if isinstance(event, events.AgentExited) and attempt is not None and attempt.id == event.attempt_id:
        _note(quotas, attempt.agent, event.report, at)
        if event.report.outcome is not Outcome.RATE_LIMITED:
            waited_s = 0.0
    for agent, probe in list(probes.items()):
        if probe.wp_id == wp.id and not _has_attempt(wp, agent):
            del probes[agent]
            if agent in quotas and at >= probe.ends:
                quotas[agent] = replace(quotas[agent], back=quotas[agent].until <= at)
    if (quotas, probes, waited_s) == (state.quotas, state.probes, state.waited_for_quotas_s):
        return state
    return replace(state, quotas=quotas, probes=probes, waited_for_quotas_s=waited_s)


def _has_attempt(wp: WorkPackage, agent: str) -> bool:
    open_one = wp.open_attempt
    return open_one.agent == agent if open_one is not None else wp.turn.assigned and wp.turn.agent == agent


def _note(quotas: dict[str, Quota], agent: str, report: AgentReport, at: datetime) -> None:
    known = quotas.get(agent)
    if report.outcome is Outcome.OK:
        quotas.pop(agent, None)
    if report.outcome is not Outcome.RATE_LIMITED:
        return
    told_s = report.retry_after_s or 0.0
    if known is not None and at < known.until:
        # Another attempt met the same limit; a longer time that it tells is the better knowledge.
        until = max(known.until, at + timedelta(seconds=told_s))
        quotas[agent] = replace(known, until=until, rest_s=max(known.rest_s, told_s))
        return
    strikes = known.strikes + 1 if known is not None else 1
    rest_s = min(FIRST_REST_S * 2.0 ** min(strikes - 1, 10), LONGEST_REST_S)
    # What the agent tells is believed, but not again once it was wrong.
    rest_s = told_s if told_s and strikes == 1 else max(told_s, rest_s)
    quotas[agent] = Quota(at + timedelta(seconds=rest_s), strikes, rest_s)


def has_place(state: RunState, agent: str, wp: WorkPackage) -> bool:
    """Tell whether an agent may run one more attempt; who waits for it longer comes first."""
    most = state.policy.max_per_agent.get(agent)
    if most is None or (wp.at_work and wp.turn.agent == agent):
        return True
    if state.places_taken(agent, wp.id) >= most:
        return False
    waiting = [
        one.turn.queued_at
        for one in state.left
        if one.turn.queued_for == agent
        and one.id != wp.id
        and one.turn.queued_at is not None
        # Who may not begin while the machine is short of something is in nobody's way.
        and not (one.untried and state.short_of)
    ]
    free = most - state.places_taken(agent, wp.id)
    if wp.turn.queued_for == agent and wp.turn.queued_at is not None:
        waiting = [one for one in waiting if one < wp.turn.queued_at]
    return len(waiting) < free
