"""The status of a mission: the fold of its journal, the lock and, if asked, the host's lanes.

Without the host it takes no longer than reading the journal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.runs import find_journal, last_start
from spec_kitty_orchestrator.core.events import AttemptOpened
from spec_kitty_orchestrator.core.limits import resting
from spec_kitty_orchestrator.core.model import Lane, MissionState, Phase, Role
from spec_kitty_orchestrator.core.run_state import RunState
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.driver.recover import fold
from spec_kitty_orchestrator.machine.journal import JsonlJournal, SystemClock
from spec_kitty_orchestrator.machine.lock import MissionLock, Owner
from spec_kitty_orchestrator.machine.logs import mission_logs, path_part
from spec_kitty_orchestrator.ports import Entry, Line, RunAborted, RunEnded


@dataclass(frozen=True)
class LiveAttempt:
    """An attempt whose end was not seen yet; `since` is when it was opened."""

    id: str
    number: int
    role: Role
    agent: str
    directory: str
    since: datetime | None


@dataclass(frozen=True)
class WorkPackageStatus:
    """One work package: the host's lane, and what this machine knows of it.

    `note` says what it waits for, `gate_log` is the directory of the gate that runs, None if none does.
    """

    id: str
    lane: Lane
    dependencies: tuple[str, ...]
    phase: Phase
    attempts: int
    rejections: int
    note: str
    attempt: LiveAttempt | None
    gate_log: str | None = None


@dataclass(frozen=True)
class MissionStatus:
    """One mission.

    Attributes:
        owner: the process that runs it now, None if none does.
        started: whether it was ever run here.
        lanes_at: when the journal last heard of the lanes; None if the host was asked for them now.
        last_exit: the exit code of the last run, None if it has not ended or was cut off.
        aborted: whether the last run was aborted.
        resting: agents whose quota is used up, and until when.
    """

    mission: str
    owner: Owner | None
    lanes_at: datetime | None
    started: bool
    last_exit: int | None
    work_packages: tuple[WorkPackageStatus, ...]
    aborted: bool = False
    resting: Mapping[str, datetime] = field(default_factory=dict)


async def mission_status(project: Project, mission: str, *, ask_host: bool) -> MissionStatus:
    """Read the journal, and ask the host if wanted, or if no run of the mission is known; change nothing.

    Raises:
        HostError: the host cannot be used.
        UsageError: there is no such mission.
        PreflightError: the host sees no work packages.
        JournalError: the journal is damaged.
    """
    slug = find_journal(project.root, mission)
    state = await _ask_host(project, mission) if ask_host or slug is None else None
    slug = state.slug if state else slug or mission
    directory = project.directory(slug)
    lines = await JsonlJournal(directory, project.root).read()
    started, end = last_start(lines)
    if state is None and started is None:
        state = await _ask_host(project, mission)
    run = fold(lines, project.policy)
    known = list(run.wps.values()) if state is None else _seen_by_host(run, state)
    owner = MissionLock(directory, slug).holder()
    logs = mission_logs(project.root, slug)
    return MissionStatus(
        mission=slug,
        owner=owner,
        lanes_at=run.now if state is None else None,
        started=started is not None,
        last_exit=end.exit_code if isinstance(end, RunEnded) else None,
        aborted=isinstance(end, RunAborted),
        resting=resting(run, SystemClock().now()),
        work_packages=tuple(
            _work_package(wp, lines, logs / path_part(wp.id), active=owner is not None) for wp in known
        ),
    )


def _seen_by_host(run: RunState, state: MissionState) -> list[WorkPackage]:
    """Return the work packages with the lanes and dependencies that the host has now."""
    return [
        replace(run.wps.get(wp) or WorkPackage(wp), lane=lane, dependencies=state.dependencies.get(wp, ()))
        for wp, lane in state.lanes.items()
    ]


async def _ask_host(project: Project, mission: str) -> MissionState:
    # Loaded only when it is needed, because a status from the journal should be instant.
    from spec_kitty_orchestrator.app.build import connect
    from spec_kitty_orchestrator.app.mission import read_mission

    return await read_mission(project, await connect(project), mission)


def _work_package(wp: WorkPackage, lines: Sequence[Line], logs: Path, *, active: bool) -> WorkPackageStatus:
    attempt = wp.open_attempt
    live = None
    if attempt is not None:
        live = LiveAttempt(
            id=attempt.id,
            number=attempt.number,
            role=attempt.role,
            agent=attempt.agent,
            directory=attempt.directory,
            since=_opened_at(attempt.id, lines),
        )
    return WorkPackageStatus(
        id=wp.id,
        lane=wp.lane,
        dependencies=wp.dependencies,
        phase=wp.phase,
        attempts=len(wp.attempts),
        rejections=len(wp.review.rejected),
        note=(active and wp.turn.waits) or wp.note,
        attempt=live,
        gate_log=_gate_log(logs) if wp.phase is Phase.GATING else None,
    )


def _gate_log(logs: Path) -> str | None:
    """Return the directory of the gate that was begun last."""
    begun = [one.parent for one in logs.glob("*-gate-*/stdout.log")]
    return str(max(begun, key=lambda one: one.stat().st_mtime)) if begun else None


def _opened_at(attempt_id: str, lines: Sequence[Line]) -> datetime | None:
    for line in reversed(lines):
        if (
            isinstance(line, Entry)
            and isinstance(line.event, AttemptOpened)
            and line.event.attempt.id == attempt_id
        ):
            return line.at
    return None
