import json
import os
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.event_schema import assert_valid

from spec_kitty_orchestrator.core.documents import to_document
from spec_kitty_orchestrator.core.events import (
    AgentExited,
    AttemptOpened,
    Claimed,
    Event,
    GateBegun,
    GateBroken,
    HostRefused,
    Submitted,
)
from spec_kitty_orchestrator.core.model import (
    AgentReport,
    Attempt,
    GateResult,
    Lane,
    MissionState,
    Outcome,
    Rescue,
    Role,
    Workspace,
)
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.run_events import (
    Entry,
    Line,
    RunEnded,
    RunEvent,
    RunStarted,
    SettingsChanged,
)
from spec_kitty_orchestrator.errors import JournalError
from spec_kitty_orchestrator.machine.journal import JsonlJournal, SystemClock

ROOT = Path("/root")
NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
MISSION = MissionState(
    "034-x",
    lanes={"WP01": Lane.DONE, "WP02": Lane.PLANNED},
    dependencies={"WP01": (), "WP02": ("WP01",)},
    titles={"WP01": "Lay the ground", "WP02": "Build"},
    subtasks={"WP01": ("T001", "T002"), "WP02": ()},
)
RUN = RunStarted(NOW, MISSION, "me", Policy(("claude-code",), ("codex",)), "0.2.0")
END = RunEnded(NOW, 1, "two WPs are parked")

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TIMES = st.datetimes(timezones=st.just(UTC))
PATH = st.sampled_from(["/root", "/root/.worktrees/x-lane-a", "/root/.kittify/logs/x", "/elsewhere/x"])
st.register_type_strategy(float, st.floats(allow_nan=False))  # NaN is not equal to itself
st.register_type_strategy(Workspace, st.builds(Workspace, path=PATH, prompt_path=PATH, lane_id=TEXT))
st.register_type_strategy(Attempt, st.builds(Attempt, directory=PATH))
st.register_type_strategy(Rescue, st.builds(Rescue, aside=st.lists(PATH, max_size=2).map(tuple)))
st.register_type_strategy(GateResult, st.builds(GateResult, log=PATH | st.just("")))
st.register_type_strategy(GateBroken, st.builds(GateBroken, log=PATH | st.just("")))
st.register_type_strategy(GateBegun, st.builds(GateBegun, log=PATH | st.just("")))
st.register_type_strategy(datetime, TIMES)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
KINDS: tuple[type[Event | RunEvent], ...] = (*Event.__args__, *RunEvent.__args__)
st.register_type_strategy(
    SettingsChanged, st.builds(SettingsChanged, settings=st.dictionaries(TEXT, JSON, max_size=3))
)
EVENTS: st.SearchStrategy[Event | RunEvent] = st.one_of(*(st.from_type(kind) for kind in KINDS))
LINES: st.SearchStrategy[Line] = st.one_of(
    st.builds(Entry, event=EVENTS, took_s=st.floats(0, 1e9)),
    st.builds(RunStarted, settings=st.dictionaries(TEXT, JSON, max_size=3)),
    st.builds(RunEnded),
)


def entry(number: int) -> Entry:
    return Entry(NOW, f"WP{number:02}", HostRefused("transition", "X", f"ünsinn\n{number}", Lane.PLANNED))


def write(path: Path, *lines: Line) -> None:
    async def append() -> None:
        with anyio.fail_after(30):
            for line in lines:
                await JsonlJournal(path, ROOT).append(line)

    anyio.run(append)


def read(path: Path, root: Path = ROOT) -> list[Line]:
    async def run() -> list[Line]:
        with anyio.fail_after(30):
            return list(await JsonlJournal(path, root).read())

    return anyio.run(run)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lines=st.lists(LINES, max_size=4))
def test_every_line_reads_back_exactly(tmp_path_factory: pytest.TempPathFactory, lines: list[Line]) -> None:
    path = tmp_path_factory.mktemp("journal")
    write(path, *lines)
    found = read(path)
    assert found == lines
    for number, (mine, its) in enumerate(zip(lines, found, strict=True), start=1):
        document = to_document(its, "034-x", "/root")
        count: dict[str, Any] = {"number": its.number} if isinstance(its, RunStarted) else {}
        assert document == to_document(replace(mine, seq=number, **count), "034-x", "/root")
        assert_valid(json.loads(json.dumps(document)))


def test_lines_are_json_objects_with_their_type_and_the_schema(tmp_path: Path) -> None:
    write(tmp_path, RUN, entry(1), END)
    records = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [record["line"] for record in records] == ["run", "event", "end"]
    assert [record["seq"] for record in records] == [1, 2, 3]
    assert (records[0]["schema"], records[0]["number"]) == (2, 1)
    assert records[1]["event"]["kind"] == "host_refused"


def test_lines_and_starts_are_numbered_over_the_whole_file_whoever_writes_them(tmp_path: Path) -> None:
    write(tmp_path, RUN, entry(1), END)
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"torn')
    write(tmp_path, RUN, entry(2))
    lines = read(tmp_path)
    assert [line.seq for line in lines] == [1, 2, 3, 4, 5]
    assert [line.number for line in lines if isinstance(line, RunStarted)] == [1, 2]


def test_a_journal_that_starts_over_goes_on_with_the_numbers_of_those_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    for number in range(3):
        write(tmp_path, RUN, entry(1))
        path.rename(tmp_path / f"journal-2026010{number}T000000.000000Z.jsonl")
    write(tmp_path, RUN, entry(2))
    assert [(line.seq, getattr(line, "number", None)) for line in read(tmp_path)] == [(7, 1), (8, None)]


def test_a_repository_can_be_moved_and_its_journal_follows(tmp_path: Path) -> None:
    place = Workspace("/root/.worktrees/x-lane-a", "/root/kitty-specs/x/tasks/WP01.md")
    attempt = Attempt("id", 1, Role.IMPLEMENT, "codex", "/root/.kittify/logs/x/WP01/01")
    moved = Rescue(aside=("/root/.kittify/set-aside/x/WP01", "/elsewhere/x"))
    events = (Claimed(place, "sha"), AttemptOpened(attempt, moved))
    write(tmp_path, *(Entry(NOW, "WP01", one) for one in events))
    assert "/root" not in (tmp_path / "journal.jsonl").read_text()
    claimed, opened = read(tmp_path, Path("/moved"))
    assert isinstance(claimed, Entry)
    assert claimed.event == Claimed(
        Workspace("/moved/.worktrees/x-lane-a", "/moved/kitty-specs/x/tasks/WP01.md"), "sha"
    )
    assert isinstance(opened, Entry)
    there = Rescue(aside=("/moved/.kittify/set-aside/x/WP01", "/elsewhere/x"))
    assert opened.event == AttemptOpened(replace(attempt, directory="/moved/.kittify/logs/x/WP01/01"), there)


def test_text_that_is_not_unicode_is_replaced(tmp_path: Path) -> None:
    report = AgentReport(Outcome.FAILED, detail="caf\udce9 \ud83d end\0\u2028")
    write(tmp_path, Entry(NOW, "WP01", AgentExited("id", report)))
    mended = replace(report, detail="caf\ufffd \ufffd end\0\u2028")
    assert read(tmp_path) == [Entry(NOW, "WP01", AgentExited("id", mended))]


def test_files_are_private_and_hidden_from_git(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "mission"
    write(folder, RUN)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "journal.jsonl").stat().st_mode) == 0o600
    assert (folder / ".gitignore").read_text() == "*\n"


def test_a_journal_cut_at_any_byte_of_its_last_records_keeps_every_whole_one_and_goes_on(
    tmp_path: Path,
) -> None:
    lines: list[Line] = [RUN, *(entry(number) for number in range(4))]
    write(tmp_path, *lines)
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == 10]
    for cut in range(ends[-4], len(whole)):
        path.write_bytes(whole[:cut])
        kept = lines[: sum(end <= cut for end in ends)]
        assert read(tmp_path) == kept
        write(tmp_path, END)
        assert read(tmp_path) == [*kept, END]


@pytest.mark.parametrize("junk", [b"\0" * 50, b"\0\0\n", b'{"line":"event"\n', b"\xff\xfe\n", b"{"])
def test_what_a_power_cut_leaves_at_the_end_is_dropped(tmp_path: Path, junk: bytes) -> None:
    write(tmp_path, RUN)
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes() + junk)
    assert read(tmp_path) == [RUN]
    write(tmp_path, END)
    assert read(tmp_path) == [RUN, END]


@pytest.mark.parametrize(
    "junk",
    [
        b"{",
        b"\xff",
        b"[1]",
        b"",
        b'{"line":"event","at":"x"}',
        b'{"at":1}',
        b"[" * 100_000,
        b'{"line":"run","schema":2}',
    ],
)
def test_damage_in_the_middle_is_named_with_its_line_and_a_way_on(tmp_path: Path, junk: bytes) -> None:
    write(tmp_path, RUN, END)
    path = tmp_path / "journal.jsonl"
    first, last = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join((first, junk, last, b"")))
    with pytest.raises(JournalError, match=r"journal\.jsonl, line 2 is damaged.*move the file away"):
        read(tmp_path)


@pytest.mark.parametrize(
    "record",
    [
        {"line": "run", "schema": 1},
        {"line": "run", "schema": 3},
        {"line": "run"},
        {"line": "note"},
        {"line": "event", "at": "2026-01-01T00:00:00Z", "wp_id": "WP01", "event": {"kind": "teleported"}},
    ],
)
def test_what_another_version_wrote_is_refused_with_the_ways_on(tmp_path: Path, record: object) -> None:
    write(tmp_path, RUN)
    path = tmp_path / "journal.jsonl"
    path.write_text(path.read_text() + json.dumps(record) + "\n")
    with pytest.raises(
        JournalError, match=r"line 2: .*version of spec-kitty-orchestrator that wrote it.*--fresh"
    ):
        read(tmp_path)


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_full_disk_is_an_error_that_leaves_no_broken_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    write(tmp_path, RUN)
    real_write = os.write

    def half(descriptor: int, data: bytes) -> int:
        return real_write(descriptor, data[: len(data) // 2])

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    # Only files: the event loop writes to its own pipe.
    def write_half(descriptor: int, data: bytes) -> int:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return half(descriptor, data) if regular else real_write(descriptor, data)

    with monkeypatch.context() as patch:
        if failing == "write":
            patch.setattr("os.write", write_half)
        else:
            patch.setattr("os.fsync", full)
        with pytest.raises(JournalError, match=r"journal\.jsonl cannot be written: No space left"):
            write(tmp_path, entry(1))
    assert read(tmp_path) == [RUN]
    write(tmp_path, END)
    assert read(tmp_path) == [RUN, END]


def test_a_place_that_cannot_be_written_is_an_error_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=r"file/mission/journal\.jsonl cannot be written"):
        write(tmp_path / "file" / "mission", RUN)


def test_a_file_that_cannot_be_read_is_an_error_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").mkdir()
    with pytest.raises(JournalError, match=r"journal\.jsonl cannot be read: Is a directory"):
        read(tmp_path)


@pytest.mark.asyncio
async def test_lines_appended_at_once_share_the_disk_s_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = JsonlJournal(tmp_path, ROOT)
    await journal.append(RUN)
    syncs: list[int] = []
    monkeypatch.setattr("os.fsync", syncs.append)
    lines = [Entry(NOW, f"WP{number:02}", Submitted()) for number in range(50)]
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for line in lines:
                tasks.start_soon(journal.append, line)
    assert len(syncs) < 10


@pytest.mark.asyncio
async def test_a_failed_append_does_not_spoil_the_next(tmp_path: Path) -> None:
    (tmp_path / "mission").write_text("in the way")
    journal = JsonlJournal(tmp_path / "mission", ROOT)
    with pytest.raises(JournalError):
        await journal.append(RUN)
    (tmp_path / "mission").unlink()
    await journal.append(Entry(NOW, "WP01", Submitted()))
    assert await journal.read() == [Entry(NOW, "WP01", Submitted())]


def test_the_clock_tells_utc_with_its_zone() -> None:
    assert SystemClock().now().tzinfo is UTC


def test_what_somebody_said_is_kept_without_secrets_and_names_and_paths_stay(tmp_path: Path) -> None:
    report = AgentReport(Outcome.FAILED, text="a hidden thing", detail="hidden", session="hidden")
    event = AgentExited("hidden", report, refused=HostRefused("x", "X", "hidden", Lane.PLANNED))

    async def append() -> None:
        journal = JsonlJournal(tmp_path, ROOT, clean=lambda text: text.replace("hidden", "-"))
        await journal.append(Entry(NOW, "hidden", event))

    anyio.run(append)
    (kept,) = read(tmp_path)
    clean = AgentReport(Outcome.FAILED, text="a - thing", detail="-", session="hidden")
    refused = HostRefused("x", "X", "-", Lane.PLANNED)
    assert kept == Entry(NOW, "hidden", AgentExited("hidden", clean, refused=refused))


def test_whoever_looks_at_a_growing_journal_gets_each_line_once_and_no_torn_one(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    reader = JsonlJournal(tmp_path, ROOT)
    assert reader.look() == []
    write(tmp_path, RUN, entry(1))
    assert reader.look() == [RUN, entry(1)]
    assert reader.look() == []
    whole = path.read_bytes()
    write(tmp_path, entry(2))
    added = path.read_bytes()[len(whole) :]
    for end in (1, len(added) // 2, len(added) - 1):
        path.write_bytes(whole + added[:end])
        assert reader.look() == []
    path.write_bytes(whole + added)
    assert reader.look() == [entry(2)]
    assert reader.begun == 1


def test_a_journal_that_takes_the_place_of_another_is_looked_at_from_its_beginning(tmp_path: Path) -> None:
    path, other = tmp_path / "journal.jsonl", tmp_path / "other" / "journal.jsonl"
    reader = JsonlJournal(tmp_path, ROOT)
    write(tmp_path, RUN, entry(1))
    reader.look()
    write(other.parent, RUN, entry(2))
    other.replace(path)
    assert reader.look() == [RUN, entry(2)]
    assert reader.begun == 2
    path.write_bytes(b"")
    assert reader.look() == []
    write(tmp_path, RUN)
    assert reader.look() == [RUN]


def test_a_look_tells_of_damage_once_and_goes_on_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(tmp_path, RUN, entry(1))
    start, first = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(start)
    reader = JsonlJournal(tmp_path, ROOT)
    assert reader.look() == [RUN]
    path.write_bytes(start + b"}{\n" + first)
    with pytest.raises(JournalError, match="line 2"):
        reader.look()
    write(tmp_path, entry(2))
    assert reader.look() == [entry(2)]
