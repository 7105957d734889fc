"""Whatever is wrong, the user gets one clear message and the documented exit code, and nothing is changed."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spec_kitty_orchestrator.machine.lock import MissionLock

SLUG = "demo-01ABC"
Project = Any  # the class lives in conftest, which tests cannot import


def envelope(data: object, code: str | None = None) -> str:
    return json.dumps({"success": code is None, "error_code": code, "data": data}) + "\n"


def no_such_mission(project: Project) -> None:
    project.answer("mission-state", envelope({"message": "not found"}, "MISSION_NOT_FOUND"), 1)


def host_missing(project: Project) -> None:
    (project.bin / "spec-kitty").unlink()


def host_too_old(project: Project) -> None:
    project.answer("contract-version", envelope({"api_version": "1.2.9"}))


def host_too_new(project: Project) -> None:
    project.answer("contract-version", envelope({"api_version": "2.0.0"}))


def host_not_json(project: Project) -> None:
    project.answer("contract-version", "hello, I am another program\n")


def host_crashes(project: Project) -> None:
    project.answer("contract-version", "", 1, "ModuleNotFoundError: yaml\n")


def not_finalized(project: Project) -> None:
    wps = [{"wp_id": "WP01", "lane": "planned", "dependencies": []}]
    data = {"mission_slug": SLUG, "summary": {"planned": 0}, "work_packages": wps}
    project.answer("mission-state", envelope(data))


def wrong_branch(project: Project) -> None:
    project.git("switch", "-qc", "main")
    project.lanes({})


def no_work_packages(project: Project) -> None:
    project.git("rm", "-qr", f"kitty-specs/{SLUG}/tasks")
    project.lanes({})


def broken_toml(project: Project) -> None:
    project.configure("[run]\nactor = \n")


def unknown_key(project: Project) -> None:
    project.configure("[run]\n\nmax_concurent = 3\n")


def unknown_configured_agent(project: Project) -> None:
    project.configure("[agents.scriptd]\n")


def banned_flag(project: Project) -> None:
    project.configure('[agents.scripted]\nextra_args = ["--yolo"]\n')


def synonym_of_a_banned_flag(project: Project) -> None:
    project.configure('[agents.scripted]\nextra_args = ["--permission-mode", "bypassPermissions"]\n')


def no_scenario(project: Project) -> None:
    project.configure('[agents.scripted]\nscenario = "nowhere.toml"\n')


def agent_not_installed(project: Project) -> None:
    project.configure('[agents.scripted]\nexecutable = "no-such-program"\n')


OWN = '[agents.my-bot]\ncommand = ["true"'


def own_agent_without_the_role(project: Project) -> None:
    project.configure(OWN + ']\nroles = ["implement"]\n')


def own_agent_not_installed(project: Project) -> None:
    project.configure('[agents.my-bot]\ncommand = ["no-such-program", "x"]\n')


def own_agent_with_a_banned_flag(project: Project) -> None:
    project.configure(OWN + ', "-c", "bot --yolo"]\n')


def variable_that_allows_everything(project: Project) -> None:
    project.configure(OWN + ']\nenv = { BOT_MODE = "bypassPermissions" }\n')


def full_permissions(project: Project) -> None:
    project.configure('[agents.scripted]\npermissions = "full"\n')


def prompt(project: Project, content: bytes) -> None:
    folder = project.root / ".kittify" / "orchestrator" / "prompts"
    folder.mkdir(parents=True)
    (folder / "review.md").write_bytes(content)


def prompt_not_text(project: Project) -> None:
    prompt(project, b"\xff\xfe")


def prompt_with_unknown_part(project: Project) -> None:
    prompt(project, b"${task} ${verdict} ${nonsense}")


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (no_such_mission, 2, ["there is no mission 'demo-01ABC'", "missions here: demo-01ABC"]),
        (host_missing, 3, ["the host 'spec-kitty' was not found on PATH", "pipx install spec-kitty-cli"]),
        (host_too_old, 3, ["1.2.9", "upgrade the host"]),
        (host_too_new, 3, ["2.0.0", "upgrade this side"]),
        (host_not_json, 3, ["is not the JSON expected", "hello, I am another program"]),
        (host_crashes, 3, ["no answer from the host to contract-version", "ModuleNotFoundError: yaml"]),
        (not_finalized, 5, ["not finalized", f"finalize-tasks --mission {SLUG}"]),
        (wrong_branch, 5, ["is on the branch main", "lives on feature/demo", "switch feature/demo"]),
        (no_work_packages, 5, ["has no work packages on the branch feature/demo"]),
        (broken_toml, 2, [".kittify/orchestrator.toml:2: not valid TOML"]),
        (unknown_key, 2, ["orchestrator.toml:3: [run] max_concurent", "did you mean max_concurrent?"]),
        (
            unknown_configured_agent,
            2,
            ["orchestrator.toml:1: unknown agent 'scriptd'; did you mean scripted?"],
        ),
        (banned_flag, 5, ["[agents.scripted] extra_args: --yolo is banned by the host"]),
        (synonym_of_a_banned_flag, 5, ["bypassPermissions", "would be untrue"]),
        (full_permissions, 2, ["orchestrator.toml:2: [agents.scripted] permissions", "a banned flag"]),
        (no_scenario, 2, ["[agents.scripted] scenario: there is no file", "nowhere.toml"]),
        (agent_not_installed, 5, ["agent scripted is not installed: no-such-program is not on PATH"]),
        (prompt_not_text, 2, ["prompts/review.md: is not UTF-8 text"]),
        (prompt_with_unknown_part, 2, ["prompts/review.md: no such part: nonsense"]),
    ],
)
def test_bad_input_is_one_clear_message(
    project: Project, spoil: Callable[[Project], None], code: int, words: list[str]
) -> None:
    spoil(project)
    before = project.git("status", "--porcelain", "--ignored")
    done = project.orchestrate()
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("error: ")
    assert all(word in done.stderr for word in words), done.stderr
    assert project.git("status", "--porcelain", "--ignored") == before


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (own_agent_without_the_role, ["agent my-bot is selected to review, but it can only implement"]),
        (own_agent_not_installed, ["agent my-bot is not installed: no-such-program", "correct command in"]),
        (own_agent_with_a_banned_flag, ["[agents.my-bot] its command: bot --yolo allows what the host's"]),
        (variable_that_allows_everything, ["[agents.my-bot] env: bypassPermissions allows what the host's"]),
    ],
)
def test_an_agent_of_ones_own_that_cannot_work_is_told_before_the_run(
    project: Project, spoil: Callable[[Project], None], words: list[str]
) -> None:
    spoil(project)
    done = project.orchestrate(agents="my-bot")
    assert done.returncode == 5, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert done.stderr.count("error: ") == 1


@pytest.mark.parametrize(
    ("agent", "extra_args", "word"),
    [
        ("cursor", ["--force"], "--force"),
        ("cursor", ["-f"], "-f"),
        ("copilot", ["--allow-all"], "--allow-all"),
        ("copilot", ["--allow-all-tools"], "--allow-all-tools"),
        ("cursor", ["-pf"], "-pf"),
        ("gemini", ["-y"], "-y"),
        ("qwen", ["-dy"], "-dy"),
        ("letta", ["--permission-mode", "unrestricted"], "unrestricted"),
        ("letta", ["--permission-mode=fullAccess"], "--permission-mode=fullAccess"),
    ],
)
def test_another_name_of_a_banned_flag_stops_the_agent_that_takes_it_so(
    project: Project, agent: str, extra_args: list[str], word: str
) -> None:
    python = json.dumps(sys.executable)
    project.configure(f"[agents.{agent}]\nexecutable = {python}\nextra_args = {json.dumps(extra_args)}\n")
    done = project.orchestrate(agents=agent)
    assert done.returncode == 5, done.stderr
    assert f"[agents.{agent}] extra_args: {word} allows what the host's banned flags allow" in done.stderr


def test_an_unknown_agent_on_the_command_line_gets_the_nearest_name(project: Project) -> None:
    done = project.orchestrate(agents="codx")
    assert done.returncode == 2
    assert "--impl-agent: unknown agent 'codx'; did you mean codex?" in done.stderr


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("--max-per-agent", "scriptd=1", "unknown agent 'scriptd'; did you mean scripted?"),
        (
            "--max-per-agent",
            "scripted=0",
            "[run] max_per_agent.scripted: input should be greater than or equal to 1",
        ),
        ("--max-per-agent", "scripted", "'scripted' is not a limit of an agent; write for example codex=1"),
        ("--poll-interval", "soon", "[run] poll_interval: 'soon' is not a duration"),
        ("--host-transport", "cold", "[host] transport: input should be 'auto', 'spawn' or 'warm'"),
        ("--on-rate-limit", "sleep", "[run] on_rate_limit: input should be 'wait', 'fallback' or 'stop'"),
        ("--max-concurrent", "many", "[run] max_concurrent: input should be a valid integer"),
    ],
)
def test_a_wrong_value_of_a_flag_names_the_flag(project: Project, flag: str, value: str, words: str) -> None:
    done = project.orchestrate(flag, value)
    assert done.returncode == 2
    assert flag in done.stderr
    assert words in done.stderr


def test_missing_agents_are_listed_together_with_how_to_install_them(project: Project) -> None:
    done = project.orchestrate(agents="claude-code,codex")
    assert done.returncode == 5
    assert "npm install -g @anthropic-ai/claude-code" in done.stderr
    assert "npm install -g @openai/codex" in done.stderr


def test_a_folder_outside_git_is_a_usage_error(project: Project, tmp_path: Path) -> None:
    done: subprocess.CompletedProcess[str] = project.run("status", cwd=tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path} is not in a git repository" in done.stderr


def test_a_folder_that_does_not_exist_is_a_usage_error(project: Project) -> None:
    done = project.orchestrate("--repo-root", "/no/such/folder")
    assert done.returncode == 2
    assert "/no/such/folder is not a directory" in done.stderr


@pytest.mark.parametrize("command", ["agents", "doctor", "status", "resume", "orchestrate --mission m"])
def test_a_current_directory_that_is_gone_is_a_usage_error(
    project: Project, tmp_path: Path, command: str
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    line = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    ours = [sys.executable, "-m", "spec_kitty_orchestrator", *command.split()]
    argv = ["/bin/sh", "-c", line, "sh", str(gone), *ours]
    env = {**project.env, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the current directory is gone; change into the project")


def test_of_many_missions_the_nearest_are_named(project: Project) -> None:
    for number in range(40):
        folder = project.root / "kitty-specs" / f"{number:03}-other"
        folder.mkdir()
        (folder / "meta.json").write_text("{}")
    no_such_mission(project)
    done = project.orchestrate()
    assert done.returncode == 2
    assert "did you mean demo-01ABC? missions here: demo-01ABC, " in done.stderr
    assert " and 36 more" in done.stderr
    assert done.stderr.count("-other") == 4


def test_a_name_that_several_missions_have_picks_none(project: Project) -> None:
    other = project.root / "kitty-specs" / "demo-01XYZ"
    other.mkdir()
    (other / "meta.json").write_text("{}")
    no_such_mission(project)
    done = project.run("orchestrate", "--mission", "demo")
    assert done.returncode == 2
    assert "there is no mission 'demo' alone: 2 are called so, demo-01" in done.stderr


@pytest.mark.parametrize("mode", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_another_active_run_is_named(project: Project, mode: tuple[str, ...]) -> None:
    with MissionLock(project.root / ".kittify" / "orchestrator" / SLUG, SLUG):
        done = project.orchestrate(*mode)
    assert done.returncode == 4
    assert f"another run of {SLUG} is active: process" in done.stderr


@pytest.mark.parametrize(
    "args", [("orchestrate",), ("nonsense",), ("orchestrate", "--mission"), ("--nonsense",)]
)
def test_a_wrong_command_line_is_a_usage_error(project: Project, args: tuple[str, ...]) -> None:
    assert project.run(*args).returncode == 2


def test_all_findings_are_told_at_once_with_the_gravest_code(project: Project) -> None:
    host_missing(project)
    agent_not_installed(project)
    done = project.orchestrate()
    assert done.returncode == 3
    assert "the host 'spec-kitty' was not found" in done.stderr
    assert "agent scripted is not installed" in done.stderr


def test_escape_sequences_of_the_host_do_not_reach_the_terminal(project: Project) -> None:
    project.answer("mission-state", envelope({"message": "\x1b[2J[red]gone[/red]\x07"}, "UNKNOWN"), 1)
    done = project.orchestrate()
    assert done.returncode == 3
    assert "[red]gone[/red]" in done.stderr
    assert "\x1b" not in done.stderr
    assert "\x07" not in done.stderr


@pytest.mark.parametrize(
    ("spoil", "code"), [(not_finalized, 5), (agent_not_installed, 5), (unknown_key, 2), (host_missing, 3)]
)
def test_a_dry_run_gives_the_code_that_the_run_would_give(
    project: Project, spoil: Callable[[Project], None], code: int
) -> None:
    spoil(project)
    assert project.orchestrate("--dry-run").returncode == code


@pytest.mark.parametrize(
    ("words", "closed", "code"),
    [
        ("abort", ">&-", 0),
        ("agents", ">&-", 0),
        ("status", "2>&-", 2),
        ("orchestrate --mission demo-01ABC --impl-agent nobody", "2>&-", 2),
    ],
)
def test_an_output_that_was_closed_before_the_start_changes_no_exit_code(
    words: str, closed: str, code: int, project: Project
) -> None:
    command = ["bash", "-c", f'exec "$0" -m spec_kitty_orchestrator {words} {closed}', sys.executable]
    env = {**project.env, "PATH": f"{project.bin}:/usr/bin:/bin"}
    assert subprocess.run(command, cwd=project.root, env=env, capture_output=True).returncode == code
