"""Everything that would make a run fail later, found before anything is changed and told all at once."""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from spec_kitty_orchestrator.agents.spec import AgentSettings
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.repository import (
    MissionFiles,
    branch_of,
    current_branch,
    mission_files,
    missions,
)
from spec_kitty_orchestrator.config import nearest
from spec_kitty_orchestrator.core.model import MissionState, PolicyMetadata, Role
from spec_kitty_orchestrator.errors import (
    ConfigError,
    HostError,
    HostRefusal,
    OrchestratorError,
    PreflightError,
    RunActive,
    UsageError,
)
from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.machine.policy import HOST_BANNED_FLAGS
from spec_kitty_orchestrator.machine.runner import LocalAgents
from spec_kitty_orchestrator.ports import Host

SAME_AS_BANNED = frozenset({"yolo", "bypasspermissions", "danger-full-access", "dangerously"})
"""Values of other flags that allow the same, which would make the policy that we declare untrue."""
FORBIDDEN_WORDS = ("token", "secret", "key", "password", "credential")
"""The host refuses a policy in which a value contains one of these."""


def find_problems(project: Project, runner: LocalAgents) -> list[OrchestratorError]:
    """Check agents and policies without asking the host."""
    problems: list[OrchestratorError] = []
    for name, (agent, settings) in project.agents.items():
        problems += _scenario(name, settings)
        problems += _banned(name, settings)
        if runner.executable(name) is None:
            problems.append(_missing(name, settings.executable or agent.executable, agent.install))
    if project.settings.run.require_independent_review:
        problems += [PreflightError(f"--require-independent-review: {one}") for one in dependence(project)]
    if project.budget.strict:
        problems += [PreflightError(f"{reason} (--strict-budget)") for reason in uncounted(project)]
    for role, names in roles(project).items():
        for name in names:
            problems += [
                PreflightError(f"agent {name}, role {role}: {reason}")
                for reason in policy_problems(runner.policy(name, role))
            ]
    return problems


def uncounted(project: Project) -> list[str]:
    """Say of each agent that does not tell what it costs that a limited cost does not hold for it."""
    if not project.budget.limits_cost:
        return []
    return [
        f"agent {name} does not tell what it costs: the limit of the cost does not count it; "
        "--max-tokens and --max-duration do"
        for name, (agent, _) in project.agents.items()
        if not agent.reports_cost
    ]


def roles(project: Project) -> Mapping[Role, tuple[str, ...]]:
    """Return the agents of each role, in the order of fallback."""
    run = project.settings.run
    return {Role.IMPLEMENT: run.impl_agents, Role.REVIEW: run.review_agents}


def dependence(project: Project) -> list[str]:
    """Name each implementer of whose work no reviewer, or too few of them, is independent."""
    run = project.settings.run
    needed = run.needed_approvals if run.require_independent_review else 1
    found = []
    for name in run.impl_agents:
        family = project.agents[name][0].family
        others = [one for one in run.review_agents if project.agents[one][0].family != family]
        if len(others) < needed:
            reviewers = ", ".join(run.review_agents)
            short = f"only {len(others)} of the reviewers" if others else "no reviewer"
            found.append(
                f"{short} ({reviewers}) is of another family than the implementer {name} ({family}): "
                "its review is not independent"
            )
    return found


def policy_problems(policy: PolicyMetadata) -> list[str]:
    """Apply the host's rules for policies, so that a refusal is known before the first claim."""
    values = {
        "orchestrator_id": policy.orchestrator_id,
        "orchestrator_version": policy.orchestrator_version,
        "agent_family": policy.agent_family,
        "approval_mode": policy.approval_mode,
        "sandbox_mode": policy.sandbox_mode,
        "network_mode": policy.network_mode,
    }
    found = [
        f"the host refuses a policy whose {name} contains {word!r}: {value!r}"
        for name, value in values.items()
        for word in FORBIDDEN_WORDS
        if word in value.lower()
    ]
    found += [f"the policy's {name} is empty" for name, value in values.items() if not value]
    return found + [f"the host refuses a policy with {flag}" for flag in policy.dangerous_flags]


def _scenario(name: str, settings: AgentSettings) -> list[OrchestratorError]:
    if settings.scenario is None or settings.scenario.is_file():
        return []
    return [ConfigError(f"[agents.{name}] scenario: there is no file {settings.scenario}")]


def _banned(name: str, settings: AgentSettings) -> list[OrchestratorError]:
    found: list[OrchestratorError] = []
    for word in settings.extra_args:
        flag = word.partition("=")[0]
        if flag.lower() in HOST_BANNED_FLAGS:
            found.append(
                PreflightError(
                    f"[agents.{name}] extra_args: {flag} is banned by the host: it refuses every policy that "
                    "declares it, and we declare what we use; remove it"
                )
            )
        elif any(same in word.lower() for same in SAME_AS_BANNED):
            found.append(
                PreflightError(
                    f"[agents.{name}] extra_args: {word} allows what the host's banned flags allow, "
                    "so the policy that we declare would be untrue; remove it"
                )
            )
    return found


def _missing(name: str, executable: str, install: str) -> PreflightError:
    where = "is not an executable file" if "/" in executable else "is not on PATH"
    how = f"install it ({install})" if install else "install it"
    return PreflightError(
        f"agent {name} is not installed: {executable} {where}; {how} or set executable in [agents.{name}]"
    )


async def examine(project: Project, host: Host, mission: str) -> MissionState:
    """Read the mission from the host and check that there is something to run.

    Raises:
        HostError: the host cannot be used.
        UsageError: there is no such mission.
        PreflightError: its tasks are not finalized, or no work package is visible.
    """
    try:
        state = await host.mission_state(mission)
    except HostRefusal as refusal:
        if refusal.code == "MISSION_NOT_FOUND":
            raise UsageError(_no_mission(project.root, mission)) from None
        if refusal.code == "TASKS_NOT_FINALIZED":
            raise PreflightError(refusal.message) from None
        raise
    if not state.lanes:
        raise PreflightError(_no_work_packages(project.root, mission_files(project.root, state.slug)))
    return state


def _no_mission(root: Path, mission: str) -> str:
    found = missions(root)
    if not found:
        return f"there is no mission {mission!r}: {root} has no missions in kitty-specs/ on {_on(root)}"
    hint = nearest(mission, found) or ";"
    return f"there is no mission {mission!r}{hint} missions here: {', '.join(found)}"


def _no_work_packages(root: Path, files: MissionFiles) -> str:
    home = files.target_branch or branch_of(root, files.slug)
    if home and current_branch(root) != home:
        return (
            f"the host sees no work packages of {files.slug}: {root} is on {_on(root)}, but the mission "
            f"lives on {home}; run: git -C {shlex.quote(str(root))} switch {shlex.quote(home)}"
        )
    if files.work_packages:
        return (
            f"the host sees no work packages of {files.slug}, although there are "
            f"{len(files.work_packages)} files in tasks/; "
            f"run: spec-kitty agent mission finalize-tasks --mission {files.slug}"
        )
    return (
        f"{files.slug} has no work packages on {_on(root)}: switch to the branch where it was planned, "
        "or plan it first (tasks.md and tasks/WP*.md)"
    )


def _on(root: Path) -> str:
    branch = current_branch(root)
    return f"the branch {branch}" if branch else "a detached HEAD"


def check_free(project: Project, mission: str) -> list[OrchestratorError]:
    """Check without taking it that nobody holds the mission's lock."""
    owner = MissionLock(project.directory(mission), mission).holder()
    if owner is None:
        return []
    return [RunActive(f"another run of {mission} is active: process {owner.pid} on {owner.host}")]


def stop_at(problems: Iterable[OrchestratorError]) -> None:
    """Raise all problems as one error with the exit code of the gravest: usage, host, lock, preflight."""
    found = sorted(problems, key=lambda problem: problem.exit_code)
    if not found:
        return
    if len(found) == 1:
        raise found[0]
    kinds: Mapping[int, type[OrchestratorError]] = {
        kind.exit_code: kind for kind in (UsageError, HostError, RunActive, PreflightError)
    }
    raise kinds[found[0].exit_code]("\n".join(str(problem) for problem in found))
