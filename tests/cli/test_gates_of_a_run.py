"""Which gates a run has when it goes on: those that it was given, and those of the file as it is now."""

import os
from pathlib import Path

from tests.machine.conftest import git

from spec_kitty_orchestrator.app.project import open_project


def test_a_run_remembers_the_gates_that_it_was_given_and_takes_the_others_from_the_file(
    tmp_path: Path,
) -> None:
    git(tmp_path, "init", "-q")
    file = tmp_path / ".kittify" / "orchestrator.toml"
    file.parent.mkdir()
    file.write_text('[[gates]]\nname = "lint"\ncommand = "wrong"\n[[gates]]\nname = "old"\ncommand = "x"\n')
    first = open_project(tmp_path, os.environ, {"gate": ["make docs"]})
    assert [one.name for one in first.policy.gates] == ["lint", "old", "make"]
    file.write_text('[[gates]]\nname = "lint"\ncommand = "fixed"\n')
    found = open_project(tmp_path, os.environ, {}, first.recorded).policy.gates
    assert [(one.name, one.command[-1]) for one in found] == [("lint", "fixed"), ("make", "make docs")]
