"""Children of ours that we did not start: what was left by those that are gone."""

import os
from contextlib import suppress

import anyio
import anyio.to_thread

from spec_kitty_orchestrator.machine.children import started, takes_orphans
from spec_kitty_orchestrator.machine.process import ENDED, Child, read_stat, started_s

REAP_EVERY_S = 10.0
"""Zombies cost nothing but their numbers."""


def orphans_since(moment: float) -> list[Child]:
    """Find the running orphans that began at this moment or later, told as `Child.started`.

    When a wrapper was killed they are what it had left, as the orphans of others have their own wrapper. Not
    for the event loop.
    """
    if not takes_orphans():
        return []
    with started() as ours:
        return [one for one, ended in _children(ours) if not ended and one.started >= moment]


async def keep_reaping() -> None:
    """Wait for the orphans that have ended, for as long as the kernel gives us any."""
    seen: set[Child] = set()
    while takes_orphans() or os.getpid() == 1:
        await anyio.sleep(REAP_EVERY_S)
        with suppress(OSError):
            seen = await anyio.to_thread.run_sync(_reap, seen)


def _reap(seen: set[Child]) -> set[Child]:
    """Wait for the orphans that had ended at the last look; return those that have ended at this one.

    A library that starts children of its own waits for them at once, so they are left to it.
    """
    with started() as ours:
        ended = {one for one, ended in _children(ours) if ended}
        for one in ended & seen:
            with suppress(ChildProcessError):
                os.waitpid(one.pid, os.WNOHANG)
    return ended


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
