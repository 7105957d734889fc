"""What any driver of a mission needs, joined: its state, who performs commands, the lanes as last read."""

import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from spec_kitty_orchestrator import ports
from spec_kitty_orchestrator.core.model import MissionState
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.prompts import Prompts
from spec_kitty_orchestrator.core.run_events import RunStarted
from spec_kitty_orchestrator.driver.clock import RunClock
from spec_kitty_orchestrator.driver.ledger import Ledger
from spec_kitty_orchestrator.driver.mission import Mission
from spec_kitty_orchestrator.driver.perform import Performer
from spec_kitty_orchestrator.driver.result import RunResult, conclude
from spec_kitty_orchestrator.errors import RunActive
from spec_kitty_orchestrator.ports.gates import Gates

__all__ = ["Parts", "new_attempt_id"]


def new_attempt_id() -> str:
    """Return an id that an implementer cannot guess, so that its text can hold no verdict for a review."""
    return secrets.token_hex(8)


class Parts:
    """The parts of one start of a mission; those that are ports are described in `ports`.

    Args:
        mission: its slug.
        actor: the name under which the host knows us.
        policy: what decisions depend on.
        lock: held while the start goes on, so that there are no two.
        host: talks to spec-kitty.
        agents: runs attempts.
        workspaces: git.
        journal: the record of the mission's runs.
        clock: the time of day.
        observer: is told of every line of the journal.
        prompts: the texts for agents.
        version: ours, for the journal.
        settings: those of the run, with which the next start goes on; for the journal.
        tick_command: how an implementer calls the host to tick subtasks.
        new_id: makes attempt ids.
        gates: runs what must pass before a review is paid for; None if there is nothing to run.
        setup: runs what a new worktree needs, as gates; None if there is nothing to run.

    Attributes:
        agents: as given; `agents.stop_all` stops what is at work.
        workspaces: as given.
        observer: as given; `observer.said` tells people something.
        gates: as given.
        setup: as given.
        settings: as given, {} for None.
        clock: the time of day for `plan`, `clock.now()`.
        ledger: the state of the run, and whatever happens.
        lanes: the mission as the host last told it, `lanes.state`.
        performer: performs the commands of work packages; `performer.host` is the host.
    """

    agents: ports.AgentRunner
    workspaces: ports.Workspaces
    observer: ports.Observer
    gates: Gates | None
    setup: Gates | None
    settings: Mapping[str, object]
    clock: RunClock
    ledger: Ledger
    lanes: Mission
    performer: Performer

    def __init__(
        self,
        mission: str,
        actor: str,
        policy: Policy,
        *,
        lock: ports.Lock,
        host: ports.Host,
        agents: ports.AgentRunner,
        workspaces: ports.Workspaces,
        journal: ports.Journal,
        clock: ports.WallClock,
        observer: ports.Observer,
        prompts: Prompts,
        version: str,
        settings: Mapping[str, object] | None = None,
        tick_command: str = "",
        new_id: Callable[[], str] = new_attempt_id,
        gates: Gates | None = None,
        setup: Gates | None = None,
    ) -> None:
        self._lock, self._actor, self._policy, self._version = lock, actor, policy, version
        self.agents, self.workspaces, self.observer = agents, workspaces, observer
        self.gates, self.setup, self.settings = gates, setup, settings or {}
        self.clock, self._used = RunClock(clock), False
        self.ledger = Ledger(policy, journal, self.clock, observer)
        self.lanes = Mission(host, mission, workspaces.primary_branch)
        self.performer = Performer(
            mission,
            actor,
            lambda: self.ledger.state.policy,
            host,
            agents,
            workspaces,
            self.lanes,
            self.ledger.happened,
            prompts,
            tick_command,
            new_id,
            gates,
            setup,
            lambda: self.ledger.state.wps,
        )

    @asynccontextmanager
    async def started(
        self, state: MissionState | None = None, *, own_order: bool = False
    ) -> AsyncIterator[None]:
        """Hold the lock, take up what earlier starts left, and open this one in the journal.

        Args:
            state: what the caller has just read of the mission, which spares a read of the host.
            own_order: whether work packages go on in another order than the default one, so that `status`
                tells nobody a place in the queue.

        Raises:
            RunActive: another run holds the lock, or these parts were used before.
            JournalError: the journal is damaged, or cannot be written.
            HostError: the mission cannot be read.
        """
        async with self._lock:
            # In here: whoever holds the lock may enter it again.
            if self._used:
                raise RunActive(f"these parts of {self.lanes.state.slug} drive it, or drove it: make others")
            self._used = True
            await self.ledger.replay()
            branch = await self.lanes.begin(state, self.ledger.state.wps)
            tips = await self.workspaces.branches()
            begun = (self._actor, self._policy, self._version, self.settings, branch, tips, own_order)
            await self.ledger.begin(RunStarted(self.clock.now(), self.lanes.state, *begun))
            for one in self.ledger.state.pauses:
                self.observer.said(one.reason)
            yield

    async def look(self) -> None:
        """Read the mission again, and take over what others did. Raises `HostError`."""
        await self.lanes.refresh()
        await self.see_lanes()

    async def see_lanes(self) -> None:
        """Take over the lanes last read; whoever is at work settles its own."""
        ledger, lanes = self.ledger, self.lanes
        for wp_id in lanes.state.lanes:
            if lanes.news(wp_id, ledger.state.wps.get(wp_id)) is None:
                continue
            async with ledger.alone:
                # It may have been taken over, or be at work, meanwhile.
                seen = lanes.news(wp_id, ledger.state.wps.get(wp_id))
                if seen is not None:
                    await ledger.apply(wp_id, seen)

    async def conclude(self, reasons: Mapping[str, str]) -> RunResult:
        """Close the start in the journal, and say what it came to.

        Args:
            reasons: why work packages that are left did not go on, as the plan said that ended it.

        Raises:
            JournalError: the journal cannot be written.
        """
        result = conclude(self.ledger.state, self.lanes.state, reasons, self.clock.now())
        complete = sum(one.lane.complete for one in result.work_packages)
        ended = f"; {result.ended}" if result.ended else ""
        summary = f"{complete} of {len(result.work_packages)} complete{ended}"
        await self.ledger.end(result.exit_code, summary)
        return result
