"""The floors of free memory and disk: what holds a start back, and what is said of it."""

import threading
from collections.abc import Mapping
from pathlib import Path

import anyio
import pytest

from spec_kitty_orchestrator.machine.resources import (
    MachineHeadroom,
    free_disk_below,
    free_memory_here,
    free_memory_of_cgroups,
)

MB = 1000**2
LIMIT_S = 20


class Readers:
    """Says what a test wants to be free, and remembers what it was asked."""

    def __init__(self, memory: int | None, disks: Mapping[str, int | None]) -> None:
        self._memory, self._disks = memory, disks
        self.asked: list[str] = []
        self.threads: set[int] = set()

    def memory(self) -> int | None:
        self.asked.append("memory")
        self.threads.add(threading.get_ident())
        return self._memory

    def disk(self, folder: Path) -> int | None:
        self.asked.append(folder.name)
        self.threads.add(threading.get_ident())
        return self._disks.get(folder.name)


def shortage(readers: Readers, memory: int = 256 * MB, disk: int = 512 * MB) -> str:
    headroom = MachineHeadroom(
        Path("/somewhere/project"),
        min_free_memory=memory,
        min_free_disk=disk,
        free_memory=readers.memory,
        free_disk=readers.disk,
    )

    async def ask() -> str:
        with anyio.fail_after(LIMIT_S):
            return await headroom.shortage()

    return anyio.run(ask)


def test_there_is_room_at_the_floor_itself() -> None:
    assert shortage(Readers(256 * MB, {"project": 512 * MB, "logs": 512 * MB})) == ""


def test_short_memory_is_told_with_the_floor_and_its_setting() -> None:
    readers = Readers(180 * MB, {"project": 900 * MB, "logs": 900 * MB})
    assert shortage(readers) == ("only 180 MB of memory are free, the floor is 256 MB (min_free_memory)")


def test_a_short_disk_is_told_with_the_folder_on_it() -> None:
    readers = Readers(900 * MB, {"project": 900 * MB, "logs": 0})
    assert shortage(readers) == (
        "only 0 B are free on the disk of /somewhere/project/.kittify/logs, "
        "the floor is 512 MB (min_free_disk)"
    )


def test_one_disk_that_holds_both_folders_is_told_once() -> None:
    said = shortage(Readers(900 * MB, {"project": MB, "logs": MB}))
    assert said.count("min_free_disk") == 1
    assert "the disk of /somewhere/project," in said


def test_memory_and_disk_are_told_together() -> None:
    said = shortage(Readers(MB, {"project": 2 * MB}))
    assert said.startswith("only 1 MB of memory are free")
    assert "; only 2 MB are free on the disk" in said


def test_a_floor_of_nothing_is_not_even_looked_at() -> None:
    readers = Readers(0, {"project": 0, "logs": 0})
    assert shortage(readers, memory=0, disk=0) == ""
    assert readers.asked == []


def test_what_cannot_be_read_holds_nothing_back() -> None:
    assert shortage(Readers(None, {"project": None, "logs": None})) == ""


def test_the_machine_is_read_outside_of_the_event_loop() -> None:
    readers = Readers(MB, {"project": MB})
    shortage(readers)
    assert readers.threads
    assert threading.get_ident() not in readers.threads


def test_a_disk_that_does_not_answer_does_not_hold_up_a_stop() -> None:
    asked, answer = threading.Event(), threading.Event()

    def hang(folder: Path) -> int | None:
        asked.set()
        answer.wait(LIMIT_S)
        return None

    headroom = MachineHeadroom(Path("/"), min_free_memory=0, min_free_disk=1, free_disk=hang)

    async def stop() -> bool:
        with anyio.fail_after(LIMIT_S / 2):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(headroom.shortage)
                await anyio.to_thread.run_sync(asked.wait)
                tasks.cancel_scope.cancel()
        return not answer.is_set()

    try:
        assert anyio.run(stop)
    finally:
        answer.set()


def test_this_machine_is_short_of_a_floor_beyond_all_and_not_of_a_byte(tmp_path: Path) -> None:
    async def ask(floor: int) -> str:
        with anyio.fail_after(LIMIT_S):
            return await MachineHeadroom(tmp_path, min_free_memory=floor, min_free_disk=floor).shortage()

    assert anyio.run(ask, 1) == ""
    said = anyio.run(ask, 2**62)
    assert "of memory are free" in said
    assert f"are free on the disk of {tmp_path}," in said


def test_the_disk_of_a_folder_that_is_not_there_yet_is_that_of_the_one_above(tmp_path: Path) -> None:
    assert free_disk_below(tmp_path / "a" / "b")
    assert free_memory_here()


def test_below_a_file_no_disk_is_known(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert free_disk_below(tmp_path / "file" / "logs") is None


class Groups:
    """The kernel's files about control groups, as a container or a service sees them."""

    def __init__(self, root: Path, own: str) -> None:
        self._mounted = root / "cgroup"
        self._own = root / "own"
        self._own.write_text(own)

    def group(self, path: str, **files: str) -> None:
        folder = self._mounted / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name.replace("memory_", "memory.")).write_text(text)

    def free(self) -> int | None:
        return free_memory_of_cgroups(self._own, self._mounted)


def test_the_limit_of_a_group_counts_without_pages_that_can_be_dropped(tmp_path: Path) -> None:
    groups = Groups(tmp_path, "0::/user.slice/app\n")
    stat = "anon 300\nactive_file 7\ninactive_file 200\n"
    groups.group("user.slice/app", memory_max="1000\n", memory_current="600\n", memory_stat=stat)
    assert groups.free() == 600


def test_the_tightest_of_the_groups_above_counts(tmp_path: Path) -> None:
    groups = Groups(tmp_path, "0::/user.slice/app\n")
    groups.group("user.slice/app", memory_max="max\n", memory_current="600\n", memory_stat="")
    groups.group("user.slice", memory_max="1000\n", memory_current="900\n", memory_stat="inactive_file 10\n")
    assert groups.free() == 110


def test_groups_without_a_limit_say_nothing(tmp_path: Path) -> None:
    groups = Groups(tmp_path, "0::/app\n")
    groups.group("app", memory_max="max\n", memory_current="600\n", memory_stat="")
    assert groups.free() is None


@pytest.mark.parametrize("own", ["0::/\n", "0::/seen/by/the/machine/only\n", "0::/../outside\n"])
def test_in_a_container_the_mounted_root_counts(tmp_path: Path, own: str) -> None:
    groups = Groups(tmp_path, own)
    groups.group("", memory_max="1000\n", memory_current="400\n", memory_stat="inactive_file 0\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "memory.max").write_text("1\n")
    assert groups.free() == 600


def test_the_older_hierarchy_is_read_too(tmp_path: Path) -> None:
    groups = Groups(tmp_path, "5:cpu,cpuacct:/app\n4:memory:/app\n0::/app\n")
    folder = tmp_path / "cgroup" / "memory" / "app"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("2000\n")
    (folder / "memory.usage_in_bytes").write_text("1500\n")
    (folder / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 100\n")
    assert groups.free() == 600


def test_more_in_use_than_the_limit_leaves_nothing(tmp_path: Path) -> None:
    groups = Groups(tmp_path, "0::/app\n")
    groups.group("app", memory_max="1000\n", memory_current="1600\n", memory_stat="inactive_file 5\n")
    assert groups.free() == 0


def test_where_the_kernel_tells_nothing_no_limit_is_known(tmp_path: Path) -> None:
    assert free_memory_of_cgroups(tmp_path / "none", tmp_path) is None
    groups = Groups(tmp_path, "nonsense\n0::/app\n")
    groups.group("app", memory_max="1000\n", memory_current="unreadable\n", memory_stat="")
    assert groups.free() is None
