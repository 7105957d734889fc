"""A program such as people write: drives a mission with a function of its own beside agents of the settings.

It understands the prompts of this project: what to create stands in backquotes. Given a port, the function
calls there before it implements, and goes on when it is answered.
"""

import argparse
import asyncio
import os
import re
import sys
from pathlib import Path

from spec_kitty_orchestrator import (
    Done,
    FunctionAgent,
    Review,
    Role,
    Usage,
    build,
    build_agents,
    build_parts,
    open_project,
)
from spec_kitty_orchestrator.app.build import build_workspaces
from spec_kitty_orchestrator.app.mission import open_mission
from spec_kitty_orchestrator.testing import Watcher

parser = argparse.ArgumentParser()
parser.add_argument("mission")
parser.add_argument("implementer")
parser.add_argument("reviewer")
parser.add_argument("--port", type=int)
chosen = parser.parse_args()


async def mine(prompt: str, workspace: Path, role: Role) -> Done | Review:
    if role is Role.REVIEW:
        return Review("approved", "I looked at it.", usage=Usage(5, 7, 0.25))
    if chosen.port:
        reader, writer = await asyncio.open_connection("127.0.0.1", chosen.port)
        writer.write(b"!")
        await reader.read(1)
    wanted = re.findall(r"[Cc]reate (?:the file )?`([^`]+)`", prompt)
    file = workspace / (wanted[-1] if wanted else "a.py")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("A = 1\n")
    return Done("I wrote it.", usage=Usage(1, 2, 0.5))


async def main() -> int:
    settings = {"impl_agents": chosen.implementer, "review_agents": chosen.reviewer}
    mine_ = FunctionAgent(mine, family="acme", reports_cost=True)
    project = open_project(None, os.environ, settings, agents={"mine": mine_})
    agents = build_agents(project, print)
    opening = open_mission(project, chosen.mission, agents, print, lambda _: None, fresh=False)
    async with opening as opened:
        slug = opened.state.slug
        parts = build_parts(
            project,
            slug,
            host=opened.host,
            agents=agents,
            workspaces=build_workspaces(project, slug, print),
            observer=Watcher(),
            lock=opened.lock,
        )
        return (await build(project, slug, parts).run(opened.state)).exit_code


sys.exit(asyncio.run(main()))
