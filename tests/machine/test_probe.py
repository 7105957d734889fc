"""Questions to programs that may hang, flood, or leave others running."""

import os
from pathlib import Path

import anyio
import psutil
import pytest

from spec_kitty_orchestrator.machine import probe
from spec_kitty_orchestrator.machine.probe import Answer, ask

ENV = {"PATH": os.environ.get("PATH", os.defpath)}


def program(folder: Path, text: str) -> str:
    file = folder / "program"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.asyncio
async def test_a_program_answers_with_both_streams_and_its_exit_code(tmp_path: Path) -> None:
    asked = program(tmp_path, 'echo "$1"; printf "\\377b" >&2; exit 3')
    with anyio.fail_after(20):
        assert await ask([asked, "1.2.3"], ENV, 15) == Answer(3, "1.2.3\n", "\ufffdb")


@pytest.mark.asyncio
async def test_it_runs_in_an_empty_folder_with_nothing_to_read(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        answer = await ask([program(tmp_path, "ls -A; cat; pwd")], ENV, 15)
    assert answer.exit_code == 0
    (folder,) = answer.stdout.splitlines()
    assert not await anyio.Path(folder).exists()


@pytest.mark.asyncio
async def test_a_program_that_hangs_is_stopped_with_what_it_started(tmp_path: Path) -> None:
    # `setsid` takes the child out of the group, as the shell tools of agents do.
    lines = f"setsid sleep 61.25 & echo $! >{tmp_path}/pid; trap '' TERM; while :; do sleep 61.25; done"
    asked = program(tmp_path, lines)
    with anyio.fail_after(30):
        answer = await ask([asked], ENV, 0.5)
    assert answer.exit_code is None
    assert answer.failure == "did not end within 0.5 s and was stopped"
    assert (tmp_path / "pid").exists()
    assert not [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "61.25"]]


@pytest.mark.asyncio
async def test_what_a_program_leaves_running_ends_with_it(tmp_path: Path) -> None:
    asked = program(tmp_path, "setsid sleep 62.25 >/dev/null 2>&1 & echo 1.0.0")
    with anyio.fail_after(30):
        assert (await ask([asked], ENV, 15)).exit_code == 0
    assert not [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "62.25"]]


@pytest.mark.asyncio
async def test_a_program_that_floods_is_stopped_before_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "MOST_BYTES", 1000)
    asked = program(tmp_path, "while :; do echo xxxxxxxxxxxxxxxxxxxx; done")
    with anyio.fail_after(60):
        answer = await ask([asked], ENV, 300)
    assert answer.failure == "printed without an end and was stopped"
    assert len(answer.stdout) <= 1000


@pytest.mark.asyncio
async def test_canceling_a_question_leaves_nothing_running(tmp_path: Path) -> None:
    asked = program(tmp_path, "sleep 63.25")
    with anyio.fail_after(30):
        with anyio.move_on_after(0.3) as scope:
            await ask([asked], ENV, 300)
        assert scope.cancelled_caught
    assert not [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "63.25"]]


@pytest.mark.asyncio
async def test_a_program_that_is_not_there_is_an_answer_too(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        answer = await ask([str(tmp_path / "missing")], ENV, 15)
    assert (answer.exit_code, answer.started) == (None, False)
