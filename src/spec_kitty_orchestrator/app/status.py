"""The status of a mission: the fold of its journal, the lock and, if asked, the host's lanes.

Without the host it takes no longer than reading the journal.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from spec_kitty_orchestrator.app.journals import find_journal
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.runs import KnownRun, spent_before
from spec_kitty_orchestrator.core.causes import by_cause
from spec_kitty_orchestrator.core.events import AttemptOpened
from spec_kitty_orchestrator.core.forecast import Forecast
from spec_kitty_orchestrator.core.limits import resting
from spec_kitty_orchestrator.core.model import MissionState, Phase, Usage
from spec_kitty_orchestrator.core.run import RunState, fold
from spec_kitty_orchestrator.core.run_events import ConflictForecast, Entry, Line
from spec_kitty_orchestrator.core.simulate import Known
from spec_kitty_orchestrator.core.suspension import Suspension
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.machine.journal import JsonlJournal, SystemClock
from spec_kitty_orchestrator.machine.logs import mission_logs, path_part


@dataclass(frozen=True)
class MissionStatus:
    """What is known of a mission.

    Attributes:
        run: the last one here.
        work_packages: in the lanes of which the host or the journal told last.
        lanes_at: when the journal last heard of the lanes; None if the host was asked for them now.
        opened: by work package, when its last attempt was opened.
        gate_logs: by work package, the directory of the gate that runs.
        resting: agents that rest, and why.
        causes: for each cause that left work packages to a person, `c1` and so on, their ids.
        conflicts: of branches, as the run saw them last.
        spent_before: what earlier runs used whose journals were put aside.
        state: of its run, as the journal tells it.
    """

    run: KnownRun
    work_packages: Sequence[WorkPackage]
    lanes_at: datetime | None
    opened: Mapping[str, datetime]
    gate_logs: Mapping[str, str]
    resting: Mapping[str, Suspension]
    causes: Mapping[str, tuple[str, ...]]
    conflicts: Sequence[ConflictForecast]
    spent_before: Usage
    state: RunState

    def note(self, wp: WorkPackage) -> str:
        """Say what a work package waits for, or what became of it."""
        return (wp.turn.waits if self.run.owner else "") or wp.note


async def mission_status(
    project: Project, mission: str, asking: Callable[[str], None], *, ask_host: bool
) -> MissionStatus:
    """Read the journal, and ask the host if wanted, or if no run of the mission is known; change nothing.

    `asking` gets the mission's name before the host is asked, which takes seconds.

    Raises `JournalError`, and what `read_mission` raises.
    """
    slug = find_journal(project.root, mission)
    state = await _ask_host(project, mission, asking) if ask_host or slug is None else None
    slug = state.slug if state else slug or mission
    directory = project.directory(slug)
    lines = await JsonlJournal(directory, project.root).read()
    run = KnownRun.told_by(directory, lines)
    if state is None and run.started is None:
        state = await _ask_host(project, mission, asking)
    known = fold(lines, project.policy)
    wps = list(known.wps.values())
    if state is not None:
        wps = [
            replace(
                known.wps.get(wp) or WorkPackage(wp), lane=lane, dependencies=state.dependencies.get(wp, ())
            )
            for wp, lane in state.lanes.items()
        ]
    logs = mission_logs(project.root, slug)
    gating = {wp.id: _gate_log(logs / path_part(wp.id)) for wp in wps if wp.phase is Phase.GATING}
    return MissionStatus(
        run,
        wps,
        lanes_at=known.now if state is None else None,
        opened=opened(lines),
        gate_logs={wp: log for wp, log in gating.items() if log},
        resting=resting(known, SystemClock().now()),
        causes=by_cause(known.causes, wps),
        conflicts=known.conflicts,
        spent_before=(await spent_before(project.root, slug))[0].usage,
        state=known,
    )


def opened(lines: Sequence[Line]) -> Mapping[str, datetime]:
    """Return when the last attempt of each work package was opened."""
    return {
        line.wp_id: line.at
        for line in lines
        if isinstance(line, Entry) and isinstance(line.event, AttemptOpened)
    }


async def status_forecast(project: Project, found: MissionStatus) -> Forecast | None:
    """Foresee the rest of a mission's run; if none is active, of one that went on now."""
    # Loaded only when it is needed, because a status from the journal should be instant.
    from spec_kitty_orchestrator.app.forecasts import foresee, known_samples, start_of

    samples = await known_samples(project.root)
    if found.run.owner is not None:
        return await foresee(found.state, samples, Known(opened=found.opened))
    lanes = {wp.id: wp.lane for wp in found.work_packages}
    needs = {wp.id: wp.dependencies for wp in found.work_packages}
    mission = MissionState(found.run.mission, lanes, needs)
    return await foresee(await start_of(project, mission, project.policy), samples)


async def _ask_host(project: Project, mission: str, asking: Callable[[str], None]) -> MissionState:
    # Loaded only when it is needed, because a status from the journal should be instant.
    from spec_kitty_orchestrator.app.build import connect
    from spec_kitty_orchestrator.app.mission import read_mission

    asking(mission)
    return await read_mission(project, await connect(project), mission)


def _gate_log(logs: Path) -> str:
    """Return the directory of the gate that was begun last, "" if none was."""
    begun = [one.parent for one in logs.glob("*-gate-*/stdout.log")]
    return str(max(begun, key=lambda one: one.stat().st_mtime, default=""))
