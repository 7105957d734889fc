"""A run without a driver: its loop over core alone, one event after the other, on a clock of its own."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from random import Random

from spec_kitty_orchestrator.core.events import Assigned, AttemptOpened, Claimed, Event, Resolving, Scheduled
from spec_kitty_orchestrator.core.lifecycle import pending
from spec_kitty_orchestrator.core.limits import admission, announcements, limits
from spec_kitty_orchestrator.core.model import Lane, MissionState, Phase
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.ranking import Order
from spec_kitty_orchestrator.core.run import RunState, fold, happened, replayed
from spec_kitty_orchestrator.core.run_events import Ending, Entry, Line, RunEvent, RunStarted, Waiting
from spec_kitty_orchestrator.core.scheduler import Finished, Idle, Stalled, Start, plan, unmet
from spec_kitty_orchestrator.core.work_package import Grant

from .builders import NOON
from .world import World

MOST_STEPS = 20_000


class Loop:
    """Goes on with the run that `lines` tell of, and keeps its journal."""

    def __init__(
        self,
        policy: Policy,
        dependencies: Mapping[str, tuple[str, ...]],
        worlds: Mapping[str, World],
        dice: Random,
        lines: tuple[Line, ...] = (),
        order: Order | None = None,
    ) -> None:
        self.order = order
        self.worlds, self.dice, self.lines = worlds, dice, list(lines)
        self.state = fold(lines, policy)
        self.now = lines[-1].at if lines else NOON
        known = {one: wp.lane for one, wp in self.state.wps.items()}
        lanes = {one: known.get(one, Lane.PLANNED) for one in dependencies}
        started = RunStarted(self.now, MissionState("m", lanes, dependencies), "me", policy, "1")
        self.lines.append(started)
        self.state = replayed(self.state, started)

    def run(self, watch: Callable[[RunState], None] = lambda _: None) -> Finished | Stalled:
        """Go on to the end; `watch` sees every state."""
        for _ in range(MOST_STEPS):
            watch(self.state)
            decision = plan(self.state, self.now, self.order)
            busy = [one.id for one in self.state.wps.values() if one.turn.grant is not None]
            if busy and (isinstance(decision, Idle) or self.dice.random() < 0.5):
                self._perform(self.dice.choice(busy))
                continue
            match decision:
                case Start(wp_id=wp_id, grant=grant):
                    self._grant(wp_id, grant)
                case Ending():
                    self.happen("", decision)
                case Idle(until=until, reasons=reasons, quotas=quotas):
                    assert until is not None
                    self.happen("", Waiting(reasons, quotas))
                    self.now = max(self.now, until)
                case Finished() | Stalled():
                    return decision
        raise AssertionError("it does not end: " + str(plan(self.state, self.now)))

    def happen(self, wp_id: str, event: Event | RunEvent) -> None:
        """Let an event happen, and those that follow from it."""
        follows: Event | RunEvent | None = event
        while follows is not None:
            before = self.state
            self._check(before, wp_id, follows, self.now)
            self.state, command = happened(before, self.now, wp_id, follows)
            self.lines.append(Entry(self.now, wp_id, follows))
            self.lines += [Entry(self.now, "", told) for told in announcements(before, self.state)]
            follows = admission(self.state, wp_id, command, follows, self.now)

    def _grant(self, wp_id: str, grant: Grant) -> None:
        wp = self.state.wps[wp_id]
        assert wp.turn.grant is None
        if grant is Grant.RESOLVE or wp.workspace is None:
            self.happen(wp_id, Resolving())
        else:
            self.happen(wp_id, Scheduled(wp.lane, wp.workspace, ahead=grant is Grant.CLAIM_AHEAD))

    def _perform(self, wp_id: str) -> None:
        self.now += timedelta(seconds=self.dice.choice([0.0, 1.0, 30.0, 200.0]))
        wp = self.state.wps[wp_id]
        command = pending(wp, self.state.policy)
        self.happen(wp_id, self.worlds[wp_id].perform(wp, command))

    @staticmethod
    def _check(state: RunState, wp_id: str, event: Event | RunEvent, now: datetime) -> None:
        """Check what must hold of events that begin something."""
        match event:
            case Claimed():
                # Others may have moved a lane since it was given its turn, but not here.
                assert not list(unmet(state, state.wps[wp_id])) or state.wps[wp_id].lane is not Lane.PLANNED
            case Assigned(agent=agent):
                most = state.policy.max_per_agent.get(agent, 99)
                assert state.places_taken(agent, besides=wp_id) < most
                assert limits(state, now).ending is None
            case AttemptOpened():
                assert state.wps[wp_id].phase in (Phase.IMPLEMENTING, Phase.REVIEWING)


def assert_bounds(state: RunState) -> None:
    """Check the slots, the worktrees and the places at agents."""
    slots = [one for one in state.wps.values() if one.turn.grant is Grant.SLOT]
    assert len(slots) <= state.policy.max_concurrent
    assert sum(one.turn.grant is Grant.CLAIM_AHEAD for one in state.wps.values()) <= 1
    keys = [one.workspace.key for one in state.at_work if one.workspace is not None]
    assert len(keys) == len(set(keys)) == len(state.at_work)
    for agent, most in state.policy.max_per_agent.items():
        running = [one for one in state.at_work if one.open_attempt and one.open_attempt.agent == agent]
        assert len(running) <= most
