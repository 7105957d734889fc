"""Reads the keyboard so that Esc is answered at once, too.

It begins what a terminal sends for many other keys. textual waits for these, and looks ten times a second
whether it has waited long enough: together that takes longer than people like to wait for a key.
"""

import os
import selectors
from types import SimpleNamespace
from typing import Any

from textual import constants
from textual.drivers import linux_driver

__all__ = ["KeyboardDriver"]

ESCAPE_DELAY_S = 0.04
"""What belongs to one key comes within this time, also over a slow line; `ESCDELAY` sets another one."""
SOON_S = 0.01
_LOOKS = 6
"""After a key, so many looks come soon: more than the delay takes."""


class _Selector(selectors.SelectSelector):
    """Waits for a key, and a little while after one not for long."""

    _soon = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(SOON_S if self._soon else timeout)
        self._soon = _LOOKS if ready else max(0, self._soon - 1)
        return ready


class KeyboardDriver(linux_driver.LinuxDriver):
    """textual's own, which takes its selector from this module's name for it."""

    def run_input_thread(self) -> None:
        """Wait for keys, and hand them on."""
        if "ESCDELAY" not in os.environ:
            setattr(constants, "ESCAPE_DELAY", ESCAPE_DELAY_S)  # noqa: B010 - it is marked as final
        names = SimpleNamespace(SelectSelector=_Selector, EVENT_READ=selectors.EVENT_READ)
        setattr(linux_driver, "selectors", names)  # noqa: B010 - the driver makes its own
        super().run_input_thread()
