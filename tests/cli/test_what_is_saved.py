"""What is not in a commit is named where it is told and in the summary, with where it is."""

import subprocess
from pathlib import Path
from typing import Any

from tests.cli.working import ONE, at_work, host_of_one, lane_of

Project = Any  # the class lives in conftest, which tests cannot import

A_PERSON_EDITS = """\
if call == "start-review":
    pathlib.Path("w/WP01/person.txt").write_text("precious")
"""


def test_the_summary_names_all_that_the_commit_does_not_hold_and_where_it_is(project: Project) -> None:
    host_of_one(project, before=A_PERSON_EDITS)
    where = project.root / "w" / "WP01"
    (project.root / ".git" / "info" / "exclude").write_text("*.log\n/w/\n")
    with at_work(project, *ONE) as working:
        (where / "hidden.log").write_text("work")
        (where / "core.1").write_bytes(b"\0" * 6_000_000)
        (where / ".env").write_text("A=1\n")
        working.let_the_agent_end()
        code, told = working.ended()
    assert (code, lane_of(project)) == (0, "done"), told
    lines = [line.strip() for line in told.splitlines()]
    saved = [line.removeprefix("saved work: ") for line in lines if line.startswith("saved work: ")]
    contents = [
        subprocess.run(one, shell=True, check=True, capture_output=True, text=True).stdout for one in saved
    ]
    assert any("person.txt" in one and "precious" in one for one in contents)
    assert any(".env" in one for one in contents)
    aside = [line.rpartition(": ")[2] for line in lines if line.startswith("moved aside")]
    assert [Path(one).name for one in aside] == ["core.1"]
    assert Path(aside[0]).stat().st_size == 6_000_000
    note = "git ignores these new files, so no commit holds them and a merge deletes them: hidden.log"
    assert note in lines
    assert "not committed: .env: may hold secrets, core.1: larger than 5 MB" in lines
    void = next(line for line in lines if "does not count: it changed person.txt" in line)
    assert "git show refs/spec-kitty-orchestrator/" in void
    review = next((project.root / ".kittify" / "logs").glob("*/WP01/*-review-*/prompt.md")).read_text()
    assert "NOT in the commit" in review
    assert note in review
