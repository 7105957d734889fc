"""Makes and shows the plan of a dry run; commands can be pasted into a shell."""

import shlex

from spec_kitty_orchestrator.app.build import build_host
from spec_kitty_orchestrator.app.checks import stop_at
from spec_kitty_orchestrator.app.checks.agent_programs import find_installed
from spec_kitty_orchestrator.app.checks.agents import find_problems, untried_versions
from spec_kitty_orchestrator.app.checks.mission import check_free
from spec_kitty_orchestrator.app.mission import read_mission
from spec_kitty_orchestrator.app.plan import Plan, PlannedRole, PlannedWorkPackage, make_plan
from spec_kitty_orchestrator.cli.running import Work
from spec_kitty_orchestrator.core.describe import count, duration
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.errors import OrchestratorError
from spec_kitty_orchestrator.quantities import spelled_size
from spec_kitty_orchestrator.views.console import SteadyConsole


async def run(work: Work) -> int:
    """Show what a run would do, or everything that would stop it; return the exit code."""
    problems = find_problems(work.project, work.agents)
    try:
        async with build_host(work.project, work.say) as host:
            await host.check_contract()
            state = await read_mission(work.project, host, work.mission)
            problems += check_free(work.project, state.slug)
            installed = await find_installed(work.agents, work.project.agents, thorough=False)
            versions = untried_versions(work.agents, installed)
            plan = await make_plan(work.project, host, work.agents, state, versions)
    except OrchestratorError as error:
        problems.append(error)
    else:
        show(plan, SteadyConsole(redactor=work.project.redactor))
    stop_at(problems)
    return 0


def show(plan: Plan, console: SteadyConsole) -> None:
    """Print the whole plan; the last line says that nothing was changed."""
    line = console.tell
    size = count(len(plan.work_packages), "work package")
    line(f"Mission {plan.mission}: {size}, at most {plan.max_concurrent} at once")
    for text in _limits(plan):
        line(text)
    line()
    line("Waves (each needs only what stands above it)")
    for number, wave in enumerate(plan.waves, start=1):
        line(f"  {number}  {', '.join(wave)}")
    if plan.cyclic:
        line(f"  never: {', '.join(plan.cyclic)} depend on each other")
    line(f"Critical path: {' -> '.join(plan.critical_path)}")
    line()
    line("Work packages")
    for wp in plan.work_packages:
        for text in _work_package(wp):
            line(text)
    line()
    line("Agents, in the order of fallback")
    for role in plan.roles:
        for text in _role(role):
            line(text)
    if plan.review_quorum > 1:
        line(f"  each commit needs {count(plan.review_quorum, 'approval')}")
    for text in plan.warnings:
        line(f"  warning: {text}")
    line()
    for text in _gates(plan):
        line(text)
    line("This was a dry run: nothing was changed.")


def _limits(plan: Plan) -> list[str]:
    lines = [
        f"  at most {count(most, 'attempt')} of {agent} at once" for agent, most in plan.max_per_agent.items()
    ]
    floors = {"memory": plan.min_free_memory, "disk": plan.min_free_disk}
    kept = [f"{spelled_size(floor)} of {what}" for what, floor in floors.items() if floor]
    return [*lines, f"  nothing is started with less free than {' or '.join(kept)}"] if kept else lines


def _gates(plan: Plan) -> list[str]:
    if not plan.gates:
        return []
    shown = [f"  {one.name}: {_shown(one)}, at most {duration(one.timeout_s)}" for one in plan.gates]
    return ["Gates: run on each commit, in its workspace, before a review is paid for", *shown, ""]


def _shown(gate: Gate) -> str:
    return gate.command[2] if gate.command[:2] == ("/bin/sh", "-c") else shlex.join(gate.command)


def _work_package(wp: PlannedWorkPackage) -> list[str]:
    needs = f", needs {', '.join(wp.dependencies)}" if wp.dependencies else ""
    lines = [f"  {wp.id}  {wp.lane}{needs}: {wp.fate}"]
    if wp.workspace is None:
        return lines
    shares = f", shared with {', '.join(wp.shares)}: they take turns" if wp.shares else ""
    lines.append(f"    workspace {wp.workspace.path}{shares}")
    if wp.workspace.branch:
        lines.append(f"    branch {wp.workspace.branch} from {wp.workspace.base_ref or 'its base'}")
    return lines


def _role(role: PlannedRole) -> list[str]:
    missing = "" if role.installed else "  NOT INSTALLED"
    policy = role.policy
    allowed = f"approval {policy.approval_mode}, sandbox {policy.sandbox_mode}, network {policy.network_mode}"
    answer = "refused by the host" if role.refused else "acceptable to the host"
    lines = [
        f"  {role.role}: {role.agent}{missing}",
        f"    {shlex.join(role.argv)}{' < prompt.md' if role.prompt == 'stdin' else ''}",
        f"    policy: {policy.agent_family}, {allowed}: {answer}",
    ]
    if role.env:
        lines.append(f"    environment: {', '.join(role.env)}")
    return lines + [f"    {reason}" for reason in role.refused]
