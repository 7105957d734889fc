"""What a run would do, worked out without changing anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from spec_kitty_orchestrator.app.checks.agents import dependent_reviews, policy_problems, roles
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.core.gates import Gate
from spec_kitty_orchestrator.core.model import Lane, MissionState, PolicyMetadata, Role, Workspace
from spec_kitty_orchestrator.core.moves import PLANNING_LANE
from spec_kitty_orchestrator.core.scheduler import critical_path, waves
from spec_kitty_orchestrator.machine.runner import LocalAgents
from spec_kitty_orchestrator.ports import Host

EXAMPLE_ATTEMPT = "<attempt>"
EXAMPLE_DIRECTORY = Path("<attempt>")


@dataclass(frozen=True)
class PlannedWorkPackage:
    """One work package as a run would find it.

    Attributes:
        shares: other work packages in the same workspace; they take turns.
        fate: what a run would do with it, in words.
        left: whether a run leaves it as it is, although it is not complete.
    """

    id: str
    lane: Lane
    dependencies: tuple[str, ...]
    workspace: Workspace
    shares: tuple[str, ...]
    fate: str
    left: bool


@dataclass(frozen=True)
class PlannedRole:
    """One agent in one role: its exact argv in a workspace, and what the host is told of it.

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
        cyclic: work packages that no wave can hold.
        min_free_memory: bytes; below that nothing is started. 0 for no such floor.
        min_free_disk: the same of the disk.
        warnings: what is allowed and may not be meant.
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
    """Work out the plan; asks the host where each work package is worked on, and adds to what it warns of.

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
        roles=_roles(project, runner, Path(planned[0].workspace.path)),
        max_concurrent=run.max_concurrent,
        max_per_agent=project.max_per_agent,
        min_free_memory=run.min_free_memory,
        min_free_disk=run.min_free_disk,
        gates=project.policy.gates,
        warnings=(*dependent_reviews(project), *warnings),
        review_quorum=run.needed_approvals,
    )


def cyclic(state: MissionState) -> tuple[str, ...]:
    """Return the work packages that depend on each other, or on such ones."""
    placed = {wp for wave in waves(state.dependencies) for wp in wave}
    return tuple(wp for wp in state.lanes if wp not in placed)


async def plan_work_packages(
    project: Project, host: Host, state: MissionState
) -> tuple[PlannedWorkPackage, ...]:
    """Ask the host where each work package is worked on, and say what a run would do with it.

    Raises:
        HostError: the host cannot be used.
    """
    workspaces = await _resolve(host, state)
    return tuple(
        PlannedWorkPackage(
            id=wp,
            lane=lane,
            dependencies=state.dependencies.get(wp, ()),
            workspace=workspaces[wp],
            shares=tuple(
                other
                for other, place in workspaces.items()
                if other != wp and place.key == workspaces[wp].key
            ),
            fate=_fate(lane, workspaces[wp], project),
            left=_is_left(lane, workspaces[wp]),
        )
        for wp, lane in state.lanes.items()
    )


async def _resolve(host: Host, state: MissionState) -> Mapping[str, Workspace]:
    found: dict[str, Workspace] = {}

    async def one(wp: str) -> None:
        found[wp] = await host.resolve_workspace(state.slug, wp)

    async with anyio.create_task_group() as tasks:
        for wp in state.lanes:
            tasks.start_soon(one, wp)
    return {wp: found[wp] for wp in state.lanes}


def _is_left(lane: Lane, workspace: Workspace) -> bool:
    by_hand = workspace.lane_id == PLANNING_LANE and not lane.complete
    return by_hand or lane in (Lane.BLOCKED, Lane.CANCELED)


def _fate(lane: Lane, workspace: Workspace, project: Project) -> str:
    if workspace.lane_id == PLANNING_LANE and not lane.complete:
        return "parked: a planning artifact, to be done by hand in the primary checkout on the target branch"
    actor = project.settings.run.actor
    match lane:
        case Lane.PLANNED:
            return "implemented and reviewed"
        case Lane.CLAIMED | Lane.IN_PROGRESS:
            return f"adopted: implementation goes on, if {actor} holds it"
        case Lane.FOR_REVIEW:
            return "adopted: reviewed"
        case Lane.IN_REVIEW:
            return f"adopted: the review goes on if {actor} began it, else left alone"
        case Lane.APPROVED | Lane.DONE:
            return "nothing to do"
        case Lane.BLOCKED:
            return "left alone: a person must unblock it"
        case Lane.CANCELED:
            return "left alone"


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
