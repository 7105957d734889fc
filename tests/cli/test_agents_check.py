"""`agents check`: what the author of an agent is told."""

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import subprocess

BOT = Path(__file__).parents[1] / "own_bot.py"
Project = Any  # the class lives in conftest, which tests cannot import


@pytest.fixture
def bot(project: Project, tmp_path: Path) -> Project:
    """A project with an agent of its own, whose program is found below the repository."""
    program = project.root / "tools" / "bot"
    program.parent.mkdir()
    shutil.copy(BOT, program)
    program.write_text(f"#!{sys.executable}\n{BOT.read_text()}")
    program.chmod(0o755)
    configure(project)
    project.env["TMPDIR"] = str(tmp_path)
    return project


def configure(project: Project, *, words: str = "", more: str = "") -> None:
    project.configure(f"""
[agents.my-bot]
command = ["tools/bot"{words}]
prompt = "file"
output = "jsonl:type=result:result"
ok = "type=result,is_error=false"
review_args = ["--read-only"]
resume_args = ["--resume", "{{session}}"]
session = "id"
cost = "usd"
{more}
""")


def checks(done: "subprocess.CompletedProcess[str]") -> dict[str, bool]:
    return {one["name"]: one["ok"] for one in json.loads(done.stdout)["checks"]}


def failed(done: "subprocess.CompletedProcess[str]") -> list[str]:
    return [name for name, ok in checks(done).items() if not ok]


def test_an_agent_of_ones_own_is_looked_at_without_running_it(bot: Project) -> None:
    done = bot.run("agents", "check", "my-bot")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("ok      ")] == [
        "It was not run; --run tries it on a harmless task, which can cost money"
    ]
    assert any(line.startswith("ok      command.review: tools/bot --read-only /") for line in lines)
    assert any(line.startswith("ok      session: tools/bot --resume session-1 /") for line in lines)
    assert not (bot.root / "tools" / "memory.json").exists()


def test_one_that_works_passes_its_trial_and_leaves_nothing(bot: Project, tmp_path: Path) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    done = bot.run("agents", "check", "my-bot", "--run", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert failed(done) == []
    assert {name for name in checks(done) if name.startswith("run.")} == {
        *("run.implement", "run.file", "run.answer.implement", "run.prompt.implement", "run.session"),
        *("run.review", "run.unchanged", "run.verdict", "run.answer.review", "run.prompt.review"),
    }
    assert {path.name for path in tmp_path.iterdir()} == before
    assert bot.git("status", "--porcelain").splitlines() == ["?? .kittify/", "?? tools/"]


def test_a_trial_touches_no_repository_but_its_own_whatever_an_outer_git_has_set(bot: Project) -> None:
    def seen() -> list[str]:
        asked = (("for-each-ref",), ("config", "--local", "--list"), ("worktree", "list"))
        return [bot.git(*words) for words in asked]

    hooks = bot.root / "hooks"
    hooks.mkdir()
    (hooks / "pre-commit").write_text("#!/bin/sh\nexit 1\n")
    (hooks / "pre-commit").chmod(0o755)
    settings = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.hooksPath",
        "GIT_CONFIG_VALUE_0": str(hooks),
    }
    before = seen()
    bot.env |= settings | {"GIT_DIR": str(bot.root / ".git"), "GIT_WORK_TREE": str(bot.root)}
    done = bot.run("agents", "check", "my-bot", "--run", "--json")
    for name in (*settings, "GIT_DIR", "GIT_WORK_TREE"):
        del bot.env[name]
    assert seen() == before
    assert (done.returncode, failed(done)) == (0, []), done.stderr


def test_neither_a_hook_nor_a_signature_of_the_users_is_asked_for_in_a_trial(
    bot: Project, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / "hooks").mkdir(parents=True)
    (home / "hooks" / "pre-commit").write_text("#!/bin/sh\nexit 1\n")
    (home / "hooks" / "pre-commit").chmod(0o755)
    wanted = f"[core]\nhooksPath = {home / 'hooks'}\n[commit]\ngpgsign = true\n[gpg]\nprogram = false\n"
    (home / ".gitconfig").write_text(wanted)
    bot.env = {name: value for name, value in bot.env.items() if not name.startswith("GIT_CONFIG")}
    bot.env["HOME"] = str(home)
    done = bot.run("agents", "check", "my-bot", "--run", "--json")
    assert (done.returncode, failed(done)) == (0, []), done.stderr


def test_a_git_that_fails_is_a_failed_check(bot: Project) -> None:
    git = bot.bin / "git"
    git.write_text(
        '#!/bin/sh\ncase "$*" in *" init "*) echo no room >&2; exit 7;; *) exec /usr/bin/git "$@";; esac\n'
    )
    git.chmod(0o755)
    done = bot.run("agents", "check", "my-bot", "--run", "--json")
    assert done.returncode == 5, done.stderr
    assert failed(done) == ["run.git"]
    assert ": no room; " in json.loads(done.stdout)["checks"][-1]["text"]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("deaf", ["run.prompt.implement", "run.session", "run.prompt.review"]),
        ("writes", ["run.unchanged"]),
        ("forgets", ["run.session"]),
        ("idle", ["run.file"]),
        ("rambles", ["run.answer.implement", "run.session", "run.verdict"]),
        ("fails", ["run.implement", "run.review"]),
    ],
)
def test_what_is_wrong_with_one_shows_when_it_is_tried(bot: Project, fault: str, expected: list[str]) -> None:
    configure(bot, words=f', "--fault", "{fault}"')
    done = bot.run("agents", "check", "my-bot", "--run", "--json")
    assert done.returncode == 5
    assert failed(done) == expected
    kept = Path(json.loads(done.stdout)["kept"])
    assert list(kept.glob("project/.kittify/logs/trial/WP01/*/result.json"))


def test_one_without_a_role_is_not_tried_in_it(bot: Project) -> None:
    bot.configure(
        '[agents.my-bot]\ncommand = ["tools/bot", "--read-only"]\noutput = "json:result"\n'
        'roles = ["review"]\n'
    )
    done = bot.run("agents", "check", "my-bot", "--run", "--json")
    assert done.returncode == 0, done.stdout
    assert "run.review" in checks(done)
    assert "run.implement" not in checks(done)


@pytest.mark.parametrize(
    ("section", "line"),
    [
        (
            'command = ["no-such-bot"]',
            "failed  program: agent my-bot is not installed: no-such-bot is",
        ),
        ('command = ["true", "--yolo"]', "failed  command.implement: '--yolo' is what the host bans"),
        (
            'command = ["true"]\nenv = { A = "bypassPermissions" }',
            "failed  command.implement: 'bypassPermissions' is what the host bans, or allows the same",
        ),
    ],
)
def test_what_fails_without_running_it_is_told_first(project: Project, section: str, line: str) -> None:
    project.configure(f"[agents.my-bot]\n{section}\n")
    done = project.run("agents", "check", "my-bot", "--run")
    assert done.returncode == 5
    assert line in done.stdout
    assert done.stdout.endswith("It was not run: what failed comes first\n")


def test_the_scripted_agent_cannot_be_tried(project: Project) -> None:
    done = project.run("agents", "check", "scripted", "--run")
    assert done.returncode == 2
    assert "follows its scenario and not what a prompt says" in done.stderr


def test_an_agent_that_nobody_knows_is_a_usage_error(project: Project) -> None:
    done = project.run("agents", "check", "my-bot")
    assert done.returncode == 2
    assert "unknown agent 'my-bot'" in done.stderr


def test_outside_of_a_repository_built_in_agents_can_be_checked(project: Project, tmp_path: Path) -> None:
    assert project.run("agents", "check", "scripted", cwd=tmp_path).returncode == 0
    assert project.run("agents", "check", "scripted", "--repo-root", ".", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("after", [(), ("--json",)])
def test_no_secret_of_the_settings_is_shown(project: Project, after: tuple[str, ...]) -> None:
    project.configure(
        '[agents.my-bot]\ncommand = ["true", "--with", "Zx91-foo-Bar-22abc"]\n'
        'env = { MY_API_KEY = "Zx91-foo-Bar-22abc" }\n'
    )
    done = project.run("agents", "check", "my-bot", *after)
    assert "true --with " in done.stdout
    assert "foo-Bar" not in done.stdout


def test_options_count_before_the_word_check_as_well(project: Project, tmp_path: Path) -> None:
    project.configure('[agents.my-bot]\ncommand = ["true"]\n')
    done = project.run("agents", "--repo-root", str(project.root), "--json", "check", "my-bot", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert checks(done)["command.review"]


def test_a_folder_for_what_is_temporary_may_be_named_as_people_like(project: Project, tmp_path: Path) -> None:
    (tmp_path / "yolo").mkdir()
    project.env["TMPDIR"] = str(tmp_path / "yolo")
    project.configure('[agents.my-bot]\ncommand = ["true", "--dir={workspace}"]\n')
    assert project.run("agents", "check", "my-bot").returncode == 0
