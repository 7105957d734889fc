"""`abort`, from another process than the run, with real processes, git and journals."""

import json
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.cli.journals import (
    AGENT,
    AT,
    SLUG,
    Line,
    agent_at_work,
    event,
    process,
    read_journal,
    records,
    start_line,
    write_journal,
)

BRANCH = "kitty/lane-a"
LIMIT_S = 60
Project = Any  # the class lives in conftest, which tests cannot import

RUN = """
import sys, signal
from pathlib import Path
from spec_kitty_orchestrator.machine.lock import MissionLock
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN if "deaf" in sys.argv else lambda *_: sys.exit(143))
with MissionLock(Path(sys.argv[1]), "demo-01ABC"):
    print("running", flush=True)
    sys.stdin.read()
"""

HOLDER = """
import fcntl, sys
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


def journal(project: Project, *lines: Line) -> Path:
    (records(project) / ".gitignore").write_text("*\n")
    return write_journal(project, start_line(), *lines)


@pytest.fixture
def worktree(project: Project) -> Path:
    """The worktree of WP01, claimed by the run of the journal."""
    path: Path = project.root / ".worktrees" / "lane-a"
    project.git("worktree", "add", "-q", "-b", BRANCH, str(path))
    (project.root / ".git" / "info" / "exclude").write_text("/.worktrees/\n")
    workspace = {"path": str(path), "prompt_path": "p", "lane_id": "lane-a", "branch": BRANCH}
    journal(
        project,
        event("WP01", "scheduled", lane="planned", workspace=workspace),
        event("WP01", "claimed", workspace=workspace, head=project.git("rev-parse", "HEAD").strip()),
    )
    return path


def test_without_a_run_there_is_nothing_to_abort(project: Project) -> None:
    done = project.run("abort")
    assert (done.returncode, "nothing to abort" in done.stdout) == (0, True)


def test_an_active_run_is_stopped_from_another_process_with_every_agent(project: Project) -> None:
    journal(project)
    with agent_at_work(project) as works, process(RUN, str(records(project))) as runs:
        done = project.run("abort")
        assert done.returncode == 0, done.stderr
        assert runs.wait(LIMIT_S) == 143
        assert works.wait(LIMIT_S) == -signal.SIGTERM
    assert f"stopping process {runs.pid}" in done.stdout
    assert "aborted; no process of it is left" in done.stdout
    assert read_journal(project)[-1]["line"] == "aborted"


def test_agents_that_a_killed_run_left_behind_are_stopped(project: Project) -> None:
    journal(project)
    with agent_at_work(project, "deaf") as works:
        done = project.run("abort")
        assert done.returncode == 0, done.stderr
        assert works.wait(LIMIT_S) == -signal.SIGKILL
    assert f"agents that no run watched were stopped: processes {works.pid}" in done.stdout


def test_a_process_that_only_reuses_the_number_of_the_run_is_left_alone(project: Project) -> None:
    journal(project)
    with process(AGENT) as stranger:
        who = {"pid": stranger.pid, "started": 1.0, "boot": "another"}
        owner = {"process": who, "started_at": AT, "host": "h", "mission": SLUG}
        (records(project) / "owner.json").write_text(json.dumps(owner))
        assert project.run("abort").returncode == 0
        assert psutil.Process(stranger.pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("fresh", [False, True])
def test_a_process_that_only_holds_the_lock_of_an_agent_is_named_and_left_alone(
    project: Project, fresh: bool
) -> None:
    project.lanes({"WP01": "done"})
    journal(project)
    attempt = project.root / ".kittify" / "logs" / SLUG / "WP01" / "01-implement-scripted"
    attempt.mkdir(parents=True)
    (attempt / "lock").touch()
    with process(HOLDER, str(attempt / "lock")) as holder:
        done = project.orchestrate("--fresh") if fresh else project.run("abort")
        assert holder.poll() is None

    assert done.returncode == 0, done.stderr
    assert f"processes {holder.pid}, which hold locks of agents" in done.stdout


def test_a_run_that_ended_well_is_not_aborted(project: Project) -> None:
    file = journal(project, {"line": "end", "at": AT, "exit_code": 0, "summary": "1 of 1 complete"})
    before = file.read_bytes()
    done = project.run("abort", "--mission", SLUG)
    assert (done.returncode, "nothing to abort" in done.stdout) == (0, True)
    assert file.read_bytes() == before


def test_agents_are_stopped_even_if_the_journal_is_damaged(project: Project) -> None:
    file = records(project) / "journal.jsonl"
    file.write_text("nonsense\n{}\n")
    with agent_at_work(project) as works:
        done = project.run("abort")
        assert works.wait(LIMIT_S) == -signal.SIGTERM
    assert done.returncode == 3
    assert "line 1 is damaged" in done.stderr
    assert file.read_text() == "nonsense\n{}\n"


def test_cleaning_up_removes_our_records_and_a_clean_worktree_and_keeps_branch_and_logs(
    project: Project, worktree: Path
) -> None:
    logs = project.root / ".kittify" / "logs" / SLUG
    logs.mkdir(parents=True)
    done = project.run("abort", "--cleanup-worktrees")
    assert done.returncode == 0, done.stderr
    assert f"removed: {worktree} (WP01)" in done.stdout
    assert not worktree.exists()
    assert not (project.root / ".kittify" / "orchestrator" / SLUG).exists()
    assert project.git("rev-parse", "--verify", BRANCH)
    assert logs.exists()


@pytest.mark.parametrize("left", ["untracked", "detached", "merging"])
def test_cleaning_up_keeps_a_worktree_that_holds_something_of_its_own(
    project: Project, worktree: Path, left: str
) -> None:
    reason = "uncommitted changes"
    (worktree / "new.py").write_text("new\n")
    if left != "untracked":
        project.git("-C", str(worktree), "checkout", "-q", "--detach")
        project.git("-C", str(worktree), "add", "new.py")
        project.git("-C", str(worktree), "commit", "-qm", "work")
        reason = f"its commits are not on {BRANCH}"
    if left == "merging":
        git_dir = project.git("-C", str(worktree), "rev-parse", "--git-dir").strip()
        Path(git_dir, "MERGE_HEAD").write_text(project.git("rev-parse", "HEAD"))
        reason = "a merge is under way"
    done = project.run("abort", "--cleanup-worktrees")
    assert done.returncode == 0, done.stderr
    assert f"kept: {worktree} (WP01): " in done.stdout
    assert reason in done.stdout
    assert (worktree / "new.py").read_text() == "new\n"


def test_aborting_saves_a_copy_of_what_is_uncommitted_and_leaves_the_worktree_as_it_is(
    project: Project, worktree: Path
) -> None:
    (worktree / "new.py").write_text("new\n")
    done = project.run("abort")
    assert done.returncode == 0, done.stderr
    (ref,) = project.git("for-each-ref", "--format=%(refname)", "refs/spec-kitty-orchestrator").split()
    assert f"a copy of uncommitted work is saved: {ref}" in done.stdout
    assert read_journal(project)[-1]["saved"] == [ref]
    assert project.git("show", f"{ref}:new.py") == "new\n"
    assert project.git("-C", str(worktree), "status", "--porcelain") == "?? new.py\n"


def test_cleaning_up_by_force_saves_what_is_uncommitted_before(project: Project, worktree: Path) -> None:
    (worktree / "new.py").write_text("new\n")
    done = project.run("abort", "--cleanup-worktrees", "--force")
    assert done.returncode == 0, done.stderr
    assert not worktree.exists()
    (ref,) = project.git("for-each-ref", "--format=%(refname)", "refs/spec-kitty-orchestrator").split()
    assert f"saved: {ref} (WP01)" in done.stdout
    assert project.git("show", f"{ref}:new.py") == "new\n"


def test_cleaning_up_keeps_a_worktree_that_somebody_works_in(project: Project, worktree: Path) -> None:
    with process(f"import os; os.chdir({str(worktree)!r}); print(flush=True); input()") as person:
        done = project.run("abort", "--cleanup-worktrees", "--force")
    assert f"processes work in it: {person.pid}" in done.stdout
    assert worktree.exists()


def test_force_alone_is_refused(project: Project) -> None:
    assert project.run("abort", "--force").returncode == 2
