"""Our locks keep what every lock promises, and the suite finds those that do not."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.contract.mutants import is_kept

from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.testing import LockContract, MemoryLock, OpenLock


class TestMissionLock(LockContract):
    @pytest.fixture
    def open_lock(self, tmp_path: Path) -> OpenLock:
        return lambda: MissionLock(tmp_path, "034-x")


class TestMemoryLock(LockContract):
    @pytest.fixture
    def open_lock(self) -> OpenLock:
        held = set[str]()
        return lambda: MemoryLock(held, "034-x")


class Open(MemoryLock):
    """Lets everybody in."""

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass


class Sticky(MemoryLock):
    """Stays with who had it when something went wrong."""

    async def __aexit__(self, *how: object) -> None:
        if how[0] is None:
            await super().__aexit__(*how)


class Simple(MemoryLock):
    """Is free when it is left once."""

    async def __aexit__(self, *how: object) -> None:
        self._entered = 1
        await super().__aexit__(*how)


class Deaf(MemoryLock):
    """Swallows what goes wrong."""

    async def __aexit__(self, *how: object) -> bool:  # type: ignore[override]
        await super().__aexit__(*how)
        return True


@pytest.mark.parametrize(
    ("mutant", "promise"),
    [
        (Open, "test_who_comes_second_is_told_that_a_run_is_active"),
        (Open, "test_of_many_that_come_at_once_one_gets_it"),
        (Simple, "test_whoever_holds_it_may_enter_again_and_gives_it_back_as_often"),
        (Sticky, "test_an_exception_leaves_it_free_and_goes_on"),
        (Sticky, "test_whoever_is_canceled_holds_it_no_longer"),
        (Deaf, "test_an_exception_leaves_it_free_and_goes_on"),
    ],
)
def test_a_lock_that_breaks_a_promise_is_found(
    monkeypatch: pytest.MonkeyPatch, mutant: type[MemoryLock], promise: str
) -> None:
    monkeypatch.setattr("spec_kitty_orchestrator.testing.contracts.lock.LIMIT_S", 0.3)

    def fixture() -> Callable[[], MemoryLock]:
        held = set[str]()
        return lambda: mutant(held, "034-x")

    assert not is_kept(LockContract, promise, {"open_lock": fixture})
