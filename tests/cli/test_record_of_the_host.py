"""What the host left uncommitted of its own record is committed for a merge; what a person edited is not."""

import json
import os
import shlex
from typing import Any

import pytest

from .conftest import SLUG, envelope

Project = Any  # the class lives in conftest, which tests import for its constants

EVENTS, META = f"kitty-specs/{SLUG}/status.events.jsonl", f"kitty-specs/{SLUG}/meta.json"
ACCEPTED = {"accepted_at": "2026-11-28T12:35:39+00:00", "accepted_by": "me"}


def ready(project: Project) -> None:
    """Let everything be done, and the host merge and accept."""
    project.lanes({"WP01": "done"})
    (project.root / EVENTS).write_text('{"wp_id": "WP01"}\n')
    project.git("add", "-A")
    project.git("commit", "-qm", "record")
    project.answer("merge-mission", envelope({"merged": True}))
    project.answer("accept-mission", envelope({}))


def accepted(project: Project, **changes: str) -> None:
    """Write what the host writes of an acceptance."""
    meta = json.loads((project.root / META).read_text())
    (project.root / META).write_text(json.dumps(meta | ACCEPTED | changes))


def dirty(project: Project) -> list[str]:
    return [line[3:] for line in project.git("status", "--porcelain").splitlines()]


def test_the_record_is_committed_where_it_belongs_before_the_merge_and_nothing_else_is(
    project: Project,
) -> None:
    ready(project)
    with (project.root / EVENTS).open("a") as file:
        file.write('{"wp_id": "WP01", "to_lane": "done"}\n')
    accepted(project)
    hook = project.root / ".git" / "hooks" / "pre-commit"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    (project.root / "staged.py").write_text("")
    project.git("add", "-N", "staged.py")
    project.git("rm", "-q", "--cached", "staged.py")
    done = project.orchestrate("--merge")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"committed on feature/demo what spec-kitty had left uncommitted: {META}, {EVENTS}" in done.stdout
    assert project.git("show", "--format=%s", "--name-only").split("\n") == [
        f"chore(spec-kitty): record of {SLUG}",
        "",
        META,
        EVENTS,
        "",
    ]
    assert dirty(project) == ["staged.py"]
    assert len(project.calls("merge-mission")) == 1


@pytest.mark.parametrize("edit", ["another value", "another line", "no JSON", "another file"])
def test_an_edit_of_a_persons_is_theirs_to_commit(project: Project, edit: str) -> None:
    ready(project)
    if edit == "another value":
        accepted(project, target_branch="main")
    elif edit == "another line":
        (project.root / EVENTS).write_text('{"wp_id": "WP02"}\n')
    elif edit == "no JSON":
        with (project.root / EVENTS).open("a") as file:
            file.write("a note\n")
    else:
        (project.root / "kitty-specs" / SLUG / "tasks" / "WP01-a.md").write_text("# WP01, clearer\n")
    before = project.git("rev-parse", "HEAD")
    done = project.orchestrate("--merge")
    assert done.returncode == 1
    assert (
        "not merged: the host's merge would discard what is not committed; commit or stash it:" in done.stdout
    )
    assert str(project.root / dirty(project)[0]) in done.stdout
    assert project.git("rev-parse", "HEAD") == before
    assert project.calls("merge-mission") == []
    assert done.stdout.endswith(f"  spec-kitty-orchestrator orchestrate --mission {SLUG} --merge\n")


def test_the_record_is_left_alone_while_another_branch_is_checked_out(project: Project) -> None:
    ready(project)
    project.git("switch", "-qc", "elsewhere")
    accepted(project)
    done = project.orchestrate("--merge")
    assert (done.returncode, dirty(project)) == (1, [META])


def test_doctor_tells_that_the_record_is_committed_with_a_merge_and_how_a_person_does_it(
    project: Project,
) -> None:
    ready(project)
    accepted(project)
    (project.root / "kitty-specs" / SLUG / "tasks" / "WP01-a.md").write_text("# WP01, clearer\n")
    told = json.loads(project.run("doctor", "--mission", SLUG, "--json").stdout)["findings"]
    found = {one["id"]: one for one in told if one["id"] in ("git.record", "git.clean")}
    assert "which `--merge` commits" in found["git.record"]["text"]
    assert META not in found["git.clean"]["text"]
    project.git(*shlex.split(found["git.record"]["fix"])[1:])
    assert dirty(project) == [f"kitty-specs/{SLUG}/tasks/WP01-a.md"]


def test_a_refused_merge_is_told_once_and_is_not_advised_as_it_was(project: Project) -> None:
    ready(project)
    project.answer("merge-mission", envelope({"message": "Lane lane-b is stale"}, "PREFLIGHT_FAILED"))
    done = project.orchestrate("--merge", "--accept")
    assert done.returncode == 1
    assert done.stdout.count("Lane lane-b is stale") == 1
    assert "spec-kitty orchestrator-api" not in done.stdout
    assert project.calls("accept-mission") == []


def test_after_a_merge_the_summary_tells_how_to_accept_and_after_both_nothing(project: Project) -> None:
    ready(project)
    done = project.orchestrate("--merge")
    assert "spec-kitty orchestrator-api accept-mission" in done.stdout
    assert "merge-mission" not in done.stdout
    done = project.orchestrate("--merge", "--accept")
    assert "merged into the target branch\naccepted\n" in done.stdout
    assert "spec-kitty orchestrator-api" not in done.stdout


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_a_record_that_is_no_file_any_more_is_a_persons(project: Project, kind: str) -> None:
    ready(project)
    place = project.root / META
    text = place.read_text()
    place.unlink()
    if kind == "link":
        (project.root / "kept.json").write_text(text)
        place.symlink_to(project.root / "kept.json")
    else:
        os.mkfifo(place)
    done = project.orchestrate("--merge")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "not merged" in done.stdout
    assert project.calls("merge-mission") == []
