"""What every `ports.orders.Orders` promises: each order comes once, until somebody has answered it."""

from typing import Protocol

import anyio
import pytest

from spec_kitty_orchestrator.core.orders import Drain, Given, Order, Pause, Stop
from spec_kitty_orchestrator.ports.orders import Orders
from spec_kitty_orchestrator.testing.contracts import LIMIT_S, Contract
from spec_kitty_orchestrator.testing.sample_lines import example_orders

__all__ = ["OrdersContract", "OrdersStage"]

QUIET_S = 0.05
"""For so long nothing may come where nothing is expected."""


class OrdersStage(Protocol):
    """What the orders of a run are tried on, given by their author."""

    @property
    def orders(self) -> Orders:
        """The orders that are tried."""
        ...

    async def give(self, order: Order) -> str:
        """Give an order as a person does, without waiting for its answer; return a name for it."""
        ...

    async def answered(self, name: str) -> tuple[str, bool]:
        """Wait for the answer to an order; return its text, and whether the order was refused."""
        ...

    async def crash(self) -> None:
        """Make `orders` those of the next start of the run, as if this process had been killed."""
        ...


class OrdersContract(Contract):
    """The suite for a `ports.orders.Orders`.

    A subclass gives the fixture `stage`.
    """

    @pytest.fixture
    def stage(self) -> OrdersStage:
        """Return what the orders are tried on; nobody has given any."""
        raise NotImplementedError("give the class a fixture stage that returns an OrdersStage")

    async def test_every_kind_of_order_comes_as_it_was_given_in_this_order(self, stage: OrdersStage) -> None:
        """Each with the name of who gave it and an id of its own."""
        orders = example_orders()
        for order in orders:
            await stage.give(order)
        given = [await _taken(stage) for _ in orders]
        assert [one.order for one in given] == [*orders]
        assert len({one.id for one in given}) == len(orders)
        assert all(one.by and one.id for one in given)

    async def test_an_order_is_waited_for(self, stage: OrdersStage) -> None:
        """A run takes one up at any time."""
        found: list[Given] = []

        async def take() -> None:
            found.append(await stage.orders.next())

        with anyio.fail_after(LIMIT_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take)
                await anyio.wait_all_tasks_blocked()
                assert found == []
                await stage.give(Stop("WP01"))
        assert [one.order for one in found] == [Stop("WP01")]

    async def test_the_answer_reaches_whoever_gave_the_order(self, stage: OrdersStage) -> None:
        """With whether it was refused."""
        for refused in (False, True):
            name = await stage.give(Stop("WP01"))
            taken = await _taken(stage)
            with anyio.fail_after(LIMIT_S):
                await stage.orders.answer(taken.id, f"told {refused}", refused=refused)
                assert await stage.answered(name) == (f"told {refused}", refused)

    async def test_an_order_comes_once(self, stage: OrdersStage) -> None:
        """Also before it is answered."""
        await stage.give(Stop("WP01"))
        await _taken(stage)
        assert await _nothing_comes(stage)

    async def test_an_order_that_nobody_answered_comes_again_at_the_next_start(
        self, stage: OrdersStage
    ) -> None:
        """Under the same id: what was journaled of it is known by that."""
        await stage.give(Stop("WP01"))
        await stage.give(Stop("WP02"))
        first = await _taken(stage)
        await stage.crash()
        assert await _taken(stage) == first
        assert (await _taken(stage)).order == Stop("WP02")

    async def test_an_order_that_was_answered_does_not_come_again(self, stage: OrdersStage) -> None:
        """Neither now nor at the next start."""
        await stage.give(Pause())
        taken = await _taken(stage)
        with anyio.fail_after(LIMIT_S):
            await stage.orders.answer(taken.id, "paused")
        assert await _nothing_comes(stage)
        await stage.crash()
        assert await _nothing_comes(stage)

    async def test_whoever_is_canceled_while_it_waits_loses_no_order(self, stage: OrdersStage) -> None:
        """The next one to ask gets it."""
        with anyio.move_on_after(QUIET_S):
            await stage.orders.next()
        await stage.give(Drain())
        assert (await _taken(stage)).order == Drain()


async def _taken(stage: OrdersStage) -> Given:
    with anyio.fail_after(LIMIT_S):
        return await stage.orders.next()


async def _nothing_comes(stage: OrdersStage) -> bool:
    with anyio.move_on_after(QUIET_S) as waiting:
        await stage.orders.next()
    return waiting.cancelled_caught
