"""Orders through the command: without a run, and from where none may come."""

import json
from typing import Any

from tests.cli.journals import POLICY, SLUG, event, read_journal, start_line, write_journal
from tests.cli.working import at_work, host_of_one

from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.machine.process import MARKER

Project = Any  # the class lives in conftest, which tests cannot import

SPACE = {"path": "/nowhere", "prompt_path": "p", "lane_id": "lane-a", "branch": "b"}


def journal(project: Project) -> None:
    write_journal(
        project,
        start_line(settings={**POLICY, "actor": "me"}),
        event("WP02", "scheduled", lane="planned", workspace=SPACE),
    )


def test_without_a_run_a_pause_and_a_note_are_for_the_next_start(project: Project) -> None:
    journal(project)
    done = project.run("pause")
    assert done.returncode == 0, done.stderr
    assert f"for the next start of {SLUG}" in done.stdout
    assert project.run("tell", "WP02", "use tabs").returncode == 0
    kinds = [line["event"]["kind"] for line in read_journal(project)[1:]]
    assert kinds == ["scheduled", "paused", "told"]
    status = json.loads(project.run("status", "--format", "json").stdout)
    assert [one["wp"] for one in status["paused"]] == [""]
    assert "The run is paused by you at " in project.run("status").stdout
    assert project.run("continue").returncode == 0
    again = project.run("continue")
    assert (again.returncode, "nothing is paused" in again.stderr) == (2, True)


def test_what_only_a_run_can_do_says_that_none_is_active(project: Project) -> None:
    journal(project)
    for words in (("stop", "WP02"), ("set", "max_cost=4"), ("drain",)):
        done = project.run(*words)
        assert (done.returncode, "no run is active here" in done.stderr) == (2, True)
    assert "write NAME=VALUE" in project.run("set", "max_cost").stderr


def test_an_agent_can_give_no_orders(project: Project) -> None:
    journal(project)
    project.env[MARKER] = "a" * 16
    done = project.run("pause")
    assert done.returncode == 2
    assert "orders are for people" in done.stderr
    assert len(read_journal(project)) == 2


def test_an_order_that_nobody_takes_is_withdrawn(project: Project) -> None:
    journal(project)
    with MissionLock(project.root / ".kittify" / "orchestrator" / SLUG, SLUG):
        done = project.run("pause")
    assert done.returncode == 4
    assert "so it was withdrawn: nothing is changed" in done.stderr
    assert len(read_journal(project)) == 2


def test_what_an_attempt_cost_that_nobody_waited_for_is_known_before_a_person_takes_over(
    project: Project,
) -> None:
    host_of_one(project)
    with at_work(project, "--impl-agent", "one", "--review-agent", "two") as working:
        working.run.kill()
        working.run.wait()
        working.let_the_agent_end()
        assert working.agent_is_gone()
    project.run("takeover", "WP01", "--as", "anna")
    told = [one["event"] for one in read_journal(project) if "event" in one]
    kinds = [one["kind"] for one in told]
    ended = told[kinds.index("taken_over") - 1]
    assert (ended["kind"], ended["report"]["outcome"]) == ("agent_exited", "ok")
