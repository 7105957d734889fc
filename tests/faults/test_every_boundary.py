"""The power fails at any one call to the world, or at any two: the next start reaches the same end."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.driver.builders import Stage, longer
from tests.faults.power import Cut, attempts, commits, on_virtual_time, ranges, reports

from spec_kitty_orchestrator.core.model import Lane, Role
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.driver.result import RunResult
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play, report, verdict
from spec_kitty_orchestrator.testing.scripted_gates import Check

NEEDS: Mapping[str, tuple[str, ...]] = {"WP01": (), "WP02": ("WP01",), "WP03": ("WP01",), "WP04": ("WP01",)}
SHARED = {"WP02": "lane-b", "WP03": "lane-b"}
SUBTASKS = {"WP02": ("T001", "T002"), "WP04": ("T003",)}


def cycle(request: AttemptRequest) -> Play:
    """Tick what the work package has, and reject WP02 once."""
    if request.role is Role.IMPLEMENT:
        return Play(seconds=5, text=report(request, subtasks_done=list(SUBTASKS.get(request.wp_id, ()))))
    ruling = "changes_requested" if (request.wp_id, request.number) == ("WP02", 2) else "approved"
    return Play(seconds=3, text=verdict(request, ruling, *(["once more"] if ruling != "approved" else [])))


GATES = (Gate("lint", ("ruff",)), Gate("tests", ("pytest",)))


def check(wp: str, _head: str, turn: int) -> Check:
    """Find WP04 red once, and litter in the worktree."""
    return Check("failed" if (wp, turn) == ("WP04", 1) else "passed", seconds=2, leaves=("build.log",))


def a_mission() -> Stage:
    """Make a mission with a shared worktree, ticked subtasks, gates, a rework cycle and a red gate."""
    policy = longer(gates=GATES)
    return Stage(NEEDS, cycle, lane_ids=SHARED, subtasks=SUBTASKS, latency_s=1.0, policy=policy, checks=check)


@dataclass(frozen=True)
class Ending:
    """What a mission came to, as far as no failure of power may change it."""

    code: int
    lanes: Mapping[str, Lane]
    moves: Mapping[str, list[tuple[Lane, Lane]]]
    ticked: frozenset[str]
    runs: Counter[tuple[str, int, Role]]
    journaled: Mapping[str, list[tuple[int, Role]]]
    ranges: Mapping[str, tuple[str, int, int]]
    commits: int
    gates: Counter[tuple[str, int]]


def ending(mission: Stage, result: RunResult) -> Ending:
    """Describe an end."""
    asked = {one.id: (one.wp_id, one.number, one.role) for one in mission.agents.requests}
    return Ending(
        result.exit_code,
        dict(mission.host.lanes),
        {wp: [(one.from_lane, one.to_lane) for one in mission.host.events if one.wp == wp] for wp in NEEDS},
        frozenset(mission.host.ticked),
        Counter(asked[one] for one in mission.agents.runs),
        {wp: [(one.number, one.role) for one in found] for wp, found in attempts(mission).items()},
        ranges(mission, result),
        commits(mission),
        Counter((wp, turn) for wp, _, turn in mission.gates.runs.elements()),
    )


def assert_nothing_lost(mission: Stage) -> None:
    """Check that every agent that ran did so once, and that its report was used, once."""
    mission.assert_sound()
    assert mission.agents.running == []
    assert mission.gates.running == []
    assert not any(tree.dirty for tree in mission.workspaces.trees.values())
    told = reports(mission)
    assert set(told) == set(mission.agents.runs)
    assert [len(one) for one in told.values()] == [1] * len(told)


@cache
def undisturbed() -> tuple[Ending, tuple[str, ...]]:
    """Return the end of the run that nothing cut off, and its boundaries."""
    mission, meter, result = on_virtual_time(a_mission)
    assert_nothing_lost(mission)
    return ending(mission, result), tuple(meter.crossed)


READS = {
    "host": ("mission_state", "resolve_workspace"),
    "journal": ("read",),
    "workspaces": ("diff", "fingerprint", "primary_branch", "state", "task", "uncommitted"),
}
"""They change nothing, so a failure beside one is that beside its neighbours."""


def test_the_mission_crosses_every_kind_of_boundary() -> None:
    end, crossed = undisturbed()
    assert (end.code, set(end.lanes.values())) == (0, {Lane.DONE})
    assert max(Counter(end.moves["WP02"]).values()) == 2
    calls = {
        "host": ("mission_state", "resolve_workspace", "start_implementation", "tick_subtasks"),
        "agents": ("open", "run"),
        "workspaces": ("ensure", "task", "state", "commit", "diff", "fingerprint", "restore", "rescue"),
        "gates": ("run",),
        "journal": ("append", "read"),
    }
    assert {"host.start_review", "host.transition"} <= set(crossed)
    assert {f"{part}.{call}" for part, names in calls.items() for call in names} <= set(crossed)


@pytest.mark.parametrize(
    ("after", "calls_land", "parts"),
    [
        pytest.param(False, False, None, id="before it, power"),
        # Behind one boundary is before the next one: what differs is which calls of the host land.
        pytest.param(True, True, ("host", "agents"), id="after it, kill"),
        pytest.param(True, True, None, marks=pytest.mark.long, id="after any, kill"),
    ],
)
def test_a_crash_at_any_boundary_changes_nothing_in_the_end(
    after: bool, calls_land: bool, parts: tuple[str, ...] | None
) -> None:
    clean, crossed = undisturbed()
    for k, name in enumerate(crossed, 1):
        part, _, call = name.partition(".")
        if call in READS.get(part, ()) or (parts and part not in parts):
            continue
        mission, _, result = on_virtual_time(a_mission, (Cut(k, after, calls_land),))
        assert_nothing_lost(mission)
        assert ending(mission, result) == clean, (k, name)


cuts = st.builds(Cut, k=st.integers(1, 250), after=st.booleans(), calls_land=st.booleans())


@settings(max_examples=50, deadline=None)
@given(cuts, cuts)
def test_two_crashes_at_any_boundaries_change_nothing_in_the_end(first: Cut, second: Cut) -> None:
    mission, _, result = on_virtual_time(a_mission, (first, second))
    assert_nothing_lost(mission)
    assert ending(mission, result) == undisturbed()[0]


def edits_once(request: AttemptRequest) -> Play:
    """Let the first reviewer change a file, and approve."""
    spoils = (request.role, request.number) == (Role.REVIEW, 2)
    return Play(edits=("of the reviewer",) if spoils else None)


def test_an_approval_by_a_reviewer_who_edited_is_void_wherever_the_crash_comes() -> None:
    def solo() -> Stage:
        return Stage({"WP01": ()}, edits_once)

    _, meter, _ = on_virtual_time(solo)
    for k, name in enumerate(meter.crossed, 1):
        mission, _, result = on_virtual_time(solo, (Cut(k, after=True),))
        review = mission.host.events[-1].review
        assert result.exit_code == 0
        assert review is not None
        spoiled = [one.id for one in mission.agents.requests if (one.role, one.number) == (Role.REVIEW, 2)]
        assert review.reference.partition("@")[0] not in spoiled, (k, name)
