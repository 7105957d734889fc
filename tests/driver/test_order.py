"""A key of the caller's says who goes first; one that is broken ends the run in order."""

from collections.abc import Callable

import anyio
import pytest
from tests.driver.builders import Stage

from spec_kitty_orchestrator.core.events import Scheduled
from spec_kitty_orchestrator.core.model import Lane
from spec_kitty_orchestrator.core.run_events import Entry, Failed
from spec_kitty_orchestrator.core.run_state import RunState
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.errors import UsageError
from spec_kitty_orchestrator.testing.scripted_agents import Play

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]

WIDE = {f"WP0{number}": () for number in range(1, 6)}


def last_first(wp: WorkPackage, state: RunState) -> int:
    return -int(wp.id.removeprefix("WP"))


def begun(mission: Stage) -> list[str]:
    """Return the work packages in the order in which the scheduler first let them go on."""
    given = (one for one in mission.journal.lines if isinstance(one, Entry))
    return list(dict.fromkeys(one.wp_id for one in given if isinstance(one.event, Scheduled)))


@pytest.mark.parametrize("slots", [1, 2, 3])
async def test_a_run_begins_its_work_packages_in_the_order_of_the_key(stage: Make, slots: int) -> None:
    mission = stage(WIDE, lambda r: Play(seconds=100), max_concurrent=slots, latency_s=1.0)
    assert (await mission.run(order=last_first)).exit_code == 0
    assert begun(mission) == sorted(WIDE, reverse=True)


async def test_dependencies_hold_against_any_key(stage: Make) -> None:
    mission = stage({"WP01": (), "WP02": ("WP01",), "WP03": ("WP02",)}, max_concurrent=3)
    assert (await mission.run(order=last_first)).exit_code == 0
    assert begun(mission) == ["WP01", "WP02", "WP03"]


async def test_a_key_that_raises_ends_the_run_in_order_and_a_later_start_goes_on(stage: Make) -> None:
    def broken(wp: WorkPackage, state: RunState) -> int:
        if any(one.lane is Lane.DONE for one in state.wps.values()):
            raise KeyError(wp.id)
        return 0

    mission = stage(WIDE, lambda r: Play(seconds=100), max_concurrent=2, latency_s=1.0)
    with anyio.fail_after(10_000), pytest.raises(UsageError, match=r"order= failed for WP0\d: KeyError"):
        await mission.orchestrator(order=broken).run()
    assert mission.agents.running == []
    told = [one.event for one in mission.journal.lines if isinstance(one, Entry)]
    assert [one.message.count("order=") for one in told if isinstance(one, Failed)] == [1]
    assert Lane.DONE in mission.host.lanes.values()
    before = len(mission.agents.requests)
    assert (await mission.run(order=last_first)).exit_code == 0
    assert set(mission.host.lanes.values()) == {Lane.DONE}
    assert len(mission.agents.requests) >= before
