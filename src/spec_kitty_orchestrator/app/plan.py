"""What a run would do with each work package, found out without changing anything."""

from collections.abc import Mapping
from dataclasses import dataclass

import anyio

from spec_kitty_orchestrator.core.model import Lane, MissionState, Workspace
from spec_kitty_orchestrator.core.scheduler import waves
from spec_kitty_orchestrator.core.transitions import PLANNING_LANE
from spec_kitty_orchestrator.errors import HostError, HostRefusal
from spec_kitty_orchestrator.ports import Host


@dataclass(frozen=True)
class PlannedWorkPackage:
    """One work package as a run would find it.

    Attributes:
        workspace: where it is worked on, None if the host refuses to say.
        shares: other work packages in the same workspace; they take turns.
        fate: what a run would do with it, for people.
        left: whether a run leaves it alone although it is not complete.
    """

    id: str
    lane: Lane
    dependencies: tuple[str, ...]
    workspace: Workspace | None
    shares: tuple[str, ...]
    fate: str
    left: bool


def cyclic(state: MissionState) -> tuple[str, ...]:
    """Return the work packages in a dependency cycle, and those that depend on one."""
    placed = {wp for wave in waves(state.dependencies) for wp in wave}
    return tuple(wp for wp in state.lanes if wp not in placed)


async def plan_work_packages(host: Host, state: MissionState, actor: str) -> tuple[PlannedWorkPackage, ...]:
    """Ask the host for the workspace of each work package, and say what a run of `actor` would do with it.

    Raises:
        HostError: the host cannot be used.
    """
    found = await _resolve(host, state)
    workspaces = {wp: place for wp, place in found.items() if isinstance(place, Workspace)}
    users: dict[str, list[str]] = {}
    for wp in state.lanes:
        if wp in workspaces:
            users.setdefault(workspaces[wp].key, []).append(wp)
    planned = []
    for wp, lane in state.lanes.items():
        place = workspaces.get(wp)
        fate, left = _fate(lane, found[wp], actor)
        planned.append(
            PlannedWorkPackage(
                id=wp,
                lane=lane,
                dependencies=state.dependencies.get(wp, ()),
                workspace=place,
                shares=tuple(one for one in users[place.key] if one != wp) if place else (),
                fate=fate,
                left=left,
            )
        )
    return tuple(planned)


async def _resolve(host: Host, state: MissionState) -> Mapping[str, Workspace | str]:
    """Return the workspace of each work package, or why the host refuses to say."""
    found: dict[str, Workspace | str] = {}
    failures: list[HostError] = []

    async def one(wp: str) -> None:
        try:
            found[wp] = await host.resolve_workspace(state.slug, wp)
        except HostRefusal as refusal:
            found[wp] = refusal.message
        except HostError as failure:
            failures.append(failure)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for wp in state.lanes:
            tasks.start_soon(one, wp)
    if failures:
        raise failures[0]
    return found


def _fate(lane: Lane, place: Workspace | str, actor: str) -> tuple[str, bool]:
    """Return what a run would do with a work package, and whether it leaves an incomplete one alone."""
    match lane:
        case Lane.APPROVED | Lane.DONE:
            return "nothing to do", False
        case Lane.CANCELED:
            return "left alone", True
        case _ if isinstance(place, str):
            return f"parked: the host does not say where it is worked on: {place}", True
        case _ if place.lane_id == PLANNING_LANE:
            return "parked: a planning artifact, to be written in the primary checkout by a person", True
        case Lane.BLOCKED:
            return "left alone: a person must unblock it", True
        case Lane.PLANNED:
            return "implemented and reviewed", False
        case Lane.CLAIMED | Lane.IN_PROGRESS:
            return f"adopted: implementation goes on, if {actor} holds it", False
        case Lane.FOR_REVIEW:
            return "adopted: reviewed", False
        case Lane.IN_REVIEW:
            return f"adopted: the review goes on if {actor} began it, else left alone", False
