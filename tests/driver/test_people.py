"""A run whose work packages people take over, hand back and approve while it goes on."""

from dataclasses import replace

import anyio
import pytest
from tests.driver.builders import Stage, scripted
from tests.driver.test_orders import slow, steered

from spec_kitty_orchestrator.core.events import Parked
from spec_kitty_orchestrator.core.model import Lane, Outcome, Role
from spec_kitty_orchestrator.core.orders import Approve, Continue, HandBack, Order, Pause, Stop, TakeOver
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.testing.memory_orders import MemoryOrders
from spec_kitty_orchestrator.testing.scripted_agents import Play

pytestmark = pytest.mark.anyio

EVERY_REVIEW_FAILS = scripted(review=Play(outcome=Outcome.FAILED), WP02_implement=Play(seconds=2000))


async def test_what_a_person_takes_over_is_stopped_and_nobody_touches_it_until_it_is_back() -> None:
    stage = Stage({"WP01": (), "WP02": ("WP01",), "WP03": ()}, script=slow(100))
    given: list[tuple[float, Order]] = [(5, TakeOver("WP01", "anna"))]
    given.append((150, HandBack("WP01", "anna", "did it by hand")))
    result, answers = await steered(stage, given)
    assert [one.refused for one in answers] == [False, False], answers
    assert result.exit_code == 0
    mine = [one for one in stage.agents.requests if one.wp_id == "WP01"]
    assert [one.role for one in mine] == [Role.IMPLEMENT, Role.REVIEW]
    assert stage.agents.stopped == [mine[0].id]
    held = [one for one in stage.host.events if one.actor == "anna"]
    assert [(one.from_lane, one.to_lane) for one in held] == [(Lane.IN_PROGRESS, Lane.IN_PROGRESS)]
    assert held[0].policy is not None
    assert held[0].policy.agent_family == "human"


@pytest.mark.parametrize(
    ("before", "after"), [([Stop("WP01")], []), ([Pause()], [Continue()]), ([Pause(wp="WP01")], [])], ids=str
)
async def test_what_is_paused_can_be_taken_over_and_goes_on_once_it_is_back(
    before: list[Order], after: list[Order]
) -> None:
    stage = Stage({"WP01": (), "WP02": ("WP01",), "WP03": ()}, script=slow(200))
    given: list[tuple[float, Order]] = [(5, one) for one in before]
    given += [(100, TakeOver("WP01", "anna")), (150, HandBack("WP01", "anna", "did it by hand"))]
    result, answers = await steered(stage, [*given, *((300, one) for one in after)])
    assert not any(one.refused for one in answers), answers
    assert result.exit_code == 0


async def test_what_depends_on_it_waits_for_that_person_by_name() -> None:
    stage = Stage({"WP01": (), "WP02": ("WP01",), "WP03": ()}, script=slow(100))
    result, _ = await steered(stage, [(5, TakeOver("WP01", "anna"))])
    assert result.exit_code == 1
    assert "WP01 (taken over by anna at " in result.reasons["WP02"]
    assert result.reasons["WP01"].startswith("taken over by anna")


async def test_a_start_after_a_kill_leaves_it_alone_and_takes_it_up_when_it_is_back() -> None:
    stage, orders = Stage({"WP01": (), "WP02": ()}, script=slow(100)), MemoryOrders()
    with anyio.move_on_after(30):
        async with anyio.create_task_group() as tg:
            tg.start_soon(stage.orchestrator(orders=orders).run)
            await anyio.sleep(5)
            await orders.give(TakeOver("WP01", "anna"))
    result, answers = await steered(stage, [(50, HandBack("WP01", "anna", "mine"))], orders=orders)
    assert not answers[0].refused, answers
    assert result.exit_code == 0


async def test_a_person_approves_what_no_reviewer_could_and_the_host_is_told_so() -> None:
    stage = Stage({"WP01": (), "WP02": ()}, script=EVERY_REVIEW_FAILS)
    orders = MemoryOrders()
    heads: list[str] = []

    async def approve() -> None:
        await anyio.sleep(1000)
        assert any(isinstance(one.event, Parked) for one in stage.watcher.entries)
        heads.append(next(one.head for one in stage.agents.requests if one.role is Role.REVIEW))
        assert (await orders.give(Approve("WP01", "anna", "f" * 40, "fine"))).refused
        assert (await orders.give(Approve("WP01", "rob", heads[0], "fine"))).refused
        answer = await orders.give(Approve("WP01", "anna", heads[0], "I looked"))
        assert not answer.refused, answer

    async with anyio.create_task_group() as tg:
        tg.start_soon(approve)
        await stage.orchestrator(orders=orders).run()
    assert stage.host.lanes["WP01"] is Lane.DONE
    last = next(one for one in reversed(stage.host.events) if one.wp == "WP01")
    assert last.actor == "anna"
    assert last.review is not None
    assert (last.review.reviewer, last.review.reference) == ("anna", f"a-person@{heads[0]}")


async def test_work_that_a_person_hands_back_goes_through_the_gates() -> None:
    policy = replace(Stage().policy, gates=(Gate("tests", ("pytest",)),))
    stage = Stage({"WP01": (), "WP02": ()}, script=slow(100), policy=policy)
    given: list[tuple[float, Order]] = [(5, TakeOver("WP01", "anna"))]
    given.append((100, HandBack("WP01", "anna", "mine")))
    result, _ = await steered(stage, given)
    assert result.exit_code == 0
    assert len(stage.gates.runs) == 2
