"""A mission in a clone, as in CI: what git does not copy is named with one line, then the mission runs."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.projects import AGENTS, LIMIT_S, PAIR, SOLO, Project

from spec_kitty_orchestrator.testing.missions import MissionSpec

pytestmark = pytest.mark.real_host

NewProject = Callable[[MissionSpec], Project]


def cloned(mission: Project, *options: str) -> Project:
    """Clone a mission's repository, for a person whom git knows."""
    root = mission.root.parent / "clone"
    source = f"file://{mission.root}"
    mission.git("clone", "-q", *options, "--branch", "feature/demo", source, str(root), cwd=root.parent)
    made = Project(root, mission.slug, mission.env)
    made.env |= {
        f"GIT_{role}_{part}": "x@e.org" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")
    }
    return made


def wrong(mission: Project) -> list[dict[str, str]]:
    """Return the errors that `doctor` finds."""
    done = mission.run("doctor", "--mission", mission.slug, *AGENTS, "--json")
    return [one for one in json.loads(done.stdout)["findings"] if one["level"] == "error"]


def mended(mission: Project) -> None:
    """Check that a start is refused with what `doctor` finds, paste the line, and run the mission."""
    (found,) = wrong(mission)
    for refused in (mission.orchestrate("--dry-run"), mission.orchestrate()):
        assert refused.returncode not in (0, 1)
        assert found["text"] in refused.stderr
        assert found["fix"] in refused.stderr
    paste = ["/bin/sh", "-ec", f"{found['fix']}\npwd"]
    done = subprocess.run(
        paste, cwd=mission.root, env=mission.env, capture_output=True, text=True, timeout=LIMIT_S, check=True
    )
    mission.root = Path(done.stdout.splitlines()[-1])
    assert wrong(mission) == []
    ran = mission.orchestrate("--merge")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert set(mission.lanes().values()) == {"done"}


def test_a_shallow_clone_of_a_coordinated_mission_runs_after_one_line(project: NewProject) -> None:
    mended(cloned(project(PAIR), "--depth", "1"))


@pytest.mark.long
def test_a_shallow_clone_without_the_plan_runs_after_one_line(project: NewProject) -> None:
    mended(cloned(project(SOLO), "--depth", "1"))


@pytest.mark.long
def test_a_detached_head_runs_after_one_line(project: NewProject) -> None:
    mission = cloned(project(SOLO))
    mission.git("checkout", "-q", "--detach")
    mended(mission)


@pytest.mark.long
def test_a_checkout_that_was_declared_bare_runs_after_one_line(project: NewProject) -> None:
    mission = cloned(project(SOLO))
    mission.git("config", "core.bare", "true")
    mended(mission)


@pytest.mark.long
def test_from_a_linked_worktree_the_primary_checkout_runs_after_one_line(project: NewProject) -> None:
    mission = cloned(project(SOLO))
    mission.git("checkout", "-q", "main")
    place = mission.root.parent / "place"
    mission.git("worktree", "add", "-q", str(place), "feature/demo")
    mission.root = place
    mended(mission)


@pytest.mark.long
def test_from_a_worktree_of_a_bare_repository_a_clone_runs_after_one_line(project: NewProject) -> None:
    mission = cloned(project(SOLO), "--bare")
    place = mission.root.parent / "place"
    mission.git("worktree", "add", "-q", str(place), "feature/demo")
    mission.root = place
    mended(mission)
