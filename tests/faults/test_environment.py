"""The machine, the repository or the host is not what it was: one clear message each, and nothing is lost."""

import errno
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.cli.journals import SLUG, start_line
from tests.driver.builders import POLICY, PROMPTS

from spec_kitty_orchestrator.core.events import AgentExited, Event, Submitted
from spec_kitty_orchestrator.core.model import Lane, PolicyMetadata, Role, Workspace
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import Entry, Line
from spec_kitty_orchestrator.driver.engine import Orchestrator
from spec_kitty_orchestrator.driver.parts import Parts
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.errors import JournalError
from spec_kitty_orchestrator.machine import journal as journal_module
from spec_kitty_orchestrator.machine.journal import JsonlJournal, SystemClock
from spec_kitty_orchestrator.machine.workspaces import GitWorkspaces
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.fake_host import FakeHost
from spec_kitty_orchestrator.testing.memory_journal import MemoryLock, Watcher
from spec_kitty_orchestrator.testing.scripted_agents import Play, Script, ScriptedAgents, always_succeed

BOUND_S = 60.0
Command = Any  # the class lives in a conftest, which tests cannot import


def git(where: Path, *args: str) -> str:
    who = {
        f"GIT_{one}_{part}": "t@example.test" for one in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")
    }
    env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", **who}
    done = subprocess.run(["git", *args], cwd=where, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


class GitHost(FakeHost):
    """A host that makes a worktree for each lane when it is claimed, as the real one does."""

    async def start_implementation(
        self, mission: str, wp: str, actor: str, policy: PolicyMetadata
    ) -> Workspace:
        found = await super().start_implementation(mission, wp, actor, policy)
        assert found.branch is not None
        if not await anyio.Path(found.path).exists():
            top = Path(self.root)
            known = git(top, "branch", "--list", found.branch)
            target = (
                (found.path, found.branch)
                if known
                else ("-b", found.branch, found.path, found.base_ref or "")
            )
            git(top, "worktree", "add", "-q", *target)
        return found


class Files:
    """Where scripted agents write: the real worktree."""

    def edit(self, workspace: Workspace, path: str) -> None:
        Path(workspace.path, path).write_text(f"{path}\n")


class CutOff(Watcher):
    """An observer that ends the start, as a kill would, once an event was journaled."""

    def __init__(self, at: type[Event]) -> None:
        super().__init__()
        self.at = at
        self.scope = anyio.CancelScope()

    def saw(self, state: RunState, line: Line) -> None:
        super().saw(state, line)
        if isinstance(line, Entry) and isinstance(line.event, self.at):
            self.scope.cancel()


class Scene:
    """One work package in real git, with a real journal; host and agents are stand-ins."""

    def __init__(self, root: Path, script: Script = always_succeed) -> None:
        self.root = root
        root.mkdir()
        git(root, "init", "-q", "-b", "feature")
        (root / "kitty-specs/demo/tasks").mkdir(parents=True)
        (root / "kitty-specs/demo/tasks/WP01.md").write_text("# WP01\n")
        (root / ".gitignore").write_text(".worktrees/\n.kittify/\n")
        for name in ("first", "second"):
            (root / name).write_text(f"{name}\n")
            git(root, "add", "-A")
            git(root, "commit", "-qm", name)
        git(root, "branch", "kitty/mission-demo")
        self.host = GitHost({"WP01": ()}, root=str(root))
        self.agents = ScriptedAgents(Files(), script)  # type: ignore[arg-type]
        self.journal = JsonlJournal(root / ".kittify/orchestrator/demo", root)
        self.worktree = root / ".worktrees/demo-lane-1"
        self.branch = "kitty/mission-demo-lane-1"
        self._ids = iter(range(1, 1000))

    async def start(self, watcher: Watcher | None = None) -> RunResult:
        self.agents.restart()
        parts = Parts(
            "demo",
            "driver",
            POLICY,
            lock=MemoryLock(),
            host=self.host,
            agents=self.agents,
            workspaces=GitWorkspaces(self.root, "demo"),
            journal=self.journal,
            clock=SystemClock(),
            observer=watcher or Watcher(),
            prompts=PROMPTS,
            version="1.0.0",
            new_id=lambda: f"attempt{next(self._ids):06d}",
        )
        with anyio.fail_after(BOUND_S):
            return await Orchestrator(parts).run()

    async def cut_off_at(self, event: type[Event]) -> None:
        watcher = CutOff(event)
        with watcher.scope:
            await self.start(watcher)
        assert watcher.scope.cancelled_caught

    async def seen(self, kind: type[Event]) -> list[Any]:
        lines = await self.journal.read()
        return [one.event for one in lines if isinstance(one, Entry) and isinstance(one.event, kind)]

    def runs(self, role: Role) -> int:
        assert set(self.agents.runs.values()) <= {1}
        return sum(one.role is role for one in self.agents.requests if one.id in self.agents.runs)


def quick(request: AttemptRequest) -> Play:
    return Play(seconds=0)


def lines(scene: Scene) -> list[Any]:
    return [json.loads(line) for line in scene.journal.path.read_bytes().splitlines(keepends=True)]


@pytest.mark.asyncio
async def test_a_full_disk_ends_the_run_at_a_whole_line_and_the_next_start_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = Scene(tmp_path / "clean", quick)
    assert (await clean.start()).exit_code == 0
    total = len(lines(clean))
    whole = journal_module._write_whole
    for k in range(1, total):
        scene = Scene(tmp_path / f"full{k}", quick)
        room = [k]

        def full(descriptor: int, data: bytes, room: list[int] = room) -> None:
            if room[0] == 0:
                os.write(descriptor, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            room[0] -= 1
            whole(descriptor, data)

        monkeypatch.setattr(journal_module, "_write_whole", full)
        with pytest.raises(JournalError, match=r"journal\.jsonl cannot be written: No space left.*resumes"):
            await scene.start()
        assert len(lines(scene)) == k
        room[0] = total
        assert (k, (await scene.start()).exit_code) == (k, 0)
        assert [one.to_lane for one in scene.host.events] == [one.to_lane for one in clean.host.events]
        assert (scene.runs(Role.IMPLEMENT), scene.runs(Role.REVIEW)) == (1, 1)


@pytest.mark.asyncio
async def test_a_worktree_that_was_removed_by_hand_is_made_again_from_its_branch(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "project", quick)
    await scene.cut_off_at(Submitted)
    head = git(scene.worktree, "rev-parse", "HEAD")
    git(scene.root, "worktree", "remove", "--force", str(scene.worktree))
    assert (await scene.start()).exit_code == 0
    assert git(scene.worktree, "rev-parse", "HEAD") == head
    assert (scene.runs(Role.IMPLEMENT), scene.runs(Role.REVIEW)) == (1, 1)
    (approval,) = [one.review for one in scene.host.events if one.to_lane is Lane.DONE]
    assert approval is not None
    assert approval.reference.endswith(f"@{head}")


@pytest.mark.asyncio
async def test_work_that_went_with_its_worktree_before_its_commit_is_told_and_then_done_again(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path / "project", quick)
    await scene.cut_off_at(AgentExited)
    git(scene.root, "worktree", "remove", "--force", str(scene.worktree))
    result = await scene.start()
    assert result.exit_code == 1
    assert f"{scene.worktree} is not a git worktree" in result.reasons["WP01"]
    assert scene.host.lanes["WP01"] is Lane.IN_PROGRESS
    result = await scene.start()
    assert result.exit_code == 0, result.reasons
    assert scene.runs(Role.IMPLEMENT) == 2
    assert git(scene.root, "diff", "--name-only", "kitty/mission-demo", scene.branch) == "WP01-2"


@pytest.mark.asyncio
async def test_a_worktree_that_is_gone_with_its_branch_leaves_the_work_package_to_a_person(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path / "project", quick)
    await scene.cut_off_at(Submitted)
    head = git(scene.worktree, "rev-parse", "HEAD")
    git(scene.root, "worktree", "remove", "--force", str(scene.worktree))
    git(scene.root, "branch", "-D", scene.branch)
    before = len(lines(scene))
    result = await scene.start()
    assert result.exit_code == 1
    assert f"{scene.branch} are both missing; restore the branch" in result.reasons["WP01"]
    assert len(lines(scene)) > before
    git(scene.root, "branch", scene.branch, head)
    assert (await scene.start()).exit_code == 0
    assert (scene.runs(Role.IMPLEMENT), scene.runs(Role.REVIEW)) == (1, 1)


@pytest.mark.asyncio
async def test_a_lane_branch_that_was_rebased_before_the_commit_is_told_to_the_implementer(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path / "project", quick)
    await scene.cut_off_at(AgentExited)
    git(scene.worktree, "reset", "-q", "--soft", "HEAD~1")
    scene.agents.script = mends(scene)
    result = await scene.start()
    assert result.exit_code == 0, result.reasons
    assert scene.runs(Role.IMPLEMENT) == 2
    asked = [one.prompt for one in scene.agents.requests if one.role is Role.IMPLEMENT]
    assert f"Branch {scene.branch} no longer contains" in asked[1]


def mends(scene: Scene) -> Script:
    def script(request: AttemptRequest) -> Play:
        if request.role is Role.REVIEW:
            return Play(seconds=0)
        base = git(scene.root, "rev-parse", "kitty/mission-demo")
        return Play(seconds=0, then=lambda: void(git(scene.worktree, "reset", "-q", "--soft", base)))

    return script


def void(_: str) -> None:
    """Drop what a command said."""


@pytest.mark.asyncio
async def test_a_lane_branch_that_was_rebased_before_its_review_is_reviewed_as_it_is_now(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path / "project", quick)
    await scene.cut_off_at(Submitted)
    git(scene.worktree, "rebase", "-q", "--onto", "HEAD~2", "HEAD~1")
    head = git(scene.worktree, "rev-parse", "HEAD")
    result = await scene.start()
    assert result.exit_code == 0, result.reasons
    assert {one.head for one in scene.agents.requests if one.role is Role.REVIEW} == {head}
    (approval,) = [one.review for one in scene.host.events if one.to_lane is Lane.DONE]
    assert approval is not None
    assert approval.reference.endswith(f"@{head}")


def journal_of(project: Command) -> Path:
    folder: Path = project.root / ".kittify" / "orchestrator" / SLUG
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_text(json.dumps(start_line()) + "\n")
    return folder / "journal.jsonl"


@pytest.mark.parametrize(
    "how", [("resume",), ("orchestrate", "--mission", SLUG)], ids=["resume", "orchestrate"]
)
def test_a_host_that_was_upgraded_since_is_refused_and_the_run_stays_as_it_was(
    project: Command, how: tuple[str, ...]
) -> None:
    journal = journal_of(project)
    before = journal.read_bytes()
    project.answer("contract-version", json.dumps({"success": True, "data": {"api_version": "2.0.0"}}) + "\n")
    agents = ("--impl-agent", "scripted", "--review-agent", "scripted")
    done = project.run(*how, *agents)
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")
    assert "2.0.0" in done.stderr
    assert "upgrade this side" in done.stderr
    assert journal.read_bytes() == before
    assert project.calls("start-implementation") == []


def test_a_status_event_whose_commit_was_cut_off_is_told_with_what_to_do(project: Command) -> None:
    """A kill during the last transition leaves this: no later transition commits it, and a merge drops it."""
    record = project.root / "kitty-specs" / SLUG / "status.events.jsonl"
    record.write_text("{}\n")
    project.git("add", "-A")
    project.git("commit", "-qm", "chore: status")
    record.write_text('{}\n{"to_lane": "done"}\n')
    project.lanes({"WP01": "done"})
    done = project.orchestrate()
    assert done.returncode == 0, done.stderr
    assert f"kitty-specs/{SLUG}/status.events.jsonl" in done.stdout
    assert "commit" in done.stdout


@pytest.mark.parametrize(
    ("place", "is_file", "code"),
    [
        (".kittify", True, 2),
        (".kittify/orchestrator", True, 2),
        (".git/spec-kitty-orchestrator", True, 3),
        (f".git/spec-kitty-orchestrator/{SLUG}/lock", False, 3),
        (f".kittify/orchestrator/{SLUG}/journal.jsonl", False, 3),
        (".kittify/logs", True, 3),
        (f".kittify/logs/{SLUG}/orchestrator.log", False, 3),
    ],
)
def test_a_place_that_cannot_be_written_is_named_before_anything_is_claimed(
    project: Command, place: str, is_file: bool, code: int
) -> None:
    taken = project.root / place
    if is_file:
        taken.parent.mkdir(exist_ok=True)
        taken.write_text("")
    else:
        taken.mkdir(parents=True)
    done = project.orchestrate()
    assert done.stderr.startswith("error: ")
    assert place in done.stderr
    assert "this should not happen" not in done.stderr
    assert done.returncode == code
    called = project.bin / "spec-kitty.d" / "calls"
    assert not called.exists() or "start-implementation" not in called.read_text()
