"""What people are shown of agents whose quota is used up, through the command."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.cli.journals import POLICY, SLUG, event, last_start, start_line, write_journal

Project = Any  # the class lives in conftest, which tests cannot import
TEN_HOURS_S = 36_000.0


def limited(project: Project, **changes: object) -> datetime:
    """Write the journal of a run whose agent was limited just now; return when its quota is back."""
    now = datetime.now(UTC).replace(microsecond=0)
    place = {"path": "w", "prompt_path": "p", "lane_id": "a", "branch": "b", "base_ref": "c"}
    attempt = {"id": "id1", "number": 1, "role": "implement", "agent": "scripted", "directory": "d"}
    report = {"outcome": "rate_limited", "retry_after_s": TEN_HOURS_S}
    lines = [
        start_line(settings={**POLICY, **changes}),
        event("WP09", "scheduled", lane="planned", workspace=place),
        event("WP09", "claimed", workspace=place, head="0" * 40),
        event("WP09", "attempt_opened", attempt=attempt),
        event("WP09", "agent_exited", attempt_id="id1", report=report),
    ]
    write_journal(project, *({**line, "at": now.isoformat()} for line in lines))
    return now + timedelta(seconds=TEN_HOURS_S)


def test_status_says_who_rests_until_when(project: Project) -> None:
    until = limited(project)
    project.lanes({"WP01": "planned"})
    done = project.run("status", "--mission", SLUG)
    assert f"scripted is paused: its quota is used up until {until:%Y-%m-%d %H:%M} UTC" in done.stdout
    document = json.loads(project.run("status", "--mission", SLUG, "--format", "json").stdout)
    assert document["agents_resting"] == {"scripted": until.isoformat()}


def test_a_run_that_could_only_wait_for_too_long_claims_nothing_and_ends_with_75(project: Project) -> None:
    until = limited(project)
    project.lanes({"WP01": "planned", "WP09": "canceled"})
    done = project.run("resume")
    assert done.returncode == 75, done.stderr
    rests = f"its quota is used up until {until:%Y-%m-%d %H:%M} UTC"
    assert "It ended before its work was done: waiting for quotas would take longer than 6 h" in done.stdout
    assert f"scripted is paused: {rests}" in done.stdout
    assert f"why: waits for scripted: {rests}" in done.stdout
    assert "spec-kitty-orchestrator resume --mission" in done.stdout
    assert project.calls("start-implementation") == []


def test_what_a_run_does_about_quotas_is_remembered(project: Project) -> None:
    limited(project, on_rate_limit="stop", max_wait=120.0)
    project.lanes({"WP01": "done", "WP09": "done"})
    done = project.run("resume")
    # Others completed what we had begun.
    assert done.returncode == 1, done.stderr
    assert "no review of ours approved it" in done.stdout
    assert last_start(project)["settings"].items() >= {"on_rate_limit": "stop", "max_wait": 120.0}.items()
