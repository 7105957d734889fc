"""`doctor` on a real mission of the real host."""

import json
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import first_on_path

from spec_kitty_orchestrator.testing.missions import MissionSpec, diamond

pytestmark = pytest.mark.real_host


def contents(root: Path) -> dict[Path, str]:
    """Return every file of a repository, those of git and of all worktrees too, with its digest."""
    files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return {path: sha256(path.read_bytes()).hexdigest() for path in files}


def examine(mission: Any, env: dict[str, str]) -> tuple[int, dict[str, list[dict[str, str]]]]:
    agents = ["--impl-agent", "scripted", "--review-agent", "scripted"]
    done = subprocess.run(
        [sys.executable, "-m", "spec_kitty_orchestrator", "doctor", "-m", mission.slug, *agents, "--json"],
        cwd=mission.root,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stderr == ""
    found: dict[str, list[dict[str, str]]] = {}
    for one in json.loads(done.stdout)["findings"]:
        found.setdefault(one["id"], []).append(one)
    return done.returncode, found


@pytest.mark.anew
def test_a_real_mission_is_in_order_and_stays_as_it_was(
    real_mission: Callable[[MissionSpec], Any], host: str, host_env: dict[str, str]
) -> None:
    mission = real_mission(diamond(3))
    before = contents(mission.root)
    code, found = examine(mission, first_on_path(host, host_env))
    assert code == 0, found
    assert {one["level"] for one in found["host.policy"]} == {"ok"}
    assert "speaks contract 1." in found["host"][0]["text"]
    assert found["mission.exists"][0]["text"] == f"the host knows {mission.slug}: 3 work packages"
    assert contents(mission.root) == before


def test_the_real_host_refuses_a_policy_with_a_banned_flag_and_nothing_changes(
    real_mission: Callable[[MissionSpec], Any], host: str, host_env: dict[str, str]
) -> None:
    mission = real_mission(diamond(3))
    settings = mission.root / ".kittify" / "orchestrator.toml"
    settings.write_text('[agents.scripted]\nextra_args = ["--yolo"]\n')
    before = contents(mission.root)
    code, found = examine(mission, first_on_path(host, host_env))
    assert code == 5
    assert len(found["host.policy"]) == 2
    for one in found["host.policy"]:
        assert one["level"] == "error"
        assert "POLICY_VALIDATION_FAILED" in one["text"]
        assert "--yolo" in one["text"]
        assert str(settings) in one["fix"]
    assert contents(mission.root) == before
