"""Whole missions on the real host, on each of its topologies, from planned to landed."""

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.projects import JOINED, PAIR, Project

from spec_kitty_orchestrator.testing.missions import MissionSpec, make_legacy

pytestmark = pytest.mark.real_host

FILES = ["src/one/m01.py", "src/two/m02.py"]
COSTLY = """
[defaults.implement]
usage = { input_tokens = 10, output_tokens = 2, cost_usd = 0.25 }
"""


def in_target(project: Project) -> list[str]:
    return project.git("ls-tree", "-r", "--name-only", "feature/demo", "src").splitlines()


def check_review(mission: Project, wp: str) -> None:
    """Check that the approval names the commit on the lane's branch, and that nothing was left beside it."""
    place = mission.journal(wp, "claimed")[-1]["workspace"]
    assert mission.approved(wp) == mission.git("rev-parse", place["branch"])
    assert mission.git("status", "--porcelain", cwd=mission.root / place["path"]) == ""


def uncommitted(mission: Project) -> list[str]:
    """Return what git says of the primary checkout beyond the mission's own folder and our settings."""
    expected = ("kitty-specs/", ".kittify/orchestrator.toml")
    return [line for line in mission.changes() if not line[2:].strip().startswith(expected)]


@pytest.mark.parametrize("topology", ["single_branch", pytest.param("coord", marks=pytest.mark.anew)])
def test_a_mission_goes_from_planned_to_done_and_lands_by_the_commands_of_the_summary(
    project: Callable[[MissionSpec], Project], topology: str
) -> None:
    mission = project(PAIR.on(topology))
    mission.follow(COSTLY)
    done = mission.orchestrate("--max-concurrent", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the host is not kept warm" not in done.stdout + done.stderr
    check_review(mission, "WP01")
    check_review(mission, "WP02")
    assert [one["ids"] for one in mission.journal("WP01", "subtasks_ticked")] == [["T001", "T002"]]
    assert "In all: 4 attempts, 20 tokens in, 4 out, $0.50" in done.stdout
    assert "Approved or done is not merged" in done.stdout
    assert in_target(mission) == []

    said = done.stdout.splitlines()
    commands = [shlex.split(line) for line in said if line.startswith(("  spec-kitty ", "  git "))]
    merge, accept, keep = commands
    assert [merge[2], accept[2]] == ["merge-mission", "accept-mission"]
    mission.host(*merge[1:])
    mission.host(*accept[1:])
    mission.git(*keep[1:])
    assert in_target(mission) == FILES
    assert mission.git("status", "--porcelain", "--untracked-files=no", cwd=mission.specs) == ""
    assert mission.ask_lanes() == mission.lanes() == {"WP01": "done", "WP02": "done"}
    assert uncommitted(mission) == []


@pytest.mark.parametrize("topology", ["lanes", "lanes_with_coord"])
def test_a_mission_is_merged_and_then_accepted_by_the_run_itself_when_asked(
    project: Callable[[MissionSpec], Project], topology: str
) -> None:
    mission = project(PAIR.on(topology))
    mission.follow("")
    done = mission.orchestrate("--max-concurrent", "2", "--accept", "--merge")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.index("merged into the target branch") < done.stdout.index("\naccepted\n")
    assert in_target(mission) == FILES
    assert mission.lanes() == {"WP01": "done", "WP02": "done"}
    for wp in ("WP01", "WP02"):
        head = mission.journal(wp, "committed")[-1]["evidence"]["head"]
        assert mission.approved(wp) == head
    record = mission.specs / "meta.json"
    assert "accepted_at" in record.read_text()
    assert "It is merged and accepted." in mission.run("status").stdout
    assert [one["merged"] for one in mission.journal("", "finalized")] == [True]
    # Nothing is left to do, and a later start says so.
    told, page = done.stdout.splitlines()[-2:]
    assert f"left uncommitted: kitty-specs/{mission.slug}/meta.json" in told
    assert page.startswith("Report: ")
    assert mission.git("status", "--porcelain", "--untracked-files=no", cwd=mission.specs) == ""
    assert uncommitted(mission) == []
    again = mission.orchestrate("--accept", "--merge") if topology == "lanes" else mission.orchestrate()
    assert again.returncode == 0, again.stdout + again.stderr
    assert "merge-mission" not in again.stdout
    assert "it was merged before" in again.stdout or again.stdout.endswith(
        "This mission is merged and accepted.\n"
    )


def test_a_conflict_is_foreseen_and_ended_by_the_commands_of_the_summary(
    project: Callable[[MissionSpec], Project],
) -> None:
    mission = project(JOINED.on("coord"))
    both = "".join(
        f'[WP{n:02d}.implement]\nedits = {{ "src/{name}/m{n:02d}.py" = "", "README.md" = "{name}\\n" }}\n'
        for n, name in ((1, "one"), (2, "two"))
    )
    mission.follow(both)
    stopped = mission.orchestrate("--max-concurrent", "2")
    assert stopped.returncode == 1, stopped.stdout + stopped.stderr
    told = "WP01 and WP02 will conflict in README.md; WP03, which needs both, cannot start until"
    assert stopped.stdout.index(told) < stopped.stdout.index("the host refused start-implementation")
    assert told in mission.run("status", "--mission", mission.slug).stdout

    merge, commit, review, resume = [
        shlex.split(line)
        for line in stopped.stdout.splitlines()
        if line.startswith(("  git", "  spec-kitty"))
    ]
    place = Path(merge[2])
    with pytest.raises(subprocess.CalledProcessError):
        mission.git(*merge[1:])
    (place / "README.md").write_text("one and two\n")
    mission.git("add", "README.md", cwd=place)
    mission.git(*commit[1:])
    mission.host(*review[1:])
    done = mission.run(*resume[1:], "--merge", "--accept")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WP01 and WP02 can be merged with each other again" in done.stdout
    assert mission.git("show", "feature/demo:README.md") == "one and two"
    assert mission.approved("WP02") == mission.journal("WP02", "review_claimed")[-1]["head"]


def test_a_mission_of_an_older_host_without_lanes_is_done_and_told_to_be_merged_by_hand(
    project: Callable[[MissionSpec], Project],
) -> None:
    mission = project(PAIR.on("lanes"))
    make_legacy(mission.root)
    mission.follow("")
    done = mission.orchestrate("--max-concurrent", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert mission.lanes() == {"WP01": "done", "WP02": "done"}
    for wp in ("WP01", "WP02"):
        check_review(mission, wp)
    assert "has no lanes, so the host cannot merge it" in done.stdout
    assert "merge-mission" not in done.stdout
    assert in_target(mission) == []
    switch, *merges, accept, keep = [
        shlex.split(line) for line in done.stdout.splitlines() if line.startswith(("  spec-kitty ", "  git "))
    ]
    for words in (switch, *merges):
        mission.git(*words[1:])
    assert in_target(mission) == FILES
    mission.host(*accept[1:])
    mission.git(*keep[1:])
    again = mission.orchestrate()
    assert again.stdout.endswith("This mission is merged and accepted.\n"), again.stdout + again.stderr
