"""The status of a mission: the host's lanes, the journal's fold and the lock, joined for people."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from spec_kitty_orchestrator.app.build import build_headroom, connect, journal
from spec_kitty_orchestrator.app.mission import read_mission
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.repository import LOGS
from spec_kitty_orchestrator.app.runs import last_start
from spec_kitty_orchestrator.core.events import AttemptOpened
from spec_kitty_orchestrator.core.model import Lane, MissionState, Phase, Policy, Role, WorkPackage
from spec_kitty_orchestrator.core.quota import OnRateLimit, used_up
from spec_kitty_orchestrator.driver.quotas import known_quotas, resting
from spec_kitty_orchestrator.driver.recover import fold
from spec_kitty_orchestrator.machine.journal import SystemClock
from spec_kitty_orchestrator.machine.lock import MissionLock, Owner
from spec_kitty_orchestrator.machine.logs import path_part
from spec_kitty_orchestrator.ports import Entry, Line, RunAborted, RunEnded, RunStarted


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

    `note` says what it waits for, `gate_log` is the directory of the gate that runs, "" if none does.
    """

    id: str
    lane: Lane
    dependencies: tuple[str, ...]
    phase: Phase
    attempts: int
    rejections: int
    note: str
    attempt: LiveAttempt | None
    gate_log: str = ""


@dataclass(frozen=True)
class MissionStatus:
    """One mission.

    Attributes:
        owner: the process that runs it now, None if none does.
        started: whether it was ever run here.
        last_exit: the exit code of the last run, None if it has not ended or was cut off.
        aborted: whether the last run was aborted.
        resting: agents whose quota is used up, and until when.
    """

    mission: str
    owner: Owner | None
    started: bool
    last_exit: int | None
    work_packages: tuple[WorkPackageStatus, ...]
    aborted: bool = False
    resting: Mapping[str, datetime] = field(default_factory=dict)


async def mission_status(project: Project, mission: str) -> MissionStatus:
    """Ask the host and read the journal; nothing is changed.

    Raises:
        HostError: the host cannot be used.
        UsageError: there is no such mission.
        PreflightError: the host sees no work packages.
        JournalError: the journal is damaged.
    """
    host = await connect(project)
    state = await read_mission(project, host, mission)
    directory = project.directory(state.slug)
    lines = await journal(project, state.slug).read()
    known = fold(lines, project.policy)
    started, end = last_start(lines)
    owner = MissionLock(directory, state.slug).holder()
    rests = resting(known_quotas(lines), SystemClock().now())
    reasons: Mapping[str, str] = {}
    if owner is not None and started is not None and end is None:
        reasons = wait_reasons(state, known, started, await build_headroom(project).shortage(), rests)
    return MissionStatus(
        mission=state.slug,
        owner=owner,
        started=started is not None,
        last_exit=end.exit_code if isinstance(end, RunEnded) else None,
        aborted=isinstance(end, RunAborted),
        resting=rests,
        work_packages=tuple(
            _work_package(
                known.get(wp) or WorkPackage(wp),
                lane,
                state.dependencies.get(wp, ()),
                lines,
                reasons.get(wp, ""),
                project.root / LOGS / path_part(state.slug) / path_part(wp),
            )
            for wp, lane in state.lanes.items()
        ),
    )


def _work_package(
    wp: WorkPackage, lane: Lane, dependencies: tuple[str, ...], lines: Sequence[Line], held: str, logs: Path
) -> WorkPackageStatus:
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
        lane=lane,
        dependencies=dependencies,
        phase=wp.phase,
        attempts=len(wp.attempts),
        rejections=len(wp.rejected),
        note=wp.rests or held or wp.note,
        attempt=live,
        gate_log=_gate_log(logs) if wp.phase is Phase.GATING else "",
    )


def _gate_log(logs: Path) -> str:
    """Return the directory of the gate that was begun last."""
    begun = [one.parent for one in logs.glob("*-gate-*/stdout.log")]
    return str(max(begun, key=lambda one: one.stat().st_mtime, default=""))


def _opened_at(attempt_id: str, lines: Sequence[Line]) -> datetime | None:
    for line in reversed(lines):
        if (
            isinstance(line, Entry)
            and isinstance(line.event, AttemptOpened)
            and line.event.attempt.id == attempt_id
        ):
            return line.at
    return None


_REVIEWED_NEXT = frozenset({Phase.CLAIMING_REVIEW, Phase.REVIEWING})
_IMPLEMENTED_NEXT = frozenset({Phase.WAITING, Phase.IMPLEMENTING})


def wait_reasons(
    state: MissionState,
    known: Mapping[str, WorkPackage],
    started: RunStarted,
    shortage: str,
    resting: Mapping[str, datetime],
) -> Mapping[str, str]:
    """Say of each work package that only lacks an agent or room what it waits for.

    Args:
        state: as the host has it now.
        known: what the journal says of each work package.
        started: the start that is active, with its limits.
        shortage: what the machine is short of, "" if it has room.
        resting: agents whose quota is used up, and until when.
    """
    at_work = Counter(one.open_attempt.agent for one in known.values() if one.open_attempt is not None)
    slots = sum(_holds_a_slot(one) for one in known.values())
    reasons: dict[str, str] = {}
    for wp_id, lane in state.lanes.items():
        wp = known.get(wp_id) or WorkPackage(wp_id)
        if not _could_go_on(wp, lane, state):
            continue
        order = _order(wp, lane, started.policy)
        able = order[:1] if started.on_rate_limit != OnRateLimit.FALLBACK else order
        agent = order[0] if order else ""
        most = started.limits_in_force.get(agent, 0)
        if able and all(one in resting for one in able):
            first = min(able, key=resting.__getitem__)
            reasons[wp_id] = f"waits for {first}: {used_up(resting[first])}"
        elif most and at_work[agent] >= most:
            reasons[wp_id] = f"waits for {agent}: at most {most} at once"
        elif shortage and wp.phase is Phase.WAITING and slots < started.max_concurrent:
            reasons[wp_id] = f"waits for room: {shortage}"
    return reasons


def _holds_a_slot(wp: WorkPackage) -> bool:
    return wp.phase not in (Phase.WAITING, Phase.FINISHED) and not wp.rests


def _could_go_on(wp: WorkPackage, lane: Lane, state: MissionState) -> bool:
    if wp.open_attempt is not None or wp.rests or wp.phase not in _IMPLEMENTED_NEXT | _REVIEWED_NEXT:
        return False
    if lane is not Lane.PLANNED:
        return lane in (Lane.CLAIMED, Lane.IN_PROGRESS, Lane.FOR_REVIEW, Lane.IN_REVIEW)
    needed = state.dependencies.get(wp.id, ())
    return all(one in state.lanes and state.lanes[one].complete for one in needed)


def _order(wp: WorkPackage, lane: Lane, policy: Policy) -> tuple[str, ...]:
    """Return whose attempt comes next, and who may stand in; nobody where the policy has no such agent."""
    reviewed = wp.phase in _REVIEWED_NEXT or (
        wp.phase is Phase.WAITING and lane in (Lane.FOR_REVIEW, Lane.IN_REVIEW)
    )
    position, agents = wp.order(Role.REVIEW if reviewed else Role.IMPLEMENT, policy)
    return agents[position:]
