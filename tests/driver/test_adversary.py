"""Whatever constant answer the world gives, a run ends within a bound and with an exit code of the table."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.driver.builders import Stage, WitnessedHost, longer
from tests.orders import any_order
from trio.testing import MockClock

from spec_kitty_orchestrator.core.limits import EXIT_BUDGET, EXIT_QUOTA, EXIT_STALLED
from spec_kitty_orchestrator.core.model import Lane, Outcome, Result, Role, Usage
from spec_kitty_orchestrator.core.policy import Budget, Gate, OnRateLimit, Patience
from spec_kitty_orchestrator.core.ranking import Order
from spec_kitty_orchestrator.core.suspension import ABOUT_THE_AGENT
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.errors import HostError, HostRefusal, HostTimeout, WorkspaceError
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play, report, verdict
from spec_kitty_orchestrator.testing.scripted_gates import Check

MOST_CALLS = 600
"""Of the host in one run of three work packages; the longest found took about a third of that."""

MOST_ATTEMPTS = 3 * 40
"""In one run: far more would be somebody's money."""

LONGEST_RUN_S = 40_000.0
"""Of virtual time: the waits for rate limits and lost replies are bounded, and so is their number."""

CODES = (
    "TRANSITION_REJECTED",
    "LANE_ALLOCATION_FAILED",
    "DEPENDENCIES_NOT_SATISFIED",
    "WP_ALREADY_CLAIMED",
    "NEW",
)
MUTATIONS = ("start-implementation", "start-review", "transition", "mark-status")


class StubbornHost(WitnessedHost):
    """A host that gives one answer to each call, and whose work packages a person keeps moving."""

    answers: dict[str, tuple[Exception, bool]]
    moved_to: Lane | None = None

    async def _call(self, name: str, effect: Callable[[], Any]) -> Any:
        assert len(self.calls) < MOST_CALLS, "the host is asked without end"
        self.calls.append(name)
        await trio.sleep(1)
        answer, after_effect = self.answers.get(name, (None, True))
        try:
            result = effect() if after_effect else None
        finally:
            if self.moved_to is not None and name in MUTATIONS:
                self.lanes = dict.fromkeys(self.lanes, self.moved_to)
        if answer is not None:
            raise answer
        return result


def answers() -> st.SearchStrategy[dict[str, tuple[Exception, bool]]]:
    def answer(call: str) -> st.SearchStrategy[tuple[Exception, bool]]:
        refusals = st.sampled_from(CODES).map(lambda code: (HostRefusal(call, code, "no subtasks"), False))
        lost = st.booleans().map(lambda after: (HostTimeout(call, "120 s"), after))
        return refusals | lost

    return st.fixed_dictionaries(
        {}, optional={call: answer(call) for call in (*MUTATIONS, "resolve-workspace")}
    )


TEXTS: tuple[Callable[[AttemptRequest], str | None], ...] = (
    lambda r: None,
    lambda r: "",
    lambda r: verdict(r, "changes_requested", "more"),
    lambda r: verdict(r, "approved", head="0"),
    lambda r: report(r, subtasks_done=["T001", "T002"]),
    lambda r: report(r, no_change_reason="nothing to do"),
)


CHECKS = (
    Check(),
    Check("failed"),
    Check("broken"),
    Check(leaves=("build.log",)),
    Check(leaves=("formatted.py",), commits=True),
)


@st.composite
def scripts(draw: st.DrawFn) -> Callable[[AttemptRequest], Play]:
    plays = {
        role: (
            draw(st.sampled_from(list(Outcome))),
            draw(st.sampled_from(TEXTS)),
            draw(st.sampled_from([None, (), ("a.py",)])),
            draw(st.sampled_from([None, 0.0, 900.0])),
        )
        for role in Role
    }

    def script(request: AttemptRequest) -> Play:
        outcome, text, edits, retry_after_s = plays[request.role]
        return Play(
            seconds=5,
            outcome=outcome,
            text=text(request),
            edits=edits,
            retry_after_s=retry_after_s,
            usage=Usage(50, 50, 0.5),
        )

    return script


BUDGETS = (
    Budget(),
    Budget(max_cost_usd=3.0),
    Budget(max_tokens=500),
    Budget(max_duration_s=50.0),
    Budget(max_duration_s=50.0, hard=True),
    Budget(max_cost_usd=3.0, max_cost_per_wp_usd=1.5, hard=True),
)


async def end_of_run(
    mission: Stage, host: StubbornHost, mode: OnRateLimit, budget: Budget, order: Order | None
) -> None:
    began = trio.current_time()
    with contextlib.suppress(HostError):
        result = await mission.run(patience=Patience(mode), budget=budget, order=order)
        assert result.exit_code in (0, 1, 6, EXIT_BUDGET, EXIT_QUOTA)
        assert not result.ended or result.exit_code in (EXIT_BUDGET, EXIT_QUOTA, EXIT_STALLED)
        assert result.ended or result.exit_code not in (EXIT_BUDGET, EXIT_QUOTA)
        assert budget != Budget() or result.exit_code != EXIT_BUDGET
        assert all(result.reasons[one.id] for one in result.work_packages if not one.lane.complete)
        if not result.ended:
            unreviewed = any(one.result is Result.UNREVIEWED for one in result.work_packages)
            complete = all(lane.complete for lane in host.lanes.values())
            assert (result.exit_code == 0) == (complete and not unreviewed)
    assert trio.current_time() - began < LONGEST_RUN_S
    assert len(mission.agents.requests) <= MOST_ATTEMPTS
    mission.assert_sound()


@settings(settings.get_profile("driver"), max_examples=80)
@given(
    script=scripts(),
    told=answers(),
    moved_to=st.none() | st.sampled_from(Lane),
    commits=st.sampled_from(["works", "refuses", "fails"]),
    agents=st.sampled_from([1, 2]),
    limit=st.sampled_from([1, 3]),
    check=st.none() | st.sampled_from(CHECKS),
    mode=st.sampled_from(OnRateLimit),
    quorum=st.booleans(),
    budget=st.sampled_from(BUDGETS),
    order=any_order(),
)
def test_the_run_ends_whatever_constant_answer_the_world_gives(
    script: Callable[[AttemptRequest], Play],
    told: dict[str, tuple[Exception, bool]],
    moved_to: Lane | None,
    commits: str,
    agents: int,
    limit: int,
    check: Check | None,
    mode: OnRateLimit,
    quorum: bool,
    budget: Budget,
    order: Order | None,
) -> None:
    host = StubbornHost(
        {"WP01": (), "WP02": (), "WP03": ("WP01",)},
        lane_ids={"WP01": "lane-a", "WP02": "lane-a"},
        subtasks={"WP01": ("T001",)},
    )
    host.answers, host.moved_to = told, moved_to
    names = ("ada", "eve")[:agents]
    gates = (Gate("tests", ("pytest",)),) if check else ()
    mission = Stage(
        script=script,
        host=host,
        max_concurrent=limit,
        policy=longer(
            impl_agents=names, review_agents=names, gates=gates, review_quorum=len(names) if quorum else 1
        ),
        checks=lambda wp, head, turn: check or Check(),
    )
    if commits == "refuses":
        mission.workspaces.refusals = ["the hook says no"] * 1000
    if commits == "fails":
        mission.workspaces.errors = [WorkspaceError("git is broken") for _ in range(1000)]
    trio.run(end_of_run, mission, host, mode, budget, order, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("names", [("ada",), ("ada", "eve")], ids=["alone", "with a fallback"])
@pytest.mark.parametrize(
    ("outcome", "told_s", "mode"),
    [(one, None, OnRateLimit.FALLBACK) for one in Outcome if one is not Outcome.RATE_LIMITED]
    + [
        (Outcome.RATE_LIMITED, told_s, mode)
        for told_s in (None, 1.0, 90.0, 5 * 3600.0, 7 * 86400.0)
        for mode in OnRateLimit
    ],
)
@pytest.mark.parametrize("role", Role)
def test_a_run_whose_agents_always_end_alike_ends_as_the_table_says(
    role: Role, outcome: Outcome, told_s: float | None, mode: OnRateLimit, names: tuple[str, ...]
) -> None:
    def script(request: AttemptRequest) -> Play:
        if request.role is role:
            return Play(seconds=5, outcome=outcome, retry_after_s=told_s)
        return Play(seconds=5)

    policy = longer(impl_agents=names, review_agents=names)
    mission = Stage({"WP01": (), "WP02": (), "WP03": ("WP01",)}, script, policy=policy)

    async def main() -> tuple[RunResult, float]:
        return await mission.run(patience=Patience(mode)), trio.current_time()

    result, took_s = trio.run(main, clock=MockClock(autojump_threshold=0))
    mission.assert_sound()
    otherwise = EXIT_STALLED if outcome in ABOUT_THE_AGENT else 1
    assert result.exit_code == {Outcome.OK: 0, Outcome.RATE_LIMITED: EXIT_QUOTA}.get(outcome, otherwise)
    assert took_s < LONGEST_RUN_S
    assert len(mission.agents.requests) <= MOST_ATTEMPTS
    for wp in result.work_packages:
        assert wp.review.rejected == ()
        assert wp.lane.complete == (outcome is Outcome.OK)
        assert wp.lane.complete or result.reasons[wp.id]


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.OK])
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("hard", [False, True])
def test_a_run_whose_agents_always_fail_spends_no_more_than_its_budget(
    role: Role, outcome: Outcome, hard: bool
) -> None:
    def script(request: AttemptRequest) -> Play:
        ends = outcome if request.role is role else Outcome.OK
        return Play(seconds=5, outcome=ends, retry_after_s=60.0, usage=Usage(50, 50, 1.0))

    policy = longer(impl_agents=("ada", "eve"), review_agents=("rob", "ann"))
    mission = Stage({f"WP{n:02d}": () for n in range(1, 10)}, script, policy=policy, max_concurrent=2)

    async def main() -> RunResult:
        return await mission.run(budget=Budget(max_cost_usd=5.0, hard=hard))

    result = trio.run(main, clock=MockClock(autojump_threshold=0))
    mission.assert_sound()
    broken = (role, outcome) == (Role.IMPLEMENT, Outcome.AUTH)
    assert result.exit_code == (EXIT_STALLED if broken else EXIT_BUDGET)
    assert len(mission.agents.requests) <= 5 + 1
    assert not any(lane.complete for lane in mission.host.lanes.values())
