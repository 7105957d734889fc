"""Budgets through the command: what is refused, named and remembered."""

from typing import Any

import pytest
from tests.cli.journals import (
    POLICY,
    SLUG,
    event,
    last_start,
    read_journal,
    records,
    start_line,
    write_journal,
)

BUDGET = ("max_cost", "max_tokens", "max_duration", "max_cost_per_wp", "budget_hard", "strict_budget")
Project = Any  # the class lives in conftest, which tests cannot import


def last_budget(project: Project) -> dict[str, object]:
    found = last_start(project)["settings"]
    return {key: found[key] for key in BUDGET}


def test_limits_are_remembered_for_the_next_start_until_others_are_given(project: Project) -> None:
    project.lanes({"WP01": "canceled"})
    limits = ("--max-cost", "$12.50", "--max-tokens", "2M", "--max-duration", "8h", "--max-cost-per-wp", "3")
    assert project.orchestrate(*limits, "--budget-hard").returncode == 1
    expected = dict(zip(BUDGET, (12.5, 2_000_000, 28_800.0, 3.0, True, False), strict=True))
    assert last_budget(project) == expected
    assert project.run("resume", "--max-cost", "40").returncode == 1
    assert last_budget(project) == expected | {"max_cost": 40.0}


def test_an_agent_that_tells_no_cost_is_named_and_refused_where_that_was_asked_for(project: Project) -> None:
    project.lanes({"WP01": "canceled"})
    (project.bin / "codex").write_text("#!/bin/sh\n")
    (project.bin / "codex").chmod(0o755)
    named = "agent codex does not report its cost"
    done = project.orchestrate("--max-cost", "5", agents="codex")
    assert (done.returncode, done.stdout.count(named)) == (1, 1)
    done = project.orchestrate("--max-cost", "5", "--strict-budget", agents="codex")
    assert done.returncode == 5
    assert named in done.stderr
    assert named not in project.orchestrate("--max-tokens", "5k", "--fresh", agents="codex").stdout


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--max-cost", "0"),
        ("--max-cost", "cheap"),
        ("--max-cost", "-1"),
        ("--max-tokens", "1.5"),
        ("--max-tokens", "0"),
        ("--max-duration", "soon"),
        ("--max-wait", "0"),
    ],
)
def test_a_limit_that_is_none_is_refused_with_an_example(project: Project, flag: str, value: str) -> None:
    done = project.orchestrate(f"{flag}={value}")
    assert done.returncode == 2
    assert flag in done.stderr
    assert "write for example" in done.stderr


ATTEMPT = {"id": "a" * 16, "number": 1, "role": "implement", "agent": "scripted", "directory": "/logs"}
SPACE = {"path": "/nowhere", "prompt_path": "p", "lane_id": "lane-a", "branch": "b"}


def spent(project: Project, cost_usd: float) -> None:
    """Write the journal of a run whose only attempt cost so much."""
    mission = {"slug": SLUG, "lanes": {"WP01": "planned"}, "dependencies": {}}
    report = {"outcome": "failed", "detail": "boom", "usage": {"input_tokens": 70, "cost_usd": cost_usd}}
    write_journal(
        project,
        start_line(settings=POLICY, mission=mission),
        event("WP01", "scheduled", lane="planned", workspace=SPACE),
        event("WP01", "claimed", workspace=SPACE, head="a" * 40),
        event("WP01", "attempt_opened", attempt=ATTEMPT),
        event("WP01", "agent_exited", attempt_id="a" * 16, report=report),
    )


def test_a_fresh_start_knows_what_was_spent_before_and_counts_it(project: Project) -> None:
    spent(project, 3.0)
    project.lanes({"WP01": "canceled"})
    for _ in range(2):
        done = project.orchestrate("--fresh", "--max-cost", "5")
        assert "used 70 tokens in, 0 out, $3.00" in done.stdout
        assert "this counts towards the budget" in done.stdout
        assert "before that, in runs whose journals were put aside: 70 tokens in" in done.stdout
    assert len(list(records(project).glob("journal-*.jsonl"))) == 2
    before = next(one["event"] for one in read_journal(project) if one["line"] == "event")
    assert before == {
        "kind": "spent_before",
        "usage": {"input_tokens": 70, "output_tokens": 0, "cost_usd": 3.0},
        "cost_usd_of": {"WP01": 3.0},
    }
    told = project.run("status", "--mission", SLUG)
    assert "before that, in runs whose journals were put aside: 70 tokens in, 0 out, $3.00" in told.stdout


def test_a_budget_that_earlier_runs_used_up_is_used_up_after_a_fresh_start(project: Project) -> None:
    spent(project, 6.0)
    project.lanes({"WP01": "planned"})
    done = project.orchestrate("--fresh", "--max-cost", "5")
    assert done.returncode == 7, done.stdout
    assert "$6.00 of $5.00 are spent" in done.stdout


def test_cleaning_up_keeps_what_tells_what_was_spent(project: Project) -> None:
    spent(project, 3.0)
    done = project.run("abort", "--cleanup-worktrees", "--mission", SLUG)
    assert done.returncode == 0, done.stderr
    assert "but journals, which tell what the runs cost" in done.stdout
    assert sorted(one.name[:8] for one in records(project).iterdir()) == [".gitigno", "journal-"]
    project.lanes({"WP01": "canceled"})
    assert "$3.00 as reported by the agents; this counts towards the budget" in project.orchestrate().stdout


def test_a_damaged_journal_that_was_put_aside_is_named(project: Project) -> None:
    (records(project) / "journal.jsonl").write_text('nonsense\n{"line": "end"}\n')
    project.lanes({"WP01": "canceled"})
    done = project.orchestrate("--fresh")
    assert "cost cannot be read, and does not count" in done.stdout


def test_a_journal_that_a_crash_left_without_a_line_does_not_hide_what_was_spent(project: Project) -> None:
    spent(project, 3.0)
    project.lanes({"WP01": "canceled"})
    project.orchestrate("--fresh")
    (records(project) / "journal.jsonl").write_text('{"seq":1,"line":"ev')
    assert "$3.00 as reported by the agents; this counts towards the budget" in project.orchestrate().stdout
