"""What `doctor` finds before a run, with stand-ins of the host and the CLIs on PATH."""

import json
import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.cli.journals import AT, SLUG, start_line

from spec_kitty_orchestrator.app.checks import Finding, Level
from spec_kitty_orchestrator.app.doctor import diagnose
from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.machine.process import MARKER

SPAWN = '[host]\ntransport = "spawn"\n'
REFUSED = "--policy.dangerous_flags contains a banned flag: '--yolo'"
Project = Any  # the class lives in conftest, which tests cannot import
Found = Mapping[str, Finding]


def refusal(code: str, message: str) -> str:
    return json.dumps({"success": False, "error_code": code, "data": {"message": message}})


@pytest.fixture(autouse=True)
def _quiet(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mission that nothing is wrong with, on a machine where nobody is logged in."""
    (tmp_path / "home").mkdir()
    project.env |= {"HOME": str(tmp_path / "home"), "PATH": f"{project.bin}:/usr/bin:/bin"}
    project.answer("start-review", refusal("MISSION_NOT_FOUND", "Mission not found"), 1)
    project.configure(SPAWN)
    for name in set(os.environ) - set(project.env):
        if name.startswith(("SKO_", "GIT_", "CODEX_", "OPENAI_", "ANTHROPIC_", "CLAUDE_", "SPEC_KITTY_")):
            monkeypatch.delenv(name)
    for name, value in project.env.items():
        monkeypatch.setenv(name, value)


def examine(
    project: Project, mission: str | None = SLUG, agents: str = "scripted", root: Path | None = None
) -> list[Finding]:
    flags = {"impl_agents": agents, "review_agents": agents}
    return anyio.run(diagnose, root or project.root, os.environ, flags, mission).findings


def wrong(project: Project, mission: str | None = SLUG, agents: str = "scripted") -> dict[str, Finding]:
    """Return what is not in order, but for the reviewer, who is always of the implementer's family here."""
    found = [one for one in examine(project, mission, agents) if one.level is not Level.OK]
    return {one.id: one for one in found if one.id != "review.independent"}


def only(found: dict[str, Finding], identity: str, level: str) -> Finding:
    assert list(found) == [identity], [one.text for one in found.values()]
    assert found[identity].level == level
    return found[identity]


def test_nothing_is_wrong_with_a_mission_that_can_be_run(project: Project) -> None:
    assert wrong(project) == {}
    found = {one.id: one.text for one in examine(project)}
    assert found["host"].endswith("speaks contract 1.5.0")
    assert found["host.policy"] == "the host accepts the policy of scripted (review)"
    assert found["mission.exists"] == f"the host knows {SLUG}: 4 work packages"


def test_the_command_says_so_and_changes_nothing(project: Project) -> None:
    before = {file: file.stat().st_mtime_ns for file in project.root.rglob("*")}
    done = project.run("doctor", "-m", SLUG, "--impl-agent", "scripted", "--review-agent", "scripted")
    assert done.returncode == 0, done.stderr
    last = "0 errors, 1 warning: nothing stands in the way of a run. Nothing was changed.\n"
    assert done.stdout.endswith(last)
    assert {file: file.stat().st_mtime_ns for file in project.root.rglob("*")} == before


def test_what_would_fail_is_told_with_what_mends_it_and_exit_code_5(project: Project) -> None:
    done = project.run("doctor", "-m", SLUG, "--impl-agent", "codex", "--review-agent", "codex")
    assert done.returncode == 5
    told = "error   agent codex is not installed: codex is not on PATH;"
    assert told in done.stdout
    assert "\n          npm install -g @openai/codex\n" in done.stdout
    assert "1 error, 1 warning: a run would fail." in done.stdout


def test_the_json_document_has_a_fixed_shape(project: Project) -> None:
    done = project.run(
        "doctor", "-m", "01ABC", "--impl-agent", "codex", "--review-agent", "scripted", "--json"
    )
    assert done.returncode == 5
    document = json.loads(done.stdout)
    assert list(document) == ["version", "repository", "mission", "exit_code", "seconds", "findings"]
    assert (document["repository"], document["mission"]) == (str(project.root), SLUG)
    assert document["exit_code"] == 5
    for one in document["findings"]:
        assert list(one) == ["id", "level", "about", "text", "fix"]
        assert one["level"] in ("ok", "warning", "error")
    (missing,) = [one for one in document["findings"] if one["level"] == "error"]
    assert (missing["id"], missing["about"]) == ("agent.installed", "codex")
    assert missing["fix"] == "npm install -g @openai/codex"


def test_without_a_mission_the_rest_is_looked_at(project: Project) -> None:
    project.answer("mission-state", "", 1)
    assert wrong(project, None) == {}
    assert "host.policy" in {one.id for one in examine(project, None)}


def test_all_that_is_wrong_is_gathered(project: Project) -> None:
    project.configure(
        '[run]\nmin_free_disk = "4000TB"\n[[gates]]\nname = "lint"\ncommand = ["nosuchlinter", "."]\n'
    )
    (project.root / ".git" / "index.lock").touch()
    project.answer("contract-version", "", 1)
    found = wrong(project, agents="codex")
    assert {"agent.installed", "host", "machine.disk", "gate.program", "git.lock"} <= set(found)


# Where it runs


def test_a_folder_outside_of_any_repository_is_a_finding(project: Project, tmp_path: Path) -> None:
    done = project.run("doctor", "-m", SLUG, cwd=tmp_path)
    assert done.returncode == 5
    assert "is not in a git repository" in done.stdout


def test_only_a_repository_of_somebody_else_is_to_be_declared_safe(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken" / ".git").mkdir(parents=True)
    (found,) = [one for one in examine(project, root=tmp_path / "broken") if one.level == "error"]
    assert (found.id, found.fix) == ("git.repository", "")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    (found,) = [one for one in examine(project) if one.level == "error"]
    assert found.fix == f"git config --global --add safe.directory {shlex.quote(str(project.root))}"


def test_a_wrong_setting_is_a_finding_and_the_rest_is_still_looked_at(project: Project) -> None:
    file = project.configure("[run]\nmax = 1\n")
    (project.root / ".git" / "index.lock").touch()
    found = wrong(project)
    assert found["config"].text.startswith(f"{file}:2: [run] max: unknown key")
    assert found["config"].fix == f"${{EDITOR:-vi}} {shlex.quote(str(file))}"
    assert "git.lock" in found
    argv = ["/bin/sh", "-c", found["config"].fix]
    shown = subprocess.run(
        argv, env={"EDITOR": "/bin/echo --wait"}, capture_output=True, text=True, check=True
    )
    assert shown.stdout == f"--wait {file}\n"


def test_a_wrong_variable_comes_with_the_command_that_unsets_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKO_MAX", "1")
    assert wrong(project)["config"].fix == "unset SKO_MAX"


def test_an_unknown_agent_is_a_finding(project: Project) -> None:
    found = wrong(project, agents="codec")["config"]
    assert "unknown agent 'codec'; did you mean codex?" in found.text
    assert found.fix == "spec-kitty-orchestrator agents"


def test_every_prompt_that_is_wrong_is_named(project: Project) -> None:
    folder = project.root / ".kittify" / "orchestrator" / "prompts"
    folder.mkdir(parents=True)
    (folder / "implement.md").write_bytes(b"\xff")
    (folder / "review.md").write_text("look")
    texts = [one.text for one in examine(project) if one.id == "config"]
    assert len(texts) == 2
    assert "implement.md: is not UTF-8" in texts[0]
    assert "review.md" in texts[1]


# Agents


def install(project: Project, name: str, script: str) -> None:
    (project.bin / name).write_text(f"#!/bin/sh\n{script}\n")
    (project.bin / name).chmod(0o755)


def test_an_agent_of_another_major_version_is_warned_of(project: Project) -> None:
    install(project, "codex", "echo 1.0.0")
    found = only(wrong(project, agents="codex"), "agent.version", "warning")
    assert found.fix == "npm install -g @openai/codex@0.169.0"


def test_an_agent_that_cannot_run_fails_a_run(project: Project) -> None:
    install(project, "codex", "test $1 = login || exit 127")
    assert only(wrong(project, agents="codex"), "agent.version", "error").about == "codex"


@pytest.mark.parametrize(("code", "level"), [(1, "warning"), (126, "error"), (127, "error")])
def test_an_agent_that_only_does_not_tell_its_version_is_warned_of(
    project: Project, code: int, level: str
) -> None:
    install(project, "codex", f"test $1 = login || exit {code}")
    found = only(wrong(project, agents="codex"), "agent.version", level)
    assert f"ended with exit code {code}" in found.text


def test_an_agent_that_is_not_logged_in_is_warned_of(project: Project) -> None:
    install(project, "codex", "test $1 = login && exit 1; echo 0.169.0")
    assert only(wrong(project, agents="codex"), "agent.login", "warning").fix == "codex login"


def test_a_model_that_a_cli_does_not_name_is_warned_of(project: Project) -> None:
    install(project, "opencode", 'test "$1" = models && echo mock/there && exit; echo 1.18.0')
    settings = SPAWN + '[agents.opencode]\nenv = { OPENCODE_API_KEY = "none-0123456789" }\nmodel = '
    project.configure(f'{settings}"mock/there"\n')
    assert "agent.model" not in wrong(project, agents="opencode")
    project.configure(f'{settings}"mock/gone"\n')
    found = wrong(project, agents="opencode")["agent.model"]
    assert (found.level, found.fix) == ("warning", "opencode models")
    assert "does not list its model mock/gone" in found.text


def test_a_banned_flag_is_found_by_us_and_refused_by_the_host(project: Project) -> None:
    file = project.configure(SPAWN + '[agents.scripted]\nextra_args = ["--yolo"]\n')
    project.answer("start-review", refusal("POLICY_VALIDATION_FAILED", REFUSED), 1)
    found = wrong(project)
    assert set(found) == {"agent.extra_args", "host.policy"}
    assert found["host.policy"].text.endswith(f"POLICY_VALIDATION_FAILED: {REFUSED}")
    assert str(file) in found["host.policy"].fix
    (asked, *_) = project.calls("start-review")
    assert '"dangerous_flags": ["--yolo"]' in asked


def test_without_a_host_our_own_rules_judge_the_policy(project: Project) -> None:
    project.configure('[host]\nexecutable = "/missing"\n[agents.scripted]\nextra_args = ["--yolo"]\n')
    assert set(wrong(project)) == {"agent.extra_args", "agent.policy", "host"}


def test_a_host_that_fails_at_a_policy_hides_nothing_of_what_we_know(project: Project) -> None:
    project.configure(SPAWN + '[agents.scripted]\nextra_args = ["--yolo"]\n')
    project.answer("start-review", "", 1, "out of order")
    assert set(wrong(project)) == {"agent.extra_args", "agent.policy", "host.policy"}


def test_what_only_we_refuse_is_told_although_the_host_accepts_it(project: Project) -> None:
    project.configure(SPAWN + '[agents.scripted]\nextra_args = ["--yolo"]\n')
    assert set(wrong(project)) == {"agent.extra_args", "agent.policy"}


def test_a_policy_is_sent_with_a_change_of_a_mission_that_is_not_there(project: Project) -> None:
    examine(project)
    (asked,) = {line.split(" --policy ")[0] for line in project.calls("start-review")}
    assert f"--mission {SLUG}" not in asked
    assert "--mission no-such-mission-policy-check" in asked


def test_a_host_that_would_begin_such_a_review_is_told_of(project: Project) -> None:
    project.answer("start-review", json.dumps({"success": True, "data": {}}))
    assert "should not exist" in only(wrong(project), "host.policy", "error").text


def test_a_review_that_is_not_independent_fails_a_run_that_demands_it(project: Project) -> None:
    (found,) = [one for one in examine(project) if one.id == "review.independent"]
    assert found.level == "warning"
    project.configure(SPAWN + "[run]\nrequire_independent_review = true\n")
    (found,) = [one for one in examine(project) if one.id == "review.independent"]
    assert found.level == "error"


def test_a_cost_that_nobody_tells_is_warned_of_and_fails_a_strict_run(project: Project) -> None:
    install(project, "codex", "echo 0.169.0")
    settings = f"{SPAWN}[run]\nmax_cost = 5\n"
    project.configure(settings)
    only(wrong(project, agents="codex"), "budget.counted", "warning")
    project.configure(f"{settings}strict_budget = true\n")
    only(wrong(project, agents="codex"), "budget.counted", "error")


def test_a_scenario_that_is_missing_fails_a_run(project: Project) -> None:
    project.configure(SPAWN + '[agents.scripted]\nscenario = "none.toml"\n')
    only(wrong(project), "agent.scenario", "error")


# The host


def test_a_missing_host_comes_with_the_command_that_installs_it(project: Project) -> None:
    (project.bin / "spec-kitty").unlink()
    assert only(wrong(project), "host", "error").fix == "pipx install spec-kitty-cli"


def test_a_host_that_the_settings_name_wrongly_comes_with_the_file_to_correct(project: Project) -> None:
    file = project.configure('[host]\nexecutable = "/missing"\n')
    assert only(wrong(project), "host", "error").fix == f"${{EDITOR:-vi}} {shlex.quote(str(file))}"


def test_a_host_that_the_settings_name_is_the_one_to_be_asked_again(project: Project) -> None:
    named = project.bin / "other-host"
    (project.bin / "spec-kitty").rename(named)
    project.configure(f'[host]\nexecutable = "{named}"\ntransport = "spawn"\n')
    project.answer("contract-version", "", 1, "ImportError: no module named typer")
    found = only(wrong(project), "host", "error")
    assert found.fix == f"{shlex.quote(str(named))} orchestrator-api contract-version"


@pytest.mark.parametrize(
    ("api", "needed", "fix"),
    [
        ("1.2.0", "0.1.0", "pipx upgrade spec-kitty-cli"),
        # In a newer checkout: the package index has another program of our name.
        ("2.0.0", "0.1.0", "pipx install --force ."),
        ("1.5.0", "9.0.0", "pipx install --force ."),
    ],
)
def test_of_two_sides_that_do_not_fit_the_older_is_to_be_upgraded(
    project: Project, api: str, needed: str, fix: str
) -> None:
    data = {"api_version": api, "min_supported_provider_version": needed}
    project.answer("contract-version", json.dumps({"success": True, "data": data}))
    assert only(wrong(project), "host", "error").fix == fix


def test_a_host_that_crashes_is_told_of_with_its_last_words(project: Project) -> None:
    project.answer("contract-version", "", 1, "ImportError: no module named typer")
    found = only(wrong(project), "host", "error")
    assert "ImportError: no module named typer" in found.text
    assert "\n" not in found.text


def test_a_host_that_cannot_be_served_warm_is_warned_of(project: Project) -> None:
    project.configure("")
    assert "host.warm" in wrong(project)


# The mission


def test_an_unknown_mission_comes_with_the_nearest_one(project: Project) -> None:
    project.answer("mission-state", refusal("MISSION_NOT_FOUND", "no"), 1)
    found = only(wrong(project, "demo"), "mission.exists", "error")
    assert found.fix == f"spec-kitty-orchestrator doctor --mission {SLUG}"


def test_tasks_that_are_not_finalized_fail_a_run(project: Project) -> None:
    wps = [{"wp_id": "WP01", "lane": "planned"}]
    data = {"mission_slug": SLUG, "summary": {"planned": 0}, "work_packages": wps}
    project.answer("mission-state", json.dumps({"success": True, "data": data}))
    found = only(wrong(project), "mission.tasks", "error")
    assert found.fix == f"spec-kitty agent mission finalize-tasks --mission {SLUG}"


def test_a_mission_without_visible_work_packages_is_on_another_branch(project: Project) -> None:
    project.lanes({})
    project.git("switch", "-qc", "other branch".replace(" ", "-"))
    found = only(wrong(project), "mission.branch", "error")
    assert found.fix == f"git -C {shlex.quote(str(project.root))} switch feature/demo"


def test_another_branch_than_the_missions_is_warned_of_where_the_host_sees_work(project: Project) -> None:
    project.git("switch", "-qc", "other")
    found = only(wrong(project), "git.branch", "warning")
    assert found.fix == f"git -C {shlex.quote(str(project.root))} switch feature/demo"
    project.git("switch", "-q", "--detach")
    assert "a detached HEAD" in only(wrong(project), "git.branch", "warning").text


def test_a_branch_without_the_missions_folder_is_told_of_even_if_the_host_knows_it(project: Project) -> None:
    project.git("switch", "-q", "--orphan", "empty")
    project.answer("resolve-workspace", refusal("WP_NOT_FOUND", "no"), 1)
    assert only(wrong(project), "git.branch", "error").fix.endswith("switch feature/demo")


def test_a_mission_on_a_protected_branch_fails_a_run(project: Project) -> None:
    meta = project.root / "kitty-specs" / SLUG / "meta.json"
    meta.write_text(json.dumps({"target_branch": "main", "topology": "lanes"}))
    project.git("commit", "-qam", "main")
    project.git("branch", "-qm", "main")
    assert str(meta) in only(wrong(project), "mission.target", "error").fix


def test_a_mission_without_lanes_is_warned_of(project: Project) -> None:
    project.git("rm", "-q", f"kitty-specs/{SLUG}/lanes.json")
    project.git("commit", "-qm", "no lanes")
    only(wrong(project), "mission.lanes", "warning")


def test_uncommitted_changes_that_a_merge_would_lose_are_warned_of(project: Project) -> None:
    (project.root / "kitty-specs" / SLUG / "tasks" / "WP01-a.md").write_text("changed")
    found = only(wrong(project), "git.clean", "warning")
    assert "WP01-a.md" in found.text
    assert found.fix == f"git -C {shlex.quote(str(project.root))} commit --all"


def test_a_dependency_cycle_fails_a_run(project: Project) -> None:
    project.lanes({"WP01": "planned", "WP02": "planned"}, {"WP01": ["WP02"], "WP02": ["WP01"]})
    assert "WP01, WP02 depend on each other" in only(wrong(project), "mission.cycle", "error").text


def test_work_packages_that_nobody_takes_further_are_named_with_those_that_need_them(
    project: Project,
) -> None:
    lanes = {"WP01": "done", "WP02": "blocked", "WP03": "planned", "WP04": "planned", "WP05": "planned"}
    project.lanes(lanes, {"WP03": ["WP02"], "WP04": ["WP03"], "WP05": ["WP01"]})
    found = {one.about: one for one in examine(project) if one.id == "mission.stuck"}
    assert set(found) == {"WP02", "WP03", "WP04"}
    assert found["WP03"].text == "WP03 cannot start: it needs WP02"
    assert {one.fix for one in found.values()} == {f"spec-kitty-orchestrator retry WP02 --mission {SLUG}"}
    assert set(wrong(project)) == {"mission.stuck"}


def test_of_several_dependencies_the_one_that_is_stuck_is_to_be_freed(project: Project) -> None:
    lanes = {"WP01": "planned", "WP02": "blocked", "WP03": "planned"}
    project.lanes(lanes, {"WP03": ["WP01", "WP02"]})
    found = {one.about: one for one in examine(project) if one.id == "mission.stuck"}
    assert set(found) == {"WP02", "WP03"}
    assert found["WP03"].fix == f"spec-kitty-orchestrator retry WP02 --mission {SLUG}"


def test_a_cycle_that_waits_for_a_stuck_one_too_is_told_of(project: Project) -> None:
    lanes = {"WP01": "planned", "WP02": "planned", "WP03": "blocked"}
    project.lanes(lanes, {"WP01": ["WP02", "WP03"], "WP02": ["WP01"]})
    # In a program of its own: a loop without an end is not to end the tests.
    done = project.run(
        "doctor", "-m", SLUG, "--impl-agent", "scripted", "--review-agent", "scripted", "--json"
    )
    stuck = [one for one in json.loads(done.stdout)["findings"] if one["id"] == "mission.stuck"]
    assert {one["fix"] for one in stuck} == {f"spec-kitty-orchestrator retry WP03 --mission {SLUG}"}
    assert len(stuck) == 3


def test_a_mission_in_which_nothing_can_be_scheduled_fails_a_run(project: Project) -> None:
    project.lanes({"WP01": "canceled", "WP02": "planned"}, {"WP02": ["WP01"]})
    found = wrong(project)
    assert set(found) == {"mission.stuck", "mission.stalled"}
    assert found["mission.stalled"].level == "error"


def test_a_mission_with_nothing_left_to_do_is_in_order(project: Project) -> None:
    project.lanes({"WP01": "done", "WP02": "approved"})
    assert wrong(project) == {}


# Earlier runs


def records(project: Project, *lines: Mapping[str, object]) -> Path:
    folder: Path = project.root / ".kittify" / "orchestrator" / SLUG
    folder.mkdir(parents=True)
    text = "".join(json.dumps(one) + "\n" for one in lines)
    (folder / "journal.jsonl").write_text(text)
    return folder


def test_a_run_that_is_active_fails_another(project: Project) -> None:
    with MissionLock(records(project), SLUG):
        found = only(wrong(project), "lock", "error")
    assert f"process {os.getpid()} on " in found.text
    assert found.fix == f"spec-kitty-orchestrator abort --mission {SLUG}"


def test_what_is_uncommitted_while_a_run_works_is_its_own(project: Project) -> None:
    (project.root / "kitty-specs" / SLUG / "tasks" / "WP01-a.md").write_text("changed")
    with MissionLock(records(project), SLUG):
        assert set(wrong(project)) == {"lock"}


def test_agents_of_an_earlier_run_that_are_still_at_work_are_warned_of(project: Project) -> None:
    attempt = project.root / ".kittify" / "logs" / SLUG / "WP01" / "01-implement-scripted"
    attempt.mkdir(parents=True)
    (attempt / "command.json").write_text('{"attempt": "left-at-work"}')
    # A program that ends by itself, should the test be killed.
    left = subprocess.Popen(["/bin/sleep", "60"], env={MARKER: "left-at-work"})
    try:
        found = only(wrong(project), "run.agents", "warning")
    finally:
        left.kill()
        left.wait()
    assert f"(processes {left.pid})" in found.text
    assert found.fix == f"spec-kitty-orchestrator abort --mission {SLUG}"


def test_an_interrupted_run_is_told_of_with_the_command_that_goes_on(project: Project) -> None:
    records(project, start_line())
    found = only(wrong(project), "run.earlier", "warning")
    assert "an earlier run was cut off" in found.text
    assert found.fix == f"spec-kitty-orchestrator resume --mission {SLUG}"


def test_a_damaged_journal_fails_a_run(project: Project) -> None:
    records(project, {"type": "nonsense"}, {"type": "nonsense"})
    found = only(wrong(project), "run.journal", "error")
    assert found.fix == f"spec-kitty-orchestrator orchestrate --mission {SLUG} --fresh"


def test_records_that_cannot_be_written_fail_a_run(project: Project) -> None:
    (project.root / ".kittify" / "logs").write_text("a file")
    assert only(wrong(project), "records.writable", "error").fix.startswith("mv -- ")


# Git


def test_git_without_an_identity_fails_a_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        for part in ("NAME", "EMAIL"):
            monkeypatch.delenv(f"GIT_{role}_{part}")
    project.git("config", "user.useConfigOnly", "true")
    found = only(wrong(project), "git.identity", "error")
    assert f"git -C {shlex.quote(str(project.root))} config user.name 'Your Name' && " in found.fix


def test_commits_that_cannot_be_signed_where_nobody_is_asked_fail_a_run(project: Project) -> None:
    project.git("config", "commit.gpgsign", "true")
    project.git("config", "gpg.program", "false")
    found = only(wrong(project), "git.signature", "error")
    assert "failed to sign" in found.text
    assert found.fix == f"git -C {shlex.quote(str(project.root))} config commit.gpgsign false"


def test_a_merge_that_is_under_way_fails_a_run(project: Project) -> None:
    head = project.git("rev-parse", "HEAD")
    (project.root / ".git" / "MERGE_HEAD").write_text(head)
    assert only(wrong(project), "git.operation", "error").fix.endswith("merge --continue")


def test_a_locked_index_fails_a_run(project: Project) -> None:
    lock = project.root / ".git" / "index.lock"
    lock.touch()
    assert only(wrong(project), "git.lock", "error").fix == f"rm -- {shlex.quote(str(lock))}"


def test_a_worktree_whose_folder_is_gone_is_warned_of(project: Project, tmp_path: Path) -> None:
    project.git("worktree", "add", "-q", "--detach", str(tmp_path / "gone"))
    (tmp_path / "gone").rename(tmp_path / "elsewhere")
    found = only(wrong(project), "git.worktrees", "warning")
    assert str(tmp_path / "gone") in found.text
    assert found.fix.endswith("worktree prune")


def test_a_remote_whose_default_branch_is_unknown_is_warned_of(project: Project) -> None:
    project.git("remote", "add", "origin", "https://example.test/x.git")
    assert only(wrong(project), "git.remote_head", "warning").fix.endswith("remote set-head origin --auto")


def test_a_git_that_is_too_old_fails_a_run(project: Project) -> None:
    install(
        project, "git", 'case "$*" in *--version) echo git version 2.30.9;; *) exec /usr/bin/git "$@";; esac'
    )
    assert "2.31 or newer" in only(wrong(project), "git.version", "error").text


@pytest.mark.parametrize("lane", ["planned", "in_progress"])
def test_uncommitted_work_in_a_worktree_keeps_the_host_from_starting_there(
    project: Project, lane: str
) -> None:
    project.lanes({"WP01": lane})
    project.git("worktree", "add", "-q", "-b", "b-WP01", "w/WP01")
    (project.root / ".git" / "info" / "exclude").write_text("/w/\n")
    assert wrong(project) == {}
    (project.root / "w" / "WP01" / "left.txt").touch()
    found = only(wrong(project), "worktree.clean", "error")
    assert (found.about, "left.txt" in found.text) == ("WP01", True)
    subprocess.run(found.fix, shell=True, check=True, capture_output=True)
    assert wrong(project) == {}


def test_uncommitted_work_of_an_interrupted_run_goes_on_and_is_only_warned_of(project: Project) -> None:
    project.lanes({"WP01": "in_progress"})
    project.git("worktree", "add", "-q", "-b", "b-WP01", "w/WP01")
    (project.root / ".git" / "info" / "exclude").write_text("/w/\n")
    (project.root / "w" / "WP01" / "half.txt").touch()
    place = {"path": "w", "prompt_path": "p", "lane_id": "a", "branch": "b-WP01", "base_ref": "c"}
    scheduled = {"kind": "scheduled", "lane": "planned", "workspace": place}
    claimed = {"kind": "claimed", "workspace": place, "head": "0" * 40}
    lines = [{"line": "event", "at": AT, "wp_id": "WP01", "event": one} for one in (scheduled, claimed)]
    records(project, start_line(), *lines)
    found = wrong(project)
    assert set(found) == {"run.earlier", "worktree.clean"}
    assert found["worktree.clean"].level == "warning"


def test_a_folder_in_the_place_of_a_worktree_fails_a_run(project: Project) -> None:
    (project.root / ".git" / "info" / "exclude").write_text("/w/\n")
    (project.root / "w" / "WP01").mkdir(parents=True)
    assert only(wrong(project), "worktree.works", "error").fix.startswith("mv -- ")


# The machine


@pytest.mark.parametrize("what", ["memory", "disk"])
def test_a_machine_below_a_floor_fails_a_run(project: Project, what: str) -> None:
    project.configure(f'{SPAWN}[run]\nmin_free_{what} = "4000TB"\n')
    assert f"(min_free_{what})" in only(wrong(project), f"machine.{what}", "error").text


def test_a_gate_whose_program_is_missing_fails_a_run_and_is_not_run(project: Project) -> None:
    gates = (
        '[[gates]]\nname = "a"\ncommand = ["nosuchlinter", "."]\n'
        '[[gates]]\nname = "b"\ncommand = ["./scripts/test"]\n'
        '[[gates]]\nname = "c"\ncommand = "X=1 touch ran"\n'
        '[[gates]]\nname = "d"\ncommand = "cd src && nosuchlinter"\n'
        '[[gates]]\nname = "e"\ncommand = "nosuchlinter ."\n'
    )
    project.configure(SPAWN + gates)
    found = {one.about: one.level for one in examine(project) if one.id == "gate.program"}
    assert found == {"a": "error", "b": "warning", "c": "ok", "d": "ok", "e": "warning"}
    assert not list(project.root.rglob("ran"))


def test_no_secret_is_shown(project: Project) -> None:
    project.env["OPENAI_API_KEY"] = "sk-verysecret0123456789"
    project.answer("contract-version", "", 1, "bad key sk-verysecret0123456789")
    for args in ((), ("--json",)):
        shown = project.run("doctor", *args).stdout
        assert "bad key" in shown
        assert "verysecret" not in shown
