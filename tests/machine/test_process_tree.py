"""Which processes belong to an attempt, from tables of processes; nobody else's are ever among them."""

import os
import subprocess
import sys
from collections.abc import Mapping

import psutil
import pytest

from spec_kitty_orchestrator.machine.process import known
from spec_kitty_orchestrator.machine.process_id import Child
from spec_kitty_orchestrator.machine.process_tree import ProcessTree, Row, read_table


def table(*rows: tuple[int, int, int], started: float = 100.0, busy_s: float = 1.0) -> Mapping[int, Row]:
    return {pid: Row(pid, parent, session, started, busy_s) for pid, parent, session in rows}


def pids(tree: ProcessTree) -> set[int]:
    return {one.pid for one in tree.members}


def test_descendants_and_the_session_belong_to_it_and_nobody_else() -> None:
    tree = ProcessTree(Child(10, 100.0))

    busy_s = tree.update(table((1, 0, 1), (10, 1, 10), (11, 10, 10), (12, 11, 12), (13, 1, 10), (20, 1, 20)))

    assert pids(tree) == {10, 11, 12, 13}
    assert busy_s == 4.0


def test_who_loses_its_parents_is_remembered_and_so_are_its_later_children() -> None:
    tree = ProcessTree(Child(10, 100.0))
    tree.update(table((10, 1, 10), (11, 10, 10), (12, 11, 12)))

    tree.update(table((12, 1, 12), (13, 12, 12), (20, 1, 20)))

    assert pids(tree) == {12, 13}


def test_the_session_of_a_leader_that_is_gone_still_tells_whose_it_is() -> None:
    tree = ProcessTree(Child(10, 100.0))
    tree.update(table((10, 1, 10), (12, 10, 12), (13, 12, 12)))

    tree.update(table((14, 1, 12), (15, 1, 10)))

    assert pids(tree) == {14, 15}


def test_a_pid_that_another_process_got_is_not_ours_nor_is_its_session() -> None:
    tree = ProcessTree(Child(10, 100.0))
    tree.update(table((10, 1, 10), (12, 10, 12)))

    tree.update(table((10, 1, 10), (12, 1, 12), (13, 12, 12), (14, 10, 10), started=500.0))

    assert pids(tree) == set()


def test_a_session_that_was_empty_once_is_not_ours_any_more() -> None:
    tree = ProcessTree(Child(10, 100.0))
    tree.update(table((10, 1, 10), (11, 10, 10)))
    tree.update(table((20, 1, 20)))

    tree.update(table((30, 1, 10), started=500.0))

    assert pids(tree) == set()


def test_we_ourselves_are_never_part_of_it() -> None:
    tree = ProcessTree(Child(10, 100.0))

    tree.update(table((10, 1, 10), (os.getpid(), 10, 10)))

    assert pids(tree) == {10}


def test_the_table_tells_of_real_processes_what_the_system_tells() -> None:
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as child:
        row = read_table()[child.pid]
        assert child.stdin is not None
        child.stdin.close()
        assert (row.parent, row.session) == (os.getpid(), child.pid)
        assert Child(row.pid, row.started) == known(child.pid)
        child.wait(20)


def test_where_there_is_no_proc_the_table_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    direct = read_table()[os.getpid()]
    monkeypatch.setattr(sys, "platform", "darwin")
    other = read_table()[os.getpid()]

    assert (other.parent, other.session) == (direct.parent, direct.session)
    assert other.started == psutil.Process().create_time()
