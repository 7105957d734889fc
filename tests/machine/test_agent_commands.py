"""In which environment each built-in agent runs: what it sets itself, the settings, and its defaults."""

from pathlib import Path

import pytest

from spec_kitty_orchestrator.agents import BUILT_IN, find
from spec_kitty_orchestrator.agents.spec import AgentSettings
from spec_kitty_orchestrator.core.model import Role
from spec_kitty_orchestrator.machine.agent_commands import ConfiguredAgents


def environment_of(name: str, role: Role, root: Path, **env: str) -> dict[str, str]:
    agents = ConfiguredAgents(root, {name: (find(name), AgentSettings(env=env))}, version="0.2.0")
    return dict(agents.command(name, role, root, "a1", root).env)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", BUILT_IN)
def test_the_environment_of_the_settings_reaches_every_agent(name: str, role: Role, tmp_path: Path) -> None:
    assert environment_of(name, role, tmp_path, A="b")["A"] == "b"


@pytest.mark.parametrize(
    ("name", "role", "variable"),
    [
        ("opencode", Role.IMPLEMENT, "OPENCODE_PERMISSION"),
        ("opencode", Role.REVIEW, "OPENCODE_PERMISSION"),
        ("opencode", Role.REVIEW, "OPENCODE_DISABLE_PROJECT_CONFIG"),
        ("opencode", Role.IMPLEMENT, "PWD"),
        ("kilocode", Role.IMPLEMENT, "KILO_PERMISSION"),
        ("kilocode", Role.REVIEW, "KILO_PERMISSION"),
        ("kilocode", Role.REVIEW, "KILO_DISABLE_PROJECT_CONFIG"),
        ("kilocode", Role.IMPLEMENT, "PWD"),
        ("copilot", Role.IMPLEMENT, "COPILOT_ALLOW_ALL"),
        ("copilot", Role.REVIEW, "COPILOT_ALLOW_ALL"),
        ("gemini", Role.REVIEW, "GEMINI_CLI_TRUST_WORKSPACE"),
        ("qwen", Role.REVIEW, "QWEN_CODE_TRUSTED_FOLDERS_PATH"),
    ],
)
def test_what_an_agent_is_allowed_is_not_undone_by_the_settings(
    name: str, role: Role, variable: str, tmp_path: Path
) -> None:
    own = environment_of(name, role, tmp_path)[variable]
    assert own not in ("", "loose")
    assert environment_of(name, role, tmp_path, **{variable: "loose"})[variable] == own


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("gemini", "GEMINI_CLI_TRUST_WORKSPACE"),
        ("qwen", "QWEN_CODE_TRUSTED_FOLDERS_PATH"),
        ("opencode", "OPENCODE_DISABLE_PROJECT_CONFIG"),
        ("kilocode", "KILO_DISABLE_PROJECT_CONFIG"),
    ],
)
def test_what_is_kept_from_a_reviewer_alone_is_an_implementers_to_set(
    name: str, variable: str, tmp_path: Path
) -> None:
    assert environment_of(name, Role.IMPLEMENT, tmp_path, **{variable: "mine"})[variable] == "mine"


@pytest.mark.parametrize(
    ("name", "variable", "default"),
    [
        ("claude-code", "CLAUDE_CODE_MAX_RETRIES", "3"),
        ("kilocode", "KILO_SESSION_RETRY_LIMIT", "3"),
        ("letta", "DISABLE_AUTOUPDATER", "1"),
        ("gemini", "GEMINI_CLI_NO_RELAUNCH", "true"),
    ],
)
def test_a_default_holds_unless_somebody_wants_otherwise(
    name: str, variable: str, default: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable, raising=False)
    assert environment_of(name, Role.REVIEW, tmp_path)[variable] == default
    assert environment_of(name, Role.REVIEW, tmp_path, **{variable: "mine"})[variable] == "mine"
    monkeypatch.setenv(variable, "ours")
    assert variable not in environment_of(name, Role.REVIEW, tmp_path)
