"""What is known of a mission's run at a moment: frozen data, made by the fold of `core.run`."""

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property

from spec_kitty_orchestrator.core import run_events
from spec_kitty_orchestrator.core.model import Phase, Usage, total
from spec_kitty_orchestrator.core.pauses import Pauses
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.records import dataclass, field, replace
from spec_kitty_orchestrator.core.suspension import Failures, Suspension
from spec_kitty_orchestrator.core.work_package import AT_WORK, Grant, WorkPackage

__all__ = ["RunState", "has_place"]


@dataclass(frozen=True)
class RunState:
    """One mission's run.

    Attributes:
        policy: of the present start.
        wps: every work package of the mission, in its order.
        suspended: by agent, why and until when it rests; an attempt that ends well removes one.
        failing: by agent, its failures that are alike since an attempt of it ended well.
        causes: why work packages were left to a person, each once, in the order in which they came up.
        spent_before: what earlier runs used whose journals were put aside.
        cost_before: by work package, what it cost in them, in US dollars.
        own_order: whether work packages go on in an order of the caller's, which nobody else knows.
        began_at: when this start began, None before the first.
        now: when the last event happened.
        idle_since: since when nothing is at work, None while something is.
        short_of: what the machine is short of, "" if it has enough.
        short_since: since when.
        waits_for_quotas_since: since when the run waits for nothing but quotas, None while it does not.
        waited_for_quotas_s: how long it waited for them before that, in seconds, since an agent worked.
        nearing: limits of the budget of which people were warned.
        conflicts: of branches, that are known.
        signals: those that came, oldest first.
        draining: whether the first one lets agents end by themselves.
        ending: why the run ends before nothing is left to do, besides a signal.
        failure: what broke first, None if nothing did.
        stopped_by_failure: whether something broke without which no attempt can go on.
        finalized: what became of the mission after its runs, for as long as all of it is complete.
        handed_over: that it was packed to go on elsewhere, None if it goes on here.
        pauses: what people have paused, in this start or before it.
        orders: ids of the orders that were carried out.
    """

    policy: Policy
    wps: Mapping[str, WorkPackage] = field(default_factory=dict)
    suspended: Mapping[str, Suspension] = field(default_factory=dict)
    failing: Mapping[str, Failures] = field(default_factory=dict)
    causes: tuple[str, ...] = ()
    spent_before: Usage = field(default_factory=Usage)
    cost_before: Mapping[str, float] = field(default_factory=dict)
    own_order: bool = False
    began_at: datetime | None = None
    now: datetime | None = None
    idle_since: datetime | None = None
    short_of: str = ""
    short_since: datetime | None = None
    waits_for_quotas_since: datetime | None = None
    waited_for_quotas_s: float = 0.0
    nearing: frozenset[str] = frozenset()
    conflicts: tuple[run_events.ConflictForecast, ...] = ()
    signals: tuple[int, ...] = ()
    draining: bool = False
    ending: run_events.Ending | None = None
    failure: run_events.Failed | None = None
    stopped_by_failure: bool = False
    finalized: run_events.Finalized = field(default_factory=run_events.Finalized)
    handed_over: run_events.HandedOver | None = None
    pauses: Pauses = ()
    orders: frozenset[str] = frozenset()

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
        used = self.told
        capped = sum(one.capped_usd for one in self.wps.values())
        return replace(used, cost_usd=(used.cost_usd or 0.0) + capped) if capped else used

    @property
    def told(self) -> Usage:
        """What all attempts of all runs used, as agents told it."""
        return total([self.spent_before, *(one.usage for one in self.wps.values())])

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
        waits = (one for one in self.wps.values() if one.turn.grant not in AT_WORK)
        return tuple(one for one in waits if one.phase is not Phase.FINISHED)

    def places_taken(self, agent: str, besides: str = "") -> int:
        """Count the work packages, besides this one, that have an attempt of an agent or are about to."""
        return sum(self._has_place(one, agent) for one in self.wps.values() if one.id != besides)

    @staticmethod
    def _has_place(wp: WorkPackage, agent: str) -> bool:
        if wp.open_attempt is not None and wp.phase is not Phase.FINISHED:
            return wp.open_attempt.agent == agent
        return wp.turn.grant in AT_WORK and wp.turn.agent == agent

    def begun_by(self, agent: str, besides: str = "") -> list[datetime]:
        """Return when the attempts of an agent began that this start assigned to others and that run."""
        return [
            one.turn.began_at
            for one in self.wps.values()
            if one.id != besides and one.turn.began_at is not None and _has_attempt(one, agent)
        ]


def _has_attempt(wp: WorkPackage, agent: str) -> bool:
    open_one = wp.open_attempt
    return open_one.agent == agent if open_one is not None else wp.turn.assigned and wp.turn.agent == agent


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
