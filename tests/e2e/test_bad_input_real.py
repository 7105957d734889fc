"""Bad input, with the real host's answers: one clear message, the documented exit code, nothing changed."""

import os
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.e2e.projects import AGENTS, SOLO, Project

from spec_kitty_orchestrator.testing.missions import MissionSpec

pytestmark = pytest.mark.real_host

NewProject = Callable[[MissionSpec], Project]


def refusal(mission: Project, code: int, *args: str, **env: str) -> str:
    """Run the command, which must refuse with one message, and return that."""
    before = mission.git("status", "--porcelain", "--ignored")
    done = mission.run("orchestrate", *args, **env)
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("error: ") == 1
    assert mission.git("status", "--porcelain", "--ignored") == before
    return done.stderr


def test_whatever_is_wrong_with_a_project_is_said_before_anything_is_changed(project: NewProject) -> None:
    mission = project(SOLO)
    asked = ("--mission", mission.slug, *AGENTS)

    assert f"missions here: {mission.slug}" in refusal(mission, 2, "--mission", "nonsense", *AGENTS)
    said = refusal(mission, 2, "--mission", mission.slug, "--impl-agent", "scriptd")
    assert "unknown agent 'scriptd'; did you mean scripted?" in said
    said = refusal(mission, 2, *asked, "--repo-root", str(mission.root.parent))
    assert "is not in a git repository" in said

    git_only = mission.root.parent / "bin"
    git_only.mkdir()
    found = next(one for one in os.get_exec_path(mission.env) if os.access(f"{one}/git", os.X_OK))
    (git_only / "git").symlink_to(f"{found}/git")
    assert "was not found on PATH" in refusal(mission, 3, *asked, PATH=str(git_only))

    settings = mission.root / ".kittify" / "orchestrator.toml"
    settings.write_text("[run]\nactor = \n")
    assert f"{settings.name}:2: not valid TOML" in refusal(mission, 2, *asked)
    settings.write_text("[run]\nmax_concurent = 3\n")
    assert "did you mean max_concurrent?" in refusal(mission, 2, *asked)
    settings.unlink()

    mission.git("switch", "--quiet", "main")
    said = refusal(mission, 5, *asked)
    assert "is on the branch main, but the mission lives on feature/demo" in said
    assert f"git -C {mission.root} switch feature/demo" in said


def test_unfinalized_tasks_are_named_with_the_command_that_finalizes_them(project: NewProject) -> None:
    mission = project(replace(SOLO, finalize=False))
    said = refusal(mission, 5, "--mission", mission.slug, *AGENTS)
    assert f"spec-kitty agent mission finalize-tasks --mission {mission.slug}" in said
