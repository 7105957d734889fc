"""What a run does for one work package does not depend on how many there are."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.driver.builders import Stage

from spec_kitty_orchestrator.core import board as boards
from spec_kitty_orchestrator.core.board import Board
from spec_kitty_orchestrator.core.model import WorkPackage
from spec_kitty_orchestrator.testing.scripted_agents import Play

pytestmark = pytest.mark.anyio

Make = Callable[..., Stage]

FEW, MANY = 50, 300


class Counted(dict[str, WorkPackage]):
    """Counts how often a work package is looked up, or passed by in a search."""

    def __init__(self, counts: dict[str, int]) -> None:
        self._counts = counts

    def __getitem__(self, key: str) -> WorkPackage:
        self._counts["looks"] += 1
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[str]:
        self._counts["looks"] += len(self)
        return super().__iter__()

    def values(self) -> Any:
        self._counts["looks"] += len(self)
        return super().values()

    def items(self) -> Any:
        self._counts["looks"] += len(self)
        return super().items()


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often the board looked at a work package, filed or moved one, and was asked for a plan."""
    found = {"looks": 0, "files": 0, "moves": 0, "plans": 0}

    def counted(name: str, holder: Any, attribute: str) -> None:
        original = getattr(holder, attribute)

        def call(*args: Any, **named: Any) -> Any:
            found[name] += 1
            return original(*args, **named)

        monkeypatch.setattr(holder, attribute, call)

    original_init = Board.__init__

    def init(self: Board, *args: Any, **named: Any) -> None:
        original_init(self, *args, **named)
        self.wps = Counted(found)

    monkeypatch.setattr(Board, "__init__", init)
    counted("files", Board, "_file")
    counted("plans", Board, "plan")
    counted("moves", boards, "heappop")
    return found


def side_by_side(count: int) -> dict[str, tuple[str, ...]]:
    """Return chains of ten."""
    return {f"WP{n:04d}": (f"WP{n - 1:04d}",) if n % 10 else () for n in range(count)}


def fans(count: int) -> dict[str, tuple[str, ...]]:
    """Return diamonds of ten: one, then eight side by side, then one that needs all of them; end to end."""
    needs: dict[str, tuple[str, ...]] = {}
    for n in range(count):
        first = n - n % 10
        if n % 10 == 0:
            needs[f"WP{n:04d}"] = (f"WP{n - 1:04d}",) if n else ()
        elif n % 10 < 9:
            needs[f"WP{n:04d}"] = (f"WP{first:04d}",)
        else:
            needs[f"WP{n:04d}"] = tuple(f"WP{one:04d}" for one in range(first + 1, n))
    return needs


def alone(count: int) -> dict[str, tuple[str, ...]]:
    return {f"WP{n:04d}": () for n in range(count)}


@pytest.mark.parametrize("shares", [False, True], ids=["worktrees of their own", "shared worktrees"])
@pytest.mark.parametrize("shape", [side_by_side, fans, alone])
async def test_the_work_of_the_scheduler_grows_as_the_mission_does(
    stage: Make, counts: dict[str, int], shape: Callable[[int], dict[str, tuple[str, ...]]], shares: bool
) -> None:
    per_wp: list[dict[str, float]] = []
    for size in (FEW, MANY):
        counts.update(dict.fromkeys(counts, 0))
        needs = shape(size)
        lanes = {one: f"lane-{place // 10}" for place, one in enumerate(needs)} if shares else None
        mission = stage(needs, lambda r: Play(seconds=5), max_concurrent=5, lane_ids=lanes)
        assert (await mission.run()).exit_code == 0
        per_wp.append({name: count / size for name, count in counts.items()})
    few, many = per_wp
    for name in counts:
        assert 0 < many[name] <= few[name] * 1.5 + 1, (name, few, many)
    assert many["plans"] <= 12


async def test_one_worktree_for_all_costs_no_more_than_many(stage: Make, counts: dict[str, int]) -> None:
    needs = alone(MANY)
    mission = stage(needs, max_concurrent=5, lane_ids=dict.fromkeys(needs, "lane-a"))
    assert (await mission.run()).exit_code == 0
    assert counts["moves"] / MANY <= 12
    assert counts["looks"] / MANY <= 200
