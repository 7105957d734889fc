"""Orders as files: taken once, answered, withdrawn; whatever else lies there is removed and told."""

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import anyio
import pytest

from spec_kitty_orchestrator.app.runs import archive_journal
from spec_kitty_orchestrator.core.orders import Changed, Order, Pause, Stop, Tell
from spec_kitty_orchestrator.machine import orders
from spec_kitty_orchestrator.machine.logs import JOURNALS
from spec_kitty_orchestrator.machine.orders import Answer, OrderFolder, give

pytestmark = pytest.mark.asyncio

STOP = {"order": {"kind": "stop", "wp": "WP01"}}


async def unchanged(settings: Mapping[str, object], changes: Mapping[str, str]) -> Changed:
    raise AssertionError


class Listener:
    """A run that takes orders."""

    def __init__(self, directory: Path) -> None:
        self.said: list[str] = []
        self.port = OrderFolder(directory, unchanged, self.said.append)

    async def take(self, text: str = "done", *, refused: bool = False) -> Order:
        """Take the next order and answer it."""
        with anyio.fail_after(10):
            given = await self.port.next()
            await self.port.answer(given.id, text, refused=refused)
        return given.order


def written(directory: Path, name: str, text: str, mode: int = 0o600) -> Path:
    """Write what may be no order."""
    folder = directory / orders.FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    file = folder / name
    file.write_text(text)
    file.chmod(mode)
    return file


async def test_an_order_is_answered_and_leaves_nothing(tmp_path: Path) -> None:
    run, answers = Listener(tmp_path), list[Answer | None]()

    async def person() -> None:
        answers.append(await give(tmp_path, Tell("WP01", "use tabs"), lambda: True))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(person)
        assert await run.take("it is told") == Tell("WP01", "use tabs")
    assert answers == [Answer("it is told")]
    assert list((tmp_path / orders.FOLDER).iterdir()) == []
    assert stat.S_IMODE((tmp_path / orders.FOLDER).stat().st_mode) == 0o700


async def test_what_nobody_takes_is_withdrawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "ANSWER_LIMIT_S", 0.05)
    assert await give(tmp_path, Pause(), lambda: True) is None
    assert list((tmp_path / orders.FOLDER).iterdir()) == []


async def test_an_order_to_a_run_that_has_just_ended_is_withdrawn_at_once(tmp_path: Path) -> None:
    with anyio.fail_after(4):
        assert await give(tmp_path, Pause(), lambda: False) is None
    assert list((tmp_path / orders.FOLDER).iterdir()) == []


async def test_an_order_that_was_taken_is_not_withdrawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "ANSWER_LIMIT_S", 0.5)
    run, late = Listener(tmp_path), list[bool]()

    async def person() -> None:
        try:
            await give(tmp_path, Pause(), lambda: True)
        except TimeoutError:
            late.append(True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(person)
        await run.port.next()
    assert late == [True]


async def test_a_run_is_not_drained_because_the_one_before_it_was_to_be(tmp_path: Path) -> None:
    left = written(tmp_path, "00000001.taken", json.dumps({"order": {"kind": "drain"}}))
    written(tmp_path, "00000002.order", json.dumps(STOP))
    assert (await Listener(tmp_path).port.next()).id == "00000002"
    assert not left.exists()


async def test_a_fresh_start_repeats_no_order_that_a_run_before_it_had_taken(tmp_path: Path) -> None:
    directory = tmp_path / JOURNALS / "demo"
    directory.mkdir(parents=True)
    taken, new = (written(directory, f"0000000{i}.{end}", "x") for i, end in enumerate(("taken", "order")))
    (directory / "journal.jsonl").touch()
    assert archive_journal(tmp_path, "demo") is not None
    assert (taken.exists(), new.exists()) == (False, True)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ("[]", "it is no object"),
        ("[" * 50_000, "recursion"),
        ('{"order": {"kind": "launch"}}', "no order is called launch"),
        ('{"order": {"kind": "stop"}}', "wp is missing"),
        ('{"order": {"kind": "stop", "wp": 3}}', "it is no text"),
        (json.dumps({"order": {"kind": "tell", "wp": "WP01", "note": "x" * 5000}}), "4000 characters"),
        (json.dumps({"order": {"kind": "tell", "wp": "WP01", "note": "x" * 70_000}}), "too long"),
    ],
)
async def test_garbage_is_removed_told_and_answered(tmp_path: Path, text: str, why: str) -> None:
    run, file = Listener(tmp_path), written(tmp_path, "00000001.order", text)
    written(tmp_path, "00000002.order", json.dumps(STOP))
    assert await run.take() == Stop("WP01")
    assert len(run.said) == 1
    assert why in run.said[0]
    assert not file.exists()
    assert json.loads((file.parent / "00000001.answer").read_text())["refused"]


@pytest.mark.parametrize("kind", ["symlink", "hard link", "pipe", "folder", "open to others"])
async def test_what_is_no_private_file_is_removed_and_told(tmp_path: Path, kind: str) -> None:
    run, good = Listener(tmp_path), tmp_path / "elsewhere.json"
    good.write_text(json.dumps(STOP))
    good.chmod(0o600)
    file = written(tmp_path, "00000001.order", json.dumps(STOP), 0o620)
    if kind != "open to others":
        file.unlink()
    match kind:
        case "symlink":
            file.symlink_to(good)
        case "hard link":
            file.hardlink_to(good)
        case "pipe":
            os.mkfifo(file, 0o600)
        case "folder":
            file.mkdir()
    written(tmp_path, "00000002.order", json.dumps({"order": {"kind": "pause"}}))
    assert await run.take() == Pause()
    assert len(run.said) == 1
    assert file.name not in {one.name for one in file.parent.iterdir()}
    assert good.exists()


async def test_no_order_is_taken_from_a_folder_that_a_link_leads_to(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    written(elsewhere, "00000001.order", json.dumps(STOP))
    (tmp_path / orders.FOLDER).symlink_to(elsewhere / orders.FOLDER)
    run = Listener(tmp_path)
    with anyio.move_on_after(0.3):
        await run.port.next()
    assert run.said == [f"{tmp_path / orders.FOLDER} is no folder of ours: no orders are taken"]
