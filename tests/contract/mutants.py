"""Whether a suite finds what is wrong: its test of a promise is called with a part that breaks it."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import pytest

from spec_kitty_orchestrator.testing.contracts import Contract


def is_kept(suite: type[Contract], promise: str, fixtures: Mapping[str, Callable[[], Any]]) -> bool:
    """Tell whether a test of the suite passes, with fixtures of its own."""
    test = getattr(suite(), promise)

    async def run() -> None:
        # As with a plugin, the parts are made where the test runs.
        found = test(**{name: fixtures[name]() for name in inspect.signature(test).parameters})
        if inspect.isawaitable(found):
            await found

    try:
        anyio.run(run)
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 - whatever a wrong part leads to
        return False
    return True
