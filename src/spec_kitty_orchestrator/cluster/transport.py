"""What the coordinator needs of a cluster: who is there, a call to one of them, and a task to hold a slot."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from spec_kitty_orchestrator.core.records import dataclass

__all__ = ["Seat", "Silent", "Transport", "Unreachable", "misfits"]


class Unreachable(Exception):
    """The scheduler does not answer, which says nothing of the machines."""


class Silent(Exception):
    """One worker did not answer in time, or is gone."""


@dataclass(frozen=True)
class Seat:
    """A worker as the scheduler knows it now; after a restart the same machine has another address.

    Attributes:
        resources: how many slots it offers, by the name of the agent.
    """

    address: str
    name: str
    resources: Mapping[str, float]


class Transport(Protocol):
    """A cluster as one coordinator sees it; no call takes for ever."""

    async def workers(self) -> Sequence[Seat]:
        """Ask the scheduler who is there. Raises `Unreachable`."""
        ...

    async def call(self, address: str, method: str, limit_s: float, **arguments: Any) -> Mapping[str, Any]:
        """Ask the `AttemptHost` of a worker. Raises `Silent`, or `Unreachable`."""
        ...

    async def hold(self, attempt_id: str, agent: str, address: str = "", *, free: bool = False) -> None:
        """See to it that a task holds, or waits for, a slot of the agent; at one address, or anywhere.

        To be repeated: a task that is gone, as after a restart of the scheduler, is made anew, and one that
        waits elsewhere is moved. Where a slot is `free`, a new task goes ahead of all that waits there for
        others. Raises `Unreachable`.
        """
        ...

    def listen(self, rung: Callable[[str], None]) -> None:
        """Have this called with the id of an attempt when its worker says that it has a slot, or has ended.

        Only a hint: what was said while the scheduler was away is not heard.
        """
        ...

    async def release(self, attempt_id: str) -> None:
        """Let the task of an attempt go."""
        ...


def misfits(told: Mapping[str, Any], version: str) -> Mapping[str, str]:
    """Say why a worker cannot take attempts of ours: what differs, as `python`, and that in a sentence.

    Args:
        told: its answer to `look`.
        version: of this package, ours.
    """
    found, python = {}, "{}.{}".format(*sys.version_info)
    if (theirs := told.get("version")) != version:
        found["version"] = (
            f"worker {told.get('machine')} has version {theirs} of this program, we have {version}"
        )
    if (theirs := told.get("python")) != python:
        # The task that holds a slot is sent as Python's code, which another version cannot run.
        found["python"] = f"worker {told.get('machine')} has Python {theirs}, we have {python}"
    return found
