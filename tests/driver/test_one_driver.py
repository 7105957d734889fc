"""One driver at a time works on a mission: whoever drives asks for its lock."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from tests.driver.builders import Stage

from spec_kitty_orchestrator.driver.engine import Orchestrator
from spec_kitty_orchestrator.errors import RunActive
from spec_kitty_orchestrator.testing.memory_journal import MemoryLock

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def at_work(engine: Orchestrator) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(engine.run)
        await anyio.sleep(0.01)
        yield
        tasks.cancel_scope.cancel()


async def test_a_second_driver_of_a_mission_is_refused_and_changes_nothing() -> None:
    stage, held = Stage(), set[str]()
    async with at_work(stage.orchestrator(lock=MemoryLock(held))):
        lines = len(stage.journal.lines)
        with pytest.raises(RunActive):
            await stage.orchestrator(lock=MemoryLock(held)).run()
        assert len(stage.journal.lines) == lines


async def test_one_orchestrator_drives_once() -> None:
    engine = Stage().orchestrator()
    async with at_work(engine):
        with pytest.raises(RunActive):
            await engine.run()
    with pytest.raises(RunActive):
        await engine.run()


async def test_of_two_that_drive_the_same_parts_at_once_one_is_refused() -> None:
    stage, refused = Stage(), list[RunActive]()
    engine = stage.orchestrator()

    async def drive() -> None:
        try:
            assert (await engine.run()).exit_code == 0
        except RunActive as active:
            refused.append(active)

    with anyio.fail_after(100_000):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drive)
            tasks.start_soon(drive)
    assert len(refused) == 1


async def test_a_driver_that_was_cut_off_leaves_the_lock_to_the_next() -> None:
    stage, held = Stage(), set[str]()
    async with at_work(stage.orchestrator(lock=MemoryLock(held))):
        assert held
    assert (await stage.run(lock=MemoryLock(held))).exit_code == 0
    assert not held


async def test_whoever_holds_the_lock_already_drives_under_it_and_keeps_it() -> None:
    stage, held = Stage(), set[str]()
    async with MemoryLock(held) as _, anyio.create_task_group():
        with pytest.raises(RunActive):
            await stage.orchestrator(lock=MemoryLock(held)).run()
    async with (lock := MemoryLock(held)):
        assert (await stage.run(lock=lock)).exit_code == 0
        assert held
