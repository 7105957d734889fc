"""A real mission whose agents work on two workers that cannot see the project, and the same one at home."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from tests.cluster.lab import Lab
from tests.conftest import skip_unless_here
from tests.e2e.projects import FAN, Project

from spec_kitty_orchestrator.cluster.placement import PLACED
from spec_kitty_orchestrator.cluster.records import Placed, read
from spec_kitty_orchestrator.machine.sandbox import Sandbox, find
from spec_kitty_orchestrator.testing.missions import MissionSpec

pytest.importorskip("distributed")
pytestmark = pytest.mark.real_host

STORIES = """
[[WP01.review]]
verdict = "changes_requested"
summary = "The module is silent."
findings = [{ severity = "major", file = "src/part1/m01.py", line = 1, message = "Say what it is for." }]

[[WP01.review]]
verdict = "approved"

[[WP02.implement]]
edits = { "src/part2/m02.py" = "half = 1\\n" }
outcome = "rate_limited"
retry_after_s = 1

[[WP02.implement]]
edits = { "src/part2/more.py" = "more = 1\\n" }
commit = true

[WP03.implement]
outcome = "invalid_request"
"""
"""One is sent back, one meets its quota in the middle of its work, and one finds nobody who can do it."""
IMPLEMENTED, REVIEWED = "implement-scripted", "review-scripted"


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Iterator[Lab]:
    """A scheduler and two workers to whom the folder of this test does not exist."""
    root = tmp_path_factory.mktemp("cluster")
    program = find()
    skip_unless_here(Sandbox(program, tmp_path, root / "sandbox").failure)
    blind = [str(program), "--dev-bind", "/", "/", "--tmpfs", str(tmp_path), "--die-with-parent", "--"]
    lab = Lab(root, around=blind)
    try:
        lab.scheduler()
        lab.worker("a", "scripted=2")
        lab.worker("b", "scripted=2")
        yield lab
    finally:
        lab.close()


def machines(mission: Project, wp: str) -> list[str]:
    """Return where the attempts of a work package have run."""
    found = [read(Placed, one / PLACED) for one in mission.attempts(wp)]
    assert all(one is not None and one.done and not one.lost for one in found)
    return [one.machine for one in found if one is not None]


def came_of_it(mission: Project) -> Mapping[str, object]:
    """Return what must not depend on where the agents have worked."""
    found: dict[str, object] = {"lanes": mission.lanes()}
    for wp in ("WP01", "WP02", "WP03"):
        place = mission.journal(wp, "claimed")[0]["workspace"]
        tree = mission.git("ls-tree", "-r", place["branch"], "--", "src")
        count = mission.git("rev-list", "--count", f"feature/demo..{place['branch']}")
        clean = mission.git("status", "--porcelain", cwd=mission.root / place["path"]) == ""
        reports = [json.loads((one / "result.json").read_text()) for one in mission.attempts(wp)]
        ends = [(one["report"]["outcome"], one["report"]["text"] != "") for one in reports]
        names = [one.name for one in mission.attempts(wp)]
        found[wp] = tree, count, clean, names, ends, len(mission.journal(wp, "committed"))
    return found


def test_a_mission_ends_the_same_on_workers_without_the_project_as_at_home(
    project: Callable[[MissionSpec], Project], lab: Lab
) -> None:
    mission = project(FAN)
    mission.follow(STORIES)
    options = ("--max-concurrent", "3")
    told = mission.orchestrate(*options, "--executor", lab.address.replace("tcp", "dask"))
    assert told.returncode == 1, told.stdout + told.stderr
    assert mission.lanes() == {"WP01": "done", "WP02": "done", "WP03": "blocked"}
    names = [f"01-{IMPLEMENTED}", f"02-{REVIEWED}", f"03-{IMPLEMENTED}", f"04-{REVIEWED}"]
    assert [one.name for one in mission.attempts("WP01")] == names
    assert len({machine for wp in mission.lanes() for machine in machines(mission, wp)}) == 2

    first, _, rework, _ = machines(mission, "WP01")
    assert rework == first, "its session is there"
    assert "continuing its session" in told.stdout
    assert "Say what it is for." in (mission.attempts("WP01")[2] / "prompt.md").read_text()
    assert mission.git("show", f"{mission.approved('WP02')}:src/part2/m02.py") == "half = 1"
    assert mission.strays() == []
    there = came_of_it(mission)

    mission = project(FAN)
    mission.follow(STORIES)
    told = mission.orchestrate(*options)
    assert told.returncode == 1, told.stdout + told.stderr
    assert came_of_it(mission) == there
