"""A workspace that travels to a machine and back is what it would be had the agent worked at home."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.cluster.travels import BRANCH, Home, Trip, git, tree

from spec_kitty_orchestrator.cluster.shipment import Applied

Edit = Callable[[Path], object]

pytestmark = pytest.mark.anyio


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


async def test_git_says_on_the_machine_what_it_says_at_home(home: Home) -> None:
    FILES(home.path)
    trip = await Trip.out(home)
    status = ("status", "--porcelain", "--untracked-files=all", "--no-renames")
    staged = ("reset", "-q")
    git(home.path, *staged)
    assert git(trip.there, *status) == git(home.path, *status)
    assert git(trip.there, "log", "--format=%H") == git(home.path, "log", "--format=%H")
    assert git(trip.there, "branch", "--show-current") == ""


async def test_an_agent_on_a_machine_commits_under_the_name_that_it_has_at_home(home: Home) -> None:
    git(home.root, "config", "user.name", 'A "Person" \\ of\tnote')
    trip = await Trip.out(home)
    put("new", "")(trip.there)
    commit(trip.there)
    await trip.back()
    assert git(home.path, "log", "-1", "--format=%an <%ae>") == 'A "Person" \\ of\tnote <person@example.org>'


async def test_what_is_ignored_neither_travels_nor_is_touched(home: Home) -> None:
    (home.root / ".git" / "info" / "exclude").write_text("private/\n")
    ignored = ("x.log", "build/x", "private/x")
    for name in ignored:
        put(name, "at home")(home.path)
    trip = await Trip.out(home)
    assert not tree(trip.there).keys() & set(ignored)
    for name in ("y.log", "build/x", "private/x"):
        put(name, "there")(trip.there)
    assert await trip.back() == Applied()
    assert [(home.path / name).read_text() for name in ignored] == ["at home"] * 3
    assert not (home.path / "y.log").exists()


async def test_what_may_hold_secrets_stays_at_home_and_is_named(home: Home) -> None:
    put(".env", "TOKEN=x\n")(home.path)
    put("notes", "-----BEGIN OPENSSH PRIVATE KEY-----\n")(home.path)
    put(".env.example", "TOKEN=\n")(home.path)
    trip = await Trip.out(home)
    assert {".env", "notes"} & tree(trip.there).keys() == set()
    assert ".env.example" in tree(trip.there)
    assert sorted(trip.shipment.withheld) == [".env: may hold secrets", "notes: may hold secrets"]
    put("new", "")(trip.there)
    assert await trip.back() == Applied()
    assert (home.path / ".env").read_text() == "TOKEN=x\n"


async def test_what_an_agent_puts_beside_a_secret_of_its_own_comes_back_once_and_again(home: Home) -> None:
    trip = await Trip.out(home)
    put(".env", "MADE=there\n")(trip.there)
    assert await trip.back() == Applied()
    assert await trip.apply() == Applied()
    assert (home.path / ".env").read_text() == "MADE=there\n"


async def test_a_repository_in_the_workspace_is_named_and_stays_where_it_is(home: Home) -> None:
    trip = await Trip.out(home)
    git(trip.there, "init", "-q", "inner")
    put("inner/x", "x")(trip.there)
    put("new", "")(trip.there)
    assert await trip.back() == Applied()
    assert trip.packed is not None
    assert trip.packed.left == ("inner/: a repository of its own",)
    assert (home.path / "new").exists()
    assert not (home.path / "inner").exists()
    await trip.done()
    assert (trip.there / "inner" / "x").exists()


async def test_a_submodule_travels_as_the_name_of_its_commit(home: Home) -> None:
    sha = git(home.path, "rev-parse", "HEAD")
    put(".gitmodules", '[submodule "sub"]\n\tpath = sub\n\turl = https://example.org/sub\n')(home.path)
    (home.path / "sub").mkdir()
    git(home.path, "update-index", "--add", "--cacheinfo", f"160000,{sha},sub")
    git(home.path, "add", ".gitmodules")
    git(home.path, "commit", "-q", "-m", "a submodule")
    trip = await Trip.out(home)
    assert list((trip.there / "sub").iterdir()) == []
    put("new", "")(trip.there)
    assert await trip.back() == Applied()
    assert f"160000 {sha}" in git(home.path, "ls-files", "-s", "sub")
    assert git(trip.there, "status", "--porcelain") == "?? new"


async def test_what_a_sparse_checkout_leaves_out_is_left_out_on_the_machine_too(home: Home) -> None:
    git(home.path, "sparse-checkout", "set", "--no-cone", "/*", "!/folder-1/a.py", "!/2.py")
    put("1.py", "not committed\n")(home.path)
    trip = await Trip.out(home)
    assert tree(trip.there) == tree(home.path)
    assert "2.py" not in tree(home.path)
    assert git(trip.there, "status", "--porcelain") == git(home.path, "status", "--porcelain") == " M 1.py"
    commit(trip.there)
    put("3.py", "more\n")(trip.there)
    assert await trip.back() == Applied()
    assert git(home.path, "status", "--porcelain") == " M 3.py"
    assert tree(trip.there) == tree(home.path)
    assert git(home.path, "ls-tree", "--name-only", "HEAD", "2.py") == "2.py"
    trip = await Trip.out(home)
    assert git(trip.there, "status", "--porcelain") == " M 3.py"
    assert tree(trip.there) == tree(home.path)


async def test_line_ends_and_encodings_are_those_that_git_makes(home: Home) -> None:
    put(".gitattributes", "*.dos text eol=crlf\n*.u text working-tree-encoding=UTF-16\n")(home.path)
    put("old.dos", "a\n")(home.path)
    git(home.path, "add", "-A")
    git(home.path, "commit", "-q", "-m", "attributes")
    trip = await Trip.out(home)
    assert (trip.there / "old.dos").read_bytes() == b"a\r\n"
    (trip.there / "new.dos").write_bytes(b"n\r\n")
    (trip.there / "new.u").write_bytes("n\n".encode("utf-16"))
    commit(trip.there)
    (trip.there / "later.dos").write_bytes(b"l\r\n")
    (trip.there / "old.dos").write_bytes(b"mixed\r\nlines\n")
    assert await trip.back() == Applied()
    assert (home.path / "later.dos").read_bytes() == b"l\r\n"
    assert (home.path / "old.dos").read_bytes() == b"mixed\r\nlines\n"
    assert (home.path / "new.dos").read_bytes() == b"n\r\n"
    assert (home.path / "new.u").read_bytes().decode("utf-16") == "n\n"
    assert await trip.apply() == Applied()


async def test_no_filter_and_no_hook_runs_when_work_comes_back(home: Home, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for part in ("smudge", "clean"):
        git(home.root, "config", f"filter.f.{part}", f"touch {ran}; cat")
    hooks = home.root / ".git" / "hooks"
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        (hooks / name).parent.mkdir(exist_ok=True)
        (hooks / name).write_text(f"#!/bin/sh\ntouch {ran}\n")
        (hooks / name).chmod(0o755)
    trip = await Trip.out(home)
    put(".gitattributes", "* filter=f\n")(trip.there)
    put("1.py", "changed\n")(trip.there)
    commit(trip.there)
    put("2.py", "changed\n")(trip.there)
    ran.unlink(missing_ok=True)
    assert await trip.back() == Applied()
    assert not ran.exists()
    assert tree(home.path) == tree(trip.there)


TEXT = st.text(alphabet="ab\n", max_size=6)
PATHS = st.sampled_from(("1.py", "2.py", "folder-1/a.py", "folder-1", "new", "new/x", "new/y", "q/é"))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), PATHS, TEXT),
        st.tuples(st.just("link"), PATHS, st.sampled_from(("1.py", "/", "folder-1"))),
        st.tuples(st.just("remove"), PATHS, st.just("")),
        st.tuples(st.just("program"), PATHS, st.just("")),
        st.tuples(st.just("commit"), st.just("1.py"), st.just("")),
    ),
    max_size=8,
)


def take_steps(path: Path, steps: list[tuple[str, str, str]]) -> None:
    for kind, name, text in steps:
        place = path / name
        with suppress(OSError):
            if kind == "commit":
                commit(path)
                continue
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            if kind == "program":
                place.chmod(0o755)
            else:
                place.unlink(missing_ok=True)
            if kind in ("write", "link"):
                place.parent.mkdir(parents=True, exist_ok=True)
            if kind == "write":
                place.write_text(text)
            elif kind == "link":
                place.symlink_to(text)


@given(before=STEPS, work=STEPS, more=STEPS)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_comes_back_is_what_was_there(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[tuple[str, str, str]],
    work: list[tuple[str, str, str]],
    more: list[tuple[str, str, str]],
) -> None:
    async def travel() -> None:
        home = Home.make(tmp_path_factory.mktemp("trip"))
        take_steps(home.path, before)
        for steps in (work, more):
            trip = await Trip.out(home)
            assert tree(trip.there) == tree(home.path)
            take_steps(trip.there, steps)
            assert await trip.back() == Applied()
            assert tree(home.path) == tree(trip.there)
            assert git(home.path, "rev-parse", "HEAD") == git(trip.there, "rev-parse", "HEAD")
            await trip.done()

    anyio.run(travel)
