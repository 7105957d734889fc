"""What `agents` lists, with stand-ins of the CLIs on PATH."""

import io
import json
import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from spec_kitty_orchestrator.app.project import open_project
from spec_kitty_orchestrator.cli.options import RunOptions
from spec_kitty_orchestrator.cli.running import Work, tell_versions
from spec_kitty_orchestrator.machine.logs import configure_logging
from spec_kitty_orchestrator.views.console import SteadyConsole
from spec_kitty_orchestrator.views.plain import PlainView

Project = Any  # the class lives in conftest, which tests cannot import


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(project: Project, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    project.env["HOME"] = str(tmp_path / "home")


def install(project: Project, name: str, script: str) -> None:
    file = project.bin / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def listed(project: Project, *args: str, cwd: Path | None = None) -> dict[str, Any]:
    done = project.run("agents", *args, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return {one["name"]: one for one in json.loads(done.stdout)["agents"]}


def finding(agent: dict[str, Any], identity: str) -> dict[str, Any]:
    (found,) = [one for one in agent["findings"] if one["id"] == identity]
    return dict(found)


def test_an_installed_agent_is_listed_with_what_it_may_do(project: Project) -> None:
    install(project, "codex", "echo codex-cli 0.169.3")
    codex = listed(project)["codex"]
    assert (codex["installed"], codex["path"], codex["version"]) == (True, f"{project.bin}/codex", "0.169.3")
    assert codex["roles"] == {
        "implement": {"sandbox": "workspace_write", "network": "none", "approval": "never_ask"},
        "review": {"sandbox": "read_only", "network": "none", "approval": "never_ask"},
    }
    assert (codex["reports_cost"], codex["caps_cost"], codex["resumes"]) == (False, False, True)
    assert finding(codex, "agent.version")["level"] == "ok"


def test_a_missing_agent_comes_with_the_command_that_installs_it(project: Project) -> None:
    codex = listed(project)["codex"]
    assert (codex["installed"], codex["path"], codex["logged_in"]) == (False, None, None)
    found = finding(codex, "agent.installed")
    assert (found["level"], found["fix"]) == ("error", "npm install -g @openai/codex")
    assert "  codex: npm install -g @openai/codex\n" in project.run("agents").stdout


def test_what_is_wrong_with_an_agent_stands_below_the_list_with_what_mends_it(project: Project) -> None:
    install(project, "codex", "echo codex-cli 0.100.0")
    shown = project.run("agents").stdout
    told = "agent codex: version 0.100.0 is older than those tested (0.169.0 to 0.171.0); update it"
    assert f"warning {told}" in shown
    assert "\n          npm install -g @openai/codex@0.171.0\n" in shown


def test_an_older_pi_is_updated_by_removing_the_package_that_it_came_in(project: Project) -> None:
    install(project, "pi", "echo 0.72.1")
    removed, installed = "@mariozechner/pi-coding-agent", "@earendil-works/pi-coding-agent@1.6.0"
    fix = finding(listed(project)["pi"], "agent.version")["fix"]
    assert fix == f"npm uninstall -g {removed} && npm install -g {installed}"


def test_a_newer_version_than_tested_is_told_calmly_and_never_taken_back(project: Project) -> None:
    install(project, "codex", "echo codex-cli 0.172.0")
    told = finding(listed(project)["codex"], "agent.version")
    text = "agent codex: version 0.172.0 is newer than those tested (0.169.0 to 0.171.0)"
    assert (told["level"], told["text"], told["fix"]) == ("warning", text, None)


def test_a_cli_without_a_readable_version_is_warned_of(project: Project) -> None:
    install(project, "codex", "printf 'hello \\033[2J \\377'")
    codex = listed(project)["codex"]
    assert codex["version"] is None
    told = finding(codex, "agent.version")
    assert (told["level"], "reports no version: 'hello" in told["text"]) == ("warning", True)
    assert "\x1b" not in project.run("agents").stdout


BROKEN_SANDBOX = """case $1 in
--version) echo 0.171.0 ;;
sandbox) echo "bwrap: execvp codex-linux-sandbox: No such file or directory" >&2; exit 1 ;;
esac"""
TOLD = (
    "agent codex: its sandbox cannot start a command: bwrap: execvp codex-linux-sandbox: No such file or "
    "directory; CODEX_HOME must not lie below the folder for temporary files"
)


def test_a_cli_whose_own_sandbox_starts_nothing_is_told_before_anything_is_spent(project: Project) -> None:
    project.env["HOME"] = "/nobody/is/here"
    install(project, "codex", BROKEN_SANDBOX)
    told = finding(listed(project)["codex"], "agent.sandbox")
    fix = "mkdir -p ~/.codex && export CODEX_HOME=~/.codex"
    assert (told["level"], told["text"], told["fix"]) == ("error", TOLD, fix)
    for option in ([], ["--dry-run"]):
        done = project.orchestrate(*option, agents="codex")
        assert done.returncode == 5
        assert TOLD in done.stderr
    assert not (project.root / ".kittify" / "logs").exists()


def test_a_sandbox_that_the_settings_may_replace_is_only_warned_of(project: Project) -> None:
    install(project, "codex", BROKEN_SANDBOX)
    project.configure('[agents.codex]\nextra_args = ["-c", "features.use_legacy_landlock=true"]\n')
    told = finding(listed(project)["codex"], "agent.sandbox")
    # Nothing that surely mends it: the home of this test lies below the folder for temporary files.
    assert (told["level"], told["fix"]) == ("warning", None)


def test_a_cli_that_does_not_know_how_to_try_its_sandbox_is_not_blamed(project: Project) -> None:
    install(project, "codex", 'test "$1" = sandbox && exit 2; echo 0.171.0')
    assert "agent.sandbox" not in [one["id"] for one in listed(project)["codex"]["findings"]]


@pytest.mark.parametrize(("exit_code", "answer"), [(0, "yes"), (1, "no")])
def test_a_cli_is_asked_whether_somebody_is_logged_in(project: Project, exit_code: int, answer: str) -> None:
    install(project, "codex", f'test "$1" = login && exit {exit_code}; echo 0.169.0')
    assert listed(project)["codex"]["logged_in"] == answer


def test_a_key_and_a_file_of_a_login_count_as_one(project: Project, tmp_path: Path) -> None:
    install(project, "claude", "echo 2.1.197")
    assert listed(project)["claude-code"]["logged_in"] == "unknown"
    (tmp_path / "home" / ".claude").mkdir()
    (tmp_path / "home" / ".claude" / ".credentials.json").touch()
    claude = listed(project)["claude-code"]
    assert (claude["logged_in"], claude["logged_in_by"]) == ("yes", "~/.claude/.credentials.json exists")
    project.env["ANTHROPIC_API_KEY"] = "sk-ant-test-0123456789abcdef"
    claude = listed(project)["claude-code"]
    assert (claude["logged_in"], claude["logged_in_by"]) == ("yes", "ANTHROPIC_API_KEY is set")


def test_what_mends_a_login_is_a_command_that_can_be_copied(project: Project) -> None:
    install(project, "letta", "echo 0.25.9")
    install(project, "gemini", "echo 0.61.0")
    found = listed(project)
    assert finding(found["letta"], "agent.login")["fix"] == "export LETTA_API_KEY='…'"
    assert finding(found["gemini"], "agent.login")["fix"] == "gemini"


def test_a_key_in_the_settings_of_an_agent_counts_too(project: Project) -> None:
    install(project, "codex", 'test "$1" = login && exit 1; echo 0.169.0')
    project.configure('[agents.codex]\nenv = { CODEX_API_KEY = "abcdef0123456789" }\n')
    assert listed(project)["codex"]["logged_in"] == "yes"


def test_cli_and_login_are_asked_in_the_agents_own_environment(project: Project, tmp_path: Path) -> None:
    install(project, "codex", f"env >{tmp_path}/seen; echo 0.169.0")
    project.env |= {"CODEX_HOME": str(tmp_path), "UNRELATED_KEY": "abcdef0123456789"}
    listed(project)
    seen = (tmp_path / "seen").read_text()
    assert f"CODEX_HOME={tmp_path}" in seen
    assert "UNRELATED_KEY" not in seen


def test_the_settings_of_the_project_apply(project: Project) -> None:
    own = project.root / "own codex"
    own.write_text("#!/bin/sh\necho 0.169.1\n")
    own.chmod(0o755)
    project.configure(f'[agents.codex]\nexecutable = "{own}"\nextra_args = ["--yolo"]\n')
    codex = listed(project, cwd=project.root / "kitty-specs")["codex"]
    assert (codex["path"], codex["version"]) == (str(own), "0.169.1")
    assert codex["roles"]["review"]["sandbox"] == "custom"
    told = [one for one in codex["findings"] if one["id"] == "agent.extra_args"]
    assert [one["level"] for one in told] == ["error"]
    assert str(project.root / ".kittify" / "orchestrator.toml") in told[0]["fix"]


def test_agents_are_listed_outside_of_any_repository(project: Project, tmp_path: Path) -> None:
    install(project, "codex", "echo 0.169.0")
    assert listed(project, cwd=tmp_path)["codex"]["installed"]
    refused = project.run("agents", "--repo-root", str(tmp_path))
    assert (refused.returncode, "is not in a git repository" in refused.stderr) == (2, True)


def test_a_wrong_setting_is_named(project: Project) -> None:
    project.configure("[run]\nmax = 1\n")
    done = project.run("agents")
    assert (done.returncode, "unknown key" in done.stderr) == (2, True)


@pytest.mark.parametrize("args", [(), ("--json",)])
def test_no_secret_of_ours_or_of_the_settings_that_a_cli_prints_is_shown(
    project: Project, args: tuple[str, ...]
) -> None:
    project.env["OPENAI_API_KEY"] = "sk-verysecret0123456789"
    project.configure('[agents.codex]\nenv = { MY_API_KEY = "Zx91-foo-Bar-22abc" }\n')
    install(project, "codex", 'echo "$OPENAI_API_KEY or $MY_API_KEY is wrong"; exit 1')
    shown = project.run("agents", *args).stdout
    assert "is wrong" in shown
    assert "verysecret" not in shown
    assert "foo-Bar" not in shown


def test_our_own_folders_may_be_named_as_people_like(project: Project, tmp_path: Path) -> None:
    place = tmp_path / "yolo" / "project"
    place.parent.mkdir()
    project.root.rename(place)
    project.root = place
    project.configure(
        f'''[agents.codex]
env = {{ CODEX_HOME = "{place}" }}
[agents.my-bot]
command = ["true", "--dir={{workspace}}", "--in={{prompt_file}}"]
prompt = "file"
'''
    )
    for name, agent in listed(project).items():
        assert [one["text"] for one in agent["findings"] if one["id"] == "agent.extra_args"] == [], name


def test_a_dry_run_warns_of_a_version_newer_than_tested(project: Project) -> None:
    install(project, "codex", "echo codex-cli 1.0.0")
    shown = project.orchestrate("--dry-run", agents="codex").stdout
    assert "  warning: agent codex: version 1.0.0 is newer than those tested" in shown


def test_a_run_warns_of_a_version_newer_than_tested_and_logs_each_version(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(project, "codex", "echo codex-cli 1.0.0")
    monkeypatch.setenv("PATH", f"{project.bin}:/usr/bin:/bin")
    chosen = {"impl_agents": "codex", "review_agents": "codex"}
    work = Work(open_project(project.root, os.environ, chosen), "demo-01ABC", RunOptions())
    shown = io.StringIO()
    work.show(PlainView(SteadyConsole(file=shown, soft_wrap=True)))
    log = project.root / ".kittify" / "logs" / work.mission / "orchestrator.log"
    with configure_logging(project.root, work.mission):
        anyio.run(tell_versions, work)
    assert "run   warning: agent codex: version 1.0.0 is newer than those tested" in shown.getvalue()
    assert "1.0.0" in log.read_text()
    assert f"{project.bin}{os.sep}codex" in log.read_text()
