"""Looks after an attempt while it runs: who its processes are, and whether anything of it still moves.

An attempt is stalled only if its output, the processor time of its processes and its worktree are all still
for long. A look at the output and the processes is cheap; the others are asked only when these two are still.
One that has told its result has nothing left to do but to end.
"""

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import psutil

from spec_kitty_orchestrator.machine.output import STDOUT, note_growth
from spec_kitty_orchestrator.machine.process import find_marked
from spec_kitty_orchestrator.machine.process_id import Child
from spec_kitty_orchestrator.machine.process_tree import ProcessTree, Table, read_table

__all__ = ["RESULT_GRACE_S", "Signs", "Stillness", "Tables", "watch"]

FIRST_LOOK_S = 0.25
"""After the start; the next ones come after twice as long each, up to `LOOK_S`."""
LOOK_S = 10.0
"""Between two looks: a process that outlives its parents is known only if it was seen before."""
THOROUGH_LOOK_S = 5.0
"""Shortest time between two looks at the worktree and at the marker of all processes: some 30 ms."""
RESULT_GRACE_S = 30.0
"""From a positive result to the end of the process; the slowest CLI seen needs 5 s to end."""
LOOKS_PER_STALL = 20
BUSY_SHARE = 0.01
"""Of one core: what merely waits uses less for its timers, and what compiles or tests uses more."""
MOST_ENTRIES = 2_000
"""Files and folders of a worktree that are looked at."""
_SKIPPED = frozenset({".git", "node_modules", ".venv", "__pycache__"})


class Tables:
    """The table of processes, read once for all attempts that ask at about the same time."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._table: Table = {}
        self._read_at = float("-inf")
        self._lock = anyio.Lock()

    async def get(self, max_age_s: float) -> Table:
        """Return a table that is not older than that.

        Raises:
            OSError: the processes cannot be read, for example for want of descriptors.
        """
        async with self._lock:
            if anyio.current_time() - self._read_at > max_age_s:
                self._table = await anyio.to_thread.run_sync(read_table)
                self._read_at = anyio.current_time()
        return self._table


class Stillness:
    """For how long nothing moved; time between looks counts only as far as looks were meant to be apart."""

    def __init__(self, limit_s: float) -> None:
        """Take the time after which it is too long, in seconds; 0 for never."""
        self.limit_s = limit_s
        self.still_s: float = 0.0
        self._warned = False

    def moved(self) -> None:
        """Start again."""
        self.still_s = 0.0
        self._warned = False

    def rest(self, seconds: float) -> bool:
        """Let time pass in which nothing moved; tell whether it is time to warn."""
        self.still_s += seconds
        if self.limit_s <= 0 or self._warned or self.still_s < self.limit_s / 2:
            return False
        self._warned = True
        return True

    @property
    def too_long(self) -> bool:
        """Whether the limit is reached."""
        return 0 < self.limit_s <= self.still_s


class Signs:
    """What shows that an attempt moves; each method compares with its last call. Not for the event loop."""

    def __init__(
        self,
        child: Child,
        marker: str,
        directory: Path,
        workspace: Path,
        has_result: Callable[[], bool] = lambda: False,
    ) -> None:
        """Nothing is looked at yet; `has_result` reads the output."""
        self.tree: ProcessTree = ProcessTree(child)
        self._marker = marker
        self._directory = directory
        self._logs = (directory / STDOUT, directory / "stderr.log")
        self._workspace = workspace
        self._written: tuple[tuple[int, int], ...] = ((0, 0), (0, 0))
        self._busy_s = 0.0
        self._entries: tuple[object, ...] = ()
        self._has_result = has_result
        self._read: tuple[int, int] | None = None
        self._seen: tuple[int, int] | None = None
        self.told: bool = False

    def cheap(self, table: Table, elapsed_s: float) -> bool:
        """Tell whether output was written, a process joined, or processor time was used."""
        before = self.tree.members
        busy_s = self.tree.update(table)
        used_s, self._busy_s = busy_s - self._busy_s, busy_s
        written, self._written = self._written, tuple(map(_written, self._logs))
        if self._written[0][0] > written[0][0]:
            note_growth(self._directory, *self._written[0])
        joined = self.tree.members - before
        return written != self._written or bool(joined) or used_s > BUSY_SHARE * elapsed_s

    def thorough(self) -> bool:
        """Tell whether the worktree changed, or a process shows up that had left the tree unseen."""
        found = self.tree.add(find_marked(self._marker)) > 0
        entries, self._entries = self._entries, _newest(self._workspace)
        return found or entries != self._entries

    def result(self, *, certain: bool = False) -> bool:
        """Tell whether its output ends with a positive result; while it is written, whether it did before.

        With `certain` it is read now.
        """
        written = _written(self._logs[0])
        still, self._seen = written == self._seen, written
        if certain or (still and written != self._read):
            self._read = written
            self.told = self._has_result()
        return self.told


async def watch(
    signs: Signs,
    tables: Tables,
    limit_s: float,
    warn: Callable[[float], None],
    stalled: Callable[[], None],
    finished: Callable[[], None],
) -> None:
    """Look again and again until canceled, until nothing has moved for too long, or until its work is over.

    Args:
        signs: of the attempt.
        tables: shared by all attempts.
        limit_s: how long nothing may move, in seconds; 0 for as long as it likes.
        warn: is told at half of that for how long it has been still, in seconds.
        stalled: is called at the end of it.
        finished: is called when its result has been told for `RESULT_GRACE_S`, whatever still moves.
    """
    stillness = Stillness(limit_s)
    thorough_s = max(THOROUGH_LOOK_S, limit_s / LOOKS_PER_STALL)
    pause_s = min(FIRST_LOOK_S, LOOK_S)
    looked = thorough_at = anyio.current_time()
    uncounted_s = told_s = 0.0
    while not stillness.too_long:
        await anyio.sleep(pause_s)
        elapsed_s = anyio.current_time() - looked
        looked += elapsed_s
        # A machine that slept, or a debugger that held us, says nothing of the agent.
        counted_s = min(elapsed_s, 2 * pause_s)
        uncounted_s += counted_s
        told_s = told_s + counted_s if await _result(signs) else 0.0
        if told_s >= RESULT_GRACE_S and await _result(signs, certain=True):
            finished()
            return
        moved = await _tell(_cheap(signs, tables, pause_s / 2, elapsed_s))
        pause_s = min(2 * pause_s, LOOK_S)
        if moved:
            stillness.moved()
            uncounted_s = 0.0
        elif limit_s > 0 and looked - thorough_at >= thorough_s:
            thorough_at = looked
            if await _tell(anyio.to_thread.run_sync(signs.thorough)):
                stillness.moved()
            elif stillness.rest(uncounted_s):
                warn(stillness.still_s)
            uncounted_s = 0.0
    stalled()


async def _cheap(signs: Signs, tables: Tables, max_age_s: float, elapsed_s: float) -> bool:
    table = await tables.get(max_age_s)
    return await anyio.to_thread.run_sync(signs.cheap, table, elapsed_s)


async def _result(signs: Signs, *, certain: bool = False) -> bool:
    try:
        return await anyio.to_thread.run_sync(partial(signs.result, certain=certain))
    except OSError:
        return False


async def _tell(look: Awaitable[bool]) -> bool:
    """Return what a look tells; what cannot be looked at is no reason to stop anybody."""
    try:
        return await look
    except (OSError, psutil.Error):
        return True


def _written(path: Path) -> tuple[int, int]:
    with suppress(OSError):
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    return 0, 0


def _newest(top: Path) -> tuple[int, int]:
    """Return how many entries a worktree has, and when the last of them was changed."""
    count = newest = 0
    folders = [str(top)]
    for folder in folders:
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if count >= MOST_ENTRIES:
                    return count, newest
                count += 1
                with suppress(OSError):
                    newest = max(newest, entry.stat(follow_symlinks=False).st_mtime_ns)
                    if entry.name not in _SKIPPED and entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
    return count, newest
