"""A dry run of a real mission on the real host."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from spec_kitty_orchestrator.testing.missions import MissionSpec, diamond

pytestmark = pytest.mark.real_host


def test_a_dry_run_of_a_real_mission_shows_its_plan_and_changes_nothing(
    real_mission: Callable[[MissionSpec], Any], host_env: dict[str, str]
) -> None:
    mission = real_mission(diamond(3))
    before = {path for path in mission.root.rglob("*") if ".git" not in path.parts}
    args = ["--mission", mission.slug, "--impl-agent", "scripted", "--review-agent", "scripted", "--dry-run"]
    done = subprocess.run(
        [sys.executable, "-m", "spec_kitty_orchestrator", "orchestrate", *args],
        cwd=mission.root,
        env={**host_env, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"Mission {mission.slug}: " in done.stdout
    assert "implemented and reviewed" in done.stdout
    assert {path for path in mission.root.rglob("*") if ".git" not in path.parts} == before
