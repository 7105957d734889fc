"""Runs a mission with a function as its agent: python examples/own_agent.py MISSION [REPOSITORY]."""

import re
import sys
from pathlib import Path

import anyio

from spec_kitty_orchestrator import Done, FunctionAgent, Review, Role, open_run


async def worker(prompt: str, workspace: Path, role: Role) -> Done | Review:
    """Put a model of your own here: this one makes the first file that the task names, or looks for it."""
    named = re.search(r"`([\w/]+\.py)`", prompt)
    if named is None:
        return Review("changes_requested", "The task names no file.") if role is Role.REVIEW else Done()
    file = workspace / named[1]
    if role is Role.REVIEW:
        return Review("approved" if file.exists() else "changes_requested", f"Looked for {named[1]}.")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('"""Made by a function."""\n')
    return Done(f"Made {named[1]}.", subtasks_done=sorted(set(re.findall(r"\bT\d{3}\b", prompt))))


async def main(mission: str, repo: str) -> int:
    mine = FunctionAgent(worker, family="mine")
    settings = {"impl_agents": ["mine"], "review_agents": ["mine"]}
    async with open_run(mission, repo, settings=settings, agents={"mine": mine}, say=print) as run:
        result = await run.result()
    for wp in result.work_packages:
        print(f"{wp.id}: {wp.lane}")
    return result.exit_code


if __name__ == "__main__":
    slug, where = (*sys.argv[1:], ".")[:2]
    sys.exit(anyio.run(main, slug, where))
