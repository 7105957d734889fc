"""The end of an attempt that has to end: signals, bounded waits, and a sweep for whatever outlives it.

The shell tools of agents put commands into sessions of their own, which no signal to the group reaches. Only
processes that we started are ever signalled: known by pid and creation time, or by the marker.
"""

import os
import signal
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import anyio
import anyio.to_thread
import psutil

from spec_kitty_orchestrator.machine.adopted import orphans_since
from spec_kitty_orchestrator.machine.process import find_marked, is_running, wait
from spec_kitty_orchestrator.machine.process_id import Child
from spec_kitty_orchestrator.machine.process_tree import ProcessTree, read_table

__all__ = ["KILL_WAIT_S", "STOP_GRACE_S", "Grace", "Running", "stop", "stop_running", "sweep"]

STOP_GRACE_S = 8.0
"""From the first signal of a stop to KILL; the slowest CLI seen needed 2 s to save its session."""
KILL_WAIT_S = 5.0
"""The kernel ends a killed process at once, unless it hangs in I/O, which no wait of ours mends."""
SWEEP_TERM_S = 1.0
"""Leftovers get this long after TERM: git, for one, then removes its lock files, and after KILL it cannot."""
SWEEP_SETTLE_S = 0.2
"""What ends by itself is no leftover: a sandbox ends a little before the last process in it."""
SWEEP_ROUNDS = 5
"""A process can fork while we scan; every round finds fewer, and a fork bomb must not hold us."""


class Grace:
    """How long a stop may still wait before it kills; it can be shortened while it waits."""

    def __init__(self, seconds: float) -> None:
        self._ends = anyio.current_time() + seconds
        self._scope: anyio.CancelScope | None = None

    def shorten(self, seconds: float) -> None:
        """Let no more than `seconds` pass from now on; a longer time changes nothing."""
        self._ends = min(self._ends, anyio.current_time() + seconds)
        if self._scope is not None:
            self._scope.deadline = min(self._scope.deadline, self._ends)

    async def outlasts(self, end: Awaitable[object], share: float) -> bool:
        """Wait for an end during this share of what is left; tell whether it came."""
        now = anyio.current_time()
        with anyio.CancelScope(deadline=now + max(0.0, self._ends - now) * share) as self._scope:
            await end
            return True
        return False


@dataclass
class Running:
    """A process, or a function, that somebody waits for in `scope`; `grace` is set once it has to stop."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)
    grace: Grace | None = None

    def request_stop(self, grace_s: float) -> None:
        """Let it be stopped; asked again, it can only shorten the wait."""
        if self.grace is None:
            self.grace = Grace(grace_s)
            self.scope.cancel()
        else:
            self.grace.shorten(grace_s)


async def stop_running(processes: Iterable[Running], grace_s: float) -> None:
    """Stop them all at once, and return when all are gone or cannot be waited for any longer."""
    stopping = list(processes)
    for running in stopping:
        running.request_stop(grace_s)
    with anyio.move_on_after(grace_s + 3 * KILL_WAIT_S + SWEEP_TERM_S):
        for running in stopping:
            await running.ended.wait()


async def stop(
    child: Child,
    marker: str,
    grace: Grace,
    first: Literal["INT", "TERM"] = "TERM",
    tree: ProcessTree | None = None,
) -> int:
    """Stop the child with everything that it started; every wait is bounded.

    Args:
        child: the wrapper of the attempt.
        marker: the attempt's id.
        grace: can be shortened meanwhile.
        first: the gentler signal that the CLI cleans up better on.
        tree: what was seen of the attempt's processes while it ran.

    Returns:
        How many processes outlived the child and were killed.
    """
    tree = tree or ProcessTree(child)
    await anyio.to_thread.run_sync(_look, tree)
    # INT gets half of the grace where a CLI cleans up better on it; TERM follows if it does not react.
    ladder = [(signal.SIGINT, 0.5), (signal.SIGTERM, 1.0)] if first == "INT" else [(signal.SIGTERM, 1.0)]
    for gentle, share in ladder:
        await anyio.to_thread.run_sync(_signal_group, child, gentle)
        if await grace.outlasts(wait(child), share):
            break
    else:
        await _kill(child, tree)
    return await sweep(marker, tree)


async def _kill(child: Child, tree: ProcessTree) -> None:
    """Kill what the wrapper started, then the wrapper, unless it ends: it finds what nobody else can find."""
    await anyio.to_thread.run_sync(_look, tree)
    for victims in (tree.members - {child}, {child}):
        await anyio.to_thread.run_sync(_signal_each, victims, signal.SIGKILL)
        with anyio.move_on_after(KILL_WAIT_S):
            await wait(child)
            return


def _look(tree: ProcessTree) -> None:
    # Where nothing can be read, who was seen before is still known, and ended all the same.
    with suppress(OSError, psutil.Error):
        tree.update(read_table())


def _signal_group(child: Child, number: signal.Signals) -> None:
    # While the leader runs, the group's number cannot belong to anybody else.
    if is_running(child):
        with suppress(ProcessLookupError):
            os.killpg(_inside(child) or child.pid, number)


def _inside(child: Child) -> int | None:
    """Return the group of a confined command, None of one that is not.

    The sandbox itself would end at a signal, and everything in it at once with it. Its first process leads
    the group inside, and takes no signal but KILL.
    """
    with suppress(OSError, ValueError, psutil.Error):
        (sandbox,) = psutil.Process(child.pid).children()
        if sandbox.name() == "bwrap":
            (first,) = sandbox.children()
            return first.pid if os.getpgid(first.pid) == first.pid else None
    return None


async def sweep(marker: str, tree: ProcessTree | None = None, killed: Child | None = None) -> int:
    """End whatever still carries the marker or was seen as one of the tree; every wait is bounded.

    Args:
        marker: the attempt's id.
        tree: what was seen of it.
        killed: its wrapper, if that was killed and so could not see to what the command left.

    Returns:
        How many processes there were.
    """
    known = tree or ProcessTree()
    if killed is not None:
        known.add(await anyio.to_thread.run_sync(orphans_since, killed.started))
    ended: set[Child] = set()
    for _ in range(SWEEP_ROUNDS):
        survivors = await anyio.to_thread.run_sync(_survivors, marker, known)
        if survivors and not ended:
            with anyio.move_on_after(SWEEP_SETTLE_S):
                for survivor in survivors:
                    await wait(survivor)
            survivors = {one for one in survivors if is_running(one)}
        if not survivors:
            break
        ended |= survivors
        for number, limit_s in ((signal.SIGTERM, SWEEP_TERM_S), (signal.SIGKILL, KILL_WAIT_S)):
            await anyio.to_thread.run_sync(_signal_each, survivors, number)
            with anyio.move_on_after(limit_s):
                for survivor in survivors:
                    await wait(survivor)
    return len(ended)


def _survivors(marker: str, tree: ProcessTree) -> set[Child]:
    with suppress(OSError, psutil.Error):
        tree.add(find_marked(marker))
    _look(tree)
    return tree.alive()


def _signal_each(children: Iterable[Child], number: signal.Signals) -> None:
    for child in filter(is_running, children):
        # Another user's cannot be signalled: what an agent started with more rights than it has.
        with suppress(ProcessLookupError, PermissionError):
            os.kill(child.pid, number)
