"""The start of a run: what is asked in which order, what is said meanwhile, and what it does not wait for."""

import json
from typing import Any

import pytest
from tests.cli.journals import SLUG, start_line

Project = Any  # the class lives in conftest, which tests cannot import


def end_another_run_after_the_first_read(project: Project, lane: str) -> None:
    """Let the first `mission-state` be followed by another run's journal and by the lane that it left."""
    project.lanes({"WP01": lane})
    folder = project.bin / "spec-kitty.d"
    (folder / "mission-state").rename(folder / "later")
    project.lanes({"WP01": "blocked"})
    (folder / "journal.jsonl").write_text(json.dumps(start_line()) + "\n")
    records = f".kittify/orchestrator/{SLUG}"
    (folder / "after").write_text(
        f"mkdir -p {records}; cp {folder}/journal.jsonl {records}; mv {folder}/later {folder}/mission-state\n"
    )
    host = project.bin / "spec-kitty"
    # The answer is what the host saw when it was asked.
    seen = 'case "$2" in mission-state) cp "$0.d/mission-state" "$0.d/now"'
    left = f'[ -e {folder}/later ] && . {folder}/after; cat "$0.d/now"; exit 0 ;; esac'
    lines = host.read_text().splitlines()
    lines.insert(2, f"{seen}; {left}")
    host.write_text("\n".join(lines) + "\n")


def test_a_start_that_waited_out_another_run_decides_on_the_lanes_that_it_left(project: Project) -> None:
    end_another_run_after_the_first_read(project, "approved")
    done = project.orchestrate()
    assert done.returncode == 0, done.stderr
    assert len(project.calls("mission-state")) == 2


@pytest.mark.parametrize("command", ["retry", "skip"])
def test_an_operator_decides_on_the_lanes_that_another_run_left(project: Project, command: str) -> None:
    end_another_run_after_the_first_read(project, "approved")
    done = project.run(command, "WP01", "--mission", SLUG)
    assert done.returncode == 2
    assert "WP01 is approved on the host" in done.stderr


def test_a_start_alone_reads_the_mission_once(project: Project) -> None:
    project.lanes({"WP01": "approved"})
    assert project.orchestrate().returncode == 0
    assert len(project.calls("mission-state")) == 1


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
