"""What a worker tells people: which attempts begin and end here, and those whose run is not heard of.

Each is one line, without the words of prompts and agents.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import anyio

from spec_kitty_orchestrator.cluster.records import WorkOrder
from spec_kitty_orchestrator.core.describe import clean, duration
from spec_kitty_orchestrator.core.model import Outcome, Role
from spec_kitty_orchestrator.machine.redaction import ours

__all__ = ["WorkerLog"]

SILENT_S = 60.0
"""A run asks twice a second for its attempts; one that has not done so for this long is told."""
LOOK_S = 5.0
LONGEST_NAME = 120

_DOES = {Role.IMPLEMENT: "implements", Role.REVIEW: "reviews"}


@dataclass
class _Known:
    """An attempt that is here.

    Attributes:
        words: name it.
        since: when it began.
        heard_at: when its run asked for it last.
        silent: whether it was told that its run does not ask.
        ended: whether only its run is waited for.
    """

    words: str
    since: float
    heard_at: float
    silent: bool = False
    ended: bool = False


class WorkerLog:
    """Tells of the attempts of a worker.

    Args:
        say: gets each line.
        clock: in seconds since 1970.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.time) -> None:
        self._say = say
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._waiting: set[str] = set()

    def begins(self, order: WorkOrder, since: float | None = None) -> None:
        """Tell that an attempt begins, or has run `since` that time and goes on with a new worker."""
        asked = order.request
        what = f"gate {order.gate.gate.name}" if order.gate else f"{asked.agent} {_DOES[asked.role]}"
        words = f"{_name(asked.wp_id)} of {_name(asked.mission)}: {_name(what)}"
        self._known[asked.id] = _Known(
            f"{words} ({_name(asked.id)})", self._clock() if since is None else since, self._clock()
        )
        self._say(f"{words}, {f'attempt {asked.number}' if since is None else 'goes on'} ({_name(asked.id)})")

    def ends(self, attempt_id: str, outcome: Outcome) -> None:
        """Tell how an attempt has ended, and after how long."""
        if known := self._known.get(attempt_id):
            known.ended = True
            self._say(f"{known.words}: {outcome.value} after {duration(self._clock() - known.since)}")

    def not_set_up(self, attempt_id: str, reason: str) -> None:
        """Tell why an attempt does not begin: what its checkout needs could not be made."""
        if known := self._known.pop(attempt_id, None):
            self._say(f"{known.words}: does not begin: {_shown(reason)}")

    def heard(self, attempt_ids: Iterable[str]) -> None:
        """Note that a run asks for these."""
        for name in attempt_ids:
            if known := self._known.get(name):
                if known.silent:
                    silent_s = self._clock() - known.heard_at
                    self._say(f"{known.words}: its run is heard of again, after {duration(silent_s)}")
                known.heard_at, known.silent = self._clock(), False

    def taken(self, attempt_id: str) -> None:
        """Note that a run has all that it wants of an attempt."""
        self._known.pop(attempt_id, None)
        self._waiting.discard(attempt_id)

    def waits(self, attempt_id: str, for_s: float) -> None:
        """Tell once of an attempt that has had a slot here for long and has not begun."""
        if for_s < SILENT_S or attempt_id in self._waiting:
            return
        self._waiting.add(attempt_id)
        self._say(f"attempt {_name(attempt_id)} has had a slot for {duration(for_s)}, and its run is silent")

    def refused(self, method: str, reason: str) -> None:
        """Tell why something that was asked cannot be done."""
        self._say(f"cannot {_name(method)}: {_shown(reason)}")

    async def keep_looking(self) -> None:
        """Tell for ever of attempts whose run does not ask for them."""
        while True:
            self.look()
            await anyio.sleep(LOOK_S)

    def look(self) -> None:
        """Tell once of each attempt whose run has not asked for it for long."""
        for known in self._known.values():
            silent_s = self._clock() - known.heard_at
            if silent_s >= SILENT_S and not known.silent:
                known.silent = True
                waits = "what it did is kept" if known.ended else "its agent goes on"
                self._say(f"{known.words}: its run was last heard of {duration(silent_s)} ago; {waits}")


def _name(text: str) -> str:
    return clean(text, LONGEST_NAME)


def _shown(text: str) -> str:
    return clean(ours().text(text))
