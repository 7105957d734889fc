"""Orders of people as private files in a mission's folder: no port is open, and only its owner can give any.

A command puts `ID.order` in place. The run that is active renames it to `ID.taken`, carries it out, puts
`ID.answer` in place and removes it; a command that nobody answers withdraws what is not taken. What a run had
taken when it was cut off is taken up by the next one.
"""

import json
import os
import re
import secrets
import stat
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.core.orders import LONGEST_NOTE, Changed, Drain, Given, Order
from spec_kitty_orchestrator.machine.decoder import Decoder, UnknownKindError
from spec_kitty_orchestrator.machine.files import make_private_folder, open_file, write_record
from spec_kitty_orchestrator.machine.user import this_user

__all__ = ["ANSWER_LIMIT_S", "FOLDER", "Answer", "OrderFolder", "forget_taken", "give", "put"]

FOLDER = "orders"

POLL_S = 0.35
"""Between two looks at the folder's time of change, which cost next to nothing."""

LIST_S = 5.0
"""The folder is listed so often, whatever its time of change says."""

SAME_TIME_S = 1.0
"""A folder that changed as lately may change again without another time of change."""

ANSWER_LIMIT_S = 5.0
"""How long a command waits for the run to take an order up, and then for its answer."""

ANSWER_POLL_S = 0.02

MOST_BYTES = 64 * 1024

_NAME = re.compile(r"([0-9A-Za-z-]{8,80})\.(order|taken)")
_STALE_ANSWER_S = 3600.0


@dataclass(frozen=True)
class _Written:
    order: Order


@dataclass(frozen=True)
class Answer:
    """What the run said to an order."""

    text: str
    refused: bool = False


class OrderFolder:
    """The port `Orders` of one mission, for the run that holds its lock.

    Args:
        directory: the mission's folder of our own.
        change: see `Orders.changed`.
        say: is told of what is no order and was removed.
    """

    def __init__(
        self,
        directory: Path,
        change: Callable[[Mapping[str, object], Mapping[str, str]], Awaitable[Changed]],
        say: Callable[[str], None],
    ) -> None:
        self._folder, self._change, self._say = directory / FOLDER, change, say
        self._changed_ns: int | None = None
        self._listed_at = 0.0
        self._left: list[Given] = []
        self._known: set[str] = set()

    async def next(self) -> Given:
        """Wait for the next order; what is none is removed and told."""
        while not self._left:
            # A look at a time takes microseconds; a thread for it would take a hundred times as long.
            if self._has_changed():
                found, wrong = await to_thread.run_sync(self._look)
                self._left += found
                for one in wrong:
                    self._say(one)
            if not self._left:
                await anyio.sleep(POLL_S)
        return self._left.pop(0)

    async def answer(self, order_id: str, text: str, *, refused: bool = False) -> None:
        """Put the answer in place, then remove the order."""
        await to_thread.run_sync(self._answer, order_id, Answer(text, refused))

    async def changed(self, settings: Mapping[str, object], changes: Mapping[str, str]) -> Changed:
        """Return what becomes of the recorded settings with changes. Raises `ConfigError`."""
        return await self._change(settings, changes)

    def _answer(self, order_id: str, answer: Answer) -> None:
        with suppress(OSError):
            write_record(self._folder / f"{order_id}.answer", asdict(answer))
        with suppress(OSError):
            (self._folder / f"{order_id}.taken").unlink()

    def _has_changed(self) -> bool:
        try:
            changed_ns = self._folder.lstat().st_mtime_ns
        except OSError:
            return False
        return changed_ns != self._changed_ns or time.monotonic() - self._listed_at >= LIST_S

    def _look(self) -> tuple[list[Given], list[str]]:
        """Take up the orders that came; return them, the oldest first, and what was wrong with others."""
        try:
            now = self._folder.lstat()
        except OSError:
            return [], []
        if not stat.S_ISDIR(now.st_mode) or now.st_uid != os.getuid():
            return [], self._once(
                self._folder.name, f"{self._folder} is no folder of ours: no orders are taken"
            )
        fresh = abs(time.time() - now.st_mtime) < SAME_TIME_S
        self._changed_ns, self._listed_at = None if fresh else now.st_mtime_ns, time.monotonic()
        return self._listed()

    def _listed(self) -> tuple[list[Given], list[str]]:
        found: list[Given] = []
        wrong: list[str] = []
        with suppress(OSError):
            for name in sorted(one.name for one in self._folder.iterdir()):
                parts = _NAME.fullmatch(name)
                if name.endswith(".answer"):
                    self._forget(self._folder / name)
                if parts is None or parts[1] in self._known:
                    continue
                try:
                    given = self._taken(parts[1], name)
                    if isinstance(given.order, Drain) and name.endswith(".taken"):
                        # The run that was to end is over: whoever started this one wants it to go on.
                        self._answer(given.id, Answer("the run ended before it was drained", refused=True))
                        continue
                    found.append(given)
                except (OSError, ValueError, RecursionError) as error:
                    wrong += self._removed(parts[1], name, error)
        return found, wrong

    def _taken(self, order_id: str, name: str) -> Given:
        """Take an order up, which nobody withdraws then. Raises `OSError`, and `ValueError` if it is none."""
        place = self._folder / f"{order_id}.taken"
        if name != place.name:
            (self._folder / name).rename(place)
        order = _read(place)
        self._known.add(order_id)
        return Given(order, this_user(), order_id)

    def _removed(self, order_id: str, name: str, error: Exception) -> list[str]:
        """Remove what is no order, and tell whoever gave it."""
        if isinstance(error, FileNotFoundError):
            return []  # it was withdrawn
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        for place in (self._folder / name, self._folder / f"{order_id}.taken"):
            with suppress(OSError):
                place.rmdir() if place.is_dir() and not place.is_symlink() else place.unlink()
        self._answer(order_id, Answer(f"it is no order of this version: {why}", refused=True))
        return self._once(order_id, f"{name} in {self._folder} is no order and was removed: {why}")

    def _once(self, name: str, text: str) -> list[str]:
        told = [] if name in self._known else [text]
        self._known.add(name)
        return told

    @staticmethod
    def _forget(answer: Path) -> None:
        """Remove an answer that nobody has read."""
        with suppress(OSError):
            if time.time() - answer.lstat().st_mtime > _STALE_ANSWER_S:
                answer.unlink()


def _read(place: Path) -> Order:
    """Read an order. Raises `OSError`, and `ValueError` if it is none of this user's."""
    with open_file(place) as file:
        found = os.fstat(file.fileno())
        if found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise ValueError("it is another user's, or others may write it")
        if found.st_nlink != 1:
            raise ValueError("it is linked to from elsewhere")
        text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise ValueError("it is too long")
    try:
        order = Decoder().record(_Written, json.loads(text)).order
    except UnknownKindError as error:
        raise ValueError(f"no order is called {error}"[:200]) from None
    if len(getattr(order, "note", "")) > LONGEST_NOTE:
        raise ValueError(f"its note has more than {LONGEST_NOTE} characters")
    return order


async def give(directory: Path, order: Order, active: Callable[[], bool]) -> Answer | None:
    """Give an order to the run of a mission and wait for its answer.

    Args:
        directory: the mission's folder of our own.
        order: what is ordered.
        active: tells whether a run goes on.

    Returns:
        None if nobody took it up in time, or the run ended before; the order is withdrawn then.

    Raises:
        OSError: the disk refuses.
        TimeoutError: the run took it up and does not answer; it may be carried out yet.
    """
    folder = directory / FOLDER
    order_id = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
    await to_thread.run_sync(put, folder, order_id, order)
    answer = folder / f"{order_id}.answer"
    for _ in range(2):
        with anyio.move_on_after(ANSWER_LIMIT_S):
            while True:
                found = await to_thread.run_sync(_read_answer, answer)
                if found is not None:
                    return found
                if not await to_thread.run_sync(active):
                    break
                await anyio.sleep(ANSWER_POLL_S)
        with suppress(FileNotFoundError):
            (folder / f"{order_id}.order").unlink()
            return None
    raise TimeoutError


def forget_taken(directory: Path) -> None:
    """Remove what an earlier run took up and did not answer: the journal that tells of it is put aside."""
    folder = directory / FOLDER
    for left in folder.glob("*.taken") if not folder.is_symlink() else ():
        with suppress(OSError):
            left.unlink()


def put(folder: Path, order_id: str, order: Order) -> None:
    """Put an order in place. Raises `OSError`."""
    make_private_folder(folder)
    write_record(folder / f"{order_id}.order", asdict(_Written(order)))


def _read_answer(place: Path) -> Answer | None:
    try:
        with open_file(place) as file:
            found = Decoder().record(Answer, json.loads(file.read(MOST_BYTES)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        found = Answer(f"the answer cannot be read: {error}", refused=True)
    with suppress(OSError):
        place.unlink()
    return found
