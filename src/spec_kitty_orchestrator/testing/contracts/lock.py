"""What every `ports.Lock` promises: one driver at a time works on a mission."""

from collections.abc import Callable

import anyio
import pytest

from spec_kitty_orchestrator.errors import RunActive
from spec_kitty_orchestrator.ports import Lock
from spec_kitty_orchestrator.testing.contracts import LIMIT_S, Contract

__all__ = ["LockContract", "OpenLock"]

OpenLock = Callable[[], Lock]
"""Makes a lock of one and the same mission, as each start of a run does."""


class LockContract(Contract):
    """The suite for a `ports.Lock`.

    That a crash frees it is for the author to try: it takes a process that is killed. A subclass gives the
    fixture `open_lock`.
    """

    @pytest.fixture
    def open_lock(self) -> OpenLock:
        """Return a function that makes a lock; two calls make locks of one mission, which nobody holds."""
        raise NotImplementedError("give the class a fixture open_lock that returns such a function")

    async def test_who_comes_second_is_told_that_a_run_is_active(self, open_lock: OpenLock) -> None:
        """And takes nothing away from the first."""
        with anyio.fail_after(LIMIT_S):
            async with open_lock():
                for _ in range(2):
                    with pytest.raises(RunActive, match=r"."):
                        await _enter(open_lock())

    async def test_it_is_free_when_it_was_left(self, open_lock: OpenLock) -> None:
        """Also for one that was refused before."""
        refused = open_lock()
        with anyio.fail_after(LIMIT_S):
            async with open_lock():
                with pytest.raises(RunActive):
                    await _enter(refused)
            await _enter(refused)
            await _enter(open_lock())

    async def test_whoever_holds_it_may_enter_again_and_gives_it_back_as_often(
        self, open_lock: OpenLock
    ) -> None:
        """A program that holds it can call a driver that takes it."""
        lock = open_lock()
        with anyio.fail_after(LIMIT_S):
            async with lock:
                async with lock:
                    pass
                with pytest.raises(RunActive):
                    await _enter(open_lock())
            await _enter(open_lock())

    async def test_an_exception_leaves_it_free_and_goes_on(self, open_lock: OpenLock) -> None:
        """Whatever it is."""
        with anyio.fail_after(LIMIT_S):
            with pytest.raises(ZeroDivisionError):
                async with open_lock():
                    raise ZeroDivisionError
            await _enter(open_lock())

    async def test_whoever_is_canceled_holds_it_no_longer(self, open_lock: OpenLock) -> None:
        """Neither while it enters nor while it holds it."""
        with anyio.fail_after(LIMIT_S):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await _enter(open_lock())
            await _enter(open_lock())
            with anyio.CancelScope() as scope:
                async with open_lock():
                    scope.cancel()
                    await anyio.sleep_forever()
            await _enter(open_lock())

    async def test_of_many_that_come_at_once_one_gets_it(self, open_lock: OpenLock) -> None:
        """The others are told."""
        got: list[Lock] = []
        over = anyio.Event()
        refused: list[RunActive] = []

        async def come(lock: Lock) -> None:
            try:
                async with lock:
                    got.append(lock)
                    await over.wait()
            except RunActive as active:
                refused.append(active)
            if len(refused) == 4:
                over.set()

        with anyio.fail_after(LIMIT_S):
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(come, open_lock())
        assert (len(got), len(refused)) == (1, 4)


async def _enter(lock: Lock) -> None:
    async with lock:
        pass
