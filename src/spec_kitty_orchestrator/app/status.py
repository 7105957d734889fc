"""Reads the status of a mission: its journal, the lock, what its agents said last and, if asked, the host.

From the journal it comes at once: what only a run or a question to the host needs is loaded for that alone.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from spec_kitty_orchestrator.agents import BUILT_IN
from spec_kitty_orchestrator.agents.steps import Step, StepReader
from spec_kitty_orchestrator.app.journals import find_journal
from spec_kitty_orchestrator.cluster.placement import place_of
from spec_kitty_orchestrator.core.causes import by_cause
from spec_kitty_orchestrator.core.limits import resting
from spec_kitty_orchestrator.core.recorder import Recorder
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.core.run import RunState
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.machine.journal import JsonlJournal
from spec_kitty_orchestrator.machine.lock import MissionLock, Owner
from spec_kitty_orchestrator.machine.logs import JOURNALS, logs_root
from spec_kitty_orchestrator.machine.output import STDOUT, tail_lines
from spec_kitty_orchestrator.machine.redaction import Redactor, secret_values
from spec_kitty_orchestrator.views.status import MissionStatus

if TYPE_CHECKING:
    from spec_kitty_orchestrator.core.forecast import Forecast
    from spec_kitty_orchestrator.core.model import MissionState

__all__ = ["StatusReader", "ask_host", "forecast", "redactor_around"]

LAST_LINES = (4, 50)
"""Lines in which the last step is looked for: first in a few, which mostly hold all of it."""
MOST_LAST_BYTES = 256 * 1024
"""Of an agent's output that are read for its last step."""

_SETTINGS = Path(".kittify") / "orchestrator.toml"


class StatusReader:
    """Reads the status of a mission again and again; what is new in its journal is all that is read."""

    def __init__(self, root: Path, mission: str, environ: Mapping[str, str]) -> None:
        """Look at the mission with this slug, or with this id at the end of it."""
        self.mission: str = find_journal(root, mission) or mission
        self._root = root
        self._directory = root / JOURNALS / self.mission
        self._journal = JsonlJournal(self._directory, root)
        self._recorder = Recorder()
        self._begun = 0
        self.redactor: Redactor = redactor_around(root, environ)

    @property
    def was_run(self) -> bool:
        """Whether the journal holds a start."""
        return bool(self._recorder.mission)

    def read(self) -> MissionStatus:
        """Return the status of now. Raises `JournalError` and `InvalidTransition`."""
        # The lock first: what was journaled before it was given back is told then.
        owner = MissionLock(self._directory, self.mission).holder()
        lines = self._journal.look()
        if self._begun != self._journal.begun:
            self._recorder, self._begun = Recorder(), self._journal.begun
        for line in lines:
            self._recorder.take(line)
        return self._status(owner)

    def read_with(self, mission: "MissionState") -> MissionStatus:
        """Return the same with lanes that the host told. Raises as `read`."""
        self.mission = mission.slug
        found = self.read()
        known = found.report.state
        wps = {
            wp: replace(
                known.wps.get(wp) or WorkPackage(wp), lane=lane, dependencies=mission.dependencies.get(wp, ())
            )
            for wp, lane in mission.lanes.items()
        }
        return self._status(found.owner, replace(known, wps=wps), mission.titles)

    def _status(
        self, owner: Owner | None, told: RunState | None = None, titles: Mapping[str, str] | None = None
    ) -> MissionStatus:
        now = datetime.now(UTC)
        report = self._recorder.report(now, active=owner is not None, state=told)
        named = [replace(one, title=one.title or (titles or {}).get(one.id, "")) for one in report.wps]
        report = replace(report, mission=self.mission, wps=tuple(named))
        state = report.state
        running = report.of(Status.RUNNING) if owner is not None else []
        steps = {one.id: step for one in running if (step := self._last_step(one.situation.wp)) is not None}
        causes = by_cause(state.causes, state.wps.values())
        places = {one.id: place_of(own) for one in running if (own := self._folder(one.situation.wp))}
        return MissionStatus(report, owner, told is not None, resting(state, now), causes, steps, places)

    def _folder(self, wp: WorkPackage) -> Path | None:
        """Return the directory of the attempt that is open."""
        # A journal can come with a clone and name any folder.
        place = Path(wp.open_attempt.directory) if wp.open_attempt is not None else Path()
        return place if ".." not in place.parts and place.is_relative_to(logs_root(self._root)) else None

    def _last_step(self, wp: WorkPackage) -> Step | None:
        attempt, place = wp.open_attempt, self._folder(wp)
        if attempt is None or place is None:
            return None
        places = (wp.workspace.path if wp.workspace is not None else "", str(self._root))
        agent = BUILT_IN.get(attempt.agent) or _declared(self._root, attempt.agent)
        found: list[Step] = []
        for count in LAST_LINES:
            reader = StepReader(agent, places, self.redactor.text)
            lines, _ = tail_lines(place / STDOUT, count, MOST_LAST_BYTES)
            found = [step for line in lines for step in reader.read(line.text)] + reader.rest()
            if len(found) > 1:
                # The last one began after another one, so that its beginning is there.
                break
        return found[-1] if found else None


async def ask_host(root: Path, mission: str, asking: Callable[[str], None]) -> "MissionState":
    """Ask the host for the lanes of a mission; `asking` gets its name before, as that takes seconds.

    Raises what `read_mission` raises.
    """
    from spec_kitty_orchestrator.app.build import connect
    from spec_kitty_orchestrator.app.mission import read_mission
    from spec_kitty_orchestrator.app.project import open_project

    project = open_project(root, os.environ, {})
    asking(mission)
    return await read_mission(project, await connect(project), mission)


async def forecast(root: Path, found: MissionStatus) -> "Forecast | None":
    """Foresee the rest of a mission's run; if none is active, of one that went on now."""
    from spec_kitty_orchestrator.app.forecasts import foresee, known_samples, start_of
    from spec_kitty_orchestrator.app.project import open_project
    from spec_kitty_orchestrator.core.model import MissionState
    from spec_kitty_orchestrator.core.simulate import Known

    samples, state = await known_samples(root), found.report.state
    if found.owner is not None:
        opened = {one.id: one.attempts[-1].began_at for one in found.report.wps if one.attempts}
        return await foresee(state, samples, Known(opened=opened))
    lanes = {wp.id: wp.lane for wp in state.wps.values()}
    needs = {wp.id: wp.dependencies for wp in state.wps.values()}
    project = open_project(root, os.environ, {})
    mission = MissionState(found.report.mission, lanes, needs)
    return await foresee(await start_of(project, mission, project.policy), samples)


def redactor_around(root: Path, environ: Mapping[str, str]) -> Redactor:
    """Return the redactor for the secrets of our environment and of the settings; nothing else is read."""
    environments = [environ]
    with suppress(OSError, ValueError, AttributeError, RecursionError):
        text = (root / _SETTINGS).read_text(encoding="utf-8")
        # Most projects have no such file, and it takes longer to load than a journal to read.
        import tomllib

        agents = tomllib.loads(text).get("agents", {})
        environments += [{k: str(v) for k, v in one.get("env", {}).items()} for one in agents.values()]
    return Redactor(secret_values(*environments))


def _declared(root: Path, name: str) -> object:
    # Loaded only for agents of settings and plug-ins.
    from spec_kitty_orchestrator.app.project import find_agent, settings_around
    from spec_kitty_orchestrator.errors import OrchestratorError

    with suppress(OrchestratorError):
        _, settings = settings_around(root, os.environ, anywhere=False)
        return find_agent(root, settings, name, only_load=True)[0]
    return None
