"""Whole missions on the real host, with agents of one's own: ten lines of settings, or a function."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.projects import LIMIT_S, SOLO, Project

from spec_kitty_orchestrator.testing.missions import MissionSpec

pytestmark = pytest.mark.real_host

BOT = Path(__file__).parents[1] / "own_bot.py"
PROGRAM = Path(__file__).parents[1] / "function_program.py"
SETTINGS = f"""
[agents.maker]
command = [{json.dumps(sys.executable)}, {json.dumps(str(BOT))}]
output = "jsonl:type=result:result"
ok = "type=result,is_error=false"
roles = ["implement"]
cost = "usd"
sandbox = "none"

[agents.judge]
command = [{json.dumps(sys.executable)}, {json.dumps(str(BOT))}]
prompt = "file"
output = "json:result"
roles = ["review"]
review_args = ["--read-only"]
max_concurrent = 1
timeout = "5m"
"""


def test_agents_of_ones_own_bring_a_mission_from_planned_to_done(
    project: Callable[[MissionSpec], Project],
) -> None:
    mission = project(SOLO)
    (mission.root / ".kittify" / "orchestrator.toml").write_text(SETTINGS)
    done = mission.run(
        *("orchestrate", "--mission", mission.slug, "--impl-agent", "maker", "--review-agent", "judge")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert mission.lanes() == {"WP01": "done"}
    place = mission.journal("WP01", "claimed")[-1]["workspace"]
    assert mission.approved("WP01") == mission.git("rev-parse", place["branch"])
    assert mission.git("show", "--stat", "--format=", place["branch"]).split()[0] == "src/one/m01.py"
    made, judged = (json.loads((one / "command.json").read_text()) for one in mission.attempts("WP01"))
    assert made["argv"] == [sys.executable, str(BOT)]
    assert judged["argv"][2:] == ["--read-only", str(mission.attempts("WP01")[1] / "prompt.md")]
    assert "$0.25" in done.stdout
    moves = mission.moves("WP01")
    told = [one["policy_metadata"] for one in moves if one.get("policy_metadata")]
    assert {(one["agent_family"], one["sandbox_mode"]) for one in told} == {
        ("maker", "none"),
        ("judge", "custom"),
    }


def test_a_function_of_a_program_implements_and_reviews_beside_a_command_line(
    project: Callable[[MissionSpec], Project],
) -> None:
    mission = project(SOLO)
    mission.follow("", "[run]\nreview_quorum = 2\n")
    argv = [sys.executable, str(PROGRAM), mission.slug, "mine", "scripted,mine"]
    done = subprocess.run(
        argv, cwd=mission.root, env=mission.env, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert mission.lanes() == {"WP01": "done"}
    names = ["01-implement-mine", "02-review-scripted", "03-review-mine"]
    assert [one.name for one in mission.attempts("WP01")] == names
    place = mission.journal("WP01", "claimed")[-1]["workspace"]
    assert mission.approved("WP01") == mission.git("rev-parse", place["branch"])
    assert mission.git("show", "--stat", "--format=", place["branch"]).split()[0] == "src/one/m01.py"
    told = [one["policy_metadata"] for one in mission.moves("WP01") if one.get("policy_metadata")]
    assert ("acme", "function", "none", "full") in {
        (one["agent_family"], one["approval_mode"], one["sandbox_mode"], one["network_mode"]) for one in told
    }
