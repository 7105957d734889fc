"""Observers of other distributions, by the entry points of the group `spec_kitty_orchestrator.observers`.

Each has a thread of its own and a bounded queue, so the run neither waits for one nor fails with it: one that
raises, or is too slow, is told of no more events, and that is said once.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING

from anyio import to_thread

from spec_kitty_orchestrator.core.documents import EventObserver, to_document
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.run_events import Line
from spec_kitty_orchestrator.entry_points import distribution, load, offers, why
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.ports import Observer

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Observers"]

GROUP = "spec_kitty_orchestrator.observers"

MOST_QUEUED = 1000
"""Events that an observer may be behind: many minutes of a busy run."""

FINISH_S = 5.0
"""For all observers together, once the run has ended."""


class Observers:
    """Passes everything on to one observer of ours, and events to those that are installed.

    Args:
        observer: of ours, which is quick and does not raise.
        mission: the slug.
        root: absolute path of the repository.
        redactor: knows what must not be seen.
    """

    def __init__(self, observer: Observer, mission: str, root: str, redactor: Redactor) -> None:
        self._observer = observer
        self._document = lambda line: redactor.value(to_document(line, mission, root))
        self._listeners = [_Listener(offer, self._document) for offer in offers(GROUP)]
        if self._listeners:
            observer.said(f"events go to {', '.join(one.who for one in self._listeners)}")

    def saw(self, state: RunState, line: Line) -> None:
        """Take notice of a line; whoever is installed gets it as soon as it can."""
        self._observer.saw(state, line)
        for one in self._listeners:
            one.tell(line)
        self._drop([one for one in self._listeners if one.failure])

    def said(self, message: str) -> None:
        """Pass on what concerns the whole run."""
        self._observer.said(message)

    async def finish(self) -> None:
        """Let them deal with what is left, for a bounded time, and say who could not."""
        for one in self._listeners:
            one.tell(None)
        await to_thread.run_sync(self._join, abandon_on_cancel=True)
        for one in self._listeners:
            if one.at_work and not one.failure:
                one.failure = f"it was not done {FINISH_S:g} s after the run"
        self._drop([one for one in self._listeners if one.failure])

    def _join(self) -> None:
        until = monotonic() + FINISH_S
        for one in self._listeners:
            one.join(max(0.0, until - monotonic()))

    def _drop(self, failed: Sequence["_Listener"]) -> None:
        for one in failed:
            self._listeners.remove(one)
            one.forget()
            self._observer.said(f"warning: {one.who} gets no more events: {one.failure}")


class _Listener:
    """One observer in its thread.

    Attributes:
        who: names it and its distribution.
        failure: why it is to be dropped, "" if it is not.
    """

    def __init__(self, offer: "EntryPoint", document: Callable[[Line], dict[str, object]]) -> None:
        self.who = f"observer {offer.name} of the distribution {distribution(offer)}"
        self.failure = ""
        self._offer = offer
        self._document = document
        self._queue: Queue[Line | None] = Queue(MOST_QUEUED)
        # A daemon: it must not keep the process alive.
        self._thread = Thread(target=self._listen, name=f"observer {offer.name}", daemon=True)
        self._thread.start()

    @property
    def at_work(self) -> bool:
        """Whether its thread has not ended."""
        return self._thread.is_alive()

    def join(self, limit_s: float) -> None:
        """Wait for the end of its thread."""
        self._thread.join(limit_s)

    def tell(self, line: Line | None) -> None:
        """Put a line into its queue, None to end it."""
        try:
            self._queue.put_nowait(line)
        except Full:
            self.failure = self.failure or f"it is {MOST_QUEUED} events behind"

    def forget(self) -> None:
        """Let its thread end as soon as it is done with what it is at."""
        with suppress(Empty):
            while True:
                self._queue.get_nowait()
        with suppress(Full):
            self._queue.put_nowait(None)

    def _listen(self) -> None:
        try:
            observer = load(self._offer)
            if not isinstance(observer, EventObserver):
                self.failure = "it has not the methods `saw` and `close`"
                return
            while (line := self._queue.get()) is not None:
                observer.saw(self._document(line))
            observer.close()
        except BaseException as error:  # noqa: BLE001 - whatever it raises is its own
            self.failure = self.failure or why(error)
