"""Our ways to take orders keep what each of them promises, and the suite finds those that do not."""

import json
from collections.abc import Mapping
from itertools import count
from pathlib import Path

import anyio
import pytest
from tests.contract.mutants import is_kept

from spec_kitty_orchestrator.core.orders import Changed, Given, Order
from spec_kitty_orchestrator.machine import orders as order_folder
from spec_kitty_orchestrator.machine.orders import OrderFolder, put
from spec_kitty_orchestrator.testing import MemoryOrders, OrdersContract, OrdersStage


async def unchanged(settings: Mapping[str, object], changes: Mapping[str, str]) -> Changed:
    raise AssertionError


class FolderStage:
    """Orders as files, as the command gives them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = count(1)
        self._open()

    def _open(self) -> None:
        self.orders = OrderFolder(self._directory, unchanged, pytest.fail)

    async def give(self, order: Order) -> str:
        order_id = f"{next(self._numbers):08}"
        await anyio.to_thread.run_sync(put, self._directory / order_folder.FOLDER, order_id, order)
        return order_id

    async def answered(self, name: str) -> tuple[str, bool]:
        file = anyio.Path(self._directory, order_folder.FOLDER, f"{name}.answer")
        while not await file.exists():
            await anyio.lowlevel.checkpoint()
        told = json.loads(await file.read_text())
        return told["text"], told["refused"]

    async def crash(self) -> None:
        self._open()


class TestOrderFolder(OrdersContract):
    @pytest.fixture
    def stage(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OrdersStage:
        monkeypatch.setattr(order_folder, "POLL_S", 0.01)
        return FolderStage(tmp_path)


class MemoryStage:
    def __init__(self, orders: MemoryOrders) -> None:
        self.orders = orders

    async def give(self, order: Order) -> str:
        return self.orders.put(order)

    async def answered(self, name: str) -> tuple[str, bool]:
        while name not in self.orders.answers:
            await anyio.lowlevel.checkpoint()
        answer = self.orders.answers[name]
        return answer.text, answer.refused

    async def crash(self) -> None:
        self.orders.restart()


class TestMemoryOrders(OrdersContract):
    @pytest.fixture
    def stage(self) -> OrdersStage:
        return MemoryStage(MemoryOrders())


class Hurried(MemoryOrders):
    """Gives the last order first."""

    async def next(self) -> Given:
        self._left = dict(reversed(self._left.items()))
        return await super().next()


class Repeating(MemoryOrders):
    """Gives an order until it is answered."""

    async def next(self) -> Given:
        given = await super().next()
        self._left = {given.id: given, **self._left}
        return given


class Forgetful(MemoryOrders):
    """Does not know at the next start what it gave."""

    def restart(self) -> None:
        pass


class Eternal(MemoryOrders):
    """Gives everything at each start."""

    def restart(self) -> None:
        for order_id in self._all:
            self.again(order_id)


class Polite(MemoryOrders):
    """Refuses nothing."""

    async def answer(self, order_id: str, text: str, *, refused: bool = False) -> None:
        await super().answer(order_id, text)


@pytest.mark.parametrize(
    ("mutant", "promise"),
    [
        (Hurried, "test_every_kind_of_order_comes_as_it_was_given_in_this_order"),
        (Repeating, "test_an_order_comes_once"),
        (Forgetful, "test_an_order_that_nobody_answered_comes_again_at_the_next_start"),
        (Eternal, "test_an_order_that_was_answered_does_not_come_again"),
        (Polite, "test_the_answer_reaches_whoever_gave_the_order"),
    ],
)
def test_orders_that_break_a_promise_are_found(
    monkeypatch: pytest.MonkeyPatch, mutant: type[MemoryOrders], promise: str
) -> None:
    monkeypatch.setattr("spec_kitty_orchestrator.testing.contracts.orders.LIMIT_S", 0.3)
    assert not is_kept(OrdersContract, promise, {"stage": lambda: MemoryStage(mutant())})
