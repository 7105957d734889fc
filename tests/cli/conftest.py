"""A repository with one mission, a host that says what a test wants, and the command as a user runs it."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.cli.warm_command import WarmCommand

SLUG = "demo-01ABC"

_HOST = """#!/bin/sh
echo "$*" >>"$0.d/calls"
case "$1 $2" in
"orchestrator-api resolve-workspace")
  for last; do :; done
  printf '{"success": true, "data": {"workspace_path": "%s/w/%s", "prompt_path": "p", "lane_id": "lane-%s", \
"lane_branch": "b-%s", "lane_base_ref": "feature/demo"}}\\n' "$PWD" "$last" "$last" "$last" ;;
"agent mission")
  cat "$0.d/$3" 2>/dev/null
  exit "$(cat "$0.d/$3.rc" 2>/dev/null || echo 0)" ;;
"orchestrator-api "*)
  cat "$0.d/$2.err" >&2 2>/dev/null
  cat "$0.d/$2" 2>/dev/null
  exit "$(cat "$0.d/$2.rc" 2>/dev/null || echo 0)" ;;
esac
"""


@dataclass
class Project:
    """A user's repository and PATH."""

    root: Path
    bin: Path
    command: WarmCommand
    env: dict[str, str] = field(default_factory=dict)

    def run(self, *args: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """Run the command; it must never show a traceback."""
        env = {**self.env, "PATH": f"{self.bin}:/usr/bin:/bin", "COLUMNS": "200"}
        done = self.command.run(args, cwd or self.root, env)
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def orchestrate(self, *args: str, agents: str = "scripted") -> "subprocess.CompletedProcess[str]":
        """Run `orchestrate` on the mission with one agent for both roles."""
        chosen = ("--impl-agent", agents, "--review-agent", agents) if agents else ()
        return self.run("orchestrate", "--mission", SLUG, *chosen, *args)

    def answer(self, call: str, stdout: str, rc: int = 0, stderr: str = "") -> None:
        """Decide what the host answers to a call."""
        folder = self.bin / "spec-kitty.d"
        (folder / call).write_text(stdout)
        (folder / f"{call}.rc").write_text(str(rc))
        (folder / f"{call}.err").write_text(stderr)

    def calls(self, command: str) -> list[str]:
        """Return the arguments of every call of one of the contract's commands."""
        lines = (self.bin / "spec-kitty.d" / "calls").read_text().splitlines()
        return [line for line in lines if line.split()[1:2] == [command]]

    def lanes(self, lanes: Mapping[str, str], dependencies: Mapping[str, list[str]] | None = None) -> None:
        """Decide what `mission-state` shows."""
        wps = [
            {"wp_id": wp, "lane": lane, "dependencies": (dependencies or {}).get(wp, [])}
            for wp, lane in lanes.items()
        ]
        self.answer("mission-state", envelope({"mission_slug": SLUG, "work_packages": wps}))

    def configure(self, text: str) -> Path:
        """Write the configuration file and return it."""
        file = self.root / ".kittify" / "orchestrator.toml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return file

    def git(self, *args: str) -> str:
        """Run git in the repository."""
        done = subprocess.run(
            ["git", *args], cwd=self.root, env=self.env, capture_output=True, text=True, check=True
        )
        return done.stdout


def envelope(data: Mapping[str, object], code: str | None = None) -> str:
    """Write an envelope as the host does."""
    return json.dumps({"success": code is None, "error_code": code, "data": data}) + "\n"


def kept() -> dict[str, str]:
    """Return what a user's environment has of ours."""
    names = ("HOME", "LANG", "PATH", "PYTHONPATH", "TMPDIR")
    return {name: os.environ[name] for name in names if name in os.environ}


@pytest.fixture(scope="session")
def warm_command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmCommand]:
    """The command, imported once for all tests."""
    made = WarmCommand(tmp_path_factory.mktemp("command"), kept())
    yield made
    made.close()


@pytest.fixture
def project(tmp_path: Path, warm_command: WarmCommand) -> Project:
    """A repository on feature/demo with a mission of a diamond of four, all planned."""
    root, programs = tmp_path / "project", tmp_path / "bin"
    mission = root / "kitty-specs" / SLUG
    (mission / "tasks").mkdir(parents=True)
    (mission / "meta.json").write_text(
        json.dumps({"mission_slug": SLUG, "target_branch": "feature/demo", "topology": "lanes"})
    )
    (mission / "lanes.json").write_text("{}")
    (mission / "tasks" / "WP01-a.md").write_text("# WP01\n")
    (programs / "spec-kitty.d").mkdir(parents=True)
    (programs / "spec-kitty").write_text(_HOST)
    (programs / "spec-kitty").chmod(0o755)
    who = {
        f"GIT_{role}_{part}": "t@example.test"
        for role in ("AUTHOR", "COMMITTER")
        for part in ("NAME", "EMAIL")
    }
    env = {**kept(), **who, "GIT_CONFIG_GLOBAL": "/dev/null", "SKO_CONFINE": "off", "SKO_TRUST_SETTINGS": "1"}
    made = Project(root, programs, warm_command, env)
    made.git("init", "-q", "-b", "feature/demo")
    (root / ".git" / "info" / "exclude").write_text("/.worktrees/\n")
    made.git("add", "-A")
    made.git("commit", "-qm", "plan")
    made.answer(
        "contract-version", envelope({"api_version": "1.5.0", "min_supported_provider_version": "0.1.0"})
    )
    made.lanes(
        dict.fromkeys(("WP01", "WP02", "WP03", "WP04"), "planned"),
        {"WP02": ["WP01"], "WP03": ["WP01"], "WP04": ["WP02", "WP03"]},
    )
    return made
