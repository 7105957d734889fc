"""A planning artifact, and code that is built on it, on the real host."""

import json
import shlex
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.e2e.projects import Gate, Project, work_package

from spec_kitty_orchestrator.testing.missions import MissionSpec

pytestmark = pytest.mark.real_host

FOUND = "docs/research/findings.md"
RESEARCH = MissionSpec(
    (
        replace(work_package(1, "docs/research", subtasks=("T001",)), planning=True, create_intent=FOUND),
        work_package(2, "src/two", ("WP01",)),
    )
)
WAITING = """
[[WP01.implement]]
edits = {{ "{found}" = "half\\n" }}
{step}
"""
REJECTED_ONCE = """
[[WP01.implement]]

[[WP01.implement]]
edits = {{ "{found}" = "found\\n", "kitty-specs/{slug}/research.md" = "found\\n" }}

[[WP01.review]]
verdict = "changes_requested"
summary = "It names no source."
findings = [{{ severity = "major", file = "{found}", line = 1, message = "Name the source." }}]

[[WP01.review]]
verdict = "approved"
"""


def show(mission: Project, file: str, revision: str = "feature/demo") -> str:
    return mission.git("show", f"{revision}:{file}")


@pytest.mark.parametrize("topology", [pytest.param("lanes", marks=pytest.mark.long), "coord"])
def test_research_is_on_the_target_once_it_is_approved_and_the_code_is_built_on_it(
    project: Callable[[MissionSpec], Project], gate: Gate, topology: str
) -> None:
    mission = project(RESEARCH.on(topology))
    main = mission.git("rev-parse", "main")
    mission.follow(WAITING.format(found=FOUND, step=gate.step))
    with mission.start() as run:
        agent = gate.wait(run)
        run.kill()
    mission.follow(REJECTED_ONCE.format(found=FOUND, slug=mission.slug))
    agent.close()
    assert FOUND not in mission.git("ls-tree", "-r", "--name-only", "feature/demo")

    done = mission.orchestrate("--merge", "--accept")
    assert done.returncode == 0, done.stdout + done.stderr
    assert mission.lanes() == {"WP01": "done", "WP02": "done"}
    names = [one.name for one in mission.attempts("WP01")]
    assert names == [
        "01-implement-scripted",
        "02-review-scripted",
        "03-implement-scripted",
        "04-review-scripted",
    ]
    went = [one["to_lane"] for one in mission.moves("WP01")]
    cycle = ["in_progress", "for_review", "in_review"]
    assert [lane for lane in went if lane != "planned"][:7] == [*cycle, *cycle, "done"]
    head = mission.approved("WP01")
    assert mission.git("merge-base", head, "feature/demo") == head
    # The code's branch holds it, and so did the code's worktree before anybody worked there.
    base = mission.journal("WP02", "claimed")[0]["head"]
    assert show(mission, FOUND, base) == show(mission, FOUND) == "found"
    assert show(mission, f"kitty-specs/{mission.slug}/research.md") == "found"
    assert show(mission, "src/two/m02.py")
    assert mission.git("rev-parse", "main") == main
    assert not (mission.root / ".worktrees" / f"{mission.slug}-planning").exists()
    assert [line for line in mission.changes() if "kitty-specs/" not in line and "toml" not in line] == []


def test_research_that_a_person_does_by_hand_is_left_to_him_and_the_code_follows_once_the_host_is_told(
    project: Callable[[MissionSpec], Project],
) -> None:
    mission = project(RESEARCH.on("coord"))
    mission.follow("")
    plan = mission.orchestrate("--dry-run")
    assert "WP01  planned: implemented and reviewed; merged into feature/demo once approved" in plan.stdout
    branches = mission.git("for-each-ref", "refs/heads/main")
    by_hand = ("--actor", "me", "--force", "--reason", "by hand", "--mission", mission.slug)
    mission.host("agent", "status", "emit", "WP01", "--to", "in_progress", *by_hand)
    file = mission.root / FOUND
    file.parent.mkdir(parents=True)
    file.write_text("by hand\n")
    mission.git("add", FOUND)
    mission.git("commit", "--quiet", "--message", "docs: research", FOUND)
    mission.host("agent", "status", "emit", "WP01", "--to", "for_review", *by_hand)

    words = "a planning artifact that somebody else has for_review"
    plan = mission.orchestrate("--dry-run")
    assert f"parked: {words}" in plan.stdout
    doctor = json.loads(mission.run("doctor", "--mission", mission.slug, "--json").stdout)
    stuck = [one for one in doctor["findings"] if one["id"] == "mission.stuck"]
    assert [(one["about"], words in one["text"]) for one in stuck] == [("WP01", True), ("WP02", False)]
    run = mission.orchestrate()
    assert run.returncode != 0
    assert words in run.stdout
    assert mission.attempts("WP01") == mission.attempts("WP02") == []

    fixes = {one["fix"] for one in stuck}
    assert len(fixes) == 1
    mission.host(*shlex.split(fixes.pop())[1:])
    done = mission.orchestrate("--merge")
    assert done.returncode == 0, done.stdout + done.stderr
    assert mission.lanes() == {"WP01": "done", "WP02": "done"}
    base = mission.journal("WP02", "claimed")[0]["head"]
    assert show(mission, FOUND, base) == show(mission, FOUND) == "by hand"
    assert show(mission, "src/two/m02.py")
    assert mission.git("for-each-ref", "refs/heads/main") == branches
