"""No program that a clone's own files name is started before a person trusts it, outside of the clone."""

import json
import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cli.conftest import Project, project, warm_command
from tests.cli.journals import start_line, write_journal
from tests.machine.conftest import git

from spec_kitty_orchestrator.app.trust import named_programs, revoke, trust, trust_too
from spec_kitty_orchestrator.errors import ConfigError, HostMissing, PreflightError
from spec_kitty_orchestrator.host.locate import call_env, find_host
from spec_kitty_orchestrator.machine import sandbox
from spec_kitty_orchestrator.machine.agent_commands import ConfiguredAgents
from spec_kitty_orchestrator.machine.git import Git

__all__ = ["project", "warm_command"]

HARMLESS = (
    '[run]\nimpl_agents = ["codex"]\nconfine = "require"\n[agents.codex]\nmodel = "m"\nmax_concurrent = 1\n'
)
PROGRAMS = {
    "an agent": '[agents.bot]\nfamily = "x"\ncommand = ["./bot"]\n',
    "an executable": '[agents.codex]\nexecutable = "./codex"\n',
    "words of an agent": '[agents.codex]\nextra_args = ["-c", "x"]\n',
    "variables of an agent": '[agents.codex]\nenv = {NODE_OPTIONS = "--require ./x.js"}\n',
    "a setup": '[run]\nsetup = ["make evil"]\n',
    "our variables": '[run]\npass_env = ["AWS_*"]\n',
    "a scenario": '[agents.scripted]\nscenario = "x.toml"\n',
    "a gate": '[[gates]]\nname = "g"\ncommand = "./gate"\n',
    "the host": '[host]\nexecutable = "./host"\n',
    "less confinement": '[run]\nconfine = "off"\n',
    "more to write": '[confine]\nwritable = ["~"]\n',
}


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("SKO_TRUST_SETTINGS")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    root = tmp_path / "clone"
    (root / ".kittify").mkdir(parents=True)
    return root


def write(root: Path, settings: str) -> None:
    (root / ".kittify").mkdir(exist_ok=True)
    (root / ".kittify" / "orchestrator.toml").write_text(settings)


@pytest.mark.parametrize("settings", ["", HARMLESS])
def test_settings_that_name_no_programs_need_no_trust(clone: Path, settings: str) -> None:
    write(clone, settings)
    assert named_programs(clone).trusted


@pytest.mark.parametrize("settings", PROGRAMS.values(), ids=PROGRAMS)
def test_what_settings_name_runs_only_while_it_is_trusted(clone: Path, settings: str) -> None:
    write(clone, settings)
    with pytest.raises(PreflightError, match="spec-kitty-orchestrator trust"):
        named_programs(clone).demand()

    trust(named_programs(clone))
    named_programs(clone).demand()
    write(clone, HARMLESS + "# and a remark" if "[agents.codex]" in settings else settings + "# a remark")
    assert named_programs(clone).trusted
    write(clone, settings + '[agents.other]\ncommand = ["evil"]\n')
    assert not named_programs(clone).trusted

    write(clone, settings)
    revoke(clone)
    assert not named_programs(clone).trusted


def test_trust_is_for_one_repository_and_private(clone: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / ".kittify").mkdir(parents=True)
    for root in (clone, other):
        write(root, PROGRAMS["a gate"])
    trust(named_programs(clone))
    assert not named_programs(other).trusted
    store = tmp_path / "config" / "spec-kitty-orchestrator" / "trusted.json"
    assert stat.S_IMODE(store.stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"x": 1}'])
def test_a_damaged_record_trusts_nothing(clone: Path, tmp_path: Path, damage: str) -> None:
    write(clone, PROGRAMS["a gate"])
    trust(named_programs(clone))
    (tmp_path / "config" / "spec-kitty-orchestrator" / "trusted.json").write_text(damage)
    assert not named_programs(clone).trusted


def test_a_record_inside_the_clone_counts_for_nothing(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(clone / "config"))
    write(clone, PROGRAMS["a gate"])
    with pytest.raises(PreflightError, match="outside"):
        trust(named_programs(clone))
    assert not named_programs(clone).trusted


def test_without_a_home_nothing_is_trusted_and_the_way_out_is_named(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    write(clone, PROGRAMS["a gate"])
    with pytest.raises(PreflightError, match="SKO_TRUST_SETTINGS=1"):
        named_programs(clone).demand()
    with pytest.raises(PreflightError, match="XDG_CONFIG_HOME"):
        trust(named_programs(clone))


def test_settings_that_are_a_link_to_a_device_are_refused(clone: Path) -> None:
    (clone / ".kittify" / "orchestrator.toml").symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="no ordinary file"):
        named_programs(clone)


@pytest.mark.parametrize("program", ["claude", "git", "git-lfs", "gpg", "bwrap"])
def test_a_program_that_path_finds_in_the_repository_needs_trust(
    clone: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    inside = clone / "node_modules" / ".bin"
    inside.mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{inside}:/usr/bin")
    assert named_programs(clone).trusted
    (inside / program).write_text("")
    assert not named_programs(clone).trusted


@pytest.mark.parametrize("folder", ["", ".", "./node_modules/.bin", "node_modules/.bin"])
def test_no_program_of_ours_is_found_in_the_folder_in_which_it_is_started(
    clone: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    ran = clone / "ran"
    inside = clone / folder
    inside.mkdir(parents=True, exist_ok=True)
    for name in ("git", "bwrap", "spec-kitty", "bot"):
        (inside / name).write_text(f"#!/bin/sh\ntouch {ran}\n")
        (inside / name).chmod(0o755)
    monkeypatch.chdir(clone)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    assert Git(clone).ask_now("--version").text.startswith("git version")
    assert sandbox.find() in ("", "/usr/bin/bwrap")
    with pytest.raises(HostMissing):
        find_host(None, os.environ)
    assert call_env(os.environ, "/opt/spec-kitty")["PATH"] == "/opt:/usr/bin:/bin"
    assert ConfiguredAgents(clone, {}, version="1").locate("bot", os.environ) is None
    assert not ran.exists()


@pytest.mark.parametrize("inside", ["", "kitty-specs", ".worktrees/w"])
def test_git_of_the_clone_is_not_even_asked_where_the_clone_is_before_it_is_trusted(
    project: Project, tmp_path: Path, inside: str
) -> None:
    if inside.startswith(".worktrees"):
        project.git("worktree", "add", "-q", inside)
    ran, real = tmp_path / "ran", shutil.which("git")
    programs = project.root / "bin"
    programs.mkdir()
    for name in ("git", "bwrap", "gpg"):
        (programs / name).write_text(f'#!/bin/sh\ntouch {ran}\nexec {real} "$@"\n')
        (programs / name).chmod(0o755)
    project.env |= {
        "SKO_TRUST_SETTINGS": "",
        "SKO_CONFINE": "auto",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    project = replace(project, bin=programs)
    here = ("--repo-root", str(project.root / inside))
    for command in ("orchestrate", "resume", "doctor", "agents", "status", "retry", "skip", "abort"):
        words = ("WP01",) if command in ("retry", "skip") else ()
        project.run(command, *words, *here)
        assert not ran.exists(), command
    assert str(programs / "git") in project.run("trust", "--show", *here).stdout
    project.run("trust", *here)
    assert not ran.exists()

    project.run("trust", "--show", *here)
    assert ran.exists()


@pytest.mark.parametrize("evil", [{"gate": ["make evil"]}, {"confine": "off"}, {"pass_env": ["AWS_*"]}])
def test_what_only_the_journal_of_a_run_knows_needs_trust(clone: Path, evil: dict[str, object]) -> None:
    own = {"gate": ["make test"], "confine": "auto", "pass_env": []}
    trust_too(clone, own)
    assert named_programs(clone, own).trusted
    assert not named_programs(clone, own | evil).trusted
    trust_too(clone, evil)
    assert named_programs(clone, own | evil).trusted


@pytest.mark.parametrize("name", ["orchestrator/m/journal.jsonl", "logs/m/WP01/01-gate-g/command.json"])
def test_records_of_runs_that_came_with_the_clone_need_trust(clone: Path, name: str) -> None:
    git(clone, "init", "-q")
    record = clone / ".kittify" / name
    record.parent.mkdir(parents=True)
    record.write_text("{}\n")
    assert named_programs(clone).trusted

    git(clone, "add", "-f", str(record))
    with pytest.raises(PreflightError, match=name):
        named_programs(clone).demand()

    trust(named_programs(clone))
    assert named_programs(clone).trusted
    record.write_text('{"other": 1}\n')
    git(clone, "add", "-f", str(record))
    assert not named_programs(clone).trusted


@pytest.mark.parametrize(
    "name",
    [".kittify/Orchestrator/m/journal.jsonl", ".kittify/orchestrator/m/journal.JSONL", ".Kittify/logs/m/x"],
)
def test_a_record_of_a_run_is_known_in_any_case(clone: Path, name: str) -> None:
    git(clone, "init", "-q")
    (clone / ".kittify" / "logs").mkdir()
    (clone / name).parent.mkdir(parents=True)
    (clone / name).write_text("{}\n")
    git(clone, "add", "-f", name)
    assert not named_programs(clone).trusted


def test_an_abort_goes_by_no_record_that_came_with_the_clone_and_minds_no_other_setting(
    project: Project, tmp_path: Path
) -> None:
    project.env |= {"SKO_TRUST_SETTINGS": "", "XDG_CONFIG_HOME": str(tmp_path / "config")}
    write(project.root, PROGRAMS["a gate"])
    journal = write_journal(project, start_line())
    assert project.run("abort").returncode == 0

    kept = journal.read_text()
    project.git("add", "-f", str(journal))
    done = project.run("abort", "--mission", "demo-01ABC", "--cleanup-worktrees", "--force")
    assert done.returncode == 5
    assert "spec-kitty-orchestrator trust" in done.stderr
    assert journal.read_text() == kept


@pytest.mark.parametrize("place", [".kittify/logs", ".kittify/orchestrator", ".kittify/orchestrator/m"])
def test_a_link_that_came_with_the_clone_in_the_place_of_our_records_needs_trust(
    clone: Path, tmp_path: Path, place: str
) -> None:
    git(clone, "init", "-q")
    write(clone, HARMLESS)
    (clone / ".kittify" / "orchestrator" / "prompts").mkdir(parents=True)
    (clone / ".kittify" / "orchestrator" / "prompts" / "review.md").write_text("x")
    git(clone, "add", "-A")
    assert named_programs(clone).trusted

    if place == ".kittify/orchestrator":
        shutil.rmtree(clone / place)
    (clone / place).symlink_to(tmp_path)
    git(clone, "add", "-A")
    assert not named_programs(clone).trusted


def test_no_command_starts_what_is_not_trusted(project: Project, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    evil = project.root / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {ran}\n")
    evil.chmod(0o755)
    write(
        project.root,
        f'[host]\nexecutable = "./evil"\n[agents.scripted]\nexecutable = "{evil}"\n'
        f'[[gates]]\nname = "g"\ncommand = "{evil}"\n',
    )
    project.env |= {"SKO_TRUST_SETTINGS": "", "XDG_CONFIG_HOME": str(tmp_path / "config")}
    for command in ("orchestrate", "doctor", "agents", "status"):
        words = ("--mission", "demo-01ABC") if command in ("orchestrate", "status") else ()
        done = project.run(command, *words)
        assert done.returncode == 5, command
        assert "spec-kitty-orchestrator trust" in done.stdout + done.stderr
    assert not ran.exists()

    assert "./evil" in project.run("trust", "--show").stdout
    assert project.run("trust").returncode == 0
    project.run("status", "--mission", "demo-01ABC")
    assert ran.exists()
    assert json.loads((tmp_path / "config" / "spec-kitty-orchestrator" / "trusted.json").read_text())
    assert project.run("trust", "--revoke").returncode == 0
    assert project.run("orchestrate", "--mission", "demo-01ABC").returncode == 5
