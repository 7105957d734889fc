"""What is known of a whole run: the fold of its events, and all that a decision may look at."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from spec_kitty_orchestrator.core.model import Phase, Usage, total
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.run_events import Ending, Failed
from spec_kitty_orchestrator.core.work_package import AT_WORK, Grant, WorkPackage


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
    ending: Ending | None = None
    failure: Failed | None = None
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

    @property
    def spent(self) -> Usage:
        """What all attempts of all runs used, counting a limit that an agent says is used up as used up."""
        used = total(one.usage for one in self.wps.values())
        capped = sum(one.capped_usd for one in self.wps.values())
        return replace(used, cost_usd=(used.cost_usd or 0.0) + capped) if capped else used

    @property
    def at_work(self) -> tuple[WorkPackage, ...]:
        """The work packages that go on at present, in a slot or ahead of one."""
        return tuple(one for one in self.wps.values() if one.turn.grant in AT_WORK)

    @property
    def free_slots(self) -> int:
        """How many more work packages may be given a slot."""
        return self.policy.max_concurrent - sum(one.turn.grant is Grant.SLOT for one in self.wps.values())

    @property
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
