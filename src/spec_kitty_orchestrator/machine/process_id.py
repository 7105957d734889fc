"""Which process one is: its number alone may be given to another."""

import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from spec_kitty_orchestrator.core.records import dataclass, field

__all__ = ["Child", "boot"]


@cache
def boot() -> str:
    """Name the start of this machine, "" where the system does not."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


@dataclass(frozen=True)
class Child:
    """A process that cannot be mistaken for another, also when the clock is set.

    Attributes:
        started: in seconds: on Linux since the machine's start, elsewhere since the epoch.
        boot: that start of the machine.
    """

    pid: int
    started: float
    boot: str = field(default_factory=boot)

    @property
    def age_s(self) -> float:
        """For how long it has existed, in seconds."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.time()
        return max(0.0, now - self.started)
