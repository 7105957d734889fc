import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
from tests.machine.attempts import HOLD, Children

from spec_kitty_orchestrator.core.model import Before, Evidence, Workspace
from spec_kitty_orchestrator.machine import process
from spec_kitty_orchestrator.machine.commit_rules import TRACES, CommitRules
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.machine.workspaces import GitWorkspaces
from spec_kitty_orchestrator.ports import CommitRefusal

BRANCH = "kitty/m-lane-a"


def git(path: Path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=path, check=True, capture_output=True, timeout=30)
    return os.fsdecode(done.stdout).removesuffix("\n")


def git_fails(path: Path, *args: str) -> None:
    """Run git where it must fail, for example with a conflict."""
    done = subprocess.run(["git", *args], cwd=path, check=False, capture_output=True, timeout=30)
    assert done.returncode != 0


class Lane:
    """A repository with the worktree of one lane."""

    def __init__(self, root: Path) -> None:
        self.root = root / "repo"
        self.root.mkdir()
        git(self.root, "init", "-q", "-b", "main")
        git(self.root, "config", "user.name", "A Person")
        git(self.root, "config", "user.email", "person@example.org")
        (self.root / "a.py").write_text("a = 1\n")
        (self.root / "b.py").write_text("b = 1\n")
        (self.root / "kitty-specs").mkdir()
        (self.root / "kitty-specs" / "tasks.md").write_text("- [ ] T001\n")
        (self.root / ".gitignore").write_text("*.log\n")
        git(self.root, "add", "-A")
        git(self.root, "commit", "-q", "-m", "start")
        self.path = root / "lane"
        git(self.root, "worktree", "add", "-q", "-b", BRANCH, str(self.path))
        self.base = git(self.path, "rev-parse", "HEAD")
        self.before: Before | None = None
        self.workspace = Workspace(str(self.path), "", "lane-a", BRANCH, "main")
        self.git = self.with_rules()

    def with_rules(self, secrets: tuple[str, ...] = (), **rules: Any) -> GitWorkspaces:
        redactor = Redactor(secrets)
        return GitWorkspaces(self.root, "m", CommitRules(TRACES | {".mybot"}, redactor=redactor, **rules))

    def write(self, name: str | bytes, text: str = "new\n") -> None:
        path = self.path / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def hook(self, name: str, script: str) -> None:
        path = self.root / ".git" / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def files(self, revision: str = "HEAD") -> set[str]:
        listed = git(self.path, "ls-tree", "-r", "-z", "--name-only", revision)
        return {name for name in listed.split("\0") if name}

    async def commit(self, message: str = "WP01: work", empty_reason: str = "") -> Evidence | CommitRefusal:
        with anyio.fail_after(60):
            return await self.git.commit(
                "WP01", self.workspace, self.base, message, empty_reason, self.before
            )

    async def committed(self, message: str = "WP01: work", empty_reason: str = "") -> Evidence:
        evidence = await self.commit(message, empty_reason)
        assert isinstance(evidence, Evidence), evidence
        return evidence

    async def refused(self) -> str:
        refusal = await self.commit()
        assert isinstance(refusal, CommitRefusal), refusal
        return refusal.message


@pytest.fixture
def lane(tmp_path: Path) -> Lane:
    return Lane(tmp_path)


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[Children]:
    children = Children()
    monkeypatch.setenv("PORT", children.port)
    monkeypatch.setenv("HELD", HOLD)
    yield children
    children.close()


@pytest.fixture
def attempt_id() -> Iterator[str]:
    """The id of the test's attempt; whatever carries it when the test ends is a leak."""
    attempt_id = uuid4().hex
    yield attempt_id
    leaked = process.find_marked(attempt_id)
    for one in leaked:
        os.kill(one.pid, signal.SIGKILL)
    assert leaked == []
