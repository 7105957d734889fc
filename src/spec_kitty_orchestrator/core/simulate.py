"""A run on virtual time: the real `plan` and the real edges, while chance says how attempts and steps end."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from heapq import heappop, heappush

from spec_kitty_orchestrator.core import commands, events, run_events
from spec_kitty_orchestrator.core.chance import Chance
from spec_kitty_orchestrator.core.lifecycle import pending
from spec_kitty_orchestrator.core.limits import admission
from spec_kitty_orchestrator.core.model import (
    AgentReport,
    Attempt,
    Evidence,
    GateResult,
    Lane,
    Role,
    Workspace,
)
from spec_kitty_orchestrator.core.records import dataclass, field, replace
from spec_kitty_orchestrator.core.run import RunState, happened
from spec_kitty_orchestrator.core.samples import END, STEPS, End, Sample
from spec_kitty_orchestrator.core.scheduler import Finished, Idle, Stalled, Start, plan, unmet
from spec_kitty_orchestrator.core.verdict import Ruling, Verdict
from spec_kitty_orchestrator.core.work_package import AT_WORK, Grant, WorkPackage

__all__ = ["Known", "Simulated", "simulate"]

MOST_STEPS = 100_000
"""A bound: no run of 99 work packages comes near it."""


@dataclass(frozen=True)
class Known:
    """What a state does not hold of a run.

    Attributes:
        places: workspaces that are not resolved yet, by work package; each has its own where one is missing.
        opened: by work package, when the attempt at work was opened.
    """

    places: Mapping[str, Workspace] = field(default_factory=dict)
    opened: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True)
class Simulated:
    """What came of one simulation.

    Attributes:
        seconds: from now to its end.
        cost_usd: of its attempts, as far as they are told; None if none is.
        complete: whether every work package was approved.
        ending: why it ended before nothing was left to do, "" if it did not.
        path: the work packages that one after the other made it so long.
        waits: by reason, how long those waited for something else than each other, in seconds.
    """

    seconds: float
    cost_usd: float | None
    complete: bool
    ending: str
    path: tuple[str, ...]
    waits: Mapping[str, float]


def simulate(state: RunState, now: datetime, known: Known, chance: Chance) -> Simulated:
    """Go on from a state to the end of its run."""
    return _Simulation(state, now, known, chance).run()


class _Simulation:
    def __init__(self, state: RunState, now: datetime, known: Known, chance: Chance) -> None:
        self._state, self._began, self._now = state, now, now
        self._known, self._chance = known, chance
        self._coming: list[tuple[datetime, int, str, events.Event]] = []
        self._count = 0
        self._cost_usd: float | None = None
        self._ending = ""
        self._ended: dict[str, datetime] = {}
        self._before: dict[str, str] = {}
        self._waits: dict[str, tuple[str, datetime | None]] = {}
        self._waited: dict[str, dict[str, float]] = {}
        self._again: set[str] = set()

    def run(self) -> Simulated:
        """Go on to the end."""
        # Nobody knows how long the machine stays short of something.
        self._state = replace(self._state, short_of="", short_since=None)
        for wp in list(self._state.wps.values()):
            if wp.turn.grant in AT_WORK:
                self._begin(wp.id, pending(wp, self._state.policy))
            elif wp.workspace is None or wp.turn.grant is Grant.RESOLVE:
                # It takes no time that counts: the host is asked for it while agents work.
                place = self._known.places.get(wp.id) or wp.workspace or Workspace(wp.id, wp.id)
                self._happen(wp.id, events.WorkspaceResolved(place))
        for _ in range(MOST_STEPS):
            decision = plan(self._state, self._now)
            self._note(decision.reasons if not isinstance(decision, run_events.Ending) else {})
            match decision:
                case Start(wp_id=wp_id, grant=grant):
                    self._grant(self._state.wps[wp_id], grant)
                case run_events.Ending(reason=reason):
                    self._ending = reason
                    self._happen("", decision)
                    if decision.stop:
                        break
                case Idle():
                    if not self._pass_time(decision):
                        break
                case Finished() | Stalled():
                    break
        return self._result()

    def _grant(self, wp: WorkPackage, grant: Grant) -> None:
        assert wp.workspace is not None
        self._happen(wp.id, events.Scheduled(wp.lane, wp.workspace, ahead=grant is Grant.CLAIM_AHEAD))

    def _pass_time(self, idle: Idle) -> bool:
        """Let happen what comes next, up to what a plan could be changed by; False if nothing comes."""
        if idle.quotas is not (self._state.waits_for_quotas_since is not None):
            self._happen("", run_events.Waiting({}, idle.quotas))
        for warning in idle.warnings:
            self._happen("", warning)
        queued = any(since is not None for _, since in self._waits.values())
        while self._coming and (idle.until is None or self._coming[0][0] <= idle.until):
            self._now, _, wp_id, event = heappop(self._coming)
            command = self._happen(wp_id, event)
            if isinstance(command, commands.Wait | commands.Finish):
                return True
            # An agent or a slot may be free, or the host idle, so that somebody is claimed ahead.
            if queued and isinstance(event, events.AgentExited | events.AttemptOpened | events.Committed):
                return True
        if idle.until is None:
            return False
        self._now = max(self._now, idle.until)
        return True

    def _happen(self, wp_id: str, event: run_events.AnyEvent) -> commands.Command:
        follows: run_events.AnyEvent | None = event
        while follows is not None:
            self._state, command = happened(self._state, self._now, wp_id, follows)
            follows = admission(self._state, wp_id, command, follows, self._now)
        if isinstance(command, commands.Finish):
            self._ended[wp_id] = self._now
        if not isinstance(command, commands.Wait | commands.Finish):
            self._begin(wp_id, command)
        return command

    def _begin(self, wp_id: str, command: commands.Command) -> None:
        """Draw what a command comes to, and when."""
        wp = self._state.wps[wp_id]
        self._count += 1
        if isinstance(command, commands.RunAgent):
            seconds, event = self._attempt(wp, command.attempt)
        else:
            event = self._event(wp, command)
            seconds = self._chance.step(STEPS.get(type(event), ""))
        heappush(self._coming, (self._now + timedelta(seconds=seconds), self._count, wp_id, event))

    def _attempt(self, wp: WorkPackage, attempt: Attempt) -> tuple[float, events.Event]:
        since = self._known.opened.get(wp.id)
        ran_s = 0.0
        if since is not None and self._now == self._began:
            ran_s = max(0.0, (self._now - since).total_seconds())
        drawn = self._chance.attempt(attempt.role, attempt.agent, ran_s)
        if drawn.usage.cost_usd is not None:
            self._cost_usd = (self._cost_usd or 0.0) + drawn.usage.cost_usd
        if attempt.role is Role.IMPLEMENT and drawn.end is End.AGAIN:
            self._again.add(wp.id)
        return max(0.0, drawn.seconds - ran_s), _exited(attempt, drawn)

    def _event(self, wp: WorkPackage, command: commands.Command) -> events.Event:
        """Return what a command gives where nothing is wrong but what an attempt left."""
        new, gates = f"commit {self._count}", self._state.policy.gates
        match command:
            case commands.Claim():
                assert wp.workspace is not None
                return events.Claimed(wp.workspace, wp.work.head or "base")
            case commands.OpenAttempt(role=role, agent=agent, number=number):
                head = wp.work.head if role is Role.REVIEW else ""
                return events.AttemptOpened(Attempt(f"attempt {self._count}", number, role, agent, "", head))
            case commands.Commit() if wp.id in self._again:
                self._again.remove(wp.id)
                return events.CommitRefused("another round")
            case commands.Commit():
                return events.Committed(Evidence(wp.work.base, new))
            case commands.PrepareWorkspace():
                return events.SetUp("")
            case commands.RunGates(head=head):
                passed = (GateResult(one.name, one.command, head, ok=True) for one in gates)
                return events.GatesPassed(tuple(passed))
            case commands.Submit():
                return events.Submitted()
            case commands.TickSubtasks(ids=ids):
                return events.SubtasksTicked(ids)
            case commands.ClaimReview():
                return events.ReviewClaimed(wp.work.base or "base", wp.work.head or new)
            case commands.Record(to=lane):
                return events.Recorded(lane)
            case commands.Park(block=block):
                return events.Parked(Lane.BLOCKED if block else wp.lane)
            case _:
                raise AssertionError(f"nothing is performed for {command}")

    def _note(self, reasons: Mapping[str, str]) -> None:
        """Keep for how long each work package waits for something, others' work aside."""
        for wp_id in [one for one in self._waits if self._waits[one][0] != reasons.get(one)]:
            reason, since = self._waits.pop(wp_id)
            if since is not None:
                waited = self._waited.setdefault(wp_id, defaultdict(float))
                waited[reason] += (self._now - since).total_seconds()
        for wp_id, reason in reasons.items():
            if wp_id not in self._waits:
                wp = self._state.wps[wp_id]
                holder = self._holder(wp)
                if holder:
                    self._before[wp_id] = holder
                others = holder or any(True for _ in unmet(self._state, wp))
                self._waits[wp_id] = (reason, None if others else self._now)

    def _holder(self, wp: WorkPackage) -> str:
        """Return who works where a work package is to be worked on, "" if nobody does."""
        if wp.workspace is None:
            return ""
        key = wp.workspace.key
        begun = (one for one in self._state.wps.values() if one.begun and one.id != wp.id)
        return next((one.id for one in begun if one.workspace and one.workspace.key == key), "")

    def _path(self) -> tuple[str, ...]:
        """Return who made it so long: from the end back, who was waited for last."""
        path: list[str] = []
        found = max(self._ended, key=self._ended.__getitem__, default="")
        while found and found not in path:
            path.append(found)
            waited_for = (*self._state.wps[found].dependencies, self._before.get(found, ""))
            ended = [one for one in waited_for if one in self._ended]
            found = max(ended, key=self._ended.__getitem__, default="")
        return tuple(reversed(path))

    def _result(self) -> Simulated:
        path = self._path()
        waits: dict[str, float] = defaultdict(float)
        for wp_id in path:
            for reason, seconds in self._waited.get(wp_id, {}).items():
                waits[reason] += seconds
        ended = self._now + timedelta(seconds=self._chance.step(END))
        return Simulated(
            (ended - self._began).total_seconds(),
            self._cost_usd,
            all(wp.lane.complete or wp.lane is Lane.CANCELED for wp in self._state.wps.values()),
            self._ending,
            path,
            waits,
        )


def _exited(attempt: Attempt, drawn: Sample) -> events.AgentExited:
    verdict = None
    if attempt.role is Role.REVIEW and drawn.end is not End.FAILED:
        ruling = Ruling.APPROVED if drawn.end is End.GOOD else Ruling.CHANGES_REQUESTED
        # No two reviews ask for the same, which would be another end.
        verdict = Verdict(ruling, attempt.head, attempt.id, attempt.agent, attempt.id)
    return events.AgentExited(attempt.id, AgentReport(drawn.outcome, usage=drawn.usage), verdict=verdict)
