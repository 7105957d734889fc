"""A start that waited out another one decides from what it reads once the mission is its own."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.cli.working import LIMIT_S, MAIN, ONE, at_work, attempts, environment, host_of_one, lane_of

SLUG = "demo-01ABC"
Project = Any  # the class lives in conftest, which tests cannot import

LATE = """
if call == "mission-state" and (here / "hold").exists():
    (here / "hold").unlink()
    open({pipe!r}).read()
    lanes = dict(WP01="{lane}")
"""
"""One read of the mission gets its answer only when the test lets it, and with what was true long before."""


@pytest.mark.parametrize("lane", ["planned", "in_review"])
def test_what_was_read_while_another_run_was_at_work_does_not_undo_what_that_one_did(
    project: Project, tmp_path: Path, lane: str
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    host_of_one(project, before=LATE.format(pipe=str(pipe), lane=lane))
    with at_work(project, *ONE) as working:
        (project.bin / "spec-kitty.d" / "hold").touch()
        with subprocess.Popen(
            [*MAIN, "orchestrate", "--mission", SLUG, *ONE],
            cwd=project.root,
            env=environment(project),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as second:
            # Opening it waits until the second start reads.
            with pipe.open("w"):
                working.let_the_agent_end()
                assert working.ended()[0] == 0
                before = attempts(project)
            told, _ = second.communicate(timeout=LIMIT_S)
    assert (second.returncode, lane_of(project)) == (0, "done"), told
    assert attempts(project) == before
    assert "1 done" in told
