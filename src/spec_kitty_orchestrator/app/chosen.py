"""What can be said of the chosen agents without asking anybody: their flags, their policies, their fit."""

from collections.abc import Mapping
from pathlib import Path

from spec_kitty_orchestrator.agents.spec import Agent, AgentSettings
from spec_kitty_orchestrator.app.findings import Finding, Level, edit, error
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.config import CONFIG_FILE
from spec_kitty_orchestrator.core.host_rules import (
    BANNED_FLAGS,
    banned_part,
    forbidden_word,
    is_path,
    other_name,
)
from spec_kitty_orchestrator.core.model import PolicyMetadata, Role
from spec_kitty_orchestrator.errors import ConfigError
from spec_kitty_orchestrator.machine.configured import ConfiguredAgents

_OTHERS = "spec-kitty-orchestrator agents"
"""Shows who else can be chosen."""


def chosen_agents(project: Project, runner: ConfiguredAgents) -> list[Finding]:
    """Check the flags, policies, families and costs of the agents that a run may use."""
    file = project.root / CONFIG_FILE
    found: list[Finding] = []
    for name, (_, settings) in project.agents.items():
        found += [*scenario(name, settings, file), *banned(name, runner, file)]
    run, budget = project.settings.run, project.budget
    level = Level.ERROR if run.require_independent_review else Level.WARNING
    said = "--require-independent-review: " if run.require_independent_review else ""
    found += [Finding("review.independent", level, f"{said}{one}", _OTHERS) for one in dependence(project)]
    level = Level.ERROR if budget.strict else Level.WARNING
    said = " (--strict-budget)" if budget.strict else ""
    found += [Finding("budget.counted", level, f"{one}{said}", _OTHERS) for one in uncounted(project)]
    for role, names in roles(project).items():
        for name in names:
            agent, _ = project.agents[name]
            if role in agent.roles:
                found += refused(name, role, runner.policy(name, role), file)
            else:
                found.append(_without_role(name, agent, role))
    return found


def roles(project: Project) -> Mapping[Role, tuple[str, ...]]:
    """Return the agents of each role, in the order of fallback."""
    run = project.settings.run
    return {Role.IMPLEMENT: run.impl_agents, Role.REVIEW: run.review_agents}


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
        f"the host refuses a policy whose {name} contains {forbidden_word(value)!r}: {value!r}"
        for name, value in values.items()
        if forbidden_word(value)
    ]
    found += [f"the policy's {name} is empty" for name, value in values.items() if not value]
    return found + [f"the host refuses a policy with {flag}" for flag in policy.dangerous_flags]


def refused(name: str, role: Role, policy: PolicyMetadata, file: Path) -> list[Finding]:
    """Say why the host would refuse the policy of an agent in a role."""
    return [
        error("agent.policy", f"agent {name}, role {role}: {reason}", edit(file), name)
        for reason in policy_problems(policy)
    ]


def scenario(name: str, settings: AgentSettings, file: Path) -> list[Finding]:
    """Check that the scenario of a scripted agent is there."""
    if settings.scenario is None or settings.scenario.is_file():
        return []
    text = f"[agents.{name}] scenario: there is no file {settings.scenario}"
    return [error("agent.scenario", text, edit(file), name, ConfigError)]


def banned(name: str, runner: ConfiguredAgents, file: Path) -> list[Finding]:
    """Find words of a person's own that the host does not allow, whatever they are called."""
    agent, settings = runner.agent(name)
    # Our own paths can stand inside a word; these two are in nobody's way.
    workspace, directory = Path("/w"), Path("/a")
    commands = [runner.command(name, role, workspace, "attempt", directory) for role in sorted(agent.roles)]
    words = {word: "its command" for one in commands for word in one.argv[1:] if not is_path(word)}
    words |= {value: "env" for value in settings.env.values() if not is_path(value)}
    words |= dict.fromkeys(settings.extra_args, "extra_args")
    found: list[Finding] = []
    for word, place in words.items():
        flag = word.partition("=")[0]
        if flag.lower() in BANNED_FLAGS:
            text = (
                f"[agents.{name}] {place}: {flag} is banned by the host: it refuses every policy that "
                "declares it, and we declare what we use; remove it"
            )
        elif banned_part(word) or other_name(agent.name, word):
            text = (
                f"[agents.{name}] {place}: {word} allows what the host's banned flags allow, "
                "so the policy that we declare would be untrue; remove it"
            )
        else:
            continue
        found.append(error("agent.extra_args", text, edit(file), name))
    return found


def _without_role(name: str, agent: Agent, role: Role) -> Finding:
    has = " and ".join(sorted(agent.roles))
    text = f"agent {name} is chosen to {role}, but it can only {has}; choose another one for that"
    return error("agent.roles", text, about=name)
