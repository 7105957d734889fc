"""Who waits for a dependency: the host says what counts, and is not asked again before one changes."""

from collections.abc import Callable

import pytest
from tests.driver.builders import Stage, scripted

from spec_kitty_orchestrator.core.model import Lane, PolicyMetadata, Workspace
from spec_kitty_orchestrator.errors import HostRefusal
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.testing.scripted_agents import Play

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]
Spoil = Callable[..., None]


@pytest.mark.parametrize("lane", [Lane.PLANNED, Lane.CLAIMED])
async def test_nobody_is_claimed_before_its_dependencies_are_done(stage: Make, lane: Lane) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",)})
    mission.host.lanes["WP02"] = lane
    assert (await mission.run()).exit_code == 0
    assert mission.calls()["start-implementation"] == 2


async def test_a_refusal_for_a_dependency_is_not_repeated_before_its_lane_changes(
    stage: Make, never_takes_for_done: Spoil
) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",), "WP03": ()}, scripted(WP03_implement=Play(seconds=900)))
    never_takes_for_done(mission, "WP02", "WP01")
    result = await mission.run()
    assert result.exit_code == 6
    assert result.reasons == {"WP02": "waits for WP01 (done, which the host does not take for done)"}
    assert mission.calls()["start-implementation"] == 3
    assert mission.host.lanes["WP02"] is Lane.PLANNED


async def test_who_was_refused_for_a_dependency_goes_on_once_its_lane_changes(
    stage: Make, never_takes_for_done: Spoil
) -> None:
    def approves_again(_: AttemptRequest) -> Play:
        return Play(seconds=900, then=lambda: mission.host.lanes.update(WP01=Lane.APPROVED))

    mission = stage({"WP01": (), "WP02": ("WP01",), "WP03": ()}, scripted(WP03_implement=approves_again))
    never_takes_for_done(mission, "WP02", "WP01", while_in=Lane.DONE)
    result = await mission.run()
    assert result.exit_code == 0
    assert mission.calls()["start-implementation"] == 4


async def test_the_next_start_asks_again_for_who_was_refused(
    stage: Make, never_takes_for_done: Spoil, monkeypatch: pytest.MonkeyPatch
) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",)})
    never_takes_for_done(mission, "WP02", "WP01")
    assert (await mission.run()).exit_code == 6
    monkeypatch.undo()
    assert (await mission.run()).exit_code == 0


async def test_a_dependency_that_was_canceled_for_a_reason_keeps_nobody(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",), "WP03": ("WP01", "WP02")})
    mission.host.lanes["WP01"] = Lane.CANCELED
    mission.host.canceled_for_a_reason.add("WP01")
    result = await mission.run()
    assert result.state.lanes == {"WP01": Lane.CANCELED, "WP02": Lane.DONE, "WP03": Lane.DONE}
    assert mission.calls()["start-implementation"] == 2


@pytest.mark.parametrize(("reason", "ends"), [(True, Lane.DONE), (False, Lane.CLAIMED)])
async def test_what_is_claimed_already_is_asked_for_once_although_a_dependency_is_canceled(
    stage: Make, reason: bool, ends: Lane
) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",)})
    mission.host.lanes.update(WP01=Lane.CANCELED, WP02=Lane.CLAIMED)
    mission.host.canceled_for_a_reason.update({"WP01"} if reason else ())
    assert (await mission.run()).state.lanes["WP02"] is ends
    assert mission.calls()["start-implementation"] == 1


async def test_a_dependency_that_is_canceled_for_a_reason_during_the_run_keeps_nobody(stage: Make) -> None:
    def cancels() -> None:
        mission.host.lanes["WP01"] = Lane.CANCELED
        mission.host.canceled_for_a_reason.add("WP01")

    script = scripted(WP01_implement=Play(then=cancels), WP03_implement=Play(seconds=100))
    mission: Stage = stage({"WP01": (), "WP02": ("WP01",), "WP03": ()}, script)
    result = await mission.run()
    assert result.state.lanes == {"WP01": Lane.CANCELED, "WP02": Lane.DONE, "WP03": Lane.DONE}


async def test_a_dependency_that_was_canceled_without_a_reason_is_waited_for(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",)})
    mission.host.lanes["WP01"] = Lane.CANCELED
    result = await mission.run()
    assert (result.exit_code, result.reasons["WP02"]) == (1, "waits for WP01 (canceled)")
    assert mission.calls()["start-implementation"] == 0


@pytest.fixture
def never_takes_for_done(monkeypatch: pytest.MonkeyPatch) -> Spoil:
    """Let the host refuse a claim for one dependency, always or while that is in a lane."""

    def spoil(mission: Stage, wp_id: str, needed: str, while_in: Lane | None = None) -> None:
        original = mission.host.start_implementation

        async def refuses(slug: str, wp: str, actor: str, policy: PolicyMetadata) -> Workspace:
            if wp == wp_id and while_in in (None, mission.host.lanes[needed]):
                mission.host.calls.append("start-implementation")
                named = {"unsatisfied_dependencies": [needed]}
                raise HostRefusal("start-implementation", "DEPENDENCIES_NOT_SATISFIED", "not yet", named)
            return await original(slug, wp, actor, policy)

        monkeypatch.setattr(mission.host, "start_implementation", refuses)

    return spoil
