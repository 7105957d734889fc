"""Calls that failed because the machine was short of something are made again, for a bounded time.

Descriptors, processes, memory and disk are short for seconds while others work. What could not be looked at
for want of them is not taken for something that is not there.
"""

import errno
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

__all__ = ["delays", "is_shortage", "patiently", "patiently_now"]

SHORTAGES = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOSPC, errno.EDQUOT, errno.ENOBUFS}
)
DELAYS_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0)
"""Between two tries; after the last one it is no passing shortage."""

Result = TypeVar("Result")


def is_shortage(error: BaseException | None) -> bool:
    """Tell whether a call failed for want of something that others may soon give back."""
    return isinstance(error, OSError) and error.errno in SHORTAGES


def delays() -> Iterator[float | None]:
    """Yield how long to wait after each failure, in seconds; None after the last."""
    yield from DELAYS_S
    yield None


def patiently_now(call: Callable[[], Result]) -> Result:
    """Return what the call returns. Raises `OSError`; not for the event loop."""
    for delay_s in delays():
        try:
            return call()
        except OSError as error:
            if delay_s is None or not is_shortage(error):
                raise
        time.sleep(delay_s)
    raise AssertionError


async def patiently(call: Callable[[], Awaitable[Result]]) -> Result:
    """Return what the call returns. Raises `OSError`."""
    # Loaded only where there is an event loop: reading a file needs none.
    from anyio import sleep

    for delay_s in delays():
        try:
            return await call()
        except OSError as error:
            if delay_s is None or not is_shortage(error):
                raise
        await sleep(delay_s)
    raise AssertionError
