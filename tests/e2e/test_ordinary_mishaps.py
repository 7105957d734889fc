"""Ordinary things go wrong on the real host: another branch is checked out, git cannot commit.

The run tells the truth, loses nothing, and once a person has mended it the next start pays for nothing twice.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.e2e.projects import FAN, SOLO, Gate, Project

from spec_kitty_orchestrator.testing.missions import MissionSpec

pytestmark = pytest.mark.real_host

NewProject = Callable[[MissionSpec], Project]
ELSEWHERE = "somewhere-else"


def implements(spec: MissionSpec, step: str) -> str:
    """Let the implementer of WP01 write its module and then do something else."""
    return f'[WP01.implement]\nedits = {{ "{spec.work_packages[0].create_intent}" = "ONE = 1\\n" }}\n{step}\n'


def attempts(mission: Project) -> dict[str, list[str]]:
    """Return the roles of the attempts of each work package, oldest first."""
    return {wp: [one.name.split("-")[1] for one in mission.attempts(wp)] for wp in mission.lanes()}


def once(lanes: Mapping[str, str]) -> dict[str, list[str]]:
    """Return what is paid for where nothing goes wrong."""
    return {wp: ["implement", "review"] for wp in lanes}


@pytest.mark.parametrize(
    "spec",
    [pytest.param(SOLO, id="single_branch"), pytest.param(FAN, id="lanes", marks=pytest.mark.long)],
)
def test_a_branch_that_is_checked_out_during_a_run_ends_it_in_an_error_that_names_it(
    project: NewProject, gate: Gate, spec: MissionSpec
) -> None:
    mission = project(spec)
    mission.follow(implements(spec, gate.step))
    ours = mission.git("branch", "--show-current")
    first = mission.git("rev-list", "--max-parents=0", "HEAD").splitlines()[0]
    with mission.start("--max-concurrent", "3") as run:
        agent = gate.wait(run)
        mission.git("checkout", "-q", "-b", ELSEWHERE, first)
        agent.close()
        code = run.end()
    assert code not in (0, 1), run.heard
    assert ELSEWHERE in run.heard
    assert "0 attempts" not in run.heard

    refused = mission.orchestrate("--merge")
    assert refused.returncode not in (0, 1), refused.stdout + refused.stderr
    assert ELSEWHERE in refused.stdout + refused.stderr

    mission.git("checkout", "-q", ours)
    done = mission.run("resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(mission.lanes().values()) == {"done"}
    assert attempts(mission) == once(mission.lanes())


def test_a_branch_that_is_switched_and_back_during_a_run_changes_nothing(
    project: NewProject, gate: Gate
) -> None:
    mission = project(SOLO)
    mission.follow(implements(SOLO, gate.step))
    ours = mission.git("branch", "--show-current")
    first = mission.git("rev-list", "--max-parents=0", "HEAD").splitlines()[0]
    with mission.start() as run:
        agent = gate.wait(run)
        mission.git("checkout", "-q", "-b", ELSEWHERE, first)
        mission.git("checkout", "-q", ours)
        agent.close()
        assert run.end() == 0, run.heard
    assert attempts(mission) == once(mission.lanes())


def finished_once_mended(mission: Project) -> None:
    """Check that the next start commits the attempt that had ended, and pays for a review alone."""
    place = mission.worktrees()[0]
    assert mission.lanes() == {"WP01": "in_progress"}
    assert "src/one" in mission.git("status", "--porcelain", "--untracked-files=all", cwd=place)
    again = mission.run("resume")
    assert again.returncode == 0, again.stdout + again.stderr
    assert mission.lanes() == {"WP01": "done"}
    assert attempts(mission) == {"WP01": ["implement", "review"]}
    assert mission.approved("WP01") == mission.git("rev-parse", "HEAD", cwd=place)


def test_an_attempt_whose_commit_could_not_be_signed_is_committed_once_signing_works(
    project: NewProject, gate: Gate, tmp_path: Path
) -> None:
    mission = project(SOLO)
    mission.follow(implements(SOLO, gate.step))
    gpg = tmp_path / "gpg"
    gpg.write_text("#!/bin/sh\necho 'gpg: signing failed: Inappropriate ioctl for device' >&2\nexit 2\n")
    gpg.chmod(0o755)
    with mission.start() as run:
        agent = gate.wait(run)
        mission.git("config", "commit.gpgsign", "true")
        mission.git("config", "gpg.program", str(gpg))
        agent.close()
        assert run.end() == 1, run.heard
    assert "gpg failed to sign the data" in run.heard, run.heard
    assert [one.name for one in mission.attempts("WP01")] == ["01-implement-scripted"]
    mission.git("config", "--unset", "commit.gpgsign")
    finished_once_mended(mission)


def test_a_lock_that_a_killed_git_left_is_removed_and_told(project: NewProject) -> None:
    mission = project(SOLO)
    touch = "touch $(git rev-parse --git-path index.lock)"
    mission.follow(implements(SOLO, f"run = {json.dumps(['sh', '-c', touch])}"))
    done = mission.orchestrate()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "removed" in done.stdout
    assert "index.lock" in done.stdout
    assert mission.lanes() == {"WP01": "done"}
