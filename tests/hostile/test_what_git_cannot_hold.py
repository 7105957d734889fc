"""Repositories inside a worktree, large files and unreadable ones: said in time, and never lost."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from tests.machine.conftest import Lane, git

from spec_kitty_orchestrator.core.model import Rescue
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.ports import Restored

pytestmark = pytest.mark.asyncio

LARGE = 6_000_000


def repository(path: Path, *, commits: bool = True) -> None:
    path.mkdir(parents=True, exist_ok=True)
    git(path, "init", "-q", "-b", "main")
    git(path, "config", "user.name", "Other")
    git(path, "config", "user.email", "other@example.org")
    (path / "main.py").write_text("work = 1\n")
    if commits:
        git(path, "add", "-A")
        git(path, "commit", "-q", "-m", "scaffold")


@pytest.fixture
def library(lane: Lane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A submodule at vendor/lib, checked out in the lane's worktree."""
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "file")
    origin = tmp_path / "library"
    repository(origin)
    git(lane.path, "submodule", "--quiet", "add", str(origin), "vendor/lib")
    git(lane.path, "config", "--file", ".gitmodules", "submodule.vendor/lib.ignore", "all")
    git(lane.path, "add", "-A")
    git(lane.path, "commit", "-q", "-m", "by a person")
    lane.base = git(lane.path, "rev-parse", "HEAD")
    inside = lane.path / "vendor" / "lib"
    git(inside, "config", "user.name", "Other")
    git(inside, "config", "user.email", "other@example.org")
    return inside


async def restore(lane: Lane, fingerprint: str) -> Restored:
    with anyio.fail_after(60):
        return await lane.git.restore("WP01", lane.workspace, fingerprint, "3-review")


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def moved(found: Rescue) -> list[Path]:
    return [Path(one) for one in found.aside]


async def rescue(lane: Lane) -> Rescue:
    with anyio.fail_after(60):
        return await lane.git.rescue("WP01", lane.workspace, "parked-1")


@pytest.mark.parametrize("commits", [False, True], ids=["without a commit", "with a commit"])
async def test_a_repository_inside_is_refused_until_its_files_are_the_work_package_s(
    lane: Lane, commits: bool
) -> None:
    repository(lane.path / "src" / "app", commits=commits)
    lane.write("src/index.py")
    assert "src/app/ is a git repository of its own" in await lane.refused()
    assert git(lane.path, "rev-parse", "HEAD") == lane.base
    git(lane.path, "-c", "core.hooksPath=/dev/null", "status")
    (lane.path / "src/app/.git").rename(lane.root.parent / "away.git")
    await lane.committed()
    assert {"src/app/main.py", "src/index.py"} <= lane.files()


async def test_a_repository_inside_a_cache_or_an_agent_s_own_folder_is_left_out(lane: Lane) -> None:
    repository(lane.path / "node_modules" / "dependency")
    repository(lane.path / ".codex" / "plugin")
    lane.write("ok.py")
    evidence = await lane.committed()
    assert evidence.left_out == (
        ".codex/plugin/: the agent's own files",
        "node_modules/: can be made again by the tool that made it",
    )


@pytest.mark.parametrize("how", ["committed", "staged"])
async def test_a_pointer_to_a_repository_that_nobody_else_has_is_refused(lane: Lane, how: str) -> None:
    repository(lane.path / "app")
    git(lane.path, "-c", "advice.addEmbeddedRepo=false", "add", "-A")
    if how == "committed":
        git(lane.path, "commit", "-q", "-m", "mine")
    expected = "app is recorded as commit" if how == "committed" else "app/ is a git repository of its own"
    assert expected in await lane.refused()
    if how == "committed":
        git(lane.path, "rm", "-q", "--cached", "--force", "app")
    (lane.path / "app/.git").rename(lane.root.parent / "away.git")
    await lane.committed()
    assert "app/main.py" in lane.files()


async def test_a_submodule_at_a_commit_of_its_own_is_refused_until_others_have_it(
    lane: Lane, library: Path, tmp_path: Path
) -> None:
    (library / "evil.py").write_text("x")
    git(library, "add", "-A")
    git(library, "commit", "-q", "-m", "local")
    assert "vendor/lib is recorded as commit" in await lane.refused()
    git(lane.path, "commit", "-q", "--no-verify", "-m", "moved", "--", "vendor/lib")
    assert "no remote of it holds" in await lane.refused()
    git(library, "push", "-q", "origin", "HEAD:refs/heads/topic")
    evidence = await lane.committed()
    assert git(lane.path, "rev-parse", f"{evidence.head}:vendor/lib") == git(library, "rev-parse", "HEAD")


async def test_edits_inside_a_submodule_are_refused_and_caches_in_it_are_not(
    lane: Lane, library: Path
) -> None:
    (library / "__pycache__").mkdir()
    (library / "__pycache__" / "main.pyc").write_text("x")
    lane.write("ok.py")
    await lane.committed()
    (library / "main.py").write_text("work = 2\n")
    (library / "new.py").write_text("x")
    message = await lane.refused()
    assert "vendor/lib is a submodule, and changes in it (main.py, new.py)" in message
    for command in ("restore --staged --worktree .", "clean -d --force"):
        assert f"`git -C vendor/lib {command}`" in message
        git(library, *command.split(" "))
    await lane.committed()


async def test_a_new_submodule_that_others_can_fetch_is_committed(
    lane: Lane, library: Path, tmp_path: Path
) -> None:
    git(lane.path, "submodule", "--quiet", "add", str(tmp_path / "library"), "vendor/second")
    evidence = await lane.committed()
    assert evidence.left_out == ()
    assert git(lane.path, "ls-tree", "HEAD", "vendor/second").startswith("160000")
    assert git(lane.path, "status", "--porcelain") == ""


async def test_a_rescue_moves_aside_what_git_cannot_hold_and_names_it(lane: Lane, library: Path) -> None:
    repository(lane.path / "app")
    (lane.path / "core.1234").write_bytes(os.urandom(LARGE))
    lane.write("a.py", "a = 2\n")
    (library / "main.py").write_text("work = 'edited'\n")
    (library / "local.py").write_text("local")
    git(library, "add", "local.py")
    git(library, "commit", "-q", "-m", "only here")
    found = await rescue(lane)
    place = lane.root / ".kittify" / "set-aside" / "m" / "WP01" / "parked-1"
    assert found.aside == (f"{place}/app", f"{place}/core.1234", f"{place}/vendor/lib")
    assert (place / "app" / "main.py").read_text() == "work = 1\n"
    assert (place / "core.1234").stat().st_size == LARGE
    assert (place / "vendor/lib/main.py").read_text() == "work = 'edited'\n"
    assert git(lane.root, "show", f"{found.refs[0]}:a.py") == "a = 2"
    assert git(lane.path, "status", "--porcelain", "--ignore-submodules=none") == ""
    assert git(lane.root, "status", "--porcelain") == ""
    # With the worktree git deletes the submodule's own repository.
    git(lane.root, "worktree", "remove", "--force", str(lane.path))
    assert git(place / "vendor/lib", "show", "HEAD:local.py") == "local"
    assert "main.py" in git(place / "vendor/lib", "status", "--porcelain")
    assert "core.1234" not in git(lane.root, "ls-tree", "-r", "--name-only", found.refs[0])


async def test_a_second_rescue_of_the_same_name_takes_another_place(lane: Lane) -> None:
    for text in ("one", "two"):
        repository(lane.path / "app")
        (lane.path / "app" / "main.py").write_text(text)
        found = await rescue(lane)
        assert (moved(found)[0] / "main.py").read_text() == text
    assert found.aside[0].endswith("/parked-1-2/app")


async def test_a_pointer_that_was_parked_with_its_repository_leaves_the_repository_aside(lane: Lane) -> None:
    repository(lane.path / "app")
    git(lane.path, "-c", "advice.addEmbeddedRepo=false", "add", "-A")
    git(lane.path, "commit", "-q", "-m", "mine")
    found = await rescue(lane)
    assert (moved(found)[0] / "main.py").exists()


async def test_a_copy_says_what_it_lacks_and_leaves_it_in_place(lane: Lane) -> None:
    repository(lane.path / "app")
    (lane.path / "large").write_bytes(b"\0" * LARGE)
    lane.write("a.py", "a = 2\n")
    found = await lane.git.keep("WP01", lane.workspace, "before-2")
    assert found.lacking == (f"{lane.path}/app", f"{lane.path}/large")
    assert git(lane.root, "show", f"{found.refs[0]}:a.py") == "a = 2"
    assert (lane.path / "app" / "main.py").exists()
    assert (lane.path / "large").exists()


async def test_large_untracked_files_are_compared_and_never_stored(lane: Lane) -> None:
    large = lane.path / "core.1234"
    large.write_bytes(os.urandom(LARGE))
    os.truncate(large, 5 * 1000**3)
    fingerprint = await lane.git.fingerprint(lane.workspace)
    assert await restore(lane, fingerprint) == Restored()
    assert sum(path.stat().st_size for path in (lane.root / ".git/objects").rglob("*")) < LARGE
    fingerprint = await lane.git.fingerprint(lane.workspace)
    times = large.stat()
    with large.open("r+b") as file:
        file.write(b"changed")
    os.utime(large, ns=(times.st_atime_ns, times.st_mtime_ns))
    found = await restore(lane, fingerprint)
    assert found.differed == ("core.1234",)
    assert found.rescued.lacking == ("core.1234",)
    assert large.exists()


async def test_what_a_reviewer_leaves_that_git_cannot_hold_is_found_and_moved_aside(lane: Lane) -> None:
    (lane.path / "large").write_bytes(b"\0" * LARGE)
    lane.write(".venv/pyvenv.cfg")
    lane.write(".venv/lib/x.py")
    fingerprint = await lane.git.fingerprint(lane.workspace)
    repository(lane.path / "tests")
    (lane.path / "more").write_bytes(b"\0" * LARGE)
    lane.write("a.py", "a = 2\n")
    found = await restore(lane, fingerprint)
    assert found.differed == ("a.py", "more", "tests/")
    assert [one.name for one in moved(found.rescued) if one.exists()] == ["more", "tests"]
    assert len(found.rescued.refs) == 1
    assert (lane.path / "large").stat().st_size == LARGE
    assert (lane.path / ".venv/lib/x.py").exists()
    assert not (lane.path / "tests").exists()


async def test_a_reviewer_s_changes_inside_a_repository_are_found(lane: Lane, library: Path) -> None:
    fingerprint = await lane.git.fingerprint(lane.workspace)
    git(library, "status")
    assert (await restore(lane, fingerprint)).differed == ()
    (library / "conftest.py").write_text("planted")
    assert (await restore(lane, fingerprint)).differed == ("vendor/lib/",)


async def test_a_reviewer_may_check_out_a_submodule(lane: Lane, library: Path) -> None:
    empty(library)
    fingerprint = await lane.git.fingerprint(lane.workspace)
    git(lane.path, "submodule", "--quiet", "update")
    assert (await restore(lane, fingerprint)).differed == ()


async def test_a_rescue_stores_what_git_would_convert_or_refuse_byte_for_byte(lane: Lane) -> None:
    git(lane.root, "config", "core.autocrlf", "input")
    git(lane.root, "config", "core.safecrlf", "true")
    git(lane.root, "config", "filter.broken.clean", "/nonexistent/filter")
    git(lane.root, "config", "filter.broken.required", "true")
    lane.write(".gitattributes", "*.u working-tree-encoding=UTF-16\n*.f filter=broken\n")
    contents = {
        "crlf.txt": b"a\r\nb\r\n",
        "text.u": b"no mark",
        "x.f": b"raw",
        'quo"te\n': b"\r\n",
        '"q': b"q",
    }
    for name, data in contents.items():
        (lane.path / name).write_bytes(data)
    (lane.path / "run.sh").write_text("#!/bin/sh\n")
    (lane.path / "run.sh").chmod(0o755)
    fingerprint = await lane.git.fingerprint(lane.workspace)
    assert (await restore(lane, fingerprint)).differed == ()
    found = await rescue(lane)
    for name, data in contents.items():
        saved = lane.root / "saved"
        saved.write_bytes(b"")
        git(lane.root, "cat-file", "-e", f"{found.refs[0]}:{name}")
        assert git(lane.root, "cat-file", "blob", f"{found.refs[0]}:{name}") == os.fsdecode(
            data
        ).removesuffix("\n")
    assert git(lane.root, "ls-tree", found.refs[0], "run.sh").startswith("100755")
    assert git(lane.path, "status", "--porcelain") == ""


async def test_an_unreadable_file_is_refused_named_and_moved_aside(lane: Lane) -> None:
    lane.write("out/data/f", "x")
    lane.write("ok.py")
    (lane.path / "out/data/f").chmod(0)
    (lane.path / "out/data").chmod(0o555)
    if os.access(lane.path / "out/data/f", os.R_OK):
        pytest.skip("who runs this can read everything")
    lane.write("closed/work.py")
    (lane.path / "closed").chmod(0)
    message = await lane.refused()
    assert "closed/: a folder that cannot be opened" in message
    assert "out/data/f: " in message
    assert "Permission denied" in message
    found = await rescue(lane)
    assert git(lane.root, "show", f"{found.refs[0]}:ok.py") == "new"
    assert [one.name for one in moved(found)] == ["closed", "f"]
    assert git(lane.path, "status", "--porcelain") == ""


async def test_a_repository_inside_names_no_program_that_fetches_what_it_lacks(
    lane: Lane, tmp_path: Path
) -> None:
    inside = lane.path / "tool"
    repository(inside, commits=False)
    ran = tmp_path / "ran"
    git(inside, "config", "core.repositoryFormatVersion", "1")
    git(inside, "config", "extensions.partialClone", "there")
    git(inside, "config", "remote.there.url", str(tmp_path))
    git(inside, "config", "remote.there.promisor", "true")
    git(inside, "config", "remote.there.uploadPack", f"touch {ran}; false")
    (inside / ".git" / "refs" / "heads" / "main").write_text(f"{'1' * 40}\n")
    await lane.git.fingerprint(lane.workspace)
    await rescue(lane)
    assert not ran.exists()


async def test_a_submodule_names_no_program_that_fetches_what_it_lacks(
    lane: Lane, library: Path, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    git(library, "config", "core.repositoryFormatVersion", "1")
    git(library, "config", "extensions.partialClone", "origin")
    git(library, "config", "remote.origin.promisor", "true")
    git(library, "config", "remote.origin.uploadPack", f"touch {ran}; false")
    objects = Path(git(library, "rev-parse", "--path-format=absolute", "--git-path", "objects"))
    empty(objects)
    # It may say what it likes of such a repository.
    with suppress(WorkspaceError):
        await lane.commit()
    await lane.git.fingerprint(lane.workspace)
    assert not ran.exists()


async def test_edits_in_a_submodule_stay_where_a_person_lets_git_work_on_submodules_too(
    lane: Lane, library: Path
) -> None:
    git(lane.path, "config", "submodule.recurse", "true")
    fingerprint = await lane.git.fingerprint(lane.workspace)
    (library / "main.py").write_text("work = 2\n")
    lane.write("a.py", "changed\n")
    found = await restore(lane, fingerprint)
    assert "vendor/lib/" in found.differed
    assert (library / "main.py").read_text() == "work = 2\n"


@pytest.mark.parametrize("place", ["its settings", "a file that they include", "those of its worktree"])
async def test_a_submodule_names_no_program_that_reads_its_files(
    lane: Lane, library: Path, tmp_path: Path, place: str
) -> None:
    ran = tmp_path / "ran"
    own = Path(git(library, "rev-parse", "--absolute-git-dir"))
    name = {"its settings": "config", "those of its worktree": "config.worktree"}.get(place, "more")
    git(library, "config", "include.path", "more")
    git(library, "config", "extensions.worktreeConfig", "true")
    git(library, "config", "--file", str(own / name), "filter.e=vil.clean", f"touch {ran}; cat")
    await anyio.Path(own, "info").mkdir(exist_ok=True)
    await anyio.Path(own, "info", "attributes").write_text("* filter=e=vil\n")
    await anyio.Path(library, "main.py").write_text("work = 2\n")
    assert "is a submodule, and changes in it (main.py)" in await lane.refused()
    assert not ran.exists()


async def test_what_was_moved_aside_before_a_crash_is_named_by_the_next_look(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = await lane.git.fingerprint(lane.workspace)
    repository(lane.path / "tool")

    async def killed(*_: object) -> None:
        raise KeyError

    with monkeypatch.context() as patch:
        patch.setattr("spec_kitty_orchestrator.machine.rescue.put_back", killed)
        with pytest.raises(KeyError):
            await restore(lane, fingerprint)
    (place,) = moved((await restore(lane, fingerprint)).rescued)
    assert await anyio.Path(place, "tool", "main.py").exists()
