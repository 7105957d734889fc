"""Orders from a second terminal to a run on the real host, which is killed in between."""

from collections.abc import Callable

import pytest
from tests.e2e.projects import FAN, Gate, Project, is_gone

from spec_kitty_orchestrator.core.orders import Tell
from spec_kitty_orchestrator.machine import orders
from spec_kitty_orchestrator.testing.missions import MissionSpec

pytestmark = pytest.mark.real_host


def test_a_run_that_was_paused_steered_killed_and_continued_ends_as_one_that_was_not(
    project: Callable[[MissionSpec], Project], gate: Gate
) -> None:
    mission = project(FAN)
    mission.follow(f'[WP01.implement]\nedits = {{ "src/part1/m01.py" = "one\\n" }}\n{gate.step}\n')

    def order(*words: str, code: int = 0) -> str:
        done = mission.run(*words)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "there is no unfinished run here" in order("pause", code=2)
    with mission.start("--max-concurrent", "2") as run:
        agent = gate.wait(run)
        assert "the run is paused" in order("pause")
        assert "scripted is stopped on WP01" in order("stop", "WP01")
        assert is_gone(agent)
        assert "input should be greater than" in order("set", "max_concurrent=0", code=2)
        assert "max_concurrent=3 from now on" in order("set", "max_concurrent=3")
        run.kill()

    told = order("status", "--mission", mission.slug, code=0)
    assert "The run is paused by you at " in told
    assert "WP01 is stopped by you at " in told
    assert "for the next start" in order("continue")
    # Given to the run that was killed, and never taken.
    folder = mission.root / ".kittify" / "orchestrator" / mission.slug / orders.FOLDER
    orders.put(folder, "00000000-left", Tell("WP01", "use tabs"))

    with mission.start() as run:
        run.hear_of("says: use tabs")
        assert "WP01 goes on" in order("continue", "WP01")
        gate.wait(run).close()
        assert run.end() == 0, run.heard
    assert set(mission.lanes().values()) == {"done"}
    names = [one.name for one in mission.attempts("WP01")]
    assert names == ["01-implement-scripted", "02-implement-scripted", "03-review-scripted"]
    for attempt in mission.attempts("WP01")[1:]:
        assert "use tabs" in (attempt / "prompt.md").read_text()
    assert [len(mission.journal("WP01", kind)) for kind in ("stopped", "told")] == [1, 1]
    assert mission.strays() == []
