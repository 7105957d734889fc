"""Whether a suite finds what is wrong with a part: each of its tests is called with one, and fails or not."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import anyio

from spec_kitty_orchestrator.testing.contracts import Contract


def broken_promises(suite: type[Contract], fixtures: Mapping[str, Callable[[], Any]]) -> set[str]:
    """Return the names of the tests that fail, each with fixtures of its own, in this order."""
    return {name for name in vars(suite) if name.startswith("test_") and not _is_kept(suite, name, fixtures)}


def _is_kept(suite: type[Contract], name: str, fixtures: Mapping[str, Callable[[], Any]]) -> bool:
    test = getattr(suite(), name)

    async def run() -> None:
        # As with a plugin, the parts are made where the test runs.
        wanted = inspect.signature(test).parameters
        made = {one: fixtures[one]() for one in wanted}
        found = test(**made)
        if inspect.isawaitable(found):
            await found

    try:
        anyio.run(run)
    except BaseException as failure:
        if isinstance(failure, KeyboardInterrupt):
            raise
        return False
    return True
