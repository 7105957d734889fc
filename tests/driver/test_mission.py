"""What is known of the lanes: few reads, and an acknowledgment is never overwritten by an older answer."""

import anyio
import pytest

from spec_kitty_orchestrator.core.model import Lane, MissionState
from spec_kitty_orchestrator.driver.mission import PATIENCE_S, Mission
from spec_kitty_orchestrator.errors import HostCrash
from spec_kitty_orchestrator.testing.fake_host import FakeHost

pytestmark = pytest.mark.anyio


async def main() -> str:
    return "main"


def mission_of(host: FakeHost) -> Mission:
    return Mission(host, "demo", main)


class SlowHost(FakeHost):
    """A host whose answers are as old as the moment at which it was asked."""

    async def mission_state(self, mission: str) -> MissionState:
        lanes = dict(self.lanes)
        await anyio.sleep(10)
        self.calls.append("mission-state")
        return MissionState(mission, lanes, dict(self.dependencies))


async def test_readers_that_wait_at_one_time_share_one_read() -> None:
    host = SlowHost({"WP01": ()})
    view = mission_of(host)
    with anyio.fail_after(100):
        async with anyio.create_task_group() as tg:
            for _ in range(20):
                tg.start_soon(view.refresh)
    assert len(host.calls) == 1


async def test_who_asks_during_a_read_gets_an_answer_that_is_younger_than_the_question() -> None:
    host = SlowHost({"WP01": ()})
    view = mission_of(host)
    seen: list[Lane] = []

    async def asks() -> None:
        await view.refresh()
        seen.append(view.state.lanes["WP01"])

    with anyio.fail_after(100):
        async with anyio.create_task_group() as tg:
            tg.start_soon(asks)
            await anyio.sleep(5)
            host.lanes["WP01"] = Lane.DONE
            for _ in range(5):
                tg.start_soon(asks)
    assert seen == [Lane.PLANNED, *[Lane.DONE] * 5]
    assert len(host.calls) == 2


async def test_an_acknowledged_lane_outlives_an_older_answer() -> None:
    host = SlowHost({"WP01": (), "WP02": ()})
    view = mission_of(host)
    with anyio.fail_after(100):
        async with anyio.create_task_group() as tg:
            tg.start_soon(view.refresh)
            await anyio.sleep(5)
            host.lanes["WP01"] = Lane.IN_PROGRESS
            view.note("WP01", Lane.IN_PROGRESS)
    assert view.state.lanes == {"WP01": Lane.IN_PROGRESS, "WP02": Lane.PLANNED}


async def test_an_answer_that_differs_from_an_acknowledgment_is_not_the_last_word() -> None:
    host = SlowHost({"WP01": ()})
    view = mission_of(host)
    with anyio.fail_after(100):
        async with anyio.create_task_group() as tg:
            tg.start_soon(view.refresh)
            await anyio.sleep(5)
            view.note("WP01", Lane.DONE)
        assert view.stale
        host.lanes["WP01"] = Lane.CANCELED
        await view.refresh()
    assert (view.state.lanes, view.stale) == ({"WP01": Lane.CANCELED}, False)


async def test_a_younger_answer_replaces_an_acknowledged_lane() -> None:
    host = SlowHost({"WP01": ()})
    view = mission_of(host)
    view.note("WP01", Lane.DONE)
    host.lanes["WP01"] = Lane.IN_PROGRESS
    with anyio.fail_after(100):
        await view.refresh()
    assert view.state.lanes == {"WP01": Lane.IN_PROGRESS}


async def test_a_read_that_fails_is_not_shared_with_those_who_wait() -> None:
    host = FakeHost({"WP01": ()}, latency_s=10)
    for _ in range(1 + len(PATIENCE_S)):
        host.fail_next("mission-state", HostCrash("mission-state", "Traceback"))
    view = mission_of(host)
    failed: list[bool] = []

    async def asks() -> None:
        try:
            await view.refresh()
        except HostCrash:
            failed.append(True)
        else:
            failed.append(False)

    with anyio.fail_after(1000):
        async with anyio.create_task_group() as tg:
            for _ in range(3):
                tg.start_soon(asks)
    assert sorted(failed) == [False, False, True]
    assert len(host.calls) == len(PATIENCE_S) + 2


async def test_what_it_was_given_is_what_it_tells() -> None:
    view = mission_of(FakeHost({}))
    state = MissionState("demo", {"WP01": Lane.PLANNED}, {"WP01": ()})
    assert await view.begin(state, ()) == "main"
    assert (view.state, view.stale) == (state, False)
