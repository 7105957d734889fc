import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.machine.conftest import BRANCH, Lane, git, git_fails

from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.commit_rules import HOST, MAX_FILE_BYTES, UNOWNED, CommitRules
from spec_kitty_orchestrator.machine.committer import why_not_signed
from spec_kitty_orchestrator.machine.git import Git

pytestmark = pytest.mark.asyncio


async def test_edits_new_files_and_deletions_are_committed_on_the_branch(lane: Lane) -> None:
    lane.write("a.py", "a = 2\n")
    lane.write("src/new.py")
    (lane.path / "b.py").unlink()
    evidence = await lane.committed("WP01: a subject\n\n# not a comment")
    assert evidence.base == lane.base
    assert evidence.head == git(lane.root, "rev-parse", BRANCH) != lane.base
    assert lane.files() == {"a.py", "src/new.py", "kitty-specs/tasks.md", ".gitignore"}
    assert "a.py" in evidence.stat
    assert evidence.left_out == ()
    assert (
        git(lane.path, "log", "-1", "--format=%an:%B").strip()
        == "A Person:WP01: a subject\n\n# not a comment"
    )
    assert git(lane.path, "status", "--porcelain") == ""


async def test_committing_again_changes_nothing(lane: Lane) -> None:
    lane.write("a.py", "a = 2\n")
    assert await lane.committed() == await lane.committed()


NAMES = [
    b"with space.txt",
    b"new\nline.txt",
    "umläut-ß.txt".encode(),
    b"-rf",
    b"--help",
    b":(top)x",
    b"star*[a].txt",
    b'quo"te\\.txt',
    b"latin\xe9.txt",
    b"tab\t.txt",
]


async def test_any_file_name_is_committed_exactly(lane: Lane) -> None:
    for name in NAMES:
        lane.write(name)
    lane.write("stara.txt")
    await lane.committed()
    assert {os.fsdecode(name) for name in NAMES} <= lane.files()
    assert git(lane.path, "status", "--porcelain") == ""


async def test_a_folder_replaced_by_a_symlink_and_a_file_by_a_folder_are_committed(lane: Lane) -> None:
    lane.write("dir/x.txt")
    await lane.committed()
    (lane.path / "dir" / "x.txt").unlink()
    (lane.path / "dir").rmdir()
    (lane.path / "dir").symlink_to("elsewhere")
    (lane.path / "a.py").unlink()
    lane.write("a.py/inner.py")
    await lane.committed()
    assert {"dir", "a.py/inner.py"} <= lane.files()
    assert git(lane.path, "status", "--porcelain") == ""


FORBIDDEN = [
    ".env",
    ".env.local",
    "deep/.ENV.production",
    "id_rsa",
    "keys/server.pem",
    "store.p12",
    ".kittify/x.json",
    "kitty-specs/note.md",
    ".claude/settings.json",
    ".codex/log",
    ".aider.chat.history.md",
    ".mybot/memory",
]


@pytest.mark.parametrize("staged", [False, True], ids=["untracked", "staged by the agent"])
async def test_what_must_never_be_committed_is_left_out_and_reported(lane: Lane, staged: bool) -> None:
    for name in FORBIDDEN:
        lane.write(name)
    lane.write("kitty-specs/tasks.md", "- [x] T001\n")
    lane.write("ok.py")
    (lane.path / "big.bin").write_bytes(b"\0" * (MAX_FILE_BYTES + 1))
    (lane.path / "fits.bin").write_bytes(b"\0" * MAX_FILE_BYTES)
    if staged:
        git(lane.path, "add", "-A", "-f")
    evidence = await lane.committed()
    assert lane.files() == lane.files(lane.base) | {"ok.py", "fits.bin"}
    assert git(lane.path, "show", "HEAD:kitty-specs/tasks.md") == "- [ ] T001"
    left_out = {entry.split(": ")[0]: entry.split(": ")[1] for entry in evidence.left_out}
    assert set(left_out) == {*FORBIDDEN, "big.bin", "kitty-specs/tasks.md"}
    assert left_out["big.bin"] == "larger than 5 MB"
    assert all((lane.path / name).exists() for name in left_out)


OWNED = """---
work_package_id: WP01
owned_files:
- "src/**"
- kitty-specs/m/plan.md
- kitty-specs/m/contracts/**   # of the interface
- kitty-specs/m/tasks/**
- kitty-specs/m/status.json
- .kittify/glossaries/words.yaml
- .kittify/orchestrator.toml
- '**/*'
---
"""


@pytest.mark.parametrize("commits", [False, True], ids=["left to us", "committed by the agent"])
async def test_of_the_hosts_folders_a_commit_holds_what_the_work_package_owns_and_the_host_does_not_keep(
    lane: Lane, tmp_path: Path, commits: bool
) -> None:
    task = tmp_path / "WP01.md"
    task.write_text(OWNED)
    lane.workspace = replace(lane.workspace, prompt_path=str(task))
    folder = "kitty-specs/m"
    own = {f"{folder}/plan.md", f"{folder}/contracts/deep/api.md", ".kittify/glossaries/words.yaml", "ok.py"}
    kept = {f"{folder}/tasks/WP01.md", f"{folder}/status.json", ".kittify/orchestrator.toml"}
    others = {f"{folder}/spec.md", "kitty-specs/other/plan.md", ".kittify/glossaries/others.yaml"}
    for name in own | kept | others:
        lane.write(name)
    if commits:
        git(lane.path, "add", "-A")
        git(lane.path, "commit", "-q", "-m", "by the agent")
        told = await lane.refused()
        assert all(f"committed by the agent: {name}: " in told for name in kept | others)
        assert not any(name in told for name in own)
        git(lane.path, "reset", "-q", "--soft", lane.base)
        git(lane.path, "restore", "--staged", "--", *kept, *others)
    evidence = await lane.committed()
    assert lane.files() == lane.files(lane.base) | own
    reasons = dict(one.split(": ", 1) for one in evidence.left_out)
    assert reasons == dict.fromkeys(kept, HOST) | dict.fromkeys(others, UNOWNED)


@pytest.mark.parametrize(
    "name", ["environment.py", "src/env.py", "keyboard.py", "docs/.claude-notes.md", "a.pub"]
)
async def test_harmless_names_may_be_committed(name: str) -> None:
    assert CommitRules().by_name(name) == ""


async def test_commits_of_the_agent_s_own_are_the_evidence(lane: Lane) -> None:
    lane.write("a.py", "a = 2\n")
    git(lane.path, "commit", "-q", "-am", "by the agent")
    head = git(lane.path, "rev-parse", "HEAD")
    evidence = await lane.committed()
    assert evidence.head == head
    lane.write("rest.py")
    assert (await lane.committed()).head != head
    assert git(lane.path, "rev-parse", "HEAD^") == head


@pytest.mark.parametrize("name", [".env", "kitty-specs/tasks.md", ".kittify/x", ".claude/x", "big.bin"])
async def test_what_the_agent_must_not_have_committed_is_refused_until_it_is_taken_out(
    lane: Lane, name: str
) -> None:
    lane.write(name, "x" * (MAX_FILE_BYTES + 1) if name == "big.bin" else "x")
    lane.write("ok.py")
    git(lane.path, "add", "-f", "-A")
    git(lane.path, "commit", "-q", "-m", "too much")
    message = await lane.refused()
    assert f"committed by the agent: {name}: " in message
    assert f"git reset --soft {lane.base}" in message
    git(lane.path, "reset", "--soft", lane.base)
    git(lane.path, "restore", "--staged", "--", name)
    await lane.committed()
    assert "ok.py" in lane.files()


@pytest.mark.parametrize("commits", [False, True], ids=["left to us", "committed by the agent"])
async def test_a_tracked_file_among_agents_own_is_the_projects_and_may_be_changed(
    lane: Lane, commits: bool
) -> None:
    lane.write(".claude/commands/plan.md", "old")
    git(lane.path, "add", "-f", ".claude")
    git(lane.path, "commit", "-q", "-m", "by a person")
    lane.base = git(lane.path, "rev-parse", "HEAD")
    lane.write(".claude/commands/plan.md", "new")
    if commits:
        git(lane.path, "commit", "-q", "-am", "by the agent")
    lane.write(".claude/settings.local.json", "of the agent's own")
    evidence = await lane.committed()
    assert git(lane.path, "show", "HEAD:.claude/commands/plan.md") == "new"
    assert evidence.left_out == (".claude/settings.local.json: the agent's own files",)


async def test_a_secret_that_a_later_commit_deletes_is_still_refused(lane: Lane) -> None:
    lane.write(".env", "TOKEN=1\n")
    git(lane.path, "add", "-A")
    git(lane.path, "commit", "-q", "-m", "leak")
    git(lane.path, "rm", "-q", ".env")
    git(lane.path, "commit", "-q", "-m", "hide")
    assert ".env" in await lane.refused()


async def test_what_a_merge_brings_in_is_not_held_against_the_agent(lane: Lane) -> None:
    (lane.root / "kitty-specs" / "tasks.md").write_text("- [x] T001\n")
    git(lane.root, "commit", "-q", "-am", "status")
    lane.write("a.py", "a = 2\n")
    git(lane.path, "commit", "-q", "-am", "work")
    git(lane.path, "merge", "-q", "--no-edit", "main")
    await lane.committed()


async def test_work_on_another_branch_is_refused_with_commands_that_bring_it_home(lane: Lane) -> None:
    git(lane.path, "switch", "-q", "-c", "mine")
    lane.write("a.py", "a = 2\n")
    git(lane.path, "commit", "-q", "-am", "elsewhere")
    head = git(lane.path, "rev-parse", "HEAD")
    message = await lane.refused()
    assert "on branch mine" in message
    for command in (f"git switch {BRANCH}", f"git merge --ff-only {head}"):
        assert f"`{command}`" in message
        git(lane.path, *command.split(" ")[1:])
    assert (await lane.committed()).head == head


async def test_work_on_a_detached_head_is_refused_with_commands_that_bring_it_home(lane: Lane) -> None:
    lane.write("first.py")
    await lane.committed()
    git(lane.path, "switch", "-q", "--detach", lane.base)
    lane.write("a.py", "a = 2\n")
    git(lane.path, "commit", "-q", "-am", "elsewhere")
    message = await lane.refused()
    assert "detached at" in message
    tip = git(lane.path, "rev-parse", BRANCH)
    assert f"`git cherry-pick {tip}..{git(lane.path, 'rev-parse', 'HEAD')}`" in message
    assert git(lane.path, "rev-parse", BRANCH) == tip


async def test_a_branch_that_lost_the_work_of_others_is_refused(lane: Lane) -> None:
    git(lane.path, "switch", "-q", "--orphan", "fresh")
    lane.write("a.py")
    git(lane.path, "add", "a.py")
    git(lane.path, "commit", "-q", "-m", "anew")
    git(lane.path, "branch", "-M", BRANCH)
    assert f"no longer contains {lane.base}" in await lane.refused()


async def test_a_merge_under_way_is_refused(lane: Lane) -> None:
    (lane.root / "a.py").write_text("a = 3\n")
    git(lane.root, "commit", "-q", "-am", "other")
    lane.write("a.py", "a = 2\n")
    git(lane.path, "commit", "-q", "-am", "work")
    git_fails(lane.path, "merge", "main")
    assert "A merge is under way" in await lane.refused()


async def test_a_failing_hook_goes_back_to_the_implementer_with_its_output(lane: Lane) -> None:
    lane.hook("pre-commit", "echo E501 line too long >&2; exit 1")
    lane.write("a.py", "a = 2\n")
    message = await lane.refused()
    assert "E501 line too long" in message
    assert git(lane.path, "rev-parse", "HEAD") == lane.base
    lane.hook("pre-commit", "exit 0")
    await lane.committed()


async def test_what_a_hook_changes_is_committed_too(lane: Lane) -> None:
    lane.hook("pre-commit", "echo formatted > a.py; exit 0")
    lane.write("b.py", "b = 2\n")
    await lane.committed()
    assert git(lane.path, "show", "HEAD:a.py") == "formatted"


async def test_a_daemon_that_a_hook_leaves_behind_is_ended(lane: Lane, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    lane.hook("pre-commit", f"setsid cat '{fifo}' & exit 0")
    lane.write("a.py", "a = 2\n")
    await lane.committed()
    with pytest.raises(OSError, match="No such device"):  # nobody reads it
        os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)


async def test_nothing_to_commit_makes_no_commit_unless_there_is_a_reason(lane: Lane) -> None:
    evidence = await lane.committed()
    assert evidence.head == lane.base
    evidence = await lane.committed(empty_reason="it was there already")
    assert evidence.head != lane.base
    assert "it was there already" in git(lane.path, "log", "-1", "--format=%B")
    assert (await lane.committed(empty_reason="it was there already")).head == evidence.head


async def test_without_an_identity_the_commit_is_in_our_name(
    lane: Lane, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("EMAIL", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    git(lane.root, "config", "--unset", "user.name")
    git(lane.root, "config", "--unset", "user.email")
    lane.write("a.py", "a = 2\n")
    await lane.committed()
    assert git(lane.path, "log", "-1", "--format=%an") == "spec-kitty-orchestrator"


async def test_text_that_git_cannot_hold_is_made_harmless(lane: Lane) -> None:
    lane.write("a.py", "a = 2\n")
    await lane.committed("WP01: \udcff and \0 end")
    assert git(lane.path, "log", "-1", "--format=%s") == "WP01: ? and  end"


async def test_git_variables_of_an_outer_git_are_ignored(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    lane.write("a.py", "a = 2\n")
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nonexistent/index")
    evidence = await lane.committed()
    monkeypatch.undo()
    assert evidence.head == git(lane.path, "rev-parse", "HEAD")


NO_TERMINAL = "gpg: signing failed: Inappropriate ioctl for device"


def sign_without_a_terminal(lane: Lane) -> None:
    gpg = lane.root.parent / "gpg"
    gpg.write_text(f"#!/bin/sh\necho '{NO_TERMINAL}' >&2\nexit 2\n")
    gpg.chmod(0o755)
    git(lane.root, "config", "commit.gpgsign", "true")
    git(lane.root, "config", "gpg.program", str(gpg))


def hold_the_branch(lane: Lane) -> None:
    path = lane.root / ".git/refs/heads" / f"{BRANCH}.lock"
    path.touch()


def lose_the_objects_in_a_hook(lane: Lane) -> None:
    lane.hook(
        "pre-commit", f"mv '{lane.root}/.git/objects' '{lane.root}/aside'; : >'{lane.root}/.git/objects'"
    )


def put_objects_back(lane: Lane) -> None:
    if (aside := lane.root / "aside").exists():
        (lane.root / ".git/objects").unlink()
        aside.rename(lane.root / ".git/objects")


@pytest.mark.parametrize("hooks", [False, True], ids=["without hooks", "with a hook that agrees"])
@pytest.mark.parametrize(
    ("break_it", "cause"),
    [
        (sign_without_a_terminal, "failed to sign the data.*unlock the key"),
        (hold_the_branch, r"lane-a\.lock': File exists.*remove the lock file"),
        (lose_the_objects_in_a_hook, "failed in"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_what_the_machine_fails_at_is_no_refusal_and_leaves_the_work_where_it_was(
    lane: Lane, hooks: bool, break_it: Callable[[Lane], None], cause: str
) -> None:
    lane.write("a.py", "a = 2\n")
    lane.write("new.py")
    if hooks:
        lane.hook("pre-commit", "exit 0")
    break_it(lane)
    with pytest.raises(WorkspaceError, match=cause) as raised:
        await lane.commit()
    assert "\n" not in str(raised.value)
    put_objects_back(lane)
    assert git(lane.path, "rev-parse", "HEAD") == lane.base
    assert (lane.path / "a.py").read_text() == "a = 2\n"
    assert (lane.path / "new.py").exists()


async def test_once_the_machine_is_mended_the_same_work_is_committed(lane: Lane) -> None:
    lane.write("new.py")
    sign_without_a_terminal(lane)
    with pytest.raises(WorkspaceError):
        await lane.commit()
    git(lane.root, "config", "commit.gpgsign", "false")
    await lane.committed()
    assert "new.py" in lane.files()


@pytest.mark.parametrize(
    "words", ["No space left on device", "index.lock is in your way", "gpg failed to sign"]
)
async def test_a_hook_that_speaks_of_the_machine_is_a_hook_all_the_same(lane: Lane, words: str) -> None:
    lane.hook("pre-commit", f"echo '{words}' >&2; exit 1")
    lane.write("a.py", "a = 2\n")
    assert words in await lane.refused()


async def test_signing_is_tried_where_it_is_asked_for_and_changes_nothing(lane: Lane) -> None:
    assert await why_not_signed(Git(lane.root)) == ""
    sign_without_a_terminal(lane)
    before = sorted((lane.root / ".git").rglob("*"))
    assert "failed to sign" in await why_not_signed(Git(lane.root))
    assert sorted((lane.root / ".git").rglob("*")) == before


async def test_commits_with_the_same_content_have_the_same_tree(lane: Lane) -> None:
    lane.write("a.py", "a = 2\n")
    first = await lane.committed()
    lane.write("a.py", "a = 3\n")
    other = await lane.committed()
    lane.write("a.py", "a = 2\n")
    again = await lane.committed()
    assert first.head != again.head
    assert first.tree == again.tree != other.tree


async def test_a_tag_that_is_named_like_the_branch_is_not_in_the_way(lane: Lane) -> None:
    git(lane.path, "tag", BRANCH)
    lane.write("a.py", "a = 2\n")
    evidence = await lane.committed()
    assert git(lane.path, "rev-parse", f"refs/heads/{BRANCH}") == evidence.head
    assert (await lane.git.state(lane.workspace)).branch == BRANCH
