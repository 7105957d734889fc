"""Drives a mission, one work package at a time: python examples/own_driver.py MISSION [REPOSITORY]."""

import sys

import anyio

from spec_kitty_orchestrator import Finished, Parts, Stalled, Start, open_parts, plan
from spec_kitty_orchestrator.core.commands import Finish, Wait
from spec_kitty_orchestrator.core.run_events import Ending


async def go_on(parts: Parts, start: Start) -> None:
    """Take one work package as far as it can go; what an earlier start began goes on where it was."""
    ledger, wp_id = parts.ledger, start.wp_id
    command = await ledger.happened(wp_id, start.event(ledger.state.wps[wp_id]))
    while not isinstance(command, Wait | Finish):
        event = await parts.performer.perform(ledger.state.wps[wp_id], command)
        command = await ledger.happened(wp_id, event)
        print(f"{wp_id}: {ledger.state.wps[wp_id].phase}")


async def main(mission: str, repo: str) -> int:
    async with open_parts(mission, repo, say=print) as parts:
        while True:
            decision = plan(parts.ledger.state, parts.clock.now())
            match decision:
                case Start():
                    await go_on(parts, decision)
                case Ending():
                    await parts.ledger.happened("", decision)
                case Finished() | Stalled():
                    return (await parts.conclude(decision.reasons)).exit_code
                case _:
                    await anyio.sleep(5)
                    await parts.look()


if __name__ == "__main__":
    slug, where = (*sys.argv[1:], ".")[:2]
    sys.exit(anyio.run(main, slug, where))
