"""Events for other programs: what a run prints with `--output jsonl`, and what `events` reads later."""

import json
from typing import Any

from tests.cli.journals import SLUG, read_journal

Project = Any  # the class lives in conftest, which tests cannot import


def documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_prints_each_line_of_its_journal_as_an_object_and_everything_else_elsewhere(
    project: Project,
) -> None:
    project.lanes({"WP01": "approved"})
    done = project.orchestrate("--output", "jsonl")
    assert done.returncode == 0
    told = documents(done.stdout)
    assert [one["kind"] for one in told] == ["run_started", "run_ended"]
    assert [one["seq"] for one in told] == [line["seq"] for line in read_journal(project)]
    assert {(one["schema"], one["mission"]) for one in told} == {(1, SLUG)}
    assert f"asking spec-kitty for the mission {SLUG}" in done.stderr
    assert "Accept after the merge" in done.stderr


def test_plain_lines_can_be_asked_for_and_a_live_table_needs_a_terminal(project: Project) -> None:
    project.lanes({"WP01": "approved"})
    assert f"run   {SLUG}: 1 work package" in project.orchestrate("--output", "plain").stdout
    done = project.orchestrate("--output", "live")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --output live needs a terminal; `plain` and `jsonl` do not\n"


def test_a_dry_run_has_no_events(project: Project) -> None:
    done = project.orchestrate("--dry-run", "--output", "jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    assert "so there are no events" in done.stderr
