"""What is missing in a clone of a project with a mission, and that the command of the finding adds it."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.machine.conftest import git

from spec_kitty_orchestrator.app.checks import Finding
from spec_kitty_orchestrator.app.checks.clone import check_clone, complete
from spec_kitty_orchestrator.app.repository import bare_fix, find_repo_root
from spec_kitty_orchestrator.errors import UsageError

SLUG = "demo-01ABCDEF"
FEATURE, STATUS = "feature/demo", f"kitty/mission-{SLUG}"
ATTRIBUTES = "x/*.jsonl merge=spec-kitty-event-log\nx/*.json merge=spec-kitty-meta\n*.txt merge=union\n"


def save(root: Path, subject: str) -> str:
    git(root, "add", "-A", "-f")
    git(root, "commit", "-q", "-m", subject)
    return git(root, "rev-parse", "HEAD")


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose mission has its status on a branch that left before the plan."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "x")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "x@example.org")
    root = tmp_path / "origin"
    folder = root / "kitty-specs" / SLUG
    folder.mkdir(parents=True)
    (root / ".kittify").mkdir()
    (root / ".kittify" / "config.yaml").touch()
    (root / ".gitattributes").write_text(ATTRIBUTES)
    git(root, "init", "-q", "-b", FEATURE)
    meta = {"mission_id": "01ABCDEFGH", "target_branch": FEATURE, "topology": "lanes_with_coord"}
    (folder / "meta.json").write_text(json.dumps({**meta, "coordination_branch": STATUS}))
    save(root, "begin")
    git(root, "branch", STATUS)
    (folder / "plan.md").touch()
    plan = save(root, "plan")
    (folder / "lanes.json").write_text(json.dumps({"planning_commit_sha": plan}))
    save(root, "lanes")
    return root


def clone(origin: Path, *options: str) -> Path:
    root = origin.parent / "clone"
    git(origin.parent, "clone", "-q", *options, f"file://{origin}", str(root))
    return root


def only(root: Path, *, read: bool = False) -> Finding:
    (found,) = check_clone(root, SLUG, read=read)
    assert found.id == "git.clone"
    return found


def paste(fix: str, cwd: Path) -> Path:
    """Run a fix as a person does, and return where that leads to."""
    done = subprocess.run(
        ["/bin/sh", "-ec", f"{fix}\npwd"], cwd=cwd, capture_output=True, text=True, check=True
    )
    return Path(done.stdout.splitlines()[-1])


def test_nothing_is_missing_where_the_mission_was_planned(origin: Path) -> None:
    git(origin, "worktree", "add", "-q", str(origin / ".worktrees" / f"{SLUG}-coord"), STATUS)
    for one in ("event-log", "meta"):
        git(origin, "config", f"merge.spec-kitty-{one}.driver", "spec-kitty")
    assert check_clone(origin, SLUG) == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ((), ["the branch", "the worktree", "merge drivers"]),
        (("--single-branch",), ["the branch", "the worktree", "merge drivers"]),
        (("--depth", "1"), ["shallow", "the branch", "the worktree", "merge drivers"]),
        (("--depth", "1", "--no-single-branch"), ["shallow", "the branch", "the worktree", "merge drivers"]),
    ],
)
def test_the_command_of_the_finding_adds_all_that_a_clone_lacks(
    origin: Path, options: tuple[str, ...], named: list[str]
) -> None:
    root = clone(origin, *options)
    found = only(root)
    assert [one for one in named if one not in found.text] == []
    assert ("shallow" in found.text) is ("shallow" in named)
    paste(found.fix, root)
    assert check_clone(root, SLUG) == []
    assert git(root / ".worktrees" / f"{SLUG}-coord", "branch", "--show-current") == STATUS
    assert git(root, "config", "merge.spec-kitty-meta.driver") == "spec-kitty merge-driver-meta %O %A %B"


def test_a_job_of_ci_makes_in_its_clone_what_a_fetch_brought(origin: Path) -> None:
    root = clone(origin)
    complete(root, SLUG)
    assert check_clone(root, SLUG, read=False) == []
    assert git(root / ".worktrees" / f"{SLUG}-coord", "rev-parse", "HEAD") == git(origin, "rev-parse", STATUS)
    subprocess.run(["rm", "-r", str(root / ".worktrees")], check=True)
    complete(root, SLUG)
    complete(root, SLUG)
    assert check_clone(root, SLUG, read=False) == []


def test_a_job_of_ci_fetches_nothing_and_begins_nothing_anew(origin: Path) -> None:
    root = clone(origin, "--depth", "1")
    complete(root, SLUG)
    assert "shallow" in only(root).text
    assert git(root, "branch", "--format=%(refname:short)") == FEATURE
    assert not (root / ".worktrees").exists()


def test_a_worktree_whose_folder_was_deleted_is_made_again(origin: Path) -> None:
    root = clone(origin)
    paste(only(root).fix, root)
    subprocess.run(["rm", "-r", str(root / ".worktrees")], check=True)
    found = only(root)
    assert "the branch" not in found.text
    paste(found.fix, root)
    assert check_clone(root, SLUG) == []


def test_a_branch_that_nobody_has_matters_only_where_the_host_finds_no_lanes(origin: Path) -> None:
    git(origin, "branch", "-D", STATUS)
    root = clone(origin)
    assert check_clone(root, SLUG, read=True) == []
    found = only(root, read=False)
    flatten = f"spec-kitty doctor coordination --fix --mission {SLUG} && "
    assert flatten in found.fix
    git(root, "remote", "remove", "origin")
    assert only(root, read=False).fix.startswith(flatten)


def without_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a host on PATH that notes its calls in the file that is returned, and does nothing."""
    program, calls = tmp_path / "bin" / "spec-kitty", tmp_path / "calls"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$*" >>{calls}\nfor one; do slug=$one; done\n: >kitty-specs/$slug/meta.json\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return calls


def test_a_branch_that_was_pushed_since_the_last_fetch_is_fetched_and_nothing_begins_anew(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = without_the_host(tmp_path, monkeypatch)
    git(origin, "branch", "-m", STATUS, "aside")
    root = clone(origin)
    git(origin, "branch", STATUS, "aside")
    paste(only(root).fix, root)
    assert git(root, "rev-parse", STATUS) == git(origin, "rev-parse", "aside")
    assert not calls.exists()
    paste(only(root).fix, root)
    assert check_clone(root, SLUG, read=False) == []


def test_the_status_begins_anew_only_if_the_remote_could_be_asked_and_does_not_have_it(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = without_the_host(tmp_path, monkeypatch)
    git(origin, "branch", "-D", STATUS)
    root = clone(origin)
    fix = only(root).fix
    origin.rename(origin.with_name("unreachable"))
    paste(fix, root)
    assert not calls.exists()
    origin.with_name("unreachable").rename(origin)
    paste(fix, root)
    assert "doctor coordination --fix" in calls.read_text()


def test_a_shallow_clone_that_holds_the_plan_lacks_nothing(origin: Path) -> None:
    meta = origin / "kitty-specs" / SLUG / "meta.json"
    meta.write_text(json.dumps({"target_branch": FEATURE, "topology": "lanes"}))
    save(origin, "without a branch for the status")
    assert "shallow" in only(clone(origin, "--depth", "1")).text
    subprocess.run(["rm", "-r", str(origin.parent / "clone")], check=True)
    assert check_clone(clone(origin, "--depth", "3"), SLUG) == []
    assert check_clone(origin.parent / "clone", SLUG, starts=False) == []


def test_a_plan_that_a_whole_clone_does_not_have_is_fetched_by_its_name(origin: Path) -> None:
    plan = git(origin, "rev-parse", "HEAD~1")
    git(origin, "update-ref", "refs/kept/plan", plan)
    meta = origin / "kitty-specs" / SLUG / "meta.json"
    meta.write_text(json.dumps({"target_branch": FEATURE, "topology": "lanes"}))
    tree = git(origin, "write-tree")
    git(origin, "reset", "-q", "--hard", git(origin, "commit-tree", tree, "-p", "HEAD~2", "-m", "squashed"))
    root = clone(origin)
    found = only(root)
    assert f"the commit {plan[:10]} of its plan" in found.text
    assert f"{plan} || spec-kitty agent mission finalize-tasks --mission {SLUG}" in found.fix
    paste(found.fix, root)
    assert check_clone(root, SLUG) == []


def test_names_that_a_clone_brings_along_reach_no_shell(origin: Path) -> None:
    folder = origin / "kitty-specs" / SLUG
    (folder / "meta.json").write_text(json.dumps({"coordination_branch": "--x;touch evil"}))
    (folder / "lanes.json").write_text(json.dumps({"planning_commit_sha": "$(touch evil)"}))
    (origin / ".gitattributes").write_text("a merge=spec-kitty-$(touch evil)\n")
    assert check_clone(origin, SLUG) == []


def test_from_a_worktree_of_a_bare_repository_the_command_leads_to_a_clone(origin: Path) -> None:
    bare, place = origin.parent / "bare.git", origin.parent / "place"
    git(origin.parent, "clone", "-q", "--bare", str(origin), str(bare))
    git(bare, "worktree", "add", "-q", str(place), FEATURE)
    (found,) = check_clone(find_repo_root(place), SLUG)
    assert found.id == "git.worktree"
    assert "a worktree of the bare repository" in found.text
    there = paste(found.fix, place)
    assert there != place
    assert "git.worktree" not in [one.id for one in check_clone(find_repo_root(there), SLUG)]


def test_from_a_linked_worktree_the_command_gives_the_branch_to_the_primary_checkout(origin: Path) -> None:
    place = origin.parent / "place"
    git(origin, "checkout", "-q", "--orphan", "main")
    git(origin, "rm", "-rfq", ".")
    git(origin, "commit", "-q", "--allow-empty", "-m", "before the project")
    git(origin, "worktree", "add", "-q", str(place), FEATURE)
    (found,) = check_clone(find_repo_root(place), SLUG)
    assert "a linked worktree" in found.text
    paste(found.fix, place)
    assert find_repo_root(place) == origin
    assert git(origin, "branch", "--show-current") == FEATURE


def test_a_checkout_that_was_declared_bare_is_told_with_the_command_that_takes_it_back(origin: Path) -> None:
    git(origin, "config", "core.bare", "true")
    with pytest.raises(UsageError, match="has no checkout: git takes it for a bare repository") as refused:
        find_repo_root(origin)
    assert bare_fix(origin) in str(refused.value)
    paste(bare_fix(origin), origin)
    assert find_repo_root(origin) == origin


def test_a_bare_repository_is_told_with_the_command_that_makes_a_clone(origin: Path) -> None:
    bare = origin.parent / "bare.git"
    git(origin.parent, "clone", "-q", "--bare", str(origin), str(bare))
    assert find_repo_root(paste(bare_fix(bare), bare)) == origin.parent / "bare-clone"
