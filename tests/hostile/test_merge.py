"""Between an approval and the merge: branches that are moved, removed, hidden, or written on by others."""

from collections.abc import Callable

import anyio
import pytest
from tests.machine.conftest import BRANCH, Lane, git

from spec_kitty_orchestrator.core.approval import Approved, objection
from spec_kitty_orchestrator.machine.workspaces import GitWorkspaces

pytestmark = pytest.mark.asyncio

BOOKKEEPING = "kitty-specs/001/status.json"


async def told(lane: Lane, *heads: str) -> str:
    """Return what is said of a branch on which these commits were approved, "" if it may be merged."""
    one = Approved(lane.workspace, ("WP01",), heads)
    with anyio.fail_after(60):
        return "\n".join(objection(one, await lane.git.tip(one, heads)))


async def approved(lane: Lane) -> str:
    """Commit some work, as it is when a reviewer approves it."""
    lane.write("a.py", "a = 2\n")
    return (await lane.committed()).head


def commits(lane: Lane, subject: str = "Add a back door") -> None:
    lane.write("evil.py", f"{subject}\n")
    git(lane.path, "add", "evil.py")
    git(lane.path, "-c", "user.name=Mallory", "-c", "user.email=m", "commit", "-q", "-m", subject)


def commits_from_elsewhere(lane: Lane) -> None:
    """Write on the branch without its worktree, as an agent in another one would."""
    tree = git(lane.root, "rev-parse", f"{BRANCH}^{{tree}}")
    sha = git(lane.root, "commit-tree", tree, "-p", BRANCH, "-m", "Add a back door")
    git(lane.root, "update-ref", f"refs/heads/{BRANCH}", sha)


async def test_a_branch_is_merged_only_with_the_commit_that_was_approved(lane: Lane) -> None:
    head = await approved(lane)
    assert await told(lane, head) == ""


async def test_a_commit_after_the_approval_is_named_and_can_be_taken_off_again(lane: Lane) -> None:
    head = await approved(lane)
    commits(lane)
    text = await told(lane, head)
    assert f"1 commit of {BRANCH} was not reviewed" in text
    assert "Mallory: Add a back door" in text

    take_off = next(line for line in text.splitlines() if "take them off" in line)
    git(lane.root, *take_off.split(": git ")[1].split())
    assert await told(lane, head) == ""


async def test_a_commit_that_was_written_without_the_worktree_is_named(lane: Lane) -> None:
    head = await approved(lane)
    commits_from_elsewhere(lane)
    assert "Add a back door" in await told(lane, head)


async def test_what_another_branch_brought_along_is_named(lane: Lane) -> None:
    head = await approved(lane)
    git(lane.path, "switch", "-q", "-c", "side", lane.base)
    commits(lane)
    git(lane.path, "switch", "-q", BRANCH)
    git(lane.path, "merge", "-q", "--no-ff", "-m", "Harmless", "side")
    text = await told(lane, head)
    assert "2 commits" in text
    assert "Add a back door" in text


def resets(lane: Lane) -> None:
    git(lane.path, "reset", "-q", "--hard", lane.base)


def amends(lane: Lane) -> None:
    lane.write("a.py", "a = 3\n")
    git(lane.path, "commit", "-q", "-a", "--amend", "-m", "As before")


@pytest.mark.parametrize("move", [resets, amends], ids=lambda one: one.__name__)
async def test_an_approved_commit_that_is_no_longer_on_its_branch_is_named(
    lane: Lane, move: Callable[[Lane], None]
) -> None:
    head = await approved(lane)
    move(lane)
    assert f"the approved commit {head[:10]} is no longer on {BRANCH}" in await told(lane, head)


async def test_a_branch_that_was_deleted_is_named_unless_it_was_merged(lane: Lane) -> None:
    head = await approved(lane)
    git(lane.path, "switch", "-q", "--detach")
    git(lane.root, "branch", "-q", "-D", BRANCH)
    assert f"the branch {BRANCH} is gone" in await told(lane, head)
    git(lane.root, "merge", "-q", head)
    assert await told(lane, head) == ""


@pytest.mark.parametrize("ref", [f"refs/tags/{BRANCH}", f"refs/{BRANCH}", BRANCH])
async def test_a_ref_that_git_takes_for_the_branch_is_named(lane: Lane, ref: str) -> None:
    head = await approved(lane)
    commits(lane)
    evil = git(lane.path, "rev-parse", "HEAD")
    git(lane.path, "reset", "-q", "--hard", head)
    if ref == BRANCH:
        (lane.root / ".git" / BRANCH).parent.mkdir()
        (lane.root / ".git" / BRANCH).write_text(f"{evil}\n")
    else:
        git(lane.root, "update-ref", ref, evil)
    text = await told(lane, head)
    assert f"{ref} has the name of the branch" in text


async def test_a_replacement_of_the_approved_commit_is_not_believed(lane: Lane) -> None:
    head = await approved(lane)
    commits(lane)
    git(lane.root, "replace", BRANCH, head)
    assert "Add a back door" in await told(lane, head)


async def test_changes_in_the_worktree_that_the_merge_would_remove_are_named(lane: Lane) -> None:
    head = await approved(lane)
    lane.write("late.py", "late\n")
    assert "late.py" in await told(lane, head)


async def test_commits_that_only_a_detached_head_holds_are_named(lane: Lane) -> None:
    head = await approved(lane)
    git(lane.path, "switch", "-q", "--detach")
    commits(lane)
    assert git(lane.path, "rev-parse", "HEAD") in await told(lane, head)


async def test_work_packages_that_share_a_branch_are_merged_at_the_last_one_s_commit(lane: Lane) -> None:
    first = await approved(lane)
    lane.write("b.py", "b = 2\n")
    second = (await lane.committed()).head
    assert await told(lane, first, second) == ""
    git(lane.path, "reset", "-q", "--hard", first)
    assert f"the approved commit {second[:10]} is no longer on" in await told(lane, first, second)


async def test_what_is_already_on_the_target_or_approved_elsewhere_is_not_named_as_unreviewed(
    lane: Lane,
) -> None:
    head = await approved(lane)
    (lane.root / "c.py").write_text("c = 1\n")
    git(lane.root, "add", "-A")
    git(lane.root, "commit", "-q", "-m", "Somebody's work on the target")
    git(lane.path, "merge", "-q", "--no-edit", "main")
    text = await told(lane, head)
    assert "1 commit" in text
    assert "Somebody's work" not in text


async def test_branches_are_read_for_one_mission_alone(lane: Lane) -> None:
    git(lane.root, "branch", "other")
    assert await GitWorkspaces(lane.root, "001-m-lane").branches() == {BRANCH: lane.base}


def merges_evilly(lane: Lane) -> str:
    """Merge a branch and add something of its own in the merge itself."""
    git(lane.path, "switch", "-q", "-c", "side", lane.base)
    git(lane.path, "commit", "-q", "--allow-empty", "-m", "Harmless")
    git(lane.path, "switch", "-q", BRANCH)
    git(lane.path, "merge", "-q", "--no-ff", "--no-commit", "side")
    lane.write("evil.py")
    git(lane.path, "add", "evil.py")
    git(lane.path, "commit", "-q", "-m", "Merge dependency lane lane-b into lane-a")
    return git(lane.path, "rev-parse", "side")


async def test_a_merge_that_adds_something_of_its_own_is_no_mere_merge(lane: Lane) -> None:
    head = await approved(lane)
    side = merges_evilly(lane)
    found, more = await lane.git.beyond(BRANCH, (head, side))
    assert ([one.subject for one in found], more) == (["Merge dependency lane lane-b into lane-a"], 0)
    git(lane.path, "reset", "-q", "--hard", head)
    git(lane.path, "merge", "-q", "--no-ff", "--no-edit", "side")
    assert await lane.git.beyond(BRANCH, (head, side)) == ([], 0)


async def test_merges_of_what_is_known_do_not_keep_a_claim_from_being_repeated(lane: Lane) -> None:
    head = await approved(lane)
    git(lane.path, "switch", "-q", "-c", "side", lane.base)
    commits(lane)
    git(lane.path, "switch", "-q", BRANCH)
    git(lane.path, "merge", "-q", "--no-edit", "side")
    one, side = Approved(lane.workspace, ("WP01",), (head,)), git(lane.path, "rev-parse", "side")
    assert objection(one, await lane.git.tip(one, (head, side)), joins=True) == ()
    assert objection(one, await lane.git.tip(one, (head,)), joins=True) != ()
    assert objection(one, await lane.git.tip(one, (head, side))) != ()


async def test_the_host_s_own_files_are_no_content_that_needs_a_review(lane: Lane) -> None:
    head = await approved(lane)
    lane.write(BOOKKEEPING)
    git(lane.path, "add", "-A")
    git(lane.path, "commit", "-q", "-m", "status")
    assert await lane.git.beyond(BRANCH, (head,)) == ([], 0)
    commits(lane)
    found, _ = await lane.git.beyond(BRANCH, (head,))
    assert [one.subject for one in found] == ["Add a back door"]


async def test_what_was_put_on_a_branch_before_its_first_claim_belongs_to_the_work_that_is_reviewed(
    lane: Lane,
) -> None:
    commits(lane)
    assert await lane.git.fork_point(lane.workspace) == lane.base


async def merged(lane: Lane, *how: str) -> tuple[str, str, str]:
    """Merge the lane into the target; return what was approved, and where the target stood and stands."""
    head, before = await approved(lane), git(lane.root, "rev-parse", "main")
    git(lane.root, "merge", "-q", "--no-ff", "-m", "Merge the lane", *how, BRANCH)
    return head, before, git(lane.root, "rev-parse", "main")


async def test_a_merge_that_holds_what_was_approved_is_complete(lane: Lane) -> None:
    head, before, after = await merged(lane)
    assert await lane.git.undelivered(before, after, [head]) == ()
    assert await lane.git.beyond(after, (before, head)) == ([], 0)


async def test_a_merge_that_keeps_the_target_s_own_version_is_told_by_file(lane: Lane) -> None:
    head, before, after = await merged(lane, "-s", "ours")
    assert await lane.git.undelivered(before, after, [head]) == ("a.py",)


async def test_a_document_of_the_mission_that_a_merge_leaves_out_is_told_and_the_hosts_own_files_are_not(
    lane: Lane,
) -> None:
    before = git(lane.root, "rev-parse", "main")
    for name in ("plan.md", "status.json"):
        lane.write(f"kitty-specs/m/{name}")
    git(lane.path, "add", "kitty-specs/m")
    git(lane.path, "commit", "-q", "-m", "Documents")
    git(lane.root, "merge", "-q", "--no-ff", "-m", "Merge the lane", "-s", "ours", BRANCH)
    head, after = git(lane.path, "rev-parse", "HEAD"), git(lane.root, "rev-parse", "main")
    assert await lane.git.undelivered(before, after, [head]) == ("kitty-specs/m/plan.md",)


async def test_a_merge_of_a_replacement_is_told_by_file(lane: Lane) -> None:
    head = await approved(lane)
    lane.write("a.py", "a = 'evil'\n")
    git(lane.path, "commit", "-q", "-a", "--amend", "-m", "Work")
    git(lane.root, "replace", head, BRANCH)
    git(lane.root, "update-ref", f"refs/heads/{BRANCH}", head)
    before = git(lane.root, "rev-parse", "main")
    git(lane.root, "merge", "-q", "--no-ff", "-m", "Merge the lane", BRANCH)
    assert (lane.root / "a.py").read_text() == "a = 'evil'\n"
    assert await lane.git.undelivered(before, git(lane.root, "rev-parse", "main"), [head]) == ("a.py",)


async def test_a_merge_of_another_commit_is_told(lane: Lane) -> None:
    head, before, _ = await merged(lane)
    git(lane.root, "reset", "-q", "--hard", before)
    git(lane.path, "reset", "-q", "--hard", lane.base)
    commits(lane)
    git(lane.root, "merge", "-q", "--no-ff", "-m", "Merge the lane", BRANCH)
    after = git(lane.root, "rev-parse", "main")
    assert await lane.git.undelivered(before, after, [head]) == (f"the commit {head}", "a.py")
    found, _ = await lane.git.beyond(after, (before, head))
    assert [one.subject for one in found] == ["Add a back door"]


async def test_a_file_that_one_renamed_and_another_changed_is_put_together_by_git(lane: Lane) -> None:
    git(lane.path, "mv", "b.py", "c.py")
    lane.write("d.py")
    head, before = (await lane.committed()).head, git(lane.root, "rev-parse", "main")
    git(lane.root, "switch", "-q", "-c", "other")
    (lane.root / "b.py").write_text("b = 1\n# more\n")
    git(lane.root, "commit", "-q", "-a", "-m", "Other work")
    git(lane.root, "switch", "-q", "main")
    for branch in ("other", BRANCH):
        git(lane.root, "merge", "-q", "--no-ff", "--no-edit", branch)
    heads = [head, git(lane.root, "rev-parse", "other")]
    assert await lane.git.undelivered(before, git(lane.root, "rev-parse", "main"), heads) == ()
