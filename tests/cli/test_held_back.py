"""What `status` says of work packages that an active run could start and does not."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from spec_kitty_orchestrator.app.status import wait_reasons
from spec_kitty_orchestrator.core.model import (
    Attempt,
    Lane,
    MissionState,
    Outcome,
    Phase,
    Policy,
    Role,
    WorkPackage,
)
from spec_kitty_orchestrator.ports import RunStarted

POLICY = Policy(("claude-code", "opencode"), ("codex",))
STARTED = RunStarted(datetime(2026, 1, 2, tzinfo=UTC), "m", "me", POLICY, "1", max_concurrent=3)


def working(wp: str, agent: str, phase: Phase = Phase.IMPLEMENTING) -> WorkPackage:
    attempt = Attempt(f"id-{wp}", 1, Role.IMPLEMENT, agent, "d")
    return WorkPackage(wp, phase=phase, attempts=(attempt,))


def held(
    lanes: Mapping[str, Lane],
    *known: WorkPackage,
    shortage: str = "",
    needs: str = "",
    rests: Mapping[str, int] | None = None,
    mode: str = "fallback",
    **limits: int,
) -> Mapping[str, str]:
    dependencies = {wp: (needs,) if needs and wp != needs else () for wp in lanes}
    most = {name.replace("_", "-"): number for name, number in limits.items()}
    started = replace(STARTED, on_rate_limit=mode, limits_in_force=most)
    resting = {agent: datetime(2026, 1, 2, hour, tzinfo=UTC) for agent, hour in (rests or {}).items()}
    mission = MissionState("m", lanes, dependencies)
    return wait_reasons(mission, {wp.id: wp for wp in known}, started, shortage, resting)


def test_a_full_agent_holds_back_only_those_that_need_it() -> None:
    lanes = {"WP01": Lane.IN_PROGRESS, "WP02": Lane.PLANNED, "WP03": Lane.FOR_REVIEW}
    assert held(lanes, working("WP01", "claude-code"), claude_code=1) == {
        "WP02": "waits for claude-code: at most 1 at once"
    }


def test_agents_that_rest_hold_back_what_nobody_else_may_do() -> None:
    lanes = {"WP01": Lane.PLANNED, "WP02": Lane.FOR_REVIEW}
    early = "waits for opencode: its quota is used up until 2026-01-02 03:00 UTC"
    later = "waits for claude-code: its quota is used up until 2026-01-02 05:00 UTC"
    assert held(lanes, rests={"claude-code": 5}) == {}
    assert held(lanes, rests={"claude-code": 5, "opencode": 3}) == {"WP01": early}
    assert held(lanes, rests={"claude-code": 5}, mode="wait") == {"WP01": later}


def test_an_agent_with_room_holds_back_nothing() -> None:
    lanes = {"WP01": Lane.IN_PROGRESS, "WP02": Lane.PLANNED}
    assert held(lanes, working("WP01", "claude-code"), claude_code=2, codex=1) == {}


def test_work_for_review_waits_for_the_reviewer() -> None:
    lanes = {"WP01": Lane.IN_REVIEW, "WP02": Lane.FOR_REVIEW, "WP03": Lane.FOR_REVIEW}
    known = (working("WP01", "codex", Phase.REVIEWING), WorkPackage("WP02", phase=Phase.REVIEWING))
    said = "waits for codex: at most 1 at once"
    assert held(lanes, *known, codex=1) == {"WP02": said, "WP03": said}


def test_rework_waits_for_the_agent_that_it_fell_back_to() -> None:
    lanes = {"WP01": Lane.IN_PROGRESS, "WP02": Lane.IN_PROGRESS}
    fallen = replace(working("WP02", "claude-code"), impl_agent=1, outcomes=(Outcome.AUTH,))
    assert held(lanes, working("WP01", "opencode"), fallen, opencode=1) == {
        "WP02": "waits for opencode: at most 1 at once"
    }


@pytest.mark.parametrize("lane", [Lane.APPROVED, Lane.DONE, Lane.BLOCKED, Lane.CANCELED])
def test_what_is_over_waits_for_nothing(lane: Lane) -> None:
    assert held({"WP01": lane}, shortage="no memory") == {}


def test_whoever_waits_for_a_dependency_or_rests_has_another_reason() -> None:
    lanes = {"WP01": Lane.IN_PROGRESS, "WP02": Lane.PLANNED, "WP03": Lane.IN_PROGRESS}
    resting = WorkPackage("WP03", phase=Phase.IMPLEMENTING, rests="rests for 10 s")
    known = (working("WP01", "claude-code"), resting)
    assert held(lanes, *known, needs="WP01", shortage="no memory", claude_code=1) == {}


def test_a_shortage_holds_back_what_has_a_slot_to_take() -> None:
    lanes = dict.fromkeys(("WP01", "WP02", "WP03"), Lane.IN_PROGRESS) | {"WP04": Lane.PLANNED}
    known = [working(wp, "claude-code") for wp in ("WP01", "WP02", "WP03")]
    assert held(lanes, *known[:2], WorkPackage("WP03", phase=Phase.FINISHED), shortage="no memory") == {
        "WP04": "waits for room: no memory"
    }
    assert held(lanes, *known, shortage="no memory") == {}
