"""Who belongs to an attempt: what descends from its first process, shares its sessions, or was seen to once.

A process that loses its parent and clears its environment can be recognised no more. So it is remembered from
the looks that were taken while its parents lived.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import psutil

from spec_kitty_orchestrator.machine.process import ENDED, TICKS_PER_S, is_running, read_stat, started_s
from spec_kitty_orchestrator.machine.process_id import Child

__all__ = ["ProcessTree", "Row", "Table", "read_table"]


@dataclass(frozen=True)
class Row:
    """One process: its start as `Child` tells it; `busy_s` counts children that it has waited for."""

    pid: int
    parent: int
    session: int
    started: float
    busy_s: float


Table = Mapping[int, Row]


def read_table() -> Table:
    """Read all processes, zombies left out; some milliseconds. Not for the event loop."""
    rows = _linux_rows() if sys.platform == "linux" else _other_rows()
    return {row.pid: row for row in rows}


def _linux_rows() -> Iterator[Row]:
    with os.scandir("/proc") as entries:
        names = [entry.name for entry in entries if entry.name.isdigit()]
    for name in names:
        # Processes end while we look.
        with suppress(OSError, ValueError, IndexError):
            fields = read_stat(name)
            if fields[0] not in ENDED:
                busy = sum(int(ticks) for ticks in fields[11:15]) / TICKS_PER_S
                yield Row(int(name), int(fields[1]), int(fields[3]), started_s(fields), busy)


def _other_rows() -> Iterator[Row]:
    for process in psutil.process_iter(["ppid", "create_time", "cpu_times", "status"]):
        told = process.info
        with suppress(OSError):
            if told["create_time"] is not None and told["status"] != psutil.STATUS_ZOMBIE:
                busy = sum(told["cpu_times"][:2]) if told["cpu_times"] else 0.0
                yield Row(process.pid, told["ppid"] or 0, os.getsid(process.pid), told["create_time"], busy)


class ProcessTree:
    """The processes of one attempt that were seen so far."""

    def __init__(self, *members: Child) -> None:
        """Take those that are known; each may lead a session."""
        self._members: dict[int, Child] = {one.pid: one for one in members}
        self._sessions = set(self._members)

    def add(self, members: Iterable[Child]) -> int:
        """Take more; return how many were new."""
        before = len(self._members)
        self._members.update((one.pid, one) for one in members)
        return len(self._members) - before

    def update(self, table: Table) -> float:
        """Find who joined and who left, and return the processor time of all, in seconds."""
        alive = {pid: one for pid, one in self._members.items() if _is(table.get(pid), one)}
        # Somebody else's session, if its number belongs to a process that is none of ours by now.
        sessions = {one for one in self._sessions if one not in table or one in alive}
        joined = _descendants(table, alive) | {row.pid for row in table.values() if row.session in sessions}
        for pid in joined - {os.getpid(), *alive}:
            alive[pid] = Child(pid, table[pid].started)
        self._members = alive
        led = {pid for pid in alive if table[pid].session == pid}
        used = {row.session for row in table.values()}
        self._sessions = (sessions | led) & used
        return sum(table[pid].busy_s for pid in alive)

    @property
    def members(self) -> frozenset[Child]:
        """Those that were alive at the last look."""
        return frozenset(self._members.values())

    def alive(self) -> set[Child]:
        """Return those that still run."""
        return {one for one in self._members.values() if is_running(one)}


def _descendants(table: Table, roots: Iterable[int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for row in table.values():
        children.setdefault(row.parent, []).append(row.pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            if pid not in found:
                found.add(pid)
                waiting.append(pid)
    return found


def _is(row: Row | None, child: Child) -> bool:
    return row is not None and Child(row.pid, row.started) == child
