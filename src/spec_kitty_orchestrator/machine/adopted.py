"""Children of ours that we did not start: what was left by those that are gone."""

import os
from contextlib import suppress

import anyio
import anyio.to_thread

from spec_kitty_orchestrator.machine.children import started, takes_orphans
from spec_kitty_orchestrator.machine.process import ENDED, read_stat, started_s
from spec_kitty_orchestrator.machine.process_id import Child

__all__ = ["keep_reaping", "orphans_since"]

REAP_EVERY_S = 10.0
"""Zombies cost nothing but their numbers."""

_settled: set[Child] = set()
"""Whom the last two looks found: what a wrapper leaves that was killed since then is not among them."""


def orphans_since(moment: float) -> list[Child]:
    """Find the running orphans that began at this moment or later, told as `Child.started`.

    When a wrapper was killed they are what it had left, as the orphans of others have their own wrapper.
    While it lived, its own went to it: whom we had by then is a daemon of git's or the host's, and is spared.
    Not for the event loop.
    """
    if not takes_orphans():
        return []
    with started() as ours:
        found = [one for one, ended in _children(ours) if not ended and one.started >= moment]
        return [one for one in found if one not in _settled]


async def keep_reaping() -> None:
    """Wait for the orphans that have ended, for as long as the kernel gives us any."""
    seen: dict[Child, bool] = {}
    while takes_orphans() or os.getpid() == 1:
        await anyio.sleep(REAP_EVERY_S)
        with suppress(OSError):
            seen = await anyio.to_thread.run_sync(_reap, seen)


def _reap(seen: dict[Child, bool]) -> dict[Child, bool]:
    """Wait for the orphans that had ended at the last look; return those of this one, and whether they ended.

    A library that starts children of its own waits for them at once, so they are left to it.
    """
    with started() as ours:
        found = dict(_children(ours))
        for one, ended in found.items():
            if ended and seen.get(one):
                with suppress(ChildProcessError):
                    os.waitpid(one.pid, os.WNOHANG)
        _settled.clear()
        _settled.update(found.keys() & seen.keys())
    return found


def _children(ours: frozenset[int]) -> list[tuple[Child, bool]]:
    me = str(os.getpid()).encode()
    found = []
    with os.scandir("/proc") as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
    for pid in pids:
        # Processes end while we look.
        with suppress(OSError, ValueError, IndexError):
            stat = read_stat(pid)
            if stat[1] == me and pid not in ours:
                found.append((Child(pid, started_s(stat)), stat[0] in ENDED))
    return found
