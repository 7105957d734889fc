"""A workspace that travels to a machine and back is what it would be had the agent worked at home."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cluster.travels import BRANCH, Home, Trip, git, tree

from spec_kitty_orchestrator.cluster.shipment import Applied

Edit = Callable[[Path], object]

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.make(tmp_path)


def put(name: str, text: str) -> Edit:
    def edit(path: Path) -> None:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)

    return edit


def each(*edits: Edit) -> Edit:
    return lambda path: [one(path) for one in edits]


def commit(path: Path) -> None:
    git(path, "add", "-A")
    git(path, "commit", "-q", "--allow-empty", "-m", "work")


def run(*words: str) -> Edit:
    return lambda path: git(path, *words)


def remove(name: str) -> Edit:
    return lambda path: shutil.rmtree(path / name) if (path / name).is_dir() else (path / name).unlink()


def link(name: str, target: str) -> Edit:
    return lambda path: (path / name).symlink_to(target)


NAMES = ("ünï.txt", "with space", 'quo"te', "new\nline", "-dash", ":(glob)*", "tab\t", "*", "back\\slash")

FILES = each(
    *(put(name, name) for name in NAMES),
    lambda path: (path / os.fsdecode(b"not-\xff-utf8")).write_text("x"),
    put("1.py", "changed\n"),
    put("2.py", ""),
    remove("3.py"),
    lambda path: (path / "4.py").rename(path / "renamed.py"),
    each(remove("5.py"), put("5.py/in.txt", "a file became a folder\n")),
    each(remove("folder-1"), put("folder-1", "a folder became a file\n")),
    each(remove("folder-2"), link("folder-2", "1.py")),
    remove("folder-3"),
    link("link", "1.py"),
    link("link-to-nowhere", "/nowhere/at all"),
    each(remove("6.py"), link("6.py", "folder-4")),
    each(put("new-program", "#!/bin/sh\n"), lambda path: (path / "new-program").chmod(0o755)),
    lambda path: (path / "7.py").chmod(0o755),
    lambda path: (path / "bytes").write_bytes(bytes(range(256)) * 20),
    lambda path: (path / "line-ends.txt").write_bytes(b"a\r\nb\nc\r"),
    put("a/b/c/d/e/f", "deep"),
    each(put("8.py", "staged\n"), run("add", "8.py"), put("8.py", "and more\n")),
    run("rm", "-q", "9.py"),
    run("mv", "10.py", "moved.py"),
    each(put("new-and-staged", ""), run("add", "new-and-staged")),
)

EDITS: dict[str, Edit] = {
    "nothing": lambda _: None,
    "files": FILES,
    "a commit": each(FILES, commit),
    "an empty commit": commit,
    "commits and more": each(put("1.py", "1\n"), commit, remove("2.py"), commit, FILES, put("new", "n")),
    "a merge": each(
        *(run("checkout", "-q", "--detach"), put("one", "1\n"), commit, run("tag", "side")),
        *(run("reset", "-q", "--hard", "HEAD~1"), put("two", "2\n"), commit, run("merge", "-q", "side")),
    ),
}


@pytest.mark.parametrize("before", ["nothing", "files", "commits and more"])
async def test_what_is_in_a_workspace_is_on_the_machine(home: Home, before: str) -> None:
    EDITS[before](home.path)
    state = git(home.path, "status", "--porcelain"), git(home.path, "ls-files", "-s")
    trip = await Trip.out(home)
    assert tree(trip.there) == tree(home.path)
    assert git(trip.there, "rev-parse", "HEAD") == git(home.path, "rev-parse", "HEAD")
    assert (git(home.path, "status", "--porcelain"), git(home.path, "ls-files", "-s")) == state
    assert await trip.back() == Applied()
    assert (git(home.path, "status", "--porcelain"), git(home.path, "ls-files", "-s")) == state
    assert trip.packed is not None
    assert trip.packed.back == trip.shipment.sent


@pytest.mark.parametrize("work", EDITS)
async def test_what_an_agent_does_on_the_machine_is_in_the_workspace(home: Home, work: str) -> None:
    (home.path / "11.py").write_text("not committed\n")
    (home.path / "kept.log").write_text("ignored\n")
    trip = await Trip.out(home)
    EDITS[work](trip.there)
    assert await trip.back() == Applied()
    assert tree(home.path) == {**tree(trip.there), "kept.log": ("file", b"ignored\n")}
    assert git(home.path, "rev-parse", "HEAD") == git(trip.there, "rev-parse", "HEAD")
    assert git(home.path, "branch", "--show-current") == BRANCH
    assert await trip.apply() == Applied()
    await trip.done()
    assert "cluster" not in git(home.root, "for-each-ref")
