"""A program that runs a mission and cancels the task that does, after a time: MISSION REPOSITORY SECONDS."""

import sys
from collections import Counter

import anyio

from spec_kitty_orchestrator import open_run

CANCELED = 99
"""The exit code of a run that was canceled before its end."""


async def main(mission: str, repo: str, seconds: float) -> int:
    settings = {"impl_agents": ["scripted"], "review_agents": ["scripted"], "max_concurrent": 3}
    with anyio.move_on_after(seconds):
        async with open_run(mission, repo, settings=settings) as run:
            seen = [line.seq async for line in run.events()]
            assert set(Counter(seen).values()) == {1}
            assert seen == sorted(seen)
            return (await run.result()).exit_code
    return CANCELED


if __name__ == "__main__":
    sys.exit(anyio.run(main, sys.argv[1], sys.argv[2], float(sys.argv[3])))
