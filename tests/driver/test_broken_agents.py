"""An agent that is broken rests for every work package before it has cost much; the work is not to blame."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise

import anyio
import pytest
from tests.driver.builders import Stage, longer
from tests.driver.troubles import attempts

from spec_kitty_orchestrator.core.limits import EXIT_QUOTA, EXIT_STALLED
from spec_kitty_orchestrator.core.model import Lane, Outcome, Phase, Role
from spec_kitty_orchestrator.core.policy import OnRateLimit, Patience
from spec_kitty_orchestrator.core.run_events import AgentBack, AgentSuspended
from spec_kitty_orchestrator.core.suspension import ABOUT_THE_AGENT, BROKEN_REST_S
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]
SIX: Mapping[str, tuple[str, ...]] = {f"WP{number:02d}": () for number in range(1, 7)}
PAIR = longer(impl_agents=("ada", "eve"))


def broken(
    *agents: str, outcome: Outcome = Outcome.FAILED, seconds: float = 1
) -> Callable[[AttemptRequest], Play]:
    """Return a script in which these agents always end so; the others work for ten minutes."""

    def script(request: AttemptRequest) -> Play:
        if request.agent in agents:
            return Play(seconds=seconds, outcome=outcome, detail=f"boom in {request.workspace.path}")
        return Play(seconds=600)

    return script


@pytest.mark.parametrize("at_once", [1, 2, 4, 6])
@pytest.mark.parametrize("seconds", [0.1, 1, 180, 900])
@pytest.mark.parametrize("outcome", ABOUT_THE_AGENT)
async def test_a_broken_agent_costs_few_attempts_and_no_work_package_is_left_to_a_person(
    stage: Make, outcome: Outcome, seconds: float, at_once: int
) -> None:
    mission = stage(SIX, broken("ada", outcome=outcome, seconds=seconds), max_concurrent=at_once)
    result = await mission.run()
    assert result.exit_code == EXIT_STALLED
    assert len(attempts(mission)) <= max(4, at_once)
    assert "ada" in result.ended
    assert "boom in" in result.ended
    assert list(result.resting) == ["ada"]
    assert all(one.phase is not Phase.FINISHED for one in result.work_packages)
    assert set(mission.host.lanes.values()) <= {Lane.PLANNED, Lane.IN_PROGRESS}
    assert all("boom" in why for why in result.reasons.values())


async def test_the_next_agent_of_the_order_works_and_the_broken_one_is_tried_later_each_time(
    stage: Make,
) -> None:
    mission = stage({f"WP{number:02d}": () for number in range(1, 13)}, broken("ada"), policy=PAIR)
    starts: list[float] = []
    script = mission.agents.script

    def timed(request: AttemptRequest) -> Play:
        if request.agent == "ada":
            starts.append(anyio.current_time())
        return script(request)

    mission.agents.script = timed
    result = await mission.run()
    assert result.exit_code == 0
    first = [one for one in starts if one < 60]
    assert len(first) <= 4
    later = [one for one in starts if one >= 60]
    waited = [after - before for before, after in pairwise(later)]
    assert all(wait >= BROKEN_REST_S for wait in waited)
    assert all(after >= before for before, after in pairwise(waited))
    assert later


async def test_a_broken_reviewer_rests_too_and_implementers_go_on_meanwhile(stage: Make) -> None:
    mission = stage(SIX, broken("rob"))
    result = await mission.run()
    assert result.exit_code == EXIT_STALLED
    assert len(attempts(mission, role=Role.REVIEW)) <= 4 + 1, "one tries it again after ten minutes"
    assert len(attempts(mission, role=Role.IMPLEMENT)) == len(SIX)
    assert set(mission.host.lanes.values()) <= {Lane.FOR_REVIEW, Lane.IN_REVIEW}


async def test_a_new_start_tries_a_broken_agent_once_and_goes_on_with_everything_when_it_works(
    stage: Make,
) -> None:
    mission = stage(SIX, broken("ada"))
    await mission.run()
    before = len(attempts(mission))
    assert (await mission.run()).exit_code == EXIT_STALLED
    assert len(attempts(mission)) == before + 1
    mission.agents.script = broken()
    assert (await mission.run()).exit_code == 0
    assert set(mission.host.lanes.values()) == {Lane.DONE}


async def test_an_agent_that_works_again_is_told_as_such(stage: Make) -> None:
    def script(request: AttemptRequest) -> Play:
        if request.agent == "ada" and anyio.current_time() < 60:
            return Play(outcome=Outcome.CRASHED, detail="no such model")
        return Play(seconds=400)

    mission = stage(SIX, script, policy=PAIR, max_concurrent=2)
    assert (await mission.run()).exit_code == 0
    told = [one for _, one in mission.watcher.events if isinstance(one, AgentSuspended | AgentBack)]
    assert [type(one) for one in told] == [AgentSuspended, AgentBack]
    assert isinstance(told[0], AgentSuspended)
    # Which work packages those were is a matter of whose attempt ended first.
    alike = (
        r"3 attempts in a row \(WP0\d, WP0\d(, WP0\d)?\) ended alike: it crashed: no such model; it is tried"
    )
    assert re.match(alike, told[0].reason)


async def test_attempts_of_a_broken_agent_use_up_no_attempts_of_the_work(stage: Make) -> None:
    mission = stage(SIX, broken("ada"), policy=replace(PAIR, max_attempts=2))
    assert (await mission.run()).exit_code == 0


async def test_to_wait_for_quotas_does_not_mean_to_wait_for_who_is_broken(stage: Make) -> None:
    mission = stage(SIX, broken("ada"), policy=PAIR)
    result = await mission.run(patience=Patience(OnRateLimit.WAIT))
    assert result.exit_code == 0


async def test_what_ends_in_other_words_each_time_is_about_the_work(stage: Make) -> None:
    words = iter(("no file", "no room", "no idea", "no sense", "no way", "no", "nothing here", "never mind"))

    def script(request: AttemptRequest) -> Play:
        return Play(outcome=Outcome.FAILED, detail=next(words, "the end"))

    mission = stage({"WP01": (), "WP02": (), "WP03": ()}, script, max_concurrent=1)
    result = await mission.run()
    assert result.exit_code == 1
    assert not result.resting


async def test_a_failure_of_an_agent_that_works_holds_nobody_up(stage: Make) -> None:
    starts: dict[str, float] = {}

    def script(request: AttemptRequest) -> Play:
        starts.setdefault(f"{request.wp_id}-{request.role}-{request.number}", anyio.current_time())
        fails = request.wp_id == "WP05" and request.number == 1
        return Play(seconds=30, outcome=Outcome.FAILED if fails else Outcome.OK)

    mission = stage(SIX, script, max_concurrent=4)
    assert (await mission.run()).exit_code == 0
    assert starts["WP05-implement-2"] - starts["WP05-implement-1"] == pytest.approx(30, abs=1)


async def test_whoever_waits_for_a_broken_agent_says_so(stage: Make) -> None:
    mission = stage(SIX, broken("ada"))
    result = await mission.run()
    assert all(why.startswith("waits for ada: ") for why in result.reasons.values())


async def test_what_an_ended_run_says_of_a_broken_agent_is_what_the_next_start_does(stage: Make) -> None:
    mission = stage(SIX, broken("ada"))
    result = await mission.run()
    told = [one.reason for _, one in mission.watcher.events if isinstance(one, AgentSuspended)]
    assert all("it is tried again in 10 min" in reason for reason in told)
    assert "`resume` tries it once more" in result.resting["ada"].told_afterwards
    assert not any("in 10 min" in why for why in (result.ended, *result.reasons.values()))


async def test_to_stop_at_the_first_used_up_quota_does_not_mean_to_stop_while_an_agent_is_tried(
    stage: Make,
) -> None:
    """What is waited for is an attempt that shows whether it works: no quota is known to be used up."""

    def script(request: AttemptRequest) -> Play:
        fails = (request.wp_id, request.number) == ("WP01", 1)
        return Play(seconds=1 if fails else 30, outcome=Outcome.FAILED if fails else Outcome.OK)

    mission = stage(SIX, script, max_concurrent=2)
    result = await mission.run(patience=Patience(OnRateLimit.STOP))
    assert (result.exit_code, result.ended) == (0, "")


async def test_a_start_after_a_used_up_quota_goes_on_with_everything_once_it_is_back(stage: Make) -> None:
    limited = [True]

    def script(_: AttemptRequest) -> Play:
        return Play(seconds=30, outcome=Outcome.RATE_LIMITED if limited and limited.pop() else Outcome.OK)

    mission = stage(SIX, script, max_concurrent=2)
    stops = Patience(OnRateLimit.STOP)
    assert (await mission.run(patience=stops)).exit_code == EXIT_QUOTA
    await anyio.sleep(3600)
    assert (await mission.run(patience=stops)).exit_code == 0


async def test_attempts_that_showed_that_an_agent_is_broken_are_not_held_against_it_once_it_works(
    stage: Make,
) -> None:
    mended: list[str] = []
    overloaded: set[str] = set()

    def script(request: AttemptRequest) -> Play:
        if not mended:
            return Play(seconds=1, outcome=Outcome.FAILED, detail="boom")
        if request.wp_id not in overloaded:
            overloaded.add(request.wp_id)
            return Play(seconds=1, outcome=Outcome.OVERLOADED)
        return Play(seconds=600)

    mission = stage({"WP01": (), "WP02": ()}, script, policy=longer(review_agents=("ada",)))
    for _ in range(8):
        assert (await mission.run()).exit_code == EXIT_STALLED
    mended.append("by a person")
    assert (await mission.run()).exit_code == 0


async def test_nobody_is_given_up_for_a_broken_agent_while_another_waits_for_the_machine(stage: Make) -> None:
    class Busy:
        async def shortage(self) -> str:
            await anyio.lowlevel.checkpoint()
            return "too little memory is free" if 5 < anyio.current_time() - began < 300 else ""

    def script(request: AttemptRequest) -> Play:
        fails = request.agent == "rob"
        return Play(seconds=10, outcome=Outcome.FAILED if fails else Outcome.OK, detail="boom")

    mission = stage({f"WP0{number}": () for number in range(1, 5)}, script, max_concurrent=3)
    began = anyio.current_time()
    result = await mission.run(headroom=Busy())
    assert result.exit_code == EXIT_STALLED
    assert len(attempts(mission, role=Role.IMPLEMENT)) == 4


async def test_a_broken_reviewer_without_whom_too_few_are_left_parks_nothing(stage: Make) -> None:
    mission = stage(
        SIX,
        broken("rob", outcome=Outcome.AUTH),
        policy=longer(review_agents=("rob", "kim"), review_quorum=2),
    )
    result = await mission.run()
    assert result.exit_code == EXIT_STALLED
    assert all(one.phase is not Phase.FINISHED for one in result.work_packages)
    mission.agents.script = broken()
    assert (await mission.run()).exit_code == 0
