"""Budgets through the command: what is refused, named and remembered."""

from typing import Any

import pytest
from tests.cli.journals import last_start

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
