"""An agent that writes on the branch of another work package, in a whole mission on the real host."""

import json
import shlex
from collections.abc import Callable

import pytest
from tests.e2e.projects import PAIR, Project, work_package

from spec_kitty_orchestrator.testing.missions import MissionSpec

pytestmark = pytest.mark.real_host

WRITES_ON_LANE_A = """
branch=$(git for-each-ref --format='%(refname)' refs/heads | grep -- '-lane-a$')
git update-ref "$branch" "$(git commit-tree 'HEAD^{tree}' -p "$branch" -m 'Add a back door')"
"""
THIRD = work_package(3, "src/three", ("WP01", "WP02"))


def in_target(project: Project) -> list[str]:
    return project.git("ls-tree", "-r", "--name-only", "feature/demo", "src").splitlines()


def writes_on_lane_a(wp: str, module: str) -> str:
    """Return a scenario in which an implementer does its work and writes on another lane."""
    run = json.dumps(["sh", "-c", WRITES_ON_LANE_A])
    return f'[{wp}.implement]\nedits = {{ "{module}" = "ONE = 1\\n" }}\nrun = {run}\n'


def taken_off(mission: Project, said: str) -> None:
    """Do what was said takes the commits off."""
    (command,) = [line.split(": ", 1)[1] for line in said.splitlines() if "to take them off: " in line]
    mission.git(*shlex.split(command)[1:])


def test_a_commit_on_a_lane_that_was_approved_before_is_named_and_neither_built_on_nor_merged(
    project: Callable[[MissionSpec], Project],
) -> None:
    mission = project(MissionSpec((*PAIR.work_packages, THIRD)).on("lanes"))
    mission.follow(writes_on_lane_a("WP02", "src/two/m02.py"))
    done = mission.orchestrate("--merge")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 commit of" in done.stdout
    assert "Add a back door" in done.stdout
    assert mission.attempts("WP03") == []
    assert in_target(mission) == []
    lane = mission.journal("WP01", "claimed")[-1]["workspace"]
    mission.git("reset", "--keep", mission.approved("WP01"), cwd=mission.root / lane["path"])

    mission.follow(writes_on_lane_a("WP03", "src/three/m03.py"))
    done = mission.run("resume", "--merge")
    assert done.returncode == 1, done.stdout + done.stderr
    assert set(mission.lanes().values()) == {"done"}
    assert "not merged: 1 commit of" in done.stdout
    assert "Add a back door" in done.stdout
    assert "merge-mission" not in done.stdout
    assert in_target(mission) == []

    # The dependency's commits are no work of its own.
    assert mission.journal("WP02", "claimed")[-1]["head"] == mission.approved("WP01")
    taken_off(mission, done.stdout)
    done = mission.orchestrate("--merge")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "merged into the target branch" in done.stdout
    assert in_target(mission) == ["src/one/m01.py", "src/three/m03.py", "src/two/m02.py"]
