"""How each agent is called in each role, and what is said of it in the host's policy."""

import json
import sys
import tomllib
from pathlib import Path

import pytest
from tests.core.agents.records import PLAIN, RECORDED, command, record, shown, words

from spec_kitty_orchestrator.agents import BUILT_IN, find
from spec_kitty_orchestrator.agents.gemini import Gemini
from spec_kitty_orchestrator.agents.qwen import Qwen
from spec_kitty_orchestrator.agents.spec import AgentSettings, Assignment
from spec_kitty_orchestrator.core.model import Role
from spec_kitty_orchestrator.errors import UsageError

BANNED = ("yolo", "full-auto", "dangerously", "bypass")
FORBIDDEN_WORDS = ("token", "secret", "key", "password", "credential")
CHOSEN = AgentSettings(executable="/bin/x", model="m-1", extra_args=("--extra", "1"))


@pytest.mark.parametrize("agent", RECORDED)
@pytest.mark.parametrize("role", Role)
def test_the_command_is_the_one_that_works_on_the_real_cli(agent: str, role: Role) -> None:
    found, known = command(agent, role), record(agent)
    env = known.get("env", {})
    assert [*map(shown, found.argv)] == words(known["argv"][role])
    assert {name: shown(value) for name, value in found.env.items()} == env.get(role, {})
    by_default = {name: shown(value) for name, value in found.default_env.items()}
    assert by_default == env.get(f"{role}_default", env.get("default", {}))
    assert found.stop_signal == known["stop_signal"]
    assert find(agent).shell_in_review == known["shell_in_review"]


@pytest.mark.parametrize("agent", RECORDED)
@pytest.mark.parametrize("role", Role)
def test_settings_and_a_session_reach_the_argv_before_what_would_swallow_or_undo_them(
    agent: str, role: Role
) -> None:
    found = command(agent, role, CHOSEN, session="s-1")
    assert [*map(shown, found.argv)] == words(record(agent)["argv"][f"{role}_chosen"])
    assert found.env == command(agent, role).env


@pytest.mark.parametrize("agent", BUILT_IN)
@pytest.mark.parametrize("role", Role)
def test_a_session_is_resumed_with_the_permissions_of_a_new_one(agent: str, role: Role) -> None:
    new, resumed = command(agent, role, CHOSEN), command(agent, role, CHOSEN, session="s-1")
    # Letta's session has an agent of its own, which the flag would make anew.
    kept = [word for word in new.argv if word != "--new-agent"]
    assert [word for word in resumed.argv if word in new.argv] == kept
    assert (resumed.env, resumed.default_env) == (new.env, new.default_env)
    assert find(agent).resumes


@pytest.mark.parametrize("agent", RECORDED)
@pytest.mark.parametrize("role", Role)
def test_the_host_is_told_how_confined_an_agent_is(agent: str, role: Role) -> None:
    allows = find(agent).permissions(role)
    told = [allows.approval_mode, allows.sandbox_mode, allows.network_mode]
    assert told == record(agent)["permissions"][role]


@pytest.mark.parametrize("agent", BUILT_IN)
@pytest.mark.parametrize("role", Role)
def test_no_argv_holds_a_flag_that_the_host_bans_or_a_synonym(agent: str, role: Role) -> None:
    found = command(agent, role)
    spoken = " ".join((*found.argv, *found.env.values())).lower()
    assert not [banned for banned in BANNED if banned in spoken]


@pytest.mark.parametrize("agent", BUILT_IN)
@pytest.mark.parametrize("role", Role)
def test_what_is_told_to_the_host_has_none_of_its_forbidden_words(agent: str, role: Role) -> None:
    allows = find(agent).permissions(role)
    told = (find(agent).family, allows.approval_mode, allows.sandbox_mode, allows.network_mode)
    assert all(told)
    assert not [word for word in FORBIDDEN_WORDS for value in told if word in value.lower()]


@pytest.mark.parametrize("name", ["\U0001f600 caf\u00e9", 'a "b" \\u0041', "tab\tline\n\x01\x7f", "{x}='y'"])
def test_codex_distrusts_a_worktree_whatever_its_name(name: str) -> None:
    task = Assignment(Role.REVIEW, Path("/wt") / name, "a1", Path("/attempt"))
    argv = find("codex").command(task, PLAIN).argv
    (told,) = [word for word in argv if word.startswith("projects=")]
    assert tomllib.loads(told) == {"projects": {f"/wt/{name}": {"trust_level": "untrusted"}}}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", BUILT_IN)
def test_the_environment_of_the_settings_is_added_elsewhere(name: str, role: Role) -> None:
    assert "A" not in command(name, role, AgentSettings(env={"A": "b"})).env


def test_the_scripted_agent_runs_on_this_interpreter_with_its_scenario(tmp_path: Path) -> None:
    found = command("scripted", Role.REVIEW, AgentSettings(scenario=tmp_path / "s.toml"))
    assert found.argv[0] == sys.executable
    assert found.argv[-4:] == ("--role", "review", "--scenario", str(tmp_path / "s.toml"))
    assert found.stop_signal == "TERM"


def test_claude_alone_is_told_what_an_attempt_may_cost() -> None:
    for agent in BUILT_IN.values():
        task = Assignment(Role.IMPLEMENT, Path("/wt"), "a1", Path("/attempt"), max_cost_usd=0.00001)
        argv = agent.command(task, PLAIN).argv
        assert agent.caps_cost is ("--max-budget-usd" in argv)
        if agent.caps_cost:
            assert argv[argv.index("--max-budget-usd") + 1] == "0.000010"
    assert [name for name, agent in BUILT_IN.items() if agent.caps_cost] == ["claude-code"]
    assert not find("codex").reports_cost


def file_of(agent: str, role: Role, variable: str) -> dict[str, object]:
    """Return what the file that a variable of an agent's names holds."""
    found = command(agent, role)
    told = json.loads(Path({**found.default_env, **found.env}[variable]).read_text())
    assert isinstance(told, dict)
    return told


def test_a_gemini_reviewer_has_no_tool_that_writes_whatever_the_user_allowed() -> None:
    argv = command("gemini", Role.REVIEW).argv
    rules = Path(argv[argv.index("--policy") + 1]).read_text()
    for tool in ("run_shell_command", "write_file", "replace", "web_fetch", "google_web_search"):
        assert f'"{tool}",' in rules
    assert 'decision = "deny"' in rules


def test_gemini_tries_again_a_few_times_and_replaces_no_word_of_a_prompt_by_the_name_of_a_file() -> None:
    for role in Role:
        chosen = file_of("gemini", role, "GEMINI_CLI_SYSTEM_DEFAULTS_PATH")
        assert chosen["general"] == {"maxAttempts": 3}
        assert chosen["context"] == {"fileFiltering": {"enableRecursiveFileSearch": False}}


@pytest.mark.parametrize("role", Role)
def test_qwen_tries_nothing_again_and_a_reviewer_trusts_no_folder(role: Role) -> None:
    chosen = file_of("qwen", role, "QWEN_CODE_SYSTEM_DEFAULTS_PATH")
    assert chosen["$version"] == 4  # Without it, the CLI writes it into our file.
    assert chosen["model"] == {"generationConfig": {"maxRetries": 0}}
    if role is Role.REVIEW:
        assert chosen["security"] == {"folderTrust": {"enabled": True}}
        assert file_of("qwen", role, "QWEN_CODE_TRUSTED_FOLDERS_PATH") == {}


@pytest.mark.parametrize("role", Role)
def test_defaults_of_the_machines_own_are_left_to_it(role: Role, tmp_path: Path) -> None:
    own = tmp_path / "system-defaults.json"
    own.write_text("{}")
    task = Assignment(role, Path("/wt"), "a1", Path("/attempt"))
    gemini, qwen = Gemini(own_defaults=(tmp_path / "none", own)), Qwen(own_defaults=(own,))
    assert list(gemini.command(task, PLAIN).default_env) == ["GEMINI_CLI_NO_RELAUNCH"]
    assert qwen.command(task, PLAIN).default_env == {}


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_agent_is_found_under_its_own_name(name: str) -> None:
    assert find(name).name == name


@pytest.mark.parametrize(
    ("wrong", "nearest"), [("claude", "claude-code"), ("codx", "codex"), ("OpenCode", "opencode")]
)
def test_a_misspelt_agent_is_answered_with_the_nearest_name(wrong: str, nearest: str) -> None:
    known = ", ".join(BUILT_IN)
    with pytest.raises(UsageError, match=f"did you mean '{nearest}'.*known: {known}"):
        find(wrong)


def test_an_agent_like_no_other_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown agent 'zzz' \(known: claude-code"):
        find("zzz")
