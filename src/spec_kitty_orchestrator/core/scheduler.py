"""Which work packages run next: a pure function of what is known, asked again after every change.

Work packages that were begun come first, then the longest remaining chain, then the id; one work package
per workspace at a time, and never more than the limit.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from spec_kitty_orchestrator.core.model import Lane, Phase, Result, WorkPackage, Workspace

HOLDING = frozenset({Lane.CLAIMED, Lane.IN_PROGRESS, Lane.FOR_REVIEW, Lane.IN_REVIEW})
"""Lanes in which a work package has its workspace to itself, whoever works on it."""


@dataclass(frozen=True)
class Snapshot:
    """What is known when the scheduler is asked.

    Attributes:
        wps: every work package of the mission, with the lane last seen.
        workspaces: those resolved so far; a work package without one cannot start yet.
        active: ids that hold a slot.
        resting: ids that wait, each with the time at which it may go on.
        now: on the clock of `resting`.
        chains: see `chains`.
    """

    wps: Mapping[str, WorkPackage]
    workspaces: Mapping[str, Workspace]
    active: AbstractSet[str]
    resting: Mapping[str, float]
    now: float
    chains: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Start:
    """Give each of these a slot, in this order."""

    ids: tuple[str, ...]


@dataclass(frozen=True)
class Idle:
    """Nothing to start before something changes, or before `until`."""

    until: float | None = None


@dataclass(frozen=True)
class Finished:
    """Every work package has left the run."""


@dataclass(frozen=True)
class Stalled:
    """Nothing runs and nothing can be started; `reasons` has a line for each work package left."""

    reasons: Mapping[str, str]


def plan(snapshot: Snapshot, limit: int) -> Start | Idle | Finished | Stalled:
    """Decide what the free slots are given to."""
    left = [wp for wp in snapshot.wps.values() if _unfinished(wp, snapshot)]
    if not left:
        return Idle(None) if snapshot.active else Finished()
    busy = _busy(snapshot)
    reasons: dict[str, str] = {}
    ready: list[WorkPackage] = []
    unknown = _held_somewhere(snapshot)
    for wp in left:
        reason = _why_not(wp, snapshot)
        if unknown and not reason and not _begun(wp):
            reason = f"waits to learn which workspace {unknown[0]} holds"
        if reason:
            reasons[wp.id] = reason
        else:
            ready.append(wp)
    chosen: list[str] = []
    free = limit - len(snapshot.active)
    for wp in sorted(ready, key=lambda one: _urgency(one, snapshot)):
        key = snapshot.workspaces[wp.id].key
        holder = busy.get(key, wp.id)
        if holder != wp.id:
            reasons[wp.id] = f"its workspace is held by {holder}"
        elif len(chosen) < free:
            busy[key] = wp.id
            chosen.append(wp.id)
    if chosen:
        return Start(tuple(chosen))
    unresolved = unknown or any(_runnable(wp, snapshot) and wp.id not in snapshot.workspaces for wp in left)
    # Whose rest is over waits for something else now, and must not wake the scheduler again and again.
    until = min((at for at in snapshot.resting.values() if at > snapshot.now), default=None)
    if snapshot.active or unresolved or until is not None:
        return Idle(until)
    return Stalled(reasons)


def _unfinished(wp: WorkPackage, snapshot: Snapshot) -> bool:
    if wp.id in snapshot.active:
        return False
    return wp.phase is not Phase.FINISHED


def held_by_others(wp: WorkPackage) -> bool:
    """Whether another actor works on it, so that its worktree must be left alone."""
    return wp.result is Result.FOREIGN and wp.lane in HOLDING


def _held_somewhere(snapshot: Snapshot) -> list[str]:
    """Return who holds a workspace that we do not know yet, which may be anybody's."""
    return [
        wp.id
        for wp in snapshot.wps.values()
        if wp.id not in snapshot.workspaces
        and wp.lane in HOLDING
        and (_unfinished(wp, snapshot) or held_by_others(wp))
    ]


def _begun(wp: WorkPackage) -> bool:
    return wp.phase not in (Phase.WAITING, Phase.FINISHED)


def _busy(snapshot: Snapshot) -> dict[str, str]:
    busy = {snapshot.workspaces[one].key: one for one in snapshot.active if one in snapshot.workspaces}
    for wp in snapshot.wps.values():
        workspace = snapshot.workspaces.get(wp.id)
        if workspace is None:
            continue
        if _begun(wp) or wp.lane in HOLDING:
            busy.setdefault(workspace.key, wp.id)
    return busy


def _runnable(wp: WorkPackage, snapshot: Snapshot) -> bool:
    """Whether nothing but a workspace could be missing."""
    return _begun(wp) or wp.lane is not Lane.PLANNED or not _missing(wp, snapshot)


def _why_not(wp: WorkPackage, snapshot: Snapshot) -> str:
    if not _runnable(wp, snapshot):
        return "waits for " + ", ".join(_missing(wp, snapshot))
    if snapshot.resting.get(wp.id, snapshot.now) > snapshot.now:
        return wp.note or "rests before the next try"
    if wp.id not in snapshot.workspaces:
        return "its workspace is not resolved yet"
    return ""


def _missing(wp: WorkPackage, snapshot: Snapshot) -> list[str]:
    return [
        f"{one} ({snapshot.wps[one].lane})" if one in snapshot.wps else f"{one} (not in the mission)"
        for one in wp.dependencies
        if one not in snapshot.wps or not snapshot.wps[one].lane.complete
    ]


def _urgency(wp: WorkPackage, snapshot: Snapshot) -> tuple[bool, int, str]:
    return (not _begun(wp), -snapshot.chains.get(wp.id, 1), wp.id)


def chains(dependencies: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """Return for each id the number of work packages on the longest chain that starts with it.

    Members of a dependency cycle count as if the edge that closes it did not exist.
    """
    dependents = _dependents(dependencies)
    length: dict[str, int] = {}
    for wave in reversed(waves(dependencies)):
        for one in wave:
            length[one] = 1 + max((length.get(other, 0) for other in dependents[one]), default=0)
    return {one: length.get(one, 1) for one in dependencies}


def waves(dependencies: Mapping[str, tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Return the ids in waves: each needs only ids of earlier waves. Members of cycles are left out."""
    order = {one: place for place, one in enumerate(dependencies)}
    dependents = _dependents(dependencies)
    missing = {one: sum(other in order for other in needed) for one, needed in dependencies.items()}
    found: list[tuple[str, ...]] = []
    wave = [one for one, count in missing.items() if not count]
    while wave:
        found.append(tuple(wave))
        freed = []
        for one in wave:
            for other in dependents[one]:
                missing[other] -= 1
                if not missing[other]:
                    freed.append(other)
        wave = sorted(freed, key=order.__getitem__)
    return tuple(found)


def _dependents(dependencies: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    dependents: dict[str, list[str]] = {one: [] for one in dependencies}
    for one, needed in dependencies.items():
        for other in needed:
            if other in dependents:
                dependents[other].append(one)
    return dependents


def critical_path(dependencies: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return a longest chain of ids, first to last; the smallest id where several are as long."""
    length = chains(dependencies)
    path: list[str] = []
    candidates = [one for wave in waves(dependencies)[:1] for one in wave]
    while candidates:
        best = min(candidates, key=lambda one: (-length[one], one))
        path.append(best)
        candidates = [
            one for one, needed in dependencies.items() if best in needed and length[one] == length[best] - 1
        ]
    return tuple(path)
