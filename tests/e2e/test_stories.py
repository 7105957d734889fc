"""What happens to people with missions: rework, lying reviewers, kills and interrupts, on the real host."""

import json
import shlex
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.ci_services import github_commands, github_values
from tests.e2e.projects import FAN, SHARED, SOLO, Gate, Project, is_gone

from spec_kitty_orchestrator.testing.missions import MissionSpec

pytestmark = pytest.mark.real_host

NewProject = Callable[[MissionSpec], Project]

REJECTED_ONCE = """
[[WP03.review]]
verdict = "changes_requested"
summary = "The module is silent."
findings = [{ severity = "major", file = "src/right/m03.py", line = 1, message = "Say what it is for." }]

[[WP03.review]]
verdict = "approved"
"""
LIARS = """
[WP01.review]
verdict = "prose"

[WP02.review]
verdict = "wrong_sha"

[WP03.review]
edits = { "src/part3/m03.py" = "the reviewer's own\\n" }
"""


TELLS = """
[[notify]]
command = ["/bin/sh", "-c", "cat >> ../told && echo >> ../told"]
"""


def told(mission: Project) -> list[dict[str, Any]]:
    """Return what people were told of."""
    lines = (mission.root.parent / "told").read_text().splitlines()
    return [json.loads(one)["data"] for one in lines]


def everything(mission: Project) -> dict[str, object]:
    """Describe all that a dry run could change."""
    files = (path for path in mission.root.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {
        "refs": mission.git("for-each-ref"),
        "worktrees": mission.git("worktree", "list"),
        "status": mission.git("status", "--porcelain", "--ignored"),
        "files": {path: path.read_bytes() for path in files},
    }


def open_to_others(folder: Path) -> list[str]:
    """Return what somebody else than the owner may read."""
    found = (folder, *folder.rglob("*"))
    return [f"{path} {path.stat().st_mode:o}" for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077]


def test_one_worktree_is_worked_on_in_turns_and_a_rejection_reaches_the_implementer(
    project: NewProject,
) -> None:
    mission = project(SHARED)
    mission.follow(REJECTED_ONCE)
    before = everything(mission)
    plan = mission.orchestrate("--max-concurrent", "3", "--dry-run")
    assert plan.returncode == 0, plan.stderr
    assert everything(mission) == before
    assert {"  1  WP01", "  2  WP02, WP03"} <= set(plan.stdout.splitlines())
    assert "shared with WP01, WP03: they take turns" in plan.stdout
    assert "scripted_program.py --role review --scenario" in plan.stdout

    done = mission.orchestrate("--max-concurrent", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(mission.lanes().values()) == {"done"}

    turns = sorted(
        (mission.times(wp, "claimed")[0], mission.times(wp, "recorded")[-1], wp) for wp in ("WP02", "WP03")
    )
    assert turns[0][1] <= turns[1][0], turns
    files = {"WP01": "src/m01.py", "WP02": "src/left/m02.py", "WP03": "src/right/m03.py"}
    head = mission.journal("WP01", "claimed")[0]["head"]
    for wp in ("WP01", turns[0][2], turns[1][2]):
        own = mission.journal(wp, "committed")[-1]["evidence"]
        assert own["base"] == head
        head = own["head"]
        assert mission.git("diff", "--name-only", own["base"], head) == files[wp]
        assert mission.approved(wp) == head
    assert [mission.git("rev-parse", "HEAD", cwd=one) for one in mission.worktrees()] == [head]

    cycle = ["for_review", "in_review"]
    went = [one["to_lane"] for one in mission.moves("WP03")]
    assert went[went.index("in_progress") :] == ["in_progress", *cycle, "in_progress", *cycle, "done"]
    rejection = next(one for one in mission.moves("WP03") if one.get("review_result"))
    assert rejection["review_result"]["verdict"] == "changes_requested"
    assert "Say what it is for." in rejection["reason"]
    attempts = mission.attempts("WP03")
    names = ["01-implement-scripted", "02-review-scripted", "03-implement-scripted", "04-review-scripted"]
    assert [one.name for one in attempts] == names
    told = ["Say what it is for." in (one / "prompt.md").read_text() for one in attempts]
    assert told == [False, False, True, True]
    assert "1 rejection" in done.stdout

    assert open_to_others(mission.root / ".kittify" / "logs") == []
    assert not [line for line in mission.changes() if "logs" in line or "orchestrator/" in line]
    assert [mission.git("status", "--porcelain", cwd=one) for one in mission.worktrees()] == [""]


def test_a_reviewer_without_a_verdict_for_the_commit_approves_nothing_and_a_better_one_finishes(
    project: NewProject,
) -> None:
    mission = project(FAN)
    mission.follow(LIARS, TELLS)
    junit, outputs = mission.root.parent / "junit.xml", mission.root.parent / "outputs"
    lied = mission.orchestrate("--max-concurrent", "3", "--junit", str(junit))
    assert lied.returncode == 1, lied.stdout + lied.stderr
    assert mission.lanes() == dict.fromkeys(("WP01", "WP02", "WP03"), "in_review")
    for wp in ("WP01", "WP02", "WP03"):
        assert [one.name[3:9] for one in mission.attempts(wp)] == ["implem", "review", "review"]
        assert not [one for one in mission.moves(wp) if one.get("review_result")]
    assert lied.stdout.count("a person must review it") >= 3
    assert [mission.git("status", "--porcelain", cwd=one) for one in mission.worktrees()] == [""] * 3
    written = next((mission.root / ".worktrees").glob("*/src/part3/m03.py"))
    assert "the reviewer's own" not in written.read_text()

    cases = ElementTree.parse(junit).getroot().iter("testcase")
    assert [one[0].get("type") for one in cases] == ["unusable", "unusable", "void"]

    *needs, end = told(mission)
    assert (end["on"], set(end["wps"])) == ("ended", {"WP01", "WP02", "WP03"})
    stopped = [wp for one in needs for wp in one["wps"]]
    assert len(set(stopped)) == len(stopped), "each is told of once while the run goes on"

    mission.follow("", TELLS)
    words = shlex.split(lied.stdout.splitlines()[-1])
    assert words == ["spec-kitty-orchestrator", "resume", "--mission", mission.slug]
    mission.env["GITHUB_OUTPUT"] = str(outputs)
    done = mission.run(*words[1:], "--ci", "github")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [one.name for one in github_commands(done.stdout)] == ["group", "endgroup"] * 2
    found = github_values(outputs.read_text())
    assert (found["done"], found["exit-code"], found["needs-you"]) == ("3", "0", "0")
    assert mission.lanes() == dict.fromkeys(("WP01", "WP02", "WP03"), "done")
    *before, good = told(mission)
    assert (before, good["title"]) == ([*needs, end], "3 of 3 work packages are done")
    for wp in ("WP01", "WP02", "WP03"):
        names = [one.name for one in mission.attempts(wp)]
        assert names.count("01-implement-scripted") == 1
        assert sum("implement" in name for name in names) == 1
        place = mission.journal(wp, "claimed")[0]["workspace"]
        assert mission.approved(wp) == mission.git("rev-parse", place["branch"])


@pytest.mark.anew
def test_a_killed_run_goes_on_and_no_agent_works_twice(project: NewProject, gate: Gate) -> None:
    mission = project(SOLO)
    mission.follow(
        f'[WP01.implement]\nedits = {{ "src/one/m01.py" = "one\\n" }}\n{gate.step}\n'
        f"[WP01.review]\n{gate.step}\n"
    )
    with mission.start() as first:
        implementer = gate.wait(first)
        first.kill()
    assert mission.strays(), "the agent goes on without us"

    with mission.start() as second:
        second.hear_of("WP01")
        implementer.close()
        reviewer = gate.wait(second)
        second.kill()
    reviewer.close()

    done = mission.orchestrate()
    assert done.returncode == 0, done.stdout + done.stderr
    assert mission.lanes() == {"WP01": "done"}
    assert gate.nobody_waits()
    assert [one.name for one in mission.attempts("WP01")] == ["01-implement-scripted", "02-review-scripted"]
    assert [len(mission.journal("WP01", kind)) for kind in ("attempt_opened", "committed")] == [2, 1]
    assert mission.strays() == []
    assert "approved" in done.stdout


def test_an_active_run_is_seen_guarded_and_interrupted_and_goes_on_later(
    project: NewProject, gate: Gate
) -> None:
    mission = project(SOLO)
    mission.follow(f"[WP01.implement]\n{gate.step}\n")
    with mission.start() as run:
        agent = gate.wait(run)
        seen = mission.status()
        assert seen["run"]["active"]
        assert seen["run"]["pid"] == run.pid
        (row,) = seen["work_packages"]
        assert (row["id"], row["lane"], row["phase"]) == ("WP01", "in_progress", "implementing")
        assert (row["attempt"]["number"], row["attempt"]["role"]) == (1, "implement")
        assert Path(row["attempt"]["directory"]) == mission.attempts("WP01")[0]

        other = mission.orchestrate()
        assert other.returncode == 4
        assert f"another run of {mission.slug} is active: process {run.pid} on " in other.stderr

        assert run.interrupt() == 130, run.heard
        said = run.heard
        assert is_gone(agent)
    assert mission.strays() == []
    assert "was interrupted with exit code 130; on the host: 1 in_progress" in said
    assert said.splitlines()[-1] == f"  spec-kitty-orchestrator resume --mission {mission.slug}"
    after = mission.status()
    assert (after["run"]["active"], after["run"]["last_exit_code"]) == (False, 130)

    mission.follow("[WP01.review]\nspawn_orphan = true\n")
    done = mission.run("resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert mission.lanes() == {"WP01": "done"}
    assert mission.strays() == []
    assert "orphan" in (mission.attempts("WP01")[-1] / "stdout.log").read_text()


def test_a_run_is_aborted_from_another_process_and_nothing_of_it_is_left(
    project: NewProject, gate: Gate
) -> None:
    mission = project(SOLO)
    mission.follow(f'[WP01.implement]\n{gate.step}\nedits = {{ "src/one/m01.py" = "ONE = 1\\n" }}\n')
    with mission.start() as run:
        agent = gate.wait(run)
        done = mission.run("abort", "--cleanup-worktrees")
        assert done.returncode == 0, done.stdout + done.stderr
        assert run.end() == 143, run.heard
        assert is_gone(agent)
    assert mission.strays() == []
    assert not (mission.root / ".kittify" / "orchestrator" / mission.slug).exists()
    assert mission.git("branch", "--list", "kitty/*lane-a")


def test_a_status_during_a_run_is_within_one_event_of_the_host_and_asks_it_for_nothing(
    project: NewProject, gate: Gate
) -> None:
    mission = project(SOLO)
    edits = 'edits = { "src/one/m01.py" = "one\\n" }'
    mission.follow(f"[WP01.implement]\n{edits}\n{gate.step}\n[WP01.review]\n{gate.step}\n")

    def local() -> dict[str, str]:
        done = mission.run("status", "--format", "json", PATH="/usr/bin:/bin")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["run"]["active"]
        return {one["id"]: one["lane"] for one in told["work_packages"]}

    with mission.start() as run:
        for _role in ("implement", "review"):
            agent = gate.wait(run)
            # A review is claimed beside its agent: that is told when both have ended.
            assert local()["WP01"] in [one["to_lane"] for one in mission.moves("WP01")[-2:]]
            agent.close()
        assert run.end() == 0
    assert mission.run("status", "--exit-code").returncode == 0
