"""What a prompt shows of a range of commits."""

import pytest
from tests.machine.conftest import Lane, git

from spec_kitty_orchestrator.machine.diff import MOST_NAMED

pytestmark = pytest.mark.asyncio

LIMIT = 4000


async def shown(lane: Lane, limit: int = LIMIT) -> str:
    evidence = await lane.committed()
    return (await lane.git.diff(lane.workspace, lane.base, evidence.head, limit))[1]


async def test_a_diff_is_bounded_and_says_that_it_was_cut(lane: Lane) -> None:
    lane.write("a.py", "é" * 2_000_000 + "\n")
    evidence = await lane.committed()
    stat, diff = await lane.git.diff(lane.workspace, lane.base, evidence.head, 1000)
    assert "a.py" in stat
    assert len(diff) == 1000
    assert diff.endswith("… cut here")
    assert diff.startswith("diff --git a/a.py b/a.py")


async def test_a_small_diff_is_whole_and_bytes_that_are_not_utf8_are_replaced(lane: Lane) -> None:
    (lane.path / "a.py").write_bytes(b"caf\xe9\n")
    evidence = await lane.committed()
    _, diff = await lane.git.diff(lane.workspace, lane.base, evidence.head, 100_000)
    assert diff.endswith("-a = 1\n+caf\ufffd\n")


async def test_whole_files_are_shown_as_far_as_there_is_room_and_the_others_are_named(lane: Lane) -> None:
    lane.write("a-lock.json", "locked\n" * 2000)
    lane.write("b.py", "b = 2\n")
    (lane.path / "c.bin").write_bytes(bytes(range(256)) * 40)
    lane.write("d.py", "".join(f"d{n} = {n}\n" for n in range(200)))
    lane.write("e.py", "".join(f"e{n} = {n}\n" for n in range(300)))
    diff = await shown(lane)
    assert len(diff) <= LIMIT
    assert [line for line in diff.splitlines() if line.startswith("diff --git")] == [
        "diff --git a/b.py b/b.py",
        "diff --git a/c.bin b/c.bin",
        "diff --git a/d.py b/d.py",
    ]
    assert diff.split("+d199 = 199\n")[1] == (
        "\nNot shown here, because it is long; read it in the workspace:\n"
        "- a-lock.json (+2000 -0)\n- c.bin (binary)\n- e.py (+300 -0)\n"
    )


async def test_a_renamed_file_and_a_binary_one_are_named_as_what_they_are_now(lane: Lane) -> None:
    text = "".join(f"a rather long line {n}\n" for n in range(500))
    lane.write("old name.txt", text)
    lane.base = (await lane.committed()).head
    git(lane.path, "mv", "old name.txt", "new name.txt")
    lane.write("new name.txt", text + "more\n" * 900)
    lane.write("b.py", "b = 2\n")
    diff = await shown(lane)
    assert diff.endswith("\n- new name.txt (+900 -0)\n")
    assert "+b = 2" in diff


async def test_where_even_the_shortest_file_is_too_long_its_beginning_is_shown(lane: Lane) -> None:
    for name in ("x.py", "y.py"):
        lane.write(name, "z = 1\n" * 3000)
    diff = await shown(lane)
    assert diff.startswith("diff --git a/x.py b/x.py")
    assert diff.endswith(
        "\n… cut here\nNot shown here, because it is long; read it in the workspace:\n- y.py (+3000 -0)\n"
    )
    assert len(diff) == LIMIT


async def test_so_many_files_that_not_even_their_names_fit_are_counted(lane: Lane) -> None:
    for number in range(3 * MOST_NAMED):
        lane.write(f"f{number:03}.py", "long = 1\n" * 50)
    diff = await shown(lane, 20_000)
    assert len(diff) <= 20_000
    assert (
        diff.count("diff --git") + MOST_NAMED + int(diff.split("- and ")[1].split(" ")[0]) == 3 * MOST_NAMED
    )


async def test_text_that_looks_like_the_beginning_of_a_diff_splits_no_file(lane: Lane) -> None:
    lane.write("b.py", "diff --git a/x b/x\n" * 3)
    lane.write("c.py", "c = 1\n" * 3000)
    diff = await shown(lane)
    assert diff.count("+diff --git a/x b/x\n") == 3
    assert diff.endswith("- c.py (+3000 -0)\n")


async def test_no_file_goes_unmentioned_where_one_became_a_link(lane: Lane) -> None:
    (lane.path / "a.py").unlink()
    (lane.path / "a.py").symlink_to("b.py")
    lane.write("evil.py", "evil = 1\n" * 2000)
    lane.write("ok.py", "ok = 1\n")
    diff = await shown(lane)
    assert "deleted file mode 100644" in diff
    assert "new file mode 120000" in diff
    assert "+ok = 1" in diff
    assert diff.endswith("\n- evil.py (+2000 -0)\n")


async def test_a_file_that_the_project_s_attributes_hide_is_named_although_short(
    lane: Lane,
) -> None:
    lane.write(".gitattributes", "evil.py -diff\n")
    lane.base = (await lane.committed()).head
    lane.write("evil.py", "evil = 1\n")
    lane.write("long.py", "long = 1\n" * 2000)
    diff = await shown(lane)
    assert diff.endswith("\n- evil.py (binary)\n- long.py (+2000 -0)\n")
