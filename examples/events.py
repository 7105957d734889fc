"""Runs a mission and reacts to its events: python examples/events.py MISSION [REPOSITORY]."""

import sys

import anyio

from spec_kitty_orchestrator import Entry, open_run
from spec_kitty_orchestrator.core.events import AgentExited

MOST_USD = 20.0


async def main(mission: str, repo: str) -> int:
    spent_usd = 0.0
    async with open_run(mission, repo, say=print, signals=True) as run:
        async for line in run.events(since=run.earlier):
            if isinstance(line, Entry) and isinstance(line.event, AgentExited):
                report, verdict = line.event.report, line.event.verdict
                spent_usd += report.usage.cost_usd or 0.0
                said = f"{verdict.ruling}: {verdict.summary}" if verdict else report.outcome
                print(f"{line.wp_id}: {said} (${spent_usd:.2f} so far)")
                if spent_usd > MOST_USD:
                    print(await run.drain())
        result = await run.result()
    for wp_id, reason in result.reasons.items():
        print(f"{wp_id} is not done: {reason}")
    return result.exit_code


if __name__ == "__main__":
    slug, where = (*sys.argv[1:], ".")[:2]
    sys.exit(anyio.run(main, slug, where))
