"""When an attempt counts as stalled: only if output, processor time and files are still at once, for long."""

import sys
from collections.abc import Callable, Sequence
from errno import EMFILE
from pathlib import Path

import anyio
import psutil
import pytest

from spec_kitty_orchestrator.machine import watchdog
from spec_kitty_orchestrator.machine.process import known
from spec_kitty_orchestrator.machine.process_id import Child
from spec_kitty_orchestrator.machine.process_tree import Row, Table, read_table
from spec_kitty_orchestrator.machine.watchdog import Signs, Stillness, Tables, watch

LIMIT_S = 20
QUIET = Child(10, 100.0)


def rows(busy_s: float = 0.0, *more: int) -> Table:
    return {pid: Row(pid, 1, 10, 100.0, busy_s if pid == 10 else 0.0) for pid in (10, *more)}


@pytest.fixture
def signs(tmp_path: Path) -> Signs:
    """Of an attempt at which one has looked already."""
    (tmp_path / "attempt").mkdir()
    (tmp_path / "tree" / "src").mkdir(parents=True)
    (tmp_path / "tree" / "src" / "a.py").touch()
    (tmp_path / "attempt" / "stdout.log").touch()
    found = Signs(QUIET, "no-such-marker", tmp_path / "attempt", tmp_path / "tree")
    found.cheap(rows(), 10.0)
    found.thorough()
    return found


def test_nothing_moves_if_nothing_happens(signs: Signs) -> None:
    assert not signs.cheap(rows(), 10.0)
    assert not signs.thorough()


def test_output_is_a_sign(signs: Signs, tmp_path: Path) -> None:
    (tmp_path / "attempt" / "stdout.log").write_text("x")

    assert signs.cheap(rows(), 10.0)
    assert not signs.cheap(rows(), 10.0)


def test_processor_time_is_a_sign_if_it_is_more_than_timers_use(signs: Signs) -> None:
    assert not signs.cheap(rows(0.09), 10.0)
    assert signs.cheap(rows(0.3), 10.0)
    assert not signs.cheap(rows(0.3), 10.0)


def test_a_new_process_is_a_sign_and_the_end_of_one_is_not(signs: Signs) -> None:
    assert signs.cheap(rows(0.0, 11), 10.0)
    assert not signs.cheap(rows(), 10.0)


def test_a_changed_file_and_a_new_one_are_signs(signs: Signs, tmp_path: Path) -> None:
    (tmp_path / "tree" / "src" / "a.py").write_text("changed")
    assert signs.thorough()
    assert not signs.thorough()
    (tmp_path / "tree" / "src" / "b.py").touch()
    assert signs.thorough()
    assert not signs.thorough()


def test_a_huge_worktree_costs_no_more_than_a_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "MOST_ENTRIES", 50)
    for number in range(100):
        (tmp_path / f"{number}.txt").touch()

    assert watchdog._newest(tmp_path)[0] == 50


def test_a_worktree_that_is_gone_is_no_obstacle(tmp_path: Path) -> None:
    signs = Signs(QUIET, "no-such-marker", tmp_path, tmp_path / "gone")
    signs.thorough()

    assert not signs.thorough()


@pytest.mark.asyncio
async def test_a_busy_child_that_prints_nothing_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    spin = "import os\nos.setsid() if os.fork() == 0 else None\nwhile True: pass"
    async with await anyio.open_process([sys.executable, "-c", spin]) as agent:
        child = known(agent.pid)
        signs = Signs(child, "no-such-marker", tmp_path, tmp_path)
        try:
            with anyio.fail_after(LIMIT_S):
                while len(signs.tree.members) < 2:
                    signs.cheap(read_table(), 1e9)
                    await anyio.lowlevel.checkpoint()
                # No output and no new process any more: it can only be the processor time.
                while not signs.cheap(read_table(), 0.0):
                    await anyio.lowlevel.checkpoint()
        finally:
            for one in signs.tree.members:
                psutil.Process(one.pid).kill()


def test_it_is_time_to_warn_once_at_half_and_again_only_after_something_moved() -> None:
    stillness = Stillness(10.0)
    warned = [stillness.rest(2.0) for _ in range(5)]

    assert warned == [False, False, True, False, False]
    assert stillness.too_long
    stillness.moved()
    assert not stillness.too_long
    assert stillness.rest(6.0)


def test_without_a_limit_it_is_never_too_long() -> None:
    stillness = Stillness(0.0)

    assert not stillness.rest(1e9)
    assert not stillness.too_long


class Told:
    """Signs that are given beforehand: for each look, whether something moves."""

    def __init__(self, signs: Sequence[bool], fails: bool = False, results: Sequence[bool] = ()) -> None:
        self.left = list(signs)
        self.results = list(results)
        self.fails = fails

    def cheap(self, table: Table, elapsed_s: float) -> bool:
        if self.fails and self.left:
            self.left.pop(0)
            raise psutil.AccessDenied(1)
        return bool(self.left) and self.left.pop(0)

    def thorough(self) -> bool:
        return False

    def result(self, *, certain: bool = False) -> bool:
        return self.results.pop(0) if self.results else False


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_LOOK_S", "LOOK_S", "THOROUGH_LOOK_S"):
        monkeypatch.setattr(watchdog, name, 0.001)


async def watched(signs: Told, limit_s: float) -> list[str]:
    said: list[str] = []
    warn: Callable[[float], None] = lambda _: said.append("warned")  # noqa: E731
    with anyio.fail_after(LIMIT_S):
        await watch(
            signs,  # type: ignore[arg-type]
            Tables(),
            limit_s,
            warn,
            lambda: said.append("stalled"),
            lambda: said.append("finished"),
        )
    return said


@pytest.mark.asyncio
@pytest.mark.usefixtures("quick")
async def test_who_never_moves_is_warned_of_and_then_stalled() -> None:
    assert await watched(Told([]), 0.1) == ["warned", "stalled"]


@pytest.mark.asyncio
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fails", [False, True])
async def test_who_moves_or_cannot_be_looked_at_is_not_stalled(fails: bool) -> None:
    signs = Told([True] * 40, fails)

    await watched(signs, 0.02)

    assert signs.left == []


@pytest.mark.asyncio
@pytest.mark.usefixtures("quick")
async def test_who_has_told_a_result_is_finished_after_its_grace_though_it_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watchdog, "RESULT_GRACE_S", 0.02)

    assert await watched(Told([True] * 10_000, results=[True] * 10_000), 0.0) == ["finished"]


@pytest.mark.asyncio
@pytest.mark.usefixtures("quick")
async def test_who_goes_on_after_a_result_is_not_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "RESULT_GRACE_S", 0.0)

    assert await watched(Told([], results=[True, False, True, False]), 0.05) == ["warned", "stalled"]


def test_output_is_read_for_a_result_only_once_it_is_still_and_once_for_each_change(tmp_path: Path) -> None:
    reads: list[str] = []
    log = tmp_path / "stdout.log"
    log.write_text("thinking")

    def ends_well() -> bool:
        reads.append(log.read_text())
        return log.read_text() == "a result"

    signs = Signs(QUIET, "no-such-marker", tmp_path, tmp_path, ends_well)
    assert [signs.result() for _ in range(3)] == [False, False, False]
    log.write_text("a result")
    assert [signs.result() for _ in range(3)] == [False, True, True]
    log.write_text("a result, and more")
    assert [signs.result() for _ in range(3)] == [True, False, False]
    assert reads == ["thinking", "a result", "a result, and more"]
    log.write_text("a result")
    assert signs.result(certain=True)


@pytest.mark.asyncio
async def test_attempts_that_ask_at_the_same_time_share_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []

    def read() -> Table:
        reads.append(1)
        return {}

    monkeypatch.setattr(watchdog, "read_table", read)
    tables = Tables()

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(tables.get, 60.0)

    assert len(reads) == 1


@pytest.mark.asyncio
@pytest.mark.usefixtures("quick")
async def test_processes_that_cannot_be_read_stop_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [OSError(EMFILE, "Too many open files")] * 20 + [psutil.AccessDenied(1)] * 20
    reads: list[int] = []

    def read() -> Table:
        reads.append(1)
        if failures:
            raise failures.pop()
        return {}

    monkeypatch.setattr(watchdog, "read_table", read)

    assert await watched(Told([]), 0.05) == ["warned", "stalled"]
    assert failures == []
    assert len(reads) > 40
