"""Which work package goes on next, and why the others wait: recomputed from all that is known, each time.

What was begun comes first, then the longest remaining chain, then the id, unless a key of the caller's orders
them; one work package per workspace at a time, never more than the slots, and no more attempts of an agent
than it may run at once.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from spec_kitty_orchestrator.core import people
from spec_kitty_orchestrator.core.commands import Claim, OpenAttempt
from spec_kitty_orchestrator.core.events import Resolving, Scheduled
from spec_kitty_orchestrator.core.lifecycle import GOES_ON, agent_needed, resume
from spec_kitty_orchestrator.core.limits import (
    EXIT_QUOTA,
    Limits,
    Rest,
    closing_reason,
    limits,
    no_money,
    no_place,
    nobody_left,
    out_of_patience,
    over,
    who,
)
from spec_kitty_orchestrator.core.model import Lane, Phase, WaitsFor
from spec_kitty_orchestrator.core.pauses import of_run
from spec_kitty_orchestrator.core.policy import OnRateLimit
from spec_kitty_orchestrator.core.ranking import Order, Ranking
from spec_kitty_orchestrator.core.records import dataclass, field, replace
from spec_kitty_orchestrator.core.refusals import MOST_TRIES
from spec_kitty_orchestrator.core.run import RunState, has_place
from spec_kitty_orchestrator.core.run_events import BudgetNearing, Ending
from spec_kitty_orchestrator.core.work_package import AT_WORK, NOT_BEGUN, WORKSPACE_LANES, Grant, WorkPackage

__all__ = [
    "SHORTAGE_PATIENCE_S",
    "WAITS_FOR_SLOT",
    "Blocker",
    "Decision",
    "Finished",
    "Idle",
    "Order",
    "Stalled",
    "Start",
    "blockers",
    "in_words",
    "needed_first",
    "plan",
    "unmet",
]

WAITS_FOR_SLOT = "waits for a slot"

SHORTAGE_PATIENCE_S = 600.0
"""How long a shortage of the machine is waited for while nothing of ours is at work that could end it."""


@dataclass(frozen=True)
class Start:
    """This work package goes on now; `reasons` has a line for each one that waits, as in all answers."""

    wp_id: str
    grant: Grant
    reasons: Mapping[str, str] = field(default_factory=dict)

    def is_new(self, state: RunState) -> bool:
        """Tell whether an agent is to begin with the work package."""
        return self.grant is not Grant.RESOLVE and state.wps[self.wp_id].untried

    def event(self, wp: WorkPackage) -> Resolving | Scheduled:
        """Return what happens to the work package with that."""
        if self.grant is Grant.RESOLVE or wp.workspace is None:
            return Resolving()
        return Scheduled(wp.lane, wp.workspace, ahead=self.grant is Grant.CLAIM_AHEAD)


@dataclass(frozen=True)
class Idle:
    """Nothing to start before something changes, or before `until`.

    Attributes:
        reasons: for each work package that waits.
        waits_for: the kind of each reason.
        quotas: whether the run waits for nothing but quotas.
        others: whether a slot is free that somebody outside this run may bring about a use of.
        warnings: of the budget, which are new.
    """

    until: datetime | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    quotas: bool = False
    others: bool = False
    warnings: tuple[BudgetNearing, ...] = ()
    waits_for: Mapping[str, WaitsFor] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """Every work package has left the run, or the run ends and nobody is at work any more."""

    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stalled:
    """Nothing runs and nothing can be started; `reasons` has a line for each work package left."""

    reasons: Mapping[str, str] = field(default_factory=dict)


Decision = Start | Idle | Finished | Stalled | Ending
"""What `plan` answers; `Ending` is an event of the run, to be let happen."""


@dataclass(frozen=True)
class Blocker:
    """What a work package waits for.

    Attributes:
        reason: in words.
        waits_for: the kind of it.
        until: when it is over, None if no time ends it.
        rest: if it is an agent that rests.
        held_by: the work package that has its workspace to itself, "" if that is not the reason.
    """

    reason: str
    waits_for: WaitsFor
    until: datetime | None = None
    rest: Rest | None = None
    held_by: str = ""


@dataclass(frozen=True)
class _Overview:
    """What a plan needs to know of all work packages at once.

    Attributes:
        ranking: who comes first.
        holders: by the key of a workspace, who has it to itself: who works in it, else the first to hold it.
        unknown: who holds a workspace of which nobody knows which it is, "" for nobody.
        limits: how the run stands to them.
    """

    ranking: Ranking
    holders: Mapping[str, str]
    unknown: str
    limits: Limits


def _look(state: RunState, now: datetime, order: Order | None) -> _Overview:
    holders: dict[str, str] = {}
    wps = state.wps.values()
    for wp in sorted(wps, key=lambda one: (one.turn.grant not in AT_WORK, not (one.begun or one.foreign))):
        at_work = wp.turn.grant in AT_WORK or wp.phase not in NOT_BEGUN
        if wp.workspace is not None and (at_work or wp.lane in WORKSPACE_LANES):
            holders.setdefault(wp.workspace.key, wp.id)
    return _Overview(
        Ranking(state, order),
        holders,
        next((wp.id for wp in wps if _holds_an_unknown_one(wp)), ""),
        limits(state, now),
    )


def plan(state: RunState, now: datetime, order: Order | None = None) -> Decision:
    """Decide what happens next in a run: who starts, what is waited for, or how it ends.

    Args:
        state: of the run.
        now: the time, aware.
        order: who goes first among those that can go on, see `Order`; None for the default order.

    Raises:
        UsageError: `order` raised, or gave results that cannot be compared.
    """
    seen = _look(state, now, order)
    blocked = {wp.id: _blocker(state, seen, wp, now) for wp in state.left}
    decision = _close(state, seen, blocked) if state.closing else _go_on(state, seen, blocked, now)
    if not isinstance(decision, Idle):
        return decision
    kinds = {one: blocker.waits_for if blocker else WaitsFor.SLOT for one, blocker in blocked.items()}
    return replace(decision, waits_for=kinds)


def _go_on(
    state: RunState, seen: _Overview, blocked: Mapping[str, Blocker | None], now: datetime
) -> Decision:
    rests = (one.rest for one in blocked.values() if one is not None and one.rest is not None)
    quota = next((one for one in rests if not (one.broken or one.probing or one.paused)), None)
    stops = quota is not None and state.policy.patience.on_rate_limit is OnRateLimit.STOP
    ending = Ending(EXIT_QUOTA, quota.reason) if quota and stops else seen.limits.ending
    if ending is not None:
        return ending
    reasons = _reasons(blocked)
    found = _start(state, seen, [wp for wp in state.left if blocked[wp.id] is None], now)
    if found is None:
        return _wait(state, seen, list(filter(None, blocked.values())), reasons, now)
    return Start(*found, {one: why for one, why in reasons.items() if one != found[0]})


def _reasons(blocked: Mapping[str, Blocker | None]) -> dict[str, str]:
    return {one: blocker.reason if blocker else WAITS_FOR_SLOT for one, blocker in blocked.items()}


def _start(
    state: RunState, seen: _Overview, ready: list[WorkPackage], now: datetime
) -> tuple[str, Grant] | None:
    to_resolve = _to_resolve(state, seen, now)
    if to_resolve:
        return to_resolve, Grant.RESOLVE
    if not ready:
        return None
    if taken := next((wp.id for wp in ready if people.tells_host(wp) and wp.taken is not None), ""):
        # No agent works for it: only the host is told.
        return taken, Grant.CLAIM_AHEAD
    first = min(ready, key=seen.ranking.rank)
    ahead = any(wp.turn.grant is Grant.CLAIM_AHEAD for wp in state.at_work)
    if state.free_slots > 0:
        # The last slot is for who is claimed ahead: it goes on without a stop.
        kept = ahead and state.free_slots == 1 and not first.begun
        return None if kept else (first.id, Grant.SLOT)
    # Who was claimed ahead before, and waits since a key lets others go first, is enough for the next slot.
    ahead = ahead or any(wp.begun and wp.untried for wp in ready)
    may = not first.begun and first.lane is Lane.PLANNED and not state.short_of
    return (first.id, Grant.CLAIM_AHEAD) if may and not ahead and _host_is_idle(state) else None


def _wait(
    state: RunState, seen: _Overview, blockers: list[Blocker], reasons: Mapping[str, str], now: datetime
) -> Decision:
    if not state.left and not state.at_work:
        return Finished()
    alone = not state.at_work and not any(wp.turn.grant is Grant.RESOLVE for wp in state.wps.values())
    timed = [one for one in blockers if one.until is not None]
    times = [one.until for one in timed if one.until is not None]
    rests = [one.rest for one in timed if one.rest is not None]
    quotas = alone and bool(timed) and len(rests) == len(timed)
    paused = any(one.waits_for is WaitsFor.PAUSE for one in blockers) or of_run(state.pauses) is not None
    broken = quotas and all(one.broken for one in rests) and not paused
    short = alone and any(one.reason == state.short_of for one in blockers)
    if broken and not short:
        return nobody_left(state)
    if quotas and not broken:
        ending = out_of_patience(state, now, min(times))
        if ending is not None:
            return ending
    if short:
        since = max(one for one in (state.short_since, state.idle_since) if one is not None)
        times.append(since + timedelta(seconds=SHORTAGE_PATIENCE_S))
    later = [one for one in times if one > now]
    if alone and not later and not paused:
        return Stalled(reasons)
    looks = [one for one in seen.limits.looks if one > now]
    can_help = bool(state.at_work) and state.free_slots > 0
    others = can_help and any(_held_up_by_others(state, seen, wp) for wp in state.left)
    return Idle(min((*later, *looks), default=None), reasons, quotas, others, seen.limits.warnings)


def blockers(state: RunState, now: datetime, order: Order | None = None) -> dict[str, Blocker | None]:
    """Return what each work package waits for that is not at work and has not left the run.

    None stands for a slot alone: those come first, in the order in which they get one. Args and Raises are
    those of `plan`.
    """
    seen = _look(state, now, order)
    found = {wp.id: _blocker(state, seen, wp, now) for wp in state.left}
    ordered = sorted(state.left, key=lambda wp: (found[wp.id] is not None, seen.ranking.rank(wp)))
    return {wp.id: found[wp.id] for wp in ordered}


def _close(state: RunState, seen: _Overview, blocked: Mapping[str, Blocker | None]) -> Decision:
    """Let what is at work end, and take up what an agent may still be at work on, unless all is stopped."""
    reasons = _reasons(blocked)
    for wp in state.left if not state.stopping and state.free_slots > 0 else ():
        if wp.open_attempt is not None and not wp.turn.unspawned and _holder(seen, wp) == wp.id:
            return Start(wp.id, Grant.SLOT, reasons)
    if state.at_work:
        return Idle(None, reasons, warnings=seen.limits.warnings)
    why = closing_reason(state)
    return Finished({one: why if text == WAITS_FOR_SLOT else text for one, text in reasons.items()})


def _blocker(state: RunState, seen: _Overview, wp: WorkPackage, now: datetime) -> Blocker | None:
    """Return what keeps a work package from going on, None if it only needs a slot."""
    first = Claim() if wp.phase is Phase.WAITING else resume(wp, state.policy)
    new, pause = not wp.begun, people.held_by_pause(wp, first, state.pauses)
    if pause is not None and pause.wp:
        return Blocker(pause.reason, WaitsFor.PAUSE)
    if needed := needed_first(state, wp):
        told = ", ".join(in_words(state, wp, one) for one in needed)
        return Blocker(f"waits for {told}", WaitsFor.DEPENDENCY)
    if pause is not None:
        return Blocker(pause.reason, WaitsFor.PAUSE)
    if wp.turn.until is not None and now < wp.turn.until and not wp.turn.quota:
        return Blocker(wp.turn.waits or wp.note, WaitsFor.BACK_OFF, wp.turn.until)
    if wp.workspace is None:
        return Blocker("its workspace is not known yet", WaitsFor.WORKSPACE)
    if new and seen.unknown:
        holder = state.wps[seen.unknown]
        until = holder.turn.until if holder.bounds.tries <= MOST_TRIES else None
        return Blocker(f"waits to learn which workspace {holder.id} holds", WaitsFor.WORKSPACE, until)
    rest = seen.limits.new_work
    if new and rest is not None and wp.lane not in (Lane.FOR_REVIEW, Lane.IN_REVIEW):
        return Blocker(rest.reason, rest.waits_for, rest.until, rest)
    if wp.untried and state.short_of:
        return Blocker(state.short_of, WaitsFor.MACHINE)
    held_by = _holder(seen, wp)
    if held_by != wp.id:
        taken = state.wps[held_by].taken
        why = f", {taken.told}" if taken is not None else ""
        return Blocker(f"its workspace is held by {held_by}{why}", WaitsFor.WORKSPACE, held_by=held_by)
    return _waits_for_agent(state, wp, now)


def needed_first(state: RunState, wp: WorkPackage) -> tuple[str, ...]:
    """Return the dependencies that keep a work package from going on: none once it was claimed."""
    unclaimed = not wp.begun or wp.phase is Phase.CLAIMING
    asked = unclaimed and wp.phase is not Phase.FINISHED and wp.lane in (Lane.PLANNED, Lane.CLAIMED)
    return tuple(unmet(state, wp)) if asked else ()


def unmet(state: RunState, wp: WorkPackage) -> Iterator[str]:
    """Yield the dependencies that keep a work package, also those that do not exist."""
    # Who is ready is told of planned ones alone: what is claimed is asked for, and refused if it is not.
    without = wp.ready or wp.lane is Lane.CLAIMED
    met = (Lane.CANCELED, Lane.APPROVED, Lane.DONE) if without else (Lane.APPROVED, Lane.DONE)
    for one in dict.fromkeys((*wp.dependencies, *wp.refused_for)):
        if one not in state.wps or state.wps[one].lane not in met or one in wp.refused_for:
            yield one


def in_words(state: RunState, waiting: WorkPackage, wp_id: str) -> str:
    """Name what a work package waits for, with what is odd about it."""
    if wp_id not in state.wps:
        return f"{wp_id} (not in the mission)"
    wp = state.wps[wp_id]
    if wp.taken is not None:
        return f"{wp_id} ({wp.taken.told})"
    if wp_id in waiting.refused_for:
        return f"{wp_id} ({wp.lane}, which the host does not take for done)"
    return f"{wp_id} ({wp.lane})" if wp.phase is Phase.FINISHED else wp_id


def _waits_for_agent(state: RunState, wp: WorkPackage, now: datetime) -> Blocker | None:
    command = resume(wp, state.policy)
    agent = agent_needed(wp, state.policy)
    if isinstance(command, OpenAttempt) and (wp.phase, wp.lane) not in GOES_ON:
        # Somebody moved it: it is taken up elsewhere, and needs no agent for that.
        return None
    if isinstance(command, OpenAttempt):
        if over(state.policy.budget, wp):
            return None
        found = who(state, wp, command.role, now)
        if isinstance(found, Rest):
            return Blocker(found.reason, found.waits_for, found.until, found)
        agent = found
    if agent and wp.open_attempt is None and not has_place(state, agent, wp):
        return Blocker(no_place(state, agent), WaitsFor.AGENT)
    short = no_money(state, wp) if agent and wp.open_attempt is None else ""
    return Blocker(short, WaitsFor.BUDGET) if short else None


def _holds_an_unknown_one(wp: WorkPackage) -> bool:
    left = wp.phase is not Phase.FINISHED or wp.foreign
    return wp.workspace is None and wp.lane in WORKSPACE_LANES and left


def _holder(seen: _Overview, wp: WorkPackage) -> str:
    """Return who has the workspace of a work package to itself; its own id if nobody else has."""
    return seen.holders.get(wp.workspace.key, wp.id) if wp.workspace is not None else wp.id


def _host_is_idle(state: RunState) -> bool:
    """Tell whether no work package waits for the host: its calls compete for the same cores."""
    return all(wp.open_attempt is not None or wp.phase is Phase.GATING for wp in state.at_work)


def _to_resolve(state: RunState, seen: _Overview, now: datetime) -> str:
    """Return whose workspace is asked for next, "" for nobody's.

    Those come first that could start in it or hold it already, several at once; the others one at a time,
    while the host is idle.
    """
    busy = sum(wp.turn.grant is Grant.RESOLVE for wp in state.wps.values())
    wanted = [wp for wp in state.wps.values() if _wants_workspace(wp, now)]
    if not wanted or busy >= state.policy.max_concurrent:
        return ""
    first = min(wanted, key=lambda wp: (_can_wait(state, wp), seen.ranking.place(wp)))
    may_wait = _can_wait(state, first)
    return "" if may_wait and (busy or not _host_is_idle(state)) else first.id


def _wants_workspace(wp: WorkPackage, now: datetime) -> bool:
    if wp.workspace is not None or wp.turn.grant is not None:
        return False
    rests = wp.turn.until is not None and now < wp.turn.until
    return not rests and (wp.phase is not Phase.FINISHED or wp.foreign)


def _can_wait(state: RunState, wp: WorkPackage) -> bool:
    return any(True for _ in unmet(state, wp)) and not _holds_an_unknown_one(wp)


def _held_up_by_others(state: RunState, seen: _Overview, wp: WorkPackage) -> bool:
    needed = list(unmet(state, wp)) if not wp.begun and wp.lane is Lane.PLANNED else []
    if needed:
        return any(one not in state.wps or state.wps[one].phase is Phase.FINISHED for one in needed)
    holder = _holder(seen, wp)
    return holder != wp.id and state.wps[holder].phase is Phase.FINISHED
