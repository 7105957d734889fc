"""The start of a run: what is asked in which order, what is said meanwhile, and what it does not wait for."""

from pathlib import Path
from typing import Any

import pytest

Project = Any  # the class lives in conftest, which tests cannot import

SLUG = "demo-01ABC"
OWNER = f".kittify/orchestrator/{SLUG}/owner.json"


def watch_the_lock(project: Project) -> Path:
    """Let the host note at each `mission-state` whether the mission is locked; return the notes."""
    host: Path = project.bin / "spec-kitty"
    notes = host.with_name("locked")
    note = (
        f'case "$2" in mission-state) if [ -e {OWNER} ]; then echo yes; else echo no; fi >>{notes} ;; esac\n'
    )
    host.write_text(host.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{note}"))
    return notes


def test_a_run_reads_the_lanes_after_it_has_the_lock(project: Project) -> None:
    project.lanes({"WP01": "approved"})
    notes = watch_the_lock(project)
    assert project.orchestrate().returncode == 0
    assert set(notes.read_text().split()) == {"yes"}


def test_a_mission_given_by_the_end_of_its_name_is_read_again_under_the_lock(project: Project) -> None:
    project.lanes({"WP01": "approved"})
    notes = watch_the_lock(project)
    chosen = ("--impl-agent", "scripted", "--review-agent", "scripted")
    assert project.run("orchestrate", "--mission", "01ABC", *chosen).returncode == 0
    assert notes.read_text().split()[:2] == ["no", "yes"]


@pytest.mark.parametrize("command", ["retry", "skip"])
def test_an_operator_decides_on_lanes_that_were_read_under_the_lock(project: Project, command: str) -> None:
    project.lanes({"WP01": "blocked"})
    project.answer("transition", '{"success": true, "data": {}}\n')
    notes = watch_the_lock(project)
    assert project.run(command, "WP01", "--mission", SLUG).returncode == 0
    assert set(notes.read_text().split()) == {"yes"}


def test_the_start_says_what_it_asks_before_the_answer(project: Project) -> None:
    project.lanes({"WP01": "approved"})
    shown = project.orchestrate().stdout.splitlines()
    assert shown[0].endswith(f"run   asking spec-kitty for the mission {SLUG}")


def test_an_agent_that_is_slow_to_say_its_version_holds_nothing_up(project: Project) -> None:
    project.lanes({"WP01": "approved"})
    program = project.bin / "codex"
    program.write_text("#!/bin/sh\nexec sleep 3600\n")
    program.chmod(0o755)
    done = project.orchestrate(agents="codex")
    assert done.returncode == 0
    assert "--version" not in done.stdout
