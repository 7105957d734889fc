"""Any sequence of starts, crashes, signals, lost replies and lanes moved by hand keeps the promises."""

import math
from collections.abc import Awaitable, Callable
from signal import SIGINT
from typing import Any

import anyio
import anyio.lowlevel
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.driver.builders import Power, Stage, longer
from tests.orders import any_order
from trio.testing import MockClock

from spec_kitty_orchestrator.core import ranking
from spec_kitty_orchestrator.core.commands import Command, OpenAttempt, Resolve, RunAgent
from spec_kitty_orchestrator.core.events import Event
from spec_kitty_orchestrator.core.limits import EXIT_QUOTA
from spec_kitty_orchestrator.core.model import Lane, Outcome, Result, Role
from spec_kitty_orchestrator.core.orders import (
    Approve,
    Continue,
    Drain,
    HandBack,
    Order,
    Pause,
    Retry,
    Skip,
    Stop,
    TakeOver,
    Tell,
)
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.core.work_package import Grant, WorkPackage
from spec_kitty_orchestrator.driver.engine import Orchestrator
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.errors import HostTimeout
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.memory_orders import MemoryOrders
from spec_kitty_orchestrator.testing.scripted_agents import Play, verdict
from spec_kitty_orchestrator.testing.scripted_gates import Check

NAMES = ("WP01", "WP02", "WP03", "WP04")

MOODS: tuple[Callable[[AttemptRequest], Play], ...] = (
    lambda r: Play(seconds=5),
    lambda r: Play(seconds=20),
    lambda r: Play(seconds=5),
    lambda r: Play(outcome=Outcome.RATE_LIMITED, retry_after_s=30),
    lambda r: Play(outcome=Outcome.CRASHED),
    lambda r: Play(text=verdict(r, "changes_requested", "again") if r.role is Role.REVIEW else None),
    lambda r: Play(text="prose"),
    lambda r: Play(edits=("stray.py",)),
)
"""What an attempt may do; which one it does is drawn for each place in the order of attempts."""

CHECKS = (
    Check(),
    Check(seconds=7, leaves=("build.log",)),
    Check(),
    Check("failed", seconds=3, leaves=("build.log",)),
    Check("broken"),
    Check(commits=True, leaves=("formatted.py",)),
)
"""What a turn of the gates may do."""

GATES = (Gate("lint", ("ruff",)), Gate("tests", ("pytest",)))

ORDERS: st.SearchStrategy[Order] = st.one_of(
    st.builds(Pause, st.sampled_from(["", "ada"])),
    st.builds(Pause, st.just(""), st.sampled_from(NAMES)),
    st.builds(Continue),
    st.builds(Continue, st.just(""), st.sampled_from(NAMES)),
    st.builds(Stop, st.sampled_from(NAMES)),
    st.builds(Retry, st.sampled_from(NAMES), st.sampled_from(["", "use a dict"])),
    st.builds(Skip, st.sampled_from(NAMES)),
    st.builds(Tell, st.sampled_from(NAMES), st.just("use tabs"), st.booleans()),
    st.builds(Drain),
)

moments = st.integers(1, 160).map(lambda quarter: quarter / 4)
lanes = st.sampled_from(list(Lane))
calls = st.sampled_from(["start-implementation", "start-review", "transition"])


def let_all_go_on(orders: MemoryOrders) -> None:
    """End whatever was paused."""
    for order in (Continue(), Continue("ada"), *(Continue("", wp) for wp in NAMES)):
        orders.put(order)


class Machine(RuleBasedStateMachine):
    """Starts of one mission on one machine, between which and during which the world moves."""

    mission: Stage

    @initialize(
        edges=st.lists(st.booleans(), min_size=6, max_size=6),
        shares=st.lists(st.sampled_from("abc"), min_size=4, max_size=4),
        moods=st.lists(st.sampled_from(MOODS), min_size=1, max_size=12),
        limit=st.integers(1, 3),
        latency_s=st.sampled_from([0.0, 1.0]),
        agents=st.sampled_from([("ada",), ("ada", "eve")]),
        per_agent=st.sampled_from([{}, {"ada": 1}, {"ada": 2, "eve": 1}]),
        poll_interval_s=st.sampled_from([2.0, 30.0]),
        gates=st.sampled_from([(), GATES]),
        quorum=st.booleans(),
        families=st.sampled_from([{}, {"ada": "a", "eve": "a"}, {"ada": "a", "eve": "b"}]),
        checks=st.lists(st.sampled_from(CHECKS), min_size=1, max_size=7),
        order=any_order(),
    )
    def begin(
        self,
        edges: list[bool],
        shares: list[str],
        moods: list[Callable[[AttemptRequest], Play]],
        limit: int,
        latency_s: float,
        agents: tuple[str, ...],
        per_agent: dict[str, int],
        poll_interval_s: float,
        gates: tuple[Gate, ...],
        quorum: bool,
        families: dict[str, str],
        checks: list[Check],
        order: ranking.Order | None,
    ) -> None:
        pairs = [(one, other) for place, one in enumerate(NAMES) for other in NAMES[:place]]
        chosen = [pair for pair, there in zip(pairs, edges, strict=True) if there]
        dependencies = {name: tuple(other for one, other in chosen if one == name) for name in NAMES}
        self.clock = MockClock(autojump_threshold=0)
        self.performing: set[str] = set()
        self.per_agent, self.poll_interval_s, self.order = per_agent, poll_interval_s, order
        self.mission = Stage(
            dependencies,
            lambda r: moods[int(r.id.removeprefix("attempt")) % len(moods)](r),
            lane_ids={name: f"lane-{key}" for name, key in zip(NAMES, shares, strict=True)},
            max_concurrent=limit,
            latency_s=latency_s,
            policy=longer(
                impl_agents=agents,
                review_agents=agents,
                max_attempts=4,
                max_review_cycles=2,
                gates=gates,
                review_quorum=len(agents) if quorum else 1,
                families=families,
            ),
            checks=lambda wp, head, turn: checks[(int(head, 16) + turn) % len(checks)],
        )

    def _play(self, act: Callable[[], Awaitable[Any]]) -> Any:
        async def bounded() -> Any:
            with anyio.fail_after(100_000):
                return await act()

        return trio.run(bounded, clock=self.clock)

    def _engine(self, orders: MemoryOrders | None = None) -> Orchestrator:
        """Build an engine that is watched: one command per work package, and no more than the slots."""
        if orders is None:
            orders = MemoryOrders()
            let_all_go_on(orders)
        engine = self.mission.orchestrator(
            max_per_agent=self.per_agent,
            poll_interval_s=self.poll_interval_s,
            orders=orders,
            order=self.order,
        )
        performer = engine._parts.performer
        self.performing.clear()
        at_agents: dict[str, str] = {}

        class Watched:
            async def perform(watched, wp: WorkPackage, command: Command) -> Event:  # noqa: N805
                assert wp.id not in self.performing, "two commands for one work package"
                self.performing.add(wp.id)
                assert isinstance(command, Resolve) or wp.at_work
                state = self.mission.watcher.state
                # One more than there are slots may be claimed, never run.
                assert state is None or state.free_slots >= 0
                assert not isinstance(command, OpenAttempt | RunAgent) or wp.turn.grant is Grant.SLOT
                if isinstance(command, OpenAttempt):
                    at_agents[wp.id] = command.agent
                if isinstance(command, RunAgent):
                    at_agents[wp.id] = command.attempt.agent
                for agent, most in self.per_agent.items():
                    assert list(at_agents.values()).count(agent) <= most
                try:
                    return await performer.perform(wp, command)
                finally:
                    self.performing.discard(wp.id)
                    if not isinstance(command, OpenAttempt):
                        at_agents.pop(wp.id, None)

        engine._parts.performer = Watched()  # type: ignore[assignment]
        return engine

    def _assert_told(self, result: RunResult) -> None:
        assert result.exit_code in (0, 1, 6, EXIT_QUOTA)
        for one in result.work_packages:
            assert one.lane.complete or result.reasons[one.id]
        # What others completed while we worked on it is told, and is no success.
        well = [one.lane.complete and one.result is not Result.UNREVIEWED for one in result.work_packages]
        assert (result.exit_code == 0) == all(well)
        assert self.mission.agents.running == []

    @rule()
    def runs_to_its_end(self) -> None:
        self._assert_told(self._play(lambda: self._engine().run()))
        lanes = self.mission.host.lanes
        again = self._play(lambda: self.mission.host.mission_state("demo"))
        assert again.lanes == lanes

    @rule(moment=moments)
    def is_cut_off(self, moment: float) -> None:
        async def act() -> None:
            with anyio.move_on_after(moment):
                await self._engine().run()

        self._play(act)

    @rule(line=st.integers(1, 40))
    def loses_power(self, line: int) -> None:
        async def act() -> None:
            engine = self._engine()
            agents, self.mission.journal.dies_at = self.mission.agents, line
            stop, agents.stop_all = agents.stop_all, _nothing  # type: ignore[method-assign]
            try:
                await engine.run()
            except Power:
                pass
            finally:
                agents.stop_all = stop  # type: ignore[method-assign]
                self.mission.journal.dies_at = None

        self._play(act)

    @rule(moment=moments, stubborn_s=st.sampled_from([0.0, 3.0, 100.0]))
    def is_interrupted(self, moment: float, stubborn_s: float) -> None:
        async def act() -> None:
            engine = self._engine()
            self.mission.agents.stubborn_s = stubborn_s
            started: list[int] = []

            async def signals() -> None:
                await anyio.sleep(moment)
                engine.interrupt(SIGINT)
                started.append(len(self.mission.agents.runs))

            async with anyio.create_task_group() as tg:
                tg.start_soon(signals)
                result = await engine.run()
                tg.cancel_scope.cancel()
            self.mission.agents.stubborn_s = 0.0
            assert result.exit_code in ((0, 1, 130) if started else (0, 1, 6, EXIT_QUOTA))
            assert started in ([], [len(self.mission.agents.runs)])
            assert self.mission.agents.running == []

        self._play(act)

    @rule(given=st.lists(st.tuples(moments, ORDERS), min_size=1, max_size=6), ends=st.booleans())
    def is_steered(self, given: list[tuple[float, Order]], ends: bool) -> None:
        """People give orders, and in the end let all go on, unless the run is cut off before."""
        orders, began = MemoryOrders(), 0.0

        async def person() -> None:
            for moment, order in sorted(given, key=lambda one: one[0]):
                await anyio.sleep_until(began + moment)
                orders.put(order)
            await anyio.sleep_until(began + 100)
            let_all_go_on(orders)

        async def act() -> None:
            nonlocal began
            began = anyio.current_time()
            with anyio.move_on_after(math.inf if ends else 60):
                async with anyio.create_task_group() as tg:
                    tg.start_soon(person)
                    result = await self._engine(orders).run()
                    assert result.exit_code in (0, 1, 6, 143, EXIT_QUOTA)
                    assert self.mission.agents.running == []
                    tg.cancel_scope.cancel()

        self._play(act)

    @rule(wp=st.sampled_from(NAMES), lane=lanes)
    def a_person_moves_a_lane(self, wp: str, lane: Lane) -> None:
        self.mission.host.lanes[wp] = lane

    @rule(wp=st.sampled_from(NAMES), lane=lanes, moment=moments)
    def a_person_moves_a_lane_during_a_run(self, wp: str, lane: Lane, moment: float) -> None:
        async def act() -> RunResult:
            results: list[RunResult] = []

            async def person() -> None:
                await anyio.sleep(moment)
                self.mission.host.lanes[wp] = lane

            async with anyio.create_task_group() as tg:
                tg.start_soon(person)
                results.append(await self._engine().run())
                tg.cancel_scope.cancel()
            return results[0]

        self._assert_told(self._play(act))

    @rule(wp=st.sampled_from(NAMES), moment=moments, back_s=st.integers(1, 400), approves=st.booleans())
    def a_person_takes_one_over_during_a_run(
        self, wp: str, moment: float, back_s: int, approves: bool
    ) -> None:
        orders = MemoryOrders()
        let_all_go_on(orders)

        async def act() -> None:
            async def person() -> None:
                await anyio.sleep(moment)
                await orders.give(TakeOver(wp, "anna"))
                await anyio.sleep(back_s)
                await orders.give(HandBack(wp, "anna", "mine", ("T001",)))
                known = self.mission.watcher.state
                head = known.wps[wp].work.head if approves and known is not None else ""
                if head:
                    await orders.give(Approve(wp, "bert", head, "fine"))

            async with anyio.create_task_group() as tg:
                tg.start_soon(person)
                result = await self._engine(orders).run()
                tg.cancel_scope.cancel()
            self._assert_told(result)

        self._play(act)

    @rule(call=calls, after_effect=st.booleans())
    def a_reply_will_be_lost(self, call: str, after_effect: bool) -> None:
        self.mission.host.fail_next(call, HostTimeout(call, "120 s"), after_effect=after_effect)

    @precondition(lambda self: hasattr(self, "mission"))
    @invariant()
    def the_promises_are_kept(self) -> None:
        self.mission.assert_sound()


async def _nothing(grace_s: float) -> None:
    await anyio.lowlevel.checkpoint()


TestEngineMachine = Machine.TestCase
TestEngineMachine.settings = settings(settings.get_profile("driver"), max_examples=30, stateful_step_count=12)
