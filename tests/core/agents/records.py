"""What `data/AGENT/expected.toml` says of each agent, and ways to ask its module.

A record holds the argv and the environment that work on the real CLI, and what must be made of each of its
transcripts; `…/NAME` there is a file of ours.
"""

import json
import shlex
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from spec_kitty_orchestrator.agents import find
from spec_kitty_orchestrator.agents.gemini import Gemini
from spec_kitty_orchestrator.agents.qwen import Qwen
from spec_kitty_orchestrator.agents.spec import Agent, AgentCommand, AgentSettings, Assignment
from spec_kitty_orchestrator.core.model import AgentReport, Role

DATA = Path(__file__).parent / "data"
RECORDED = tuple(sorted(file.parent.name for file in DATA.glob("*/expected.toml")))
PLAIN = AgentSettings()
# Whatever defaults this machine has for these CLIs must change nothing.
UNDISTURBED: dict[str, Callable[[], Agent]] = {
    "gemini": lambda: Gemini(own_defaults=()),
    "qwen": lambda: Qwen(own_defaults=()),
}


@cache
def record(agent: str) -> dict[str, Any]:
    """Return what is expected of an agent."""
    return tomllib.loads((DATA / agent / "expected.toml").read_text())


def rows(kind: str) -> list[tuple[str, str]]:
    """Return each agent with each transcript that its record has under `successes` or `failures`."""
    return [(agent, case) for agent in RECORDED for case in record(agent)[kind]]


def having(case: str) -> list[str]:
    """Return the agents of which there is this transcript."""
    return [agent for agent in RECORDED if any((DATA / agent).glob(f"{case}.std*"))]


def lines_of(agent: str, case: str) -> list[str]:
    """Return the lines of a transcript's standard output."""
    stdout = DATA / agent / f"{case}.stdout"
    return stdout.read_text().splitlines(keepends=True) if stdout.exists() else []


def report(agent: str, case: str, exit_code: int | None = 0) -> AgentReport:
    """Return what an agent's module makes of a transcript."""
    stderr = DATA / agent / f"{case}.stderr"
    assert stderr.exists() or (DATA / agent / f"{case}.stdout").exists()
    return find(agent).report(lines_of(agent, case), stderr.read_text() if stderr.exists() else "", exit_code)


def ended_after(agent: str, case: str, words: str, exit_code: int = -15) -> AgentReport:
    """Read a transcript as it was when the first line with these words had just been written."""
    lines = lines_of(agent, case)
    last = next(number for number, line in enumerate(lines) if words in line)
    return find(agent).report(lines[: last + 1], "", exit_code)


def told(agent: str, *events: object, stderr: str = "", exit_code: int | None = 0) -> AgentReport:
    """Return what an agent's module makes of these events."""
    return find(agent).report([json.dumps(one) for one in events], stderr, exit_code)


def command(agent: str, role: Role, settings: AgentSettings = PLAIN, session: str = "") -> AgentCommand:
    """Return how an agent is called."""
    task = Assignment(role, Path("/wt"), "a1", Path("/attempt"), session=session)
    module = UNDISTURBED[agent]() if agent in UNDISTURBED else find(agent)
    return module.command(task, settings)


def shown(word: str) -> str:
    """Return a word as a record has it."""
    path = Path(word)
    return f"…/{path.name}" if word.startswith("/") and path.is_file() and len(word) < 1000 else word


def words(line: str) -> list[str]:
    """Return the words of a line of a record."""
    return shlex.split(line)
