"""Orders of people to a run: what each does to it, whatever goes on, and after a crash."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import anyio
import pytest
from tests.driver.builders import LIMIT_S, Power, Stage, scripted

from spec_kitty_orchestrator.core.events import AgentExited, Deferred
from spec_kitty_orchestrator.core.model import Lane, Outcome, Role, WaitsFor
from spec_kitty_orchestrator.core.operator_events import Told
from spec_kitty_orchestrator.core.orders import (
    Changed,
    Continue,
    Drain,
    Order,
    Pause,
    Retry,
    Set,
    Skip,
    Stop,
    Tell,
)
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.core.run_events import Entry
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.testing.memory_orders import Answer, MemoryOrders
from spec_kitty_orchestrator.testing.scripted_agents import Play
from spec_kitty_orchestrator.testing.scripted_gates import Check

pytestmark = pytest.mark.anyio


async def steered(
    stage: Stage, given: Sequence[tuple[float, Order]], **changes: Any
) -> tuple[RunResult, list[Answer]]:
    """Run with orders, each so many seconds after the start; return the answers in their order."""
    orders = changes.pop("orders", MemoryOrders())
    answers: list[Answer] = []
    results: list[RunResult] = []

    async def person() -> None:
        began = anyio.current_time()
        for at_s, order in given:
            await anyio.sleep_until(began + at_s)
            answers.append(await orders.give(order))

    async def run() -> None:
        results.append(await stage.run(orders=orders, **changes))
        tg.cancel_scope.cancel()

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tg:
            tg.start_soon(person)
            tg.start_soon(run)
    stage.assert_sound()
    return results[0], answers


def slow(seconds: float = 10.0) -> Any:
    return scripted(implement=Play(seconds=seconds), review=Play(seconds=seconds))


async def test_a_paused_run_begins_nothing_and_goes_on_when_it_is_told_to() -> None:
    stage = Stage(script=slow())
    result, answers = await steered(stage, [(2, Pause()), (500, Continue())])
    assert result.exit_code == 0
    assert "(WP01); `continue` goes on" in answers[0].text
    exits = [one for one in stage.watcher.entries if isinstance(one.event, AgentExited)]
    # The attempt that was at work came to its end, and the next one began after the pause.
    assert [(one.at - stage.journal.lines[0].at).total_seconds() >= 500 for one in exits[:2]] == [False, True]


async def test_a_pause_survives_a_crash_and_is_told_at_the_next_start() -> None:
    stage, orders = Stage(script=slow()), MemoryOrders()
    with anyio.move_on_after(30):
        async with anyio.create_task_group() as tg:
            tg.start_soon(stage.orchestrator(orders=orders).run)
            await orders.give(Pause())
    result, _ = await steered(stage, [(100, Continue())], orders=orders)
    assert result.exit_code == 0
    assert any("paused by kim" in one for one in stage.watcher.messages)


async def test_a_pause_does_not_outlast_the_time_that_a_run_may_take() -> None:
    stage = Stage(script=slow())
    budget = replace(stage.policy.budget, max_duration_s=60.0)
    result, _ = await steered(stage, [(1, Pause())], budget=budget)
    assert result.exit_code == 7


async def test_while_an_agent_is_paused_the_others_of_the_list_do_its_work() -> None:
    stage = Stage({"WP01": ()}, script=slow(), latency_s=1)
    result, _ = await steered(stage, [(0, Pause(agent="ada"))], impl_agents=("ada", "eve"))
    assert result.exit_code == 0
    assert {one.agent for one in stage.agents.requests if one.role is Role.IMPLEMENT} == {"eve"}


async def test_without_another_agent_the_work_waits_for_the_one_that_is_paused() -> None:
    stage = Stage({"WP01": ()}, script=slow())
    result, _ = await steered(stage, [(5, Pause(agent="rob")), (300, Continue(agent="rob"))])
    assert result.exit_code == 0
    told = [one.event for one in stage.watcher.entries if isinstance(one.event, Deferred)]
    assert [one.waits_for for one in told] == [WaitsFor.PAUSE]


async def test_a_paused_work_package_lets_the_others_go_on() -> None:
    stage = Stage({"WP01": (), "WP02": ()}, script=slow())
    result, _ = await steered(stage, [(0, Pause(wp="WP02")), (300, Continue(wp="WP02"))])
    assert result.exit_code == 0


async def test_a_stopped_attempt_costs_no_attempt_and_goes_on_in_its_session() -> None:
    stage = Stage({"WP01": ()}, script=slow())
    result, _ = await steered(
        stage,
        [(5, Stop("WP01")), (100, Continue(wp="WP01"))],
        max_attempts=1,
        resuming=("ada",),
        **resumed(),
    )
    assert result.exit_code == 0
    first, second = (one for one in stage.agents.requests if one.role is Role.IMPLEMENT)
    assert second.session == first.id


def resumed() -> dict[str, Any]:
    from tests.driver.builders import PROMPTS

    return {"prompts": replace(PROMPTS, resumed="${feedback}${report}")}


async def test_a_stopped_review_begins_anew() -> None:
    stage = Stage({"WP01": ()}, script=slow())
    result, _ = await steered(stage, [(15, Stop("WP01")), (100, Continue(wp="WP01"))])
    assert result.exit_code == 0
    assert len(stage.prompts_of("WP01", Role.REVIEW)) == 2


async def test_stopped_gates_run_again_once_the_work_package_goes_on() -> None:
    policy = replace(Stage().policy, gates=(Gate("tests", ("pytest",)),))
    stage = Stage({"WP01": ()}, script=slow(1), policy=policy, checks=lambda *_: Check(seconds=50))
    result, _ = await steered(stage, [(20, Stop("WP01")), (100, Continue(wp="WP01"))])
    assert result.exit_code == 0
    assert [turn for _, _, turn in stage.gates.runs] == [1, 2]


async def test_a_note_reaches_the_next_prompt_and_the_reviewer() -> None:
    stage = Stage({"WP01": ()}, script=slow())
    result, answers = await steered(stage, [(5, Tell("WP01", "use tabs"))])
    assert result.exit_code == 0
    assert "next prompt" in answers[0].text
    assert "use tabs" in stage.prompts_of("WP01", Role.REVIEW)[0]


async def test_a_note_that_cannot_wait_goes_to_the_same_agent_in_its_session_at_once() -> None:
    stage = Stage({"WP01": ()}, script=slow(100))
    given = [(5, Tell("WP01", "use tabs", now=True))]
    result, _ = await steered(stage, given, impl_agents=("ada", "eve"), resuming=("ada",), **resumed())
    assert result.exit_code == 0
    first, second = (one for one in stage.agents.requests if one.role is Role.IMPLEMENT)
    assert (second.agent, second.session) == ("ada", first.id)
    assert "use tabs" in second.prompt


async def test_nothing_is_left_to_tell_of_what_is_done() -> None:
    stage = Stage({"WP01": (), "WP02": ("WP01",)}, script=slow())
    result, answers = await steered(stage, [(25, Tell("WP01", "use tabs"))])
    assert result.exit_code == 0
    assert answers == [Answer("WP01 is done: nothing is left to tell", True)]


async def test_what_is_left_out_is_stopped_first() -> None:
    stage = Stage({"WP01": (), "WP02": ()}, script=slow())
    stage.agents.stubborn_s = 4.0
    result, _ = await steered(stage, [(5, Skip("WP02", "later"))])
    assert result.exit_code == 1
    assert result.state.lanes["WP02"] is Lane.BLOCKED
    assert result.reasons["WP02"] == "later"
    assert stage.agents.stopped == [one.id for one in stage.agents.requests if one.wp_id == "WP02"]


async def test_what_needs_a_person_goes_on_in_the_same_run_with_a_hint() -> None:
    plays = iter([Play(outcome=Outcome.TIMEOUT), Play(outcome=Outcome.TIMEOUT)])
    stage = Stage(
        {"WP01": (), "WP02": ()},
        script=scripted(WP01_implement=lambda _: next(plays, Play()), implement=Play(seconds=200)),
    )
    result, answers = await steered(stage, [(100, Retry("WP01", "log in first"))])
    assert not answers[0].refused, answers
    assert result.exit_code == 0
    assert "log in first" in stage.prompts_of("WP01", Role.IMPLEMENT)[-1]


async def test_settings_hold_from_now_on_and_for_the_next_start() -> None:
    stage = Stage({"WP01": (), "WP02": (), "WP03": ()}, script=slow(), max_concurrent=1)

    def change(settings: Any, changes: Any) -> Changed:
        stage.max_concurrent = 3
        return Changed({**settings, **changes}, replace(stage.policy, max_concurrent=3))

    orders = MemoryOrders(change)
    given = [(5, Set({"max_concurrent": "3"}))]
    result, _ = await steered(stage, given, orders=orders, settings={"timeout": 9})
    assert result.exit_code == 0
    assert stage.agents.most_at_once == 3


async def test_a_drained_run_lets_its_agents_end() -> None:
    stage = Stage(script=slow())
    result, answers = await steered(stage, [(5, Drain())])
    assert (result.exit_code, answers[0].refused) == (143, False)
    assert [
        one.event.report.outcome for one in stage.watcher.entries if isinstance(one.event, AgentExited)
    ] == [Outcome.OK]


async def test_an_order_that_was_journaled_before_the_run_was_cut_off_is_only_answered() -> None:
    stage, orders = Stage({"WP01": ()}, script=slow()), MemoryOrders()
    with anyio.move_on_after(7):
        async with anyio.create_task_group() as tg:
            tg.start_soon(stage.orchestrator(orders=orders).run)
            await anyio.sleep(5)
            given = orders.put(Tell("WP01", "use tabs"))
    orders.again(given)
    result, _ = await steered(stage, [], orders=orders)
    assert result.exit_code == 0
    assert sum(isinstance(one.event, Told) for one in entries(stage)) == 1
    assert "before" in orders.answers[given].text


@pytest.mark.parametrize("line", range(2, 26))
async def test_a_machine_that_dies_at_any_line_carries_each_order_out_once(line: int) -> None:
    given: list[tuple[float, Order]] = [(3.0, Pause()), (4.0, Tell("WP01", "use tabs")), (5.0, Stop("WP01"))]
    given += [(20.0, Continue(wp="WP01")), (21.0, Continue())]
    stage, orders = Stage({"WP01": ()}, script=slow()), MemoryOrders()
    stage.journal.dies_at = line

    async def person() -> None:
        for at_s, order in given:
            await anyio.sleep_until(at_s)
            orders.put(order)

    async def dies() -> None:
        with suppress(Power, ExceptionGroup):
            await stage.orchestrator(orders=orders).run()
        stage.journal.dies_at = None
        orders.restart()
        done.append(await stage.run(orders=orders))

    done: list[RunResult] = []
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tg:
            tg.start_soon(person)
            tg.start_soon(dies)
    stage.assert_sound()
    assert done[0].exit_code == 0
    carried_out = [one.event.order for one in entries(stage) if getattr(one.event, "order", "")]
    assert len(carried_out) == len(set(carried_out))
    assert {answer.refused for answer in orders.answers.values()} == {False}
    assert "use tabs" in stage.prompts_of("WP01", Role.REVIEW)[-1]


def entries(stage: Stage) -> list[Any]:
    return [one for one in stage.journal.lines if isinstance(one, Entry)]
