"""The argv of each agent and role, and what is said of it in the host's policy."""

import json
import sys
import tomllib
from pathlib import Path

import pytest

from spec_kitty_orchestrator.agents import BUILT_IN, find
from spec_kitty_orchestrator.agents.spec import AgentCommand, AgentSettings, Assignment
from spec_kitty_orchestrator.core.model import Role
from spec_kitty_orchestrator.errors import UsageError

BANNED = ("yolo", "full-auto", "dangerously", "bypass")
FORBIDDEN_WORDS = ("token", "secret", "key", "password", "credential")
PLAIN = AgentSettings()


def command(agent: str, role: Role, settings: AgentSettings = PLAIN) -> AgentCommand:
    return find(agent).command(Assignment(role, Path("/wt"), "a1", Path("/attempt")), settings)


@pytest.mark.parametrize(
    ("agent", "role", "argv"),
    [
        (
            "claude-code",
            Role.IMPLEMENT,
            (
                "claude -p --output-format stream-json --verbose --permission-mode acceptEdits"
                " --allowedTools Bash,Edit,Write,Read,Grep,Glob"
            ),
        ),
        (
            "codex",
            Role.IMPLEMENT,
            (
                "codex exec --json --sandbox workspace-write -c analytics.enabled=false"
                " -c sandbox_workspace_write.network_access=false -"
            ),
        ),
        (
            "codex",
            Role.REVIEW,
            (
                "codex exec --json --sandbox read-only -c analytics.enabled=false"
                ' -c projects={"/wt"={trust_level="untrusted"}} -'
            ),
        ),
        ("opencode", Role.IMPLEMENT, "opencode run --auto --agent build --format json"),
        ("opencode", Role.REVIEW, "opencode run --auto --agent plan --format json"),
    ],
)
def test_the_argv_is_the_one_that_works_on_the_real_cli(agent: str, role: Role, argv: str) -> None:
    assert command(agent, role).argv == tuple(argv.split())


def test_a_claude_reviewer_reads_and_has_no_shell_because_git_writes_files() -> None:
    assert not find("claude-code").shell_in_review
    argv = command("claude-code", Role.REVIEW).argv
    assert argv[-8:] == (
        "--setting-sources",
        "user",
        "--permission-mode",
        "dontAsk",
        "--tools",
        "Read,Grep,Glob",
        "--allowedTools",
        "Read,Grep,Glob",
    )


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


@pytest.mark.parametrize(
    ("agent", "sandbox_mode"),
    [("claude-code", "read_only_tools"), ("codex", "read_only"), ("opencode", "read_only_tools")],
)
def test_a_reviewer_is_told_to_be_offline_and_as_confined_as_it_is(agent: str, sandbox_mode: str) -> None:
    allows = find(agent).permissions(Role.REVIEW)
    assert (allows.sandbox_mode, allows.network_mode) == (sandbox_mode, "none")


def test_an_unconfined_implementer_is_told_as_such() -> None:
    assert find("claude-code").permissions(Role.IMPLEMENT).sandbox_mode == "none"
    assert find("opencode").permissions(Role.IMPLEMENT).sandbox_mode == "none"
    assert find("codex").permissions(Role.IMPLEMENT).sandbox_mode == "workspace_write"


@pytest.mark.parametrize("agent", ["claude-code", "codex", "opencode"])
@pytest.mark.parametrize("role", Role)
def test_settings_reach_the_argv_before_what_would_swallow_them(agent: str, role: Role) -> None:
    settings = AgentSettings(executable="/bin/x", model="m-1", extra_args=("--extra", "1"))
    found = command(agent, role, settings)
    assert found.argv[0] == "/bin/x"
    assert found.argv[found.argv.index("--model") + 1] == "m-1"
    assert found.argv[found.argv.index("--extra") + 1] == "1"
    if agent == "codex":
        assert found.argv[-1] == "-"
    if agent == "claude-code":
        assert found.argv.index("--extra") < found.argv.index("--allowedTools")


@pytest.mark.parametrize("name", ["\U0001f600 caf\u00e9", 'a "b" \\u0041', "tab\tline\n\x01\x7f", "{x}='y'"])
def test_codex_distrusts_a_worktree_whatever_its_name(name: str) -> None:
    task = Assignment(Role.REVIEW, Path("/wt") / name, "a1", Path("/attempt"))
    argv = find("codex").command(task, PLAIN).argv
    (told,) = [word for word in argv if word.startswith("projects=")]
    assert tomllib.loads(told) == {"projects": {f"/wt/{name}": {"trust_level": "untrusted"}}}


def test_only_a_persons_own_arguments_open_the_network_to_a_codex_implementer() -> None:
    network = "sandbox_workspace_write.network_access"
    argv = command("codex", Role.IMPLEMENT, AgentSettings(extra_args=("-c", f"{network}=true"))).argv
    assert [word for word in argv if network in word] == [f"{network}=false", f"{network}=true"]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", BUILT_IN)
def test_the_environment_of_the_settings_is_added_elsewhere(name: str, role: Role) -> None:
    assert "A" not in command(name, role, AgentSettings(env={"A": "b"})).env


def test_an_opencode_reviewer_may_neither_edit_nor_run_commands() -> None:
    found = command("opencode", Role.REVIEW).env
    rules = json.loads(found["OPENCODE_PERMISSION"])
    assert found["OPENCODE_DISABLE_PROJECT_CONFIG"] == "1"
    assert {name for name, rule in rules.items() if rule == "deny"} >= {"edit", "bash", "external_directory"}


def test_an_opencode_implementer_keeps_the_projects_own_settings() -> None:
    assert "OPENCODE_DISABLE_PROJECT_CONFIG" not in command("opencode", Role.IMPLEMENT).env


def test_opencode_is_told_its_directory_because_it_believes_pwd() -> None:
    assert command("opencode", Role.IMPLEMENT).env["PWD"] == "/wt"


@pytest.mark.parametrize(
    ("agent", "signal"),
    [("claude-code", "INT"), ("codex", "TERM"), ("opencode", "TERM"), ("scripted", "TERM")],
)
def test_each_cli_gets_the_signal_that_it_cleans_up_on(agent: str, signal: str) -> None:
    assert command(agent, Role.IMPLEMENT).stop_signal == signal


def test_the_scripted_agent_runs_on_this_interpreter_with_its_scenario(tmp_path: Path) -> None:
    found = command("scripted", Role.REVIEW, AgentSettings(scenario=tmp_path / "s.toml"))
    assert found.argv[0] == sys.executable
    assert found.argv[-4:] == ("--role", "review", "--scenario", str(tmp_path / "s.toml"))


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("claude-code", "--resume s-1"),
        ("codex", "-c sandbox_workspace_write.network_access=false --extra resume s-1 -"),
        ("opencode", "--session s-1"),
        ("copilot", "--resume=s-1"),
        ("pi", "--session s-1"),
        ("scripted", "--session s-1"),
    ],
)
def test_a_session_is_resumed_with_the_permissions_of_a_new_one(agent: str, words: str) -> None:
    settings = AgentSettings(extra_args=("--extra",))
    new = command(agent, Role.IMPLEMENT, settings).argv
    task = Assignment(Role.IMPLEMENT, Path("/wt"), "a1", Path("/attempt"), session="s-1")
    resumed = find(agent).command(task, settings).argv
    assert words in " ".join(resumed)
    assert [word for word in resumed if word in new] == list(new)
    assert find(agent).resumes


def test_claude_alone_is_told_what_an_attempt_may_cost() -> None:
    for agent in BUILT_IN.values():
        task = Assignment(Role.IMPLEMENT, Path("/wt"), "a1", Path("/attempt"), max_cost_usd=0.00001)
        argv = agent.command(task, PLAIN).argv
        assert agent.caps_cost is ("--max-budget-usd" in argv)
        if agent.caps_cost:
            assert argv[argv.index("--max-budget-usd") + 1] == "0.000010"
    assert [name for name, agent in BUILT_IN.items() if agent.caps_cost] == ["claude-code"]
    assert not find("codex").reports_cost


def test_the_retries_of_claude_are_few_by_default() -> None:
    assert command("claude-code", Role.REVIEW).default_env["CLAUDE_CODE_MAX_RETRIES"] == "3"


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
