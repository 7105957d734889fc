"""What earlier starts left on machines: nothing is forgotten there that is not here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from spec_kitty_orchestrator.cluster import leftovers
from spec_kitty_orchestrator.cluster.placement import PLACED
from spec_kitty_orchestrator.cluster.records import Placed, write
from spec_kitty_orchestrator.cluster.shipment import Shipment, Snapshot

pytestmark = pytest.mark.asyncio


@dataclass
class OneMachine:
    """Rounds in which the attempt on a machine is in this state whenever it is asked to stop."""

    state: str
    asked: list[str] = field(default_factory=list)
    machines: Mapping[str, None] = field(default_factory=lambda: {"m": None})

    async def ask(self, machine: str, method: str, **arguments: Any) -> Mapping[str, Any]:
        self.asked.append(method)
        return {"states": {"one": self.state}}


class Nothing:
    """A shipping that has nothing to forget."""

    async def forget(self, attempt: str) -> None:
        pass


class LookedOnce(Exception):
    """It would wait now before it looks again."""


def left(home: Path) -> None:
    """Have left a lost attempt on the machine."""
    directory = home / "WP01" / "01-implement-bot"
    directory.mkdir(parents=True)
    (directory / "result.json").touch()
    shipment = Shipment("project", "place", Snapshot("a" * 40, "a" * 40))
    write(directory / PLACED, Placed("one", "m", "mission", "/nowhere", shipment, lost=True))


@pytest.mark.parametrize(("state", "asked"), [("refused", ["stop", "drop"]), ("running", ["stop"])])
async def test_a_lost_attempt_that_does_not_end_in_time_is_not_forgotten_with_its_work(
    tmp_path: Path, state: str, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sleep(_: float) -> None:
        raise LookedOnce

    monkeypatch.setattr(anyio, "sleep", sleep)
    left(tmp_path)
    rounds = OneMachine(state)
    with pytest.raises(LookedOnce):
        await leftovers.keep_clearing(tmp_path, rounds, Nothing(), print)  # type: ignore[arg-type]
    assert rounds.asked == asked


async def test_what_cannot_be_fetched_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slept = list[float]()

    async def sleep(delay_s: float) -> None:
        slept.append(delay_s)
        if len(slept) == 3:
            raise LookedOnce

    monkeypatch.setattr(anyio, "sleep", sleep)
    rounds = OneMachine("running")
    left(tmp_path)
    with pytest.raises(LookedOnce):
        await leftovers.keep_clearing(tmp_path, rounds, Nothing(), print)  # type: ignore[arg-type]
    assert (len(rounds.asked), len(caplog.records)) == (3, 1)
