"""What would run for an agent, in which environment, found where, and what that allows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.machine.attempts import PythonAgent, agents_of

from spec_kitty_orchestrator.agents import BUILT_IN, find
from spec_kitty_orchestrator.agents.spec import AgentCommand, AgentSettings
from spec_kitty_orchestrator.core.model import Role
from spec_kitty_orchestrator.machine.agent_commands import ConfiguredAgents
from spec_kitty_orchestrator.machine.runner import LocalAgents


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


def test_what_an_agent_sets_by_default_gives_way_to_the_settings_and_to_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bounded(PythonAgent):
        def command(self, *args: Any, **options: Any) -> AgentCommand:
            return replace(super().command(*args, **options), default_env=dict.fromkeys("ABC", "default"))

    monkeypatch.setenv("B", "ours")
    runner = agents_of(tmp_path, Bounded(""), AgentSettings(env={"C": "setting"}))
    env = runner.command("py", Role.REVIEW, tmp_path, "a1", tmp_path).env
    assert (env["A"], "B" in env, env["C"]) == ("default", False, "setting")


def test_the_policy_is_what_the_argv_really_allows(tmp_path: Path) -> None:
    agent = PythonAgent("", words=("--yolo", "--full-autonomy", "--dangerously-skip-permissions=true"))
    runner = LocalAgents(
        tmp_path, {"py": (agent, AgentSettings())}, timeouts={}, version="0.3.0.dev1+key.token"
    )

    policy = runner.policy("py", Role.REVIEW)

    assert policy.orchestrator_id == "spec-kitty-orchestrator"
    assert policy.orchestrator_version == "0.3.0.dev1"
    assert (policy.agent_family, policy.approval_mode, policy.sandbox_mode) == ("test", "auto-review", "none")
    assert policy.dangerous_flags == ("--yolo", "--dangerously-skip-permissions")


def test_a_banned_flag_from_the_configuration_shows_in_the_policy(tmp_path: Path) -> None:
    runner = agents_of(tmp_path, PythonAgent(""), AgentSettings(extra_args=("--full-auto",)))

    assert runner.policy("py", Role.IMPLEMENT).dangerous_flags == ("--full-auto",)


def test_an_agent_is_found_in_the_extra_folders_and_below_the_repository(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    program = tmp_path / "tools" / "my-agent"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    agents = {
        "name": (PythonAgent("", executable="my-agent"), AgentSettings()),
        "path": (PythonAgent("", executable="tools/my-agent"), AgentSettings()),
    }
    agents["none"] = (PythonAgent("", executable="no-such-agent-cli"), AgentSettings())
    runner = LocalAgents(tmp_path, agents, timeouts={}, version="1", extra_path=[tmp_path / "tools"])

    assert runner.executable("none") is None
    assert runner.executable("name") == runner.executable("path") == str(program)
