"""A mission run by a program, on the real host: the examples, and one driver at a time in any mix."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from tests.e2e.projects import LIMIT_S, PAIR, SOLO, Gate, Project

from spec_kitty_orchestrator import Entry, RunActive, RunResult, open_parts, open_run
from spec_kitty_orchestrator.core.events import AgentExited
from spec_kitty_orchestrator.testing.missions import MissionSpec

pytestmark = pytest.mark.real_host

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTED = {"impl_agents": ["scripted"], "review_agents": ["scripted"]}
REJECTED = """
[[WP01.review]]
verdict = "changes_requested"
summary = "Once more."
[[WP01.review]]
verdict = "approved"
"""


@pytest.fixture
def here(
    project: Callable[[MissionSpec], Project], monkeypatch: pytest.MonkeyPatch
) -> Callable[[MissionSpec], Project]:
    """Return a function that makes a mission, in whose environment this process is."""

    def made(spec: MissionSpec) -> Project:
        mission = project(spec)
        for name, value in mission.env.items():
            monkeypatch.setenv(name, value)
        return mission

    return made


@pytest.mark.parametrize(("name", "rounds"), [("events", 2), ("own_agent", 1), ("own_driver", 2)])
def test_an_example_runs_a_mission_to_its_end(
    name: str, rounds: int, project: Callable[[MissionSpec], Project]
) -> None:
    mission = project(PAIR)
    mission.follow(REJECTED)
    settings = {"SKO_IMPL_AGENTS": "scripted", "SKO_REVIEW_AGENTS": "scripted"}
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", mission.slug, mission.root],
        env={**mission.env, **settings},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(mission.lanes().values()) == {"done"}
    names = [one.name for one in mission.attempts("WP01")]
    assert [one.split("-")[1] for one in names] == ["implement", "review"] * rounds
    assert not done.stderr


def test_one_driver_at_a_time_works_on_a_mission_whether_program_or_command(
    here: Callable[[MissionSpec], Project], gate: Gate, capfd: pytest.CaptureFixture[str]
) -> None:
    mission = here(SOLO)
    mission.follow(f'[WP01.implement]\nedits = {{ "src/one/m01.py" = "one\\n" }}\n{gate.step}\n')

    async def refused() -> None:
        with pytest.raises(RunActive):
            async with open_run(mission.slug, mission.root, settings=SCRIPTED):
                pass
        with pytest.raises(RunActive):
            async with open_parts(mission.slug, mission.root, settings=SCRIPTED):
                pass

    with mission.start() as command:
        agent = gate.wait(command)
        anyio.run(refused)
        command.kill()

    async def runs() -> RunResult:
        # The command died; its agent still waits.
        async with open_run(mission.slug, mission.root, resume=True) as run:
            async for line in run.events(run.earlier):
                if line.line == "run":
                    break
            await refused()
            done = await anyio.to_thread.run_sync(mission.orchestrate)
            assert done.returncode == RunActive.exit_code, done.stderr
            assert "scripted" in await run.pause(agent="scripted")
            assert "scripted" in await run.continue_(agent="scripted")
            agent.close()
            exits = [
                line.event.report.outcome
                async for line in run.events(run.earlier)
                if isinstance(line, Entry) and isinstance(line.event, AgentExited)
            ]
            assert exits == ["ok", "ok"]
            return await run.result()

    capfd.readouterr()
    assert anyio.run(runs).exit_code == 0
    assert capfd.readouterr() == ("", "")
    assert [one.name for one in mission.attempts("WP01")] == ["01-implement-scripted", "02-review-scripted"]
