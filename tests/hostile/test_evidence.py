"""What a reviewer is shown, and what a review must leave as it was, whatever an agent configured."""

import hashlib
import os
from collections.abc import Callable

import pytest
from tests.machine.conftest import BRANCH, Lane, git

pytestmark = pytest.mark.asyncio


async def shown(lane: Lane) -> str:
    evidence = await lane.committed()
    stat, diff = await lane.git.diff(lane.workspace, lane.base, evidence.head, 60_000)
    return stat + diff


async def test_a_replaced_commit_is_shown_as_what_anybody_gets_who_fetches_it(lane: Lane) -> None:
    lane.write("mod.py", "evil\n")
    git(lane.path, "add", "-A")
    git(lane.path, "commit", "-q", "-m", "work")
    evil = git(lane.path, "rev-parse", "HEAD")
    lane.write("mod.py", "good\n")
    git(lane.path, "add", "-A")
    good = git(lane.path, "commit-tree", git(lane.path, "write-tree"), "-p", lane.base, "-m", "work")
    git(lane.path, "replace", evil, good)
    git(lane.path, "reset", "-q", "--hard")

    evidence = await lane.committed()
    _, diff = await lane.git.diff(lane.workspace, lane.base, evidence.head, 60_000)
    _, before = await lane.git.diff(lane.workspace, lane.base, evil, 60_000)

    assert "+evil" in before
    held = git(lane.root, "--no-replace-objects", "show", f"{evidence.head}:mod.py")
    assert f"+{held}" in diff


ATTRIBUTES = ["*.py -diff", "*.py binary", "*.py diff=hidden", "*.py -text -diff", "[attr]x -diff\n*.py x"]


@pytest.mark.parametrize("line", ATTRIBUTES)
@pytest.mark.parametrize("where", ["in the commit", "in info", "in a file of the person's"])
async def test_no_attribute_of_an_agent_s_hides_a_change(lane: Lane, line: str, where: str) -> None:
    git(lane.path, "config", "diff.hidden.binary", "true")
    git(lane.path, "config", "diff.hidden.textconv", "true")
    git(lane.path, "config", "diff.hidden.command", "true")
    if where == "in the commit":
        lane.write(".gitattributes", f"{line}\n")
    elif where == "in info":
        (lane.root / ".git" / "info" / "attributes").write_text(f"{line}\n")
    else:
        (lane.root.parent / "attributes").write_text(f"{line}\n")
        git(lane.path, "config", "core.attributesFile", str(lane.root.parent / "attributes"))
    lane.write("a.py", "evil = 1\n")

    assert "+evil = 1" in await shown(lane)


async def test_attributes_that_the_work_began_with_are_followed(lane: Lane) -> None:
    lane.write(".gitattributes", "*.lock -diff\n")
    lane.base = (await lane.committed()).head
    lane.write(".gitattributes", "\n")
    lane.write("x.lock", "generated\n")

    told = await shown(lane)

    assert "+generated" not in told
    assert "x.lock" in told


SETTINGS = [
    *("diff.noprefix=true", "diff.external=true", "diff.ignoreSubmodules=all", "color.ui=always"),
    *("diff.mnemonicPrefix=true", "diff.orderFile=nothing", "diff.context=0", "core.pager=true"),
    *("diff.renames=false", "diff.wsErrorHighlight=all", "core.quotePath=true", "diff.submodule=log"),
]


@pytest.mark.parametrize("setting", SETTINGS)
async def test_no_setting_changes_what_is_shown(lane: Lane, setting: str) -> None:
    lane.write("ünter.py", "evil = 1\n")
    lane.write("a.py", "a = 2  \n")
    before = await shown(lane)
    git(lane.path, "config", *setting.split("=", 1))

    assert await shown(lane) == before


async def test_a_submodule_that_is_to_be_ignored_is_shown_and_committed(lane: Lane) -> None:
    inner = lane.path / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    git(inner, "-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "--allow-empty", "-m", "inner")
    first = git(inner, "rev-parse", "HEAD")
    lane.write(".gitmodules", '[submodule "inner"]\n\tpath = inner\n\turl = ./inner\n\tignore = all\n')
    git(lane.path, "update-index", "--add", "--cacheinfo", f"160000,{first},inner")
    git(lane.path, "add", ".gitmodules")
    git(lane.path, "commit", "-q", "-m", "a submodule")
    head = git(lane.path, "rev-parse", "HEAD")

    stat, diff = await lane.git.diff(lane.workspace, lane.base, head, 60_000)

    assert "inner" in stat
    assert f"+Subproject commit {first}" in diff


async def reviewed(lane: Lane, changes: Callable[[Lane], object]) -> tuple[str, ...]:
    """Return what a review is void for that changes something."""
    lane.write("a.py", "aaaa\n")
    await lane.committed()
    before = await lane.git.fingerprint(lane.workspace)
    changes(lane)
    return (await lane.git.restore("WP01", lane.workspace, before, "review-1")).differed


def same_size_and_time(lane: Lane) -> None:
    path = lane.path / "a.py"
    state = path.stat()
    git(lane.path, "config", "core.trustctime", "false")
    git(lane.path, "config", "core.checkStat", "minimal")
    path.write_text("evil\n")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def same_in_the_index(lane: Lane) -> None:
    """Let the index remember an edited file as the one that it holds."""
    path = lane.path / "a.py"
    held = git(lane.path, "rev-parse", "HEAD:a.py")
    path.write_text("evil\n")
    git(lane.path, "add", "a.py")
    index = lane.root / ".git" / "worktrees" / "lane" / "index"
    evil = git(lane.path, "hash-object", "a.py")
    git(lane.path, "-c", "core.checkStat=default", "update-index", "--refresh")
    data = index.read_bytes()[:-20].replace(bytes.fromhex(evil), bytes.fromhex(held))
    index.write_bytes(data + hashlib.sha1(data, usedforsecurity=False).digest())
    git(lane.path, "update-index", "-q", "--refresh")


@pytest.mark.parametrize("edit", [same_size_and_time, same_in_the_index], ids=lambda one: one.__name__)
async def test_an_edit_that_git_takes_for_none_voids_a_review_and_is_put_back(
    lane: Lane, edit: Callable[[Lane], object]
) -> None:
    found = await reviewed(lane, edit)

    assert "a.py" in found
    assert (lane.path / "a.py").read_text() == "aaaa\n"


def hook(lane: Lane) -> None:
    lane.hook("pre-push", "evil")


def setting(lane: Lane) -> None:
    git(lane.path, "config", "alias.x", "!evil")


def merge_driver(lane: Lane) -> None:
    git(lane.path, "config", "merge.spec-kitty-event-log.driver", "evil")


def setting_of_the_worktree(lane: Lane) -> None:
    git(lane.path, "config", "extensions.worktreeConfig", "true")


def exclusion(lane: Lane) -> None:
    (lane.root / ".git" / "info" / "exclude").write_text("evil.py\n")


def attributes(lane: Lane) -> None:
    (lane.root / ".git" / "info" / "attributes").write_text("* merge=ours\n")


def alternates(lane: Lane) -> None:
    (lane.root / ".git" / "objects" / "info").mkdir(exist_ok=True)
    (lane.root / ".git" / "objects" / "info" / "alternates").write_text("/elsewhere\n")


def tag(lane: Lane) -> None:
    git(lane.path, "tag", "-f", "v1", "HEAD")


def other_branch(lane: Lane) -> None:
    git(lane.path, "update-ref", "refs/heads/release", "HEAD")


def deleted_branch(lane: Lane) -> None:
    git(lane.path, "update-ref", "-d", "refs/heads/release")


def target(lane: Lane) -> None:
    git(lane.path, "update-ref", "refs/heads/main", "HEAD")


CHANGES: dict[Callable[[Lane], None], str] = {
    hook: "git's hooks",
    setting: "git's settings",
    merge_driver: "git's settings",
    setting_of_the_worktree: "git's settings",
    exclusion: "git's own files",
    attributes: "git's own files",
    alternates: "git's own files",
    tag: "tag v1",
    other_branch: "branch release",
    deleted_branch: "branch release",
    target: "branch main",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda one: one.__name__)
async def test_a_review_that_changes_the_repository_is_void(
    lane: Lane, change: Callable[[Lane], None]
) -> None:
    git(lane.root, "branch", "release")
    git(lane.root, "tag", "v1")

    (found,) = await reviewed(lane, change)

    assert found.startswith(CHANGES[change])


async def test_a_review_that_changes_the_repository_and_takes_away_what_was_noted_of_it_is_void(
    lane: Lane,
) -> None:
    def unnoted(lane: Lane) -> None:
        hook(lane)
        for ref in git(
            lane.path, "for-each-ref", "--format=%(refname)", "refs/spec-kitty-orchestrator"
        ).splitlines():
            git(lane.path, "update-ref", "-d", ref)

    assert await reviewed(lane, unnoted) == ("what was noted of the repository",)


def host_commits(lane: Lane) -> None:
    (lane.root / "kitty-specs" / "tasks.md").write_text("- [x] T001\n")
    git(lane.root, "commit", "-q", "-am", "status")


def host_installs_its_hook_again(lane: Lane) -> None:
    lane.hook("pre-commit", "# installed at another time\nexit 0")


def others_work(lane: Lane) -> None:
    other = lane.root.parent / "other"
    git(other, "commit", "-q", "--allow-empty", "-m", "work")
    git(other, "switch", "-q", "-c", "helper")
    git(other, "branch", "new-one")


def host_registers_its_driver(lane: Lane) -> None:
    git(
        lane.root, "config", "merge.spec-kitty-event-log.driver", "spec-kitty merge-driver-event-log %O %A %B"
    )
    git(lane.root, "config", "merge.spec-kitty-event-log.name", "the host's")


def a_person_fetches(lane: Lane) -> None:
    git(lane.root, "update-ref", "refs/remotes/origin/main", "HEAD")
    git(lane.root, "config", "branch.main.remote", "origin")


@pytest.mark.parametrize(
    "change",
    [host_commits, host_installs_its_hook_again, others_work, host_registers_its_driver, a_person_fetches],
    ids=lambda one: one.__name__,
)
async def test_what_others_do_meanwhile_voids_no_review(lane: Lane, change: Callable[[Lane], None]) -> None:
    lane.hook("pre-commit", "# installed at one time\nexit 0")
    git(lane.root, "worktree", "add", "-q", "-b", "kitty/m-lane-b", str(lane.root.parent / "other"))

    assert await reviewed(lane, change) == ()
    assert git(lane.root, "rev-parse", BRANCH) != lane.base


async def test_a_second_look_after_a_crash_finds_the_same(lane: Lane) -> None:
    git(lane.root, "tag", "v1")
    lane.write("a.py", "a = 2\n")
    await lane.committed()
    before = await lane.git.fingerprint(lane.workspace)
    tag(lane)
    first = await lane.git.restore("WP01", lane.workspace, before, "review-1")

    assert first.differed
    assert await lane.git.restore("WP01", lane.workspace, before, "review-1") == first


async def test_a_fingerprint_of_an_earlier_version_is_read(lane: Lane) -> None:
    before = await lane.git.fingerprint(lane.workspace)

    before = before.rpartition(":")[0]
    assert (await lane.git.restore("WP01", lane.workspace, before, "review-1")).differed == ()
