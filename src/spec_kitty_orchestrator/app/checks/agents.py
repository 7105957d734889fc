"""Whether the selected agents can do their work: their flags and policies, their cost, their CLIs here."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from spec_kitty_orchestrator.agents.declared import Declared
from spec_kitty_orchestrator.agents.spec import Agent, AgentSettings, ListsModels, Login
from spec_kitty_orchestrator.agents.versions import tried
from spec_kitty_orchestrator.app.checks import Finding, Level, edit, error, errors, line, ok, warning
from spec_kitty_orchestrator.app.checks.agent_programs import Installed, LoginState
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
from spec_kitty_orchestrator.errors import (
    ConfigError,
    OrchestratorError,
)
from spec_kitty_orchestrator.machine.agent_commands import ConfiguredAgents
from spec_kitty_orchestrator.machine.runner import LocalAgents

_OTHERS = "spec-kitty-orchestrator agents"
"""Lists the other agents."""
_RUN = re.compile(r"run `([^`]+)`(?! with)")
_SET = re.compile(r"set ([A-Z][A-Z0-9_]+)")


def check_agents(project: Project, runner: ConfiguredAgents) -> list[Finding]:
    """Check the flags, policies, families and costs of the agents that a run may use."""
    file = project.root / CONFIG_FILE
    found: list[Finding] = []
    for name, (_, settings) in project.agents.items():
        found += [*scenario(name, settings, file), *banned(name, runner, file)]
    run, budget = project.settings.run, project.budget
    level = Level.ERROR if run.require_independent_review else Level.WARNING
    said = "--require-independent-review: " if run.require_independent_review else ""
    found += [
        Finding("review.independent", level, f"{said}{one}", _OTHERS) for one in dependent_reviews(project)
    ]
    level = Level.ERROR if budget.strict else Level.WARNING
    said = " (--strict-budget)" if budget.strict else ""
    found += [Finding("budget.counted", level, f"{one}{said}", _OTHERS) for one in uncounted_costs(project)]
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


def uncounted_costs(project: Project) -> list[str]:
    """Return a warning for each agent that does not report its cost while there is a cost limit."""
    if not project.budget.limits_cost:
        return []
    return [
        f"agent {name} does not report its cost, so the cost limit does not count it; "
        "--max-tokens and --max-duration do"
        for name, (agent, _) in project.agents.items()
        if not agent.reports_cost
    ]


def dependent_reviews(project: Project) -> list[str]:
    """Return a warning for each implementer without enough independent reviewers."""
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
    """Check that the scenario of a scripted agent exists."""
    if settings.scenario is None or settings.scenario.is_file():
        return []
    text = f"[agents.{name}] scenario: there is no file {settings.scenario}"
    return [error("agent.scenario", text, edit(file), name, ConfigError)]


def banned(name: str, runner: ConfiguredAgents, file: Path) -> list[Finding]:
    """Find arguments from the settings that the host does not allow, under whatever name."""
    agent, settings = runner.agent(name)
    # Our own paths can be part of an argument; these two match no rule.
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
    text = f"agent {name} is selected to {role}, but it can only {has}; select another one for that"
    return error("agent.roles", text, about=name)


def untried_versions(runner: ConfiguredAgents, found: Mapping[str, Installed]) -> list[str]:
    """Warn of each installed agent whose version is not known to work."""
    warnings = []
    for name, one in found.items():
        if one.path is not None:
            told = _version_finding(name, runner.agent(name)[0], one)
            warnings += [told.text] if told.level is not Level.OK else []
    return warnings


def check_installed(name: str, agent: Agent, found: Installed) -> list[Finding]:
    """Report what is right and wrong with an agent's CLI."""
    if found.path is None:
        return [missing(name, found.program, agent)]
    told = [_version_finding(name, agent, found)]
    if found.broken:
        return told
    told.append(_login_finding(name, agent.login, found))
    if found.model and isinstance(agent, ListsModels):
        # The project's own settings may add models, and were not read where the CLI was asked.
        text = f"agent {name}: {found.model}: unless the project's own settings add it, attempts fail"
        told.append(warning("agent.model", text, line(agent.executable, *agent.models_command), name))
    return told


def _version_finding(name: str, agent: Agent, found: Installed) -> Finding:
    if found.trouble:
        make = error if found.broken else warning
        return make(
            "agent.version", f"agent {name}: `{found.path} --version` {found.trouble}", agent.install, name
        )
    if found.version and not tried(found.version, agent.versions):
        text = (
            f"agent {name}: version {found.version} is of another major than those that were tried "
            f"({', '.join(agent.versions)}): its arguments or its output may have changed"
        )
        return warning("agent.version", text, _older(agent), name)
    version = f" {found.version}" if found.version else ""
    return ok("agent.version", f"agent {name}:{version} at {found.path}", name)


def _older(agent: Agent) -> str:
    package = agent.install.removeprefix("npm install -g ")
    alone = package != agent.install and " " not in package and "@" not in package[1:]
    return f"{agent.install}@{agent.versions[-1]}" if alone else ""


def missing(name: str, executable: str, agent: Agent) -> Finding:
    """Report that an agent's program is missing."""
    where = "is not an executable file" if os.sep in executable else "is not on PATH"
    how = f"install it ({agent.install})" if agent.install else "install it"
    return error(
        "agent.installed",
        f"agent {name} is not installed: {executable} {where}; {how} or {correction(name, agent)}",
        agent.install,
        name,
    )


def correction(name: str, agent: Agent) -> str:
    """Say which setting names the program of an agent."""
    key = "correct command" if isinstance(agent, Declared) else "set executable"
    return f"{key} in [agents.{name}]"


def _login_finding(name: str, login: Login, found: Installed) -> Finding:
    if found.login is LoginState.YES:
        return ok("agent.login", f"agent {name} is logged in: {found.login_by}", name)
    fix = _way_to_log_in(login.how)
    if found.login is LoginState.NO:
        unless = "unless a provider of your own needs none"
        text = f"agent {name} is not logged in: {found.login_by}; {login.how}, {unless}"
    else:
        seen = f" ({found.login_by})" if found.login_by else ""
        text = f"agent {name}: nothing shows that it is logged in{seen}; if it is not, {login.how}"
    return warning("agent.login", text, fix, name)


def _way_to_log_in(how: str) -> str:
    """Return the command that `Login.how` begins with."""
    run, variable = _RUN.match(how), _SET.match(how)
    if run:
        return run[1]
    return f"export {variable[1]}='…'" if variable else ""


def find_problems(project: Project, runner: LocalAgents) -> list[OrchestratorError]:
    """Check agents and policies without asking the host."""
    found = check_agents(project, runner)
    for name, (agent, settings) in project.agents.items():
        if runner.executable(name) is None:
            found.append(missing(name, settings.executable or agent.executable, agent))
    return errors(found)
