"""A run looks beside its work which branches conflict, and says so before anybody is stopped by it."""

from collections.abc import Callable, Mapping, Sequence

import anyio
import pytest
from tests.driver.builders import Stage, scripted

from spec_kitty_orchestrator.core.events import Recorded
from spec_kitty_orchestrator.core.model import Lane
from spec_kitty_orchestrator.core.run_events import ConflictForecast
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.testing.scripted_agents import Play

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]

TWO = {"WP01": (), "WP02": (), "WP03": ("WP01", "WP02")}


def told(mission: Stage) -> list[ConflictForecast]:
    return [event for _, event in mission.watcher.events if isinstance(event, ConflictForecast)]


async def branches(mission: Stage) -> tuple[str, str]:
    one, two = [(await mission.host.where(wp)).branch or "" for wp in ("WP01", "WP02")]
    return min(one, two), max(one, two)


@pytest.mark.parametrize("anyio_backend", ["trio", "asyncio"], indirect=True)
async def test_a_conflict_is_told_while_its_second_commit_is_under_review(stage: Make) -> None:
    mission = stage(TWO, scripted(review=Play(seconds=0.2)))
    pair = await branches(mission)
    mission.workspaces.conflicting = {pair: ("a.py",)}
    assert (await mission.run()).exit_code == 0
    assert told(mission) == [ConflictForecast("WP01", "WP02", pair, ("a.py",), "WP03")]
    assert mission.watcher.state is not None
    assert mission.watcher.state.conflicts == tuple(told(mission))
    before = mission.watcher.events[: mission.watcher.events.index(("", told(mission)[0]))]
    assert not any(isinstance(event, Recorded) for _, event in before)


async def test_a_later_start_looks_again_at_what_is_known(stage: Make) -> None:
    mission = stage(TWO, scripted(WP03_implement=Play(seconds=5)))
    pair = await branches(mission)
    mission.workspaces.conflicting = {pair: ("a.py",)}
    with anyio.move_on_after(4):
        await mission.orchestrator().run()
    mission.workspaces.conflicting = {}
    assert (await mission.run()).exit_code == 0
    assert [one.files for one in told(mission)] == [("a.py",), ()]
    assert mission.watcher.state is not None
    assert mission.watcher.state.conflicts == ()


async def test_a_git_that_cannot_tell_stops_nothing(stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    mission = stage(TWO)

    async def broken(_: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], tuple[str, ...]]:
        raise WorkspaceError("git is gone")

    monkeypatch.setattr(mission.workspaces, "conflicts", broken)
    assert (await mission.run()).exit_code == 0
    assert set(mission.host.lanes.values()) == {Lane.DONE}


async def test_a_look_that_takes_for_ever_keeps_nobody_waiting(
    stage: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    mission = stage(TWO)
    monkeypatch.setattr(mission.workspaces, "conflicts", lambda _: anyio.sleep_forever())
    assert (await mission.run()).exit_code == 0
