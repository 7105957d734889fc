"""The argv that docs/agents.md shows of each agent is the one that its module builds."""

import re
import shlex
from pathlib import Path

import pytest

from spec_kitty_orchestrator.agents import BUILT_IN, find
from spec_kitty_orchestrator.agents.spec import AgentSettings, Assignment
from spec_kitty_orchestrator.core.model import Role

ROOT = Path(__file__).parents[3]
SHOWN = [name for name in BUILT_IN if name != "scripted"]


def section(name: str) -> str:
    found = re.search(
        rf"^## {name}\n(.*?)^## ", (ROOT / "docs" / "agents.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert found is not None
    return found[1]


def shown(name: str, role: Role) -> list[re.Pattern[str]]:
    """Return what each word must be like; `<…>` stands for anything, and `…` for the other role's words."""
    found = re.search(rf"^    {role.value} +(.*(?:\n     +.*)*)", section(name), re.MULTILINE)
    assert found is not None
    words = shlex.split(re.sub(r"<[^>]*>", "\x00", found[1]))
    patterns = [re.compile(".*".join(map(re.escape, word.split("\x00"))), re.DOTALL) for word in words]
    return [*shown(name, Role.IMPLEMENT), *patterns[1:]] if words[0] == "…" else patterns


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", SHOWN)
def test_the_documentation_shows_the_command_that_is_run(name: str, role: Role) -> None:
    task = Assignment(role, Path("/wt"), "a1", Path("/attempt"))
    argv = find(name).command(task, AgentSettings()).argv
    patterns = shown(name, role)
    wrong = [
        (one.pattern, word) for one, word in zip(patterns, argv, strict=False) if not one.fullmatch(word)
    ]
    assert wrong == []
    assert len(patterns) == len(argv)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_agent_has_a_section_and_a_line_in_the_readme(name: str) -> None:
    assert section(name).strip()
    assert f"\n| `{name}` | " in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", SHOWN)
def test_every_agent_is_in_the_table_of_what_differs_when_it_fails(name: str) -> None:
    failures = section("What each failure becomes")
    assert re.search(rf"^\| (?:[a-z-]+, )*{name}(?:, [a-z-]+)* \|", failures, re.MULTILINE)
