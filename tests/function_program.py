"""A program such as people write: drives a mission with a function of its own beside agents of the settings.

It understands the prompts of this project: what to create stands in backquotes. Given a port, the function
calls there before it implements, and goes on when it is answered.
"""

import argparse
import asyncio
import re
import sys
from pathlib import Path

from spec_kitty_orchestrator import Done, FunctionAgent, Review, Role, Usage, open_run

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
    agents = {"mine": FunctionAgent(mine, family="acme", reports_cost=True)}
    async with open_run(chosen.mission, settings=settings, agents=agents) as run:
        return (await run.result()).exit_code


sys.exit(asyncio.run(main()))
