"""What `doctor` finds before a run, with stand-ins of the host and the CLIs on PATH."""

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterable, Mapping
from functools import partial
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
YOLO = '[agents.scripted]\nextra_args = ["--yolo"]\n'
REFUSED = "--policy.dangerous_flags contains a banned flag: '--yolo'"
SCRIPTED = ("--impl-agent", "scripted", "--review-agent", "scripted")
CRASH = "ImportError: no module named typer"
TASK = f"kitty-specs/{SLUG}/tasks/WP01-a.md"
COST = "[run]\nmax_cost = 5\n"
LEAST = f"{SPAWN}[run]\nmin_free_"
SCENARIO = '[agents.scripted]\nscenario = "none.toml"\n'
UNSIGNED = ("config commit.gpgsign true", "config gpg.program false")
MEMORY, DISK = "ps aux | sort -rnk 4 | head", "du -sh -- ROOT/.kittify/logs ROOT/.worktrees"
ELSEWHERE = f'{SPAWN}[run]\nexecutor = "tcp://127.0.0.1:1"\n'
OURS, AT_MISSION = "spec-kitty-orchestrator", f"--mission {SLUG}"
Project = Any  # the class lives in conftest, which tests cannot import


def refusal(code: str, message: str) -> str:
    return json.dumps({"success": False, "error_code": code, "data": {"message": message}})


def success(data: Mapping[str, object]) -> str:
    return json.dumps({"success": True, "data": data})


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


def install(project: Project, name: str, script: str) -> None:
    (project.bin / name).write_text(f"#!/bin/sh\n{script}\n")
    (project.bin / name).chmod(0o755)


def records(project: Project, lines: Iterable[Mapping[str, object]] = ()) -> Path:
    folder: Path = project.root / ".kittify" / "orchestrator" / SLUG
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    return folder


Spoil = Callable[[Project], object]


def codex(script: str, settings: str = "") -> Spoil:
    def spoil(project: Project) -> None:
        install(project, "codex", script)
        project.configure(SPAWN + settings)

    return spoil


def configured(text: str) -> Spoil:
    return lambda project: project.configure(text)


def git(*commands: str) -> Spoil:
    return lambda project: [project.git(*command.split()) for command in commands]


def written(name: str) -> Spoil:
    return lambda project: (project.root / name).write_text("changed")


def answered(call: str, stdout: str, rc: int = 0, stderr: str = "") -> Spoil:
    return lambda project: project.answer(call, stdout, rc, stderr)


def speaks(api: str, needed: str = "0.1.0") -> Spoil:
    data = {"api_version": api, "min_supported_provider_version": needed}
    return answered("contract-version", success(data))


def host_of_the_settings(project: Project) -> None:
    (project.bin / "spec-kitty").rename(project.bin / "other-host")
    project.configure(f'[host]\nexecutable = "{project.bin}/other-host"\ntransport = "spawn"\n')


def no_work_packages(project: Project) -> None:
    project.lanes({})
    project.git("switch", "-qc", "other")


def branch_without_the_folder(project: Project) -> None:
    project.git("switch", "-q", "--orphan", "empty")
    project.answer("resolve-workspace", refusal("WP_NOT_FOUND", "no"), 1)


def written_by_the_host(project: Project, file: str, **values: str) -> None:
    path = project.root / "kitty-specs" / SLUG / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    project.git("commit", "-qam", "as the host wrote it")


def protected_branch(project: Project) -> None:
    project.git("branch", "-m", "main")
    written_by_the_host(project, "meta.json", target_branch="main", mid8="01ABC")


def no_target(project: Project) -> None:
    written_by_the_host(project, "meta.json", target_branch="gone", mid8="01ABC")


def no_base_of_lanes(project: Project) -> None:
    written_by_the_host(project, "lanes.json", target_branch="gone", mission_branch="kitty/mission")


def no_planning_commit(project: Project) -> None:
    written_by_the_host(project, "lanes.json", planning_commit_sha="0" * 40)


def cycle(project: Project) -> None:
    project.lanes({"WP01": "planned", "WP02": "planned"}, {"WP01": ["WP02"], "WP02": ["WP01"]})


def merge_under_way(project: Project) -> None:
    (project.root / ".git" / "MERGE_HEAD").write_text(project.git("rev-parse", "HEAD"))


def killed_git(project: Project) -> None:
    for lock in (project.root / ".git" / "config.lock", Path(KILLED.replace("ROOT", str(project.root)))):
        lock.parent.mkdir(exist_ok=True)
        lock.touch()


def worktree_gone(project: Project) -> None:
    project.git("worktree", "add", "-q", "--detach", str(project.bin / "gone"))
    (project.bin / "gone").rename(project.bin / "elsewhere")


def not_ignored(project: Project) -> None:
    tracked, new = "package.json", "src/__pycache__/a.pyc"
    (project.root / tracked).write_text("{}")
    project.git("add", tracked)
    project.git("commit", "-q", "-m", "a project of another kind")
    (project.root / new).parent.mkdir(parents=True, exist_ok=True)
    (project.root / new).write_text("x")


def folder_for_a_worktree(project: Project) -> None:
    (project.root / ".git" / "info" / "exclude").write_text("/w/\n/.worktrees/\n")
    (project.root / "w" / "WP01").mkdir(parents=True)


def older(project: Project) -> None:
    project.answer("append-history", "", 4, OLDER)


def older_with_words(project: Project) -> None:
    older(project)
    (project.root / STOPS).mkdir()
    (project.root / "kitty-specs" / "002-Two-Words").mkdir()


def older_without_yaml(project: Project) -> None:
    older(project)
    for name in ("WP01-a.md", "WP07-b.md"):
        matter = '---\ntitle: "a: b"\ndependencies:\n"[]"\n- WP05\nlists: [\na: b,\n]\n---\n'
        (project.root / "kitty-specs" / SLUG / "tasks" / name).write_text(matter)
    project.git("add", "kitty-specs")
    project.git("commit", "-q", "-m", "task files of another time")


NOT_FINALIZED = {
    "mission_slug": SLUG,
    "summary": {"planned": 0},
    "work_packages": [{"wp_id": "WP01", "lane": "planned"}],
}
OLD_GIT = 'case "$*" in *--version) echo git version 2.30.9;; *) exec /usr/bin/git "$@";; esac'
AGENTS, CODEX = "spec-kitty-orchestrator agents", "npm install -g @openai/codex"
ASK_AGAIN = "orchestrator-api contract-version"
SWITCH, FINALIZE = "GIT switch feature/demo", f"spec-kitty agent mission finalize-tasks --mission {SLUG}"
RETARGET = f"GIT switch --create feature/{SLUG} && {FINALIZE} --target-branch feature/{SLUG}"
EDIT = "${EDITOR:-vi} ROOT/"
OLDER = "This project needs migrations.\nRun: spec-kitty upgrade\n"
NEWER = "This project uses schema 9.\nUpgrade your CLI: pip install --upgrade spec-kitty-cli\n"
DAMAGED = "This project's .kittify/metadata.yaml is unreadable: oversized.\nRun: spec-kitty doctor\n"
STOPS, FREE = "kitty-specs/002-Two Words", "kitty-specs/002-Two-Words-2"
RENAME = f"GIT mv -- '{STOPS}' {FREE} && GIT commit -m 'Rename missions' -- '{STOPS}' {FREE}"
KILLED = "ROOT/.git/refs/heads/kitty/lane-a.lock"
UPGRADE, TASKS = "cd ROOT && spec-kitty upgrade", f"kitty-specs/{SLUG}/tasks"
CONFIG = f"{EDIT}.kittify/orchestrator.toml"
BROKEN = ({"type": "nonsense"}, {"type": "nonsense"})


@pytest.mark.parametrize(
    ("spoil", "told", "fix", "text"),
    [
        (codex("echo 0.1.0"), "agent.version warning", f"{CODEX}@0.171.0", "older than those tested"),
        (codex("test $1 = login || exit 1"), "agent.version warning", CODEX, "ended with exit code 1"),
        (codex("test $1 = login || exit 126"), "agent.version error", CODEX, "ended with exit code 126"),
        (codex("echo no node; test $1 = login || exit 127"), "agent.version error", CODEX, "127: 'no node'"),
        (codex("test $1 = login && exit 1; echo 0.169.0"), "agent.login warning", "codex login", ""),
        (codex("echo 0.169.0", COST), "budget.counted warning", AGENTS, ""),
        (codex("echo 0.169.0", f"{COST}strict_budget = true\n"), "budget.counted error", AGENTS, ""),
        (configured(f"{SPAWN}{SCENARIO}"), "agent.scenario error", CONFIG, "none.toml"),
        (
            lambda project: (project.bin / "spec-kitty").unlink(),
            "host error",
            "pipx install spec-kitty-cli",
            "",
        ),
        (configured('[host]\nexecutable = "/missing"\n'), "host error", CONFIG, ""),
        (host_of_the_settings, "host error", f"BIN/other-host {ASK_AGAIN}", "no answer"),
        (answered("contract-version", "", 1, CRASH), "host error", f"spec-kitty {ASK_AGAIN}", CRASH),
        (speaks("1.2.0"), "host error", "pipx upgrade spec-kitty-cli", ""),
        # In a newer checkout: the package index has another program of our name.
        (speaks("2.0.0"), "host error", "pipx install --force .", ""),
        (speaks("1.5.0", "9.0.0"), "host error", "pipx install --force .", ""),
        (
            older_with_words,
            "host.project error",
            f"{RENAME} && {UPGRADE}",
            f"the upgrade would stop at names with more than letters, digits, - and _: {STOPS}",
        ),
        (
            older_without_yaml,
            "host.project error",
            f"{EDIT}{TASKS}/WP01-a.md ROOT/{TASKS}/WP07-b.md && {UPGRADE}",
            f"at what is not YAML: {TASKS}/WP01-a.md, line 4, {TASKS}/WP07-b.md",
        ),
        (
            older,
            "host.project error",
            UPGRADE,
            "needs migrations. Run: spec-kitty upgrade",
        ),
        (
            answered("append-history", "", 5, NEWER),
            "host.project error",
            "pip install --upgrade spec-kitty-cli",
            "schema 9",
        ),
        (
            answered("append-history", "", 6, DAMAGED),
            "host.project error",
            f"{EDIT}.kittify/metadata.yaml",
            "oversized",
        ),
        (answered("start-review", success({})), "host.policy error", f"spec-kitty {ASK_AGAIN}", "should not"),
        (answered("mission-state", success(NOT_FINALIZED)), "mission.tasks error", FINALIZE, ""),
        (no_work_packages, "mission.branch error", SWITCH, ""),
        (git("switch -qc other"), "git.branch warning", SWITCH, "the branch other"),
        (git("switch -q --detach"), "git.branch warning", SWITCH, "a detached HEAD"),
        (branch_without_the_folder, "git.branch error", SWITCH, ""),
        (protected_branch, "mission.target error", RETARGET, "on main, which it protects"),
        (no_target, "mission.target error", RETARGET, "branch gone is not in this"),
        (no_base_of_lanes, "mission.target error", FINALIZE, "there is no gone"),
        (no_planning_commit, "git.clone error", FINALIZE, "the commit 0000000000 of its plan"),
        (git(f"rm -q kitty-specs/{SLUG}/lanes.json", "commit -qm x"), "mission.lanes warning", FINALIZE, ""),
        (written(TASK), "git.clean warning", "GIT commit --all", "WP01-a.md"),
        (cycle, "mission.cycle error", FINALIZE, "WP01, WP02 depend on each other"),
        (
            partial(records, lines=[start_line()]),
            "run.earlier warning",
            f"{OURS} resume {AT_MISSION}",
            "cut off",
        ),
        (partial(records, lines=BROKEN), "run.journal error", f"{OURS} orchestrate {AT_MISSION} --fresh", ""),
        (
            written(".kittify/logs"),
            "records.writable error",
            "mv -- ROOT/.kittify/logs ROOT/.kittify/logs.aside",
            "",
        ),
        (git(*UNSIGNED), "git.signature error", "GIT config commit.gpgsign false", "failed to sign"),
        (merge_under_way, "git.operation error", "GIT merge --continue", ""),
        (written(".git/index.lock"), "git.lock error", "rm -- ROOT/.git/index.lock", ""),
        (
            git("config remote.hub.partialclonefilter blob:none"),
            "git.partial warning",
            "GIT fetch --refetch --no-filter hub && GIT config --unset remote.hub.partialclonefilter",
            "git asks hub for what it lacks",
        ),
        (killed_git, "git.lock error", f"rm -- ROOT/.git/config.lock {KILLED}", KILLED),
        (worktree_gone, "git.worktrees warning", "GIT worktree prune", "BIN/gone"),
        (
            not_ignored,
            "git.ignored warning",
            "printf '%s\\n' __pycache__/ node_modules >>ROOT/.gitignore",
            "__pycache__/, node_modules",
        ),
        (
            lambda project: (project.root / ".git" / "info" / "exclude").unlink(),
            "git.worktrees_ignored warning",
            "mkdir -p -- ROOT/.git/info && printf '%s\\n' /.worktrees/ >>ROOT/.git/info/exclude",
            "`git add --all` commits them",
        ),
        (
            git("remote add origin nowhere"),
            "git.remote_head warning",
            "GIT remote set-head origin --auto",
            "",
        ),
        (lambda project: install(project, "git", OLD_GIT), "git.version error", "", "2.31 or newer"),
        (folder_for_a_worktree, "worktree.works error", "mv -- ROOT/w/WP01 ROOT/w/WP01.aside", ""),
        (configured(f'{LEAST}memory = "4000TB"\n'), "machine.memory error", MEMORY, "(min_free_memory)"),
        (configured(f'{LEAST}disk = "4000TB"\n'), "machine.disk error", DISK, "(min_free_disk)"),
    ],
)
def test_what_is_wrong_is_told_once_with_what_mends_it(
    project: Project, spoil: Spoil, told: str, fix: str, text: str
) -> None:
    spoil(project)
    agents = "codex" if (project.bin / "codex").exists() else "scripted"
    found = only(wrong(project, agents=agents), *told.split())
    # ROOT is the repository, BIN a folder of PATH, and GIT git in the repository.
    for name, place in ("GIT ", "git -C ROOT "), ("ROOT", str(project.root)), ("BIN", str(project.bin)):
        fix, text = fix.replace(name, place), text.replace(name, place)
    assert found.fix == fix
    assert text in found.text
    assert "\n" not in found.text


def test_an_unknown_mission_comes_with_the_nearest_one(project: Project) -> None:
    project.answer("mission-state", refusal("MISSION_NOT_FOUND", "no"), 1)
    found = only(wrong(project, "demo"), "mission.exists", "error")
    assert found.fix == f"spec-kitty-orchestrator doctor --mission {SLUG}"


def test_nothing_is_wrong_with_a_mission_that_can_be_run(project: Project) -> None:
    assert wrong(project) == {}
    found = {one.id: one.text for one in examine(project)}
    assert found["host"].endswith("speaks contract 1.5.0")
    assert found["host.policy"] == "the host accepts the policy of scripted (review)"
    assert found["mission.exists"] == f"the host knows {SLUG}: 4 work packages"


def test_the_command_says_so_and_changes_nothing(project: Project) -> None:
    before = {file: file.stat().st_mtime_ns for file in project.root.rglob("*")}
    done = project.run("doctor", "-m", SLUG, *SCRIPTED)
    assert done.returncode == 0, done.stderr
    last = "0 errors, 1 warning: nothing stands in the way of a run. Nothing was changed.\n"
    assert done.stdout.endswith(last)
    assert {file: file.stat().st_mtime_ns for file in project.root.rglob("*")} == before


def test_what_would_fail_is_told_with_what_mends_it_and_exit_code_5(project: Project) -> None:
    done = project.run("doctor", "-m", SLUG, "--impl-agent", "codex", "--review-agent", "codex")
    assert done.returncode == 5
    assert "error   agent codex is not installed: codex is not on PATH;" in done.stdout
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


# Agents and the host


def test_a_model_that_a_cli_does_not_name_is_warned_of(project: Project) -> None:
    install(project, "opencode", 'test "$1" = models && echo mock/there && exit; echo 1.18.0')
    settings = SPAWN + '[agents.opencode]\nenv = { OPENCODE_API_KEY = "none-0123456789" }\nmodel = '
    project.configure(f'{settings}"mock/there"\n')
    assert "agent.model" not in wrong(project, agents="opencode")
    project.configure(f'{settings}"mock/gone"\n')
    found = wrong(project, agents="opencode")["agent.model"]
    assert (found.level, found.fix) == ("warning", "opencode models")
    assert "does not list its model mock/gone" in found.text


def test_what_a_host_says_of_a_mission_adds_nothing_while_the_project_is_older(project: Project) -> None:
    project.answer("append-history", "", 4, OLDER)
    project.answer("mission-state", success(NOT_FINALIZED))
    found = json.loads(project.run("doctor", "--mission", SLUG, "--json").stdout)["findings"]
    told = {one["id"] for one in found if one["level"] == "error"}
    assert "host.project" in told
    assert "mission.tasks" not in told


def test_a_banned_flag_is_found_by_us_and_refused_by_the_host(project: Project) -> None:
    file = project.configure(SPAWN + YOLO)
    project.answer("start-review", refusal("POLICY_VALIDATION_FAILED", REFUSED), 1)
    found = wrong(project)
    assert set(found) == {"agent.extra_args", "host.policy"}
    assert found["host.policy"].text.endswith(f"POLICY_VALIDATION_FAILED: {REFUSED}")
    assert str(file) in found["host.policy"].fix
    (asked, *_) = project.calls("start-review")
    assert '"dangerous_flags": ["--yolo"]' in asked


@pytest.mark.parametrize(
    ("settings", "answers", "told"),
    [
        ('[host]\nexecutable = "/missing"\n', None, {"host"}),
        (SPAWN, "out of order", {"host.policy"}),
        # The host accepts what only we refuse.
        (SPAWN, None, set[str]()),
    ],
)
def test_our_own_rules_judge_a_policy_that_the_host_does_not_refuse(
    project: Project, settings: str, answers: str | None, told: set[str]
) -> None:
    project.configure(settings + YOLO)
    if answers:
        project.answer("start-review", "", 1, answers)
    assert set(wrong(project)) == {"agent.extra_args", "agent.policy"} | told


def test_a_policy_is_sent_with_a_change_of_a_mission_that_is_not_there(project: Project) -> None:
    examine(project)
    (asked,) = {line.split(" --policy ")[0] for line in project.calls("start-review")}
    assert f"--mission {SLUG}" not in asked
    assert "--mission no-such-mission-policy-check" in asked


def test_a_review_that_is_not_independent_fails_a_run_that_demands_it(project: Project) -> None:
    for settings, level in ("", "warning"), ("[run]\nrequire_independent_review = true\n", "error"):
        project.configure(SPAWN + settings)
        (found,) = [one for one in examine(project) if one.id == "review.independent"]
        assert found.level == level


def test_a_host_that_cannot_be_served_warm_is_warned_of(project: Project) -> None:
    project.configure("")
    assert "host.warm" in wrong(project)


# The mission


CHAIN = {"WP03": ["WP02"], "WP04": ["WP03"], "WP05": ["WP01"]}
LOOP = {"WP01": ["WP02", "WP03"], "WP02": ["WP01"]}


@pytest.mark.parametrize(
    ("lanes", "needs", "stuck", "fix", "errors"),
    [
        ("done blocked planned planned planned", CHAIN, "WP02 WP03 WP04", f"{OURS} retry WP02", ""),
        ("planned blocked planned", {"WP03": ["WP01", "WP02"]}, "WP02 WP03", f"{OURS} retry WP02", ""),
        ("planned planned blocked", LOOP, "WP01 WP02 WP03", f"{OURS} retry WP03", "cycle stalled"),
    ],
)
def test_stuck_work_packages_are_named_with_the_command_that_frees_what_they_wait_for(
    project: Project, lanes: str, needs: dict[str, list[str]], stuck: str, fix: str, errors: str
) -> None:
    by_id = {f"WP{number:02}": lane for number, lane in enumerate(lanes.split(), start=1)}
    project.lanes(by_id, needs)
    found = {one.about: one for one in examine(project) if one.id == "mission.stuck"}
    assert set(found) == set(stuck.split())
    assert {one.fix for one in found.values()} == {f"{fix} {AT_MISSION}"}
    for wp, one in found.items():
        why = "cannot start: it needs " if by_id[wp] == "planned" else f"is {by_id[wp]}: left alone"
        assert one.text.startswith(f"{wp} {why}")
    failing = {one for one, told in wrong(project).items() if told.level == "error"}
    assert failing == {f"mission.{one}" for one in errors.split()}


def ready(*wps: str) -> str:
    return success({"ready_work_packages": [{"wp_id": one, "lane": "planned"} for one in wps]})


MAY = {"WP02": ["WP01"], "WP03": ["WP01", "WP02"]}


@pytest.mark.parametrize(
    ("lanes", "said", "told"),
    [
        ("canceled planned planned", ["WP02"], {}),
        ("canceled planned planned", [], {"WP02": "cannot start: it needs WP01, canceled without"}),
        ("canceled approved planned", [], {"WP03": "cannot start: it needs WP01, canceled without"}),
        ("canceled in_progress planned", [], {"WP03": "may not start: it needs WP01, canceled"}),
    ],
)
def test_whether_a_canceled_dependency_keeps_a_work_package_is_the_hosts_word(
    project: Project, lanes: str, said: list[str], told: dict[str, str]
) -> None:
    project.lanes(dict(zip(("WP01", "WP02", "WP03"), lanes.split(), strict=True)), MAY)
    project.answer("list-ready", ready(*said))
    found = {one.about: one for one in examine(project) if one.id == "mission.stuck"}
    assert found.keys() - {"WP03"} == told.keys() - {"WP03"}
    reason = "--force --note 'nobody needs it any more'"
    for wp, words in told.items():
        assert found[wp].text.startswith(f"{wp} {words}")
        assert found[wp].fix == f"spec-kitty agent tasks move-task WP01 {AT_MISSION} --to canceled {reason}"
    if "WP03" in found and "WP02" in found:
        assert found["WP03"].text.startswith("WP03 may not start: it needs WP01, WP02")
    assert told or "mission.open" in {one.id for one in examine(project)}


def test_who_waits_for_one_that_waits_for_a_canceled_one_is_told_so(project: Project) -> None:
    lanes = {"WP01": "canceled", "WP02": "planned", "WP03": "planned"}
    project.lanes(lanes, {"WP02": ["WP01"], "WP03": ["WP02"]})
    project.answer("list-ready", ready())
    found = {one.about: one for one in examine(project) if one.id == "mission.stuck"}
    assert found["WP03"].text == "WP03 cannot start: it needs WP02"
    assert found["WP03"].fix == found["WP02"].fix


def moved(project: Project, *moves: tuple[str, str, object]) -> None:
    """Write the host's event log: who moved which work package where."""
    events = [
        {"wp_id": wp, "to_lane": lane, "actor": by, "at": f"2026-05-01T12:00:{at:02}", "event_id": f"E{at}"}
        for at, (wp, lane, by) in enumerate(moves)
    ]
    log = project.root / "kitty-specs" / SLUG / "status.events.jsonl"
    # Torn lines and events of other kinds are passed over; the order is that of the times.
    log.write_text("".join(f"{json.dumps(one)}\n" for one in (*reversed(events), {"kind": "note"})) + "{")
    project.git("add", "-A")
    project.git("commit", "-qm", "moved")


BACK = f"spec-kitty orchestrator-api transition {AT_MISSION} --wp"
PLANNED = "--to planned --force --note 'to be begun again' --actor spec-kitty-orchestrator"
AGAIN = f"{AT_MISSION} --to for_review --force --note 'to be reviewed again'"


@pytest.mark.parametrize(
    ("lanes", "moves", "told"),
    [
        (
            "in_progress planned",
            [("WP01", "claimed", "eve"), ("WP01", "in_progress", "bob")],
            {"WP01": ("left alone: bob holds it", f"{OURS} orchestrate {AT_MISSION} --actor bob")},
        ),
        (
            "claimed planned",
            [("WP01", "claimed", "migration:backfill")],
            {
                "WP01": (
                    "migration:backfill holds",
                    f"{OURS} orchestrate {AT_MISSION} --actor migration:backfill",
                )
            },
        ),
        (
            "in_progress claimed",
            [("WP01", "in_progress", {"tool": "bob", "role": "x"}), ("WP02", "claimed", OURS)],
            {"WP01": ("bob holds it", f"{BACK} WP01 {PLANNED}")},
        ),
        (
            "in_progress planned",
            [("WP01", "in_progress", "b\x1b[31m\nob")],
            {"WP01": ("left alone: b ob holds it", f"{BACK} WP01 {PLANNED}")},
        ),
        (
            "in_review planned",
            [("WP01", "in_review", "eve")],
            {"WP01": ("eve began the review", f"spec-kitty agent tasks move-task WP01 {AGAIN}")},
        ),
        (
            "in_progress claimed",
            [("WP01", "in_progress", OURS), ("WP02", "claimed", "implement-command")],
            {},
        ),
        ("in_progress planned", [("WP01", "claimed", "eve")], {}),
    ],
    ids=["one holder", "a migration", "two holders", "a strange name", "a review", "nobody", "an old log"],
)
def test_what_others_hold_is_told_before_a_run_with_what_takes_it_up(
    project: Project,
    lanes: str,
    moves: list[tuple[str, str, object]],
    told: dict[str, tuple[str, str]],
) -> None:
    project.lanes(dict(zip(("WP01", "WP02"), lanes.split(), strict=True)), {})
    moved(project, *moves)
    found = {one.about: one for one in examine(project) if one.id == "mission.stuck"}
    assert found.keys() == told.keys()
    shown = project.orchestrate("--dry-run").stdout
    for wp, (words, fix) in told.items():
        assert words in found[wp].text
        assert found[wp].fix == fix
        assert words in shown


def test_work_under_review_that_is_gone_is_told_with_what_brings_it_back(project: Project) -> None:
    project.lanes({"WP01": "for_review", "WP02": "planned"}, {"WP02": ["WP01"]})
    found = {one.about: one for one in examine(project) if one.id == "mission.stuck"}
    assert "its work is gone" in found["WP01"].text
    assert {one.fix for one in found.values()} == {f"{BACK} WP01 {PLANNED}"}
    project.git("update-ref", "refs/remotes/origin/b-WP01", "HEAD")
    (found_one, *_) = [one for one in examine(project) if one.id == "mission.stuck"]
    subprocess.run(["/bin/sh", "-c", found_one.fix], check=True, env=project.env)
    assert "mission.stuck" not in wrong(project)


def test_who_shares_a_worktree_with_what_others_hold_cannot_start(project: Project) -> None:
    host = project.bin / "spec-kitty"
    host.write_text(host.read_text().replace("lane-%s", "lane-a%.0s"))
    project.lanes({"WP01": "in_progress", "WP02": "planned"}, {})
    moved(project, ("WP01", "in_progress", "bob"))
    found = wrong(project)
    assert "mission.stalled" in found
    assert found["mission.stuck"].text == "WP02 cannot start: WP01 has its worktree"


def test_a_mission_with_nothing_left_to_do_is_in_order(project: Project) -> None:
    project.lanes({"WP01": "done", "WP02": "approved"})
    assert wrong(project) == {}


def test_a_run_that_is_active_fails_another_and_what_is_uncommitted_meanwhile_is_its_own(
    project: Project,
) -> None:
    written(TASK)(project)
    with MissionLock(records(project), SLUG):
        found = only(wrong(project), "lock", "error")
    assert f"process {os.getpid()} on " in found.text
    assert found.fix == f"spec-kitty-orchestrator abort --mission {SLUG}"


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


# Git and the machine


def test_git_without_an_identity_fails_a_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        for part in ("NAME", "EMAIL"):
            monkeypatch.delenv(f"GIT_{role}_{part}")
    project.git("config", "user.useConfigOnly", "true")
    found = only(wrong(project), "git.identity", "error")
    assert f"git -C {shlex.quote(str(project.root))} config user.name 'Your Name' && " in found.fix


@pytest.fixture
def worktree(project: Project) -> Path:
    """The worktree of a work package that is in progress."""
    project.lanes({"WP01": "in_progress"})
    project.git("worktree", "add", "-q", "-b", "b-WP01", "w/WP01")
    (project.root / ".git" / "info" / "exclude").write_text("/w/\n/.worktrees/\n")
    made: Path = project.root / "w" / "WP01"
    return made


@pytest.mark.parametrize("lane", ["planned", "in_progress"])
def test_uncommitted_work_in_a_worktree_keeps_the_host_from_starting_there(
    project: Project, worktree: Path, lane: str
) -> None:
    project.lanes({"WP01": lane})
    assert wrong(project) == {}
    (worktree / "left.txt").touch()
    found = only(wrong(project), "worktree.clean", "error")
    assert (found.about, "left.txt" in found.text) == ("WP01", True)
    subprocess.run(found.fix, shell=True, check=True, capture_output=True)
    assert wrong(project) == {}


def test_uncommitted_work_of_an_interrupted_run_goes_on_and_is_only_warned_of(
    project: Project, worktree: Path
) -> None:
    (worktree / "half.txt").touch()
    place = {"path": "w", "prompt_path": "p", "lane_id": "a", "branch": "b-WP01", "base_ref": "c"}
    scheduled = {"kind": "scheduled", "lane": "planned", "workspace": place}
    claimed = {"kind": "claimed", "workspace": place, "head": "0" * 40}
    lines = [{"line": "event", "at": AT, "wp_id": "WP01", "event": one} for one in (scheduled, claimed)]
    records(project, [start_line(), *lines])
    found = wrong(project)
    assert set(found) == {"run.earlier", "worktree.clean"}
    assert found["worktree.clean"].level == "warning"


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
    project.configure('[run]\nexecutor = "local:2"\n' + SPAWN + gates)
    assert not [one for one in examine(project) if one.id == "gate.program"], "workers need them"


def test_agents_of_other_machines_are_not_looked_for_here(project: Project) -> None:
    project.configure(SPAWN)
    assert "agent.installed" in wrong(project, agents="codex")
    project.configure(ELSEWHERE)
    assert "agent.installed" not in wrong(project, agents="codex")
    project.configure(f'{SPAWN}[run]\nexecutor = "local:2"\n')
    assert "agent.installed" in wrong(project, agents="codex"), "its workers are on this machine"


def test_agents_of_other_machines_need_no_memory_here(project: Project) -> None:
    project.configure(f'{ELSEWHERE}min_free_memory = "4000TB"\n')
    assert "machine.memory" not in wrong(project)


def test_no_secret_is_shown(project: Project) -> None:
    project.env["OPENAI_API_KEY"] = "sk-verysecret0123456789"
    project.answer("contract-version", "", 1, "bad key sk-verysecret0123456789")
    for args in ((), ("--json",)):
        shown = project.run("doctor", *args).stdout
        assert "bad key" in shown
        assert "verysecret" not in shown


@pytest.mark.parametrize("option", [(), ("--dry-run",)], ids=["a run", "a dry run"])
@pytest.mark.parametrize(
    ("spoil", "identity", "code"),
    [
        (answered("append-history", "", 4, OLDER), "host.project", 3),
        (protected_branch, "mission.target", 5),
        (no_base_of_lanes, "mission.target", 5),
        (no_planning_commit, "git.clone", 5),
        (merge_under_way, "git.operation", 5),
        (configured(ELSEWHERE), "cluster", 5),
        (configured(f'{ELSEWHERE}[agents.scripted]\nexecutable = "bin/a"\n'), "cluster.executable", 5),
    ],
)
def test_a_start_stops_at_what_doctor_finds_with_the_same_words_and_changes_nothing(
    project: Project, spoil: Spoil, identity: str, code: int, option: tuple[str, ...]
) -> None:
    if identity.startswith("cluster"):
        pytest.importorskip("distributed")
    spoil(project)
    found = wrong(project)[identity]
    done = project.orchestrate(*option)
    assert done.returncode == code
    text = " ".join(done.stderr.split())
    assert f"error: {' '.join(found.text.split())}" in text
    assert found.fix in text
    assert not project.calls("start-implementation")
