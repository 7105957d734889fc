"""Keeps what is known of the agents' quotas, and who waits for one or tries one, while a run goes on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import anyio

from spec_kitty_orchestrator.core.events import AgentExited, AttemptOpened
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Policy, Role, WorkPackage
from spec_kitty_orchestrator.core.quota import OnRateLimit, Patience, Quota, Rest, Use, choose, noted, used_up
from spec_kitty_orchestrator.driver.recover import in_steps
from spec_kitty_orchestrator.ports import Entry, Line, WallClock

PROBE_S = 120.0
"""How long an attempt must run without meeting the limit before others of its agent follow."""

LOOK_S = 60.0
"""Between two looks at the clock while somebody waits for a quota: the machine may have slept."""

_MARGIN_S = 0.001


def known_quotas(lines: Iterable[Line]) -> dict[str, Quota]:
    """Read from a journal what is known of each agent's quota, also of those whose rest is over."""
    quotas: dict[str, Quota] = {}
    agents: dict[str, str] = {}
    for line in lines:
        quotas = _folded(quotas, agents, line)
    return quotas


def resting(quotas: Mapping[str, Quota], now: datetime) -> dict[str, datetime]:
    """Return the agents that rest at this time, and until when."""
    return {agent: one.until for agent, one in quotas.items() if now < one.until}


def _folded(quotas: dict[str, Quota], agents: dict[str, str], line: Line) -> dict[str, Quota]:
    if isinstance(line, Entry):
        if isinstance(line.event, AttemptOpened):
            agents[line.event.attempt.id] = line.event.attempt.agent
        elif isinstance(line.event, AgentExited):
            agent = agents.pop(line.event.attempt_id, "")
            return noted(quotas, agent, line.event.report, line.at) if agent else quotas
    return quotas


@dataclass(frozen=True)
class _Probe:
    """An attempt that tries whether an agent's quota is back; `ends` is on the event loop's clock."""

    wp_id: str
    ends: float


class Quotas:
    """Who may work now.

    Attributes:
        known: what is known of each agent's quota.
    """

    def __init__(self, policy: Policy, patience: Patience, clock: WallClock) -> None:
        self._policy, self._patience, self._clock = policy, patience, clock
        self.known: dict[str, Quota] = {}
        self._back: set[str] = set()
        self._probes: dict[str, _Probe] = {}
        self._waiting: dict[str, Rest] = {}
        self._waited_s = 0.0

    async def begin(self, lines: Sequence[Line]) -> None:
        """Start from what the journal knows."""
        agents: dict[str, str] = {}
        async for line in in_steps(lines):
            self.known = _folded(self.known, agents, line)

    @property
    def stops(self) -> bool:
        """Whether a quota that is used up ends the run."""
        return self._patience.on_rate_limit is OnRateLimit.STOP

    @property
    def resting(self) -> dict[str, datetime]:
        """The agents that rest now, and until when."""
        return resting(self.known, self._clock.now())

    def ask(self, wp: WorkPackage, role: Role) -> Use | Rest:
        """Choose who makes a work package's next attempt."""
        position, agents = wp.order(role, self._policy)
        positions = [position]
        if self._patience.on_rate_limit is OnRateLimit.FALLBACK:
            positions += range(max(position, wp.stand_in_after) + 1, len(agents))
        return self._choose(agents, positions, wp.id)

    def ask_for_new_work(self) -> Rest | None:
        """Tell whether a work package that nobody has begun must wait, and for whom."""
        agents = self._policy.impl_agents
        fallback = self._patience.on_rate_limit is OnRateLimit.FALLBACK
        answer = self._choose(agents, range(len(agents) if fallback else 1), "")
        return answer if isinstance(answer, Rest) else None

    def _choose(self, agents: Sequence[str], positions: Sequence[int], wp_id: str) -> Use | Rest:
        self._settle()
        quotas = {agent: quota for agent, quota in self.known.items() if agent not in self._back}
        tried = {agent for agent, one in self._probes.items() if one.wp_id != wp_id}
        return choose(agents, positions, quotas, self._clock.now(), tried)

    def _settle(self) -> None:
        """Let others follow attempts that ran for long enough; a limit met later still doubles the rest."""
        for agent, one in list(self._probes.items()):
            if anyio.current_time() >= one.ends:
                del self._probes[agent]
                self._back.add(agent)

    def rest(self, wp_id: str, rest: Rest) -> float:
        """Let a work package wait; return until when, on the event loop's clock."""
        self._waiting[wp_id] = rest
        return self.due(rest)

    def due(self, rest: Rest) -> float:
        """Return when it is time to ask again, on the event loop's clock."""
        if rest.until is None:
            probe = self._probes.get(rest.agent)
            return probe.ends if probe is not None else anyio.current_time()
        left_s = (rest.until - self._clock.now()).total_seconds()
        return anyio.current_time() + max(left_s, 0.0) + _MARGIN_S

    def woke(self, wp_id: str) -> None:
        """Note that a work package no longer waits."""
        self._waiting.pop(wp_id, None)

    def began(self, wp_id: str, agent: str) -> None:
        """Note that an attempt is opened: where the agent's rest is over, it tries the quota."""
        if agent in self.known and agent not in self._back and agent not in self._probes:
            self._probes[agent] = _Probe(wp_id, anyio.current_time() + PROBE_S)

    def left(self, wp_id: str) -> list[str]:
        """Note that a work package has no attempt any more; return who may ask again because of that."""
        self._settle()
        tried = [agent for agent, one in self._probes.items() if one.wp_id == wp_id]
        for agent in tried:
            del self._probes[agent]
        return [one for one, rest in self._waiting.items() if rest.agent in tried]

    def ended(self, wp_id: str, agent: str, report: AgentReport, at: datetime) -> list[str]:
        """Note how an attempt of an agent ended; return who may ask again because of that."""
        self.known = noted(self.known, agent, report, at)
        if report.outcome is Outcome.RATE_LIMITED:
            self._back.discard(agent)
            return self.left(wp_id)
        self._waited_s = 0.0
        if report.outcome is not Outcome.OK:
            return self.left(wp_id)
        self._back.discard(agent)
        return [*self.left(wp_id), *(one for one, rest in self._waiting.items() if rest.agent == agent)]

    def passed(self) -> list[str]:
        """Return who waits for a time that has passed, by the time of day."""
        now = self._clock.now()
        return [one for one, rest in self._waiting.items() if rest.until is not None and rest.until <= now]

    def alone(self, ids: Iterable[str]) -> bool:
        """Tell whether each of these waits for a quota."""
        return all(one in self._waiting for one in ids)

    def waited(self, seconds: float) -> None:
        """Note for how long nothing but quotas kept the run from going on."""
        self._waited_s += seconds

    def too_long(self, seconds: float) -> str:
        """Say why so many more seconds of waiting are too many, "" if they are not."""
        if self._waited_s + seconds <= self._patience.max_wait_s:
            return ""
        rests = "; ".join(f"{agent}: {used_up(until)}" for agent, until in sorted(self.resting.items()))
        hours = self._patience.max_wait_s / 3600
        return f"waiting for quotas would take longer than {hours:.3g} h ({rests or 'none is back yet'})"
