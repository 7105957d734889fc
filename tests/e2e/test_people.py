"""People answer what needs them on the real host: one works on a work package, another approves one."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.projects import FAN, Gate, Project

from spec_kitty_orchestrator.machine.process import MARKER
from spec_kitty_orchestrator.testing.missions import MissionSpec

pytestmark = pytest.mark.real_host

REJECTED = """
[[WP01.review]]
verdict = "changes_requested"
findings = [{ severity = "major", file = "src/part1/m01.py", line = 1, message = "Say what it is for." }]

[[WP01.review]]
verdict = "approved"

[[WP02.review]]
verdict = "changes_requested"
summary = "I do not like it."
"""


def test_what_was_rejected_is_done_once_a_person_wrote_it_and_another_approved_it(
    project: Callable[[MissionSpec], Project],
) -> None:
    mission = project(FAN)
    mission.follow(REJECTED)
    assert mission.orchestrate("--max-review-cycles", "1").returncode == 1

    def person(*words: str, code: int = 0, **env: str) -> str:
        done = mission.run(*words, **env)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    told = person("inbox")
    assert "Say what it is for." in told
    assert f"takeover WP01 --mission {mission.slug}" in told
    assert f"approve WP02 --mission {mission.slug} --head" in told

    assert "WP01 is yours, anna: in_progress" in person("takeover", "WP01", "--as", "anna")
    mine = next(path for path in mission.worktrees() if (path / "src/part1").is_dir())
    (mine / "src/part1/m01.py").write_text('"""It is for the test."""\n')
    refused = person("approve", "WP01", "--as", "bert", "--note", "x", code=2)
    assert "holds what is in no commit" in refused
    assert "taken over by anna at " in person("status")
    assert "handback WP01" in person("inbox")

    head = str(mission.journal("WP02", "committed")[-1]["evidence"]["head"])
    words = ("approve", "WP02", "--as", "bert", "--note", "I like it")
    assert "an attempt of a run" in person(*words, code=2, **{MARKER: "0123456789abcdef"})
    assert "not at 0000000" in person(*words, "--head", "0" * 40, code=2)
    assert "name of an agent" in person("approve", "WP02", "--as", "scripted", "--note", "x", code=2)
    assert f"done on the host: bert approved {head[:10]}" in person(*words, "--head", head[:12])
    last = mission.moves("WP02")[-2:]
    assert [(one["to_lane"], one["actor"]) for one in last] == [("in_review", "bert"), ("done", "bert")]
    assert last[-1]["review_result"]["reference"] == f"a-person@{head}"
    assert last[-1]["policy_metadata"]["agent_family"] == "human"

    assert "WP01 is back" in person("handback", "WP01", "--as", "anna", "--note", "said what it is for")
    assert mission.run("resume").returncode == 0
    assert set(mission.lanes().values()) == {"done"}
    assert [one.name for one in mission.attempts("WP01")] == [
        "01-implement-scripted",
        "02-review-scripted",
        "03-review-scripted",
    ]
    assert "anna" in [one["actor"] for one in mission.moves("WP01")]
    merged = mission.orchestrate("--merge")
    assert merged.returncode == 0, merged.stdout + merged.stderr
    assert (Path(mission.root) / "src/part1/m01.py").read_text() == '"""It is for the test."""\n'
    assert os.environ.get(MARKER) is None


def test_what_an_agent_works_on_is_taken_over_in_the_middle_of_a_run_and_handed_back_to_it(
    project: Callable[[MissionSpec], Project], gate: Gate
) -> None:
    mission = project(FAN)
    written = 'edits = { "src/part2/m02.py" = "two = 2\\n" }'
    mission.follow(f"[WP01.implement]\n{gate.step}\n[WP02.implement]\n{written}\n{gate.step}\n")

    def person(*words: str, code: int = 0) -> str:
        done = mission.run(*words)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    with mission.start("--max-concurrent", "2") as run:
        first, second = gate.wait(run), gate.wait(run)
        told = person("takeover", "WP01", "--as", "anna")
        assert "WP01 is yours, anna once scripted has been stopped; its work is kept" in told
        mine = Path(next(line for line in told.splitlines() if line.startswith("worktree: "))[10:])
        run.hear_of("taken over by anna")
        while len(mission.journal("WP01", "claimed")) < 2:
            assert "taken over by anna" in person("status")
        (mine / "src/part1").mkdir(parents=True, exist_ok=True)
        (mine / "src/part1/m01.py").write_text("by_hand = True\n")
        assert "has an attempt that is not over" in person(
            "approve", "WP02", "--as", "bert", "--note", "x", code=2
        )
        assert "WP01 is back in the run" in person("handback", "WP01", "--as", "anna")
        run.hear_of("handed back by anna")
        for one in (first, second):
            one.close()
        assert run.end() == 0, run.heard
    assert set(mission.lanes().values()) == {"done"}
    names = [one.name for one in mission.attempts("WP01")]
    assert names == ["01-implement-scripted", "02-review-scripted"]
    assert mission.git("show", f"{mission.approved('WP01')}:src/part1/m01.py") == "by_hand = True"
    assert mission.strays() == []
