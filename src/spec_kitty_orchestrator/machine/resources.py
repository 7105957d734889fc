"""Whether this machine has room for one more agent: free memory and free disk, each against a floor.

What cannot be read holds nothing back: a machine that does not say how much is free is taken to have enough.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import psutil
from anyio import to_thread

from spec_kitty_orchestrator.machine.logs import logs_root
from spec_kitty_orchestrator.quantities import spelled_size

__all__ = ["MachineHeadroom", "free_disk_below", "free_memory_here", "free_memory_of_cgroups"]

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


class MachineHeadroom:
    """Implements `Headroom` for this machine.

    Args:
        root: the repository.
        min_free_memory: bytes; 0 switches the floor off.
        min_free_disk: bytes, on the disk of the repository and on that of the logs; 0 switches the floor off.
        free_memory: reads the bytes of memory that can still be taken.
        free_disk: reads the bytes that can still be written below a folder.
    """

    def __init__(
        self,
        root: Path,
        *,
        min_free_memory: int,
        min_free_disk: int,
        free_memory: Callable[[], int | None] | None = None,
        free_disk: Callable[[Path], int | None] | None = None,
    ) -> None:
        self._places = (root, logs_root(root))
        self._min_free_memory, self._min_free_disk = min_free_memory, min_free_disk
        self._free_memory = free_memory or free_memory_here
        self._free_disk = free_disk or free_disk_below

    async def shortage(self) -> str:
        """Return "" if there is room; else one sentence: what is short, how much is free, and the floor."""
        return "; ".join(one for one in await self.shortages() if one)

    async def shortages(self) -> tuple[str, str]:
        """Return the same of memory and of disk, each "" if there is room."""
        # A disk on the network may not answer: that must neither stop the event loop nor a run's end.
        return await to_thread.run_sync(self._shortages, abandon_on_cancel=True)

    def _shortages(self) -> tuple[str, str]:
        return "; ".join(self._short_memory()), "; ".join(self._short_disk())

    def _short_memory(self) -> Iterator[str]:
        floor = self._min_free_memory
        free = self._free_memory() if floor else None
        if free is not None and free < floor:
            yield (
                f"only {spelled_size(free)} of memory are free, "
                f"the floor is {spelled_size(floor)} (min_free_memory)"
            )

    def _short_disk(self) -> Iterator[str]:
        floor = self._min_free_disk
        for place in self._places if floor else ():
            free = self._free_disk(place)
            if free is not None and free < floor:
                yield (
                    f"only {spelled_size(free)} are free on the disk of {place}, "
                    f"the floor is {spelled_size(floor)} (min_free_disk)"
                )
                return


def free_disk_below(folder: Path) -> int | None:
    """Return the bytes that can be written below a folder, or below what will hold it; None if unknown."""
    for place in (folder, *folder.parents):
        try:
            return psutil.disk_usage(str(place)).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


def free_memory_here() -> int | None:
    """Return the bytes of memory that can be taken without swapping; None if unknown."""
    try:
        machine: int | None = psutil.virtual_memory().available
    except (OSError, RuntimeError, psutil.Error):
        machine = None
    group = free_memory_of_cgroups() if sys.platform == "linux" else None
    return min((free for free in (machine, group) if free is not None), default=None)


def free_memory_of_cgroups(own: Path = _OWN_CGROUPS, mounted: Path = _CGROUPS) -> int | None:
    """Return the bytes that the limits of this process's control groups leave; None if nothing limits it.

    A limit of any group above counts too. What the kernel can drop at once, inactive pages of files, is free.

    Args:
        own: the kernel's list of this process's groups.
        mounted: where the hierarchies are mounted.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    frees: list[int] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            frees += _free_upwards(mounted / "memory", path, *names)
        elif not controllers:
            frees += _free_upwards(mounted, path, "memory.max", "memory.current", "inactive_file")
    return min(frees, default=None)


def _free_upwards(mounted: Path, path: str, limit: str, used: str, reclaimable: str) -> Iterator[int]:
    """Yield what each limited group leaves, from a process's own up to the mounted root.

    Inside a container the path may be one that only its host sees: then those that exist here are left.
    """
    below = PurePosixPath(path.lstrip("/"))
    if ".." in below.parts:
        below = PurePosixPath()
    for group in (below, *below.parents):
        folder = mounted / group
        try:
            most = int((folder / limit).read_text(encoding="utf-8"))
            taken = int((folder / used).read_text(encoding="utf-8"))
            yield max(most - taken + _statistic(folder / "memory.stat", reclaimable), 0)
        except (OSError, ValueError):
            continue  # no such group here, or `max`: no limit


def _statistic(file: Path, name: str) -> int:
    for line in file.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
