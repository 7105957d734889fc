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

[[WP02.implement]]
edits = { "src/part2/more.py" = "more = 2\\n" }

[WP03.implement]
outcome = "invalid_request"
"""
"""One is sent back, one meets its quota in the middle of its work and then a gate, one finds nobody."""
SETUP = "mkdir tools && echo made >tools/made"
GATE = "cat tools/made && cd src/part2; test ! -e more.py || grep 2 more.py"
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


def attempts(mission: Project, wp: str) -> list[Path]:
    """Return the directories of a work package's attempts, without those of gates."""
    return [one for one in mission.attempts(wp) if "-gate-" not in one.name]


def machines(mission: Project, wp: str) -> dict[str, str]:
    """Return where the attempts and gates of a work package have run, by their names."""
    # Worktrees are set up here, too, for commit hooks.
    there = (one for one in mission.attempts(wp) if "-gate-setup-" not in one.name)
    places = {one.name: read(Placed, one / PLACED) for one in there}
    assert all(one is not None and one.done and not one.lost for one in places.values())
    return {name: one.machine for name, one in places.items() if one is not None}


def came_of_it(mission: Project) -> Mapping[str, object]:
    """Return what must not depend on where the agents have worked."""
    found: dict[str, object] = {"lanes": mission.lanes()}
    for wp in ("WP01", "WP02", "WP03"):
        place = mission.journal(wp, "claimed")[0]["workspace"]
        tree = mission.git("ls-tree", "-r", place["branch"], "--", "src")
        count = mission.git("rev-list", "--count", f"feature/demo..{place['branch']}")
        clean = mission.git("status", "--porcelain", cwd=mission.root / place["path"]) == ""
        reports = [json.loads((one / "result.json").read_text()) for one in attempts(mission, wp)]
        ends = [(one["report"]["outcome"], one["report"]["text"] != "") for one in reports]
        names = [one.name for one in mission.attempts(wp)]
        told = (*mission.journal(wp, "gate_failed"), *mission.journal(wp, "gates_passed"))
        gates = [(one["kind"], one.get("tail")) for one in told]
        found[wp] = tree, count, clean, names, ends, gates, len(mission.journal(wp, "committed"))
    return found


def test_a_mission_ends_the_same_on_workers_without_the_project_as_at_home(
    project: Callable[[MissionSpec], Project], lab: Lab
) -> None:
    mission = project(FAN)
    mission.follow(STORIES)
    (mission.root / ".git" / "info" / "exclude").write_text("tools\n")
    options = ("--max-concurrent", "3", "--setup", SETUP, "--gate", GATE)
    told = mission.orchestrate(*options, "--executor", lab.address.replace("tcp", "dask"))
    assert told.returncode == 1, told.stdout + told.stderr
    assert mission.lanes() == {"WP01": "done", "WP02": "done", "WP03": "blocked"}
    names = [f"01-{IMPLEMENTED}", f"02-{REVIEWED}", f"03-{IMPLEMENTED}", f"04-{REVIEWED}"]
    assert [one.name for one in attempts(mission, "WP01")] == names
    places = {wp: machines(mission, wp) for wp in mission.lanes()}
    assert len({machine for wp in places.values() for machine in wp.values()}) == 2

    assert places["WP01"][names[0]] == places["WP01"][names[2]], "its session is there"
    assert "continuing its session" in told.stdout
    assert "Say what it is for." in (attempts(mission, "WP01")[2] / "prompt.md").read_text()
    assert mission.git("show", f"{mission.approved('WP02')}:src/part2/m02.py") == "half = 1"
    assert mission.strays() == []
    there = came_of_it(mission)

    mission = project(FAN)
    mission.follow(STORIES)
    (mission.root / ".git" / "info" / "exclude").write_text("tools\n")
    told = mission.orchestrate(*options)
    assert told.returncode == 1, told.stdout + told.stderr
    assert came_of_it(mission) == there
