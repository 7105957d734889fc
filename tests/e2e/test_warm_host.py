"""The warm host of a run on the real host: it is used, and its death changes nothing."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.projects import PAIR, Project

from spec_kitty_orchestrator.host import zygote
from spec_kitty_orchestrator.testing.missions import MissionSpec

pytestmark = [pytest.mark.real_host, pytest.mark.anew]

WORDS = "the host is not kept warm"
GIT = """\
#!/bin/sh
{git} "$@"
status=$?
case " $* " in *" worktree add "*) {python} {looks} >&2 ;; esac
exit $status
"""
LOOKS = """\
import psutil
warm = [one for one in psutil.Process().parents() if {zygote!r} in one.cmdline()]
with open({seen!r}, "a") as seen:
    seen.write(f"{{len(warm)}}\\n")
if warm and {kills}:
    warm[-1].kill()
"""
"""Runs within start-implementation, when git has made a worktree."""


def watched(project: Project, *, kills: bool) -> Path:
    """Have git look for the warm host among those who started it, and perhaps kill it."""
    seen, programs = project.root.parent / "seen", project.root.parent / "programs"
    programs.mkdir()
    looks, git = programs / "looks.py", programs / "git"
    looks.write_text(LOOKS.format(zygote=zygote.__file__, seen=str(seen), kills=kills))
    git.write_text(GIT.format(git=shutil.which("git"), python=sys.executable, looks=looks))
    git.chmod(0o755)
    project.env["PATH"] = f"{programs}{os.pathsep}{project.env['PATH']}"
    return seen


def moves(project: Project, wp: str) -> list[tuple[str, str]]:
    return [(one["from_lane"], one["to_lane"]) for one in project.moves(wp)]


@pytest.mark.parametrize("kills", [True, pytest.param(False, marks=pytest.mark.long)])
def test_a_run_whose_warm_host_is_killed_within_a_start_ends_as_one_whose_is_not(
    kills: bool, project: Callable[[MissionSpec], Project]
) -> None:
    mission = project(PAIR.on("coord"))
    mission.follow("")
    seen = watched(mission, kills=kills)
    done = mission.orchestrate("--max-concurrent", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(WORDS) == kills
    within = seen.read_text().split()
    assert within[0] == "2", "the copy that makes the call, and the warm host itself"
    assert set(within[1:]) == ({"0"} if kills else {"2"})
    assert mission.lanes() == {"WP01": "done", "WP02": "done"}
    for wp in ("WP01", "WP02"):
        assert set(Counter(moves(mission, wp)).values()) == {1}
        assert len(mission.attempts(wp)) == 2
    assert mission.git("status", "--porcelain", cwd=mission.specs.parent.parent) == ""
