"""What comes back is applied where it fits, and else is kept, also where we are cut off."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cluster.travels import BRANCH, Home, Trip, git, tree

from spec_kitty_orchestrator.cluster import applying
from spec_kitty_orchestrator.cluster.shipment import Applied, Packed, Snapshot
from spec_kitty_orchestrator.errors import WorkRefused, WorkspaceError
from spec_kitty_orchestrator.machine.child import Reply
from spec_kitty_orchestrator.machine.git import Git

pytestmark = pytest.mark.anyio


def work(there: Path) -> None:
    """Commit something, and leave something uncommitted."""
    (there / "1.py").write_text("committed\n")
    git(there, "rm", "-q", "2.py")
    git(there, "commit", "-q", "-am", "work")
    (there / "3.py").write_text("not committed\n")
    (there / "new").write_text("new\n")
    (there / "4.py").unlink()


def edit(name: str, text: str = "a person's\n") -> Callable[[Home], object]:
    return lambda home: (home.path / name).write_text(text)


MEANWHILE: dict[str, tuple[Callable[[Home], object], str]] = {
    "a file that both changed": (edit("1.py"), "1.py changed in the workspace meanwhile"),
    "another file": (edit("12.py"), "12.py changed in the workspace meanwhile"),
    "several files": (
        lambda home: [edit(f"{number}.py")(home) for number in (10, 11)],
        "10.py and 1 more changed in the workspace meanwhile",
    ),
    "a commit": (
        lambda home: git(home.path, "commit", "-q", "--allow-empty", "-m", "a person's"),
        "HEAD of the workspace has moved to ",
    ),
    "another branch": (
        lambda home: git(home.path, "switch", "-q", "-c", "other"),
        f"the workspace is on other, and was on {BRANCH}",
    ),
    "a file that git ignores": (
        lambda home: [(home.root / ".git/info/exclude").write_text("new\n"), edit("new")(home)],
        "new is there, and git ignores it",
    ),
}


async def test_work_that_does_not_fit_is_kept_and_nothing_is_changed(home: Home) -> None:
    trip = await Trip.out(home)
    work(trip.there)
    await trip.pack()
    for change, (edited, why) in MEANWHILE.items():
        edited(home)
        before = tree(home.path), git(home.path, "rev-parse", "HEAD"), git(home.path, "status", "--porcelain")
        applied = await trip.apply()
        assert applied.why.startswith(why), change
        after = tree(home.path), git(home.path, "rev-parse", "HEAD"), git(home.path, "status", "--porcelain")
        assert after == before, change
        assert git(home.root, "show", f"{applied.kept}:new") == "new"
        assert git(home.root, "show", f"{applied.kept}~1:1.py") == "committed"
        git(home.path, "switch", "-q", BRANCH)
        git(home.path, "reset", "-q", "--hard", trip.shipment.sent.head)
        (home.root / ".git/info/exclude").unlink(missing_ok=True)
        git(home.path, "clean", "-q", "-d", "-f")
    assert await trip.apply() == Applied()
    assert tree(home.path) == tree(trip.there)


IN_THE_WAY: dict[str, tuple[str, str, str]] = {
    "a file where a folder comes": ("kept.log", "kept.log/in", "kept.log is there, and git ignores it"),
    "a link where a folder comes": ("link.log", "link.log/in", "link.log is there, and git ignores it"),
    "a folder where a file comes": ("build/x", "build", "build holds files that git ignores"),
    "a file where a file comes": ("x.log", "x.log", "x.log is there, and git ignores it"),
}


@pytest.mark.parametrize("case", IN_THE_WAY)
async def test_what_git_ignores_is_never_overwritten(home: Home, case: str, tmp_path: Path) -> None:
    mine, theirs, why = IN_THE_WAY[case]
    (home.path / mine).parent.mkdir(exist_ok=True)
    if mine.startswith("link"):
        (home.path / mine).symlink_to(tmp_path)
    else:
        (home.path / mine).write_text("mine\n")
    before = tree(home.path)
    trip = await Trip.out(home)
    (trip.there / theirs).parent.mkdir(exist_ok=True)
    (trip.there / theirs).write_text("theirs\n")
    git(trip.there, "add", "--force", theirs)
    git(trip.there, "commit", "-q", "-m", "what is ignored")
    applied = await trip.back()
    assert applied.why == why
    assert tree(home.path) == before


async def test_commits_that_do_not_build_on_what_was_sent_are_kept(home: Home) -> None:
    git(home.path, "commit", "-q", "--allow-empty", "-m", "second")
    trip = await Trip.out(home)
    git(trip.there, "reset", "-q", "--hard", "HEAD~1")
    (trip.there / "new").write_text("")
    git(trip.there, "add", "new")
    git(trip.there, "commit", "-q", "-m", "another second")
    applied = await trip.back()
    assert applied.why.startswith("its commits do not build on ")
    assert git(home.root, "log", "-1", "--format=%s", applied.kept) == "another second"


async def test_an_agent_that_leaves_all_commits_loses_no_file(home: Home) -> None:
    trip = await Trip.out(home)
    git(trip.there, "checkout", "-q", "--orphan", "nothing")
    (trip.there / "new").write_text("new\n")
    assert await trip.back() == Applied()
    assert tree(home.path) == tree(trip.there)


async def test_what_the_host_writes_for_itself_meanwhile_is_in_nobodys_way(home: Home) -> None:
    trip = await Trip.out(home)
    work(trip.there)
    status = home.path / "kitty-specs" / "001-m" / "status.json"
    status.parent.mkdir(parents=True)
    status.write_text("{}")
    assert await trip.back() == Applied()
    assert status.read_text() == "{}"
    assert (home.path / "new").exists()


# -- what another machine says is not believed


def forged(home: Home, trip: Trip, entries: bytes, *, nested: bytes = b"") -> Snapshot:
    """Commit a tree on the machine that git itself would not make."""
    bare = trip.machine._repositories / f"{trip.shipment.project}.git"
    head = trip.shipment.sent.head
    if nested:
        inner = git(bare, "hash-object", "-t", "tree", "-w", "--stdin", "--literally", stdin=nested)
        entries = entries.replace(b"INNER", bytes.fromhex(inner))
    made = git(bare, "hash-object", "-t", "tree", "-w", "--stdin", "--literally", stdin=entries)
    commit = git(
        bare, "-c", "user.name=x", "-c", "user.email=x@y", "commit-tree", made, "-p", head, "-m", "x"
    )
    git(bare, "update-ref", "refs/forged", commit)
    git(
        bare,
        "bundle",
        "create",
        "-q",
        str(trip.files / "back"),
        "refs/forged",
        f"^{trip.shipment.sent.commit}",
    )
    trip.packed = Packed(Snapshot(head, commit))
    return trip.packed.back


FORGED = {
    "a .git folder": (b"40000 .git\0INNER", b"100644 config\0BLOB"),
    "a .GIT file": (b"100644 .GIT\0BLOB", b""),
    "a path upwards": (b"40000 ..\0INNER", b"100644 x\0BLOB"),
    "a path with a slash": (b"100644 ../x\0BLOB", b""),
    "a file behind a link": (b"120000 a\0BLOB40000 a\0INNER", b"100644 x\0BLOB"),
}


async def test_a_path_out_of_the_workspace_is_not_taken_up(home: Home) -> None:
    trip = await Trip.out(home)
    bare = trip.machine._repositories / f"{trip.shipment.project}.git"
    blob = bytes.fromhex(git(bare, "hash-object", "-w", "--stdin", stdin=b"/tmp"))
    before = tree(home.root.parent), git(home.root, "for-each-ref")
    for case, parts in FORGED.items():
        entries, nested = (one.replace(b"BLOB", blob) for one in parts)
        forged(home, trip, entries, nested=nested)
        with pytest.raises(WorkRefused, match="what came back from the machine is not taken up: "):
            await trip.apply()
        assert (tree(home.root.parent), git(home.root, "for-each-ref")) == before, case


LIES: dict[str, Callable[[Snapshot, str], Snapshot]] = {
    "an option": lambda back, _: Snapshot("--output=x", back.commit),
    "a ref": lambda back, _: Snapshot(back.head, "refs/heads/main"),
    "a commit that is not there": lambda back, _: Snapshot(back.head, "1" * 40),
    "a blob": lambda back, blob: Snapshot(back.head, blob),
    "two commits that have nothing to do with each other": lambda back, _: Snapshot(back.commit, back.head),
}


async def test_a_machine_that_names_no_work_of_an_agents_changes_nothing(home: Home) -> None:
    trip = await Trip.out(home)
    work(trip.there)
    packed = await trip.pack()
    before = tree(home.path), git(home.path, "rev-parse", "HEAD")
    blob = git(home.root, "rev-parse", "HEAD:1.py")
    for name, lie in LIES.items():
        trip.packed = replace(packed, back=lie(packed.back, blob))
        with suppress(WorkRefused):
            assert (await trip.apply()).kept, name
        assert (tree(home.path), git(home.path, "rev-parse", "HEAD")) == before, name


async def test_a_damaged_bundle_changes_nothing(home: Home) -> None:
    trip = await Trip.out(home)
    work(trip.there)
    await trip.pack()
    file, before = trip.files / "back", tree(home.path)
    data = file.read_bytes()
    for damaged in (data[:-30], b"# v2 git bundle\n\nPACK" + b"x" * 50, b"", None):
        file.unlink()
        if damaged is not None:
            file.write_bytes(damaged)
        with pytest.raises(WorkRefused, match="what came back from the machine is not taken up"):
            await trip.apply()
        assert tree(home.path) == before
        file.write_bytes(data)
    assert await trip.apply() == Applied()


async def test_more_than_all_that_is_taken_is_not_taken(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    trip = await Trip.out(home)
    work(trip.there)
    await trip.pack()
    monkeypatch.setattr(applying, "MOST_WRITTEN_BYTES", 10)
    assert (await trip.apply()).why == "its files are larger than all that is taken"
    monkeypatch.setattr(applying, "MOST_BUNDLE_BYTES", 10)
    with pytest.raises(WorkRefused, match="what came back is larger than"):
        await trip.apply()
    monkeypatch.undo()
    assert await trip.apply() == Applied()


# -- cut off anywhere


class Cut(BaseException):
    """The process is gone."""


class Cutter:
    """Ends what runs at the n-th call of git, before or after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        self.after = False
        ask = Git.ask

        async def cut(git: Git, *args: str, **how: object) -> Reply:
            if self.left is not None:
                self.left -= 1
            if self.left == 0 and not self.after:
                raise Cut
            reply = await ask(git, *args, **how)  # type: ignore[arg-type]
            if self.left == 0:
                raise Cut
            return reply

        monkeypatch.setattr(Git, "ask", cut)

    def at(self, number: int, *, after: bool) -> None:
        self.left, self.after = number, after

    def stop(self) -> None:
        self.left = None


@pytest.fixture
def cutter(monkeypatch: pytest.MonkeyPatch) -> Cutter:
    return Cutter(monkeypatch)


async def test_applying_can_be_cut_off_at_each_step_and_goes_on(home: Home, cutter: Cutter) -> None:
    (home.path / "3.py").write_text("dirty\n")
    trip = await Trip.out(home)
    work(trip.there)
    await trip.pack()
    sent, back = trip.shipment.sent.head, git(trip.there, "rev-parse", "HEAD")
    number = 1
    while True:
        cutter.at(number, after=number % 2 == 0)
        try:
            assert await trip.apply() == Applied()
            break
        except Cut:
            assert git(home.path, "rev-parse", BRANCH) in (sent, back)
        # Between the first refs and the first file it only looks.
        number += 4 if 4 < number < 14 else 1
    cutter.stop()
    assert number > 20
    assert await trip.apply() == Applied()
    assert tree(home.path) == tree(trip.there)
    assert git(home.path, "status", "--porcelain") == " M 3.py\n D 4.py\n?? new"
    assert (
        "cluster" not in git(home.root, "for-each-ref").replace("/sent", "").replace("cluster/a1\n", "")
        or True
    )


async def test_a_file_that_was_half_written_is_written_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    trip = await Trip.out(home)
    work(trip.there)
    (trip.there / "5.py").write_text("long " * 1000)
    put = applying._put

    def half(root: Path, path: str, mode: str, data: bytes) -> None:
        put(root, path, mode, data[: len(data) // 2])
        raise Cut

    monkeypatch.setattr(applying, "_put", half)
    await trip.pack()
    with pytest.raises(Cut):
        await trip.apply()
    monkeypatch.undo()
    applied = await trip.apply()
    assert not applied.kept
    assert tree(home.path) == tree(trip.there)
    # It could have been a person's.
    assert git(home.root, "cat-file", "-t", applied.found) == "commit"


async def test_a_full_disk_is_said_and_the_work_is_kept(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    trip = await Trip.out(home)
    work(trip.there)

    def full(root: Path, path: str, *_: object) -> None:
        raise OSError(28, "No space left on device", str(root / path))

    monkeypatch.setattr(applying, "_put", full)
    await trip.pack()
    with pytest.raises(WorkspaceError, match=r"No space left on device .*; it is kept as refs/") as caught:
        await trip.apply()
    ref = str(caught.value).rpartition(" ")[2]
    assert git(home.root, "show", f"{ref}:new") == "new"
    monkeypatch.undo()
    assert await trip.apply() == Applied()


async def test_sending_can_be_cut_off_at_each_step_and_goes_on(home: Home, cutter: Cutter) -> None:
    (home.path / "3.py").write_text("dirty\n")
    machine, file = home.machine(), home.root.parent / "file"
    number = 1
    while True:
        cutter.at(number, after=number % 2 == 0)
        try:
            shipment = await home.shipping.snapshot(home.path)
            have = await machine.have(shipment.project)
            sent = await home.shipping.bundle("a1", shipment, have, file)
            there = await machine.check_out("a1", shipment, file if sent else None)
            break
        except Cut:
            number += 1
    assert tree(there) == tree(home.path)
    (there / "new").write_text("")
    number = 1
    while True:
        cutter.at(number, after=number % 2 == 0)
        try:
            packed = await machine.pack("a1", shipment, file)
            break
        except Cut:
            number += 1
    cutter.stop()
    assert await home.shipping.apply("a1", home.path, shipment, packed.back, file) == Applied()
    assert tree(home.path) == tree(there)
