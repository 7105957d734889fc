"""Worktrees on a machine: one attempt each, found again, and ready for the next one."""

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from tests.cluster.travels import Home, Trip, git, tree

from spec_kitty_orchestrator.cluster import checkouts
from spec_kitty_orchestrator.cluster.checkouts import Checkouts
from spec_kitty_orchestrator.cluster.shipment import Applied, Shipment, Snapshot
from spec_kitty_orchestrator.cluster.shipping import Shipping
from spec_kitty_orchestrator.errors import WorkspaceError, WorkspaceMissing

pytestmark = pytest.mark.anyio


async def test_an_attempt_that_is_asked_for_again_is_not_checked_out_again(home: Home) -> None:
    trip = await Trip.out(home)
    (trip.there / "work").write_text("")
    assert await trip.machine.check_out(trip.attempt, trip.shipment, None) == trip.there
    assert (trip.there / "work").exists()


async def test_the_next_attempt_in_a_workspace_finds_its_folder_and_what_is_ignored_there(home: Home) -> None:
    trip = await Trip.out(home)
    for name in ("build/warm", "new", "1.py", "folder-1/a.py/in"):
        path = trip.there / name
        if path.parent.is_file():
            path.parent.unlink()
        path.parent.mkdir(exist_ok=True)
        path.write_text("of the first\n")
    git(trip.there, "checkout", "-q", "-b", "mine")
    git(trip.there, "config", "user.name", "somebody else")
    (trip.there / ".git").unlink()
    await trip.done()
    (home.path / "2.py").write_text("dirty\n")
    following = await Trip.out(home)
    assert following.there == trip.there
    assert (following.there / "build" / "warm").exists()
    assert {name: one for name, one in tree(trip.there).items() if name != "build/warm"} == tree(home.path)
    assert git(trip.there, "status", "--porcelain") == " M 2.py"
    assert git(trip.there, "config", "user.name") == "A Person"


async def test_a_folder_whose_attempt_was_not_dropped_is_not_used_by_another(home: Home) -> None:
    lost = await Trip.out(home)
    (lost.there / "work").write_text("of the lost one")
    other = await Trip.out(home)
    assert other.there != lost.there
    assert not (other.there / "work").exists()
    assert (lost.there / "work").exists()
    await lost.pack()
    assert await lost.apply() == Applied()


async def test_dropping_is_harmless_to_repeat_and_for_an_attempt_that_never_was(home: Home) -> None:
    trip = await Trip.out(home)
    for _ in range(2):
        await trip.done()
    await trip.machine.drop("never", trip.shipment.project)
    packed = await trip.pack()
    assert packed.back == trip.shipment.sent


async def test_what_a_worktree_that_is_gone_held_is_not_taken_for_deleted(home: Home) -> None:
    trip = await Trip.out(home)
    shutil.rmtree(trip.there)
    with pytest.raises(WorkspaceMissing, match="there is no worktree of a1 on this machine any more"):
        await trip.pack()


def closed(there: Path) -> None:
    (there / "closed").mkdir()
    (there / "closed" / "x").write_text("")
    (there / "closed").chmod(0)


def damaged_index(there: Path) -> None:
    admin = Path((there / ".git").read_text().removeprefix("gitdir: ").strip())
    (admin / "index").write_bytes(b"no index")
    for name in ("index.lock", "HEAD.lock", "MERGE_HEAD"):
        (admin / name).write_text("left\n")


def in_the_way(there: Path) -> None:
    git(there, "init", "-q", "--", "1.py.new")
    (there / "1.py").unlink()
    git(there, "init", "-q", "--", "1.py")
    (there / "1.py" / "x").write_text("")


STATES = {
    "a folder that cannot be read": closed,
    "git's own files damaged": damaged_index,
    "a repository": in_the_way,
}


@pytest.mark.parametrize("state", STATES)
async def test_whatever_state_an_agent_leaves_a_folder_in_the_next_attempt_finds_it_in_order(
    home: Home, state: str
) -> None:
    trip = await Trip.out(home)
    STATES[state](trip.there)
    await trip.done()
    following = await Trip.out(home)
    known = tree(home.path)
    assert {name: one for name, one in tree(following.there).items() if name in known} == known
    assert git(following.there, "diff", "HEAD", "--stat") == ""


async def test_several_attempts_begin_at_once(home: Home) -> None:
    machine, shipment = home.machine(), await home.shipping.snapshot(home.path)
    file, places = home.root.parent / "file", list[Path]()
    await home.shipping.bundle("a", shipment, (), file)

    async def begin(number: int) -> None:
        own = Shipment(**{**vars(shipment), "place": f"lane-{number}"})
        places.append(await Checkouts(machine._worktrees.parent).check_out(f"a{number}", own, file))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(begin, number)
    assert len(set(places)) == 5
    assert all(tree(place) == tree(home.path) for place in places)


async def test_a_worktree_made_in_advance_is_taken_by_the_next_workspace(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    trip = await Trip.out(home)
    await trip.machine.prepare(trip.shipment)
    assert not trip.there.with_name("-spare").exists()
    monkeypatch.setattr(checkouts, "SMALL_INDEX_BYTES", 0)
    await trip.machine.prepare(trip.shipment)
    await trip.machine.prepare(trip.shipment)
    spare = trip.there.with_name("-spare")
    made = (spare / "1.py").stat().st_ino
    (home.path / "2.py").write_text("dirty\n")
    other = await Trip.out(home)
    assert (other.there / "1.py").stat().st_ino == made
    assert not spare.exists()
    assert tree(other.there) == tree(home.path)
    assert git(other.there, "status", "--porcelain") == " M 2.py"
    assert await other.back() == Applied()


async def test_what_is_old_goes_and_what_is_in_use_stays(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkouts, "MOST_BASES", 2)
    busy = await Trip.out(home)
    for number in range(3):
        (home.path / "new").write_text(f"{number}\n" * 100)
        await (trip := await Trip.out(home)).done()
    os.utime(trip.there.with_suffix(".json"), (1, 1))
    await trip.machine.tidy()
    assert not trip.there.exists()
    assert busy.there.exists()
    bare = trip.machine._repositories / f"{trip.shipment.project}.git"
    assert len(git(bare, "for-each-ref").splitlines()) == 3
    (busy.there / "work").write_text("")
    assert await busy.back() != Applied()  # the workspace has moved on
    await busy.done()
    await trip.machine.tidy()
    assert git(bare, "fsck", "--strict", "--no-dangling") == ""
    again = await Trip.out(home)
    assert tree(again.there) == tree(home.path)


async def test_a_project_that_nobody_has_used_for_long_goes(home: Home) -> None:
    trip = await Trip.out(home)
    bare = trip.machine._repositories / f"{trip.shipment.project}.git"
    os.utime(bare / "used", (1, 1))
    await trip.machine.tidy()
    assert trip.there.exists()
    await trip.done()
    os.utime(trip.there.with_suffix(".json"), (1, 1))
    await trip.machine.tidy()
    assert not bare.exists()
    assert not trip.there.parent.exists()
    assert tree((await Trip.out(home)).there) == tree(home.path)


async def test_settings_that_an_agent_made_run_nothing_when_its_work_is_read(
    home: Home, tmp_path: Path
) -> None:
    trip = await Trip.out(home)
    ran = tmp_path / "ran"
    (trip.there / ".gitattributes").write_text("* filter=f\n")
    git(trip.there, "config", "filter.f.clean", f"touch {ran}; cat")
    git(trip.there, "config", "core.fsmonitor", f"touch {ran}")
    (trip.there / "1.py").write_text("changed\n")
    assert await trip.back() == Applied()
    assert not ran.exists()


async def test_only_its_owner_can_enter_what_a_machine_keeps(home: Home) -> None:
    trip = await Trip.out(home)
    for path in (trip.there, *list(trip.there.parents)[:2], trip.machine._repositories):
        assert path.stat().st_mode & 0o077 == 0, path


# -- where the objects come from


async def test_what_the_machine_has_is_not_sent_again(home: Home) -> None:
    sizes = []
    (home.path / "large").write_bytes(random_bytes := os.urandom(200_000))
    for _ in range(2):
        trip = await Trip.out(home)
        sizes.append((trip.files / "out").stat().st_size if (trip.files / "out").exists() else 0)
        await trip.done()
        (home.path / "1.py").write_text(f"{len(sizes)}\n")
    assert sizes[0] > len(random_bytes)
    assert sizes[1] < 5000


async def test_nothing_is_sent_for_what_is_there_already(home: Home) -> None:
    await (await Trip.out(home)).done()
    trip = await Trip.out(home)
    assert not (trip.files / "out").exists()
    assert tree(trip.there) == tree(home.path)


async def test_a_machine_clones_where_the_project_says_so_and_is_sent_the_rest(
    home: Home, tmp_path: Path
) -> None:
    origin = tmp_path / "origin.git"
    (home.root / "large").write_bytes(os.urandom(200_000))
    git(home.root, "add", "-A")
    git(home.root, "commit", "-q", "-m", "large")
    git(home.root, "clone", "-q", "--bare", str(home.root), str(origin))
    git(home.path, "merge", "-q", "main")
    (home.path / "new").write_text("")
    trip = await Trip.out(home, clone=f"file://{origin}")
    assert (trip.files / "out").stat().st_size < 5000
    assert tree(trip.there) == tree(home.path)


async def test_a_clone_that_fails_is_said_without_its_password_and_all_is_sent(
    home: Home, tmp_path: Path
) -> None:
    said: list[str] = []
    home.machines["one"] = Checkouts(tmp_path / "machine", said.append)
    trip = await Trip.out(home, clone="https://me:pass-word@localhost:1/x.git")
    assert tree(trip.there) == tree(home.path)
    assert len(said) == 1
    assert said[0].startswith("https://localhost:1/x.git cannot be cloned on this machine: ")
    assert "pass-word" not in said[0]
    assert said[0].endswith("; all is sent instead")


async def test_a_clone_address_that_names_a_program_runs_nothing(home: Home, tmp_path: Path) -> None:
    said: list[str] = []
    home.machines["one"] = Checkouts(tmp_path / "machine", said.append)
    for address in (f"ext::touch {tmp_path}/ran", f"--upload-pack=touch {tmp_path}/ran"):
        await home.machines["one"].have(f"p{len(said)}", address)
    assert len(said) == 2
    assert not (tmp_path / "ran").exists()


async def test_a_shallow_clone_travels_as_far_as_it_goes(home: Home, tmp_path: Path) -> None:
    git(home.root, "commit", "-q", "--allow-empty", "-m", "second")
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{home.root}", str(shallow))
    own = Home(shallow, shallow, Shipping(shallow, "001-m"))
    own.machines["one"] = home.machine()
    git(shallow, "config", "user.name", "x")
    git(shallow, "config", "user.email", "x@example.org")
    trip = await Trip.out(own)
    assert git(trip.there, "rev-list", "--count", "HEAD") == "1"
    (trip.there / "new").write_text("")
    git(trip.there, "add", "new")
    git(trip.there, "commit", "-q", "-m", "work")
    assert await trip.back() == Applied()
    assert git(shallow, "log", "--format=%s") == "work\nsecond"


async def test_a_partial_clone_that_lacks_files_says_how_to_get_them(home: Home, tmp_path: Path) -> None:
    git(home.root, "config", "uploadpack.allowFilter", "true")
    (home.root / "1.py").write_text("newer\n")
    git(home.root, "commit", "-q", "-am", "second")
    partial = tmp_path / "partial"
    git(tmp_path, "clone", "-q", "--filter=blob:none", f"file://{home.root}", str(partial))
    git(partial, "remote", "set-url", "origin", "file:///nowhere")
    own = Home(partial, partial, Shipping(partial, "001-m"), 10)
    with pytest.raises(
        WorkspaceError, match=r"is a partial clone and lacks .*`git fetch --refetch --no-filter`"
    ):
        await Trip.out(own)
    git(partial, "remote", "set-url", "origin", f"file://{home.root}")
    git(partial, "fetch", "-q", "--refetch", "--no-filter")
    assert tree((await Trip.out(own)).there) == tree(partial)


async def test_what_was_sent_is_refused_where_it_is_damaged(home: Home) -> None:
    machine, shipment = home.machine(), await home.shipping.snapshot(home.path)
    file = home.root.parent / "file"
    await home.shipping.bundle("a", shipment, (), file)
    data = file.read_bytes()
    damaged = {
        "cut": data[:-9],
        "empty": b"",
        "other bytes": data[:100] + b"!" + data[101:],
        "a lie about its size": data[:-8] + (10**15).to_bytes(8, "big"),
    }
    for name, content in damaged.items():
        file.write_bytes(content)
        with pytest.raises(WorkspaceError, match="what was sent cannot be unpacked"):
            await machine.check_out("a", shipment, file)
        assert name
    with pytest.raises(WorkspaceError, match=r"this machine lacks [0-9a-f]{40}, and it was not sent"):
        await machine.check_out("a", shipment, None)
    file.write_bytes(data)
    assert tree(await machine.check_out("a", shipment, file)) == tree(home.path)


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "-x", "a\nb", "a" * 200])
async def test_names_that_lead_out_of_the_folder_are_refused(home: Home, name: str) -> None:
    machine = home.machine()
    with pytest.raises(WorkspaceError, match="is no name of a project"):
        await machine.have(name)
    await machine.have("p")
    with pytest.raises(WorkspaceError, match="is no name of a workspace"):
        await machine.check_out("a", Shipment("p", name, Snapshot("1" * 40, "1" * 40)), None)


class Setup:
    """Makes files in a workspace, and counts how often."""

    def __init__(self, *made: str) -> None:
        self.made, self.runs, self.fails = made, 0, False

    async def __call__(self, workspace: Path, moved: Callable[[], Awaitable[str]]) -> bool:
        assert await moved() == ""
        self.runs += 1
        for name in self.made:
            (workspace / name).parent.mkdir(exist_ok=True)
            (workspace / name).write_text("made")
        if self.fails:
            raise WorkspaceError("it failed")
        return True

    async def before(self, trip: Trip, mark: str = "first") -> None:
        await trip.machine.set_up(trip.attempt, trip.shipment, mark, self)


async def test_a_workspace_is_set_up_once_and_only_what_is_ignored_stays(home: Home) -> None:
    setup = Setup("build/tool", "1.py", "new.py")
    for _ in range(2):
        trip = await Trip.out(home)
        await setup.before(trip)
        await setup.before(trip)
        assert ((trip.there / "build/tool").exists(), (trip.there / "new.py").exists()) == (True, False)
        assert (await trip.pack()).back == trip.shipment.sent
        await trip.done()
    assert setup.runs == 1
    await setup.before(await Trip.out(home), "another")
    assert setup.runs == 2


async def test_what_git_does_not_ignore_of_a_setup_is_there_for_one_attempt_and_does_not_travel(
    home: Home,
) -> None:
    setup = Setup("node_modules/tool")
    for number in (1, 2):
        trip = await Trip.out(home)
        await setup.before(trip)
        await setup.before(trip)
        assert (setup.runs, (trip.there / "node_modules/tool").exists()) == (number, True)
        assert (await trip.pack()).back == trip.shipment.sent
        await trip.done()


async def test_what_a_setup_that_failed_has_changed_is_gone_when_the_attempt_is_asked_for_again(
    home: Home,
) -> None:
    setup, trip = Setup("build/tool", "1.py"), await Trip.out(home)
    setup.fails = True
    with pytest.raises(WorkspaceError, match="it failed"):
        await setup.before(trip)
    assert await trip.machine.check_out(trip.attempt, trip.shipment, None) == trip.there
    assert (trip.there / "1.py").read_text() == "# 1.py\n" * 5
    setup.fails = False
    await setup.before(trip)
    assert setup.runs == 2
