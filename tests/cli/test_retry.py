"""`retry` and `skip` through the command and a host that answers from files."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.cli.journals import POLICY, SLUG, Line, event, read_journal, start_line, write_journal

from spec_kitty_orchestrator.machine.lock import MissionLock

SPACE = {"path": "/nowhere", "prompt_path": "p", "lane_id": "lane-a", "branch": "b"}
Project = Any  # the class lives in conftest, which tests cannot import


def journal(project: Project, *events: Line) -> Path:
    return write_journal(project, start_line(settings={**POLICY, "actor": "me"}), *events)


def parked(lane: str) -> list[Line]:
    return [
        event("WP02", "scheduled", lane="planned", workspace=SPACE),
        event("WP02", "claimed", workspace=SPACE, head="a" * 40),
        event("WP02", "workspace_failed", message="broken"),
        event("WP02", "parked", lane=lane),
    ]


def recorded(project: Project) -> list[dict[str, Any]]:
    return [line["event"] for line in read_journal(project)[1:]]


@pytest.fixture(autouse=True)
def _host(project: Project) -> None:
    project.answer("transition", json.dumps({"success": True, "data": {}}) + "\n")


def test_a_blocked_work_package_that_was_begun_goes_back_to_in_progress(project: Project) -> None:
    project.lanes({"WP01": "done", "WP02": "blocked"})
    journal(project, *parked("blocked"))
    done = project.run("retry", "WP02", "--note", "use a dict")
    assert done.returncode == 0, done.stderr
    (call,) = project.calls("transition")
    assert "--wp WP02 --to in_progress --actor me" in call
    assert "--note use a dict" in call
    assert "--force" not in call
    retried, unblocked = recorded(project)[-2:]
    assert (retried["kind"], retried["note"], bool(retried["by"])) == ("retried", "use a dict", True)
    assert unblocked == {"kind": "unblocked", "lane": "in_progress"}
    assert "WP02 is back to work: in_progress on the host" in done.stdout
    assert f"To go on: spec-kitty-orchestrator resume --mission {SLUG}" in done.stdout


def test_a_blocked_work_package_that_nobody_began_here_is_planned_anew(project: Project) -> None:
    project.lanes({"WP01": "planned", "WP02": "blocked"}, {"WP02": ["WP01"]})
    done = project.run("retry", "WP02", "--mission", SLUG)
    assert done.returncode == 0, done.stderr
    assert [call.split("--to ")[1].split()[0] for call in project.calls("transition")] == [
        "in_progress",
        "planned",
    ]
    assert f"orchestrate --mission {SLUG}" in done.stdout


THREE = {"WP01": "blocked", "WP02": "blocked", "WP03": "blocked"}


def three_parked(project: Project) -> Path:
    """Write a journal in which WP01 and WP03 were parked for one reason, WP02 for another."""
    project.lanes(THREE)
    lines: list[Line] = []
    for wp, why in (("WP01", "no room in /a/b"), ("WP02", "git is broken"), ("WP03", "no room in /c/d")):
        space = SPACE | {"lane_id": f"lane-{wp}"}
        lines += [
            event(wp, "scheduled", lane="planned", workspace=space),
            event(wp, "claimed", workspace=space, head="a" * 40),
            event(wp, "workspace_failed", message=why),
            event(wp, "parked", lane="blocked"),
        ]
    mission = {"slug": SLUG, "lanes": dict.fromkeys(THREE, "planned"), "dependencies": {}}
    start = start_line(settings={**POLICY, "actor": "me"}, mission=mission)
    return write_journal(project, start, *lines)


def retried(project: Project) -> list[str]:
    return [one["wp_id"] for one in read_journal(project)[1:] if one["event"]["kind"] == "retried"]


def test_all_that_wait_because_of_one_cause_are_retried_and_the_other_keeps_its_number(
    project: Project,
) -> None:
    three_parked(project)
    told = project.run("status", "--mission", SLUG, "--format", "json")
    assert json.loads(told.stdout)["causes"] == {"c1": ["WP01", "WP03"], "c2": ["WP02"]}
    done = project.run("retry", "--cause", "c1", "--note", "made room")
    assert done.returncode == 0, done.stderr
    assert retried(project) == ["WP01", "WP03"]
    project.lanes(THREE | {"WP01": "in_progress", "WP03": "in_progress"})
    gone = project.run("retry", "--cause", "c1")
    assert gone.returncode == 2
    assert "waits because of c1; causes here: c2" in gone.stderr
    done = project.run("retry", "--cause", "c2")
    assert done.returncode == 0, done.stderr
    assert retried(project) == ["WP01", "WP03", "WP02"]


def test_status_says_once_what_several_have_in_common(project: Project) -> None:
    three_parked(project)
    told = project.run("status", "--mission", SLUG).stdout
    assert told.count("no room in") == 1
    assert "c1 (WP01, WP03): no room in /a/b" in told
    assert "git is broken" in told


def test_several_are_retried_by_name_each_once(project: Project) -> None:
    three_parked(project)
    done = project.run("retry", "WP03", "WP02", "WP03", "--note", "mended")
    assert done.returncode == 0, done.stderr
    assert retried(project) == ["WP03", "WP02"]
    assert done.stdout.count("is back to work") == 2
    assert done.stdout.count("To go on") == 1


def test_all_that_are_blocked_are_retried_but_for_those_that_were_left_out(project: Project) -> None:
    file = three_parked(project)
    with file.open("a") as journal:
        journal.write(json.dumps(event("WP02", "skipped", lane="blocked", note="not now")) + "\n")
    done = project.run("retry", "--all-blocked")
    assert done.returncode == 0, done.stderr
    assert retried(project) == ["WP01", "WP03"]


def test_nothing_is_retried_if_one_of_several_cannot_be(project: Project) -> None:
    three_parked(project)
    project.lanes(THREE | {"WP02": "done"})
    done = project.run("retry", "WP01", "WP02")
    assert done.returncode == 2
    assert "WP02 is done" in done.stderr
    assert retried(project) == []


@pytest.mark.parametrize(
    ("given", "why"),
    [((), "which work packages?"), (("--cause", "c9"), "waits because of c9; causes here: c1, c2")],
)
def test_who_names_nobody_is_told_so(project: Project, given: tuple[str, ...], why: str) -> None:
    three_parked(project)
    done = project.run("retry", *given)
    assert done.returncode == 2
    assert why in " ".join(done.stderr.split())


def test_a_work_package_that_is_parked_without_being_blocked_moves_no_lane(project: Project) -> None:
    project.lanes({"WP02": "in_review"})
    journal(project, *parked("in_review"))
    assert project.run("retry", "WP02").returncode == 0
    assert project.calls("transition") == []


@pytest.mark.parametrize(
    ("lane", "why"),
    [("in_progress", "neither parked nor blocked"), ("done", "is done"), ("canceled", "is canceled")],
)
def test_only_what_is_parked_or_blocked_is_retried(project: Project, lane: str, why: str) -> None:
    project.lanes({"WP02": lane})
    file = journal(project)
    before = file.read_bytes()
    done = project.run("retry", "WP02")
    assert done.returncode == 2
    assert why in done.stderr
    assert file.read_bytes() == before


def test_an_unknown_work_package_is_named(project: Project) -> None:
    journal(project)
    done = project.run("retry", "WP2")
    assert done.returncode == 2
    assert f"{SLUG} has no work package WP2; did you mean WP02?" in done.stderr


@pytest.mark.parametrize("command", ["retry", "skip"])
def test_nothing_is_decided_beside_a_run_that_does_not_take_it_up(project: Project, command: str) -> None:
    project.lanes({"WP02": "blocked"})
    file = journal(project, *parked("blocked"))
    before = file.read_bytes()
    with MissionLock(file.parent, SLUG):
        done = project.run(command, "WP02", "--mission", SLUG)
    assert done.returncode == 4
    assert f"process {os.getpid()}" in done.stderr
    assert file.read_bytes() == before


def test_skipping_parks_on_the_host_and_later_runs_leave_it_alone(project: Project) -> None:
    project.lanes({"WP01": "done", "WP02": "planned"})
    journal(project)
    done = project.run("skip", "WP02", "--note", "not now")
    assert done.returncode == 0, done.stderr
    (call,) = project.calls("transition")
    assert "--wp WP02 --to blocked --actor me" in call
    assert "--note not now" in call
    assert [one["kind"] for one in recorded(project)] == ["skipped", "parked"]
    assert "WP02 is left out: blocked on the host; not now" in done.stdout
    project.lanes({"WP01": "done", "WP02": "blocked"})
    later = project.run("resume")
    assert later.returncode == 1
    assert "why: not now" in later.stdout


def test_what_is_said_of_a_decision_shows_no_secret(project: Project) -> None:
    project.lanes({"WP01": "done", "WP02": "planned"})
    journal(project)
    project.env["PROVIDER_API_KEY"] = "s3cr3t-value"
    done = project.run("skip", "WP02", "--note", "[b]with s3cr3t-value :cat:[/b] " + "x" * 300)
    assert done.returncode == 0, done.stderr
    assert "s3cr3t-value" not in done.stdout
    assert "; [b]with [redacted] :cat:[/b] " + "x" * 300 in done.stdout
    retried = project.run("retry", "WP02")
    assert retried.returncode == 0, retried.stderr


def test_a_host_that_refuses_the_skip_is_told_of(project: Project) -> None:
    project.lanes({"WP02": "planned"})
    journal(project)
    project.answer(
        "transition", json.dumps({"success": False, "error_code": "TRANSITION_REJECTED"}) + "\n", 1
    )
    done = project.run("skip", "WP02")
    assert done.returncode == 0, done.stderr
    assert "the host was not told" in done.stdout
