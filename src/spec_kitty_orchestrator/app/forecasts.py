"""Forecasts from what all journals of the repository tell, archived ones included."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from random import Random
from time import thread_time
from typing import Protocol

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.app.build import VERSION
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.core.events import AgentExited, AttemptOpened
from spec_kitty_orchestrator.core.forecast import MOST_WORK, Forecast, foreseen, simulations
from spec_kitty_orchestrator.core.model import MissionState
from spec_kitty_orchestrator.core.policy import Policy
from spec_kitty_orchestrator.core.run import RunState, begin, fold
from spec_kitty_orchestrator.core.run_events import Entry, Line, RunStarted
from spec_kitty_orchestrator.core.samples import Gathering, Samples, gather
from spec_kitty_orchestrator.core.simulate import Known
from spec_kitty_orchestrator.errors import InvalidTransition, JournalError
from spec_kitty_orchestrator.log import get_logger
from spec_kitty_orchestrator.machine.journal import JsonlJournal, SystemClock
from spec_kitty_orchestrator.machine.logs import JOURNALS
from spec_kitty_orchestrator.ports import Observer

__all__ = ["Forecaster", "foresee", "known_samples", "start_of"]

ENOUGH = 300
"""Attempts; older journals are not read."""

MOST_BYTES = 64 * 1024 * 1024
"""Of all journals that are read: their lines can be long."""

SHORTEST_PAUSE_S = 10.0
MOST_PART = 0.02
"""The part of a core that forecasts may take while agents work."""


async def known_samples(root: Path, before: datetime | None = None) -> Samples:
    """Gather what the newest journals tell, up to a moment if one is given; damaged ones tell nothing."""
    parts: list[Samples] = []
    read = 0
    for file in await to_thread.run_sync(_journals, root):
        with suppress(JournalError, OSError):
            read += file.stat().st_size
            if read > MOST_BYTES:
                break
            lines = await JsonlJournal(file.parent, root, name=file.name).read()
            parts.append(gather(one for one in lines if before is None or one.at < before))
        if sum(one.count for one in parts) >= ENOUGH:
            break
    return sum(reversed(parts), Samples())


def _journals(root: Path) -> list[Path]:
    """Return the journals and what `--fresh` put aside, the newest first."""
    found: list[tuple[float, Path]] = []
    for file in (root / JOURNALS).glob("*/journal*.jsonl"):
        with suppress(OSError):
            found.append((file.stat().st_mtime, file))
    return [file for _, file in sorted(found, reverse=True)]


async def start_of(project: Project, mission: MissionState, policy: Policy) -> RunState:
    """Return the state with which a start would begin now."""
    now, actor = SystemClock().now(), project.settings.run.actor
    state = RunState(policy)
    with suppress(JournalError, InvalidTransition):
        state = fold(await JsonlJournal(project.directory(mission.slug), project.root).read(), policy)
    return begin(state, RunStarted(now, mission, actor, policy, VERSION))


async def foresee(
    state: RunState, samples: Samples, known: Known | None = None, most_work: int = MOST_WORK
) -> Forecast | None:
    """Foresee the rest of a run in a thread; None if no attempt was ever recorded."""
    return await to_thread.run_sync(_foresee, state, samples, known, most_work)


def _foresee(
    state: RunState,
    samples: Samples,
    known: Known | None,
    most_work: int,
    wanted: Callable[[], bool] = lambda: True,
) -> Forecast | None:
    """Return None also if the forecast is no longer wanted."""
    found = []
    dice = Random(0)  # noqa: S311 - the same records give the same forecast
    for one in simulations(state, SystemClock().now(), samples, dice, known, most_work):
        if not wanted():
            return None
        found.append(one)
    return foreseen(found, samples, state.policy.max_concurrent)


class Expectant(Observer, Protocol):
    """A view that shows what is to be expected."""

    def expects(self, found: Forecast) -> None:
        """Take the newest forecast."""
        ...


class Forecaster:
    """An observer that passes everything on to a view, and foresees the rest of the run now and then."""

    def __init__(self, root: Path, view: Expectant) -> None:
        """Begin to listen, in the repository `root`."""
        self._root, self._view = root, view
        self._began = SystemClock().now()
        self._earlier, self._gathering = Samples(), Gathering()
        self._opened: dict[str, datetime] = {}
        self._state: RunState | None = None
        self._changed = anyio.Event()
        self._over = False
        self._took_s = 0.0

    def saw(self, state: RunState, line: Line) -> None:
        """Take notice of an event: how attempts end changes what is to be expected."""
        self._view.saw(state, line)
        if not isinstance(line, Entry):
            return
        self._gathering.take(line)
        first, self._state = self._state is None, state
        if isinstance(line.event, AttemptOpened):
            self._opened[line.wp_id] = line.at
        if (first or isinstance(line.event, AgentExited)) and not state.closing:
            self._changed.set()

    def said(self, message: str) -> None:
        """Pass on what concerns the whole run."""
        self._view.said(message)

    async def keep_foreseeing(self) -> None:
        """Foresee, tell, and wait until that is worth another forecast, until canceled."""
        try:
            try:
                self._earlier = await known_samples(self._root, before=self._began)
            except Exception:  # noqa: BLE001 - no reason to end a run that is paid for
                get_logger().exception("earlier runs cannot be told")
            while True:
                await self._changed.wait()
                self._changed = anyio.Event()
                try:
                    await self._foresee()
                except Exception:  # noqa: BLE001 - no reason to end a run that is paid for
                    get_logger().exception("no forecast")
                await anyio.sleep(max(SHORTEST_PAUSE_S, self._took_s / MOST_PART))
        finally:
            self._over = True

    @property
    def samples(self) -> Samples:
        """What is known of attempts: those of earlier runs and of this one."""
        return self._earlier + self._gathering.samples

    async def _foresee(self) -> None:
        assert self._state is not None
        known = Known(opened=dict(self._opened))
        found = await to_thread.run_sync(
            self._timed, self._state, self.samples, known, abandon_on_cancel=True
        )
        if found is not None:
            self._view.expects(found)

    def _timed(self, state: RunState, samples: Samples, known: Known) -> Forecast | None:
        # What counts is the time that it takes from others, not the time that it waits for them.
        began = thread_time()
        try:
            return _foresee(state, samples, known, MOST_WORK, lambda: not self._over)
        finally:
            self._took_s = thread_time() - began
