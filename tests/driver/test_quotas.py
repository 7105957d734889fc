"""Quotas that are used up: who rests, who works meanwhile, who tries, and when a run gives up waiting."""

from collections import Counter
from collections.abc import Callable
from signal import SIGTERM

import anyio
import pytest
from tests.driver.builders import Stage, longer

from spec_kitty_orchestrator.core.events import AgentExited, Deferred
from spec_kitty_orchestrator.core.model import Lane, Outcome, PolicyMetadata, Role
from spec_kitty_orchestrator.core.policy import OnRateLimit, Patience
from spec_kitty_orchestrator.core.run_events import AgentBack, AgentSuspended, Entry, RunStarted
from spec_kitty_orchestrator.core.suspension import PROBE_S
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play, ScriptedAgents, verdict

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]
HOUR = 3600.0
LIMITED = Play(outcome=Outcome.RATE_LIMITED)
WAIT, STOP = Patience(OnRateLimit.WAIT), Patience(OnRateLimit.STOP)
PAIR = longer(impl_agents=("ada", "eve"))


def told(seconds: float) -> Play:
    return Play(outcome=Outcome.RATE_LIMITED, retry_after_s=seconds)


class Limits:
    """Agents whose quota is used up until a time of the event loop's; every attempt is timed."""

    def __init__(self, until: dict[str, float], play: Play = LIMITED, otherwise: Play | None = None) -> None:
        self.until, self.play, self.otherwise = until, play, otherwise or Play()
        self.starts: list[tuple[str, str, float]] = []

    def __call__(self, request: AttemptRequest) -> Play:
        now = anyio.current_time()
        self.starts.append((request.wp_id, request.agent, now))
        return self.play if now < self.until.get(request.agent, 0.0) else self.otherwise

    def of(self, agent: str) -> list[float]:
        return [at for _, name, at in self.starts if name == agent]


@pytest.mark.parametrize("role", Role)
async def test_an_agent_rests_until_the_time_that_it_told_and_nothing_is_charged(
    stage: Make, role: Role
) -> None:
    agent = "ada" if role is Role.IMPLEMENT else "rob"
    limits = Limits({agent: 2 * HOUR}, told(2 * HOUR))
    mission = stage({"WP01": ()}, limits, policy=longer(max_attempts=1))
    result = await mission.run()
    assert result.exit_code == 0
    first, second = limits.of(agent)
    assert second - first == pytest.approx(2 * HOUR + 1, abs=0.1)


async def test_an_agent_that_tells_no_time_is_tried_after_a_minute_and_then_ever_later(stage: Make) -> None:
    limits = Limits({"ada": 1000})
    mission = stage({"WP01": ()}, limits)
    assert (await mission.run()).exit_code == 0
    pauses = [b - a - 1 for a, b in zip(limits.of("ada"), limits.of("ada")[1:], strict=False)]
    assert pauses == pytest.approx([60, 120, 240, 480, 960], abs=0.1)


async def test_a_fallback_agent_works_meanwhile_and_the_first_one_again_after_its_rest(stage: Make) -> None:
    limits = Limits({"ada": 50}, told(100), Play(seconds=30))
    chain = {"WP01": (), "WP02": ("WP01",), "WP03": ("WP02",)}
    mission = stage(chain, limits, policy=PAIR)
    assert (await mission.run()).exit_code == 0
    made = [(one.wp_id, one.agent) for one in mission.agents.requests if one.role is Role.IMPLEMENT]
    assert made == [("WP01", "ada"), ("WP01", "eve"), ("WP02", "eve"), ("WP03", "ada")]


async def test_the_agent_rests_for_every_work_package(stage: Make) -> None:
    limits = Limits({"ada": 10}, told(HOUR))
    mission = stage({f"WP{n:02d}": () for n in range(1, 9)}, limits, max_concurrent=2)
    result = await mission.run()
    assert result.exit_code == 0
    early = [at for at in limits.of("ada") if at < HOUR - 10]
    assert len(early) == 2
    assert mission.calls()["start-implementation"] == 8


async def test_nothing_is_claimed_while_nobody_may_implement(stage: Make) -> None:
    limits = Limits({"ada": 10}, told(HOUR))
    mission = stage({f"WP{n:02d}": () for n in range(1, 9)}, limits, max_concurrent=2)
    lanes: list[Counter[Lane]] = []

    async def look() -> None:
        await anyio.sleep(HOUR / 2)
        lanes.append(Counter(mission.host.lanes.values()))

    async with anyio.create_task_group() as tg:
        tg.start_soon(look)
        assert (await mission.run()).exit_code == 0
    # Two had a slot, and one was claimed ahead of the first limit.
    assert lanes == [Counter({Lane.PLANNED: 5, Lane.IN_PROGRESS: 3})]


async def test_one_attempt_tries_the_quota_and_the_others_follow_when_it_ended_well(stage: Make) -> None:
    limits = Limits({"ada": 10}, told(100), Play(seconds=20))
    mission = stage({"WP01": (), "WP02": (), "WP03": ()}, limits)
    assert (await mission.run()).exit_code == 0
    after = [at for at in limits.of("ada") if at >= 50]
    assert len(after) == 3
    assert after[1:] == pytest.approx([after[0] + 20] * 2, abs=0.1)


async def test_the_others_follow_once_the_one_that_tries_has_worked_for_a_while(stage: Make) -> None:
    limits = Limits({"ada": 10}, told(100), Play(seconds=2000))
    mission = stage({"WP01": (), "WP02": (), "WP03": ()}, limits)
    assert (await mission.run()).exit_code == 0
    after = [at for at in limits.of("ada") if at >= 50]
    assert after[1:] == pytest.approx([after[0] + PROBE_S] * 2, abs=0.1)


async def test_a_quota_that_is_not_back_costs_one_attempt_not_one_of_each(stage: Make) -> None:
    limits = Limits({"ada": 500}, told(100))
    mission = stage({f"WP{n:02d}": () for n in range(1, 5)}, limits)
    assert (await mission.run()).exit_code == 0
    assert len([at for at in limits.of("ada") if at < 500]) == 4 + 3


async def test_one_that_tries_and_breaks_is_followed_by_another(stage: Make) -> None:
    def script(request: AttemptRequest) -> Play:
        if request.role is Role.REVIEW:
            return Play()
        if anyio.current_time() < 10:
            return told(100)
        return Play(outcome=Outcome.AUTH) if tries and tries.pop() else Play()

    tries = [False, False, True]
    mission = stage({"WP01": (), "WP02": ()}, script)
    result = await mission.run()
    assert result.exit_code == 0
    assert tries == []


@pytest.mark.parametrize("role", Role)
async def test_to_wait_means_that_no_other_agent_works(stage: Make, role: Role) -> None:
    pair, agent = ("ada", "eve"), "ada"
    policy = longer(impl_agents=pair) if role is Role.IMPLEMENT else longer(review_agents=pair)
    limits = Limits({agent: 10 if role is Role.IMPLEMENT else 12}, told(500))
    if role is Role.REVIEW:
        policy = longer(policy, impl_agents=("ida",))
    mission = stage({"WP01": ()}, limits, policy=policy)
    assert (await mission.run(patience=WAIT)).exit_code == 0
    assert limits.of("eve") == []


async def test_to_stop_means_that_running_attempts_end_and_their_work_is_submitted(stage: Make) -> None:
    def script(request: AttemptRequest) -> Play:
        return told(HOUR) if request.wp_id == "WP01" else Play(seconds=60)

    mission = stage({"WP01": (), "WP02": (), "WP03": ("WP02",)}, script, policy=PAIR)
    result = await mission.run(patience=STOP)
    assert result.exit_code == 75
    assert "waits for ada: its quota is used up until" in result.ended
    assert mission.host.lanes == {
        "WP01": Lane.IN_PROGRESS,
        "WP02": Lane.FOR_REVIEW,
        "WP03": Lane.PLANNED,
    }
    assert mission.agents.graces == []
    assert all(result.reasons.values())


async def test_to_stop_ends_a_later_start_before_the_reset_too(stage: Make) -> None:
    mission = stage({"WP01": ()}, Limits({"ada": 10}, told(HOUR)))
    assert (await mission.run(patience=STOP)).exit_code == 75
    assert (await mission.run(patience=STOP)).exit_code == 75
    assert len(mission.agents.requests) == 1


async def test_a_reset_beyond_the_patience_ends_the_run_at_once_and_a_later_start_finishes(
    stage: Make,
) -> None:
    limits = Limits({"ada": 10}, told(7 * HOUR))
    mission = stage({"WP01": (), "WP02": ()}, limits)
    began = anyio.current_time()
    result = await mission.run()
    assert (result.exit_code, result.interrupted) == (75, None)
    assert anyio.current_time() - began < 5
    assert "longer than 6 h" in result.ended
    assert "ada: its quota is used up until" in result.ended
    assert "waits for ada" in result.reasons["WP01"]
    assert list(result.resting) == ["ada"]
    await anyio.sleep(2 * HOUR)
    assert (await mission.run()).exit_code == 0
    assert len(mission.prompts_of("WP01", Role.IMPLEMENT)) == 2


async def test_the_run_goes_on_as_long_as_one_agent_works_whatever_the_others_need(stage: Make) -> None:
    limits = Limits({"ada": 100 * HOUR}, told(50 * HOUR))
    chain = {"WP01": (), "WP02": ("WP01",), "WP03": ("WP02",)}
    mission = stage(chain, limits, policy=PAIR)
    assert (await mission.run()).exit_code == 0
    assert len(limits.of("ada")) == 1


async def test_limits_without_end_are_waited_for_no_longer_than_the_patience(stage: Make) -> None:
    limits = Limits({"ada": 1e9, "eve": 1e9})
    mission = stage({"WP01": (), "WP02": ()}, limits, policy=PAIR)
    began = anyio.current_time()
    result = await mission.run()
    assert result.exit_code == 75
    assert 5 * HOUR < anyio.current_time() - began < 7 * HOUR
    assert len(limits.starts) < 60
    assert set(mission.host.lanes.values()) == {Lane.IN_PROGRESS}


async def test_a_start_in_the_middle_of_a_rest_keeps_the_reset(stage: Make) -> None:
    limits = Limits({"ada": HOUR}, told(HOUR))
    mission = stage({"WP01": ()}, limits)
    engine = mission.orchestrator()
    async with anyio.create_task_group() as tg:

        async def stop() -> None:
            await anyio.sleep(HOUR / 2)
            engine.interrupt(SIGTERM)

        tg.start_soon(stop)
        assert (await engine.run()).exit_code == 143
    assert (await mission.run()).exit_code == 0
    first, second = limits.of("ada")
    assert second - first == pytest.approx(HOUR + 1, abs=0.5)


async def test_a_rest_says_what_it_waits_for(stage: Make) -> None:
    mission = stage({"WP01": ()}, Limits({"ada": 10}, told(HOUR)))
    await mission.run()
    said = [event.reason for _, event in mission.watcher.events if isinstance(event, Deferred)]
    assert said == ["waits for ada: its quota is used up until 2026-01-01 01:00 UTC"]
    rests = [one for _, one in mission.watcher.events if isinstance(one, AgentSuspended | AgentBack)]
    assert [(type(one), one.agent) for one in rests] == [(AgentSuspended, "ada"), (AgentBack, "ada")]
    started = [one for one in mission.journal.lines if isinstance(one, RunStarted)]
    assert started[0].policy.patience == Patience(OnRateLimit.FALLBACK, 6 * HOUR)


async def test_the_host_is_told_of_the_agent_that_really_works(stage: Make) -> None:
    families: list[tuple[str, str]] = []
    mission = stage(
        {"WP01": ()},
        Limits({"ada": 10, "rob": 15}, told(HOUR)),
        policy=longer(impl_agents=("ada", "eve"), review_agents=("rob", "ann")),
    )

    class Noted(type(mission.host)):  # type: ignore[misc]
        async def transition(self, *args, policy: PolicyMetadata, **more) -> None:  # type: ignore[no-untyped-def]
            families.append((str(args[2]), policy.agent_family))
            await super().transition(*args, policy=policy, **more)

    mission.host.__class__ = Noted
    assert (await mission.run()).exit_code == 0
    assert families == [("for_review", "eve"), ("done", "ann")]
    assert mission.host.witnessed[-1].transition.review is not None
    assert mission.host.witnessed[-1].transition.review.reviewer == "ann"


async def test_a_stand_in_that_fails_does_not_use_up_the_order(stage: Make) -> None:
    def script(request: AttemptRequest) -> Play:
        if request.agent == "eve":
            return Play(outcome=Outcome.CRASHED)
        return told(HOUR) if anyio.current_time() < 10 and request.agent == "ada" else Play()

    mission = stage({"WP01": ()}, script, policy=PAIR)
    result = await mission.run()
    assert result.exit_code == 0
    agents = [one.agent for one in mission.agents.requests]
    assert agents == ["ada", "eve", "eve", "eve", "ada", "rob"]


@pytest.mark.parametrize("outcome", [Outcome.RATE_LIMITED, Outcome.CRASHED, Outcome.TIMEOUT])
async def test_a_reviewer_that_fails_judges_nothing_even_if_it_wrote_a_verdict(
    stage: Make, outcome: Outcome
) -> None:
    class Talkative(ScriptedAgents):
        def _end(self, request: AttemptRequest, play: Play):  # type: ignore[no-untyped-def]
            report = super()._end(request, play)
            ruling = ("approved",) if request.number % 2 else ("changes_requested", "rename it")
            said = verdict(request, *ruling)
            return report if report.outcome is Outcome.OK else type(report)(outcome, said)

    mission = stage({"WP01": ()}, lambda r: Play(outcome=outcome if r.role is Role.REVIEW else Outcome.OK))
    mission.agents = Talkative(mission.workspaces, mission.agents.script)
    result = await mission.run()
    assert result.exit_code in (1, 75)
    wp = result.work_packages[0]
    assert (wp.review.rejected, wp.review.verdict, wp.lane.complete) == ((), None, False)
    assert Lane.IN_PROGRESS not in mission.lanes_of("WP01")[2:]


async def test_an_agent_that_is_limited_and_has_few_seats_hands_them_on(stage: Make) -> None:
    limits = Limits({"ada": 20}, told(HOUR), Play(seconds=10))
    names = {f"WP{n:02d}": () for n in range(1, 7)}
    mission = stage(names, limits, policy=PAIR)
    result = await mission.run(max_per_agent={"ada": 1, "eve": 2})
    assert result.exit_code == 0
    assert len([at for at in limits.of("ada") if at < HOUR]) <= 2
    assert len(limits.of("eve")) >= 4


async def test_who_moved_a_lane_during_a_long_rest_is_heard_before_an_agent_is_paid_for(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ()}, Limits({"ada": 10}, told(HOUR)))

    async def move() -> None:
        await anyio.sleep(HOUR / 2)
        mission.host.lanes["WP01"] = Lane.CANCELED

    async with anyio.create_task_group() as tg:
        tg.start_soon(move)
        result = await mission.run()
    assert result.exit_code == 1
    assert len(mission.prompts_of("WP01", Role.IMPLEMENT)) == 1
    assert mission.host.lanes["WP02"] is Lane.DONE


async def test_the_journal_knows_the_reset_by_the_time_of_its_own_lines(stage: Make) -> None:
    mission = stage({"WP01": ()}, Limits({"ada": 10}, told(HOUR)))
    await mission.run()
    ends = [
        line.at
        for line in mission.journal.lines
        if isinstance(line, Entry) and isinstance(line.event, AgentExited)
    ]
    assert (ends[1] - ends[0]).total_seconds() == pytest.approx(HOUR + 1, abs=0.1)
