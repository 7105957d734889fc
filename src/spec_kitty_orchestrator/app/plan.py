"""The plan of a run, made without changing anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from spec_kitty_orchestrator.app.checks.agents import dependent_reviews, policy_problems, roles
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.core.model import Lane, MissionState, PolicyMetadata, Role, Workspace
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.core.scheduler import critical_path, waves
from spec_kitty_orchestrator.core.transitions import PLANNING_LANE
from spec_kitty_orchestrator.errors import HostError, HostRefusal
from spec_kitty_orchestrator.machine.runner import LocalAgents
from spec_kitty_orchestrator.ports import Host

EXAMPLE_ATTEMPT = "<attempt>"
EXAMPLE_DIRECTORY = Path("<attempt>")


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


@dataclass(frozen=True)
class PlannedRole:
    """One agent in one role: its exact argv in a workspace, and the policy that the host is told.

    `prompt` says how it is delivered, as in `AgentCommand`.
    """

    role: Role
    agent: str
    argv: tuple[str, ...]
    env: tuple[str, ...]
    policy: PolicyMetadata
    installed: bool
    prompt: str
    refused: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The plan of one mission.

    Attributes:
        cyclic: work packages that fit in no wave.
        min_free_memory: bytes below which nothing starts; 0 for no floor.
        min_free_disk: the same for the disk.
        warnings: what is allowed but may be a mistake.
        review_quorum: how many reviewers must approve a commit.
        gates: what must pass on a commit before it is reviewed.
    """

    mission: str
    waves: tuple[tuple[str, ...], ...]
    cyclic: tuple[str, ...]
    critical_path: tuple[str, ...]
    work_packages: tuple[PlannedWorkPackage, ...]
    roles: tuple[PlannedRole, ...]
    max_concurrent: int
    max_per_agent: Mapping[str, int]
    min_free_memory: int
    min_free_disk: int
    gates: tuple[Gate, ...] = ()
    warnings: tuple[str, ...] = ()
    review_quorum: int = 1


async def make_plan(
    project: Project, host: Host, runner: LocalAgents, state: MissionState, warnings: Sequence[str] = ()
) -> Plan:
    """Make the plan; asks the host for each workspace, and adds to `warnings`.

    Raises:
        HostError: the host cannot be used.
    """
    run = project.settings.run
    planned = await plan_work_packages(project, host, state)
    return Plan(
        mission=state.slug,
        waves=waves(state.dependencies),
        cyclic=cyclic(state),
        critical_path=critical_path(state.dependencies),
        work_packages=planned,
        roles=_roles(project, runner, _example_workspace(project, planned)),
        max_concurrent=run.max_concurrent,
        max_per_agent=project.max_per_agent,
        min_free_memory=run.min_free_memory,
        min_free_disk=run.min_free_disk,
        gates=project.policy.gates,
        warnings=(*dependent_reviews(project), *warnings),
        review_quorum=run.needed_approvals,
    )


def cyclic(state: MissionState) -> tuple[str, ...]:
    """Return the work packages in a dependency cycle, and those that depend on one."""
    placed = {wp for wave in waves(state.dependencies) for wp in wave}
    return tuple(wp for wp in state.lanes if wp not in placed)


async def plan_work_packages(
    project: Project, host: Host, state: MissionState
) -> tuple[PlannedWorkPackage, ...]:
    """Ask the host for the workspace of each work package, and say what a run would do with it.

    Raises:
        HostError: the host cannot be used.
    """
    workspaces, refused = await _resolve(host, state)
    sharing: dict[str, list[str]] = {}
    for wp, workspace in workspaces.items():
        sharing.setdefault(workspace.key, []).append(wp)
    planned = []
    for wp, lane in state.lanes.items():
        place = workspaces.get(wp)
        others = sharing[place.key] if place else ()
        fate, left = _fate(lane, place, refused.get(wp, ""), project.settings.run.actor)
        planned.append(
            PlannedWorkPackage(
                id=wp,
                lane=lane,
                dependencies=state.dependencies.get(wp, ()),
                workspace=place,
                shares=tuple(other for other in others if other != wp),
                fate=fate,
                left=left,
            )
        )
    return tuple(planned)


async def _resolve(host: Host, state: MissionState) -> tuple[Mapping[str, Workspace], Mapping[str, str]]:
    """Return the workspace of each work package, and the reasons of those that the host refuses."""
    found: dict[str, Workspace] = {}
    refused: dict[str, str] = {}
    failures: list[HostError] = []

    async def one(wp: str) -> None:
        try:
            found[wp] = await host.resolve_workspace(state.slug, wp)
        except HostRefusal as refusal:
            refused[wp] = refusal.message
        except HostError as failure:
            failures.append(failure)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for wp in state.lanes:
            tasks.start_soon(one, wp)
    if failures:
        raise failures[0]
    return {wp: found[wp] for wp in state.lanes if wp in found}, refused


def _example_workspace(project: Project, planned: Sequence[PlannedWorkPackage]) -> Path:
    places = (Path(wp.workspace.path) for wp in planned if wp.workspace is not None)
    return next(places, project.root)


def _fate(lane: Lane, workspace: Workspace | None, refusal: str, actor: str) -> tuple[str, bool]:
    """Return what a run would do with a work package, and whether it leaves an incomplete one alone."""
    match lane:
        case Lane.APPROVED | Lane.DONE:
            return "nothing to do", False
        case Lane.CANCELED:
            return "left alone", True
        case _ if workspace is None:
            return f"parked: the host does not say where it is worked on: {refusal}", True
        case _ if workspace.lane_id == PLANNING_LANE:
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


def _roles(project: Project, runner: LocalAgents, workspace: Path) -> tuple[PlannedRole, ...]:
    planned = []
    for role, names in roles(project).items():
        for name in names:
            command = runner.command(name, role, workspace, EXAMPLE_ATTEMPT, EXAMPLE_DIRECTORY)
            policy = runner.policy(name, role)
            planned.append(
                PlannedRole(
                    role=role,
                    agent=name,
                    argv=command.argv,
                    env=tuple(sorted(command.env)),
                    policy=policy,
                    prompt=command.prompt,
                    installed=runner.executable(name) is not None,
                    refused=tuple(policy_problems(policy)),
                )
            )
    return tuple(planned)
