"""Makes and shows the plan of a dry run; commands can be pasted into a shell."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.app.build import VERSION, build_host
from spec_kitty_orchestrator.app.checks import Finding, Level, errors, stop_at
from spec_kitty_orchestrator.app.checks.agents import (
    ANSWER_LIMIT_S,
    Installed,
    find_installed,
    preflight,
    selected,
    why_refused,
)
from spec_kitty_orchestrator.app.checks.machine import check_commands
from spec_kitty_orchestrator.app.checks.mission import (
    PlannedWorkPackage,
    check_lock,
    cyclic,
    place_of_first,
    plan_work_packages,
)
from spec_kitty_orchestrator.app.cluster import check_executor, check_left, look_at_cluster
from spec_kitty_orchestrator.app.forecasts import foresee, known_samples, start_of
from spec_kitty_orchestrator.app.mission import read_and_check
from spec_kitty_orchestrator.cli.running import Work
from spec_kitty_orchestrator.core.describe import count, duration
from spec_kitty_orchestrator.core.forecast import NOTHING_KNOWN, Forecast
from spec_kitty_orchestrator.core.graph import critical_path, remaining, waves
from spec_kitty_orchestrator.core.model import MissionState, Role, Workspace
from spec_kitty_orchestrator.core.simulate import Known
from spec_kitty_orchestrator.errors import OrchestratorError
from spec_kitty_orchestrator.quantities import spelled_size
from spec_kitty_orchestrator.views.console import SteadyConsole, tell_asking

__all__ = ["run", "where"]

_Plan = tuple[MissionState, Sequence[PlannedWorkPackage]]


async def run(work: Work) -> int:
    """Show what a run would do, or everything that would stop it; return the exit code."""
    project = work.project
    tell_asking("spec-kitty and the agents' CLIs", work.mission, project.redactor)
    found = [*await check_commands(project), *check_executor(project), *preflight(project, work.agents)]
    problems = errors(found)
    installed: dict[str, Installed] = {}
    cluster: list[Finding] = []
    plans: list[_Plan] = []

    async def look() -> None:
        cluster.extend(await look_at_cluster(project, VERSION))
        if not project.settings.run.elsewhere:
            installed.update(await find_installed(work.agents, project.agents, thorough=False))

    # A CLI that is slow to say its version is asked beside the host.
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        try:
            plans.append(await _plan(work, found, problems))
        except OrchestratorError as error:
            problems.append(error)
            tasks.cancel_scope.cancel()
    found += cluster
    problems += errors(cluster)
    for state, planned in plans:
        warnings = [one.text for one in found if one.level is Level.WARNING]
        warnings += [text for one in installed.values() for text in one.untested]
        console = SteadyConsole(redactor=project.redactor)
        begins = await start_of(project, state, project.policy)
        ahead = await foresee(begins, await known_samples(project.root), where(planned))
        offers = [one.text for one in cluster if one.level is Level.OK]
        for line in _lines(work, state, planned, warnings, ahead, offers):
            console.tell(line)
    stop_at(problems)
    return 0


async def _plan(work: Work, found: list[Finding], problems: list[OrchestratorError]) -> _Plan:
    """Ask the host, and add to what was `found` and to the `problems`. Raises why there is no plan."""
    project = work.project
    known: list[Workspace | None] = []

    async def look() -> None:
        known.append(await place_of_first(project.root, host, work.mission))

    async with build_host(project, work.say) as host:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            state, more = await read_and_check(project, host, work.mission, work.agents, ANSWER_LIMIT_S)
            if isinstance(state, OrchestratorError):
                tasks.cancel_scope.cancel()
        found += more
        problems += errors(more)
        if isinstance(state, OrchestratorError):
            raise state
        left = await to_thread.run_sync(check_left, project, state.slug)
        problems += errors([check_lock(project, state.slug), *left])
        return state, await plan_work_packages(project, host, state, known[0])


def where(planned: Sequence[PlannedWorkPackage]) -> Known:
    """Return what the host says about where work packages are worked on."""
    return Known({wp.id: wp.workspace for wp in planned if wp.workspace is not None})


def _lines(
    work: Work,
    state: MissionState,
    planned: Sequence[PlannedWorkPackage],
    warnings: Sequence[str],
    ahead: Forecast | None,
    offers: Sequence[str],
) -> Iterator[str]:
    """Write the whole plan; the last line says that nothing was changed."""
    run = work.project.settings.run
    yield f"Mission {state.slug}: {count(len(planned), 'work package')}, at most {run.max_concurrent} at once"
    for agent, most in work.project.policy.max_per_agent.items():
        yield f"  at most {count(most, 'attempt')} of {agent} at once"
    yield from (f"  {one}" for one in offers)
    floors = {"memory": run.needed_memory, "disk": run.min_free_disk}
    kept = [f"{spelled_size(floor)} of {what}" for what, floor in floors.items() if floor]
    if kept:
        yield f"  nothing is started with less free than {' or '.join(kept)}"
    yield from ("", "Waves of what is left (each needs only what stands above it)")
    left = remaining(state)
    for number, wave in enumerate(waves(left), start=1):
        yield f"  {number}  {', '.join(wave)}"
    if never := cyclic(state):
        yield f"  never: {', '.join(never)} depend on each other"
    yield f"Critical path: {' -> '.join(critical_path(left)) or 'nothing is left to do'}"
    if left:
        yield f"Forecast: {ahead}" if ahead else f"No forecast: {NOTHING_KNOWN}"
    yield from ("", "Work packages")
    for wp in planned:
        yield from _work_package(wp, planned)
    yield from ("", "Agents, in the order of fallback")
    workspace = next((Path(wp.workspace.path) for wp in planned if wp.workspace), work.project.root)
    for role, name in selected(work.project):
        yield from _agent(work, name, role, workspace)
    if run.needed_approvals > 1:
        yield f"  each commit needs {count(run.needed_approvals, 'approval')}"
    for text in warnings:
        yield f"  warning: {text}"
    yield ""
    policy = work.project.policy
    for commands, what in (
        (work.project.setup, "Setup: run once in each new workspace, before anything else"),
        (policy.gates, "Gates: run on each commit, in its workspace, before a review is paid for"),
    ):
        for place, one in enumerate(commands):
            if place == 0:
                yield what
            yield f"  {one.name}: {one.line}, at most {duration(one.timeout_s)}"
        yield from [""][: len(commands)]
    yield "This was a dry run: nothing was changed."


def _work_package(wp: PlannedWorkPackage, planned: Sequence[PlannedWorkPackage]) -> Iterator[str]:
    needs = f", needs {', '.join(wp.dependencies)}" if wp.dependencies else ""
    yield f"  {wp.id}  {wp.lane}{needs}: {wp.fate}"
    if place := wp.workspace:
        others = [one.id for one in planned if one.workspace and one.workspace.key == place.key and one != wp]
        shares = f", shared with {', '.join(others)}: they take turns" if others else ""
        yield f"    workspace {place.path}{shares}"
        if place.branch:
            yield f"    branch {place.branch} from {place.base_ref or 'its base'}"


def _agent(work: Work, name: str, role: Role, workspace: Path) -> Iterator[str]:
    """Write an agent's exact command in a role, and the policy that the host is told."""
    command = work.agents.command(name, role, workspace, "<attempt>", Path("<attempt>"))
    policy = work.agents.policy(name, role)
    refused = list(why_refused(policy))
    here = work.project.settings.run.elsewhere or work.agents.executable(name)
    yield f"  {role}: {name}{'' if here else '  NOT INSTALLED'}"
    yield f"    {shlex.join(command.argv)}{' < prompt.md' if command.prompt == 'stdin' else ''}"
    yield (
        f"    policy: {policy.agent_family}, approval {policy.approval_mode}, sandbox {policy.sandbox_mode}, "
        f"network {policy.network_mode}: {'refused by' if refused else 'acceptable to'} the host"
    )
    if command.env:
        yield f"    environment: {', '.join(sorted(command.env))}"
    for reason in refused:
        yield f"    {reason}"
