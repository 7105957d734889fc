"""What a machine does in the background."""

import os
import time
from pathlib import Path

import anyio
import pytest

from spec_kitty_orchestrator.cluster import chores
from spec_kitty_orchestrator.cluster.checkouts import Checkouts
from spec_kitty_orchestrator.cluster.chores import Chores
from spec_kitty_orchestrator.cluster.shipment import Shipment, Snapshot
from spec_kitty_orchestrator.errors import WorkspaceError

pytestmark = pytest.mark.anyio

SHIPMENT = Shipment("project", "place", Snapshot("1" * 40, "1" * 40))


class Slow(Checkouts):
    """Checkouts whose chores take as long as they are told, and may fail."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.may_go = anyio.Event()
        self.fails = False

    async def prepare(self, shipment: Shipment) -> None:
        self.done.append(shipment.project)
        await self.may_go.wait()
        if self.fails:
            raise WorkspaceError("the disk is full")

    async def tidy(self) -> None:
        self.done.append("tidy")


async def test_one_chore_is_done_at_a_time_and_none_is_waited_for(tmp_path: Path) -> None:
    slow = Slow()
    work = Chores(slow, tmp_path)
    for _ in range(3):
        work.prepare(SHIPMENT)
        work.tidy(idle=True)
        await anyio.wait_all_tasks_blocked()
    assert slow.done == ["project"]
    slow.may_go.set()
    await anyio.wait_all_tasks_blocked()
    work.tidy(idle=False)
    work.tidy(idle=True)
    await anyio.wait_all_tasks_blocked()
    work.tidy(idle=True)
    await anyio.wait_all_tasks_blocked()
    assert slow.done == ["project", "tidy"]
    await work.close()


async def test_attempts_of_long_ago_are_forgotten_and_no_others(tmp_path: Path) -> None:
    month_ago = time.time() - 31 * 24 * 3600
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "stop").touch()
    os.utime(tmp_path / "old", (month_ago, month_ago))
    work = Chores(Slow(), tmp_path)
    work.tidy(idle=True)
    with anyio.fail_after(5):
        while (tmp_path / "old").exists():  # noqa: ASYNC110 - a thread removes it
            await anyio.sleep(0.01)
    await work.close()
    assert (tmp_path / "new" / "stop").exists()


async def test_a_chore_that_fails_is_put_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chores, "TIDY_S", 0.0)
    slow = Slow()
    slow.fails = True
    slow.may_go.set()
    work = Chores(slow, tmp_path)
    for _ in range(2):
        work.prepare(SHIPMENT)
        await anyio.wait_all_tasks_blocked()
    assert slow.done == ["project", "project"]


async def test_closing_leaves_what_is_being_done(tmp_path: Path) -> None:
    work = Chores(Slow(), tmp_path)
    await work.close()
    work.prepare(SHIPMENT)
    with anyio.fail_after(5):
        await work.close()
