from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from tests.machine.conftest import BRANCH, Lane, git, git_fails

from spec_kitty_orchestrator.errors import WorkspaceError

pytestmark = pytest.mark.asyncio

RESCUED = "refs/spec-kitty-orchestrator/m/WP01/3-review"


def picture(lane: Lane) -> dict[str, object]:
    """Everything that a review must leave alone."""
    files = {
        str(path.relative_to(lane.path)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(lane.path.rglob("*"))
        if path.name != ".git" and (path.is_symlink() or path.is_file())
    }
    return {
        "files": files,
        "head": git(lane.path, "rev-parse", "HEAD"),
        "branch": git(lane.path, "rev-parse", "--abbrev-ref", "HEAD"),
        "tip": git(lane.root, "rev-parse", BRANCH),
        "status": git(lane.path, "status", "--porcelain=v1"),
        "index": git(lane.path, "ls-files", "-s"),
    }


@pytest.fixture
def reviewed(lane: Lane) -> Lane:
    """A lane with a commit, a staged edit, an unstaged edit, untracked and ignored files, and a symlink."""
    lane.write("work.py", "work = 1\n")
    (lane.path / "link").symlink_to("work.py")
    git(lane.path, "add", "-A")
    git(lane.path, "commit", "-q", "-m", "work")
    lane.write("a.py", "a = 'staged'\n")
    git(lane.path, "add", "a.py")
    lane.write("b.py", "b = 'unstaged'\n")
    lane.write(".env", "SECRET=1\n")
    lane.write("ünter weg/-x\ny.txt")
    lane.write("debug.log", "ignored\n")
    return lane


async def rescue(lane: Lane, name: str = "1") -> str:
    return "".join((await lane.git.rescue("WP01", lane.workspace, name)).refs)


async def restore(lane: Lane, fingerprint: str) -> tuple[str, ...]:
    with anyio.fail_after(60):
        return (await lane.git.restore("WP01", lane.workspace, fingerprint, "3-review")).differed


async def test_what_a_reviewer_wrote_for_itself_is_put_back_and_does_not_count(reviewed: Lane) -> None:
    reviewed.write(".mybot/memory", "of the implementer")
    fingerprint = await reviewed.git.fingerprint(reviewed.workspace)
    reviewed.write(".mybot/memory", "of the reviewer")
    reviewed.write(".codex/hooks", "rm -rf")
    assert await restore(reviewed, fingerprint) == ()
    assert (reviewed.path / ".mybot" / "memory").read_text() == "of the implementer"
    assert not (reviewed.path / ".codex").exists()
    assert await restore(reviewed, fingerprint) == ()


async def test_a_crash_and_a_reviewer_s_own_files_together_hide_no_earlier_change(reviewed: Lane) -> None:
    fingerprint = await reviewed.git.fingerprint(reviewed.workspace)
    reviewed.write("work.py", "other")
    assert await restore(reviewed, fingerprint) == ("work.py",)
    reviewed.write(".mybot/memory")
    assert (await restore(reviewed, fingerprint))[0] == f"what is saved under {RESCUED}"


async def test_a_reviewer_s_own_files_hide_no_other_change(reviewed: Lane) -> None:
    fingerprint = await reviewed.git.fingerprint(reviewed.workspace)
    reviewed.write(".mybot/memory")
    reviewed.write("work.py", "other")
    assert await restore(reviewed, fingerprint) == (".mybot/memory", "work.py")


async def test_a_tracked_file_is_nobody_s_own(reviewed: Lane) -> None:
    reviewed.write(".mybot/memory")
    git(reviewed.path, "add", "-f", ".mybot")
    git(reviewed.path, "commit", "-q", "-m", "by a person")
    fingerprint = await reviewed.git.fingerprint(reviewed.workspace)
    reviewed.write(".mybot/memory", "changed")
    assert await restore(reviewed, fingerprint) == (".mybot/memory",)


async def test_an_untouched_worktree_has_the_same_fingerprint_and_nothing_to_restore(reviewed: Lane) -> None:
    before = picture(reviewed)
    first = await reviewed.git.fingerprint(reviewed.workspace)
    assert await reviewed.git.fingerprint(reviewed.workspace) == first
    assert await restore(reviewed, first) == ()
    assert picture(reviewed) == before
    assert git(reviewed.root, "for-each-ref", "refs/spec-kitty-orchestrator") == ""


def edits(lane: Lane) -> None:
    lane.write("work.py", "work = 2\n")


def commits(lane: Lane) -> None:
    lane.write("work.py", "work = 3\n")
    git(lane.path, "commit", "-q", "-am", "by the reviewer")


def switches_branch(lane: Lane) -> None:
    git(lane.path, "switch", "-q", "-c", "fix")
    commits(lane)


def detaches_and_resets_the_branch(lane: Lane) -> None:
    git(lane.path, "switch", "-q", "--detach")
    git(lane.path, "branch", "-f", BRANCH, lane.base)


def deletes_the_branch(lane: Lane) -> None:
    git(lane.path, "update-ref", "-d", f"refs/heads/{BRANCH}")


def resets_hard(lane: Lane) -> None:
    git(lane.path, "reset", "-q", "--hard", lane.base)
    git(lane.path, "reflog", "expire", "--expire=now", "--all")
    git(lane.path, "gc", "-q", "--prune=now")


def cleans(lane: Lane) -> None:
    git(lane.path, "clean", "-fdq")


def stages(lane: Lane) -> None:
    git(lane.path, "add", "-A")


def stashes(lane: Lane) -> None:
    git(lane.path, "stash", "-q", "--include-untracked")


def adds_files(lane: Lane) -> None:
    lane.write("extra dir/ünd\n.txt")
    lane.write("-n")


def replaces_a_symlink(lane: Lane) -> None:
    (lane.path / "link").unlink()
    lane.write("link/inner.txt")


def hides_an_edit(lane: Lane) -> None:
    git(lane.path, "update-index", "--assume-unchanged", "work.py")
    lane.write("work.py", "hidden = 1\n")


def skips_an_edit(lane: Lane) -> None:
    git(lane.path, "update-index", "--skip-worktree", "work.py")
    lane.write("work.py", "skipped = 1\n")


def ignores_a_file_of_others(lane: Lane) -> None:
    (lane.path / ".env").unlink()
    lane.write(".gitignore", "*\n")


def leaves_a_conflict(lane: Lane) -> None:
    cleans(lane)
    git(lane.path, "reset", "-q", "--hard")
    git(lane.path, "branch", "side")
    commits(lane)
    git(lane.path, "switch", "-q", "side")
    lane.write("work.py", "work = 'side'\n")
    git(lane.path, "commit", "-q", "-am", "side")
    git_fails(lane.path, "rebase", BRANCH)
    assert "UU work.py" in git(lane.path, "status", "--porcelain")


@pytest.mark.parametrize(
    "tamper",
    [
        edits,
        commits,
        switches_branch,
        detaches_and_resets_the_branch,
        deletes_the_branch,
        resets_hard,
        cleans,
        stages,
        stashes,
        adds_files,
        replaces_a_symlink,
        hides_an_edit,
        skips_an_edit,
        ignores_a_file_of_others,
        leaves_a_conflict,
    ],
)
async def test_whatever_a_reviewer_does_is_saved_and_undone(
    reviewed: Lane, tamper: Callable[[Lane], None]
) -> None:
    before = picture(reviewed)
    fingerprint = await reviewed.git.fingerprint(reviewed.workspace)
    tamper(reviewed)
    assert await restore(reviewed, fingerprint) != ()
    assert picture(reviewed) == before
    assert git(reviewed.root, "cat-file", "-t", RESCUED) == "commit"
    # Cut off before the answer was journaled, the next start asks again: the review is as void as before.
    assert (await restore(reviewed, fingerprint))[0] == f"what is saved under {RESCUED}"


async def test_what_differed_is_named_for_people(reviewed: Lane) -> None:
    fingerprint = await reviewed.git.fingerprint(reviewed.workspace)
    switches_branch(reviewed)
    reviewed.write("späte datei.txt")
    head = git(reviewed.path, "rev-parse", "HEAD")
    found = await restore(reviewed, fingerprint)
    assert found == ("branch switched to fix", f"HEAD moved to {head}", "späte datei.txt", "work.py")


async def test_what_a_reviewer_changed_can_be_read_from_the_ref(reviewed: Lane) -> None:
    fingerprint = await reviewed.git.fingerprint(reviewed.workspace)
    commits(reviewed)
    reviewed.write("new.txt", "precious\n")
    head = git(reviewed.path, "rev-parse", "HEAD")
    await restore(reviewed, fingerprint)
    assert git(reviewed.root, "show", f"{RESCUED}:new.txt") == "precious"
    assert git(reviewed.root, "rev-parse", f"{RESCUED}^1") == head


async def test_ignored_files_are_not_touched(reviewed: Lane) -> None:
    fingerprint = await reviewed.git.fingerprint(reviewed.workspace)
    reviewed.write("debug.log", "changed by tests\n")
    reviewed.write("other.log", "of tests\n")
    assert await restore(reviewed, fingerprint) == ()
    edits(reviewed)
    assert await restore(reviewed, fingerprint) == ("work.py",)
    assert (reviewed.path / "debug.log").read_text() == "changed by tests\n"
    assert (reviewed.path / "other.log").exists()


async def test_a_submodule_does_not_disturb_the_check(lane: Lane, tmp_path: Path) -> None:
    git(
        lane.path,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        "-b",
        "main",
        str(lane.root),
        "sub",
    )
    git(lane.path, "commit", "-q", "-m", "submodule")
    (lane.path / "sub" / "noise.txt").write_text("x")
    fingerprint = await lane.git.fingerprint(lane.workspace)
    assert await restore(lane, fingerprint) == ()
    edits(lane)
    assert await restore(lane, fingerprint) == ("work.py",)
    assert git(lane.path, "status", "--porcelain", "--ignore-submodules=dirty") == ""


async def test_a_damaged_fingerprint_is_an_error_and_changes_nothing(reviewed: Lane) -> None:
    before = picture(reviewed)
    with pytest.raises(WorkspaceError, match="no fingerprint"):
        await restore(reviewed, "garbage")
    assert picture(reviewed) == before


async def test_rescue_of_a_clean_worktree_does_nothing(lane: Lane) -> None:
    assert await rescue(lane) == ""
    assert git(lane.root, "for-each-ref", "refs/spec-kitty-orchestrator") == ""


async def test_rescue_saves_everything_that_is_not_ignored_and_leaves_a_clean_worktree(
    reviewed: Lane,
) -> None:
    files = picture(reviewed)["files"]
    head = git(reviewed.path, "rev-parse", "HEAD")
    ref = await rescue(reviewed)
    assert ref == "refs/spec-kitty-orchestrator/m/WP01/1"
    assert git(reviewed.path, "status", "--porcelain") == ""
    assert (reviewed.path / "debug.log").exists()
    assert not (reviewed.path / ".env").exists()
    git(reviewed.path, "restore", "--source", ref, "--", ".")
    assert picture(reviewed)["files"] == files
    assert git(reviewed.root, "rev-parse", f"{ref}^1") == head


async def test_a_rescue_never_overwrites_another(lane: Lane) -> None:
    refs = []
    for number in range(3):
        lane.write("a.py", f"try {number}\n")
        refs.append(await rescue(lane, "kept"))
    name = "refs/spec-kitty-orchestrator/m/WP01/kept"
    assert refs == [name, f"{name}-2", f"{name}-3"]
    assert [git(lane.root, "show", f"{ref}:a.py") for ref in refs] == ["try 0", "try 1", "try 2"]


async def test_rescue_ends_a_rebase_and_goes_back_to_the_branch(reviewed: Lane) -> None:
    leaves_a_conflict(reviewed)
    detached = git(reviewed.path, "rev-parse", "HEAD")
    ref = await rescue(reviewed)
    assert "<<<<<<<" in git(reviewed.root, "show", f"{ref}:work.py")
    assert git(reviewed.path, "status", "--porcelain") == ""
    assert git(reviewed.path, "branch", "--show-current") == BRANCH
    assert git(reviewed.root, "merge-base", "--is-ancestor", detached, ref) == ""


async def test_commits_off_the_branch_are_rescued_from_a_clean_worktree_too(lane: Lane) -> None:
    git(lane.path, "switch", "-q", "--detach")
    lane.write("work.py")
    git(lane.path, "add", "-A")
    git(lane.path, "commit", "-q", "-m", "off")
    off = git(lane.path, "rev-parse", "HEAD")
    ref = await rescue(lane)
    assert git(lane.root, "rev-parse", f"{ref}^1") == off
    assert git(lane.path, "branch", "--show-current") == BRANCH


async def test_nothing_is_cleaned_when_saving_fails(reviewed: Lane) -> None:
    before = picture(reviewed)
    # A file where the ref's folder must be.
    refs = reviewed.root / ".git" / "refs" / "spec-kitty-orchestrator"
    refs.mkdir()
    git(reviewed.root, "update-ref", "refs/spec-kitty-orchestrator/m", "HEAD")
    with pytest.raises(WorkspaceError, match="update-ref"):
        await rescue(reviewed)
    assert picture(reviewed) == before


async def test_names_that_git_forbids_make_valid_refs(lane: Lane) -> None:
    lane.write("a.py", "a = 2\n")
    ref = await rescue(lane, "../x y~^:?*[.lock")
    assert git(lane.root, "cat-file", "-t", ref) == "commit"


async def test_a_missing_worktree_has_nothing_to_rescue(lane: Lane) -> None:
    git(lane.root, "worktree", "remove", str(lane.path))
    assert await rescue(lane) == ""


async def test_a_folder_that_git_does_not_know_is_not_taken_for_a_clean_one(lane: Lane) -> None:
    await anyio.Path(lane.root / ".git" / "worktrees" / "lane" / "gitdir").unlink()
    with pytest.raises(WorkspaceError, match="not a git worktree"):
        await rescue(lane)
